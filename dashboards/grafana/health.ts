// Whether the bridge itself is right: nothing lost, every source alive, the ledger quick, the labels within bounds.

import { BRIDGE, TOLL } from '../../src/metrics/catalogue.ts';
import { fold, series, total } from '../promql.ts';
import type { DashboardSpec } from './dashboard.ts';
import { BALANCED, UP_DOWN } from './look.ts';
import { chart, stat, table } from './panel.ts';
import { HEALTH_UID } from './uids.ts';

const OUTCOMES = [BRIDGE.recorded, BRIDGE.updated, BRIDGE.duplicate, BRIDGE.forwarded, BRIDGE.ignored, BRIDGE.rejected];
const NO_STREAM = 'only a bridge that reads a stream, or a relay, has one';
const NO_POLLS = 'only accounts that this bridge polls itself are here';
const JUST_BEGUN = 'a bridge that has just begun has no pace yet';
const NONE_WRONG = 'nothing of the kind has happened';
/** Health counts per process, so replicas are added and not folded. */
const by = (label: string, name: string) => `sum by (${label}) (${name})`;

export const HEALTH: DashboardSpec = {
  uid: HEALTH_UID,
  title: 'Tollbridge / Bridge health',
  description: 'Whether the bridge itself is right.',
  range: '6h',
  variables: [],
  bands: [
    {
      panels: [
        stat({
          key: 'up',
          title: 'Bridges',
          description: 'Whether Prometheus reaches each bridge.',
          ...{ w: 4, h: 5, isSingle: true },
          look: { mappings: [UP_DOWN] },
          queries: [{ expr: 'min(up{job="tollbridge"})', legend: 'up' }],
        }),
        stat({
          key: 'conservation',
          title: 'Books',
          description:
            'Events received, less all that became of them: 0, because both are counted in one step. Anything else is a fault of ours.',
          ...{ w: 4, h: 5, isSingle: true },
          look: { mappings: [BALANCED], thresholds: 'zero' },
          queries: [
            {
              expr: `abs(sum(${BRIDGE.received.name}) - ${OUTCOMES.map(({ name }) => `(sum(${name}) or vector(0))`).join(' - ')})`,
              legend: 'pending',
            },
          ],
        }),
        stat({
          key: 'lost',
          title: 'Requests lost',
          description: 'Gone for good since the bridge began. It should be 0.',
          ...{ w: 4, h: 5, isSingle: true },
          look: { decimals: 0, thresholds: 'zero' },
          queries: [{ expr: `sum(${BRIDGE.lost.name}) or vector(0)`, legend: 'lost' }],
        }),
        stat({
          key: 'since',
          title: 'Counting for',
          description: 'Age of the ledger.',
          ...{ w: 4, h: 5, isSingle: true },
          look: { unit: 's', decimals: 1 },
          queries: [{ expr: `time() - min(${TOLL.ledgerCreated.name})`, legend: 'age' }],
        }),
        stat({
          key: 'ledger-size',
          title: 'Ledger',
          description: 'Its size on disk.',
          ...{ w: 4, h: 5, isSingle: true },
          look: { unit: 'bytes', decimals: 1 },
          queries: [{ expr: `max(${TOLL.ledgerSize.name})`, legend: 'size' }],
        }),
        stat({
          key: 'series-total',
          title: 'Series',
          description: 'Label sets that the ledger holds, of 20,000 that it may by default.',
          ...{ w: 4, h: 5, isSingle: true },
          look: { unit: 'locale', decimals: 0 },
          queries: [{ expr: `sum(${fold(TOLL.series.name)})`, legend: 'series' }],
        }),
      ],
    },
    {
      title: 'Events',
      panels: [
        table({
          key: 'sources',
          title: 'Sources',
          description:
            'Whether each source works, when it last delivered, and what became of its events since the bridge began.',
          ...{ w: 24, h: 7, joinBy: 'source', mayBeEmpty: 'a source that has not delivered yet has no age' },
          queries: [
            { expr: `min by (source) (${BRIDGE.sourceUp.name})` },
            { expr: `time() - max by (source) (${BRIDGE.sourceLastSuccess.name})` },
            { expr: by('source', BRIDGE.received.name) },
            // A source that never had such an event has no series of it: that is 0.
            ...OUTCOMES.map(({ name }) => ({
              expr: `${by('source', name)} or 0 * ${by('source', BRIDGE.received.name)}`,
            })),
          ],
          columns: [
            { of: 'source', title: 'Source' },
            { of: 0, title: 'Works', width: 80, cell: 'text', look: { mappings: [UP_DOWN] } },
            { of: 1, title: 'Delivered ago', width: 120, look: { unit: 's', decimals: 0 } },
            ...['Received', 'Recorded', 'Updated', 'Duplicate', 'Forwarded', 'Ignored', 'Rejected'].map(
              (title, at) => ({
                of: at + 2,
                title,
                width: 100,
                look: { unit: 'locale', decimals: 0 },
              }),
            ),
          ],
        }),
        chart({
          key: 'events',
          title: 'Events per minute',
          description: 'Received, by source.',
          ...{ w: 8, h: 8, mayBeEmpty: JUST_BEGUN },
          look: { decimals: 1 },
          queries: [
            { expr: `60 * ${by('source', `rate(${BRIDGE.received.name}[$__rate_interval])`)}`, legend: '{{source}}' },
          ],
        }),
        chart({
          key: 'trouble',
          title: 'Rejected, refused, lost, conflicting',
          description:
            'Per minute, by reason. Refused senders that wait lose nothing; what is not traced is metered; what went ahead unasked was not judged by any rule.',
          ...{ w: 8, h: 8, mayBeEmpty: NONE_WRONG },
          look: { decimals: 1 },
          queries: [
            {
              expr: `60 * ${by('reason', `rate(${BRIDGE.rejected.name}[$__rate_interval])`)} > 0`,
              legend: 'rejected {{reason}}',
            },
            {
              expr: `60 * ${by('reason', `rate(${BRIDGE.refused.name}[$__rate_interval])`)} > 0`,
              legend: 'refused {{reason}}',
            },
            { expr: `60 * sum(rate(${BRIDGE.lost.name}[$__rate_interval])) > 0`, legend: 'lost' },
            {
              expr: `60 * ${by('field', `rate(${BRIDGE.conflicting.name}[$__rate_interval])`)} > 0`,
              legend: 'conflicting {{field}}',
            },
            { expr: `60 * sum(rate(${BRIDGE.redated.name}[$__rate_interval])) > 0`, legend: 'dated ahead' },
            { expr: `60 * sum(rate(${BRIDGE.truncated.name}[$__rate_interval])) > 0`, legend: 'cut off' },
            { expr: `60 * sum(rate(${BRIDGE.identityMismatch.name}[$__rate_interval])) > 0`, legend: 'other identity' },
            {
              expr: `60 * ${by('reason', `rate(${BRIDGE.otlpDropped.name}[$__rate_interval])`)} > 0`,
              legend: 'not traced, {{reason}}',
            },
            {
              expr: `60 * ${total('agent', `rate(${TOLL.policyUnchecked.name}[$__rate_interval])`)} > 0`,
              legend: 'unasked by {{agent}}',
            },
          ],
        }),
        chart({
          key: 'queue',
          title: 'Waiting for NATS',
          description: 'Events that wait on disk until NATS takes them.',
          ...{ w: 8, h: 8, mayBeEmpty: NO_STREAM },
          look: { unit: 'locale', decimals: 0 },
          queries: [{ expr: `sum by (instance) (${BRIDGE.relayQueueEvents.name})`, legend: '{{instance}}' }],
        }),
      ],
    },
    {
      title: 'Polls and ledger',
      panels: [
        chart({
          key: 'polls',
          title: 'Polls per minute by result',
          description: 'Of the accounts that this bridge asks about itself.',
          ...{ w: 8, h: 8, isStacked: true, mayBeEmpty: NO_POLLS },
          look: { decimals: 2 },
          colours: { ok: 'green', error: 'red', auth: 'orange', limited: 'yellow', timeout: 'purple' },
          queries: [
            { expr: `60 * ${by('result', `rate(${BRIDGE.polls.name}[$__rate_interval])`)}`, legend: '{{result}}' },
          ],
        }),
        chart({
          key: 'commits',
          title: 'Commit and scrape, p99',
          description: 'Seconds that a commit of the ledger takes, and the answer to a scrape.',
          ...{ w: 8, h: 8, mayBeEmpty: JUST_BEGUN },
          look: { unit: 's' },
          queries: [
            {
              expr: `histogram_quantile(0.99, sum by (le) (rate(${series(BRIDGE.commitDuration, {}, '_bucket')}[$__rate_interval])))`,
              legend: 'commit',
            },
            {
              expr: `histogram_quantile(0.99, sum by (le) (rate(${series(BRIDGE.scrapeDuration, {}, '_bucket')}[$__rate_interval])))`,
              legend: 'scrape',
            },
          ],
        }),
        chart({
          key: 'memory',
          title: 'Memory',
          description: 'Heap of the process that is in use, by bridge.',
          ...{ w: 8, h: 8, mayBeEmpty: JUST_BEGUN },
          look: { unit: 'bytes', decimals: 0 },
          queries: [{ expr: 'sum by (instance) (v8js_memory_heap_used)', legend: '{{instance}}' }],
        }),
        table({
          key: 'series',
          title: 'Series by metric',
          description:
            'Label sets that each metric holds, and increments that were folded into `other` because a cap was reached.',
          ...{ w: 12, h: 9, joinBy: 'metric' },
          queries: [
            { expr: total('metric', TOLL.series.name) },
            { expr: `${total('metric', TOLL.seriesOverflow.name)} or 0 * ${total('metric', TOLL.series.name)}` },
          ],
          columns: [
            { of: 'metric', title: 'Metric' },
            { of: 0, title: 'Series', width: 100, look: { unit: 'locale', decimals: 0 } },
            {
              of: 1,
              title: 'Folded',
              width: 100,
              cell: 'text',
              look: { unit: 'locale', decimals: 0, thresholds: 'zero' },
            },
          ],
          sortBy: { column: 'Series' },
        }),
        table({
          key: 'unfinished',
          title: 'Turns that never finished',
          description: 'Began more than 15 minutes ago and were not seen to end: their usage is unknown.',
          ...{ w: 6, h: 9, mayBeEmpty: NONE_WRONG },
          queries: [{ expr: total('agent, provider', TOLL.turnsUnfinished.name) }],
          columns: [
            { of: 'agent', title: 'Agent' },
            { of: 'provider', title: 'Provider' },
            { of: 0, title: 'Turns', width: 70, look: { decimals: 0 } },
          ],
        }),
        table({
          key: 'versions',
          title: 'Versions',
          description: 'What runs where.',
          ...{ w: 6, h: 9 },
          queries: [{ expr: `max by (instance, version, node) (${BRIDGE.buildInfo.name})` }],
          columns: [
            { of: 'instance', title: 'Bridge' },
            { of: 'version', title: 'Version', width: 80 },
            { of: 'node', title: 'Node', width: 90 },
          ],
        }),
      ],
    },
  ],
};
