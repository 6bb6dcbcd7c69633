// Where agents ask: reads the question, puts it to the policy, counts and logs what was answered. Nothing in it waits
// for a disk, because a turn waits for it.

import { z } from 'zod';
import type { PolicyConfig } from '../config-policy.ts';
import { UNIT_SCALE } from '../ledger/reading.ts';
import type { Log } from '../log.ts';
import { agentName, model, name, optionalAccountId, present, provider, toolName } from '../turn/fields.ts';
import { projectName } from '../turn/project-name.ts';
import type { ScopedLabels } from '../turn/scope.ts';
import type { Identity } from '../turn/turn-event.ts';
import type { Explanation } from './explanation.ts';
import { type Decision, type Opinion, type Policy, type Question, UNREADABLE, type Verdict } from './policy.ts';
import type { PolicyCounts } from './policy-counts.ts';

/** Steps of budgets that were logged, per asker; beyond this many the oldest are forgotten and logged once more. */
const WARNINGS_REMEMBERED = 10_000;
/** Agents whose calls without an answer are told apart; anybody can ask under any name, and each would be a series. */
const AGENTS_COUNTED = 50;
const OTHER_AGENTS = 'other';
/** What stands for the rule where none took part. */
export const NO_RULE = 'none';
/** What one agent can tell at once of calls that nobody answered for. */
const UNCHECKED_MAX = 1_000_000;
/** Who judges by something older says so to the user: spending and limits may have changed since. */
const OLD_AFTER_MS = 5 * 60_000;

const question = z.object({
  agent: agentName,
  provider,
  model,
  /** What the provider is asked for, where the agent's configuration gave the model another name. */
  called_model: model.optional(),
  /** Who would serve, where the agent knows whom its gateway calls. */
  upstream_provider: name.optional(),
  project: name.optional(),
  tool: toolName.optional(),
  account_id: optionalAccountId,
  /** Whether the agent itself knows a price of the model. */
  priced: z.boolean().optional(),
  /** Calls that went ahead before, because nobody answered. */
  unchecked: z.number().int().min(0).max(UNCHECKED_MAX).optional(),
});
export type VerdictQuestion = z.output<typeof question>;

/** A name of any kind; one that no turn could be booked under is UNREADABLE, and neither repeated nor kept. */
const heldName = (field: z.ZodType<string>) =>
  z.string({ error: 'expected a name' }).transform((stated) => field.safeParse(stated).data ?? UNREADABLE);
/** One without which a turn is booked as well. */
const heldLabel = (read: (stated: unknown) => string | undefined) => z.unknown().transform(read).optional();
/**
 * As an agent asks: it cannot choose other names, and a question that was refused would let the call through wherever nobody
 * answering does.
 */
const heldQuestion = question.extend({
  provider: heldName(provider),
  model: heldName(model),
  called_model: heldName(model).optional(),
  tool: heldName(toolName).optional(),
  upstream_provider: heldLabel((stated) => name.safeParse(stated).data),
  project: heldLabel((stated) => projectName(stated)),
});
/** Whose turn it would be, where that is not who asks. */
const explainedQuestion = question.extend({ team: name.optional(), user: name.optional() });

/** What an agent is told. */
export interface VerdictAnswer {
  readonly decision: Decision;
  readonly rule?: string;
  readonly message?: string;
  readonly budget?: string;
  readonly step?: number;
  readonly spent_usd?: number;
  readonly limit_usd?: number;
  /** ISO 8601. */
  readonly resets_at?: string;
  readonly in_flight?: 'stop' | 'finish';
  readonly ttl_s: number;
  readonly fail: 'open' | 'closed';
  /** ISO 8601: what is told by a relay, which was told it then. */
  readonly as_of?: string;
}

/** A stop, or the first warning of a step: what is logged of it. */
export interface AuditedVerdict extends Identity {
  readonly decision: 'warn' | 'stop';
  readonly rule: string;
  readonly step?: number;
  readonly agent: string;
  readonly provider: string;
  readonly model: string;
  readonly tool?: string;
}

export interface VerdictDeskOptions {
  readonly policy: Policy;
  readonly fail: PolicyConfig['verdict']['fail'];
  /** The labels that such a turn would be booked under. */
  readonly labelsOf: (question: VerdictQuestion, identity: Identity) => ScopedLabels;
  /** Whether the price of a model is known from its turns or from rules. */
  readonly isPriced: (labels: ScopedLabels) => boolean;
  readonly counts: Pick<PolicyCounts, 'add'>;
  /** When what is judged by was told, Unix ms; undefined where it is known at first hand. */
  readonly asOfMs?: (() => number | undefined) | undefined;
  /** Is shown every answer that is logged. */
  readonly onAudit?: ((verdict: AuditedVerdict) => void) | undefined;
  readonly log: Log;
}

export class VerdictDesk {
  readonly #options: VerdictDeskOptions;
  readonly #warned = new Set<string>();
  readonly #agents = new Set<string>();

  constructor(options: VerdictDeskOptions) {
    this.#options = options;
  }

