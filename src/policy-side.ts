// The rules of a bridge, put together: what was spent comes from the ledger, the labels of a question are those that its
// turn will be booked under. Built by the composition root.

import { type Config, ownIdentity } from './config.ts';
import { messageOf } from './failure.ts';
import type { Ledger } from './ledger/ledger.ts';
import type { Log } from './log.ts';
import { Policy } from './policy/policy.ts';
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
  /** Counts that wait for their commit, by decision and rule. */
  readonly #counts = new Map<string, { decision: string; rule: string; times: number }>();
  #isCounting = false;

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
    this.#desk = new VerdictDesk({
      policy,
      fail: config.verdict.fail,
      labelsOf: ({ account_id, ...planned }, identity) =>
        attribution.labelsOf({ ...planned, accountId: account_id }, identity),
      isPriced: (labels) => this.#isPriced(labels),
      count: (decision, rule) => this.#count(decision, rule, log),
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

  /** By a rule, or because a turn of it stated its cost. */
  #isPriced({ provider = '', model = '' }: ScopedLabels): boolean {
    if (this.#pricing.price({ provider, model, tokens: NO_TOKENS }).state !== 'unknown') return true;
    return this.#ledger
      .pricingStates()
      .some((known) => known.provider === provider && known.model === model && known.state !== 'unknown');
  }

  /** Books the counts one commit after the other, so that many questions share one. */
  #count(decision: string, rule: string, log: Log): void {
    this.#wait({ decision, rule, times: 1 });
    if (this.#isCounting) return;
    this.#isCounting = true;
    void this.#bookCounts()
      .catch((error) => log.debug({ error: messageOf(error) }, 'answers to agents could not be counted yet'))
      .finally(() => {
        this.#isCounting = false;
      });
  }

  #wait({ decision, rule, times }: { decision: string; rule: string; times: number }): void {
    const key = `${decision} ${rule}`;
    this.#counts.set(key, { decision, rule, times: (this.#counts.get(key)?.times ?? 0) + times });
  }

  async #bookCounts(): Promise<void> {
    while (this.#counts.size > 0) {
      const taken = [...this.#counts.values()];
      this.#counts.clear();
      try {
        await this.#ledger.countVerdicts(taken);
      } catch (error) {
        for (const each of taken) this.#wait(each);
        throw error;
      }
    }
  }
}
