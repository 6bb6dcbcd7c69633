// An agent that delivers by two roads: its turns are one where the roads share a key, suspected where they do not, and
// taken from one road where that is configured.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LedgerSink } from '../../src/sources/ledger-sink.ts';
import { Intake, type IntakeOptions } from '../../src/sources/source.ts';
import { Attribution } from '../../src/turn/attribution.ts';
import { decodeHook } from '../../src/turn/normalize.ts';
import { Conversations } from '../../src/turn/otlp/conversations.ts';
import { decodeLogs } from '../../src/turn/otlp/decode.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import { CountingMeter, MemoryLedger } from './intake-fixture.ts';

const AT_MS = Date.UTC(2026, 10, 21);
const attributes = {
  'event.name': 'api_request',
  'session.id': 's1',
  request_id: 'req_1',
  model: 'claude-opus-5-5',
  input_tokens: 10,
  output_tokens: 20,
} as const;
const exported = (changes: object = {}) =>
  decodeLogs(
    [
      {
        scope: 'com.anthropic.claude_code.events',
        timeNs: BigInt(AT_MS) * 1_000_000n,
        attributes: { ...attributes, ...changes },
      },
    ],
    new Conversations(),
  ).filter((item) => item.type !== 'event' || item.event.kind !== 'session');
const hooked = (changes: object = {}) =>
  decodeHook(
    'claude_code',
    {
      ...{ hook_event_name: 'Stop', session_id: 's1', message_id: 'msg_1', timestamp: AT_MS + 50 },
      ...{ model: 'claude-opus-5-5', usage: { input_tokens: 10, output_tokens: 20 }, ...changes },
    },
    {},
  );

function newIntake(roads: IntakeOptions['roads'] = {}) {
  const ledger = new MemoryLedger();
  const meter = new CountingMeter();
  const attribution = new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name' });
  return { ledger, meter, intake: new Intake({ sink: new LedgerSink({ ledger, attribution }), meter, roads }) };
}
const keysOf = ({ events }: MemoryLedger) => events.map((event) => 'messageId' in event && event.messageId);

describe('by two roads', () => {
  it('a hook that states the request has the key of telemetry', async () => {
    const { ledger, intake } = newIntake();
    await intake.accept('otlp', exported(), {});
    await intake.accept('spool', hooked({ request_id: 'req_1' }), {});
    assert.deepEqual(new Set(keysOf(ledger)), new Set(['req:req_1']));
  });

  it('the same tokens under another id are suspected, once, and both are booked', async () => {
    const { ledger, meter, intake } = newIntake();
    await intake.accept('otlp', exported(), {});
    await intake.accept('spool', hooked(), {});
    assert.deepEqual(keysOf(ledger), ['req:req_1', 'msg_1']);
    assert.equal(meter.of('spool').twin, 1);
    assert.equal(meter.of('otlp').twin, undefined);
  });

  const ALONE: Readonly<Record<string, Parameters<typeof hooked>[0]>> = {
    'another session': { session_id: 's2' },
    'other tokens': { usage: { input_tokens: 10, output_tokens: 21 } },
    'another minute': { timestamp: AT_MS + 61_000 },
  };
  for (const [what, changes] of Object.entries(ALONE)) {
    it(`${what} is no duplicate`, async () => {
      const { meter, intake } = newIntake();
      await intake.accept('otlp', exported(), {});
      await intake.accept('spool', hooked(changes), {});
      assert.equal(meter.of('spool').twin, undefined);
    });
  }

  it('one source may bring equal turns', async () => {
    const { meter, intake } = newIntake();
    await intake.accept('otlp', [...exported(), ...exported({ request_id: 'req_2' })], {});
    assert.equal(meter.of('otlp').twin, undefined);
    assert.equal(meter.of('otlp').recorded, 2);
  });
});

describe('by the configured road', () => {
  for (const [road, taken] of [
    ['otlp', 'req:req_1'],
    ['hook', 'msg_1'],
  ] as const) {
    it(`${road}: what comes by the other is passed over`, async () => {
      const { ledger, meter, intake } = newIntake({ claude_code: road });
      await intake.accept('otlp', exported(), {});
      await intake.accept('spool', hooked(), {});
      assert.deepEqual(keysOf(ledger), [taken]);
      const other = road === 'otlp' ? 'spool' : 'otlp';
      assert.equal(meter.of(other)['ignored:other_source'], 1);
      for (const source of ['otlp', 'spool']) meter.assertConserved(source);
    });
  }

  it('another agent is not concerned', async () => {
    const { ledger, intake } = newIntake({ codex: 'hook' });
    await intake.accept('otlp', exported(), {});
    assert.equal(ledger.events.length, 1);
  });
});
