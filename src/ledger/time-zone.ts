// Calendar arithmetic in an IANA time zone, by Intl: the days and months that people mean.

/** A day of the calendar. Days and months beyond its ends are taken on: the 32nd of January is the 1st of February. */
export interface LocalDate {
  readonly year: number;
  /** 1..12 */
  readonly month: number;
  readonly day: number;
}

function localParts(ms: number, timeZone: string): LocalDate & { readonly asUtcMs: number } {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  const parts = Object.fromEntries(format.formatToParts(ms).map((part) => [part.type, Number(part.value)]));
  const { year, month, day, hour, minute, second } = parts as Record<string, number>;
  const asUtcMs = Date.UTC(year as number, (month as number) - 1, day, hour, minute, second);
  return { year: year as number, month: month as number, day: day as number, asUtcMs };
}

/**
 * The first moment of a local day. Where the clock skips midnight (a few zones start summer time then), that is the
 * moment after the gap.
 */
function firstMomentMs({ year, month, day }: LocalDate, timeZone: string): number {
  const wanted = Date.UTC(year, month - 1, day);
  const offsetAt = (ms: number) => localParts(ms, timeZone).asUtcMs - Math.floor(ms / 1000) * 1000;
  // The offset before midnight and the one after differ only on the day of a change; the earlier guess that really
  // falls on the wanted day is its start.
  const guesses = [wanted - offsetAt(wanted - 86_400_000), wanted - offsetAt(wanted + 86_400_000)].sort(
    (a, b) => a - b,
  );
  for (const guess of guesses) {
    const local = localParts(guess, timeZone);
    if (local.day === day && local.month === month && local.year === year) return guess;
  }
  return guesses[1] as number;
}

/** The first moment (Unix ms) of the local day that holds `ms`. */
export function startOfDayMs(ms: number, timeZone: string): number {
  return firstMomentMs(localParts(ms, timeZone), timeZone);
}

/** The first moment (Unix ms) of the local month that holds `ms`. */
export function startOfMonthMs(ms: number, timeZone: string): number {
  return firstMomentMs({ ...localParts(ms, timeZone), day: 1 }, timeZone);
}

/** The day of the calendar that holds `ms`. */
export function localDate(ms: number, timeZone: string): LocalDate {
  const { year, month, day } = localParts(ms, timeZone);
  return { year, month, day };
}

/** The first moment (Unix ms) of a day of the calendar. */
export function dayStartMs({ year, month, day }: LocalDate, timeZone: string): number {
  const date = new Date(Date.UTC(year, month - 1, day));
  return firstMomentMs(
    { year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate() },
    timeZone,
  );
}
