// The style sheet of the landing page. Colours are given twice, for light and dark; everything else once.

const HUES = [265, 200, 160, 130, 85, 50, 20, 330];

/** How many accent colours tiles can have: the classes `hue-0`, `hue-1` and so on. */
export const TILE_HUES = HUES.length;

export const LANDING_STYLE = `
:root {
  color-scheme: light dark;
  --ground: light-dark(#f5f6f9, #0e1116);
  --surface: light-dark(#ffffff, #171b23);
  --line: light-dark(#e2e5ec, #272d39);
  --ink: light-dark(#171b26, #e8ebf2);
  --quiet: light-dark(#5c6474, #96a0b3);
  --accent: light-dark(#3b5bdb, #8ea8ff);
  --good: light-dark(#177245, #5bd38f);
  --fair: light-dark(#8a5a00, #f2c04e);
  --bad: light-dark(#b3261e, #ff8a80);
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 2rem clamp(1rem, 4vw, 3rem) 3rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums;
}
.page { max-width: 76rem; margin: 0 auto; }
a { color: var(--accent); text-underline-offset: 3px; }
h1 { font-size: 1.35rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.02rem; margin: 2.25rem 0 0.75rem; letter-spacing: -0.005em; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: break-word; }
p { margin: 0.25rem 0; }
code, pre { font: 0.88em/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { background: color-mix(in srgb, var(--quiet) 14%, transparent); padding: 0.1em 0.38em; border-radius: 5px; overflow-wrap: break-word; }
pre { margin: 0.5rem 0 0; padding: 0.6rem 0.8rem; background: var(--ground); border: 1px solid var(--line); border-radius: 8px; white-space: pre-wrap; overflow-wrap: break-word; }
pre code { background: none; padding: 0; }
.quiet { color: var(--quiet); }
.small { font-size: 0.86rem; }
header { display: flex; flex-wrap: wrap; gap: 0.75rem 1rem; align-items: center; }
header svg { flex: none; width: 40px; height: 40px; }
header nav { margin-left: auto; display: flex; gap: 1rem; align-items: center; }
.badge { display: inline-flex; align-items: center; gap: 0.4em; padding: 0.12em 0.65em; border-radius: 99px; font-size: 0.82rem; font-weight: 600; white-space: nowrap; color: var(--tone); background: color-mix(in srgb, var(--tone) 13%, transparent); }
.badge::before { content: ""; width: 0.5em; height: 0.5em; border-radius: 50%; background: currentColor; }
.good { --tone: var(--good); } .fair { --tone: var(--fair); } .bad { --tone: var(--bad); } .plain { --tone: var(--quiet); }
.notice { margin-top: 1rem; padding: 0.85rem 1.1rem; border: 1px solid var(--line); border-left: 4px solid var(--tone); border-radius: 10px; background: var(--surface); }
.notice ul, .notice ol { margin: 0.4rem 0 0; padding-left: 1.25rem; }
.notice li { margin: 0.3rem 0; overflow-wrap: break-word; }
.totals { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); margin-top: 1.5rem; background: var(--surface); border: 1px solid var(--line); border-radius: 14px; overflow: hidden; }
.totals > div { padding: 1.1rem 1.35rem; border-left: 1px solid var(--line); margin-left: -1px; }
.totals .sum { font-size: 1.9rem; font-weight: 650; line-height: 1.25; letter-spacing: -0.02em; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19.5rem, 100%), 1fr)); gap: 1rem; }
.card { background: var(--surface); border: 1px solid var(--line); border-radius: 14px; padding: 1rem 1.2rem 0.85rem; border-top: 3px solid var(--hue); }
.card .top { display: flex; justify-content: space-between; gap: 0.75rem; align-items: baseline; }
.card .top > * { min-width: 0; }
.card .cost { font-size: 1.7rem; font-weight: 650; line-height: 1.3; letter-spacing: -0.02em; margin-top: 0.4rem; }
.card .cost small { font-size: 0.82rem; font-weight: 400; letter-spacing: 0; color: var(--quiet); }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; font-size: 0.8rem; color: var(--quiet); }
th, td { padding: 0.42rem 0.75rem; vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
.card table { margin-top: 0.6rem; font-size: 0.92rem; }
.card th, .card td { padding: 0.3rem 0; border-top: 1px solid var(--line); }
.card thead :is(th, td) { border-top: 0; }
.card .note td { border-top: 0; padding-top: 0; }
.unpriced { color: var(--fair); }
.sheet { background: var(--surface); border: 1px solid var(--line); border-radius: 14px; overflow-x: auto; }
.sheet th { padding-top: 0.65rem; }
.sheet td, .sheet tbody th { border-top: 1px solid var(--line); }
.sheet th:first-child, .sheet td:first-child { padding-left: 1.2rem; }
.sheet thead th::first-letter { text-transform: uppercase; }
.sheet tbody th .quiet { font-weight: 400; }
.sheet tbody th { color: inherit; font-size: inherit; overflow-wrap: break-word; min-width: 9rem; }
.quota { display: flex; flex-wrap: wrap; gap: 0.2rem 0.6rem; align-items: center; }
meter { width: 8rem; height: 0.75rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0.35rem 1.25rem; margin: 0; padding: 1rem 1.2rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: break-word; }
footer { margin-top: 2.5rem; color: var(--quiet); font-size: 0.86rem; }
${HUES.map((hue, index) => `.hue-${index} { --hue: light-dark(hsl(${hue} 60% 52%), hsl(${hue} 65% 66%)); }`).join('\n')}
@media (max-width: 34rem) {
  header nav { margin-left: 0; width: 100%; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: 0.5rem; }
  .stacked thead { display: none; }
  .stacked :is(table, tbody, tr, th, td) { display: block; }
  .stacked tr { padding: 0.4rem 0; border-top: 1px solid var(--line); }
  .stacked tr:first-child { border-top: 0; }
  .stacked tbody :is(th, td) { padding: 0.15rem 1.2rem; border-top: 0; text-align: left; overflow-wrap: break-word; }
}
`;
