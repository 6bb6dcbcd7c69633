// Loaded before the program (`node --expose-gc --import`), it makes its day pass in seconds: the clock runs faster, its
// intervals come sooner, and garbage is collected often, so that what it holds can be told from what it has not let go yet.

const VARIABLE = 'TOLLBRIDGE_TEST_FAST_CLOCK';
const COLLECT_EVERY_MS = 250;

interface Pace {
  /** When it began to run fast, Unix ms. */
  readonly sinceMs: number;
  /** How many times as fast. */
  readonly clock: number;
  /** How many times as often its intervals come. */
  readonly intervals: number;
}

/** How to begin a program whose clock runs so fast. */
export function fastClock(pace: Pace): { readonly nodeArgs: string[]; readonly env: NodeJS.ProcessEnv } {
  const nodeArgs = ['--expose-gc', '--import', import.meta.url];
  return { nodeArgs, env: { ...process.env, [VARIABLE]: JSON.stringify(pace) } };
}

/** The time that such a program has now. */
export function fastNowMs({ sinceMs, clock }: Pace, nowMs = Date.now()): number {
  return Math.floor(sinceMs + (nowMs - sinceMs) * clock);
}

const asked = process.env[VARIABLE];
if (asked) {
  const pace = JSON.parse(asked) as Pace;
  const realNow = Date.now;
  Date.now = () => fastNowMs(pace, realNow());
  const realInterval = globalThis.setInterval;
  realInterval(() => globalThis.gc?.(), COLLECT_EVERY_MS).unref();
  globalThis.setInterval = ((callback: () => void, ms: number) =>
    realInterval(callback, ms / pace.intervals)) as typeof setInterval;
}
