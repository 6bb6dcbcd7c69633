// `tollbridge report`: what was spent in a period, by one label, session or turn.

import type { Config } from '../config.ts';
import { LATEST_MS, periodAt, type Span } from '../ledger/budget-period.ts';
import { REPORT_BY, type SpendReport } from '../ledger/spend-report.ts';
import { dayStartMs } from '../ledger/time-zone.ts';
import { askRunning, runningBridge } from './ask-bridge.ts';
import { reportCsv, reportJson, reportTable, type ShownReport } from './report-text.ts';
import type { Report } from './show.ts';

const PERIODS = ['today', 'week', 'month', '30d', 'all'] as const;
const FORMATS = { table: reportTable, csv: reportCsv, json: reportJson };
/** As the window of the same name. */
const LAST_30_DAYS_MS = 30 * 86_400_000;
const DAY_FORM = 'a day such as 2026-01-15';

/** As on the command line. */
export interface ReportFlags {
  readonly by: string;
  readonly period?: string | undefined;
  /** Days in the bridge's time zone; `until` is the last one that is counted. */
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  readonly format: string;
}

interface ReportOptions {
  readonly flags: ReportFlags;
  readonly config: Config;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly nowMs: number;
}

/** What is wrong with the flags, one line; undefined when nothing is. */
export function mistakeInFlags({ by, period, since, until, format }: ReportFlags): string | undefined {
  const oneOf = (flag: string, known: readonly string[], said: string) =>
    known.includes(said) ? undefined : `${flag} must be one of ${known.join(', ')}`;
  const day = (flag: string, said: string | undefined) =>
    said === undefined || dayOf(said) ? undefined : `${flag} must be ${DAY_FORM}`;
  const hasDays = since !== undefined || until !== undefined;
  return (
    oneOf('--by', REPORT_BY, by) ??
    oneOf('--format', Object.keys(FORMATS), format) ??
    (period === undefined ? undefined : oneOf('--period', PERIODS, period)) ??
    day('--since', since) ??
    day('--until', until) ??
    (period !== undefined && hasDays ? 'give --period, or --since and --until, not both' : undefined) ??
    (since !== undefined && until !== undefined && since > until ? '--since must not be after --until' : undefined)
  );
}

/**
 * Asks the running bridge. What a reader of CSV has to know besides comes as `notes`.
 * @param options.flags have no mistake
 * @throws RetryableFailure when no bridge answers; PermanentFailure where a relay or an older bridge does
 */
export async function showReport(options: ReportOptions): Promise<Report & { readonly notes: readonly string[] }> {
  const { flags, config, nowMs } = options;
  const { time_zone: timeZone, not_ready: notReady } = await runningBridge(options);
  const span = spanOf(flags, { nowMs, timeZone });
  const query = new URLSearchParams({ by: flags.by, from_ms: `${span.startMs}`, to_ms: `${span.endMs}` });
  const report = (await askRunning(config, { path: `/v1/report?${query}` })) as SpendReport;
  const shown: ShownReport = { report, span, timeZone, isOpenEnded: span.endMs === LATEST_MS, notReady };
  return { ...FORMATS[flags.format as keyof typeof FORMATS](shown), exitCode: 0 };
}

/** The calendar's periods as of now; without flags the month. */
function spanOf(
  { period = 'month', since, until }: ReportFlags,
  { nowMs, timeZone }: { nowMs: number; timeZone: string },
): Span {
  if (since !== undefined || until !== undefined) {
    const first = dayOf(since);
    const last = dayOf(until);
    return {
      startMs: first ? Math.max(0, dayStartMs(first, timeZone)) : 0,
      endMs: last ? dayStartMs({ ...last, day: last.day + 1 }, timeZone) : LATEST_MS,
    };
  }
  if (period === 'all') return { startMs: 0, endMs: LATEST_MS };
  if (period === '30d') return { startMs: nowMs - LAST_30_DAYS_MS, endMs: LATEST_MS };
  return periodAt(
    nowMs,
    { period: period === 'today' ? 'day' : period, week_start: 'monday', anchor: undefined },
    timeZone,
  );
}

/** A day of the calendar that is one; undefined for anything else. */
export function dayOf(text: string | undefined) {
  const [, year, month, day] = /^(20\d\d)-(\d\d)-(\d\d)$/.exec(text ?? '')?.map(Number) ?? [];
  if (year === undefined || month === undefined || day === undefined) return undefined;
  const isReal = new Date(Date.UTC(year, month - 1, day)).toISOString().slice(0, 10) === text;
  return isReal ? { year, month, day } : undefined;
}
