import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Attribution, type AttributionOptions } from '../../src/turn/attribution.ts';
import { Pricing } from '../../src/turn/pricing.ts';
import type { PermissionEvent, SessionEvent, StatedEvent, StatedTurn, ToolEvent } from '../../src/turn/turn-event.ts';

const TURN: StatedTurn = {
  kind: 'turn',
  agent: 'opencode',
  sessionId: 's1',
  messageId: 'm1',
  phase: 'completed',
  status: 'ok',
  startedMs: 1_000,
  completedMs: 2_000,
  provider: 'OpenRouter',
  model: 'anthropic/claude-sonnet-4.5',
  project: 'secret-project',
  tokens: { input: 10, output: 5, reasoning: 0, cache_read: 0, cache_write: 0 },
  costNano: 42,
};
const TOOL: ToolEvent = {
  kind: 'tool',
  agent: 'opencode',
  sessionId: 's1',
  callId: 'c1',
  tool: 'bash',
  status: 'ok',
  project: 'secret-project',
  origin: 'part',
};
const SESSION: SessionEvent = { kind: 'session', agent: 'opencode', sessionId: 's1', project: 'secret-project' };
const PERMISSION: PermissionEvent = {
  kind: 'permission',
  agent: 'opencode',
  sessionId: 's1',
  requestId: 'p1',
  askedMs: 1_500,
};

function attribution(options: Partial<AttributionOptions> = {}): Attribution {
  return new Attribution({ gateways: {}, pricing: new Pricing([]), accounts: [], project: 'name', ...options });
}

describe('attribution of a turn', () => {
  it('adds exactly what our rules know and keeps everything that was stated', () => {
    const { provider: _, ...stated } = TURN;
    assert.deepEqual(attribution().attribute(TURN, { team: 'core', user: 'ada' }), {
      ...stated,
      provider: 'openrouter',
      upstreamProvider: 'anthropic',
      upstreamEvidence: 'model_id',
      pricing: 'stated',
      team: 'core',
      user: 'ada',
    });
  });

  it('passes no hint and no stated account on, and leaves out what is not known', () => {
    const { project: _, costNano: __, ...bare } = TURN;
    const turn = attribution().attribute({ ...bare, upstreamHint: 'Google', accountId: 'mine' }, {});
    assert.equal(turn.kind === 'turn' && turn.upstreamProvider, 'google');
    assert.equal(turn.kind === 'turn' && turn.account, 'mine');
    for (const key of ['upstreamHint', 'accountId', 'project', 'costNano', 'estimatedNano', 'team', 'user']) {
      assert.ok(!(key in turn), key);
    }
  });

  it('asks the configured gateways under the provider id in lower case', () => {
    const turn = attribution({ gateways: { mine: 'zai' } }).attribute({ ...TURN, provider: 'MINE', model: 'm' }, {});
    assert.equal(
      turn.kind === 'turn' && `${turn.provider} ${turn.upstreamProvider} ${turn.upstreamEvidence}`,
      'mine zai config',
    );
  });

  it('estimates a cost that nobody stated', () => {
    const pricing = new Pricing([
      { provider: 'openrouter', model: '*', state: 'estimated', usd_per_million_tokens: { input: 3, output: 15 } },
    ]);
    const turn = attribution({ pricing }).attribute({ ...TURN, costNano: 0 }, {});
    assert.equal(turn.kind === 'turn' && turn.pricing, 'estimated');
    assert.equal(turn.kind === 'turn' && turn.estimatedNano, 105_000);
    const stated = attribution({ pricing }).attribute(TURN, {});
    assert.equal(stated.kind === 'turn' && stated.pricing, 'stated');
    assert.ok(!('estimatedNano' in stated));
  });

  it('does not change what it was given', () => {
    const turn = Object.freeze({ ...TURN, upstreamHint: 'Google' });
    attribution({ project: 'hash' }).attribute(turn, Object.freeze({ team: 'core' }));
    assert.equal(turn.project, 'secret-project');
  });
});

