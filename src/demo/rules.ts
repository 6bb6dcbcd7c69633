// What may be spent and called in the demonstration. Limits fit what is made up, and periods lie so that on any day one
// budget is comfortable, one is past its steps, one leads over its limit, and one is used up and stops.

import { FORBIDDEN, NIGHTLY } from './cast.ts';

const DAY_MS = 86_400_000;

/** The rules as its users would have written them. @param nowMs when somebody looks, Unix ms */
export function demoRules(nowMs: number) {
  const daysAgo = (days: number) => new Date(nowMs - days * DAY_MS).toISOString().slice(0, 10);
  const fourWeeks = (begunDaysAgo: number) => ({ period: '28d', anchor: daysAgo(begunDaysAgo) });
  return {
    budgets: [
      { name: 'search-month', scope: { team: 'search' }, limit_usd: 400, period: 'month' },
      { name: 'platform-release', scope: { team: 'platform' }, limit_usd: 172, ...fourWeeks(21) },
      {
        name: 'data-tokens',
        scope: { team: NIGHTLY.team },
        limit_tokens: 190_000_000,
        ...fourWeeks(14),
        warn_at: [0.8],
      },
      {
        name: 'nightly-day',
        scope: { team: NIGHTLY.team, user: NIGHTLY.user },
        ...{ limit_usd: NIGHTLY.usdPerDay, period: 'day', hard: true },
      },
    ],
    guardrails: [
      {
        name: 'house-models',
        scope: { agent: FORBIDDEN.agent },
        models: { deny: FORBIDDEN.model },
        message: 'Ask Ana for another one.',
      },
    ],
    verdict: { contact: '#platform on chat' },
  };
}
