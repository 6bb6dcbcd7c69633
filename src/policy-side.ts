// The rules of a bridge, put together: what was spent comes from the ledger, the labels of a question are those that its
// turn will be booked under. Built by the composition root.

import { type Config, ownIdentity } from './config.ts';
import type { Ledger } from './ledger/ledger.ts';
import type { Log } from './log.ts';
import { Policy } from './policy/policy.ts';
import { PolicyCounts } from './policy/policy-counts.ts';
import { policyNotes } from './policy/policy-notes.ts';
import { VerdictDesk } from './policy/verdict-desk.ts';
import type { Attribution } from './turn/attribution.ts';
import { Pricing } from './turn/pricing.ts';
import type { ScopedLabels } from './turn/scope.ts';
import { type Identity, NO_TOKENS } from './turn/turn-event.ts';

export interface PolicySideOptions {
  readonly config: Config;
  readonly ledger: Ledger;
  readonly attribution: Attribution;
  readonly log: Log;
}

export class PolicySide {
  /** What is odd about the rules, as lines for people; as far as could be told at the start. */
  readonly notes: readonly string[];
  readonly #ledger: Ledger;
  readonly #pricing: Pricing;
  readonly #desk: VerdictDesk;
  readonly #counts: PolicyCounts;

  constructor({ config, ledger, attribution, log }: PolicySideOptions) {
    const hasRules = [config.budgets, config.caps, config.guardrails].some((rules) => rules.length > 0);
    const seen = hasRules ? ledger.seenLabels() : undefined;
    // An identity that has sent nothing yet is no mistake.
    this.notes = policyNotes(config, seen && seen.length > 0 ? [...seen, ownIdentity(config)] : undefined);
    this.#ledger = ledger;
    this.#pricing = new Pricing(config.pricing);
    const policy = new Policy({
      rules: config,
      timeZone: config.time_zone,
      standings: () => ledger.standings(),
    });
    this.#counts = new PolicyCounts({ book: (counts) => ledger.countPolicy(counts), log });
    this.#desk = new VerdictDesk({
      policy,
      fail: config.verdict.fail,
      labelsOf: ({ account_id: accountId, upstream_provider: upstreamHint, ...planned }, identity) =>
        attribution.labelsOf({ ...planned, accountId, upstreamHint }, identity),
      isPriced: (labels) => this.#isPriced(labels),
      counts: this.#counts,
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
    if (this.#pricing.price({ provider, model, tokens: NO_TOKENS }).state !== 'unknown') return true;
    return this.#ledger
      .pricingStates()
      .some((known) => known.provider === provider && known.model === model && known.state !== 'unknown');
  }
}
