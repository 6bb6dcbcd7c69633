// The rules as bridges tell them to relays: all that a verdict is made of but what was spent. No secret is among it.

import { z } from 'zod';
import { type Config, gatewayRules, projectLabel } from '../config.ts';
import { labelValue, providerId, timeZone } from '../config-fields.ts';
import { policyKeys } from '../config-policy.ts';
import { pricingRule } from '../config-pricing.ts';
import type { Standing } from '../ledger/reading.ts';
import { limitOf } from '../ledger/spend-book.ts';
import { type Figure, isAbout } from './shared-standings.ts';

/** What a relay does not know of a rule could turn its meaning round, so unknown keys of rules are refused. */
const toldPolicy = z.object({
  v: z.literal(1),
  time_zone: timeZone,
  ...policyKeys,
  gateways: gatewayRules,
  pricing: z.array(pricingRule),
  project: projectLabel,
  accounts: z.array(z.object({ provider: providerId, id: labelValue })),
});
export type ToldPolicy = z.output<typeof toldPolicy>;

export interface PolicyParts
  extends Pick<
    Config,
    'time_zone' | 'budgets' | 'caps' | 'guardrails' | 'verdict' | 'gateways' | 'pricing' | 'labels'
  > {
  /** By whose ids turns are labelled. */
  readonly accounts: readonly { readonly provider: string; readonly id: string }[];
}

/** The text that carries the rules of a bridge. */
export function policyText({ accounts, labels, ...parts }: PolicyParts): string {
  const { time_zone, budgets, caps, guardrails, verdict, gateways, pricing } = parts;
  return JSON.stringify({
    ...{ v: 1, time_zone, budgets, caps, guardrails, verdict, gateways, pricing, project: labels.project },
    accounts: accounts.map(({ provider, id }) => ({ provider, id })),
  });
}

/** What such a text says; undefined when it is none that this version understands whole. */
export function policyIn(text: string): ToldPolicy | undefined {
  try {
    return toldPolicy.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** Whether two texts hold the same rules, whatever accounts their bridges know. */
export function holdSameRules(one: string, two: string): boolean {
  const rulesOf = (text: string) => {
    const { accounts: _, ...rules } = policyIn(text) ?? { accounts: [] };
    return JSON.stringify(rules);
  };
  return one === two || rulesOf(one) === rulesOf(two);
}

/** Where the budgets of a policy stand by what was told. A budget of which nothing was told in this period has no standing. */
export function standingsOf(
  { budgets }: Pick<ToldPolicy, 'budgets'>,
  { figures, nowMs }: { figures: readonly Figure[]; nowMs: number },
): Standing[] {
  return budgets.flatMap((rule) => {
    const { unit, limit } = limitOf(rule);
    const told = figures.find(
      (each) =>
        each.name === rule.name &&
        each.unit === unit &&
        nowMs >= each.start_ms &&
        nowMs < each.end_ms &&
        isAbout(each, rule.scope),
    );
    if (!told) return [];
    const { name, spent, dearest, start_ms: startMs, end_ms: endMs } = told;
    return { kind: 'budget', name, unit, limit, spent, startMs, endMs, ...(dearest === undefined ? {} : { dearest }) };
  });
}
