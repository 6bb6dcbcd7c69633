// A model provider that bills exact, distinct amounts: OpenAI chat completions and Anthropic messages, streamed and not.
//
// Steering: the model id (`bad-request` answers 400, `slow` streams until the client leaves) and a plan in the prompt:
//   PLAN=[{"tool":"bash","args":{…}}, [{…},{…}], {"text":"done"}]
// makes one step per entry (an inner array is several calls in one step). A step's `status` says how the call is to end.
// The first segment of the URL is the provider's id, so that one server stands for all of them.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TokenCounts, TurnStatus } from '../../src/turn/turn-event.ts';

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
  /** What OpenCode asked for: a turn, or a title for the session, which it never reports. */
  readonly purpose: 'turn' | 'title';
  /** `refused`: 400, nothing billed. `left`: the client went away before the usage was sent. */
  outcome: 'billed' | 'refused' | 'left' | 'open';
  readonly tokens: TokenCounts;
  readonly tools: readonly PlannedCall[];
}

interface ChatMessage {
  role?: string;
  content?: unknown;
  tool_calls?: unknown;
}

interface RequestBody {
  readonly model: string;
  readonly stream?: boolean;
  readonly system?: unknown;
  readonly tools?: readonly unknown[];
  readonly messages: readonly ChatMessage[];
}

interface Asked {
  readonly wire: 'chat' | 'messages';
  readonly provider: string;
  readonly model: string;
  readonly isStream: boolean;
  readonly system: string;
  readonly lastPrompt: string;
  readonly stepsTaken: number;
  /** Without tools on offer (a title, a compaction) no plan is followed: the prompt is only quoted then. */
  readonly hasTools: boolean;
}

interface Answer {
  readonly id: string;
  readonly words: readonly string[];
  readonly calls: readonly { readonly id: string; readonly name: string; readonly args: string }[];
  readonly tokens: TokenCounts;
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content.map((part: { text?: string }) => part.text ?? '').join('\n');
}

const hasBlock = (content: unknown, type: string) =>
  Array.isArray(content) && content.some((part: { type?: string }) => part.type === type);

function understand(url: string, body: RequestBody): Asked {
  const wire = url.endsWith('/messages') ? 'messages' : 'chat';
  let system = textOf(body.system);
  let lastPrompt = '';
  let stepsTaken = 0;
  for (const { role, content, tool_calls } of body.messages) {
    if (role === 'system' || role === 'developer') system += textOf(content);
    else if (role === 'user' && !hasBlock(content, 'tool_result')) {
      lastPrompt = textOf(content);
      stepsTaken = 0;
    } else if (role === 'assistant' && (tool_calls || hasBlock(content, 'tool_use'))) stepsTaken++;
  }
  const provider = url.split('/')[1] ?? '';
  return {
    wire,
    provider,
    model: body.model,
    isStream: body.stream === true,
    system,
    lastPrompt,
    stepsTaken,
    hasTools: (body.tools?.length ?? 0) > 0,
  };
}

function plannedStep({ lastPrompt, stepsTaken, hasTools }: Asked): PlannedStep | undefined {
  if (!hasTools) return undefined;
  const plan = /^PLAN=(\[.*\])$/m.exec(lastPrompt)?.[1];
  return plan ? (JSON.parse(plan) as PlannedStep[])[stepsTaken] : undefined;
}

/** Every amount differs from call to call, and no two kinds of token are ever equal. */
function tokensOf(number: number, wire: Asked['wire']): TokenCounts {
  return {
    input: 1000 + number,
    output: 100 + (number % 50),
    reasoning: wire === 'chat' ? 20 : 0,
    cache_read: 300 + 3 * number,
    cache_write: wire === 'messages' ? 40 + number : 0,
  };
}

type Send = (event: Record<string, unknown>) => void;
type Breath = () => Promise<void>;

async function streamChat(send: Send, answer: Answer, breath: Breath): Promise<void> {
  const { tokens, calls } = answer;
  const chunk = (choice: object, rest: object = {}) =>
    send({ id: answer.id, object: 'chat.completion.chunk', created: 1, model: 'mock', choices: [choice], ...rest });
  const delta = (part: object) => chunk({ index: 0, delta: part, finish_reason: null });
  delta({ role: 'assistant', content: '' });
  if (tokens.reasoning > 0) delta({ reasoning_content: 'Thinking.' });
  for (const [index, { id, name, args }] of calls.entries()) {
    delta({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: args } }] });
  }
  for (const content of answer.words) {
    delta({ content });
    await breath();
  }
  chunk({ index: 0, delta: {}, finish_reason: calls.length > 0 ? 'tool_calls' : 'stop' });
  send({
    id: answer.id,
    object: 'chat.completion.chunk',
    created: 1,
    model: 'mock',
    choices: [],
    usage: chatUsage(tokens),
  });
}

