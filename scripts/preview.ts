// npm run preview           shows the dashboards with the data of a running Prometheus, without a Grafana
// npm run preview:shots     writes pictures of them with made-up data to docs/dashboards

import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { BUDGETS } from '../dashboards/grafana/budgets.ts';
import { PLACED } from '../dashboards/grafana/pack.ts';
import { ATTRIBUTION_UID } from '../dashboards/grafana/uids.ts';
import { openBrowser, shoot } from '../dashboards/preview/browser.ts';
import { prometheusAddress, servePreview } from '../dashboards/preview/serve.ts';
import { startDemoStage } from '../test/dashboards/demo-stage.ts';
import { buildPreview } from './preview-build.ts';
import { provideTools } from './test-tools.ts';

const PICTURES = path.join(path.dirname(import.meta.dirname), 'docs', 'dashboards');
const WIDTH = 1600;
const THEMES = ['dark', 'light'] as const;
const DAYS = 30;
/** Where the home dashboard goes on with a band for each tile, of which one more would show nothing new. */
const HOME_HEIGHT = 2700;
/** What is chosen on a dashboard before its picture is taken. */
const CHOSEN: Readonly<Record<string, string>> = {
  'tollbridge-tile': 'var-tile=claude_code',
  // The bridge has only just begun to tell of itself, and made-up turns have no health.
  'tollbridge-health': 'from=now-2m',
};
const say = (text: string) => process.stdout.write(`${text}\n`);

const { values } = parseArgs({
  options: {
    shots: { type: 'boolean', default: false },
    prometheus: { type: 'string', default: 'http://127.0.0.1:9090' },
    port: { type: 'string', default: '3100' },
  },
});

async function takePictures(): Promise<void> {
  const problem = provideTools();
  if (problem) throw new Error(problem);
  say(`Making up ${DAYS} days of turns, and scraping them …`);
  const stage = await startDemoStage({ days: DAYS, hasGap: false });
  const preview = await servePreview({ prometheus: stage.prometheus.url, port: 0 });
  const browser = await openBrowser();
  const take = async (name: string, part: { dashboard: string; query?: string; height?: number; band?: string }) => {
    for (const theme of THEMES) {
      const file = path.join(PICTURES, `${name}-${theme}.png`);
      await shoot(browser, { url: preview.url, theme, width: WIDTH, file, ...part });
      say(`docs/dashboards/${name}-${theme}.png written`);
    }
  };
  try {
    mkdirSync(PICTURES, { recursive: true });
    for (const { dashboard } of PLACED) {
      const uid = dashboard.uid!;
      const isHome = uid === 'tollbridge-tiles';
      const part = { query: CHOSEN[uid] ?? '', ...(isHome && { height: HOME_HEIGHT }) };
      await take(uid.replace('tollbridge-', ''), { dashboard: uid, ...part });
    }
    await take('budgets', { dashboard: ATTRIBUTION_UID, band: BUDGETS.title! });
  } finally {
    await browser.close();
    preview.close();
    await stage.stop();
  }
}

async function serve({ prometheus, port }: { prometheus: string; port: string }): Promise<void> {
  // Before minutes are spent on building.
  const { url: shown } = prometheusAddress(prometheus);
  buildPreview();
  const { url } = await servePreview({ prometheus, port: Number(port) });
  say(`The dashboards are at ${url}/d/tollbridge-tiles, with the data of ${shown}. Ctrl-C ends it.`);
}

if (values.shots) {
  buildPreview();
  await takePictures();
} else {
  await serve(values).catch((error: Error) => {
    process.stderr.write(`tollbridge: ${error.message}\n`);
    process.exitCode = 1;
  });
}
