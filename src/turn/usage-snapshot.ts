// The snapshots that OpenUsage's pollers make, one per account and poll: what is read of them, and nothing else is kept.
// Their texts (message, diagnostics, raw) may hold anything, so there is no field here that could hold them.

import { z } from 'zod';
import { ACCOUNT_STATUSES } from '../poll/poll-result.ts';
import {
  type Decoded,
  ignored,
  rejected,
  SNAPSHOT_ATTRIBUTES,
  SNAPSHOT_MODEL_FIELDS,
  type SnapshotMetric,
  type SnapshotModel,
  type StatedPoll,
  type UsageSnapshot,
} from './decoded.ts';
import { accountId, isObject, model, present, provider, unixMs } from './fields.ts';
import { rejectionOf, valueAt } from './message-fields.ts';

/** More than any provider has; what is beyond is not looked at. */
const METRICS_MAX = 2000;
const MODEL_ROWS_MAX = 2000;
const METRIC_KEY_MAX_CHARS = 96;
/** What keys are made of. Any other word in one may be the name of somebody's project, client or tool. */
const KEY_WORDS: ReadonlySet<string> = new Set(
  (
    'acceptances accepted active added ai all alt amount analytics api auto available avg balance billing ' +
    'block bonus budget burn byok bytes cache cached calls cash changed chat chats citation cli cloud code ' +
    'codex commits completions composer concurrency console context conversations core cost count cowork ' +
    'create creation credit credits cycle daily day disabled efficiency exhausted expiring files five flash ' +
    'generate generation gh granted grants graphql hit hour hours http image included individual input ' +
    'interactions keys languages latency length limit lines loaded local low max mcp messages model models ' +
    'moderation monthly ms msgs one opus others output owners pct pending per percent percentage plan premium ' +
    'primary pro progress projected projects prompts queries quota rate ratio read reasoning recent reload ' +
    'remaining removed requests reset review rolling rpd rpm runout scored search secondary self servers ' +
    'session sessions seven share size sonnet spend storage streamed suggested suggestions tab tasks team ' +
    'thinking threads threshold tier time today token tokens tool tools top topped total tpd tpm tracked ' +
    'trigger turn up usage usd used vision voucher vram weekly window with write 1d 30d 4xx 5h 5xx 7d'
  ).split(' '),
);
/** The keys that are read although they name something: a model. */
const MODEL_KEY = /^(?:quota_model_[a-z0-9_]{1,64}|model_[a-z0-9_]{1,64}_(?:usage_pct|used))$/;
const UNIT = /^(?:%|[a-z]{1,16}(?:\/[a-z]{1,8})?)$/i;
/** What windows and plans look like: no e-mail, no path, and nothing that begins as keys and ids do. */
const SHORT_TEXT = /^(?!(?:sk|oc|st|wrk|key|ghp|Fe26)[-_.*])[a-z0-9$][a-z0-9 %$_.+-]{0,31}$/i;
const status = z
  .string({ error: 'expected the status of a snapshot' })
  .toLowerCase()
  .pipe(z.enum(ACCOUNT_STATUSES, { error: `expected one of ${ACCOUNT_STATUSES.join(', ').toUpperCase()}` }));
const anything = z.unknown().optional();

/** The form of a snapshot. Only identity, time and state must fit; of the rest, what does not fit is left out. */
export const usageSnapshot = z
  .object(
    {
      provider_id: provider,
      account_id: z.preprocess((stated) => withoutHubPrefix(stated), accountId),
      timestamp: unixMs,
      status: status.default('unknown'),
      metrics: anything.meta({
        description: 'Key → { limit, remaining, used, unit, window }; a missing number is unknown.',
      }),
      resets: anything.meta({ description: 'Metric key → time, in Unix ms or ISO 8601.' }),
      attributes: anything.meta({ description: `Of these, ${SNAPSHOT_ATTRIBUTES.join(', ')} are read.` }),
      model_usage: anything.meta({ description: `Rows of raw_model_id, window, ${SNAPSHOT_MODEL_FIELDS.join(', ')}.` }),
    },
    { error: 'expected an object' },
  )
  .meta({ description: 'A UsageSnapshot; what it holds beyond these fields is not read.' });

/** What is known about a snapshot from beside it. */
export type SnapshotContext = Omit<StatedPoll, 'snapshot'>;

/** Decodes a snapshot as its sender wrote it. Never throws. */
export function decodeSnapshot(stated: unknown, context: SnapshotContext): Decoded {
  if (!isObject(stated)) return rejected({ reason: 'wrong_type', detail: 'the snapshot: expected an object' });
  if (isTemplate(stated)) return ignored('not_ready');
  // Blank is as good as absent.
  const said = Object.fromEntries(Object.entries(stated).filter(([, value]) => value !== null && value !== ''));
  const result = usageSnapshot.safeParse(said);
  if (result.success) return decodedSnapshot(result.data, context);
  const issue = result.error.issues[0]!;
  const path = issue.path.join('.');
  return rejected(rejectionOf(issue, path, valueAt(said, path)));
}