describe('the account of a turn', () => {
  const zen = { provider: 'opencode', id: 'Zen-Main' };
  const go = { provider: 'opencode-go', id: 'go' };
  const router = { provider: 'openrouter', id: 'router' };
  const second = { provider: 'openrouter', id: 'second' };
  for (const [title, accounts, provider, accountId, expected] of [
    ['the only one of its provider', [zen, router], 'openrouter', undefined, 'router'],
    ['absent where two could have paid', [router, second], 'openrouter', undefined, undefined],
    ['absent where none could have paid', [zen], 'openrouter', undefined, undefined],
    ['named, in its configured spelling', [zen, router], 'opencode', 'zen-MAIN', 'Zen-Main'],
    ['named, out of two', [router, second], 'openrouter', 'SECOND', 'second'],
    ['named, at another provider', [zen, router], 'openrouter', 'zen-main', 'Zen-Main'],
    [
      'named, the one of its own provider first',
      [
        { ...zen, id: 'MAIN' },
        { ...router, id: 'main' },
      ],
      'openrouter',
      'Main',
      'main',
    ],
    ['named but not configured: as it is', [zen, router], 'openrouter', 'opencode', 'opencode'],
    ['a blank name is none', [router], 'openrouter', ' ', 'router'],
    ['Go is paid by the account of Zen', [zen], 'opencode-go', undefined, 'Zen-Main'],
    ['Go has an account of its own', [zen, go], 'opencode-go', undefined, 'go'],
    ['Zen is not paid by an account of Go', [go], 'opencode', undefined, undefined],
    [
      'providers are compared in lower case',
      [{ ...router, provider: 'OpenRouter' }],
      'OPENROUTER',
      undefined,
      'router',
    ],
  ] as const) {
    it(title, () => {
      const event = { ...TURN, provider, ...(accountId !== undefined && { accountId }) };
      const turn = attribution({ accounts }).attribute(event, {});
      assert.equal(turn.kind === 'turn' ? turn.account : 'no turn', expected);
      assert.equal('account' in turn, expected !== undefined);
    });
  }
});

describe('the project of an event', () => {
  it('a credential that is bound to a project has the last word on it, and its name is shown as any other', () => {
    const { project: _, ...unnamed } = SESSION;
    const shownBy = (mode: 'name' | 'hash' | 'off', event: StatedEvent) => {
      const shown = attribution({ project: mode }).attribute(event, { project: 'shop' });
      return 'project' in shown ? shown.project : undefined;
    };
    for (const event of [TURN, TOOL, SESSION, unnamed]) {
      assert.equal(shownBy('name', event), 'shop');
      // The first 12 digits of SHA-256("shop"), as sha256sum prints them.
      assert.equal(shownBy('hash', event), '8d9001d32c6a');
      assert.equal(shownBy('off', event), undefined);
    }
  });

  // The first 12 digits of SHA-256("secret-project"), as sha256sum prints them.
  const HASH = '2cdd4451155b';
  for (const event of [TURN, TOOL, SESSION]) {
    for (const [mode, expected] of [
      ['name', 'secret-project'],
      ['hash', HASH],
      ['off', undefined],
    ] as const) {
      it(`of a ${event.kind} is ${expected ?? 'left out'} in mode ${mode}`, () => {
        const shown = attribution({ project: mode }).attribute(event, {});
        assert.equal('project' in shown ? shown.project : undefined, expected);
        assert.equal('project' in shown, expected !== undefined);
        assert.equal(JSON.stringify(shown).includes('secret-project'), mode === 'name');
      });
    }
  }

  it('is not made up where none was stated', () => {
    const { project: _, ...session } = SESSION;
    assert.deepEqual(attribution({ project: 'hash' }).attribute(session, {}), session);
  });
});

describe('events that are no turns', () => {
  it('keep everything and get no identity', () => {
    for (const event of [TOOL, SESSION, PERMISSION]) {
      assert.deepEqual(attribution().attribute(event, { team: 'core', user: 'ada' }), event);
    }
  });
});
