// What is known of every account, for people: its state, its money, where its credentials are and what they let us see.

import type { LedgerReading } from '../ledger/reading.ts';
import type { Account } from '../poll/detect.ts';
import type { AccountAccess } from '../poll/opencode-account.ts';
import type { PollResult } from '../poll/poll-result.ts';
import type { AccountStatusLine } from '../status.ts';
import { type DriftGap, driftOf } from './drift.ts';

const NANO = 1e9;
/** Where an account was found that this bridge does not poll itself. */
const ELSEWHERE = 'another poller';

/** An account of this bridge; `access` where it is polled. */
export interface ReportedAccount extends Pick<Account, 'provider' | 'id' | 'foundIn'> {
  readonly access?: AccountAccess;
}

const GAP_TEXTS: Readonly<Record<DriftGap, string>> = {
  partition: 'this bridge counts a part of the turns only',
  no_balance: 'its balance is not known',
  currency: 'its balance is in another currency than what turns cost',
  subscription: 'a subscription pays for its turns or draws on the balance',
  unattributed: 'turns at this provider do not say which account paid: set TOLLBRIDGE_ACCOUNT_ID where they are taken',
  too_new: 'it takes two readings of the balance within a window',
};

/** The accounts of this bridge in their order, then those that only others report. */
export function accountReport(
  reading: Pick<LedgerReading, 'pollResults' | 'balanceComparison' | 'partition'>,
  accounts: readonly ReportedAccount[],
): AccountStatusLine[] {
  const results = new Map(reading.pollResults().map((result) => [keyOf(result.provider, result.account), result]));
  const lines = accounts.map((account): AccountStatusLine => {
    const { provider, id, foundIn, access } = account;
    const result = results.get(keyOf(provider, id));
    results.delete(keyOf(provider, id));
    const drift = driftOf(reading, result);
    const unread = access ? 'not polled yet' : 'labels turns only: this version does not poll this provider';
    return {
      ...{ provider, account: id, found_in: foundIn, status: result?.status ?? 'unknown' },
      message: result?.message ?? unread,
      ...moneyOf(result),
      credentials: access?.credentials ?? [],
      sees: access?.sees ?? [],
      cannot_see: access?.cannotSee ?? [],
      ...(access?.more === undefined ? {} : { more: access.more }),
      drift: drift.windows.map(({ window, nano, ratio }) => ({
        ...{ window, usd: nano / NANO },
        ...(ratio === undefined ? {} : { ratio }),
      })),
      ...(drift.gap ? { drift_gap: GAP_TEXTS[drift.gap] } : {}),
    };
  });
  const foreign = [...results.values()].map((result) => ({
    ...{ provider: result.provider, account: result.account, found_in: ELSEWHERE },
    ...{ status: result.status, message: result.message },
    ...moneyOf(result),
    ...{ credentials: [], sees: [], cannot_see: [], drift: [] },
  }));
  return [...lines, ...foreign];
}

function keyOf(provider: string, account: string): string {
  return JSON.stringify([provider, account]);
}

function moneyOf(result: PollResult | undefined) {
  if (!result) return {};
  const facts = result.readings.map((reading) => reading.facts);
  const quotas = facts.flatMap((each) => each.quotas ?? []);
  const balances = facts.flatMap((each) => each.balances ?? []);
  const limits = facts.flatMap((each) => each.spendLimits ?? []);
  return {
    taken_ms: result.takenMs,
    ...(quotas.length > 0 ? { quotas } : {}),
    ...(balances.length > 0 && {
      balances: balances.map(({ kind, currency, nano }) => ({ kind, currency, amount: nano / NANO })),
    }),
    ...(limits.length > 0 && {
      spend_limits: limits.map(({ limit, currency, limitNano, usedNano, resetMs }) => ({
        ...{ limit, currency },
        ...(limitNano === undefined ? {} : { amount: limitNano / NANO }),
        ...(usedNano === undefined ? {} : { used: usedNano / NANO }),
        ...(resetMs === undefined ? {} : { resets_ms: resetMs }),
      })),
    }),
  };
}
