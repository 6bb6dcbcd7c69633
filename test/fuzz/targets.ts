// Everything that reads what others wrote, each with inputs like the real ones. A target throws where a promise is broken.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { ConfigFailure, loadConfig, parseConfig } from '../../src/config.ts';
import { PermanentFailure } from '../../src/failure.ts';
import { createLog } from '../../src/log.ts';
import { accountIn, identityIn } from '../../src/nats/subjects.ts';
import { Policy } from '../../src/policy/policy.ts';
import { VerdictDesk } from '../../src/policy/verdict-desk.ts';
import * as console_ from '../../src/poll/opencode-console-routes.ts';
import { readSnapshot } from '../../src/poll/openusage.ts';
import { currentResult } from '../../src/poll/poll-result.ts';
import { parsePublished, publishedText } from '../../src/poll/published-result.ts';
import { parseSeroval, SerovalError } from '../../src/poll/seroval.ts';
import { readReport, takeQuestion } from '../../src/sources/socket-routes.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { encodeRecord } from '../../src/turn/encode-record.ts';
import { type Decoded, decodeBody, decodeHook, decodeRecord, HOOK_AGENTS } from '../../src/turn/normalize.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { decodeSnapshot } from '../../src/turn/usage-snapshot.ts';
import { GOOD_CONSOLE, NOW_MS } from '../poll/console-server.ts';
import { CANARY, capturedBodies, configurations, likeBodies, likeJson, likeText, pushes } from './inputs.ts';
import { otlpTargets } from './otlp-targets.ts';
import { settingsTargets } from './settings-targets.ts';

export interface FuzzTarget {
  readonly name: string;
  /** How many of a hundred inputs are for it. */
  readonly share: number;
  readonly inputs: fc.Arbitrary<unknown>;
  /** Reads one input. @throws what must not be thrown */
  readonly read: (input: never) => void;
}

const MESSAGE_MAX_CHARS = 400;
const ONE_LINE = /^[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]*$/u;

/** Whatever comes out is of one line and bounded, every number is one, and nothing of the canary is in it. */
export function assertClean(out: unknown, seen = new Set<object>()): void {
  if (typeof out === 'number') assert.ok(Number.isFinite(out), `a number that is none: ${out}`);
  if (typeof out === 'string') {
    assert.match(out, ONE_LINE);
    assert.ok(out.length <= MESSAGE_MAX_CHARS, `a text of ${out.length} characters`);
    assert.doesNotMatch(out, /CANARY prompt/);
  }
  if (typeof out !== 'object' || out === null || seen.has(out)) return;
  seen.add(out);
  for (const [key, value] of Object.entries(out)) {
    assertClean(key, seen);
    assertClean(value, seen);
  }
}

/** Besides, that what was decoded outlives its way through a stream. */
export function assertDecoded(decoded: readonly Decoded[]): void {
  for (const one of decoded) {
    if (one.type === 'poll') {
      const { result } = readSnapshot(one.poll.snapshot, { receivedMs: Date.now(), intervalMs: 1000 });
      assertClean(currentResult(result, Date.now()));
      assertClean(parsePublished(publishedText(result)));
    } else assertClean(one);
    if (one.type === 'event' || one.type === 'poll') {
      const [again] = decodeRecord(JSON.parse(JSON.stringify(encodeRecord(one))));
      assert.equal(again?.type, one.type, 'it is not taken again from the stream');
    }
  }
}

