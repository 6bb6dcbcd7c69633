// Accounts that cannot be read, turns that nobody priced or placed, and the bridge itself.

import { BRIDGE, TOLL } from '../../src/metrics/catalogue.ts';
import { total } from '../promql.ts';
import type { Alert } from './alert.ts';
import { increase, ofAccount } from './expressions.ts';

const WORK = { provider: 'opencode', account: 'work' };
const ID = 'provider="opencode",account="work"';
const JOB = 'job="tollbridge"';
const status = (name: string, values: string) => ({ [`toll_account_status{${ID},status="${name}"}`]: values });
const DOCTOR = 'Run `tollbridge doctor` on the machine of the bridge: it says what is wrong and what to do.';

export const STATE_ALERTS: readonly Alert[] = [
  {
    name: 'TollAccountAuthRequired',
    severity: 'critical',
    expr: `${ofAccount(TOLL.accountStatus, 'status="auth_required"')} == 1`,
    for: '5m',
    summary: '{{ $labels.provider }}/{{ $labels.account }} is refused: its key or sign-in is no longer valid',
    meaning: 'Agents with this key are refused too, and balance and limits of the account are not known any more.',
    steps: [DOCTOR, 'Renew the key, or sign in again; the bridge tries a changed credential within seconds.'],
    fires: [
      {
        ...{ name: 'refused', series: status('auth_required', '0x5 1x20'), at: '20m', labels: WORK },
        summary: 'opencode/work is refused: its key or sign-in is no longer valid',
      },
    ],
    silent: [{ name: 'a single refusal', series: status('auth_required', '0x5 1x1 0x20'), at: '20m' }],
  },
  {
    name: 'TollAccountRateLimited',
    severity: 'warning',
    expr:
      `sum by (provider, account) (${increase(BRIDGE.polls, '15m', 'result="limited"')})` +
      ` / (sum by (provider, account) (${increase(BRIDGE.polls, '15m')}) > 0) > 0.5`,
    for: '5m',
    summary: '{{ $labels.provider }}/{{ $labels.account }} answers most polls with "too many requests"',
    meaning: 'What is shown of the account is older than it should be, and may soon vanish.',
    steps: ['Raise `poll.interval`, or poll from one bridge only, with `poll.publish: true` there.', DOCTOR],
    fires: [
      {
        name: 'most of a quarter of an hour',
        series: {
          [`tollbridge_polls_total{${ID},result="limited"}`]: '0+2x60',
          [`tollbridge_polls_total{${ID},result="ok"}`]: '0x60',
        },
        ...{ at: '40m', labels: WORK },
        summary: 'opencode/work answers most polls with "too many requests"',
      },
    ],
    silent: [
      {
        name: 'now and then',
        series: {
          [`tollbridge_polls_total{${ID},result="limited"}`]: '0+1x60',
          [`tollbridge_polls_total{${ID},result="ok"}`]: '0+3x60',
        },
        at: '40m',
      },
    ],
  },
  {
    name: 'TollAccountStale',
    severity: 'warning',
    expr:
      `${ofAccount(TOLL.accountStatus, 'status="unknown"')} == 1` +
      ` unless on (provider, account) ${ofAccount(TOLL.accountStatus, 'status!="unknown"')} == 1` +
      ` and on (provider, account) max by (provider, account) (${BRIDGE.polls.name}) > 0`,
    for: '15m',
    summary:
      'nothing is known of {{ $labels.provider }}/{{ $labels.account }} any more, so none of its limits is watched',
    meaning: 'Its polls have failed for longer than what they last said holds.',
    steps: [DOCTOR, "Look at the provider's status page: the remote may be down."],
    fires: [
      {
        name: 'polled, and unknown',
        series: {
          ...status('unknown', '0x5 1x40'),
          ...status('ok', '1x5 0x40'),
          [`tollbridge_polls_total{${ID},result="error"}`]: '1+1x45',
        },
        ...{ at: '40m', labels: WORK },
        summary: 'nothing is known of opencode/work any more, so none of its limits is watched',
      },
    ],
    silent: [
      { name: 'never polled: it labels turns only', series: status('unknown', '1x45'), at: '40m' },
      {
        ...{ name: 'another bridge knows', at: '40m' },
        series: {
          [`toll_account_status{${ID},status="unknown",instance="a"}`]: '1x45',
          [`toll_account_status{${ID},status="ok",instance="b"}`]: '1x45',
          [`tollbridge_polls_total{${ID},result="ok"}`]: '1+1x45',
        },
      },
    ],
  },
  {
    name: 'TollBalanceVanished',
    severity: 'warning',
    expr:
      `count by (provider, account) (${TOLL.balance.name} offset 1d) unless on (provider, account) ` +
      `count by (provider, account) (${TOLL.balance.name})`,
    for: '1h',
    summary:
      'the balance of {{ $labels.provider }}/{{ $labels.account }} was known a day ago and is not now, so its alerts are blind',
    meaning:
      'The route that tells it fails, although others may work; or the account was taken out of the configuration.',
    steps: [DOCTOR, 'If the account was removed on purpose, nothing: this ends by itself within a day.'],
    fires: [
      {
        name: 'gone since two hours',
        interval: '2m',
        series: { [`toll_balance{${ID},kind="console",currency="USD"}`]: '5x720 stale' },
        ...{ at: '26h', labels: WORK },
        summary: 'the balance of opencode/work was known a day ago and is not now, so its alerts are blind',
      },
    ],
    silent: [
      {
        ...{ name: 'still known', interval: '2m', at: '26h' },
        series: { [`toll_balance{${ID},kind="console",currency="USD"}`]: '5x1000' },
      },
      { name: 'never known: a key alone tells none', interval: '2m', series: status('ok', '1x1000'), at: '26h' },
    ],
  },
  {
    name: 'TollDrift',
    severity: 'warning',
    expr:
      `max by (provider, account) (abs(${TOLL.driftRatio.name}{window="7d"})) > 0.1` +
      ` and on (provider, account) max by (provider, account) (abs(${TOLL.driftUsd.name}{window="7d"})) > 1`,
    for: '2h',
    summary:
      '{{ $labels.provider }}/{{ $labels.account }}: {{ $value | humanizePercentage }} of what its balance lost in 7 days no turn explains',
    meaning:
      'Somebody or something spends from this balance without being metered, or turns are counted that it did not pay.',
    steps: [
      'Look for agents without the plugin, and for other programs with the same key.',
      'Title calls and aborted calls are billed and not reported: a few per cent are usual.',
      'If nothing explains it, exchange the key.',
    ],
    fires: [
      {
        name: 'a fifth, and more than a dollar',
        interval: '5m',
        series: { [`toll_drift_ratio{${ID},window="7d"}`]: '0.2x60', [`toll_drift_usd{${ID},window="7d"}`]: '4x60' },
        ...{ at: '4h', labels: WORK },
        summary: 'opencode/work: 20% of what its balance lost in 7 days no turn explains',
      },
    ],
    silent: [
      {
        ...{ name: 'a fifth of cents', interval: '5m', at: '4h' },
        series: { [`toll_drift_ratio{${ID},window="7d"}`]: '0.2x60', [`toll_drift_usd{${ID},window="7d"}`]: '0.4x60' },
      },
      {
        ...{ name: 'a few per cent', interval: '5m', at: '4h' },
        series: { [`toll_drift_ratio{${ID},window="7d"}`]: '0.04x60', [`toll_drift_usd{${ID},window="7d"}`]: '9x60' },
      },
    ],
  },
  {
    name: 'TollUpstreamUnmapped',
    severity: 'warning',
    expr: `max by (upstream_provider, reason) (${TOLL.upstreamUnmapped.name}) == 1`,
    for: '10m',
    summary: 'turns served by {{ $labels.upstream_provider }} are counted, and no tile shows them',
    meaning: 'Spend that belongs to no tile is easily overlooked.',
    steps: ['`tollbridge doctor` prints the line for `telemetry.provider_links` that puts them under a tile.'],
    fires: [
      {
        name: 'no link',
        series: { 'toll_upstream_unmapped{upstream_provider="cerebras",reason="unconfigured"}': '1x30' },
        ...{ at: '20m', labels: { upstream_provider: 'cerebras', reason: 'unconfigured' } },
        summary: 'turns served by cerebras are counted, and no tile shows them',
      },
    ],
    silent: [
      { name: 'none', series: { 'toll_tile_info{upstream_provider="openai",tile="openai"}': '1x30' }, at: '20m' },
    ],
  },
  {
    name: 'TollModelUnpriced',
    severity: 'warning',
    expr: `max by (provider, model) (${TOLL.pricingInfo.name}{state="unknown"}) == 1`,
    for: '10m',
    summary: 'turns of {{ $labels.model }} at {{ $labels.provider }} state no cost, and no rule says what that means',
    meaning: 'Their tokens are counted, their cost is unknown: sums of cost are too low by it.',
    steps: ['Add a rule under `pricing:`: `free`, `included` (in a subscription) or `estimated` with prices.'],
    fires: [
      {
        name: 'unknown',
        series: { 'toll_pricing_info{provider="moonshot",model="kimi-k3",state="unknown"}': '1x30' },
        ...{ at: '20m', labels: { provider: 'moonshot', model: 'kimi-k3' } },
        summary: 'turns of kimi-k3 at moonshot state no cost, and no rule says what that means',
      },
    ],
    silent: [
      { name: 'included', series: { 'toll_pricing_info{provider="a",model="b",state="included"}': '1x30' }, at: '20m' },
    ],
  },
  {
    name: 'TollBridgeAbsent',
    severity: 'critical',
    expr: `absent(up{${JOB}} == 1)`,
    for: '5m',
    summary: 'no bridge is scraped, so every alert about money is blind',
    meaning: 'The bridge is down, or Prometheus cannot reach it. Plugins keep turns in their spool meanwhile.',
    steps: [
      'Start it: `tollbridge start`, or the service that runs it.',
      DOCTOR,
      'Look at the targets page of Prometheus.',
    ],
    fires: [
      {
        ...{ name: 'down', series: { [`up{${JOB},instance="a"}`]: '1x5 0x20' }, at: '15m', labels: {} },
        summary: 'no bridge is scraped, so every alert about money is blind',
      },
    ],
    silent: [
      {
        ...{ name: 'one of two is there', at: '15m' },
        series: { [`up{${JOB},instance="a"}`]: '0x20', [`up{${JOB},instance="b"}`]: '1x20' },
      },
    ],
  },
  {
    name: 'TollSourceDown',
    severity: 'warning',
    expr: `max by (instance, source) (${BRIDGE.sourceUp.name}) == 0`,
    for: '10m',
    summary: 'the source {{ $labels.source }} of {{ $labels.instance }} is down',
    meaning: 'What it would bring is not counted now. Senders that wait, streams and spools keep it.',
    steps: [DOCTOR],
    fires: [
      {
        name: 'JetStream away',
        series: { 'tollbridge_source_up{instance="a",source="jetstream"}': '1x5 0x20' },
        ...{ at: '20m', labels: { instance: 'a', source: 'jetstream' } },
        summary: 'the source jetstream of a is down',
      },
    ],
    silent: [
      {
        name: 'a restart',
        series: { 'tollbridge_source_up{instance="a",source="socket"}': '1x5 0x3 1x20' },
        at: '20m',
      },
    ],
  },
  {
    name: 'TollTurnsLost',
    severity: 'critical',
    expr: `sum by (source) (${increase(BRIDGE.lost, '15m')}) > 0`,
    keepFiringFor: '1h',
    summary: 'what came by {{ $labels.source }} is gone for good: sums are too low by it',
    meaning:
      'Senders that do not wait had left and the ledger could not commit, or a stream let go of messages unread.',
    steps: [
      'The log of the bridge says what and how many.',
      'Make room on its disk; let the stream keep longer (`nats.jetstream.max_age`).',
    ],
    fires: [
      {
        name: 'three requests',
        series: { 'tollbridge_requests_lost_total{source="socket"}': '0x10 3x20' },
        ...{ at: '15m', labels: { source: 'socket' } },
        summary: 'what came by socket is gone for good: sums are too low by it',
      },
    ],
    silent: [{ name: 'none', series: { 'tollbridge_requests_lost_total{source="socket"}': '0x30' }, at: '15m' }],
  },
  {
    name: 'TollTurnsCountedTwice',
    severity: 'warning',
    expr: `sum by (source) (${increase(BRIDGE.twins, '1h')}) > 5`,
    keepFiringFor: '1h',
    summary: 'turns that come by {{ $labels.source }} look like those of another source: they may be counted twice',
    meaning: 'An agent delivers by two roads, such as hooks and telemetry, that name its turns differently.',
    steps: [
      'Choose one road: `sources.claude_code` or `sources.codex`.',
      'What was counted stays; a report by session shows it.',
    ],
    fires: [
      {
        name: 'every turn',
        series: { 'tollbridge_duplicates_suspected_total{source="spool"}': '0x10 0+1x60' },
        ...{ at: '60m', labels: { source: 'spool' } },
        summary: 'turns that come by spool look like those of another source: they may be counted twice',
      },
    ],
    silent: [
      {
        name: 'by chance',
        series: { 'tollbridge_duplicates_suspected_total{source="spool"}': '0x10 1x20 2x40' },
        at: '60m',
      },
    ],
  },
  {
    name: 'TollRelayWaiting',
    severity: 'warning',
    expr: `max by (instance) (min_over_time(${BRIDGE.relayQueueEvents.name}[30m])) > 0`,
    for: '30m',
    summary: 'turns have waited on the disk of {{ $labels.instance }} for an hour, because NATS does not take them',
    meaning: 'Nothing is lost while there is room (`relay.queue_max_bytes`), but nobody counts them.',
    steps: [
      'Run `tollbridge doctor` on the machine of the relay: it says what is wrong and what to do.',
      'See that the NATS server runs, has its streams (`tollbridge nats setup`) and room on its disk.',
      'See that it lets the relay publish for the teams of all its `tokens` (`tollbridge nats setup --print`).',
    ],
    fires: [
      {
        name: 'growing for more than an hour',
        series: { 'tollbridge_relay_queue_events{instance="laptop"}': '0x5 1+10x120' },
        ...{ at: '100m', labels: { instance: 'laptop' } },
        summary: 'turns have waited on the disk of laptop for an hour, because NATS does not take them',
      },
    ],
    silent: [
      {
        name: 'a moment',
        series: { 'tollbridge_relay_queue_events{instance="laptop"}': '0x50 90x5 0x60' },
        at: '100m',
      },
    ],
  },
  {
    name: 'TollCertificateEnds',
    severity: 'warning',
    expr: `min by (instance, listener) (${BRIDGE.certificateEnd.name}) - time() < 3 * 86400`,
    for: '1h',
    summary: 'the certificate of {{ $labels.listener }} at {{ $labels.instance }} ends within three days',
    meaning: 'After that no reader or sender connects any more, and senders keep what they have.',
    steps: [
      'Renew it. The files are looked at again and again: a new certificate and key are served without a restart.',
      'Renewed and still here? The log says why the new files cannot be used, and the old ones stay.',
    ],
    fires: [
      {
        name: 'nobody renews it',
        series: { 'tollbridge_certificate_end_timestamp_seconds{instance="a",listener="metrics.tls"}': '200000x120' },
        ...{ at: '2h', labels: { instance: 'a', listener: 'metrics.tls' } },
        summary: 'the certificate of metrics.tls at a ends within three days',
      },
    ],
    silent: [
      {
        name: 'it was renewed',
        series: {
          'tollbridge_certificate_end_timestamp_seconds{instance="a",listener="metrics.tls"}': '200000x30 8000000x120',
        },
        at: '2h',
      },
    ],
  },
  {
    name: 'TollBooksDoNotBalance',
    severity: 'critical',
    expr:
      `abs(sum by (instance, source) (${BRIDGE.received.name}) - sum by (instance, source) ` +
      `({__name__=~"tollbridge_events_(recorded|updated|duplicate|forwarded|ignored|rejected)_total"})) > 0`,
    for: '15m',
    summary: 'events of {{ $labels.source }} at {{ $labels.instance }} were received and are not accounted for',
    meaning: 'Every event that is received has one outcome. This is a fault of Tollbridge.',
    steps: [
      'Keep the ledger and the log, and report it.',
      'Restarting the bridge starts these counters anew; the ledger is not touched by it.',
    ],
    fires: [
      {
        name: 'one is missing',
        series: {
          'tollbridge_events_received_total{instance="a",source="socket"}': '10x40',
          'tollbridge_events_recorded_total{instance="a",source="socket"}': '9x40',
        },
        ...{ at: '30m', labels: { instance: 'a', source: 'socket' } },
        summary: 'events of socket at a were received and are not accounted for',
      },
    ],
    silent: [
      {
        name: 'all are there',
        series: {
          'tollbridge_events_received_total{instance="a",source="socket"}': '10x40',
          'tollbridge_events_recorded_total{instance="a",source="socket"}': '6x40',
          'tollbridge_events_ignored_total{instance="a",source="socket",kind="delta"}': '4x40',
        },
        at: '30m',
      },
    ],
  },
  {
    name: 'TollSeriesOverflow',
    severity: 'warning',
    expr: `${total('metric', increase(TOLL.seriesOverflow, '15m'))} > 0`,
    for: '15m',
    summary: 'new label values of {{ $labels.metric }} count under "other", because its cap is reached',
    meaning: 'Sums stay exact. Who is new has no series of their own.',
    steps: ['Raise `labels.caps`, or set `labels.project` to `off` where projects are many.'],
    fires: [
      {
        name: 'folding goes on',
        series: { 'tollbridge_series_overflow_total{metric="toll_cost_usd_total"}': '0x10 0+2x60' },
        ...{ at: '50m', labels: { metric: 'toll_cost_usd_total' } },
        summary: 'new label values of toll_cost_usd_total count under "other", because its cap is reached',
      },
    ],
    silent: [
      { name: 'none', series: { 'tollbridge_series_overflow_total{metric="toll_cost_usd_total"}': '4x60' }, at: '50m' },
    ],
  },
];
