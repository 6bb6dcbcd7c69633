// Reads a Prometheus text the way an accountant would: every series by name and labels, money in whole nano-dollars.

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const UNESCAPED: Record<string, string> = { '\\\\': '\\', '\\"': '"', '\\n': '\n' };

/** The samples of a Prometheus text, in order. */
export function samplesOf(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split('\n')) {
    const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels: Record<string, string> = {};
    for (const [, key, value] of (match[2] ?? '').matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
      labels[key as string] = (value as string).replaceAll(/\\[\\"n]/g, (escaped) => UNESCAPED[escaped] as string);
    }
    samples.push({ name: match[1] as string, labels, value: Number(match[3]) });
  }
  return samples;
}

/** Sums that are not zero, by key. */
export type Sums = Record<string, number>;

function add(sums: Sums, key: string, value: number): void {
  const sum = (sums[key] ?? 0) + value;
  if (sum === 0) delete sums[key];
  else sums[key] = sum;
}

/** What a scrape says was paid, net of corrections, summed over all labels that the keys do not name. */
export interface Shown {
  /** Nano-USD by `provider/model`. */
  readonly costNano: Sums;
  /** By `provider/model type`. */
  readonly tokens: Sums;
  /** By `provider/model status`. */
  readonly turns: Sums;
  /** By `tool status`. */
  readonly toolCalls: Sums;
  readonly sessions: number;
}

export function shownBy(text: string): Shown {
  const shown = { costNano: {}, tokens: {}, turns: {}, toolCalls: {}, sessions: 0 };
  for (const { name, labels, value } of samplesOf(text)) {
    const model = `${labels.provider}/${labels.model}`;
    const nano = Math.round(value * 1e9);
    if (name === 'toll_cost_usd_total') add(shown.costNano, model, nano);
    else if (name === 'toll_cost_corrections_usd_total') add(shown.costNano, model, -nano);
    else if (name === 'toll_tokens_total') add(shown.tokens, `${model} ${labels.token_type}`, value);
    else if (name === 'toll_tokens_corrections_total') add(shown.tokens, `${model} ${labels.token_type}`, -value);
    else if (name === 'toll_turns_total') add(shown.turns, `${model} ${labels.status}`, value);
    else if (name === 'toll_tool_calls_total') add(shown.toolCalls, `${labels.tool} ${labels.status}`, value);
    else if (name === 'toll_sessions_total') shown.sessions += value;
  }
  return shown;
}

/** Events by source and outcome, as the conservation law names them. */
export function eventsBy(text: string): Record<string, Sums> {
  const bySource: Record<string, Sums> = {};
  for (const { name, labels, value } of samplesOf(text)) {
    const outcome = /^tollbridge_events_(received|recorded|updated|duplicate|ignored|rejected)_total$/.exec(name)?.[1];
    if (!outcome) continue;
    bySource[labels.source as string] ??= {};
    add(bySource[labels.source as string] as Sums, outcome, value);
  }
  return bySource;
}