  /** Answers one question; `status` is 400 with an `error` when it is none. */
  answer(asked: unknown, identity: Identity): { status: number; body: object } {
    const read = heldQuestion.safeParse(asked);
    if (!read.success) return mistakeAnswer(read.error);
    const put = this.#question(read.data, identity);
    const verdict = this.#options.policy.decide(put);
    const { labels } = put;
    const { deciding, decision } = verdict;
    const { agent, tool, unchecked } = read.data;
    this.#options.counts.add('policyVerdicts', { decision, rule: deciding?.rule ?? NO_RULE });
    // Also of none: its first increment needs a 0 before it.
    this.#options.counts.add('policyUnchecked', { agent: this.#counted(agent) }, unchecked ?? 0);
    const asOfMs = this.#options.asOfMs?.();
    const ageMs = asOfMs === undefined ? undefined : Math.max(0, Date.now() - asOfMs);
    if (deciding && decision !== 'allow') this.#audit({ ...deciding, decision }, labels, { tool, ageMs });
    const body: VerdictAnswer = {
      ...withAge(answerOf(verdict), ageMs),
      fail: this.#options.fail,
      ...(asOfMs === undefined ? {} : { as_of: new Date(asOfMs).toISOString() }),
    };
    return { status: 200, body };
  }

  /** Says what would be answered, and why; counts and logs nothing. `status` is 400 when it is no question. */
  explain(asked: unknown, identity: Identity): { status: number; body: object } {
    const read = explainedQuestion.safeParse(asked);
    if (!read.success) return mistakeAnswer(read.error);
    const { team, user, ...about } = read.data;
    const whose = { ...identity, ...(team !== undefined && { team }), ...(user !== undefined && { user }) };
    return { status: 200, body: this.#options.policy.explain(this.#question(about, whose)) satisfies Explanation };
  }

  #counted(agent: string): string {
    if (this.#agents.size < AGENTS_COUNTED) this.#agents.add(agent);
    return this.#agents.has(agent) ? agent : OTHER_AGENTS;
  }

  #question(asked: VerdictQuestion, identity: Identity): Question {
    const labels = this.#options.labelsOf(asked, identity);
    const { tool, called_model: calledModel } = asked;
    return { labels, tool, calledModel, isPriced: () => asked.priced === true || this.#options.isPriced(labels) };
  }

  /** One line for every stop, and one for every step of a budget that somebody is warned of. */
  #audit(
    { rule, decision, step, standing }: Opinion & { decision: AuditedVerdict['decision'] },
    labels: ScopedLabels,
    { tool, ageMs }: { tool: string | undefined; ageMs: number | undefined },
  ): void {
    const who = {
      team: labels.team || undefined,
      user: labels.user || undefined,
      project: labels.project || undefined,
    };
    if (decision === 'warn') {
      const key = JSON.stringify([rule, step, standing?.startMs, who]);
      if (this.#warned.has(key)) return;
      if (this.#warned.size >= WARNINGS_REMEMBERED) this.#warned.delete(this.#warned.values().next().value!);
      this.#warned.add(key);
    }
    const { agent = '', provider = '', model = '' } = labels;
    const verdict = present({ decision, rule, step, agent, provider, model, tool, ...who });
    const line = { ...verdict, ...(ageMs === undefined ? {} : { known_for_s: Math.round(ageMs / 1e3) }) };
    if (decision === 'stop') this.#options.log.warn(line, tool ? 'a tool call was stopped' : 'a turn was stopped');
    else this.#options.log.info(line, 'a budget reached a step of warn_at');
    this.#options.onAudit?.(verdict);
  }
}

/** A message that says how old that is which it tells, where that is old. */
function withAge<T extends { message?: string }>(answer: T, ageMs = 0): T {
  if (answer.message === undefined || ageMs < OLD_AFTER_MS) return answer;
  const minutes = Math.floor(ageMs / 60_000);
  const age = minutes < 120 ? `${minutes} minutes` : `${Math.floor(minutes / 60)} hours`;
  return { ...answer, message: `${answer.message} (As this machine was told ${age} ago.)` };
}

function mistakeAnswer({ issues }: z.ZodError): { status: number; body: object } {
  const { path, message } = issues[0]!;
  return { status: 400, body: { error: `${path.join('.') || 'the question'}: ${message}` } };
}

/** A verdict as the wire has it, without what the configuration adds. */
function answerOf({ decision, deciding, ttlS }: Verdict): Omit<VerdictAnswer, 'fail'> {
  if (!deciding) return { decision, ttl_s: ttlS };
  const { rule, message, standing, step, inFlight } = deciding;
  return {
    decision,
    rule,
    ...(message !== undefined && { message }),
    ...(standing?.kind === 'budget' && { budget: standing.name }),
    ...(step !== undefined && { step }),
    ...(standing?.unit === 'usd' && {
      spent_usd: standing.spent / UNIT_SCALE.usd,
      limit_usd: standing.limit / UNIT_SCALE.usd,
    }),
    ...(standing && { resets_at: new Date(standing.endMs).toISOString() }),
    ...(inFlight && { in_flight: inFlight }),
    ttl_s: ttlS,
  };
}
