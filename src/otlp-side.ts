// What a bridge sends by OTLP, put together: its metrics at an interval, and runs as traces and log records.

import type { MetricProducer } from '@opentelemetry/sdk-metrics';
import { OTLP_SIGNALS, type OtlpConfig, type OtlpSignal, type OtlpTarget, otlpTargets } from './config-otlp.ts';
import type { Log } from './log.ts';
import type { Health } from './metrics/health.ts';
import { OtlpPush } from './metrics/otlp-push.ts';
import { type OtlpSender, otlpHeaders } from './otlp-sender.ts';
import type { OtlpStatus } from './status.ts';
import { RunExport } from './traces/run-export.ts';

export interface OtlpSideOptions {
  readonly otlp: OtlpConfig;
  readonly env: NodeJS.ProcessEnv;
  /** What a scrape exports beside the SDK's instruments. */
  readonly producer: MetricProducer;
  /** Whether the totals are all there; until then no metrics are pushed. */
  readonly isDue: () => boolean;
  /** Asked for when the first export ends, because it is made from what `push` reads. */
  readonly meter: () => Pick<Health, 'exported' | 'dropped'>;
  readonly log: Log;
}

export class OtlpSide {
  readonly signals: readonly OtlpSignal[];
  /** Begins when its reader is bound to a MeterProvider. */
  readonly push: OtlpPush | undefined;
  /** Absent where neither traces nor logs are sent. */
  readonly runs: RunExport | undefined;

  /** @throws PermanentFailure when a variable of headers is empty or not of their form */
  constructor({ otlp, env, producer, isDue, meter, log }: OtlpSideOptions) {
    const targets = otlpTargets(otlp);
    const { metrics, traces, logs } = targets;
    this.signals = OTLP_SIGNALS.filter((signal) => targets[signal]);
    const headersOf = ({ headers_env, key }: OtlpTarget) => otlpHeaders(headers_env, env, `${key}.headers_env`);
    this.push =
      metrics &&
      new OtlpPush({
        ...{ target: metrics, headers: headersOf(metrics), intervalMs: otlp.interval, producer, isDue, log },
        onEnd: (result) => meter().exported('metrics', result),
      });
    if (!traces && !logs) return;
    this.runs = new RunExport({
      traces: traces && { ...traces, headers: headersOf(traces) },
      logs: logs && { ...logs, headers: headersOf(logs) },
      meter: {
        exported: (signal, result) => meter().exported(signal, result),
        dropped: (signal, reason, records) => meter().dropped(signal, reason, records),
      },
      log,
    });
  }

  status(): OtlpStatus[] {
    const { push, runs } = this;
    return [
      ...(push ? [{ ...statusOf('metrics', push.sender), interval_s: push.intervalMs / 1e3 }] : []),
      ...(runs?.outboxes() ?? []).map(({ signal, sender }) => statusOf(signal, sender)),
    ];
  }

  /** Where what goes, a line each. */
  banner(): string[] {
    return this.status().map(({ signal, endpoint, interval_s }, index) => {
      const how = interval_s === undefined ? signal : `${signal} every ${interval_s} s`;
      return `  ${index === 0 ? 'otlp' : '    '}      ${endpoint} (${how})`;
    });
  }

  /** Sends everything a last time. To be called while the ledger can still be read. Takes five seconds at most. */
  async stop(): Promise<void> {
    await Promise.all([this.push?.stop(), this.runs?.stop()]);
  }
}

type Sender = Pick<OtlpSender<unknown>, 'endpoint' | 'problem' | 'lastOkMs'>;

function statusOf(signal: OtlpSignal, { endpoint, problem, lastOkMs }: Sender): OtlpStatus {
  return {
    ...{ signal, endpoint },
    ...(lastOkMs === undefined ? {} : { last_ok_ms: lastOkMs }),
    ...(problem === undefined ? {} : { problem }),
  };
}
