// What is known of one metric, whoever makes its values.

/** Part of the help of every family with a label `window`. */
export const NOT_ADDITIVE = 'Windows overlap: never sum over `window`.';

export type MetricType = 'counter' | 'gauge' | 'histogram';

export interface MetricFamily {
  /** The Prometheus name, written out in full: base unit and `_total` included. */
  readonly name: string;
  /** The OpenTelemetry name. Units are annotations, so that every route gives the same Prometheus name. */
  readonly otelName: string;
  readonly type: MetricType;
  /**
   * `s`, `By`, or `1` for a ratio; everything else in braces, as an annotation: what reads OpenTelemetry makes a suffix of
   * a unit and leaves annotations alone, so a name that has its suffix already comes out the same on every route.
   */
  readonly unit: string;
  readonly help: string;
  readonly labels: readonly string[];
  /** Labels that are left out where they have no value. */
  readonly optional?: readonly string[];
  /** Upper bounds of the histogram's buckets, in the exported unit. */
  readonly buckets?: readonly number[];
  /** The ledger keeps integers: what one exported unit is in them (1e9 for money, 1e3 for seconds). */
  readonly scale: number;
}

interface Definition {
  type: MetricType;
  unit: string;
  help: string;
  labels?: readonly string[];
  optional?: readonly string[];
  buckets?: readonly number[];
  scale?: number;
  /** Only where it cannot be derived from the Prometheus name. */
  otelName?: string;
}

export function family(name: string, definition: Definition): MetricFamily {
  const { labels = [], scale = 1, otelName, ...rest } = definition;
  return { name, otelName: otelName ?? name.replace(/_total$/, ''), labels, scale, ...rest };
}

/** Left out where one ledger holds everything. */
export const PARTITION = 'partition';

/**
 * A family of what a ledger counted. Where several ledgers divide the turns, each names its part, so that sums over them
 * are right although replicas of one part must not be added.
 */
export function counted(name: string, definition: Definition): MetricFamily {
  const { labels = [], optional = [] } = definition;
  return family(name, { ...definition, labels: [...labels, PARTITION], optional: [...optional, PARTITION] });
}
