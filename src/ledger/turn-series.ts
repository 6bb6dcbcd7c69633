// The counters and histograms of turns: what each label set has of them, and how they move.

import { type MetricFamily, TOLL } from '../metrics/catalogue.ts';
import { ERROR_REASONS, TOKEN_TYPES, type TokenCounts, TURN_STATUSES, totalTokens } from '../turn/turn-event.ts';
import { semconvProviderName } from '../turn/upstream-provider.ts';
import type { Dimension } from './dimensions.ts';
import type { LabelValues, Naming, SeriesOf, Totals } from './totals.ts';
import type { TurnRow, Usage } from './turn-vector.ts';

type Name = Naming<Dimension>;

function namings<const T extends string>(words: readonly T[], name: (series: Dimension, word: T) => LabelValues) {
  return Object.fromEntries(words.map((word): [T, Name] => [word, (series) => name(series, word)])) as Record<T, Name>;
}

const AS_IT_IS: Name = (series) => series;
const OF_TOKEN_TYPE = namings(TOKEN_TYPES, (series, token_type) => ({ ...series, token_type }));
const OF_STATUS = namings(TURN_STATUSES, (series, status) => ({ ...series, status }));
const OF_GEN_AI_TOKENS = namings(['input', 'output'], (series, gen_ai_token_type) => ({
  ...genAiLabels(series),
  gen_ai_token_type,
}));
const OF_FAILURE = namings([...ERROR_REASONS, ...TURN_STATUSES], (series, error_type) => ({
  ...genAiLabels(series),
  error_type,
}));

function genAiLabels(series: Dimension) {
  return {
    gen_ai_operation_name: 'chat',
    gen_ai_provider_name: semconvProviderName(series.upstream_provider),
    gen_ai_request_model: series.model,
  };
}

function shift(
  totals: SeriesOf<Dimension>,
  [up, down]: readonly [MetricFamily, MetricFamily],
  delta: number,
  naming: Name,
): void {
  if (delta > 0) totals.raise(up, delta, naming);
  else if (delta < 0) totals.raise(down, -delta, naming);
}

const COST = [TOLL.cost, TOLL.costCorrections] as const;
const ESTIMATED = [TOLL.costEstimated, TOLL.costEstimatedCorrections] as const;
const TOKENS = [TOLL.tokens, TOLL.tokensCorrections] as const;

export class TurnSeries {
  readonly #totals: Totals;

  constructor(totals: Totals) {
    this.#totals = totals;
  }

  /** Gives birth to a turn's series, so that their first increment has a 0 before it. */
  bear(series: Dimension, isEstimated: boolean): void {
    const totals = this.#totals.of(series);
    totals.raise(TOLL.cost, 0, AS_IT_IS);
    for (const type of TOKEN_TYPES) totals.raise(TOLL.tokens, 0, OF_TOKEN_TYPE[type]);
    totals.raise(TOLL.turns, 0, OF_STATUS.ok);
    if (isEstimated) totals.raise(TOLL.costEstimated, 0, AS_IT_IS);
  }

  /** Moves cost and tokens from what a turn had brought to what it brings; what it takes back goes to the corrections. */
  move(series: Dimension, before: Usage, after: Usage): void {
    const totals = this.#totals.of(series);
    shift(totals, COST, after.costNano - before.costNano, AS_IT_IS);
    shift(totals, ESTIMATED, after.estimatedNano - before.estimatedNano, AS_IT_IS);
    for (const type of TOKEN_TYPES)
      shift(totals, TOKENS, after.tokens[type] - before.tokens[type], OF_TOKEN_TYPE[type]);
  }

  /** Counts a turn that is over. */
  count(series: Dimension, row: TurnRow): void {
    const totals = this.#totals.of(series);
    totals.raise(TOLL.turns, 1, OF_STATUS[row.status]);
    if (row.status === 'error') this.#totals.add(TOLL.turnErrors, { ...series, reason: row.reason ?? 'other' }, 1);
    if (totalTokens(row) === 0) return;
    totals.observe(TOLL.genAiTokenUsage, inputOf(row), OF_GEN_AI_TOKENS.input);
    totals.observe(TOLL.genAiTokenUsage, row.output + row.reasoning, OF_GEN_AI_TOKENS.output);
  }

  countTitle(series: Dimension): void {
    this.#totals.add(TOLL.titleTurns, series, 1);
  }

  countUnpriced(series: Dimension, tokens: number): void {
    this.#totals.add(TOLL.unpricedTokens, series, tokens);
  }

  observeDuration(series: Dimension, { status, reason }: TurnRow, durationMs: number): void {
    const totals = this.#totals.of(series);
    totals.observe(TOLL.turnDuration, durationMs, AS_IT_IS);
    const failure: keyof typeof OF_FAILURE = reason ?? status;
    totals.observe(TOLL.genAiOperationDuration, durationMs, status === 'ok' ? genAiLabels : OF_FAILURE[failure]);
  }

  /** Whether the totals would pass what an exact integer can hold. */
  wouldOverflow({ costNano, estimatedNano, tokens }: Usage): boolean {
    const totals = this.#totals;
    return (
      !Number.isSafeInteger(totals.grand(TOLL.cost) + costNano) ||
      !Number.isSafeInteger(totals.grand(TOLL.costEstimated) + estimatedNano) ||
      !Number.isSafeInteger(totals.grand(TOLL.tokens) + totalTokens(tokens))
    );
  }
}

/** By the conventions the whole input: what was read from and written to the cache is part of it. */
const inputOf = ({ input, cache_read, cache_write }: TokenCounts) => input + cache_read + cache_write;
