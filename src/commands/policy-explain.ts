// `tollbridge policy explain`: what the running bridge would answer to an agent, and what part every rule has in it.

import { styleText } from 'node:util';
import type { Config } from '../config.ts';
import { SCOPE_LABELS } from '../config-policy.ts';
import type { Bystander, ExplainedOpinion, Explanation } from '../policy/explanation.ts';
import { askRunning, runningBridge } from './ask-bridge.ts';
import { type Report, showMoment, wrap } from './show.ts';

const COLUMNS = 80;
const BAR_CHARS = 20;
const SIGNS = {
  allow: { sign: '✔', color: 'green', says: 'allowed' },
  warn: { sign: '!', color: 'yellow', says: 'allowed, with a warning' },
  stop: { sign: '✖', color: 'red', says: 'stopped' },
} as const;

/** As on the command line. */
export interface ExplainFlags {
  readonly provider: string;
  readonly model: string;
  readonly agent: string;
  readonly team?: string;
  readonly user?: string;
  readonly project?: string;
  readonly account?: string;
  readonly tool?: string;
  /** As if the agent knew a price of the model. */
  readonly priced?: boolean;
  readonly json: boolean;
}

interface ExplainOptions {
  readonly flags: ExplainFlags;
  readonly config: Config;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * Asks the running bridge; nothing is counted or logged for it.
 * @throws RetryableFailure when no bridge answers; PermanentFailure where a relay or an older bridge does, or a flag is
 * no such name
 */
export async function explainPolicy({ flags, config, env }: ExplainOptions): Promise<Report> {
  const { time_zone: timeZone } = await runningBridge({ config, env });
  const { json, account, ...question } = flags;
  const body = { ...question, ...(account !== undefined && { account_id: account }) };
  const explanation = (await askRunning(config, { path: '/v1/explain', body })) as Explanation;
  return { lines: json ? [JSON.stringify(explanation, null, 2)] : render(explanation, timeZone), exitCode: 0 };
}

function render({ decision, rule, labels, tool, took_part, had_no_part }: Explanation, timeZone: string): string[] {
  const { sign, color, says } = SIGNS[decision];
  const what = tool === undefined ? 'The turn' : `The call of ${tool}`;
  const by = rule === undefined ? 'no rule has a part in it' : decision === 'allow' ? '' : `by ${rule}`;
  const asked = SCOPE_LABELS.flatMap((label) => (labels[label] ? [`${label} ${labels[label]}`] : [])).join(', ');
  return [
    styleText([color, 'bold'], `${sign} ${what} would be ${says}${by && `: ${by}`}.`),
    ...indented(asked),
    ...(took_part.length > 0
      ? ['', styleText('bold', 'rules that take part'), ...opinionLines(took_part, timeZone)]
      : []),
    ...(had_no_part.length > 0
      ? ['', styleText('bold', 'rules that have no part'), ...had_no_part.flatMap(aside)]
      : []),
    ...(took_part.length + had_no_part.length === 0
      ? ['', 'No rule is configured: see budgets, caps and guardrails in the configuration.']
      : []),
  ];
}

const indented = (text: string) => wrap(text, COLUMNS - 4).map((line) => `    ${line}`);
const aside = ({ rule, why }: Bystander) => [`  · ${rule}`, ...indented(why).map((line) => styleText('dim', line))];

function opinionLines(opinions: readonly ExplainedOpinion[], timeZone: string): string[] {
  const nameWidth = Math.max(...opinions.map(({ rule }) => rule.length));
  const usedWidth = Math.max(...opinions.map(({ used = '' }) => used.length));
  return opinions.flatMap(({ rule, decision, message, used, used_ratio: ratio, resets_at: resetsAt }) => {
    const { sign, color } = SIGNS[decision];
    const parts = [
      rule.padEnd(nameWidth),
      ...(ratio === undefined || used === undefined ? [] : [bar(ratio), used.padStart(usedWidth)]),
      ...(resetsAt === undefined ? [] : [`resets ${showMoment(Date.parse(resetsAt), timeZone)}`]),
    ];
    return [
      `  ${styleText(color, sign)} ${parts.join('  ').trimEnd()}`,
      ...(message === undefined ? [] : indented(message)),
    ];
  });
}

/** Full only where nothing is left. */
function bar(ratio: number): string {
  const full = Math.min(BAR_CHARS, Math.max(0, Math.floor(ratio * BAR_CHARS)));
  return '█'.repeat(full) + '░'.repeat(BAR_CHARS - full);
}