/** The same for a snapshot that has the form already. */
export function decodedSnapshot(stated: z.output<typeof usageSnapshot>, context: SnapshotContext): Decoded {
  const metrics = metricsOf(stated.metrics);
  // By what is kept, so that it is told alike at the end of every road.
  if (isTemplate({ ...stated, metrics })) return ignored('not_ready');
  const snapshot: UsageSnapshot = {
    provider: stated.provider_id,
    account: stated.account_id,
    takenMs: stated.timestamp,
    status: stated.status,
    metrics,
    resets: resetsOf(stated.resets),
    attributes: attributesOf(stated.attributes),
    models: modelsOf(stated.model_usage),
  };
  return { type: 'poll', poll: { snapshot, ...context } };
}

/** What a daemon answers before it has read anything: "not ready", which is not zero. */
function isTemplate({ status, metrics }: Readonly<Record<string, unknown>>): boolean {
  const isUnknown =
    status === undefined || status === null || (typeof status === 'string' && /^(unknown)?$/i.test(status.trim()));
  const isEmpty = !isObject(metrics) || Object.keys(metrics).length === 0;
  return isUnknown && isEmpty;
}

/** A hub rewrites ids as `machine:provider:account` on their way out. */
function withoutHubPrefix(stated: unknown): unknown {
  const parts = typeof stated === 'string' ? /^[^:]{1,64}:([^:]{1,64}):([^:]+)$/.exec(stated.trim()) : null;
  return parts && provider.safeParse(parts[1]).success ? parts[2] : stated;
}

const finite = (value: unknown): number | undefined =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined;
const fitting = (value: unknown, pattern: RegExp): string => {
  const text = typeof value === 'string' ? value.trim() : '';
  return pattern.test(text) ? text : '';
};
const shortText = (value: unknown): string => fitting(value, SHORT_TEXT);

/** Entries whose key is a metric's, by lower-case key. */
const entriesOf = (value: unknown): [string, unknown][] =>
  isObject(value)
    ? Object.entries(value)
        .slice(0, METRICS_MAX)
        .map(([key, of]): [string, unknown] => [key.toLowerCase(), of])
        .filter(([key]) => isMetricKey(key))
    : [];

function isMetricKey(key: string): boolean {
  if (key.length > METRIC_KEY_MAX_CHARS) return false;
  return MODEL_KEY.test(key) || key.split('_').every((word) => KEY_WORDS.has(word));
}

function metricsOf(stated: unknown): Record<string, SnapshotMetric> {
  return Object.fromEntries(
    entriesOf(stated).flatMap(([key, metric]) => {
      if (!isObject(metric)) return [];
      const [limit, remaining, used] = [metric.limit, metric.remaining, metric.used].map(finite);
      const texts = { unit: fitting(metric.unit, UNIT), window: shortText(metric.window) };
      return [[key, { ...present({ limit, remaining, used }), ...texts }]];
    }),
  );
}

function resetsOf(stated: unknown): Record<string, number> {
  return Object.fromEntries(
    entriesOf(stated).flatMap(([key, time]) => {
      const ms = unixMs.safeParse(time).data;
      return ms === undefined ? [] : [[key, ms]];
    }),
  );
}

function attributesOf(stated: unknown): UsageSnapshot['attributes'] {
  if (!isObject(stated)) return {};
  return Object.fromEntries(
    SNAPSHOT_ATTRIBUTES.flatMap((name) => {
      const text = Object.hasOwn(stated, name) ? shortText(stated[name]) : '';
      return text ? [[name, text]] : [];
    }),
  );
}

function modelsOf(stated: unknown): SnapshotModel[] {
  if (!Array.isArray(stated)) return [];
  return stated.slice(0, MODEL_ROWS_MAX).flatMap((row) => {
    const id = isObject(row) ? model.safeParse(row.raw_model_id).data : undefined;
    if (id === undefined) return [];
    const numbers = SNAPSHOT_MODEL_FIELDS.map((field) => [field, finite(row[field])] as const);
    const known = Object.fromEntries(numbers.filter(([, value]) => value !== undefined && value >= 0));
    return [{ model: id, window: shortText(row.window), ...known }];
  });
}

/** A snapshot in the form that OpenUsage writes and reads. */
export function snapshotRecord(snapshot: UsageSnapshot): object {
  const { provider, account, takenMs, status, metrics, resets, attributes, models } = snapshot;
  return {
    provider_id: provider,
    account_id: account,
    timestamp: new Date(takenMs).toISOString(),
    status: status.toUpperCase(),
    metrics,
    resets: Object.fromEntries(Object.entries(resets).map(([key, ms]) => [key, new Date(ms).toISOString()])),
    attributes,
    ...(models.length > 0 && {
      model_usage: models.map(({ model: raw_model_id, ...row }) => ({ raw_model_id, ...row })),
    }),
  };
}
