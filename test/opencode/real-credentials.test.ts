// The database that a real OpenCode makes for itself: its console credential is found in it, and used.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { parseConfig } from '../../src/config.ts';
import { findAccounts } from '../../src/poll/detect.ts';
import { OpencodeAccount } from '../../src/poll/opencode-account.ts';
import { NOW_MS, ORG_ID, SESSION_TOKEN, startConsole } from '../poll/console-server.ts';
import { findOpenCode, layOut } from './drive.ts';

test('the console session in the database of a real OpenCode is found, and sent with its organisation', async (t) => {
  const root = mkdtempSync(path.join(tmpdir(), 'tb-oc-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const { env, home } = layOut(root, 'http://127.0.0.1:9');
  execFileSync(findOpenCode(), ['auth', 'list'], { env, stdio: 'ignore', timeout: 60_000 });
  const folder = path.join(env.XDG_DATA_HOME!, 'opencode');
  const find = () => findAccounts({ config: parseConfig({}), env, home, platform: process.platform });
  assert.deepEqual(find(), { accounts: [], notes: [] }, 'one without a credential is passed over in silence');

  const server = await startConsole(t);
  const seen: (string | undefined)[] = [];
  const status = server.plays['/console/api/billing/status']!;
  server.plays['/console/api/billing/status'] = (request) => {
    seen.push(request.headers.authorization, String(request.headers['x-org-id']));
    return typeof status === 'function' ? undefined : status;
  };
  const metadata = { server: `${server.url}/console`, accountID: 'acc_1', email: 'ada@example.com', orgID: ORG_ID };
  const value = { type: 'oauth', methodID: 'device', access: SESSION_TOKEN, refresh: 'rt', expires: 1, metadata };
  const db = new DatabaseSync(path.join(folder, 'opencode.db'));
  db.prepare(
    "INSERT INTO credential (id, integration_id, label, value, active, time_created, time_updated) VALUES ('cred_1', 'opencode', 'x', ?, 1, 1, 1)",
  ).run(JSON.stringify(value));
  db.close();

  const [refused] = find().notes;
  assert.match(refused ?? '', /can be read by other users of this machine, so it is not used: close it with chmod 600/);
  for (const name of readdirSync(folder)) if (/\.db/.test(name)) chmodSync(path.join(folder, name), 0o600);
  const { accounts, notes } = find();
  assert.deepEqual([accounts.length, notes], [1, []]);
  const account = new OpencodeAccount({
    account: { ...accounts[0]!, consoleUrl: `${server.url}/console` },
    ...{ timeoutMs: 10_000, intervalMs: 30_000, consoleIntervalMs: 300_000, dispatcher: server.dispatcher },
  });
  const { result } = await account.poll(account.probes[0]!, NOW_MS);
  assert.deepEqual([result.status, result.message], ['ok', '$42.50 balance']);
  assert.deepEqual(seen, [`Bearer ${SESSION_TOKEN}`, ORG_ID]);
});
