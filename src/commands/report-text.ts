// A report of what was spent as people and programs read it: a table of 80 columns, CSV, JSON.

import { styleText } from 'node:util';
import type { Span } from '../ledger/budget-period.ts';
import type { ReportRow, SpendReport, SpendSums } from '../ledger/spend-report.ts';
import { countOf, fit, showCount, showMoment, showUsd, wrap } from './show.ts';

const COLUMNS = 80;
const GAP = '  ';
const NO_LABEL = '(none)';
const NANO_DIGITS = 9;
/** Where a spreadsheet would take what follows for a formula; in half the world `;` divides cells, within quotes too. */
const FORMULA = /(^|;)(?=\s*[=+\-@＝＋－＠])/g;

export interface ShownReport {
  readonly report: SpendReport;
  readonly span: Span;
  readonly timeZone: string;
  /** It ends with the newest turn, not with a day. */
  readonly isOpenEnded: boolean;
  /** Why the bridge may not know everything yet. */
  readonly notReady: readonly string[];
}

interface Text {
  readonly lines: readonly string[];
  /** What is beside the format's own lines. */
  readonly notes: readonly string[];
}

export function reportTable(shown: ShownReport): Text {
  const { report, timeZone } = shown;
  const { by, rows, total, not_listed } = report;
  const heading = `spent by ${by}, ${spanText(shown)}`;
  const isByTurn = by === 'turn';
  const numbers = ({ cost_nano, estimated_nano, tokens, turns }: SpendSums) => [
    ...[showUsd(cost_nano / 1e9), showUsd(estimated_nano / 1e9), showCount(tokens)],
    ...(isByTurn ? [] : [showCount(turns)]),
  ];
  const named = isByTurn ? ['message_id'] : by === 'session' ? ['session_id'] : [by];
  const name = (row: ReportRow) => {
    const text = named.map((column) => String(row[column]) || NO_LABEL).join(' ');
    return isByTurn ? `${shortMoment(Number(row.dated_ms), timeZone)} ${text}` : text;
  };
  const table = [
    [isByTurn ? 'when and turn' : by, 'cost', 'estimated', 'tokens', ...(isByTurn ? [] : ['turns'])],
    ...rows.map((row) => [name(row), ...numbers(row)]),
    ...(not_listed ? [[notListed(not_listed.rows), ...numbers(not_listed)]] : []),
    ['total', ...numbers(total)],
  ];
  const [head = '', ...body] = aligned(table);
  const lines = [styleText('bold', fit(heading, COLUMNS)), '', styleText('dim', head), ...body.slice(0, -1)];
  lines.push(styleText('bold', body.at(-1) ?? ''), '');
  const meaning = 'estimated: by your pricing rules, apart from cost; tokens: of all types, cached ones too';
  for (const note of [meaning, ...notesOf(shown)]) lines.push(...wrap(note, COLUMNS));
  return { lines, notes: [] };
}

export function reportCsv(shown: ShownReport): Text {
  const { columns, rows, total, not_listed } = shown.report;
  const named = (text: string) => columns.map((_, index) => (index === 0 ? text : ''));
  const sums = (of: SpendSums) => Object.values(exactSums(of)).map(String);
  const line = (names: readonly string[], of: SpendSums) => [...names.map(csvCell), ...sums(of)].join(',');
  return {
    lines: [
      [...columns.map(shownColumn), ...Object.keys(exactSums(total))].join(','),
      ...rows.map((row) => line(Object.values(namesOf(row, columns)), row)),
      ...(not_listed ? [line(named(notListed(not_listed.rows)), not_listed)] : []),
      line(named('(total)'), total),
    ],
    notes: notesOf(shown),
  };
}

export function reportJson(shown: ShownReport): Text {
  const { report, span, timeZone, isOpenEnded } = shown;
  const { by, columns, rows, total, not_listed, kept_from_ms, partition } = report;
  const told = {
    ...{ by, time_zone: timeZone, from_ms: span.startMs, ...(isOpenEnded ? {} : { to_ms: span.endMs }) },
    ...{ kept_from_ms, partition, rows: rows.map((row) => ({ ...namesOf(row, columns), ...exactSums(row) })) },
    ...(not_listed && { not_listed: { rows: not_listed.rows, ...exactSums(not_listed) } }),
    ...{ total: exactSums(total), notes: notesOf(shown) },
  };
  return { lines: [JSON.stringify(told, null, 2)], notes: [] };
}

