// A model provider for agents other than OpenCode: Anthropic's messages, OpenAI's responses and Google's streamed content,
// as far as those agents use them. It bills exact, distinct amounts, and answers calls that offer tools by a plan: a step
// after the other, whatever the agent asks.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TokenCounts } from '../../src/turn/turn-event.ts';
import { readJson, streamMessages } from '../opencode/mock-llm.ts';

/** What a call is answered with: a command for the agent's shell, a text, or a failure. */
export type Step = { readonly command: string } | { readonly text: string } | { readonly status: number };
type Wire = 'messages' | 'responses' | 'content';
type Send = (event: Record<string, unknown>) => void;

/** One answer that the provider would charge for. */
export interface Billed {
  readonly wire: Wire;
  readonly model: string;
  /** As the wire tells them apart: reasoning and cache writes are 0 where it cannot say them. */
  readonly tokens: TokenCounts;
}

interface Body {
  readonly model?: string;
  readonly tools?: readonly Tool[];
  readonly stream?: boolean;
}
interface Tool {
  readonly name?: string;
  readonly type?: string;
  readonly functionDeclarations?: readonly { name: string }[];
}

interface Call {
  readonly id: string;
  readonly name: string;
  readonly args: Record<string, unknown>;
}

const SHELLS: Readonly<Record<string, (command: string) => Record<string, unknown>>> = {
  Bash: (command) => ({ command, description: 'a command' }),
  shell: (command) => ({ command: ['bash', '-c', command] }),
  exec_command: (cmd) => ({ cmd }),
  shell_command: (command) => ({ command }),
  run_shell_command: (command) => ({ command, description: 'a command' }),
};

/** Every amount differs from call to call, and no two kinds of token are ever equal. */
function tokensOf(number: number, wire: Wire): TokenCounts {
  return {
    input: 1000 + number,
    output: 100 + number,
    // What Anthropic bills for thinking is within its output.
    reasoning: wire === 'messages' ? 0 : 20 + number,
    cache_read: 300 + 3 * number,
    cache_write: wire === 'messages' ? 40 + number : 0,
  };
}

export class Provider {
  readonly billed: Billed[] = [];
  /** Calls that were refused as planned. */
  failed = 0;
  /** Requests that it has no answer for. */
  readonly unknown: string[] = [];
  #plan: Step[] = [];
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch((error: unknown) => {
      this.unknown.push(String(error));
      response.destroy();
    });
  });

  /** Listens on a free port of 127.0.0.1; gives the base URL. */
  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** What the next calls that offer tools are answered with; the last step goes on for ever. */
  plan(...steps: Step[]): void {
    this.#plan = steps;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = request.url ?? '';
    const route = url.split('?', 1)[0]!;
    const wire = wireOf(route);
    if (request.method !== 'POST' || wire === undefined) {
      // Agents ask for more than models: for settings, updates, counts. They get on without.
      this.unknown.push(`${request.method} ${route}`);
      response.writeHead(404, { 'content-type': 'application/json' }).end('{}');
      return;
    }
    const body = (await readJson(request)) as Body;
    const names = toolNames(body);
    const step: Step =
      names.length === 0
        ? { text: 'A title' }
        : ((this.#plan.length > 1 ? this.#plan.shift() : this.#plan[0]) ?? { text: 'done' });
    if ('status' in step) {
      this.failed += 1;
      const error = {
        type: 'invalid_request_error',
        code: step.status,
        message: 'as planned',
        status: 'INVALID_ARGUMENT',
      };
      response.writeHead(step.status, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ type: 'error', error }));
      return;
    }
    const number = this.billed.length + 1;
    const model = body.model ?? /models\/([^:]+):/.exec(route)?.[1] ?? '';
    const tokens = tokensOf(number, wire);
    const shell = names.find((name) => Object.hasOwn(SHELLS, name));
    if ('command' in step && shell === undefined) throw new Error(`no shell among ${names.join(', ')}`);
    const answer = {
      id: `mock_${number}`,
      model,
      tokens,
      words: 'text' in step ? [step.text] : [],
      calls: 'command' in step ? [{ id: `call_${number}`, name: shell!, args: SHELLS[shell!]!(step.command) }] : [],
    };
    response.writeHead(200, { 'content-type': 'text/event-stream', 'request-id': `req_mock_${process.pid}_${number}` });
    const send: Send = (event) => {
      const name = typeof event.type === 'string' ? `event: ${event.type}\n` : '';
      response.write(`${name}data: ${JSON.stringify(event)}\n\n`);
    };
    if (wire === 'messages') {
      const calls = answer.calls.map((call) => ({ ...call, args: JSON.stringify(call.args) }));
      await streamMessages(send, { ...answer, calls }, async () => {});
    } else if (wire === 'responses') streamResponse(send, answer);
    else streamContent(send, answer);
    response.end();
    this.billed.push({ wire, model, tokens });
  }
}

function wireOf(route: string): Wire | undefined {
  if (route.endsWith('/v1/messages')) return 'messages';
  if (route.endsWith('/responses')) return 'responses';
  return route.endsWith(':streamGenerateContent') ? 'content' : undefined;
}

const toolNames = ({ tools = [] }: Body) =>
  tools.flatMap((tool) => tool.functionDeclarations?.map(({ name }) => name) ?? tool.name ?? []);

interface Answer {
  readonly id: string;
  readonly model: string;
  readonly tokens: TokenCounts;
  readonly words: readonly string[];
  readonly calls: readonly Call[];
}

/** OpenAI's: its input is with what was cached, its output with what was reasoned. */
function streamResponse(send: Send, { id, model, tokens, words, calls }: Answer): void {
  const items = [
    ...words.map((text) => ({
      ...{ type: 'message', role: 'assistant', id: `msg_${id}`, status: 'completed' },
      content: [{ type: 'output_text', text, annotations: [] }],
    })),
    ...calls.map((call) => ({
      ...{ type: 'function_call', id: `fc_${id}`, call_id: call.id, name: call.name, status: 'completed' },
      arguments: JSON.stringify(call.args),
    })),
  ];
  const response = { id, object: 'response', created_at: 1, model, status: 'in_progress', output: [] };
  send({ type: 'response.created', response });
  for (const [output_index, item] of items.entries()) {
    send({ type: 'response.output_item.added', output_index, item });
    send({ type: 'response.output_item.done', output_index, item });
  }
  const input_tokens = tokens.input + tokens.cache_read;
  const output_tokens = tokens.output + tokens.reasoning;
  const usage = {
    ...{ input_tokens, output_tokens, total_tokens: input_tokens + output_tokens },
    input_tokens_details: { cached_tokens: tokens.cache_read },
    output_tokens_details: { reasoning_tokens: tokens.reasoning },
  };
  send({ type: 'response.completed', response: { ...response, status: 'completed', output: items, usage } });
}

/** Google's: its prompt is with what was cached, its candidates without what was thought. */
function streamContent(send: Send, { id, model, tokens, words, calls }: Answer): void {
  const parts = [
    ...words.map((text) => ({ text })),
    ...calls.map(({ id, name, args }) => ({ functionCall: { id, name, args } })),
  ];
  const prompt = tokens.input + tokens.cache_read;
  send({
    candidates: [{ index: 0, content: { role: 'model', parts }, finishReason: 'STOP' }],
    usageMetadata: {
      promptTokenCount: prompt,
      cachedContentTokenCount: tokens.cache_read,
      candidatesTokenCount: tokens.output,
      thoughtsTokenCount: tokens.reasoning,
      totalTokenCount: prompt + tokens.output + tokens.reasoning,
    },
    modelVersion: model,
    responseId: id,
  });
}
