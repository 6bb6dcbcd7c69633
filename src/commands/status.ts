// `tollbridge status`: the numbers of the tiles in the terminal.

import { styleText } from 'node:util';
import { commandText } from '../command-text.ts';
import type { AccountStatusLine, BridgeStatus, TileStatus } from '../status.ts';
import { runningBridge } from './ask-bridge.ts';
import { type Installation, pluginState } from './install.ts';
import { countOf, fit, type Report, showAgo, showCount, showMoney, showUsd, wrap } from './show.ts';

const COLUMNS = 80;
const SHOWN_WINDOWS = ['today', '7d', '30d', 'month'] as const;
const HEADINGS = ['', 'cost', 'tokens', 'turns', 'sessions'] as const;
const WIDTHS = [9, 18, 20, 12, 12] as const;

export interface StatusOptions extends Installation {
  readonly json: boolean;
  readonly nowMs: number;
}

/**
 * Asks the running bridge for its tiles and accounts.
 * @throws RetryableFailure when no bridge answers; PermanentFailure where a relay runs instead
 */
export async function showStatus(options: StatusOptions): Promise<Report> {
  const status = await runningBridge(options);
  const lines = options.json ? [JSON.stringify(status, null, 2)] : render(status, options);
  return { lines, exitCode: 0 };
}

function render(status: BridgeStatus, options: StatusOptions): string[] {
  const { nowMs } = options;
  const lines = status.tiles.flatMap((tile) => [...tileLines(tile), '']);
  if (lines.length === 0) lines.push('No turn has been counted yet.', ...firstStep(options), '');
  lines.push(...accountLines(status.accounts, nowMs));
  const { ledger, otlp } = status;
  for (const { signal, endpoint, interval_s: seconds, problem } of otlp ?? []) {
    lines.push(fit(`otlp  ${endpoint} (${signal}${seconds === undefined ? '' : ` every ${seconds} s`})`, COLUMNS));
    if (problem) lines.push(styleText('yellow', fit(`  cannot be sent to: ${problem}`, COLUMNS)));
  }
  if (otlp) lines.push('');
  const last = ledger.last_turn_ms === undefined ? '' : `, the last ${showAgo(ledger.last_turn_ms, nowMs)}`;
  lines.push(`${countOf(ledger.turns, 'turn')} in all${last}`);
  lines.push(`days begin at midnight in ${status.time_zone}`, 'tokens are without those read from the cache');
  if (!status.ready) {
    const reasons = status.not_ready.flatMap((reason) => wrap(`not ready: ${reason}`, COLUMNS));
    lines.push('', ...reasons.map((line) => styleText('yellow', line)));
  }
  if (status.unmapped.length > 0) {
    lines.push(
      '',
      styleText('yellow', `${countOf(status.unmapped.length, 'upstream provider')} without a tile of its own:`),
    );
    lines.push(...status.unmapped.flatMap(({ upstream_provider, fix }) => indented(`${upstream_provider}: ${fix}`, 2)));
  }
  return lines;
}

/** What is missing before a turn can come. Commands stand alone on a line, whole, to be copied. */
function firstStep({ config, env, home }: StatusOptions): string[] {
  const install = `  ${commandText('install opencode', { env })}`;
  switch (pluginState({ config, env, home }).state) {
    case 'absent':
      return ['Install the plugin, restart OpenCode and send it a prompt:', install];
    case 'outdated':
      return ['Bring the plugin up to date, restart OpenCode and send it a prompt:', install];
    default:
      return ['The plugin is installed: send OpenCode a prompt. If it ran before, restart it first.'];
  }
}

const indented = (text: string, columns: number) =>
  wrap(text, COLUMNS - columns).map((line) => ' '.repeat(columns) + line);

function tileLines({ tile, upstream_providers, windows }: TileStatus): string[] {
  const name = fit(tile, COLUMNS / 2);
  const served = fit(upstream_providers.join(', '), COLUMNS - name.length - 2);
  const rows = SHOWN_WINDOWS.flatMap((window) => {
    const row = windows[window];
    if (!row) return [];
    const { cost_usd, unpriced_turns, tokens, turns, sessions } = row;
    const line = tableRow([window, showUsd(cost_usd), ...[tokens, turns, sessions].map(showCount)]);
    // Where no cost is known at all, the column says so.
    if (cost_usd === undefined || unpriced_turns === 0) return [line];
    return [line, styleText('yellow', tableRow(['', `+ ${countOf(unpriced_turns, 'turn')} without a stated cost`]))];
  });
  return [`${styleText('bold', name)}  ${styleText('dim', served)}`, styleText('dim', tableRow(HEADINGS)), ...rows];
}

function tableRow(cells: readonly string[]): string {
  const [window = '', ...numbers] = cells;
  return `  ${window.padEnd(WIDTHS[0])}${numbers.map((cell, index) => cell.padStart(WIDTHS[index + 1]!)).join('')}`;
}

function accountLines(accounts: readonly AccountStatusLine[], nowMs: number): string[] {
  if (accounts.length === 0) return [];
  const lines = accounts.flatMap((line) => {
    const { provider, account, status, message, taken_ms, quotas = [], balances = [], spend_limits = [] } = line;
    const color = status === 'ok' ? 'green' : status === 'unknown' ? 'dim' : 'yellow';
    const taken = taken_ms === undefined ? '' : ` (${showAgo(taken_ms, nowMs)})`;
    const head = fit(`${provider}/${account}`, COLUMNS - status.length - 4);
    const anew = (atMs: number | undefined) =>
      atMs === undefined ? '' : `, starts anew ${new Date(atMs).toLocaleString('sv-SE')}`;
    return [
      `  ${head}  ${styleText(color, status)}`,
      ...indented(`${message}${taken}`, 4),
      ...balances.map(({ kind, currency, amount }) =>
        fit(`    balance ${kind}: ${showMoney(amount, currency)}`, COLUMNS),
      ),
      ...spend_limits.map(({ limit, currency, amount, used, resets_ms }) => {
        const of = amount === undefined ? 'no limit' : `of ${showMoney(amount, currency)}`;
        const spent = used === undefined ? 'used: unknown' : `${showMoney(used, currency)} used`;
        return fit(`    limit ${limit}: ${spent} ${of}${anew(resets_ms)}`, COLUMNS);
      }),
      ...quotas.map(({ quota, window, usedRatio, unit, used, resetMs }) => {
        const share = usedRatio === undefined ? `${used ?? 'unknown'} ${unit}` : `${Math.round(usedRatio * 100)} %`;
        return fit(`    ${quota} ${window}: ${share} used${anew(resetMs)}`, COLUMNS);
      }),
    ];
  });
  return [styleText('bold', 'accounts'), ...lines, ''];
}
