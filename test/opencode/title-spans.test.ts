// A real OpenCode with the plugin and its own telemetry, and a real bridge: with the title's call, all that the provider
// billed is booked, each call once; without the plugin, nothing.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { installOpencode, uninstallOpencode } from '../../src/commands/install.ts';
import { parseConfig } from '../../src/config.ts';
import { totalTokens } from '../../src/turn/turn-event.ts';
import { cleanUpOf } from '../clean-up.ts';
import { freePort } from '../prometheus-server.ts';
import { samplesOf } from '../scrape.ts';
import { BridgeProcess, setUpBridge } from './bridge-process.ts';
import { CONTENT_MARKER, findOpenCode, layOut, OpenCode, PROJECT, until } from './drive.ts';
import { MockLlm } from './mock-llm.ts';

const sumOf = (text: string, name: string, wanted: Readonly<Record<string, string>> = {}) =>
  samplesOf(text)
    .filter((sample) => sample.name === name)
    .filter(({ labels }) => Object.entries(wanted).every(([label, value]) => labels[label] === value))
    .reduce((sum, { value }) => sum + value, 0);

/** OpenCode that exports to a bridge, with the plugin or without. */
async function startBoth(t: TestContext, { withPlugin }: { withPlugin: boolean }) {
  const root = mkdtempSync(path.join(tmpdir(), 'tb-oc-'));
  const llm = new MockLlm();
  const cleanUp = cleanUpOf(t);
  cleanUp(() => rmSync(root, { recursive: true, force: true }));
  cleanUp(() => llm.stop());
  const laidOut = layOut(root, await llm.start());
  const listen = `127.0.0.1:${await freePort()}`;
  const setup = await setUpBridge(root, { otlp_in: { listen } });
  const scratch = { ...laidOut, env: { ...laidOut.env, OTEL_EXPORTER_OTLP_ENDPOINT: `http://${listen}` } };
  const file = path.join(scratch.configHome, 'opencode', 'opencode.json');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...config, experimental: { openTelemetry: true } }));
  const place = { home: scratch.home, env: scratch.env };
  if (withPlugin) {
    installOpencode({ ...place, config: parseConfig({ socket: { path: setup.socket }, spool: { dir: setup.spool } }) });
  } else uninstallOpencode(place);
  const bridge = await BridgeProcess.start(setup);
  cleanUp(() => bridge.stop());
  const openCode = await OpenCode.start(findOpenCode(), scratch);
  cleanUp(() => openCode.stop());
  return { llm, bridge, openCode, state: path.dirname(setup.socket) };
}

test('with the plugin, what the provider billed is booked to the last token, titles too', async (t) => {
  const { llm, bridge, openCode, state } = await startBoth(t, { withPlugin: true });
  const session = await openCode.newSession();
  await openCode.prompt(session, [{ tool: 'bash', args: { command: 'true', description: 'x' } }, { text: 'done' }]);
  await until('The call of the title', () =>
    llm.calls.some(({ purpose, outcome }) => purpose === 'title' && outcome === 'billed'),
  );
  const billed = llm.calls.filter(({ outcome }) => outcome === 'billed');
  const titles = billed.filter(({ purpose }) => purpose === 'title').length;
  const tokens = billed.reduce((sum, call) => sum + totalTokens(call.tokens), 0);
  let text = '';
  // A turn's tokens are told when it finishes, the turn itself when it completes.
  await until('Every token of every turn', async () => {
    text = await bridge.metrics();
    return sumOf(text, 'toll_tokens_total') >= tokens && sumOf(text, 'toll_turns_total') >= billed.length;
  });
  assert.equal(sumOf(text, 'toll_tokens_total'), tokens);
  assert.equal(sumOf(text, 'toll_turns_total'), billed.length);
  assert.equal(sumOf(text, 'toll_turns_total', { model: 'small', project: PROJECT }), titles);
  assert.equal(sumOf(text, 'toll_title_turns_total'), titles);
  assert.equal(sumOf(text, 'tollbridge_duplicates_suspected_total'), 0);
  await openCode.stop();
  await bridge.stop();
  for (const entry of readdirSync(state, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const kept = readFileSync(path.join(entry.parentPath, entry.name), 'latin1');
    assert.ok(!kept.includes(CONTENT_MARKER), entry.name);
  }
});

test('without the plugin its spans are read and nothing is booked', async (t) => {
  const { llm, bridge, openCode } = await startBoth(t, { withPlugin: false });
  await openCode.prompt(await openCode.newSession(), [{ text: 'done' }]);
  await until('The call of the title', () =>
    llm.calls.some(({ purpose, outcome }) => purpose === 'title' && outcome === 'billed'),
  );
  await until('The spans of the title', async () =>
    /tollbridge_events_recorded_total\{source="otlp"\} [1-9]/.test(await bridge.metrics()),
  );
  assert.equal(sumOf(await bridge.metrics(), 'toll_turns_total'), 0);
});