function chatUsage(tokens: TokenCounts) {
  const prompt = tokens.input + tokens.cache_read;
  const completion = tokens.output + tokens.reasoning;
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: tokens.cache_read },
    completion_tokens_details: { reasoning_tokens: tokens.reasoning },
  };
}

async function streamMessages(send: Send, answer: Answer, breath: Breath): Promise<void> {
  const { tokens, calls } = answer;
  const usage = {
    input_tokens: tokens.input,
    cache_read_input_tokens: tokens.cache_read,
    cache_creation_input_tokens: tokens.cache_write,
    output_tokens: 1,
  };
  const message = { id: answer.id, type: 'message', role: 'assistant', model: 'mock', content: [], usage };
  send({ type: 'message_start', message: { ...message, stop_reason: null, stop_sequence: null } });
  for (const [index, { id, name, args }] of calls.entries()) {
    send({ type: 'content_block_start', index, content_block: { type: 'tool_use', id, name, input: {} } });
    send({ type: 'content_block_delta', index, delta: { type: 'input_json_delta', partial_json: args } });
    send({ type: 'content_block_stop', index });
  }
  if (calls.length === 0) {
    send({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } });
    for (const text of answer.words) {
      send({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } });
      await breath();
    }
    send({ type: 'content_block_stop', index: 0 });
  }
  const stop_reason = calls.length > 0 ? 'tool_use' : 'end_turn';
  send({ type: 'message_delta', delta: { stop_reason, stop_sequence: null }, usage: { output_tokens: tokens.output } });
  send({ type: 'message_stop' });
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
    const url = request.url ?? '';
    if (!/\/(messages|chat\/completions)$/.test(url)) {
      this.problems.push(`${request.method} ${url} is not served`);
      response.writeHead(404).end();
      return;
    }
    const asked = understand(url, await readJson(request));
    const isTitle = /title generator/i.test(asked.system);
    const step = isTitle ? undefined : plannedStep(asked);
    const planned: readonly PlannedCall[] = !step || 'text' in step ? [] : 'tool' in step ? [step] : step;
    const number = this.calls.length + 1;
    const call: BilledCall = {
      provider: asked.provider,
      model: asked.model,
      purpose: isTitle ? 'title' : 'turn',
      outcome: 'open',
      tokens: tokensOf(number, asked.wire),
      tools: planned,
    };
    this.calls.push(call);

    if (asked.model === 'bad-request' && !isTitle) {
      call.outcome = 'refused';
      const error = { type: 'invalid_request_error', code: 'invalid_request_error', message: 'the mock refuses this' };
      response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ error }));
      return;
    }
    const isSlow = asked.model === 'slow' && !isTitle;
    const text = step && 'text' in step ? step.text : `Answer ${number}.`;
    const answer: Answer = {
      id: `mock_${number}`,
      words: planned.length > 0 ? [] : isSlow ? Array.from({ length: 2000 }, () => 'slowly ') : [text],
      calls: planned.map((one, i) => ({ id: `call_${number}_${i}`, name: one.tool, args: JSON.stringify(one.args) })),
      tokens: call.tokens,
    };
    if (!asked.isStream) throw new Error(`${url}: only streamed answers are played`);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const send: Send = (event) => {
      const name = asked.wire === 'messages' ? `event: ${String(event.type)}\n` : '';
      response.write(`${name}data: ${JSON.stringify(event)}\n\n`);
    };
    const breath: Breath = async () => {
      if (isSlow) await new Promise((resolve) => setTimeout(resolve, SLOW_CHUNK_MS));
      if (response.destroyed) throw new ClientLeft();
    };
    try {
      await (asked.wire === 'chat' ? streamChat : streamMessages)(send, answer, breath);
      if (asked.wire === 'chat') response.write('data: [DONE]\n\n');
      response.end();
      call.outcome = 'billed';
    } catch (error) {
      if (!(error instanceof ClientLeft)) throw error;
      call.outcome = 'left';
    }
  }
}

class ClientLeft extends Error {}
