// Runs, for those who have Tempo and Loki: which there were, what their sessions cost, and what was said of each turn. It
// asks neither Prometheus nor the bridge, so it is a file of its own that is loaded beside the others where there is a
// store of traces. Metrics know no sessions: this is where a session can be found.

import {
  type Dashboard,
  DashboardBuilder,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  TextBoxVariableBuilder,
  VariableRefresh,
} from '@grafana/grafana-foundation-sdk/dashboard';
import * as logsPanel from '@grafana/grafana-foundation-sdk/logs';
import { DataqueryBuilder as LokiQuery } from '@grafana/grafana-foundation-sdk/loki';
import * as tablePanel from '@grafana/grafana-foundation-sdk/table';
import { SearchTableType, DataqueryBuilder as TempoQuery } from '@grafana/grafana-foundation-sdk/tempo';
import { TAG } from './dashboard.ts';
import { RUNS_UID } from './uids.ts';

const TEMPO = { type: 'tempo', uid: '${traces}' } as const;
const LOKI = { type: 'loki', uid: '${logs}' } as const;
const RUNS_MAX = 200;
const SESSIONS_MAX = 20;
const LINES_MAX = 1000;
/** Of one trace; Tempo gives three unless asked for more, and refuses to give more than this. */
const RUNS_OF_TRACE_MAX = 100;
const SESSION = 'gen_ai_conversation_id';

/** Loki knows attributes by names with `_` for each dot. */
const RECORDS = `{service_namespace="tollbridge", service_name=~"$agent"} | ${SESSION}=~".*$session.*"`;
/** The sessions whose turns bear the most of a cost. */
const dearest = (cost: string) =>
  `topk(${SESSIONS_MAX}, sum by (service_name, ${SESSION}) (sum_over_time(${RECORDS} | ${cost} != "" | unwrap ${cost} [$__range])))`;
/** Anchored here, because not every Tempo does it. */
const OWN_RUNS =
  'resource.service.namespace = "tollbridge" && resource.service.name =~ "^$agent$" && span.gen_ai.operation.name = "invoke_agent" && span.gen_ai.conversation.id =~ ".*$session.*"';
const RUN_FIELDS = [
  ...['span.gen_ai.conversation.id', 'span.toll.project', 'span.toll.user', 'span.toll.run.calls'],
  ...['span.toll.run.tool_calls', 'span.toll.run.cost.usd', 'span.error.type'],
];

const usd = [
  { id: 'unit', value: 'currencyUSD' },
  { id: 'decimals', value: 4 },
];
const toSession = [
  {
    id: 'links',
    value: [
      {
        title: 'Only this session',
        url: `/d/${RUNS_UID}?\${traces:queryparam}&\${logs:queryparam}&\${agent:queryparam}&var-session=\${__value.raw}&\${__url_time_range}`,
      },
    ],
  },
];

const runs = () =>
  new tablePanel.PanelBuilder()
    .title('Runs')
    .description(
      'One line for each prompt, the newest first. A line opens the run: its calls, its tools, its sub-agents.',
    )
    .datasource(TEMPO)
    .noValue('No run in this time')
    .withTarget(
      new TempoQuery()
        .refId('A')
        .queryType('traceql')
        .query(`{ ${OWN_RUNS} } | select(${RUN_FIELDS.join(', ')})`)
        .limit(RUNS_MAX)
        .spss(RUNS_OF_TRACE_MAX)
        .tableType(SearchTableType.Spans)
        .filters([]),
    )
    .overrideByName('gen_ai.conversation.id', toSession)
    .overrideByName('toll.run.cost.usd', usd);

const sessions = () =>
  new tablePanel.PanelBuilder()
    .title('Sessions that cost the most')
    .description(
      'What the turns of each session cost in USD, as far as records of them arrived: as their agent stated it, and as estimated where it stated none and a rule prices it. What is added up to the last digit is in the metrics. A session leads to its runs.',
    )
    .datasource(LOKI)
    .noValue('No cost in this time')
    .withTarget(new LokiQuery().refId('A').expr(dearest('toll_cost_usd')).queryType('instant').instant(true))
    .withTarget(new LokiQuery().refId('B').expr(dearest('toll_cost_estimated_usd')).queryType('instant').instant(true))
    // A line for each session, with both.
    .withTransformation({ id: 'merge', options: {} })
    .overrideByName(SESSION, toSession)
    .overrideByName('Value #A', [{ id: 'displayName', value: 'Cost' }, ...usd])
    .overrideByName('Value #B', [{ id: 'displayName', value: 'Estimated' }, ...usd]);

const records = () =>
  new logsPanel.PanelBuilder()
    .title('Turns, failures and verdicts')
    .description(
      'What was recorded of each turn, each call that failed, and each stop or warning of a policy. A line leads to its run.',
    )
    .datasource(LOKI)
    .noValue('No record in this time')
    .showTime(true)
    .enableLogDetails(true)
    .withTarget(new LokiQuery().refId('A').expr(RECORDS).queryType('range').maxLines(LINES_MAX));

/** The dashboard as Grafana imports it. */
export function runsDashboard(): Dashboard {
  return new DashboardBuilder('Tollbridge / Runs')
    .uid(RUNS_UID)
    .description('What agents did, prompt by prompt: needs otlp.traces and otlp.logs, Tempo and Loki.')
    .tags([TAG])
    .time({ from: 'now-6h', to: 'now' })
    .refresh('1m')
    .timezone('browser')
    .readonly()
    .variables([
      new DatasourceVariableBuilder('traces').label('Traces').type('tempo'),
      new DatasourceVariableBuilder('logs').label('Logs').type('loki'),
      new QueryVariableBuilder('agent')
        .label('Agent')
        .datasource(LOKI)
        .query({ label: 'service_name', stream: '{service_namespace="tollbridge"}', type: 1, refId: 'agent' })
        .refresh(VariableRefresh.OnTimeRangeChanged)
        .includeAll(true)
        .allValue('.+')
        .current({ text: 'All', value: '$__all' }),
      new TextBoxVariableBuilder('session').label('Session').description('A part of its id is enough.'),
    ])
    .links([
      new DashboardLinkBuilder('Tollbridge')
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .asDropdown(false)
        .includeVars(false)
        .keepTime(true),
    ])
    .withPanel(runs().id(1).gridPos({ x: 0, y: 0, w: 16, h: 12 }))
    .withPanel(sessions().id(2).gridPos({ x: 16, y: 0, w: 8, h: 12 }))
    .withPanel(records().id(3).gridPos({ x: 0, y: 12, w: 24, h: 14 }))
    .build();
}
