// Secrets in everything that can be sent to a bridge: in every field of hooks, records, pushes, questions and spool files,
// and in headers and paths. None comes out: not in a metric, a page, an answer of ours, a log or a file of ours.

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { capturedBodies, pushes } from './fuzz/inputs.ts';
import { killableBridge } from './killable-bridge.ts';
import { freePort, until } from './prometheus-server.ts';
import { eventsBy } from './scrape.ts';

const CANARY = 'CANARY7f3a9c';
/** As secrets look, each in a form that is no valid id, name or number. */
const SECRETS: Readonly<Record<string, string>> = {
  'a prompt': `${CANARY} please refactor\nthe payments module`,
  'a path': `/home/${CANARY}/clients/`,
  'an e-mail': `${CANARY}@example.com\u0000`,
  'a key': `sk-${CANARY}\n${'a1b2'.repeat(8)}`,
};
/** What must be whole for the rest of a message to be looked at. */
const KEPT =
  /^(type|hook|role|status|finish|kind|v|source|agent|id|sessionID|messageID|session|message|call|time|provider_id|account_id|timestamp)$/;

/** Every text of a value becomes the secret; names that decide what it is stay, unless all are to go. */
function planted(value: unknown, secret: string, isAll: boolean): unknown {
  if (Array.isArray(value)) return value.map((each) => planted(each, secret, isAll));
  if (typeof value === 'string') return secret;
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, of]) => [
    key,
    !isAll && KEPT.test(key) && typeof of === 'string' ? of : planted(of, secret, isAll),
  ]);
  return { ...Object.fromEntries(entries), [secret]: secret };
}

test('no secret of a sender comes out of a bridge', async (t) => {
  const hubPort = await freePort();
  const config = {
    hub: { listen: `127.0.0.1:${hubPort}` },
    log: { level: 'trace' },
    budgets: [{ name: 'all', limit_usd: 1, period: 'month' }],
  };
  const { bridge, pool } = await killableBridge(t, { connections: 4, config });
  await bridge.start();
  mkdirSync(bridge.spool, { recursive: true });
  const outputs: [what: string, text: string][] = [];
  const post = async (to: string, body: string, headers: Record<string, string> = {}) => {
    const answer = await pool.request({ path: to, method: 'POST', body, headers });
    outputs.push([`the answer of ${to.split('?')[0]}`, await answer.body.text()]);
  };
  const started = Date.now() - 1000;
  const turn = {
    ...{ v: 1, kind: 'turn', agent: 'opencode', id: { session: 's', message: 'm' }, provider: 'opencode', model: 'x' },
    ...{ project: 'p', status: 'ok', reason: 'r', upstream_provider: 'u', account_id: 'a', team: 't', user: 'u' },
    ...{ tokens: { input: 1 }, time: { started, completed: started + 1 } },
  };
  const tool = { ...turn, kind: 'tool', id: { session: 's', call: 'c' }, tool: 'bash', mcp_server: 'm' };
  const samples = [turn, tool, { ...turn, kind: 'session' }];
  const question = { agent: 'opencode', provider: 'anthropic', model: 'claude', tool: 'bash', project: 'p', user: 'u' };
  for (const [name, secret] of Object.entries(SECRETS)) {
    for (const isAll of [false, true]) {
      const plant = (value: unknown) => JSON.stringify(planted(value, secret, isAll));
      for (const body of capturedBodies()) {
        await post('/v1/hook/opencode', plant(body));
        await post('/v1/hook/claude_code', plant(body));
      }
      for (const sample of samples) await post('/v1/events', plant(sample));
      await post('/v1/verdict', plant(question));
      await post('/v1/explain', plant(question));
      const push = await fetch(`http://127.0.0.1:${hubPort}/v1/push`, { method: 'POST', body: plant(pushes()) });
      outputs.push(['the answer of the hub', await push.text()]);
      const whole = JSON.stringify({
        ...pushes(),
        snapshots: pushes().snapshots.map((each) => planted(each, secret, isAll)),
      });
      await fetch(`http://127.0.0.1:${hubPort}/v1/push`, { method: 'POST', body: whole });
      const file = path.join(bridge.spool, `${name.replaceAll(' ', '-')}-${isAll}.json`);
      writeFileSync(`${file}.tmp`, samples.map(plant).join('\n'));
      renameSync(`${file}.tmp`, file);
    }
    await post(`/v1/hook/${encodeURIComponent(secret)}?account_id=${encodeURIComponent(secret)}`, secret);
    await post(`/v1/${encodeURIComponent(secret)}`, secret, { 'x-secret': CANARY, authorization: `Bearer ${CANARY}` });
    await post('/v1/events', `{"${secret}`);
  }
  await until('the spool', async () => readdirSync(bridge.spool).every((name) => !name.endsWith('.json')), 200);
  const text = await bridge.scrape();
  outputs.push(['a scrape', text], ['the page', await (await fetch(bridge.url)).text()]);
  for (const route of ['/v1/status', '/v1/report?by=model', '/v1/report?by=turn', '/v1/report?by=project']) {
    const answer = await pool.request({ path: route, method: 'GET' });
    outputs.push([route, await answer.body.text()]);
  }
  outputs.push(['the viewer of the hub', await (await fetch(`http://127.0.0.1:${hubPort}/v1/snapshots`)).text()]);
  bridge.signal('SIGTERM');
  assert.equal(await bridge.ended(), 0);
  outputs.push(['the log', bridge.said]);
  for (const entry of readdirSync(bridge.stateDir, { recursive: true, withFileTypes: true })) {
    // Files in quarantine are the sender's own, and stay where it put them.
    if (!entry.isFile() || (entry.parentPath.endsWith('quarantine') && !entry.name.endsWith('.reason'))) continue;
    outputs.push([entry.name, readFileSync(path.join(entry.parentPath, entry.name), 'latin1')]);
  }
  for (const [what, said] of outputs) {
    const at = said.search(/CANARY/i);
    assert.equal(at, -1, `${what}: …${said.slice(Math.max(0, at - 100), at + 60)}…`);
  }
  const { received = 0, rejected = 0, recorded = 0 } = eventsBy(text).socket ?? {};
  assert.ok(recorded > 0 && rejected > 0 && received > 300, 'the messages were looked at');
  assert.ok(outputs.some(([what]) => what === 'ledger.db') && outputs.some(([what]) => what.endsWith('.reason')));
  t.diagnostic(
    `${received} events by the socket, ${recorded} recorded, ${rejected} rejected; ${outputs.length} outputs`,
  );
});
