// Puts inputs to a target until one breaks a promise, and says which, smallest first, with the seed that brings it back.

import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { FuzzTarget } from './targets.ts';

/** No input may hold the event loop for longer. */
const SLOW_MS = 50;
/** Caches fill and code is compiled: a suspect is measured again, and its best time counts. */
const MEASURED_AGAIN = 5;

/** What an object inherits must never become more or less. */
const INHERITED = [Object.prototype, Array.prototype, Function.prototype, String.prototype, Number.prototype];
const inheritedNames = () => INHERITED.map((prototype) => Reflect.ownKeys(prototype).length).join();
const UNTOUCHED = inheritedNames();

export interface FuzzResult {
  readonly inputs: number;
  readonly slowestMs: number;
}

/**
 * @param onInput called before every input, so that somebody else can see when one does not end
 * @throws Error with the smallest input found, its seed and its path
 */
export function fuzz(
  target: FuzzTarget,
  { inputs, seed, path }: { inputs: number; seed: number; path?: string | undefined },
  onInput: () => void = () => {},
): FuzzResult {
  let slowestMs = 0;
  // By what the processor did for it: a shared machine pauses now and then.
  const timed = (input: unknown) => {
    const before = process.threadCpuUsage();
    target.read(input as never);
    const { user, system } = process.threadCpuUsage(before);
    return (user + system) / 1000;
  };
  const property = fc.property(target.inputs, (input) => {
    onInput();
    let tookMs = timed(input);
    for (let again = 0; tookMs > SLOW_MS && again < MEASURED_AGAIN; again++) tookMs = Math.min(tookMs, timed(input));
    slowestMs = Math.max(slowestMs, tookMs);
    assert.ok(tookMs <= SLOW_MS, `it took ${Math.round(tookMs)} ms`);
    assert.equal(inheritedNames(), UNTOUCHED, 'a prototype was changed');
  });
  const details = fc.check(property, { numRuns: inputs, seed, ...(path === undefined ? {} : { path }) });
  if (details.failed) {
    const shown = JSON.stringify(details.counterexample, (_, value) => (isBytes(value) ? textOf(value) : value));
    const error = details.errorInstance instanceof Error ? details.errorInstance.stack : String(details.errorInstance);
    throw new Error(
      `${target.name}, seed ${details.seed}, path ${details.counterexamplePath}: ${error}\n` +
        `input: ${shown?.slice(0, 4000)}\nbring it back: npm run fuzz -- --target "${target.name}" --seed ${details.seed} --path ${details.counterexamplePath}`,
    );
  }
  return { inputs: details.numRuns, slowestMs };
}

/** As `JSON.stringify` hands a Buffer over. */
const isBytes = (value: unknown): value is { type: 'Buffer'; data: number[] } =>
  typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'Buffer';
const textOf = ({ data }: { data: number[] }) => Buffer.from(data).toString('latin1');
