// The proof with a real OpenCode that verdicts hold: what is over its budget never reaches the provider, and the user
// reads why.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { installOpencode } from '../../src/commands/install.ts';
import { parseConfig } from '../../src/config.ts';
import { ALLOW, STOP, VerdictServer, WARN } from '../plugin/verdict-server.ts';
import { findOpenCode, layOut, OpenCode, PROJECT, run, type Scratch } from './drive.ts';
import { MockLlm, type PlannedStep } from './mock-llm.ts';

const TIMED_TURNS = 15;
const NO_ANSWER = 'Tollbridge refused this call: its bridge did not answer';

const root = mkdtempSync(path.join(tmpdir(), 'tb-oc-'));
const socket = path.join(root, 'b.sock');
const binary = findOpenCode();
const llm = new MockLlm();
let scratch: Scratch;

before(async () => {
  scratch = layOut(root, await llm.start());
  const config = parseConfig({ socket: { path: socket }, spool: { dir: path.join(root, 'spool') } });
  installOpencode({ config, home: scratch.home, env: scratch.env });
});

after(async () => {
  await llm.stop();
  rmSync(root, { recursive: true, force: true });
});

const done: PlannedStep = { text: 'all done' };
const touch = (name: string): PlannedStep => ({ tool: 'bash', args: { command: `touch ${name}`, description: 'x' } });
const isThere = (name: string) => existsSync(path.join(scratch.project, name));
const withEnv = (env: Record<string, string>): Scratch => ({ ...scratch, env: { ...scratch.env, ...env } });

const withoutColours = (text: string) => text.replace(new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, 'g'), '');

/** Does something while a bridge answers, and gives how many calls reached the provider meanwhile. */
async function judged<T>(act: (bridge: VerdictServer) => Promise<T>): Promise<{ result: T; calls: number }> {
  const bridge = new VerdictServer();
  await bridge.start(socket);
  const before = llm.calls.length;
  try {
    return { result: await act(bridge), calls: llm.calls.length - before };
  } finally {
    await bridge.stop();
  }
}

test('opencode run under its budget: the provider is called, and a warning is on stderr once', async () => {
  const { result, calls } = await judged(async (bridge) => {
    bridge.reply = WARN;
    const ran = await run(binary, scratch, [touch('run-under'), done]);
    const asked = { agent: 'opencode', provider: 'my-gateway', project: PROJECT, priced: true };
    const step = { ...asked, model: 'gpt-5.1' };
    const said = new Set(bridge.questions.map((question) => JSON.stringify(Object.entries(question).sort())));
    const expected = [{ ...asked, model: 'small' }, step, { ...step, tool: 'bash' }];
    assert.deepEqual([...said].sort(), expected.map((one) => JSON.stringify(Object.entries(one).sort())).sort());
    return ran;
  });
  assert.equal(result.code, 0, result.stderr);
  assert.equal(calls, 3, 'a title and two steps');
  assert.equal(result.stdout.trim(), 'all done');
  assert.equal(result.stderr.split(WARN.message).length - 1, 1, result.stderr);
  assert.ok(isThere('run-under'));
});

test('opencode run over its budget: the provider is not called, the user reads why, and it ends badly', async () => {
  const { result, calls } = await judged((bridge) => {
    bridge.reply = STOP;
    return run(binary, scratch, [touch('run-over'), done]);
  });
  assert.notEqual(result.code, 0);
  assert.equal(calls, 0, 'neither a step nor a title');
  assert.ok(withoutColours(result.stderr).includes(`Error: ${STOP.message}`), result.stderr);
  assert.doesNotMatch(result.stderr, /^\s+at /m, 'no stack');
  assert.ok(!isThere('run-over'));
});

test('opencode run without a bridge: it goes ahead when that was left open, and not when it was closed', async () => {
  const open = await run(binary, scratch, [done]);
  assert.equal(open.code, 0, open.stderr);
  assert.doesNotMatch(open.stderr, /Tollbridge/, 'who is not known to have rules is not bothered');

  const before = llm.calls.length;
  const closed = await run(binary, withEnv({ TOLLBRIDGE_FAIL: 'closed' }), [done]);
  assert.notEqual(closed.code, 0);
  assert.equal(llm.calls.length, before);
  assert.ok(withoutColours(closed.stderr).includes(`Error: ${NO_ANSWER}`), closed.stderr);
});

