// The dashboards as a user sees them: drawn by Grafana's own libraries in Chromium, from a real Prometheus.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Browser } from 'playwright-core';
import { PLACED } from '../../dashboards/grafana/pack.ts';
import { openBrowser, readDashboard } from '../../dashboards/preview/browser.ts';
import type { PageReport, PanelReport } from '../../dashboards/preview/page-report.ts';
import { type Preview, servePreview } from '../../dashboards/preview/serve.ts';
import { buildPreview } from '../../scripts/preview-build.ts';
import { type DemoStage, startDemoStage } from './demo-stage.ts';
import { type Sent, sentBetween } from './truth.ts';

let stage: DemoStage;
let preview: Preview;
let browser: Browser;
let sent: Sent;

before(async () => {
  buildPreview();
  stage = await startDemoStage({ days: 10 });
  sent = sentBetween(stage.fromMs, stage.toMs);
  preview = await servePreview({ prometheus: stage.prometheus.url, port: 0 });
  browser = await openBrowser();
});
after(async () => {
  await browser?.close();
  preview?.close();
  await stage?.stop();
});

const draw = (dashboard: string, width: number, query = ''): Promise<PageReport> =>
  readDashboard(browser, { url: preview.url, dashboard, width, theme: 'dark', query });

const lines = ({ text }: PanelReport) =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
/** What stands beside a name on a card. */
function beside(panel: PanelReport, name: string): string {
  const all = lines(panel);
  const at = all.indexOf(name);
  assert.ok(at >= 0, `${name} is not on ${panel.title}: ${all.join(' | ')}`);
  return all[at + 1]!;
}

for (const width of [1280, 1920]) {
  describe(`at ${width} px`, () => {
    for (const { dashboard, panels } of PLACED) {
      it(`${dashboard.title} is drawn, whole and without a fault`, async () => {
        const query = dashboard.uid === 'tollbridge-tile' ? 'var-tile=claude_code' : '';
        const report = await draw(dashboard.uid!, width, query);
        assert.deepEqual(report.errors, []);
        assert.equal(report.isTooWide, false, 'the page is wider than the window');
        const specs = new Map([...panels.values()].map(({ id, spec }) => [id, spec]));
        for (const panel of report.panels) {
          const spec = specs.get(panel.id)!;
          assert.ok(
            panel.state === 'done' || (panel.state === 'empty' && spec.mayBeEmpty),
            `${panel.title} is ${panel.state}`,
          );
          assert.ok(panel.isDrawn || panel.state === 'empty', `${panel.title} has no plot`);
          assert.deepEqual(panel.cutOff, [], `cut off on ${panel.title}`);
        }
      });
    }
  });
}

describe('the tiles', () => {
  it('have a card each, whose numbers are what was sent, to the displayed digit', async () => {
    const { panels } = await draw('tollbridge-tiles', 1600);
    const cards = panels.filter(({ title }) => title.endsWith('· 30d'));
    const anthropic = cards.find(({ title }) => title.startsWith('Anthropic · claude_code'))!;
    for (const [title, tile] of [
      ['Anthropic · claude_code', 'claude_code'],
      ['DeepSeek', 'deepseek'],
      ['Moonshot', 'moonshot'],
      ['xAI', 'xai'],
      ['Google · gemini_api', 'gemini_api'],
    ]) {
      const card = cards.find((each) => each.title === `${title} · 30d`);
      assert.ok(card, `there is no card ${title}`);
      const turns = sent.turns.filter((turn) => turn.tile === tile);
      const usd = turns.reduce((sum, { costNano = 0 }) => sum + costNano, 0) / 1e9;
      const tokens = turns.reduce(
        (sum, { tokens: of }) => sum + of.input + of.output + of.reasoning + of.cache_write,
        0,
      );
      assert.equal(beside(card, 'Cost of turns'), `$${usd.toFixed(2)}`);
      assert.equal(beside(card, 'Turns'), turns.length.toLocaleString('en'));
      assert.equal(beside(card, 'Tokens').replace(/\s/g, ''), `${(tokens / 1e6).toFixed(1)}M`);
    }
    const [title, name, state] = lines(anthropic);
    assert.deepEqual([title, name], ['Anthropic · claude_code · 30d', 'Status']);
    // How full its plan is depends on the hour of the week.
    assert.match(state!, /^(?:OK|WARN|LIMIT)$/);
    const names = cards.map(({ title }) => title.split(' · ')[0]);
    assert.deepEqual(names, [...names].sort(), 'the cards are in alphabetical order');
  });

  it('show the state of each account in its own word', async () => {
    const { panels } = await draw('tollbridge-tiles', 1600);
    const status = (title: string) => beside(panels.find((panel) => panel.title === `${title} · 30d`)!, 'Status');
    assert.equal(status('GitHub · copilot'), 'AUTH');
    assert.equal(status('xAI'), 'not polled');
  });

  it('say what is wrong when Prometheus is not there', async () => {
    const gone = await servePreview({ prometheus: 'http://127.0.0.1:9', port: 0 });
    const report = await readDashboard(browser, {
      url: gone.url,
      dashboard: 'tollbridge-health',
      width: 1280,
      theme: 'light',
    });
    gone.close();
    assert.ok(report.panels.length > 0);
    assert.ok(report.panels.every(({ state }) => state === 'error'));
    assert.match(report.errors.join('\n'), /Prometheus cannot be reached/);
  });
});
