// A real OpenCode, its plugin, a real bridge and a receiver of traces: a sub-agent's run is below the call that started it,
// and nothing that was said goes along.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { importOpencode } from '../../src/commands/import-opencode.ts';
import { installOpencode } from '../../src/commands/install.ts';
import { parseConfig } from '../../src/config.ts';
import { cleanUpOf } from '../clean-up.ts';
import { OtlpReceiver } from '../metrics/otlp-receiver.ts';
import { drawn, sentRecords, sentSpans } from '../traces/run-receiver.ts';
import { BridgeProcess, setUpBridge } from './bridge-process.ts';
import { CONTENT_MARKER, findOpenCode, layOut, OpenCode, until } from './drive.ts';
import { MockLlm } from './mock-llm.ts';
import { SCENARIOS } from './scenarios.ts';

test('a prompt that starts a sub-agent is one trace', async (t) => {
  const root = mkdtempSync(path.join(tmpdir(), 'tb-oc-'));
  const cleanUp = cleanUpOf(t);
  cleanUp(() => rmSync(root, { recursive: true, force: true }));
  const llm = new MockLlm();
  cleanUp(() => llm.stop());
  const scratch = layOut(root, await llm.start());
  const receiver = await OtlpReceiver.start(t);
  const setup = await setUpBridge(root, { otlp: { endpoint: receiver.url, metrics: false, traces: true, logs: true } });
  installOpencode({
    ...{ home: scratch.home, env: scratch.env },
    config: parseConfig({ socket: { path: setup.socket }, spool: { dir: setup.spool } }),
  });
  const bridge = await BridgeProcess.start(setup);
  cleanUp(() => bridge.stop());
  const openCode = await OpenCode.start(findOpenCode(), scratch);
  cleanUp(() => openCode.stop());
  await SCENARIOS['a sub-agent']!(openCode, scratch.project);
  const chats = () => sentSpans(receiver).filter(({ name }) => name.startsWith('chat '));
  const billed = () => llm.calls.filter(({ purpose, outcome }) => purpose !== 'title' && outcome === 'billed');
  await until('A span of each call', () => billed().length > 2 && chats().length === billed().length);
  await openCode.stop();
  await bridge.stop();

  const spans = sentSpans(receiver);
  assert.equal(new Set(spans.map(({ traceId }) => traceId)).size, 1);
  const [model] = new Set(chats().map(({ attributes }) => String(attributes['gen_ai.request.model'])));
  const tree = drawn(spans);
  assert.deepEqual(tree.slice(0, 3), ['invoke_agent opencode', `  chat ${model}`, '    execute_tool task']);
  assert.deepEqual(tree.slice(3, 5), ['    invoke_agent opencode', `      chat ${model}`]);
  assert.equal(tree.at(-1), `  chat ${model}`);
  assert.equal(sentRecords(receiver).length, chats().length);
  const sent = Buffer.concat(receiver.posts.map(({ body }) => body)).toString('latin1');
  assert.ok(!sent.includes(CONTENT_MARKER) && !sent.includes(root));

  await t.test('and the same one where it is read from the database afterwards', async (t) => {
    const receiver = await OtlpReceiver.start(t);
    const setup = await setUpBridge(path.join(root, 'other'), {
      ...{ spool: { enabled: false } },
      otlp: { endpoint: receiver.url, metrics: false, traces: true, logs: true },
    });
    const bridge = await BridgeProcess.start(setup);
    t.after(() => bridge.stop());
    const config = parseConfig({ socket: { path: setup.socket } });
    const db = path.join(root, 'data', 'opencode', 'opencode.db');
    await importOpencode({ flags: { db }, config, env: {}, home: root, platform: process.platform });
    await bridge.stop();
    const read = sentSpans(receiver);
    assert.deepEqual(drawn(read), tree);
    const ids = (of: typeof spans) => of.map(({ traceId, spanId }) => `${traceId} ${spanId}`).sort();
    assert.deepEqual(ids(read), ids(spans));
  });
});
