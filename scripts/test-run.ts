// Runs groups of test files one after the other and reports them as one: every test on a terminal, only failures in a
// pipe, and Node's own closing lines, added up, at the very end.

import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { run } from 'node:test';
import { spec, type TestEvent } from 'node:test/reporters';
import { TestWatchdog } from './test-watchdog.ts';

export interface TestGroup {
  readonly files: readonly string[];
  /** How many of the files run at once. */
  readonly concurrency: number;
}

/** Resolves to whether there were tests and all of them passed. A file of which nothing is heard for `silenceMs` is killed, and failed. */
export async function runTests(
  groups: readonly TestGroup[],
  { isVerbose, lastWord, silenceMs }: { isVerbose: boolean; lastWord: string; silenceMs: number },
): Promise<boolean> {
  const totals = new Map<string, number>();
  const events = eventsOf(groups, totals, silenceMs);
  await print(isVerbose ? events : failuresOf(events));
  if (lastWord) process.stdout.write(`\n${lastWord}\n\n`);
  await print(
    [...totals].map(([name, total]) => ({
      type: 'test:diagnostic',
      data: { nesting: 0, message: `${name} ${total}`, level: 'info' },
    })),
  );
  return Boolean(totals.get('tests')) && !totals.get('fail') && !totals.get('cancelled');
}

async function print(events: Iterable<unknown> | AsyncIterable<unknown>): Promise<void> {
  await pipeline(Readable.from(events), new spec(), process.stdout, { end: false });
}

/** All events but the closing lines of each run, which are added to `totals`. */
async function* eventsOf(
  groups: readonly TestGroup[],
  totals: Map<string, number>,
  silenceMs: number,
): AsyncGenerator<TestEvent> {
  const watchdog = new TestWatchdog(silenceMs);
  for (const { files, concurrency } of groups) {
    if (files.length === 0) continue;
    for await (const event of run({ files: [...files], concurrency }) as AsyncIterable<TestEvent>) {
      watchdog.hear(event);
      const closing =
        event.type === 'test:diagnostic' && !event.data.file && /^(\w+) ([\d.]+)$/.exec(event.data.message);
      if (closing) totals.set(closing[1]!, (totals.get(closing[1]!) ?? 0) + Number(closing[2]));
      else yield event;
    }
  }
  watchdog.stop();
}

/** Failures, and what was skipped with its reason; when a whole file failed, after what it said on stderr, which is often the only reason there is. */
async function* failuresOf(events: AsyncIterable<TestEvent>): AsyncGenerator<TestEvent> {
  const said = new Map<string, TestEvent[]>();
  for await (const event of events) {
    if (event.type === 'test:stderr') {
      const lines = said.get(event.data.file) ?? [];
      said.set(event.data.file, [...lines, event]);
    } else if (event.type === 'test:pass' && event.data.skip !== undefined) {
      yield event;
    } else if (event.type === 'test:fail') {
      if (event.data.name === event.data.file) yield* said.get(event.data.name) ?? [];
      yield event;
    }
  }
}
