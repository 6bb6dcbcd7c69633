// The same alerts for Grafana's own alerting, for those who have no Alertmanager. Grafana asks Prometheus for the rule's
// expression, which finds something exactly while the alert is to fire.

import type { Alert } from './alert.ts';

/** As deploy/grafana/datasource.yaml names it. */
const DATASOURCE = 'prometheus';
const LOOKS_BACK_SECONDS = 600;

/** `TollMonthlyLimitSoft` → `toll-monthly-limit-soft`. Grafana takes 40 characters. */
const uidOf = (name: string) => name.replace(/(?<=[a-z])(?=[A-Z])/g, '-').toLowerCase();

/** In Grafana `$value` is a text about all queries; the number is under the query's name. */
const templateOf = (text: string) => text.replaceAll('$value', '$values.A.Value');

function rule({ name, severity, expr, for: lasting = '0s', summary }: Alert, runbook: string): object {
  const relativeTimeRange = { from: LOOKS_BACK_SECONDS, to: 0 };
  return {
    uid: uidOf(name),
    title: name,
    condition: 'B',
    for: lasting,
    noDataState: 'OK',
    execErrState: 'Error',
    labels: { severity },
    annotations: { summary: templateOf(summary), runbook_url: runbook },
    data: [
      {
        refId: 'A',
        datasourceUid: DATASOURCE,
        relativeTimeRange,
        model: { refId: 'A', expr, instant: true, range: false },
      },
      {
        refId: 'B',
        datasourceUid: '__expr__',
        relativeTimeRange,
        // Whatever is found fires, also a balance of 0.
        model: { refId: 'B', type: 'math', expression: 'is_number($A) || is_nan($A) || is_inf($A)' },
      },
    ],
  };
}

/** A provisioning file of Grafana, as plain data. */
export function grafanaManaged(alerts: readonly Alert[], runbookOf: (alert: Alert) => string): object {
  const rules = alerts.map((alert) => rule(alert, runbookOf(alert)));
  return { apiVersion: 1, groups: [{ orgId: 1, name: 'tollbridge', folder: 'Tollbridge', interval: '1m', rules }] };
}
