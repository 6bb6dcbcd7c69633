// The page at /: what the bridge knows at a glance, in one self-contained HTML document without a script.

import { createHash } from 'node:crypto';
import { commandText } from '../command-text.ts';
import type { AccountStatusLine, BridgeStatus, TileStatus, TileWindow } from '../status.ts';
import { TILE_HUES } from './landing-style.ts';
import { html, type Markup } from './markup.ts';
import { ago, badge, bytes, duration, grouped, pageOf, plural, sourceTable } from './page-frame.ts';

const SHOWN_WINDOWS = [
  ['today', 'Today'],
  ['7d', '7 days'],
  ['month', 'This month'],
] as const;

const STATUS_TONES: Record<AccountStatusLine['status'], string> = {
  ok: 'good',
  near_limit: 'fair',
  limited: 'bad',
  auth_required: 'bad',
  error: 'bad',
  unsupported: 'plain',
  unknown: 'plain',
};

/**
 * The whole page.
 * @param nowMs Unix ms, from which ages are told
 */
export function landingPage(status: BridgeStatus, nowMs = Date.now()): string {
  const sections = [
    firstThings(status),
    totals(status.tiles),
    tiles(status.tiles),
    worthALook(status),
    accounts(status.accounts, nowMs),
    sourceTable(status, nowMs),
    facts(status, nowMs),
  ];
  return pageOf({ status, tagline: 'Every turn pays its toll once', sections, nowMs });
}

/** What must be known before any number is believed. */
function firstThings(status: BridgeStatus): Markup {
  const { ledger } = status;
  const pieces: Markup[] = [];
  if (!status.ready) {
    const reasons = status.not_ready.map((reason) => html`<li>${reason}</li>`);
    pieces.push(html`<div class="notice fair"><strong>Not ready yet</strong><ul>${reasons}</ul></div>`);
  }
  if (ledger.problem !== undefined || !ledger.books_balance) {
    const problem =
      ledger.problem ?? 'Counters, corrections and windows do not agree to the last nano-dollar and token.';
    pieces.push(
      html`<div class="notice bad"><strong>The ledger needs attention</strong><p>${problem}</p><p>Next: <code>${commandText('doctor')}</code></p></div>`,
    );
  }
  if (ledger.turns === 0) pieces.push(firstSteps(status));
  return html`${pieces}`;
}

/** What somebody should mend some time, while all numbers are right. */
function worthALook({ spool, unfinished, unmapped }: BridgeStatus): Markup {
  const pieces: Markup[] = [];
  if (unmapped.length > 0) {
    const fixes = unmapped.map(
      ({ upstream_provider, reason, fix }) =>
        html`<li><strong>${upstream_provider}</strong> <span class="quiet">(${reason.replaceAll('_', ' ')})</span><pre><code>${fix}</code></pre></li>`,
    );
    pieces.push(
      html`<div class="notice fair"><strong>Upstream providers without an OpenUsage tile of their own</strong><p>They are counted in full. A line in <code>tollbridge.yaml</code> puts each under a tile:</p><ul>${fixes}</ul></div>`,
    );
  }
  if (spool && spool.quarantined > 0) {
    pieces.push(
      html`<div class="notice fair"><strong>${plural(spool.quarantined, 'spool file')} in quarantine</strong><p>They could not be read as turns and are not counted. The reasons lie beside them in the folder <code>quarantine</code> of <code>${spool.dir}</code>.</p></div>`,
    );
  }
  if (unfinished.length > 0) {
    const lines = unfinished.map((u) => html`<li>${u.agent} at ${u.provider}: ${plural(u.turns, 'turn')}</li>`);
    pieces.push(
      html`<div class="notice plain"><strong>Turns that never finished</strong><p>They began more than 15 minutes ago; what they used is unknown, so it is not counted.</p><ul>${lines}</ul></div>`,
    );
  }
  if (pieces.length === 0) return html``;
  return html`<section><h2>Worth a look</h2>${pieces}</section>`;
}

function firstSteps(status: BridgeStatus): Markup {
  const heard = Object.keys(status.last_heard_ms);
  const seen =
    heard.length > 0
      ? html`<p>${heard.join(', ')} is connected; its first finished turn will show here.</p>`
      : html`<p>The bridge runs, and no agent has sent anything. To connect OpenCode:</p>`;
  return html`<div class="notice plain"><strong>No turn received yet</strong>${seen}
<ol><li>Install the plugin, unless you have: <code>${commandText('install opencode')}</code></li>
<li>Start OpenCode anew and ask it anything; the turn shows here when it is finished.</li>
<li>Still nothing? <code>${commandText('doctor')}</code> says what is missing and what to do.</li></ol></div>`;
}

