// The four wires that agents speak to providers, each read from a request and written as a streamed answer: OpenAI's chat
// completions and responses, Anthropic's messages, Google's generateContent.

import type { TokenCounts } from '../../src/turn/turn-event.ts';

/** What an agent asked for, whatever the wire. */
export interface Asked {
  readonly model: string;
  readonly isStream: boolean;
  readonly system: string;
  readonly lastPrompt: string;
  /** How often tools have been called since that prompt. */
  readonly stepsTaken: number;
  /** Without tools on offer (a title, a compaction) no plan is followed: the prompt is only quoted then. */
  readonly hasTools: boolean;
}

export interface Answer {
  readonly id: string;
  readonly model: string;
  readonly words: readonly string[];
  readonly calls: readonly { readonly id: string; readonly name: string; readonly args: string }[];
  readonly tokens: TokenCounts;
}

export type Send = (event: Record<string, unknown>) => void;
/** Between two words of a streamed answer; throws when the client has left. */
export type Breath = () => Promise<void>;

export interface Wire {
  /** Fits the path of the requests that it serves. */
  readonly serves: RegExp;
  readonly billsReasoning: boolean;
  readonly billsCacheWrites: boolean;
  asked(url: string, body: never): Asked;
  answer(send: Send, answer: Answer, breath: Breath): Promise<void>;
  /** What follows the last event. */
  readonly end: string;
}

/** One message of a conversation, as far as a plan needs it. */
interface Said {
  readonly by: 'system' | 'user' | 'agent' | 'tool';
  readonly text?: string;
  readonly hasCalls?: boolean;
}

interface Part {
  readonly type?: string;
  readonly text?: string;
  readonly functionCall?: unknown;
  readonly functionResponse?: unknown;
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content.map((part: Part) => part.text ?? '').join('\n');
}

const someOf = (content: unknown, fits: (part: Part) => unknown) => Array.isArray(content) && content.some(fits);

/** Where in a conversation the agent is. */
function whereIn(messages: readonly Said[], system: unknown): Pick<Asked, 'system' | 'lastPrompt' | 'stepsTaken'> {
  const at = { system: textOf(system), lastPrompt: '', stepsTaken: 0 };
  for (const { by, text = '', hasCalls } of messages) {
    if (by === 'system') at.system += text;
    else if (by === 'agent' && hasCalls) at.stepsTaken++;
    else if (by === 'user') {
      at.lastPrompt = text;
      at.stepsTaken = 0;
    }
  }
  return at;
}

const byRole = (role: unknown): Said['by'] =>
  role === 'system' || role === 'developer'
    ? 'system'
    : role === 'assistant' || role === 'model'
      ? 'agent'
      : role === 'tool'
        ? 'tool'
        : 'user';

interface ChatBody {
  readonly model: string;
  readonly stream?: boolean;
  readonly system?: unknown;
  readonly tools?: readonly unknown[];
  readonly messages: readonly { readonly role?: string; readonly content?: unknown; readonly tool_calls?: unknown }[];
}

function askedInMessages({ model, stream, system, tools = [], messages }: ChatBody): Asked {
  const said = messages.map(({ role, content, tool_calls }): Said => {
    const by = someOf(content, ({ type }) => type === 'tool_result') ? 'tool' : byRole(role);
    const hasCalls = Boolean(tool_calls) || someOf(content, ({ type }) => type === 'tool_use');
    return { by, text: textOf(content), hasCalls };
  });
  return { model, isStream: stream === true, hasTools: tools.length > 0, ...whereIn(said, system) };
}

const chat: Wire = {
  serves: /\/chat\/completions$/,
  billsReasoning: true,
  billsCacheWrites: false,
  asked: (_url, body) => askedInMessages(body),
  async answer(send, { id, tokens, calls, words }, breath) {
    const chunk = (choice: object) =>
      send({ id, object: 'chat.completion.chunk', created: 1, model: 'mock', choices: [choice] });
    const delta = (part: object) => chunk({ index: 0, delta: part, finish_reason: null });
    delta({ role: 'assistant', content: '' });
    if (tokens.reasoning > 0) delta({ reasoning_content: 'Thinking.' });
    for (const [index, { id, name, args }] of calls.entries()) {
      delta({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: args } }] });
    }
    for (const content of words) {
      delta({ content });
      await breath();
    }
    chunk({ index: 0, delta: {}, finish_reason: calls.length > 0 ? 'tool_calls' : 'stop' });
    const { input, output, total } = openAiSums(tokens);
    const usage = {
      prompt_tokens: input,
      completion_tokens: output,
      total_tokens: total,
      prompt_tokens_details: { cached_tokens: tokens.cache_read },
      completion_tokens_details: { reasoning_tokens: tokens.reasoning },
    };
    send({ id, object: 'chat.completion.chunk', created: 1, model: 'mock', choices: [], usage });
  },
  end: 'data: [DONE]\n\n',
};

/** OpenAI counts cached tokens within the input, and reasoning within the output. */
function openAiSums({ input, output, reasoning, cache_read }: TokenCounts) {
  const sums = { input: input + cache_read, output: output + reasoning };
  return { ...sums, total: sums.input + sums.output };
}

interface ResponsesBody {
  readonly model: string;
  readonly stream?: boolean;
  readonly instructions?: unknown;
  readonly tools?: readonly unknown[];
  readonly input: readonly { readonly type?: string; readonly role?: string; readonly content?: unknown }[];
}

