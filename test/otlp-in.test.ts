// Telemetry of agents through a whole bridge: what got a 200 is counted once, whatever is killed, and nothing that was
// content comes out anywhere.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { KillableBridge } from './killable-bridge.ts';
import { freePort } from './prometheus-server.ts';
import { eventsBy, samplesOf } from './scrape.ts';
import { CANARY, inJson, inProtobuf, type OtlpAnswered, recordings, send, zipped } from './sources/otlp-fixture.ts';

const RECORDINGS = recordings();
const PLANTED = `${CANARY} of somebody\nelse`;
/** What decides which record it is. */
const KEPT = new Set(['event.name', 'event.kind', 'event.timestamp', 'model', 'session.id', 'conversation.id']);

/** The same body with the secret in every text but those that decide what it is. */
function planted(body: unknown): unknown {
  return JSON.parse(JSON.stringify(body), (_, value) => {
    const isText = typeof value?.value?.stringValue === 'string';
    return isText && !KEPT.has(value.key) ? { key: value.key, value: { stringValue: PLANTED } } : value;
  });
}

const total = (text: string, name: string) =>
  samplesOf(text).reduce((sum, sample) => sum + (sample.name === name ? sample.value : 0), 0);

test('a bridge that is killed and sent everything again has counted each call once', async (t) => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-'));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const config = { otlp_in: { listen: `127.0.0.1:${port}` }, log: { level: 'trace' } };
  const bridge = new KillableBridge({ dir, port: await freePort(), config });
  t.after(async () => {
    await bridge.kill();
    rmSync(dir, { recursive: true, force: true });
  });
  await bridge.start();
  const answers: OtlpAnswered[] = [];
  const posts = RECORDINGS.flatMap((recording) => recording.posts.filter(({ path: to }) => to !== '/v1/metrics'));
  for (const [index, { path: to, body }] of posts.entries()) {
    answers.push(await send(url, index % 2 ? zipped(inJson(to, body)) : inProtobuf(to, body)));
    if (index % 10 !== 9) continue;
    await bridge.kill();
    await bridge.start();
  }
  for (const { path: to, body } of [...posts].reverse()) answers.push(await send(url, inJson(to, body)));

  const own = RECORDINGS.filter(({ name }) => !name.startsWith('oc-')).map(({ expected }) => expected);
  const sumOf = (amounts: readonly number[]) => amounts.reduce((sum, amount) => sum + amount, 0);
  const exact = await bridge.scrape();
  assert.equal(total(exact, 'toll_turns_total'), sumOf(own.map(({ turns }) => turns)));
  assert.equal(total(exact, 'toll_turn_errors_total'), sumOf(own.map(({ errors }) => errors)));
  assert.equal(total(exact, 'toll_tokens_total'), sumOf(own.flatMap(({ metered }) => metered)));
  assert.equal(total(exact, 'toll_tokens_corrections_total'), 0);

  for (const { path: to, body } of posts) answers.push(await send(url, inJson(to, planted(body))));
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  const text = await bridge.scrape();
  const { received = 0, ...outcomes } = eventsBy(text).otlp ?? {};
  assert.equal(
    received,
    Object.values(outcomes).reduce((a, b) => a + b, 0),
  );

  const status = await (await fetch(bridge.url)).text();
  bridge.signal('SIGTERM');
  assert.equal(await bridge.ended(), 0);
  const kept = readdirSync(bridge.stateDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry): [string, string] => [entry.name, readFileSync(path.join(entry.parentPath, entry.name), 'latin1')]);
  assert.ok(kept.some(([name]) => name === 'ledger.db'));
  const outputs: [string, string][] = [
    ...kept,
    ...([
      ['a scrape', text],
      ['the page', status],
      ['the log', bridge.said],
    ] as [string, string][]),
    ['the answers', answers.map(({ bytes }) => bytes.toString('latin1')).join('\n')],
  ];
  for (const [what, said] of outputs) assert.ok(!said.includes(CANARY), what);
});