function totals(all: readonly TileStatus[]): Markup {
  if (all.length === 0) return html``;
  const columns = SHOWN_WINDOWS.map(([window, title]) => {
    const inWindow = all.map((tile) => tile.windows[window]).filter((sums) => sums !== undefined);
    const priced = inWindow.filter((sums) => sums.cost_usd !== undefined);
    const unpricedTurns = inWindow.reduce((sum, w) => sum + w.unpriced_turns, 0);
    const cost = priced.length > 0 ? priced.reduce((sum, w) => sum + (w.cost_usd ?? 0), 0) : undefined;
    const turns = inWindow.reduce((sum, w) => sum + w.turns, 0);
    const tokens = inWindow.reduce((sum, w) => sum + w.tokens, 0);
    return html`<div><div class="quiet small">${title}</div><div class="sum">${money(cost)}</div>${unpricedNote(cost, unpricedTurns)}<div class="quiet small">${plural(turns, 'turn')} · ${compact(tokens)} tokens</div></div>`;
  });
  return html`<section class="totals" aria-label="All tiles together">${columns}</section>`;
}

function tiles(all: readonly TileStatus[]): Markup {
  if (all.length === 0) return html``;
  const monthCost = (tile: TileStatus) => tile.windows.month?.cost_usd ?? -1;
  const cards = [...all].sort((a, b) => monthCost(b) - monthCost(a) || (a.tile < b.tile ? -1 : 1)).map(card);
  return html`<section><h2>Tiles</h2><div class="cards">${cards}</div></section>`;
}

/** By its name alone, so that a new tile recolours no other. */
function hueOf(tile: string): number {
  return createHash('sha256').update(tile).digest().readUInt32BE() % TILE_HUES;
}

/** Beside a sum that is not the whole cost. Where no cost is known at all, the sum itself says so. */
function unpricedNote(cost: number | undefined, unpricedTurns: number): Markup {
  if (cost === undefined || unpricedTurns === 0) return html``;
  return html`<div class="unpriced small">+ ${plural(unpricedTurns, 'turn')} without a stated cost</div>`;
}

function card({ tile, upstream_providers: upstreams, windows }: TileStatus): Markup {
  const rows = SHOWN_WINDOWS.map(([window, title]) => {
    const sums = windows[window];
    const note = unpricedNote(sums?.cost_usd, sums?.unpriced_turns ?? 0);
    return html`<tr><th scope="row">${title}</th><td class="number">${money(sums?.cost_usd)}</td><td class="number" title="${tokenTitle(sums)}">${sums ? compact(sums.tokens) : '–'}</td><td class="number">${sums ? grouped(sums.turns) : '–'}</td></tr>${note.text && html`<tr class="note"><td colspan="4">${note}</td></tr>`}`;
  });
  const served = upstreams.join(', ') !== tile && html`<span class="quiet small">${upstreams.join(', ')}</span>`;
  return html`<article class="card hue-${hueOf(tile)}"><div class="top"><h3>${tile}</h3>${served}</div>
<div class="cost">${money(windows.today?.cost_usd)} <small>today</small></div>
<table><thead><tr><td></td><th scope="col" class="number">Cost</th><th scope="col" class="number">Tokens</th><th scope="col" class="number">Turns</th></tr></thead><tbody>${rows}</tbody></table></article>`;
}

