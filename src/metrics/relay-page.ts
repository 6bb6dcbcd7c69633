// The page at / of a relay: where its turns go, and what waits here.

import type { RelayStatus } from '../status.ts';
import { html, type Markup } from './markup.ts';
import { ago, bytes, pageOf, plural, sourceTable } from './page-frame.ts';

/**
 * The whole page.
 * @param nowMs Unix ms, from which ages are told
 */
export function relayPage(status: RelayStatus, nowMs = Date.now()): string {
  const sections = [firstThings(status), figures(status, nowMs), sourceTable(status, nowMs)];
  return pageOf({ status, tagline: 'A relay: a bridge elsewhere counts these turns', sections, nowMs });
}

function firstThings({ ready, not_ready, relay }: RelayStatus): Markup {
  if (!ready) {
    const reasons = not_ready.map((reason) => html`<li>${reason}</li>`);
    return html`<div class="notice bad"><strong>Turns are not taken</strong><ul>${reasons}</ul></div>`;
  }
  if (relay.problem === undefined) return html``;
  return html`<div class="notice fair"><strong>Turns wait on this disk</strong><p>${relay.problem}</p></div>`;
}

function figures({ relay, policy, metrics_url, config_file, last_heard_ms }: RelayStatus, nowMs: number): Markup {
  const heard = Object.entries(last_heard_ms).map(([agent, ms]) => `${agent} ${ago(nowMs - ms)}`);
  const share = relay.queue_bytes / relay.queue_max_bytes;
  const rows: [string, Markup][] = [
    ['Goes to', html`<code>${relay.servers}</code>`],
    [
      'Waits here',
      html`${plural(relay.queue_events, 'event')}, ${bytes(relay.queue_bytes)} of ${bytes(relay.queue_max_bytes)} (${Math.round(share * 100)} %)`,
    ],
    [
      'Rules',
      policy.told_ms === undefined
        ? html`none are known, so no verdicts are given${policy.problem && html`: ${policy.problem}`}`
        : html`as bridges told them ${ago(Math.max(0, nowMs - policy.told_ms))}`,
    ],
    ['Agents heard', html`${heard.join(', ') || 'none since the start'}`],
    ['Metrics', html`<code>${metrics_url}</code>`],
    ['Configuration', config_file === undefined ? html`all defaults` : html`<code>${config_file}</code>`],
  ];
  const lines = rows.map(([name, value]) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`);
  return html`<section><h2>This relay</h2><div class="sheet"><table><tbody>${lines}</tbody></table></div></section>`;
}
