// The rules of a bridge or relay, put together: the labels of a question are those that its turn will be booked under.
// Built by the composition roots, which say what was spent and who counts the answers.

import type { Config } from './config.ts';
import type { PolicyConfig } from './config-policy.ts';
import type { PolicyCount, Standing } from './ledger/reading.ts';
import type { Log } from './log.ts';
import { Policy } from './policy/policy.ts';
import { PolicyCounts } from './policy/policy-counts.ts';
import { policyNotes } from './policy/policy-notes.ts';
import { type AuditedVerdict, VerdictDesk } from './policy/verdict-desk.ts';
import type { Attribution } from './turn/attribution.ts';
import type { Pricing } from './turn/pricing.ts';
import type { ScopedLabels } from './turn/scope.ts';
import { type Identity, NO_TOKENS, type PricingState } from './turn/turn-event.ts';

export interface PolicySideOptions {
  readonly rules: PolicyConfig;
  readonly timeZone: string;
  /** Where budgets and caps stand now. A rule without a standing has no part in a verdict. */
  readonly standings: () => readonly Standing[];
  readonly attribution: Attribution;
  readonly pricing: Pricing;
  /** How turns of each model were paid so far. */
  readonly pricingStates: () => readonly { provider: string; model: string; state: PricingState }[];
  /** The labels of turns so far; undefined where too little is known of them to call a rule odd. */
  readonly seenLabels: () => readonly ScopedLabels[] | undefined;
  /** How the label `project` is shown. */
  readonly project: Config['labels']['project'];
  /** Whose turns come from this machine. */
  readonly identity: Identity;
  /** When what is judged by was told, Unix ms; left out where it is known at first hand. */
  readonly asOfMs?: () => number | undefined;
  /** Resolves when the answers are counted for good. */
  readonly countPolicy: (counts: readonly PolicyCount[]) => Promise<void>;
  /** Is shown every answer that is logged. */
  readonly onAudit?: (verdict: AuditedVerdict) => void;
  readonly log: Log;
}

export class PolicySide {
  /** What is odd about the rules, as lines for people; as far as could be told at the start. */
  readonly notes: readonly string[];
  readonly #options: PolicySideOptions;
  readonly #desk: VerdictDesk;
  readonly #counts: PolicyCounts;

  constructor(options: PolicySideOptions) {
    this.#options = options;
    const { rules, timeZone, standings, attribution, project, seenLabels, identity, log } = options;
    const hasRules = [rules.budgets, rules.caps, rules.guardrails].some((kind) => kind.length > 0);
    const seen = hasRules ? seenLabels() : undefined;
    // An identity that has sent nothing yet is no mistake.
    this.notes = policyNotes(rules, { seen: seen && seen.length > 0 ? [...seen, identity] : undefined, project });
    this.#counts = new PolicyCounts({ book: options.countPolicy, log });
    this.#desk = new VerdictDesk({
      policy: new Policy({ rules, timeZone, standings }),
      fail: rules.verdict.fail,
      labelsOf: ({ account_id: accountId, upstream_provider: upstreamHint, ...planned }, identity) =>
        attribution.labelsOf({ ...planned, accountId, upstreamHint }, identity),
      isPriced: (labels) => this.#isPriced(labels),
      counts: this.#counts,
      asOfMs: options.asOfMs,
      onAudit: options.onAudit,
      log,
    });
  }

  /** `POST /v1/verdict`: may this turn, or this tool call, go on? */
  answer(question: unknown, identity: Identity): { status: number; body: object } {
    return this.#desk.answer(question, identity);
  }

  /** `POST /v1/explain`: what would be answered, and why? */
  explain(question: unknown, identity: Identity): { status: number; body: object } {
    return this.#desk.explain(question, identity);
  }

  /** Books the answers that are not yet counted. To be called when nobody asks any more, before the ledger closes. */
  stop(): Promise<void> {
    return this.#counts.flush();
  }

  /** By a rule, or because a turn of it stated its cost. */
  #isPriced({ provider = '', model = '' }: ScopedLabels): boolean {
    if (this.#options.pricing.price({ provider, model, tokens: NO_TOKENS }).state !== 'unknown') return true;
    return this.#options
      .pricingStates()
      .some((known) => known.provider === provider && known.model === model && known.state !== 'unknown');
  }
}