function accounts(lines: readonly AccountStatusLine[], nowMs: number): Markup {
  if (lines.length === 0) return html``;
  const rows = lines.map((line) => {
    const money = (line.balances ?? []).map(
      ({ kind, currency, amount }) =>
        html`<div class="quota"><span>${amountOf(amount, currency)}</span><span class="quiet small">${kind} balance</span></div>`,
    );
    const limits = (line.spend_limits ?? []).map(({ limit, currency, amount, used, resets_ms: resetMs }) => {
      const share = amount && used !== undefined ? used / amount : undefined;
      const spent = used === undefined ? 'unknown' : amountOf(used, currency);
      return html`<div class="quota">${share !== undefined && meter(share)}<span>${spent} of ${amount === undefined ? 'no limit' : amountOf(amount, currency)} ${limit}</span>${anew(resetMs, nowMs)}</div>`;
    });
    const quotas = (line.quotas ?? []).flatMap(({ quota, window, usedRatio, resetMs }) =>
      usedRatio === undefined
        ? []
        : html`<div class="quota">${meter(usedRatio)}<span>${percent(usedRatio)} of ${quota} ${window}</span>${anew(resetMs, nowMs)}</div>`,
    );
    return html`<tr><th scope="row">${line.account}<div class="quiet small">${line.provider} · from ${line.found_in}</div></th><td>${badge(STATUS_TONES[line.status], line.status.replaceAll('_', ' '))}</td><td>${line.message}${money}${limits}${quotas}</td><td class="quiet number">${line.taken_ms === undefined ? 'never' : ago(nowMs - line.taken_ms)}</td></tr>`;
  });
  return html`<section><h2>Accounts</h2><div class="sheet stacked"><table><thead><tr><th scope="col">Account</th><th scope="col">State</th><th scope="col">What it says</th><th scope="col" class="number">Read</th></tr></thead><tbody>${rows}</tbody></table></div></section>`;
}

/** Full at 1; what is beyond is shown as full. */
function meter(share: number): Markup {
  return html`<meter min="0" max="1" low="0.8" high="0.95" optimum="0" value="${share}"></meter>`;
}

function anew(resetMs: number | undefined, nowMs: number): Markup | false {
  return (
    resetMs !== undefined &&
    resetMs > nowMs &&
    html`<span class="quiet small">anew in ${duration(resetMs - nowMs)}</span>`
  );
}

/** `42.50 USD`. */
function amountOf(amount: number, currency: string): string {
  return `${amount.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })} ${currency}`;
}

function facts(status: BridgeStatus, nowMs: number): Markup {
  const { ledger, spool, last_heard_ms: heard } = status;
  const lines: [string, Markup | false | undefined][] = [
    ['Listens on', status.socket !== undefined && html`<code>${status.socket}</code>`],
    ['Metrics', html`<code>${status.metrics_url}</code>`],
    ['Spool', spool && html`<code>${spool.dir}</code> · ${plural(spool.waiting, 'file')} waiting`],
    [
      'Ledger',
      html`${plural(ledger.turns, 'turn')}, ${plural(ledger.tool_calls, 'tool call')}, ${plural(ledger.sessions, 'session')} in ${bytes(ledger.size_bytes)} · counting since ${day(ledger.created_ms, status.time_zone)} · ${ledger.books_balance ? 'the books balance' : 'the books do not balance'}`,
    ],
    ['Last turn', html`${ledger.last_turn_ms === undefined ? 'none yet' : ago(nowMs - ledger.last_turn_ms)}`],
    [
      'Agents heard',
      html`${
        Object.entries(heard)
          .map(([agent, ms]) => `${agent} ${ago(nowMs - ms)}`)
          .join(', ') || 'none since the start'
      }`,
    ],
    [
      'Configuration',
      html`${status.config_file === undefined ? 'all defaults' : html`<code>${status.config_file}</code>`}`,
    ],
    ['State folder', html`<code>${status.state_dir}</code>`],
    ['Time zone', html`${status.time_zone}`],
  ];
  const entries = lines.map(([term, text]) => (text ? html`<dt>${term}</dt><dd>${text}</dd>` : html``));
  return html`<section><h2>This bridge</h2><div class="sheet"><dl>${entries}</dl></div></section>`;
}

/** To the cent from one cent up; below that, as many places as show two digits. Unknown is not zero. */
function money(usd: number | undefined): string {
  if (usd === undefined) return 'unknown';
  if (usd > 0 && usd < 0.01) return `$${usd.toLocaleString('en-US', { maximumSignificantDigits: 2 })}`;
  return usd.toLocaleString('en-US', { style: 'currency', currency: 'USD' });
}

function tokenTitle(sums: TileWindow | undefined): string {
  if (!sums) return '';
  return `${grouped(sums.tokens)} tokens, and ${grouped(sums.cache_read_tokens)} read from the cache`;
}

function compact(number: number): string {
  return number.toLocaleString('en-US', { notation: 'compact', maximumFractionDigits: 1 });
}

function percent(ratio: number): string {
  return ratio.toLocaleString('en-US', { style: 'percent', maximumFractionDigits: 1 });
}

function day(ms: number, timeZone: string): string {
  return new Date(ms).toLocaleDateString('en-GB', { dateStyle: 'medium', timeZone });
}
