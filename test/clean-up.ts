// What a test has started ends with it, the last first, and every step is taken even if another one fails.

import type { TestContext } from 'node:test';

/** @returns takes one more step; call it right after what the step ends was begun */
export function cleanUpOf(t: TestContext): (step: () => unknown) => void {
  const steps: (() => unknown)[] = [];
  t.after(async () => {
    const failures: unknown[] = [];
    for (const step of steps.reverse()) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'what the test started could not all be ended');
  });
  return (step) => void steps.push(step);
}
