// The rules, put to one question: may this turn, or this tool call, go on? Every rule answers for itself; the strictest
// answer counts, and says which rule it was.

import type { BudgetRule, CapRule, GuardrailRule, PolicyConfig } from '../config-policy.ts';
import type { Standing } from '../ledger/reading.ts';
import { matchesGlob } from '../turn/glob.ts';
import { isInScope, type ScopedLabels } from '../turn/scope.ts';
import { limitText, resetText } from './amount-text.ts';
import { bystandersOf, type Explanation, explanationOf } from './explanation.ts';

/** How long an agent may keep an answer. Long enough to spare questions, short enough that a changed rule is felt. */
const TTL_S = 10;
/** A cap of a minute can be used up within seconds. */
const TTL_OF_MINUTE_CAP_S = 1;
/** Below this many of the dearest turns, every turn asks: what is in flight at the limit is then all that passes it. */
const NEAR_TURNS = 20;
/** Stands for the dearest turn where there was none in the last hour: a share of the limit. */
const UNKNOWN_TURN_SHARE = 0.01;

/** Stands for a name that no turn could be booked under. What it is nobody can say, so no list of names clears it. */
export const UNREADABLE = '';

const DECISIONS = ['allow', 'warn', 'stop'] as const;
export type Decision = (typeof DECISIONS)[number];

/** What is asked about: the labels that the turn would be booked under, and what only the asker knows. */
export interface Question {
  readonly labels: ScopedLabels;
  /** What the provider is asked for, where that is not the model's name at the asker. */
  readonly calledModel?: string | undefined;
  /** The tool that is about to run; then the question is about it alone. */
  readonly tool?: string | undefined;
  /** Whether anybody knows a price of the model; asked only where a rule wants to know. */
  readonly isPriced: () => boolean;
}

/** What one rule says. */
export interface Opinion {
  /** `budget/<name>`, `cap/<name>` or `guardrail/<name>`. */
  readonly rule: string;
  readonly decision: Decision;
  /** For the user; present unless the decision is `allow`. */
  readonly message?: string;
  readonly standing?: Standing;
  /** Of a warning: the highest of the budget's steps that was reached. */
  readonly step?: number;
  /** Of a budget that stops. */
  readonly inFlight?: 'stop' | 'finish';
  readonly ttlS: number;
}

export interface Verdict {
  readonly decision: Decision;
  /** The rule that decided; absent where no rule has to do with the question. */
  readonly deciding?: Opinion;
  /** What every rule that has to do with the question says. */
  readonly opinions: readonly Opinion[];
  /** Whole seconds for which the same question need not be asked again. */
  readonly ttlS: number;
}

export interface PolicyOptions {
  readonly rules: PolicyConfig;
  readonly timeZone: string;
  /** Where budgets and caps stand now. */
  readonly standings: () => readonly Standing[];
  /** Unix ms. */
  readonly now?: () => number;
}

export class Policy {
  readonly #rules: PolicyConfig;
  readonly #timeZone: string;
  readonly #standings: PolicyOptions['standings'];
  readonly #now: () => number;

  constructor({ rules, timeZone, standings, now = Date.now }: PolicyOptions) {
    this.#rules = rules;
    this.#timeZone = timeZone;
    this.#standings = standings;
    this.#now = now;
  }

  decide(question: Question): Verdict {
    const opinions = question.tool === undefined ? this.#onTurn(question) : this.#onTool(question, question.tool);
    const deciding = opinions.toSorted(byWeight)[0];
    return {
      decision: deciding?.decision ?? 'allow',
      ...(deciding && { deciding }),
      opinions,
      ttlS: Math.min(TTL_S, ...opinions.map(({ ttlS }) => ttlS)),
    };
  }

  /** What is decided, and what part every rule has in it. */
  explain(question: Question): Explanation {
    const verdict = this.decide(question);
    return {
      ...explanationOf(verdict, question),
      had_no_part: bystandersOf(this.#rules, question, verdict.opinions),
    };
  }

  #onTurn(question: Question): Opinion[] {
    const { guardrails, budgets, caps } = this.#rules;
    const { labels } = question;
    const standings = new Map(this.#standings().map((standing) => [`${standing.kind}/${standing.name}`, standing]));
    const of = (kind: Standing['kind'], { name }: { name: string }) => standings.get(`${kind}/${name}`);
    return [
      ...guardrails.flatMap((rule) => (isInScope(rule.scope, labels) ? this.#guardTurn(rule, question) : [])),
      ...budgets.flatMap((rule) => {
        const standing = isInScope(rule.scope, labels) && of('budget', rule);
        return standing ? this.#budget(rule, standing) : [];
      }),
      ...caps.flatMap((rule) => {
        const standing = isInScope(rule.scope, labels) && of('cap', rule);
        return standing ? this.#cap(rule, standing) : [];
      }),
    ];
  }

  #onTool({ labels }: Question, tool: string): Opinion[] {
    const rules = this.#rules.guardrails.filter(({ tools, scope }) => tools && isInScope(scope, labels));
    return rules.map((rule) =>
      this.#guarded(rule, isDenied(rule.tools, tool) ? `${named('tool', tool)} may not be used here` : undefined),
    );
  }

  #guardTurn(rule: GuardrailRule, question: Question): Opinion[] {
    const isAboutTurns = rule.providers || rule.models || rule.unpriced === 'deny';
    return isAboutTurns ? [this.#guarded(rule, forbiddenCall(rule, question))] : [];
  }

  #guarded(rule: GuardrailRule, forbidden: string | undefined): Opinion {
    const name = `guardrail/${rule.name}`;
    if (forbidden === undefined) return { rule: name, decision: 'allow', ttlS: TTL_S };
    return {
      rule: name,
      decision: 'stop',
      message: this.#message(`${forbidden} (rule ${rule.name}).`, rule),
      ttlS: TTL_S,
    };
  }

  #budget(rule: BudgetRule, standing: Standing): Opinion {
    const { spent, limit, endMs } = standing;
    const name = `budget/${rule.name}`;
    // Only where somebody will read it: most turns are far from any limit, and each of them waits for this.
    const messageOf = (what: string) =>
      this.#message(`${what}${limitText(standing)}. It resets ${resetText(endMs, this.#timeZone)}.`, rule);
    if (spent >= limit) {
      const decision = rule.hard ? 'stop' : 'warn';
      const message = messageOf(`Budget ${rule.name} is used up: `);
      const ttlS = this.#ttl(standing, TTL_S);
      if (rule.hard) return { rule: name, decision, message, standing, inFlight: rule.in_flight, ttlS };
      return { rule: name, decision, message, standing, step: 1, ttlS };
    }
    const ttlS = rule.hard && isNear(standing) ? 0 : this.#ttl(standing, TTL_S);
    // Divided and not multiplied: so the share of a round number is the very number that the configuration has.
    const step = rule.warn_at.findLast((share) => spent / limit >= share);
    if (step === undefined) return { rule: name, decision: 'allow', standing, ttlS };
    const share = `${Math.floor((spent * 100) / limit)} %`;
    const message = messageOf(`Budget ${rule.name}: ${share} is used, `);
    return { rule: name, decision: 'warn', message, standing, step, ttlS };
  }

