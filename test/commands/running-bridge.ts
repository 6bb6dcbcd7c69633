// A real bridge in a scratch folder, for tests of commands that ask it.

import type { TestContext } from 'node:test';
import { Bridge } from '../../src/bridge.ts';
import { createLog } from '../../src/log.ts';
import { post } from '../sources/intake-fixture.ts';
import { scratchConfig } from './bridge-fixture.ts';

/** Starts it without accounts; `send` posts records to its socket and resolves to the status of the answer. */
export async function runBridge(t: TestContext, settings: Record<string, unknown> = {}) {
  const config = scratchConfig(t, { metrics: { listen: '127.0.0.1:0' }, time_zone: 'Europe/Berlin', ...settings });
  const bridge = await Bridge.start({ config, log: createLog('silent'), env: {} });
  t.after(() => bridge.stop());
  const send = async (...records: object[]) => (await post(config.socket.path, '/v1/events', records)).status;
  const scrape = async () => (await fetch(`${bridge.metricsUrl}/metrics`)).text();
  return { config, bridge, send, scrape };
}

/** The record of a turn that completed at a moment (Unix ms). */
export function recordOf(message: string, completedMs: number, said: Record<string, unknown> = {}) {
  return {
    ...{ v: 1, kind: 'turn', agent: 'opencode', id: { session: 'ses_1', message } },
    ...{ time: { started: completedMs - 1000, completed: completedMs }, provider: 'anthropic' },
    ...{ model: 'claude-sonnet-4-5', tokens: { input: 1000, cache_read: 9000 }, ...said },
  };
}
