// Clocks lie: what the ledger believes of the times that senders state.

/** What is dated further ahead than this has a wrong clock, and is dated by receipt. */
export const AHEAD_TOLERANCE_MS = 5 * 60_000;
/** No model step and no tool takes this long; what claims to would only distort the histograms. */
const DURATION_MAX_MS = 30 * 86_400_000;

export function isAhead(statedMs: number, nowMs: number): boolean {
  return statedMs > nowMs + AHEAD_TOLERANCE_MS;
}

/** How long something took, in ms; undefined where an end is missing or no clock can have measured it. */
export function plausibleDurationMs(startedMs: number | null, completedMs: number | null): number | undefined {
  if (startedMs === null || completedMs === null) return undefined;
  const durationMs = completedMs - startedMs;
  return durationMs >= 0 && durationMs <= DURATION_MAX_MS ? durationMs : undefined;
}
