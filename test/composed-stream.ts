// A stream of events with its truth: what every series must say once all of it was taken, in whatever order.

const DUPLICATES = 0.1;

/** A small generator of repeatable randomness. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const MODELS = [
  ['opencode', 'claude-sonnet-4-5'],
  ['anthropic', 'claude-opus-4-5'],
  ['openrouter', 'openai/gpt-5.1'],
  ['opencode-go', 'glm-5'],
] as const;
const TOKENS = ['input', 'output', 'reasoning', 'cache_read', 'cache_write'] as const;

export interface Stream {
  readonly records: object[];
  readonly costNano: Record<string, number>;
  readonly tokens: Record<string, number>;
  readonly turns: Record<string, number>;
  readonly toolCalls: Record<string, number>;
  readonly sessions: number;
}

/** The totals of two streams. */
export function both(a: Stream, b: Stream): Stream {
  const sum = (x: Record<string, number>, y: Record<string, number>) =>
    Object.fromEntries(
      [...new Set([...Object.keys(x), ...Object.keys(y)])].map((key) => [key, (x[key] ?? 0) + (y[key] ?? 0)]),
    );
  return {
    records: [...a.records, ...b.records],
    costNano: sum(a.costNano, b.costNano),
    tokens: sum(a.tokens, b.tokens),
    turns: sum(a.turns, b.turns),
    toolCalls: sum(a.toolCalls, b.toolCalls),
    sessions: a.sessions + b.sessions,
  };
}

/** Turns of four vectors each (the last one corrects the one before, up or down), their tool calls and sessions. */
export function compose(events: number, { seed, name }: { seed: number; name: string }): Stream {
  const random = randomFrom(seed);
  const records: object[] = [];
  const stream: Stream = { records, costNano: {}, tokens: {}, turns: {}, toolCalls: {}, sessions: 0 };
  const sessions = new Set<string>();
  const add = (sums: Record<string, number>, key: string, value: number) => {
    sums[key] = (sums[key] ?? 0) + value;
  };
  const base = Date.now() - 3600_000;
  for (let turn = 0; records.length < events / (1 + DUPLICATES); turn++) {
    const [provider, model] = MODELS[Math.floor(random() * MODELS.length)] as (typeof MODELS)[number];
    const session = `ses_${name}_${Math.floor(turn / 40)}`;
    const started = base + turn * 50;
    const shape = () => Object.fromEntries(TOKENS.map((type) => [type, Math.floor(random() * 5000)]));
    const final = { tokens: shape(), nano: Math.floor(random() * 50_000_000) };
    const vectors = [
      { tokens: undefined, nano: undefined, finished: false, completed: false },
      { tokens: shape(), nano: Math.floor(random() * 50_000_000), finished: true, completed: false },
      { tokens: shape(), nano: Math.floor(random() * 50_000_000), finished: true, completed: true },
      { ...final, finished: true, completed: true },
    ];
    for (const [index, vector] of vectors.entries()) {
      records.push({
        v: 1,
        kind: 'turn',
        agent: 'opencode',
        id: { session, message: `msg_${name}_${turn}` },
        event_id: `evt_${String(index)}`,
        time: { started, ...(vector.completed ? { completed: started + 1234 } : {}) },
        provider,
        model,
        project: 'shop',
        ...(vector.finished ? { status: 'ok' } : {}),
        ...(vector.tokens ? { tokens: vector.tokens, cost_usd: (vector.nano as number) / 1e9 } : {}),
      });
    }
    records.push({
      v: 1,
      kind: 'tool',
      agent: 'opencode',
      id: { session, call: `call_${turn}`, message: `msg_${name}_${turn}` },
      tool: 'bash',
      status: 'ok',
      time: { started: started + 10, completed: started + 200 },
    });
    if (!sessions.has(session))
      records.push({ v: 1, kind: 'session', agent: 'opencode', id: { session }, project: 'shop' });
    sessions.add(session);
    const key = `${provider}/${model}`;
    add(stream.costNano, key, final.nano);
    for (const type of TOKENS) add(stream.tokens, `${key} ${type}`, final.tokens[type] as number);
    add(stream.turns, `${key} ok`, 1);
    add(stream.toolCalls, 'bash ok', 1);
  }
  for (let i = records.length * DUPLICATES; i > 0; i--)
    records.push(records[Math.floor(random() * records.length)] as object);
  for (let i = records.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [records[i], records[j]] = [records[j] as object, records[i] as object];
  }
  return { ...stream, sessions: sessions.size };
}