const START_MS = Date.now() - 60_000;
const turnRecord = {
  ...{ v: 1, kind: 'turn', agent: 'opencode', id: { session: 's1', message: 'm1' }, event_id: 'e1', status: 'ok' },
  ...{
    provider: 'openrouter',
    model: 'vendor/model-1',
    upstream_provider: 'google',
    project: 'shop',
    cost_usd: 0.0125,
  },
  ...{ tokens: { input: 1, output: 2, reasoning: 3, cache_read: 4, cache_write: 5 }, account_id: 'work' },
  time: { started: START_MS, completed: START_MS + 1000 },
};
const toolRecord = {
  ...{ v: 1, kind: 'tool', agent: 'opencode', id: { session: 's1', call: 'c1', message: 'm1' }, tool: 'bash' },
  ...{ status: 'ok', mcp_server: 'docs', time: { started: START_MS, completed: START_MS + 10 } },
};
const claudeHook = {
  ...{ hook_event_name: 'Stop', session_id: 's1', request_id: 'r1', timestamp: '2026-11-21T20:45:26.721Z' },
  ...{ model: 'claude-sonnet-4-5', cwd: '/home/dev/shop', usage: { input_tokens: 1, output_tokens: 2, cost_usd: 0.1 } },
};
const codexHook = {
  ...{ type: 'agent-turn-complete', session_id: 's1', turn_id: 't1', message_id: 'm1', model: 'gpt-5-codex' },
  ...{
    cwd: '/home/dev/shop',
    timestamp: START_MS,
    usage: { input_tokens: 9, cached_input_tokens: 3, output_tokens: 7 },
  },
};
const captured = capturedBodies();
const { snapshots } = pushes();
const hooks = [...captured, claudeHook, codexHook];
const records = [
  ...[turnRecord, toolRecord, { v: 1, kind: 'session', agent: 'opencode', id: { session: 's1' }, project: 'shop' }],
  ...hooks.map((payload) => ({ source: 'opencode', account_id: 'work', payload })),
  { source: 'claude_code', payload: claudeHook },
  { source: 'codex', payload: codexHook },
  ...snapshots.map((snapshot) => ({ v: 1, kind: 'poll', payload: snapshot })),
];
/** Bodies as they come by socket, spool and streams. */
const bodies = likeBodies(records);
/** Turns and tool calls of their own among them, so that much of what is hostile is booked. */
export const bookedBodies = fc.oneof(
  bodies,
  fc.tuple(likeJson([turnRecord, toolRecord]), fc.nat()).map(([record, at]) => {
    const { id } = (record ?? {}) as { id?: Record<string, unknown> };
    if (typeof id?.message === 'string') id.message = `m${at}`;
    if (typeof id?.call === 'string') id.call = `c${at}`;
    return Buffer.from(JSON.stringify(record) ?? '');
  }),
);

const frame = (payload: string) => `;0x${Buffer.byteLength(payload).toString(16).padStart(8, '0')};${payload}`;
const billing =
  '((self.$R=self.$R||{})["server-fn:1"]=[],($R=>$R[0]={balance:1234000000,monthlyLimit:50,reload:!0,timeMonthlyUsageUpdated:' +
  '$R[1]=new Date("2026-11-20T10:00:00.000Z"),subscription:null,lite:$R[2]={useBalance:!1}})($R["server-fn:1"]))';
const late = '((self.$R=self.$R||{})["x"]=[],($R=>$R[0]={a:1,late:$R[2]($R[18]={p:0,s:0,f:0})})($R["x"]))';
export const serovalAnswers = [
  billing.replace('null,lite', '$R[3]={plan:"20",useBalance:!0},subscriptionID:"sub_1",lite'),
  ...[billing, frame(billing), frame(late) + frame('($R=>$R[24]($R[18],$R[27]={b:[$R[27],2]}))($R["x"])')],
  '{"t":10,"i":0,"p":{"k":["n","s"],"v":[{"t":0,"s":3},{"t":1,"s":"a\\\\x3Cb"}]}}',
];

const question = {
  ...{ agent: 'opencode', provider: 'anthropic', model: 'claude-sonnet-4-5', called_model: 'sonnet', project: 'shop' },
  ...{
    upstream_provider: 'anthropic',
    tool: 'bash',
    account_id: 'work',
    priced: true,
    unchecked: 2,
    team: 'a',
    user: 'u',
  },
};
function verdictDesk(): VerdictDesk {
  const rules = parseConfig({
    budgets: [{ name: 'all', limit_usd: 5, period: 'month', hard: true, scope: { model: '*sonnet*' } }],
    guardrails: [{ name: 'models', models: { allow: ['claude-*', '*/*', '*a*b*c*'] } }],
  });
  const policy = new Policy({ rules, timeZone: 'UTC', standings: () => [] });
  const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });
  return new VerdictDesk({
    ...{ policy, fail: 'open', isPriced: () => false, counts: { add: () => {} }, log: createLog('silent') },
    labelsOf: ({ account_id: accountId, upstream_provider: upstreamHint, ...planned }, identity) =>
      attribution.labelsOf({ ...planned, accountId, upstreamHint }, identity),
  });
}

