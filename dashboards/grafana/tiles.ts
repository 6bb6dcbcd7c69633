// The home dashboard: every tile as a card, then each with its sections.

import { TOLL } from '../../src/metrics/catalogue.ts';
import { inWindow, NET_TOKENS, now, reading, series } from '../promql.ts';
import {
  CARD_DESCRIPTION,
  cardLines,
  fullest,
  ofFullest,
  projectedShares,
  secondsToReset,
  statusCode,
} from './card.ts';
import { type DashboardSpec, linkTo, startVariable, tileVariable, windowVariable } from './dashboard.ts';
import { OK_CODE, STATUS_TEXT } from './look.ts';
import { stat, table, text } from './panel.ts';
import { sections } from './sections.ts';
import { DETAIL_UID, TILES_UID } from './uids.ts';

const WINDOW = { window: '$window' };
const EACH = 'provider, account';
const BALANCES = `sum by (${EACH}, currency) (${reading(TOLL.balance)})`;
/** One row for each account, and one more for each further currency that it holds, under the label `id` that tables join by. */
const asRow = (expr: string) => `label_join(${expr}, "id", " · ", "provider", "account", "currency")`;
/** Repeats what is known of an account on each of its rows. @param expr one value for each account */
const onItsRows = (expr: string) =>
  asRow(`${expr} + on (${EACH}) group_right () (${BALANCES} * 0 or on (${EACH}) ${statusCode({})} * 0)`);
const byRow = (expr: string) => `max by (id) (${expr})`;
const PLAN_IS_OPTIONAL = 'only accounts with a plan window or a limit have one';

export const TILES: DashboardSpec = {
  uid: TILES_UID,
  title: 'Tollbridge / Tiles',
  description: 'What each provider costs and how much of it is left, tile by tile.',
  range: '14d',
  variables: [windowVariable, tileVariable(), startVariable],
  bands: [
    {
      panels: [
        stat({
          key: 'spend',
          title: 'Spend',
          description: 'Net cost of all turns in the window, as agents stated it, in USD.',
          ...{ w: 5, h: 3, isSingle: true },
          look: { unit: 'currencyUSD', decimals: 2 },
          queries: [{ expr: now('', TOLL.windowCost, WINDOW), legend: 'Spend' }],
        }),
        stat({
          key: 'tokens',
          title: 'Tokens',
          description: 'Net tokens of all turns in the window, without those read from the cache.',
          ...{ w: 5, h: 3, isSingle: true },
          look: { unit: 'sishort', decimals: 1 },
          queries: [{ expr: now('', TOLL.windowTokens, WINDOW), legend: 'Tokens' }],
        }),
        stat({
          key: 'turns',
          title: 'Turns',
          description: 'Turns that completed in the window: one answer of a model each.',
          ...{ w: 4, h: 3, isSingle: true },
          look: { unit: 'locale', decimals: 0 },
          queries: [{ expr: now('', TOLL.windowTurns, WINDOW), legend: 'Turns' }],
        }),
        stat({
          key: 'cache-hits',
          title: 'Cache hits',
          description: 'Share of what was put in that came from the cache, in the window. High is good.',
          ...{ w: 5, h: 3, isSingle: true },
          look: { unit: 'percentunit', decimals: 1, thresholds: 'good' },
          queries: [
            {
              expr: `${inWindow('', NET_TOKENS, { token_type: 'cache_read' })} / ${inWindow('', NET_TOKENS, { token_type: '=~input|cache_read|cache_write' })}`,
              legend: 'Cache hits',
            },
          ],
        }),
        stat({
          key: 'attention',
          title: 'Accounts that need you',
          description: 'Accounts that are near or at a limit, want a login, or cannot be read.',
          ...{ w: 5, h: 3, isSingle: true },
          look: { unit: 'none', decimals: 0, thresholds: 'zero' },
          queries: [{ expr: `count(${statusCode({})} > ${OK_CODE}) or on () vector(0)`, legend: 'Accounts' }],
        }),
        stat({
          key: 'card',
          title: '${tile:text} · $window',
          description: CARD_DESCRIPTION,
          ...{ w: 6, h: 8 },
          repeat: { variable: 'tile', perRow: 4 },
          link: { title: 'All of this tile', url: linkTo(DETAIL_UID, 'var-tile=${tile}') },
          queries: cardLines(),
        }),
      ],
    },
    {
      title: 'Accounts and attribution',
      panels: [
        table({
          key: 'accounts',
          title: 'All accounts',
          description:
            'Every account that is configured or was reported, with its fullest plan window or limit: how much of it is used, where that leads by its reset, and when that is.',
          ...{ w: 15, h: 10 },
          joinBy: 'id',
          queries: [
            { expr: onItsRows(statusCode({})) },
            { expr: byRow(onItsRows(fullest({}, EACH))) },
            { expr: byRow(onItsRows(ofFullest(secondsToReset({}), {}, EACH))) },
            { expr: byRow(onItsRows(ofFullest(projectedShares({}), {}, EACH))) },
            { expr: byRow(asRow(BALANCES)) },
            { expr: byRow(onItsRows(`(time() - ${reading(TOLL.snapshotTimestamp)})`)) },
          ],
          columns: [
            {
              of: 'provider',
              title: 'Tile',
              link: { title: 'Details', url: linkTo(DETAIL_UID, 'var-tile=${__value.raw}') },
            },
            { of: 'account', title: 'Account', width: 90 },
            { of: 0, title: 'Status', width: 90, cell: 'background', look: { mappings: [STATUS_TEXT] } },
            {
              of: 1,
              title: 'Used',
              cell: 'gauge',
              width: 150,
              look: { unit: 'percentunit', decimals: 0, thresholds: 'used', min: 0, max: 1 },
            },
            {
              of: 3,
              title: 'By reset',
              width: 90,
              cell: 'text',
              look: { unit: 'percentunit', decimals: 0, thresholds: 'used' },
            },
            { of: 2, title: 'Resets in', width: 130, look: { unit: 'dtdhms', decimals: 0 } },
            { of: 4, title: 'Balance', width: 90, cell: 'text', look: { decimals: 2, thresholds: 'left' } },
            { of: 'currency', title: 'Currency', width: 80 },
            { of: 5, title: 'Read ago', width: 90, cell: 'text', look: { unit: 's', decimals: 0, thresholds: 'age' } },
          ],
          sortBy: { column: 'Tile', isAscending: true },
        }),
        table({
          key: 'unmapped',
          title: 'Upstream providers without a tile',
          description:
            'Turns were served by these, and no tile of OpenUsage shows them: they have a card of their own name.',
          ...{ w: 9, h: 6 },
          mayBeEmpty: 'empty when every upstream provider has a tile',
          queries: [{ expr: `max by (upstream_provider, reason) (${series(TOLL.upstreamUnmapped)})` }],
          columns: [
            { of: 'upstream_provider', title: 'Upstream provider' },
            { of: 'reason', title: 'Reason' },
          ],
        }),
        text({
          key: 'unmapped-fix',
          title: 'How to give one a tile',
          description: 'The line of configuration that mends it.',
          ...{ w: 9, h: 4, isBelow: true },
          content:
            'One line in `tollbridge.yaml`, then restart: `telemetry: { provider_links: { stepfun: openrouter } }`. For `unknown`, say who serves: `gateways: { opencode: <who> }`. `tollbridge doctor` prints the line for yours.',
        }),
      ],
    },
    {
      title: '${tile:text}',
      repeat: 'tile',
      panels: sections({ prefix: 'band', isWide: false, planIsOptional: PLAN_IS_OPTIONAL }),
    },
  ],
};
