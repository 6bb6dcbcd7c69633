// What an alert is: its rule, what to do about it, and the proof that it fires and that it keeps silent.

/** A moment of a made-up history, in promtool's notation. */
export interface Case {
  readonly name: string;
  /** Series and their values, a value a minute unless `interval` says otherwise. */
  readonly series: Readonly<Record<string, string>>;
  readonly interval?: string;
  /** When the alert is looked at. */
  readonly at: string;
}

export interface FiringCase extends Case {
  /** Labels of the alert beside its severity. */
  readonly labels: Readonly<Record<string, string>>;
  readonly summary: string;
}

export interface Alert {
  readonly name: string;
  readonly severity: 'critical' | 'warning';
  readonly expr: string;
  readonly for?: string;
  readonly keepFiringFor?: string;
  /** One line, with Prometheus' template. */
  readonly summary: string;
  /** For the runbook: what is so, and why it matters. */
  readonly meaning: string;
  /** For the runbook: what to do, in order. */
  readonly steps: readonly string[];
  readonly fires: readonly FiringCase[];
  readonly silent: readonly Case[];
}