/** All targets; what they need goes with `end`. */
export function fuzzTargets(): { readonly targets: readonly FuzzTarget[]; readonly end: () => void } {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'toll-fuzz-'));
  const configFile = path.join(dir, 'tollbridge.yaml');
  const desk = verdictDesk();
  const published = snapshots.flatMap((snapshot) => {
    const decoded = decodeSnapshot(snapshot, {});
    if (decoded.type !== 'poll') return [];
    const { result } = readSnapshot(decoded.poll.snapshot, { receivedMs: NOW_MS, intervalMs: 1000 });
    return [JSON.parse(publishedText(result)) as unknown];
  });
  const targets: FuzzTarget[] = [
    {
      ...{ name: 'bodies', share: 20, inputs: bodies },
      read: (body: Buffer) => assertDecoded(decodeBody(body).map(({ decoded }) => decoded)),
    },
    {
      ...{ name: 'hooks', share: 20, inputs: fc.tuple(fc.constantFrom(...HOOK_AGENTS), likeJson(hooks)) },
      read: ([agent, payload]: [string, unknown]) => {
        const decoded = decodeHook(agent, payload, { accountId: CANARY, upstreamHint: 'openai' });
        assert.ok(decoded.length > 0);
        assertDecoded(decoded);
      },
    },
    ...otlpTargets(8),
    ...settingsTargets(2),
    {
      ...{ name: 'snapshots of a hub', share: 12, inputs: likeJson(snapshots) },
      read: (snapshot: unknown) => assertDecoded([decodeSnapshot(snapshot, { machine: 'm' })]),
    },
    {
      ...{ name: 'readings in a stream', share: 8, inputs: fc.oneof(likeBodies(published), likeText(['{}'])) },
      read: (bytes: Buffer) => assertClean(parsePublished(bytes.toString('utf8'))),
    },
    {
      ...{
        name: 'subjects',
        share: 5,
        inputs: likeText(['toll.turns.a.b', 'toll.turns.3.=2E.=C3=A9', 'toll.polls.a.b']),
      },
      read: (bytes: Buffer) => {
        assertClean(identityIn(bytes.toString('utf8')));
        assertClean(accountIn(bytes.toString('utf8')));
      },
    },
    {
      ...{ name: 'answers of the console', share: 8, inputs: likeJson(Object.values(GOOD_CONSOLE)) },
      read: (json: unknown) => {
        const { readStatus, readAutoRecharge, readBudget, readSummary, readGoStatus } = console_;
        for (const reader of [readStatus, readAutoRecharge, readBudget, readSummary, readGoStatus]) {
          assertClean(reader(json));
        }
        // The id of an organisation is taken as it is, because only its digest goes on.
        assertClean(console_.readAccount(json)?.creditLimitNano);
        assertClean(console_.dayWindows(console_.readDays(json) ?? [], NOW_MS));
        assertClean(console_.byModel(console_.readModelsPage(json)?.rows ?? [], 'month'));
      },
    },
    {
      ...{ name: 'seroval', share: 6, inputs: likeText(serovalAnswers) },
      read: (bytes: Buffer) => {
        try {
          parseSeroval(bytes.toString('utf8'));
        } catch (error) {
          assert.ok(error instanceof SerovalError, String(error));
          assertClean(error.message);
        }
      },
    },
    {
      ...{
        name: 'questions',
        share: 6,
        inputs: fc.oneof(
          likeJson([question]).map((one) => Buffer.from(JSON.stringify(one) ?? '')),
          likeText([JSON.stringify(question)]),
        ),
      },
      read: (body: Buffer) => {
        for (const ask of [desk.answer, desk.explain]) {
          const { status, body: answer } = takeQuestion(body, (asked) => ask.call(desk, asked, { team: 'a' }));
          assert.ok(status === 200 || status === 400, String(status));
          assertClean(answer);
        }
      },
    },
    {
      ...{ name: 'queries', share: 3, inputs: likeText(['by=model&from_ms=1&to_ms=2', 'by=session']) },
      read: (bytes: Buffer) => {
        const { status, body } = readReport(bytes.toString('latin1'), (by, span) => ({ by, span }));
        assert.ok(status === 200 || status === 400);
        assertClean(body);
      },
    },
    {
      ...{ name: 'configurations', share: 2, inputs: likeText(configurations()) },
      read: (bytes: Buffer) => {
        writeFileSync(configFile, bytes);
        try {
          assert.equal(typeof loadConfig(configFile).state_dir, 'string');
        } catch (error) {
          assert.ok(error instanceof PermanentFailure, (error as Error).stack ?? String(error));
          if (error instanceof ConfigFailure) assert.ok(error.mistakes.length > 0);
          assert.match(error.message.replaceAll('\n', ' '), ONE_LINE);
        }
      },
    },
  ];
  return { targets, end: () => rmSync(dir, { recursive: true, force: true }) };
}