  #cap(rule: CapRule, standing: Standing): Opinion {
    const name = `cap/${rule.name}`;
    const longestS = rule.per === 'minute' ? TTL_OF_MINUTE_CAP_S : TTL_S;
    const ttlS = this.#ttl(standing, longestS);
    if (standing.spent < standing.limit) {
      return { rule: name, decision: 'allow', standing, ttlS: isNear(standing) ? 0 : longestS };
    }
    const waitS = Math.max(1, Math.ceil((standing.endMs - this.#now()) / 1e3));
    const text = `Cap ${rule.name} is reached: ${limitText(standing)} in the last ${rule.per}. Try again in ${waitS} s.`;
    return { rule: name, decision: 'stop', message: this.#message(text, rule), standing, inFlight: 'stop', ttlS };
  }

  /** Facts first, then whom to ask: the rule's own words, or the contact of all rules. */
  #message(facts: string, rule: { message?: string | undefined }): string {
    const { contact } = this.#rules.verdict;
    return `${facts} ${rule.message ?? (contact ? `Questions: ${contact}` : 'Ask whoever runs Tollbridge here.')}`;
  }

  /** No answer outlives the period that it is about. */
  #ttl({ endMs }: Standing, longestS: number): number {
    return Math.max(0, Math.min(longestS, Math.floor((endMs - this.#now()) / 1e3)));
  }
}

/** Whether what is left would not last for many turns. */
function isNear({ limit, spent, dearest }: Standing): boolean {
  return limit - spent < NEAR_TURNS * Math.max(1, dearest ?? limit * UNKNOWN_TURN_SHARE);
}

/** What a rule has against a turn, as the beginning of a sentence; undefined when nothing. */
function forbiddenCall(rule: GuardrailRule, { labels, calledModel, isPriced }: Question): string | undefined {
  const { provider = '', model = '' } = labels;
  if (isDenied(rule.providers, provider)) return `${named('provider', provider)} may not be used here`;
  // An alias must neither hide what is denied nor pass for what is allowed.
  if (calledModel !== undefined && isDenied(rule.models, calledModel))
    return `${named('model', model)}, which calls ${calledModel || 'one whose name cannot be read'}, may not be used here`;
  const { allow: _, ...denying } = rule.models ?? {};
  if (isDenied(calledModel === undefined ? rule.models : denying, model))
    return `${named('model', model)} may not be used here`;
  if (rule.unpriced === 'allow' || isPriced()) return undefined;
  return `${named('model', model)} has no known price, so no budget could count it, and it may not be used here`;
}

const named = (kind: string, name: string) =>
  name === UNREADABLE ? `A ${kind} whose name cannot be read` : `The ${kind} ${name}`;

/** Whether a rule's list forbids a name: deny wins, and what an allow-list does not name is forbidden. */
export function isDenied(list: GuardrailRule['models'], value: string): boolean {
  if (!list) return false;
  if (value === UNREADABLE && (list.allow ?? list.deny)) return true;
  const fits = (patterns: readonly string[] | undefined) => patterns?.some((pattern) => matchesGlob(pattern, value));
  return fits(list.deny) === true || fits(list.allow) === false;
}

/**
 * The strictest first: of two that stop the one that lets nothing finish, then the one that stops for longer; else the one
 * that is nearest to its limit.
 */
function byWeight(a: Opinion, b: Opinion): number {
  const rank = ({ decision }: Opinion) => DECISIONS.indexOf(decision);
  const until = ({ standing }: Opinion) => standing?.endMs ?? Number.MAX_SAFE_INTEGER;
  const share = ({ standing }: Opinion) => (standing ? standing.spent / standing.limit : 0);
  const lenience = ({ inFlight }: Opinion) => Number(inFlight === 'finish');
  if (rank(a) !== rank(b)) return rank(b) - rank(a);
  if (lenience(a) !== lenience(b)) return lenience(a) - lenience(b);
  return a.decision === 'stop' ? until(b) - until(a) : share(b) - share(a);
}
