// A provider that bills exact, distinct amounts on every wire of `llm-wires.ts`, streamed.
//
// Steering: the model id (`bad-request` answers 400, `busy-once` answers 503 the first time, `slow` streams until the
// client leaves) and a plan in the prompt:
//   PLAN=[{"tool":"bash","args":{…}}, [{…},{…}], {"text":"done"}]
// makes one step per entry (an inner array is several calls in one step). A step's `status` says how the call is to end.
// The first segment of the URL is the provider's id, so that one server stands for all of them.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TokenCounts, TurnStatus } from '../../src/turn/turn-event.ts';
import { type Answer, type Asked, type Breath, type Send, WIRES, type Wire } from './llm-wires.ts';

const SLOW_CHUNK_MS = 50;

export interface PlannedCall {
  readonly tool: string;
  readonly args: unknown;
  /** How the call is to end; `ok` when not said. */
  readonly status?: TurnStatus;
}
export type PlannedStep = PlannedCall | readonly PlannedCall[] | { readonly text: string };

/** One request that reached the provider. */
export interface BilledCall {
  readonly provider: string;
  readonly model: string;
  /** What the agent asked for: a turn, or a title for the session, which it never reports. */
  readonly purpose: 'turn' | 'title';
  /** `refused`: 400 or 503, nothing billed. `left`: the client went away before the usage was sent. */
  outcome: 'billed' | 'refused' | 'left' | 'open';
  readonly tokens: TokenCounts;
  readonly tools: readonly PlannedCall[];
}

function plannedStep({ lastPrompt, stepsTaken, hasTools }: Asked): PlannedStep | undefined {
  if (!hasTools) return undefined;
  const plan = /^PLAN=(\[.*\])$/m.exec(lastPrompt)?.[1];
  return plan ? (JSON.parse(plan) as PlannedStep[])[stepsTaken] : undefined;
}

/** Every amount differs from call to call, and no two kinds of token are ever equal. */
function tokensOf(number: number, { billsReasoning, billsCacheWrites }: Wire): TokenCounts {
  return {
    input: 1000 + number,
    output: 100 + (number % 50),
    reasoning: billsReasoning ? 20 : 0,
    cache_read: 300 + 3 * number,
    cache_write: billsCacheWrites ? 40 + number : 0,
  };
}

async function readJson(request: IncomingMessage) {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

/** The provider, listening on a free port of 127.0.0.1 once started. */
export class MockLlm {
  readonly calls: BilledCall[] = [];
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch((error: unknown) => {
      this.problems.push(String(error));
      response.destroy();
    });
  });
  /** What went wrong in the mock itself, or was asked for and is not there. */
  readonly problems: string[] = [];

  /** Listens; gives the base URL, to which `/<provider>/v1` is added. */
  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = (request.url ?? '').replace(/\?.*/, '');
    const wire = WIRES.find(({ serves }) => serves.test(url));
    if (!wire) {
      this.problems.push(`${request.method} ${url} is not served`);
      response.writeHead(404).end();
      return;
    }
    const asked = wire.asked(url, (await readJson(request)) as never);
    const isTitle = /title generator/i.test(asked.system);
    const step = isTitle ? undefined : plannedStep(asked);
    const planned: readonly PlannedCall[] = !step || 'text' in step ? [] : 'tool' in step ? [step] : step;
    const number = this.calls.length + 1;
    const call: BilledCall = {
      provider: url.split('/')[1] ?? '',
      model: asked.model,
      purpose: isTitle ? 'title' : 'turn',
      outcome: 'open',
      tokens: tokensOf(number, wire),
      tools: planned,
    };
    this.calls.push(call);

    const isBusy = asked.model === 'busy-once' && !this.calls.some(({ outcome }) => outcome === 'refused');
    if ((asked.model === 'bad-request' && !isTitle) || isBusy) {
      call.outcome = 'refused';
      const code = isBusy ? 'overloaded_error' : 'invalid_request_error';
      const error = { type: code, code, message: 'the mock refuses this' };
      response.writeHead(isBusy ? 503 : 400, { 'content-type': 'application/json' }).end(JSON.stringify({ error }));
      return;
    }
    const isSlow = asked.model === 'slow' && !isTitle;
    const text = step && 'text' in step ? step.text : `Answer ${number}.`;
    const answer: Answer = {
      id: `mock_${number}`,
      model: asked.model,
      words: planned.length > 0 ? [] : isSlow ? Array.from({ length: 2000 }, () => 'slowly ') : text.split(/(?<= )/),
      calls: planned.map((one, i) => ({ id: `call_${number}_${i}`, name: one.tool, args: JSON.stringify(one.args) })),
      tokens: call.tokens,
    };
    if (!asked.isStream) throw new Error(`${url}: only streamed answers are played`);
    response.writeHead(200, { 'content-type': 'text/event-stream', 'request-id': `req_mock_${number}` });
    const send: Send = (event) => {
      const name = typeof event.type === 'string' ? `event: ${event.type}\n` : '';
      response.write(`${name}data: ${JSON.stringify(event)}\n\n`);
    };
    const breath: Breath = async () => {
      if (isSlow) await new Promise((resolve) => setTimeout(resolve, SLOW_CHUNK_MS));
      if (response.destroyed) throw new ClientLeft();
    };
    try {
      await wire.answer(send, answer, breath);
      response.write(wire.end);
      response.end();
      call.outcome = 'billed';
    } catch (error) {
      if (!(error instanceof ClientLeft)) throw error;
      call.outcome = 'left';
    }
  }
}

class ClientLeft extends Error {}
