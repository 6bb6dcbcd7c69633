// How commands show money, counts, moments and sizes on a terminal of 80 columns.

/** What a command leaves behind: what it prints, and whether everything is fine (0) or not (1). */
export interface Report {
  readonly lines: readonly string[];
  readonly exitCode: 0 | 1;
}

/** Below this, four decimals would show an amount that was paid as zero. */
const SMALLEST_SHOWN_USD = 0.0001;

/** `$1,234.5678`; an absent amount is unknown, which is not zero. */
export function showUsd(usd: number | undefined): string {
  if (usd === undefined) return 'unknown';
  if (usd > 0 && usd < SMALLEST_SHOWN_USD) return `<$${SMALLEST_SHOWN_USD}`;
  return usd.toLocaleString('en-US', { style: 'currency', currency: 'USD', minimumFractionDigits: 4 });
}

/** As `showUsd`, for amounts that may be below zero. */
export function showSignedUsd(usd: number): string {
  return usd < 0 ? `-${showUsd(-usd)}` : showUsd(usd);
}

/** An amount in whole units of a currency: `42.50 USD`. */
export function showMoney(amount: number, currency: string): string {
  const digits = { minimumFractionDigits: 2, maximumFractionDigits: 4 };
  return `${amount.toLocaleString('en-US', digits)} ${currency}`;
}

export const showCount = (count: number): string => count.toLocaleString('en-US');

/** `1 turn`, `2 turns`. */
export const countOf = (count: number, noun: string): string => `${showCount(count)} ${noun}${count === 1 ? '' : 's'}`;

/** How long ago, in the largest unit that fits: `just now`, `12 min ago`, `3 days ago`. */
export function showAgo(atMs: number, nowMs: number): string {
  const minutes = Math.floor((nowMs - atMs) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 120) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} hours ago` : `${Math.floor(hours / 24)} days ago`;
}

/** `2026-12-01 00:00`, by the clock of a time zone. */
export function showMoment(ms: number, timeZone: string): string {
  return new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'short' }).format(ms);
}

export function showBytes(bytes: number): string {
  const megabytes = bytes / 1e6;
  return megabytes < 1 ? `${Math.ceil(bytes / 1e3)} kB` : `${megabytes.toFixed(megabytes < 100 ? 1 : 0)} MB`;
}

/** Cuts what is too long for its column. */
export const fit = (text: string, columns: number): string =>
  text.length <= columns ? text : `${text.slice(0, columns - 1)}…`;

/** Breaks text into lines of so many columns at most, between words where it can. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (longer.length <= columns) {
      line = longer;
      continue;
    }
    if (line !== '') lines.push(line);
    line = word;
    for (; line.length > columns; line = line.slice(columns)) lines.push(line.slice(0, columns));
  }
  return [...lines, line];
}

/** Aligned `name  value` lines, indented by two. */
export function nameColumn(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`);
}
