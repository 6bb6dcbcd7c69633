// Calendar months as providers bill them: in UTC, whatever the user's time zone.

/** When the UTC month of `nowMs`, or one so many months later, begins; Unix ms. */
export function startOfUtcMonthMs(nowMs: number, monthsOn = 0): number {
  const now = new Date(nowMs);
  return Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + monthsOn);
}
