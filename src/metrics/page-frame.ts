// What every page at / has in common: the frame around it, the table of sources, and how figures are written. Pages are
// self-contained HTML documents without a script.

import { createHash } from 'node:crypto';
import type { SourceStatus } from '../status.ts';
import { LANDING_STYLE } from './landing-style.ts';
import { html, Markup } from './markup.ts';

const REFRESH_SECONDS = 30;

const STYLE_HASH = createHash('sha256').update(LANDING_STYLE).digest('base64');

/** The page may show its own style and icon. Nothing else may load, run, post or frame it. */
export const PAGE_CSP = [
  "default-src 'none'",
  `style-src 'sha256-${STYLE_HASH}'`,
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** A toll gate: two posts, a raised bar. Drawn in one colour that reads on light and dark. */
const LOGO = new Markup(
  '<svg viewBox="0 0 40 40" role="img" aria-label="Tollbridge"><rect width="40" height="40" rx="10" fill="#3b5bdb"/>' +
    '<g stroke="#fff" stroke-width="3" stroke-linecap="round" fill="none"><path d="M11 30V17M11 20 31 9"/>' +
    '<path d="M6 30h28"/><path d="M29 30v-7"/></g></svg>',
);
const ICON = `data:image/svg+xml,${encodeURIComponent(
  LOGO.text.replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" '),
)}`;

interface Page {
  readonly status: {
    readonly version: string;
    readonly node: string;
    readonly pid: number;
    readonly started_ms: number;
    readonly ready: boolean;
  };
  readonly tagline: string;
  readonly sections: readonly Markup[];
  /** Unix ms, from which ages are told. */
  readonly nowMs: number;
}

/** The whole document. */
export function pageOf({ status, tagline, sections, nowMs }: Page): string {
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="${REFRESH_SECONDS}">
<title>Tollbridge</title>
<link rel="icon" href="${ICON}">
<style>${new Markup(LANDING_STYLE)}</style>
</head>
<body>
<div class="page">
<header>
${LOGO}
<div><h1>Tollbridge</h1><div class="quiet small">${tagline}</div></div>
<nav>${badge(status.ready ? 'good' : 'fair', status.ready ? 'ready' : 'not ready')}<a href="/metrics">/metrics</a></nav>
</header>
<main>
${sections}
</main>
<footer>Version ${status.version} · Node ${status.node} · process ${status.pid} · up ${duration(nowMs - status.started_ms)} · this page renews itself every ${REFRESH_SECONDS} s</footer>
</div>
</body>
</html>
`;
  return page.text;
}

export function badge(tone: string, text: string): Markup {
  return html`<span class="badge ${tone}">${text}</span>`;
}

const EVENT_COLUMNS = ['received', 'recorded', 'updated', 'duplicate', 'forwarded', 'ignored', 'rejected'] as const;

export function sourceTable(status: { readonly sources: readonly SourceStatus[] }, nowMs: number): Markup {
  if (status.sources.length === 0) return html``;
  // Where nothing is passed on, a column of zeros would only ask what it means.
  const columns = EVENT_COLUMNS.filter(
    (name) => name !== 'forwarded' || status.sources.some(({ events }) => (events.forwarded ?? 0) > 0),
  );
  const heads = columns.map((name) => html`<th scope="col" class="number">${name}</th>`);
  const rows = status.sources.map(({ source, up, last_success_ms: success, problem, events }) => {
    const cells = columns.map((name) => html`<td class="number">${grouped(events[name] ?? 0)}</td>`);
    return html`<tr><th scope="row">${source}${problem && html`<div class="quiet small">${problem}</div>`}</th><td>${badge(up ? 'good' : 'bad', up ? 'up' : 'down')}</td>${cells}<td class="quiet number">${success === undefined ? 'never' : ago(nowMs - success)}</td></tr>`;
  });
  return html`<section><h2>Sources</h2><div class="sheet"><table><thead><tr><th scope="col">Source</th><th scope="col">State</th>${heads}<th scope="col" class="number">Last delivery</th></tr></thead><tbody>${rows}</tbody></table></div>
<p class="quiet small">Events since this process began. Every one received is ${columns.slice(1, -1).join(', ')} or rejected.</p></section>`;
}

export function grouped(number: number): string {
  return number.toLocaleString('en-US');
}

export function plural(number: number, noun: string): string {
  return `${grouped(number)} ${noun}${number === 1 ? '' : 's'}`;
}

export function bytes(size: number): string {
  return size < 1024 ** 2 ? `${grouped(Math.ceil(size / 1024))} KiB` : `${grouped(Math.round(size / 1024 ** 2))} MiB`;
}

export function duration(ms: number): string {
  const minutes = Math.floor(Math.max(0, ms) / 60e3);
  if (minutes < 1) return `${Math.floor(Math.max(0, ms) / 1e3)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

export function ago(ms: number): string {
  return `${duration(ms)} ago`;
}
