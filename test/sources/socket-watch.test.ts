import assert from 'node:assert/strict';
import { lstatSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { describe, test } from 'node:test';
import { ask, post, startServer, turnPayload, until } from './intake-fixture.ts';

const HOOK = '/v1/hook/opencode';

describe('a socket file that goes away', () => {
  const WATCHED = { watchEveryMs: 5 };
  for (const [what, takeAway] of [
    ['deleted', (file: string) => unlinkSync(file)],
    ['deleted with its folder', (file: string) => rmSync(path.dirname(file), { recursive: true })],
    ['moved away', (file: string) => renameSync(file, `${file}.old`)],
  ] as const) {
    test(`${what}: noticed, said once, and made anew`, async (t) => {
      const { socket, server, sink, meter, log } = await startServer(t, WATCHED);
      const states: boolean[] = [];
      meter.up = (_source, isUp) => void states.push(isUp);
      takeAway(socket);
      await until(() => lstatSync(socket, { throwIfNoEntry: false })?.isSocket() ?? false);
      assert.equal((await post(socket, HOOK, turnPayload(1))).status, 200);
      await until(() => states.at(-1) === true);
      assert.ok(states.includes(false));
      assert.equal(server.problem(), undefined);
      assert.equal(log.length, 1, log.join());
      assert.match(log[0]!, /deleted or replaced.*made anew/);
      await server.stop();
      assert.equal(sink.events.length, 1);
      assert.equal(lstatSync(socket, { throwIfNoEntry: false }), undefined);
    });
  }

  test('replaced by something else: told until the place is free', async (t) => {
    const { socket, server, meter, log } = await startServer(t, WATCHED);
    unlinkSync(socket);
    writeFileSync(socket, 'in the way');
    await until(() => server.problem() !== undefined);
    assert.match(server.problem()!, /deleted or replaced.*not a socket.*Move it away/);
    assert.equal(meter.upStates.socket, false);
    unlinkSync(socket);
    await until(() => server.problem() === undefined);
    assert.equal(meter.upStates.socket, true);
    assert.equal((await ask(socket, '/healthz')).status, 200);
    assert.equal(log.filter((line) => /not a socket/.test(line)).length, 1, 'said once, not at every look');
  });

  test('taken by another bridge: told, and the other one lives on', async (t) => {
    const { socket, server } = await startServer(t, WATCHED);
    const other = http.createServer((_request, response) => response.end('{"other":true}'));
    t.after(() => other.close());
    unlinkSync(socket);
    await new Promise<void>((resolve) => other.listen(socket, resolve));
    await until(() => server.problem() !== undefined);
    assert.match(server.problem()!, /Another bridge is already running/);
    assert.equal((await ask(socket, '/')).json.other, true);
    await server.stop();
    assert.equal((await ask(socket, '/')).json.other, true);
  });

  test('who is connected is served on, and stop ends those connections too', async (t) => {
    const { socket, server, sink, log } = await startServer(t, WATCHED);
    const commit = Promise.withResolvers<void>();
    sink.beforeCommit = () => commit.promise;
    const answer = post(socket, HOOK, turnPayload(1));
    await until(() => sink.attempts === 1);
    unlinkSync(socket);
    await until(() => log.length === 1);
    commit.resolve();
    assert.equal((await answer).status, 200);
    await server.stop();
  });

  test('an error of the listener is told and harms nobody', async (t) => {
    const created: http.Server[] = [];
    const createServer = http.createServer.bind(http) as (...args: unknown[]) => http.Server;
    t.mock.method(http, 'createServer', (...args: unknown[]) => {
      created.push(createServer(...args));
      return created.at(-1)!;
    });
    const { socket, server, meter, log } = await startServer(t);
    created[0]!.emit('error', new Error('accept ENFILE'));
    assert.match(server.problem()!, /accept ENFILE/);
    assert.equal(meter.upStates.socket, false);
    assert.equal(log.length, 1);
    assert.equal((await ask(socket, '/healthz')).status, 200);
  });
});
