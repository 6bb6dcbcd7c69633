// Remotes that answer anything: every route of a real server answers as a good one does, with parts replaced, under any
// status. Polls take what they can read, say what they cannot in their own words, and never fail.

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { Agent } from 'undici';
import { OpencodeConsole } from '../../src/poll/opencode-console.ts';
import { OpencodeConsoleLegacy } from '../../src/poll/opencode-console-legacy.ts';
import { OpencodeZen } from '../../src/poll/opencode-zen.ts';
import { standingOf } from '../../src/poll/standing.ts';
import { CONSOLE_PATHS, CONSOLE_ROUTES, GOOD_CONSOLE, NOW_MS } from '../poll/console-server.ts';
import { credentialOf, GO_USAGE, goWindows, MODELS, modelList } from '../poll/opencode-server.ts';
import { likeJson, likeText } from './inputs.ts';
import { assertClean, serovalAnswers } from './targets.ts';

const INTERVAL_MS = 60_000;
const TIMEOUT_MS = 5000;
const credential = credentialOf('0123456789abcdef', 'api_key_file');

interface Play {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

const status = fc.oneof(
  { weight: 8, arbitrary: fc.constant(200) },
  fc.constantFrom(204, 302, 400, 401, 403, 404, 429, 500),
);
const type = fc.oneof(
  { weight: 8, arbitrary: fc.constant('application/json') },
  fc.constantFrom('text/html', 'text/javascript', 'x/y; charset=\u00ff', ''),
);
const play = (body: fc.Arbitrary<string>): fc.Arbitrary<Play> => fc.record({ status, type, body });
const json = (sample: unknown) => play(likeJson([sample]).map((value) => JSON.stringify(value) ?? ''));

/** By path, what is answered there. */
const plays: fc.Arbitrary<Record<string, Play>> = fc.record({
  [MODELS]: json(modelList('glm-5', 'kimi-k3').body),
  [GO_USAGE]: json(goWindows({ rolling: 1, weekly: 42, monthly: 79 }).body),
  '/_server': play(likeText(serovalAnswers).map((bytes) => bytes.toString('latin1'))),
  ...Object.fromEntries(
    CONSOLE_ROUTES.map((route) => [CONSOLE_PATHS[route].replace(/\?.*/, ''), json(GOOD_CONSOLE[route])]),
  ),
});

function serverOf(current: { plays: Record<string, Play> }): Server {
  return createServer((request, response) => {
    const answer = current.plays[(request.url ?? '').replace(/\?.*/, '')];
    if (!answer) return response.writeHead(404).end();
    const location = answer.status === 302 ? { location: '/elsewhere' } : {};
    return response.writeHead(answer.status, { 'content-type': answer.type, ...location }).end(answer.body);
  });
}

/**
 * @param options.onInput called before every poll
 * @returns how many readings came of it
 * @throws Error with the seed when a promise is broken
 */
export async function fuzzProbes({
  inputs,
  seed,
  onInput,
}: {
  inputs: number;
  seed: number;
  onInput?: () => void;
}): Promise<number> {
  const current = { plays: {} as Record<string, Play> };
  const server = serverOf(current).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const dispatcher = new Agent();
  const common = { timeoutMs: TIMEOUT_MS, intervalMs: INTERVAL_MS, dispatcher };
  const workspaceId = `wrk_${'0'.repeat(26)}`;
  let readings = 0;
  try {
    const property = fc.asyncProperty(plays, async (answers) => {
      onInput?.();
      current.plays = answers;
      // Anew each time: what a probe remembers of an answer is no part of the next one.
      const probes = [
        new OpencodeZen({ key: credentialOf('sk-0123456789abcdef', 'api_key_file'), baseUrl, ...common }),
        new OpencodeConsole({ credential, baseUrl: `${baseUrl}/console`, ...common }),
        new OpencodeConsoleLegacy({ credential, baseUrl, workspaceId, ...common }),
      ];
      for (const probe of probes) {
        const report = await probe.ask(NOW_MS);
        assertClean(report);
        standingOf(report.readings.map(({ facts }) => facts));
        readings += report.readings.length;
      }
    });
    await fc.assert(property, { numRuns: inputs, seed });
    return readings;
  } finally {
    await dispatcher.destroy();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}
