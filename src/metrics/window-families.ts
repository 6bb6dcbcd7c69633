// The part of the catalogue that is about windows: what tiles show, on event time.

import { counted, family, type MetricFamily, NOT_ADDITIVE } from './metric-family.ts';

const NANO = 1e9;
const MS = 1e3;
const WINDOW = ['window', 'tile', 'upstream_provider', 'provider'] as const;

export const WINDOW_FAMILIES = {
  windowCost: counted('toll_window_cost_usd', {
    type: 'gauge',
    unit: '{USD}',
    scale: NANO,
    labels: WINDOW,
    help: `Net stated cost of the turns in a window, in USD. Estimated cost is not in it: absent where the cost of every turn in it is estimated or unknown. ${NOT_ADDITIVE}`,
  }),
  windowTokens: counted('toll_window_tokens', {
    type: 'gauge',
    unit: '{token}',
    labels: WINDOW,
    help: `Net tokens of the turns in a window without those read from the cache. ${NOT_ADDITIVE}`,
  }),
  windowCacheReadTokens: counted('toll_window_cache_read_tokens', {
    type: 'gauge',
    unit: '{token}',
    labels: WINDOW,
    help: `Net tokens that the turns in a window read from the cache. ${NOT_ADDITIVE}`,
  }),
  windowTurns: counted('toll_window_turns', {
    type: 'gauge',
    unit: '{turn}',
    labels: WINDOW,
    help: `Turns in a window. ${NOT_ADDITIVE}`,
  }),
  windowSessions: counted('toll_window_sessions', {
    type: 'gauge',
    unit: '{session}',
    labels: ['window', 'tile'],
    help: `Distinct sessions with a turn in a window. Not additive over tiles either. ${NOT_ADDITIVE}`,
  }),
  windowModelCost: counted('toll_window_model_cost_usd', {
    type: 'gauge',
    unit: '{USD}',
    scale: NANO,
    labels: [...WINDOW, 'model'],
    help: `As toll_window_cost_usd (stated cost only), for the models that cost most; the rest is model="other". ${NOT_ADDITIVE}`,
  }),
  windowModelTokens: counted('toll_window_model_tokens', {
    type: 'gauge',
    unit: '{token}',
    labels: [...WINDOW, 'model'],
    help: `As toll_window_tokens, for the models that cost most; the rest is model="other". ${NOT_ADDITIVE}`,
  }),
  windowStart: family('toll_window_start_timestamp_seconds', {
    type: 'gauge',
    unit: 's',
    scale: MS,
    labels: ['window'],
    help: 'When a window begins, Unix time, in the configured time zone; 0 for `all`.',
  }),
} as const satisfies Record<string, MetricFamily>;