/** In the order of the CSV's columns. */
function exactSums({ cost_nano, estimated_nano, tokens, turns }: SpendSums) {
  return {
    ...{ cost_usd: exactUsd(cost_nano), cost_nano },
    ...{ estimated_usd: exactUsd(estimated_nano), estimated_nano },
    ...{ tokens, turns },
  };
}

/** All nine digits, which a floating-point number would not keep. */
function exactUsd(nano: number): string {
  const digits = String(Math.abs(nano)).padStart(NANO_DIGITS + 1, '0');
  return `${nano < 0 ? '-' : ''}${digits.slice(0, -NANO_DIGITS)}.${digits.slice(-NANO_DIGITS)}`;
}

const shownColumn = (column: string) => (column === 'dated_ms' ? 'at' : column);

function namesOf(row: ReportRow, columns: readonly string[]): Record<string, string> {
  const shown = (value: string | number | undefined) =>
    typeof value === 'number' ? new Date(value).toISOString() : value || NO_LABEL;
  return Object.fromEntries(columns.map((column) => [shownColumn(column), shown(row[column])]));
}

function csvCell(text: string): string {
  const harmless = text.replaceAll(FORMULA, "$1'");
  return /[",;\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

const notListed = (rows: number) => `(not listed: ${countOf(rows, 'row')})`;

/** The first column on the left, cut where it does not fit; numbers on the right. */
function aligned(table: readonly (readonly string[])[]): string[] {
  const widths = table[0]!.map((_, index) => Math.max(...table.map((cells) => cells[index]!.length)));
  const numbersWidth = widths.slice(1).reduce((sum, width) => sum + GAP.length + width, 0);
  const nameWidth = Math.min(widths[0]!, COLUMNS - numbersWidth);
  return table.map(([name = '', ...numbers]) =>
    [fit(name, nameWidth).padEnd(nameWidth), ...numbers.map((cell, index) => cell.padStart(widths[index + 1]!))].join(
      GAP,
    ),
  );
}

function notesOf({ report, timeZone, notReady }: ShownReport): string[] {
  const { by, rows, not_listed, kept_from_ms, partition } = report;
  const isSilent = ({ cost_nano, estimated_nano, tokens }: SpendSums) =>
    cost_nano === 0 && estimated_nano === 0 && tokens > 0;
  return [
    ...(rows.some(isSilent)
      ? [
          'Where cost is 0 and tokens are not, the model is free or included, or no cost is known: ' +
            'toll_unpriced_tokens_total tells which.',
        ]
      : []),
    ...(not_listed
      ? [
          `The ${showCount(rows.length)} dearest rows are listed; the total holds all. A shorter period shows the others.`,
        ]
      : []),
    ...(kept_from_ms === undefined
      ? []
      : [
          `Single turns are kept since ${shownDay(kept_from_ms, timeZone)} only (retention), so what a ${by} spent before ` +
            'is missing here. By a label, such as --by model, it is still counted.',
        ]),
    ...(partition === undefined
      ? []
      : [`This bridge counts part ${partition} of all turns; the others know the rest.`]),
    ...notReady.map((reason) => `The bridge is not ready, so this may not be all: ${reason}`),
  ];
}

function spanText({ span, timeZone, isOpenEnded }: ShownReport): string {
  const last = isOpenEnded ? 'now' : shownDay(span.endMs - 1, timeZone);
  if (span.startMs === 0) return isOpenEnded ? 'all that is known' : `until ${last} (${timeZone})`;
  const first = shownDay(span.startMs, timeZone);
  return first === last ? `${first} (${timeZone})` : `${first} to ${last} (${timeZone})`;
}

/** `2026-01-15` */
const shownDay = (ms: number, timeZone: string) => new Intl.DateTimeFormat('sv-SE', { timeZone }).format(ms);

/** `01-15 12:30` */
function shortMoment(ms: number, timeZone: string): string {
  return showMoment(ms, timeZone).slice('2026-'.length);
}