test('a running OpenCode follows every verdict', async (t) => {
  const openCode = await OpenCode.start(binary, scratch);
  /** One turn in a session of its own: how it ended, and how many of its steps reached the provider. */
  const turn = async (steps: readonly PlannedStep[]) => {
    const before = llm.calls.length;
    const session = await openCode.newSession();
    const { info } = await openCode.prompt(session, steps);
    const tools = (await openCode.messages(session)).flatMap(({ parts }) =>
      parts.filter(({ type }) => type === 'tool'),
    );
    const calls = llm.calls.slice(before).filter(({ purpose }) => purpose === 'turn').length;
    return { error: info.error?.data.message, calls, tools: tools.map(({ state }) => state) };
  };
  const stopAfterFirstCall = (bridge: VerdictServer, in_flight: 'finish' | 'stop') => {
    bridge.reply = ({ tool, model }) => {
      if (!tool && model === 'gpt-5.1') bridge.reply = { ...STOP, in_flight };
      return ALLOW;
    };
  };
  try {
    await t.test('a denied tool does not run, and the turn goes on to its end', async () => {
      await judged(async (bridge) => {
        bridge.reply = ({ tool }) => (tool === 'bash' ? STOP : ALLOW);
        const { error, calls, tools } = await turn([touch('denied'), done]);
        assert.deepEqual([error, calls], [undefined, 2]);
        assert.deepEqual([tools[0]?.status, tools[0]?.error], ['error', STOP.message]);
        assert.ok(!isThere('denied'));
      });
    });
    await t.test('control: the same tool runs when it is allowed', async () => {
      await judged(async () => {
        const { error, calls, tools } = await turn([touch('allowed'), done]);
        assert.deepEqual([error, calls, tools[0]?.status], [undefined, 2, 'completed']);
        assert.ok(isThere('allowed'));
      });
    });
    await t.test('a prompt under way may finish', async () => {
      await judged(async (bridge) => {
        stopAfterFirstCall(bridge, 'finish');
        const { error, calls } = await turn([touch('finished'), done]);
        assert.deepEqual([error, calls], [undefined, 2]);
        assert.ok(isThere('finished'));
        assert.deepEqual(await turn([done]), { error: STOP.message, calls: 0, tools: [] }, 'a new one does not begin');
      });
    });
    await t.test('a prompt under way is stopped', async () => {
      await judged(async (bridge) => {
        stopAfterFirstCall(bridge, 'stop');
        const { error, calls } = await turn([touch('stopped'), done]);
        assert.deepEqual([error, calls], [STOP.message, 1]);
        assert.ok(!isThere('stopped'));
      });
    });
    for (const [name, reply] of [
      ['hangs', 'never'],
      ['answers nonsense', { status: 200, body: '<html>' }],
    ] as const) {
      await t.test(`a bridge that ${name} leaves it to what it said last: refuse`, async () => {
        await judged(async (bridge) => {
          bridge.reply = { ...ALLOW, fail: 'closed' };
          assert.equal((await turn([done])).calls, 1);
          bridge.reply = reply;
          const { error, calls } = await turn([done]);
          assert.equal(calls, 0);
          assert.ok(error?.startsWith(NO_ANSWER), error);
        });
      });
      await t.test(`a bridge that ${name} leaves it to what it said last: let through`, async () => {
        await judged(async (bridge) => {
          bridge.reply = { ...ALLOW, fail: 'open' };
          assert.equal((await turn([done])).calls, 1);
          bridge.reply = reply;
          assert.deepEqual(await turn([touch(`open-${name}`), done]).then(({ error, calls }) => [error, calls]), [
            undefined,
            2,
          ]);
          assert.ok(bridge.questions.length > 3, 'it was asked');
        });
      });
    }
  } finally {
    await openCode.stop();
  }
});

test('what asking adds to a turn', async (t) => {
  /** Milliseconds per turn, sorted. */
  const timed = async (scratchOf: Scratch) => {
    const openCode = await OpenCode.start(binary, scratchOf);
    try {
      const session = await openCode.newSession();
      await openCode.prompt(session, [done]);
      const times: number[] = [];
      for (let n = 0; n < TIMED_TURNS; n++) {
        const startMs = performance.now();
        await openCode.prompt(session, [done]);
        times.push(performance.now() - startMs);
      }
      return times.sort((a, b) => a - b);
    } finally {
      await openCode.stop();
    }
  };
  const median = (times: readonly number[]) => times[Math.floor(times.length / 2)] as number;
  await judged(async (bridge) => {
    const asking = await timed(scratch);
    assert.ok(bridge.questions.length > TIMED_TURNS, 'every turn asked');
    const asked = bridge.questions.length;
    const without = await timed(withEnv({ TOLLBRIDGE_DISABLED: '1' }));
    assert.equal(bridge.questions.length, asked, 'control: without the plugin nobody asks');
    t.diagnostic(
      `median of ${TIMED_TURNS} turns: ${median(asking).toFixed(1)} ms asking every time, ` +
        `${median(without).toFixed(1)} ms without the plugin`,
    );
  });
});