const responses: Wire = {
  serves: /\/responses$/,
  billsReasoning: true,
  billsCacheWrites: false,
  asked(_url, { model, stream, instructions, tools = [], input }: ResponsesBody) {
    const said = input.map(({ type = 'message', role, content }): Said => {
      if (type === 'message') return { by: byRole(role), text: textOf(content) };
      return type.endsWith('_call') ? { by: 'agent', hasCalls: true } : { by: 'tool' };
    });
    return { model, isStream: stream === true, hasTools: tools.length > 0, ...whereIn(said, instructions) };
  },
  async answer(send, { id, tokens, calls, words }, breath) {
    const text = words.join('');
    const message = { type: 'message', id: `msg_${id}`, role: 'assistant', content: [{ type: 'output_text', text }] };
    send({ type: 'response.created', response: { id } });
    if (text) send({ type: 'response.output_item.added', output_index: 0, item: { ...message, content: [] } });
    for (const delta of words) {
      send({ type: 'response.output_text.delta', item_id: message.id, output_index: 0, content_index: 0, delta });
      await breath();
    }
    if (text) send({ type: 'response.output_item.done', output_index: 0, item: message });
    for (const [index, call] of calls.entries()) {
      const item = { type: 'function_call', id: `fc_${call.id}`, call_id: call.id, name: call.name };
      send({ type: 'response.output_item.done', output_index: index, item: { ...item, arguments: call.args } });
    }
    const { input, output, total } = openAiSums(tokens);
    const usage = {
      input_tokens: input,
      input_tokens_details: { cached_tokens: tokens.cache_read },
      output_tokens: output,
      output_tokens_details: { reasoning_tokens: tokens.reasoning },
      total_tokens: total,
    };
    send({ type: 'response.completed', response: { id, usage } });
  },
  end: '',
};

const messages: Wire = {
  serves: /\/messages$/,
  billsReasoning: false,
  billsCacheWrites: true,
  asked: (_url, body) => askedInMessages(body),
  async answer(send, { id, model, tokens, calls, words }, breath) {
    const usage = {
      input_tokens: tokens.input,
      cache_read_input_tokens: tokens.cache_read,
      cache_creation_input_tokens: tokens.cache_write,
      output_tokens: 1,
    };
    const message = { id, type: 'message', role: 'assistant', model, content: [], usage };
    send({ type: 'message_start', message: { ...message, stop_reason: null, stop_sequence: null } });
    for (const [index, { id, name, args }] of calls.entries()) {
      send({ type: 'content_block_start', index, content_block: { type: 'tool_use', id, name, input: {} } });
      send({ type: 'content_block_delta', index, delta: { type: 'input_json_delta', partial_json: args } });
      send({ type: 'content_block_stop', index });
    }
    if (calls.length === 0) {
      send({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } });
      for (const text of words) {
        send({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } });
        await breath();
      }
      send({ type: 'content_block_stop', index: 0 });
    }
    const stop_reason = calls.length > 0 ? 'tool_use' : 'end_turn';
    const delta = { stop_reason, stop_sequence: null };
    send({ type: 'message_delta', delta, usage: { output_tokens: tokens.output } });
    send({ type: 'message_stop' });
  },
  end: '',
};

interface GenerateBody {
  readonly systemInstruction?: { readonly parts?: readonly Part[] };
  readonly tools?: readonly unknown[];
  readonly contents: readonly { readonly role?: string; readonly parts?: readonly Part[] }[];
}

const generateContent: Wire = {
  serves: /\/models\/[^/]+:(streamGenerateContent|generateContent)$/,
  billsReasoning: true,
  billsCacheWrites: false,
  asked(url, { systemInstruction, tools = [], contents }: GenerateBody) {
    const [, model = '', verb = ''] = /\/models\/([^/]+):(\w+)$/.exec(url) ?? [];
    const said = contents.map(({ role, parts = [] }): Said => {
      const by = parts.some(({ functionResponse }) => functionResponse) ? 'tool' : byRole(role);
      return { by, text: textOf(parts), hasCalls: parts.some(({ functionCall }) => functionCall) };
    });
    const isStream = verb === 'streamGenerateContent';
    return { model, isStream, hasTools: tools.length > 0, ...whereIn(said, systemInstruction?.parts) };
  },
  async answer(send, { id, model, tokens, calls, words }, breath) {
    const chunk = (parts: object[], rest: object = {}, end: object = {}) =>
      send({
        candidates: [{ index: 0, content: { role: 'model', parts }, ...end }],
        ...{ responseId: id, modelVersion: model, ...rest },
      });
    for (const text of words) {
      chunk([{ text }]);
      await breath();
    }
    const usageMetadata = {
      promptTokenCount: tokens.input + tokens.cache_read,
      cachedContentTokenCount: tokens.cache_read,
      candidatesTokenCount: tokens.output,
      thoughtsTokenCount: tokens.reasoning,
      totalTokenCount: tokens.input + tokens.cache_read + tokens.output + tokens.reasoning,
    };
    const parts = calls.map(({ name, args }) => ({ functionCall: { name, args: JSON.parse(args) } }));
    chunk(parts.length > 0 ? parts : [{ text: '' }], { usageMetadata }, { finishReason: 'STOP' });
  },
  end: '',
};

export const WIRES: readonly Wire[] = [chat, responses, messages, generateContent];
