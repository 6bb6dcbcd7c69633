// The page: a header with the dashboard's variables and the other dashboards, and below it the panels in Grafana's grid.

import { createTheme, dateMath, ThemeContext, type TimeRange } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { GlobalStyles, PortalContainer } from '@grafana/ui';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { fillRegistries } from './fields';
import { Header } from './header';
import { layOut } from './layout';
import type { DashboardModel } from './model';
import { Panel } from './panel';
import { Prometheus } from './prometheus';
import { readPage } from './read-page';
import { fill, resolveVariables, type Variables } from './variables';
import './page.css';

/** Grafana's grid: rows of 30 px, 8 px between them. */
const ROW = 38;
const GAP = 8;
const COLUMNS = 24;
const MARGIN = 16;
const FONTS = [
  [400, 'Regular'],
  [500, 'Medium'],
]
  .map(
    ([weight, name]) =>
      `@font-face { font-family: Inter; font-weight: ${weight}; src: url(/public/fonts/inter/Inter-${name}.woff2); }`,
  )
  .join(' ');

declare global {
  interface Window {
    /** How many panels are still being drawn; undefined until it is known. */
    __pending?: number;
    /** What went wrong, by panel. */
    __errors: string[];
    __read: typeof readPage;
  }
}
window.__errors = [];
window.__read = readPage;

const address = new URLSearchParams(location.search);
const uid = /^\/d\/([\w-]+)/.exec(location.pathname)?.[1] ?? 'tollbridge-tiles';
const theme = createTheme({ colors: { mode: address.get('theme') === 'light' ? 'light' : 'dark' } });
const prometheus = new Prometheus('/prometheus');

interface Loaded {
  readonly dashboard: DashboardModel;
  readonly variables: Variables;
  readonly range: TimeRange;
}

async function load(): Promise<Loaded> {
  const answer = await fetch(`/dashboards/${uid}.json`);
  if (!answer.ok) throw new Error(`there is no dashboard ${uid}`);
  const dashboard: DashboardModel = await answer.json();
  const raw = { from: address.get('from') ?? dashboard.time.from, to: address.get('to') ?? dashboard.time.to };
  const { timezone } = dashboard;
  const from = dateMath.toDateTime(raw.from, { timezone });
  const to = dateMath.toDateTime(raw.to, { timezone, roundUp: true });
  if (!from?.isValid() || !to?.isValid()) throw new Error(`the range is not understood: ${raw.from} to ${raw.to}`);
  const range = { from, to, raw };
  return { dashboard, range, variables: await resolveVariables(dashboard.templating.list, address, prometheus) };
}

function Page() {
  const [loaded, setLoaded] = useState<Loaded>();
  const [failure, setFailure] = useState<string>();
  useEffect(() => {
    load().then(setLoaded, (error: Error) => {
      window.__errors.push(error.message);
      window.__pending = 0;
      setFailure(error.message);
    });
  }, []);
  if (failure) return <p className="failure">{failure}</p>;
  return loaded ? <Grid {...loaded} /> : null;
}

function Grid({ dashboard, variables, range }: Loaded) {
  const placed = layOut(dashboard.panels, variables);
  const [panels] = useState(() => placed.filter(({ panel }) => panel.type !== 'row').length);
  useEffect(() => {
    document.title = dashboard.title;
    window.__pending ??= panels;
  }, [dashboard.title, panels]);
  const column = (innerWidth - 2 * MARGIN + GAP) / COLUMNS;
  const rows = Math.max(...placed.map(({ gridPos }) => gridPos.y + gridPos.h));
  const settled = (title: string) => (error?: string) => {
    if (error) window.__errors.push(`${title}: ${error}`);
    // A frame later it is painted.
    requestAnimationFrame(() => setTimeout(() => (window.__pending = (window.__pending ?? panels) - 1), 200));
  };
  return (
    <main style={{ padding: MARGIN }}>
      <Header {...{ dashboard, variables, range, address }} />
      <div style={{ position: 'relative', height: rows * ROW }}>
        {placed.map(({ panel, gridPos, variables: of, key }) => {
          const width = gridPos.w * column - GAP;
          const height = gridPos.h * ROW - GAP;
          const at = { position: 'absolute', left: gridPos.x * column, top: gridPos.y * ROW, width, height } as const;
          return (
            <section key={key} style={at}>
              {panel.type === 'row' ? (
                <h4 className="row-title">{fill(panel.title ?? '', of)}</h4>
              ) : (
                <Panel
                  {...{ panel, range, prometheus, width, height }}
                  timeZone={dashboard.timezone}
                  variables={of}
                  onSettled={settled(panel.title ?? '')}
                />
              )}
            </section>
          );
        })}
      </div>
    </main>
  );
}

fillRegistries();
await initPluginTranslations('grafana').catch(() => {});
// Grafana measures words before it draws them, and would measure another typeface.
document.head.append(Object.assign(document.createElement('style'), { textContent: FONTS }));
await Promise.all(['400 12px Inter', '500 12px Inter'].map((font) => document.fonts.load(font)));
createRoot(document.getElementById('root')!).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <PortalContainer />
    <div className={`page ${theme.isDark ? 'dark' : 'light'}`} style={{ background: theme.colors.background.canvas }}>
      <Page />
    </div>
  </ThemeContext.Provider>,
);
