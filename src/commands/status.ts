// `tollbridge status`: the numbers of the tiles in the terminal.

import { styleText } from 'node:util';
import type { Config } from '../config.ts';
import { RetryableFailure } from '../failure.ts';
import type { AccountStatusLine, BridgeStatus, TileStatus } from '../status.ts';
import { askBridge } from './ask-bridge.ts';
import { countOf, fit, type Report, showAgo, showCount, showUsd } from './show.ts';

const COLUMNS = 80;
const SHOWN_WINDOWS = ['today', '7d', '30d', 'month'] as const;
const HEADINGS = ['', 'cost', 'tokens', 'turns', 'sessions'] as const;
const WIDTHS = [9, 18, 20, 12, 12] as const;

/**
 * Asks the running bridge for its tiles and accounts.
 * @throws RetryableFailure when no bridge answers
 */
export async function showStatus(options: { config: Config; json: boolean; nowMs: number }): Promise<Report> {
  const answer = await askBridge(options.config);
  if (!answer.answers) {
    throw new RetryableFailure(
      `No bridge answers: ${answer.why}. The numbers live in the running bridge: start it with "tollbridge start", ` +
        'or ask "tollbridge doctor" what is wrong.',
    );
  }
  const lines = options.json ? [JSON.stringify(answer.status, null, 2)] : render(answer.status, options.nowMs);
  return { lines, exitCode: 0 };
}

function render(status: BridgeStatus, nowMs: number): string[] {
  const lines = status.tiles.flatMap((tile) => [...tileLines(tile), '']);
  if (lines.length === 0) {
    lines.push(
      'No turn has been counted yet.',
      'Install the plugin with "tollbridge install opencode", restart OpenCode and send it a prompt.',
      '',
    );
  }
  lines.push(...accountLines(status.accounts, nowMs));
  const { ledger } = status;
  const last = ledger.last_turn_ms === undefined ? '' : `, the last ${showAgo(ledger.last_turn_ms, nowMs)}`;
  lines.push(`${countOf(ledger.turns, 'turn')} in all${last}`);
  lines.push(fit(`days begin at midnight in ${status.time_zone}; tokens without those read from the cache`, COLUMNS));
  if (!status.ready) lines.push('', ...status.not_ready.map((reason) => styleText('yellow', `not ready: ${reason}`)));
  if (status.unmapped.length > 0) {
    lines.push(
      '',
      styleText('yellow', `${countOf(status.unmapped.length, 'upstream provider')} without a tile of its own:`),
    );
    lines.push(...status.unmapped.map(({ upstream_provider, fix }) => `  ${upstream_provider}: ${fix}`));
  }
  return lines;
}

function tileLines({ tile, upstream_providers, windows }: TileStatus): string[] {
  const name = fit(tile, COLUMNS / 2);
  const served = fit(upstream_providers.join(', '), COLUMNS - name.length - 2);
  const rows = SHOWN_WINDOWS.flatMap((window) => {
    const row = windows[window];
    if (!row) return [];
    return tableRow([window, showUsd(row.cost_usd), ...[row.tokens, row.turns, row.sessions].map(showCount)]);
  });
  return [`${styleText('bold', name)}  ${styleText('dim', served)}`, styleText('dim', tableRow(HEADINGS)), ...rows];
}

function tableRow(cells: readonly string[]): string {
  const [window = '', ...numbers] = cells;
  return `  ${window.padEnd(WIDTHS[0])}${numbers.map((cell, index) => cell.padStart(WIDTHS[index + 1]!)).join('')}`;
}

function accountLines(accounts: readonly AccountStatusLine[], nowMs: number): string[] {
  if (accounts.length === 0) return [];
  const lines = accounts.flatMap(({ provider, account, status, message, taken_ms, quotas = [] }) => {
    const color = status === 'ok' ? 'green' : status === 'unknown' ? 'dim' : 'yellow';
    const taken = taken_ms === undefined ? '' : ` (${showAgo(taken_ms, nowMs)})`;
    const head = fit(`${provider}/${account}`, COLUMNS - status.length - 4);
    return [
      `  ${head}  ${styleText(color, status)}`,
      `    ${fit(`${message}${taken}`, COLUMNS - 4)}`,
      ...quotas.map(({ quota, window, usedRatio, resetMs }) => {
        const reset = resetMs === undefined ? '' : `, starts anew ${new Date(resetMs).toLocaleString('sv-SE')}`;
        return fit(`    ${quota} ${window}: ${Math.round(usedRatio * 100)} % used${reset}`, COLUMNS);
      }),
    ];
  });
  return [styleText('bold', 'accounts'), ...lines, ''];
}
