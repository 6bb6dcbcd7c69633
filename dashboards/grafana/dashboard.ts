// A dashboard from rows of panels: where each stands, its id, its variables and its links to the others.

import {
  CustomVariableBuilder,
  type Dashboard,
  DashboardBuilder,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  type Panel,
  QueryVariableBuilder,
  RowBuilder,
  type RowPanel,
  VariableHide,
  type VariableModel,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { type MetricFamily, TOLL } from '../../src/metrics/catalogue.ts';
import { fold, type Matchers, series } from '../promql.ts';
import { DATASOURCE, type PanelSpec } from './panel.ts';

const COLUMNS = 24;
export const TAG = 'tollbridge';

export interface Band {
  /** Left out for panels that stand at the top without a heading. */
  readonly title?: string;
  /** Once for each value of this variable. */
  readonly repeat?: string;
  readonly isCollapsed?: boolean;
  /** From left to right; a panel that does not fit begins the next line. */
  readonly panels: readonly PanelSpec[];
}

interface Variable {
  readonly name: string;
  build(): VariableModel;
}

export interface DashboardSpec {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly range: string;
  readonly variables: readonly Variable[];
  readonly bands: readonly Band[];
}

const datasource: Variable = {
  name: 'datasource',
  build: () => new DatasourceVariableBuilder('datasource').label('Data').type('prometheus').build(),
};

/** The windows that tiles know, of which one is looked at. */
export const windowVariable: Variable = {
  name: 'window',
  build: () =>
    new CustomVariableBuilder('window')
      .label('Window')
      .description('What the numbers are of. Calendar days and months are those of the bridge’s time zone.')
      .values('Today : today, 3 days : 3d, 7 days : 7d, 30 days : 30d, Month : month, All : all')
      .current({ text: '30 days', value: '30d' })
      .build(),
};

/** When that window begins, Unix time: what `@ $start` in queries is. */
export const startVariable: Variable = {
  name: 'start',
  build: () => ({
    ...new QueryVariableBuilder('start')
      .hide(VariableHide.HideVariable)
      .query({
        query: `query_result(min(${series(TOLL.windowStart, { window: '$window' })}) or vector(0))`,
        refId: 'start',
      })
      // The answer reads `{} 1790000000 1790000123000`: labels, value, time.
      .regex('/ (\\d+)/')
      .datasource(DATASOURCE)
      .refresh(VariableRefresh.OnTimeRangeChanged)
      .build(),
    // In an address it would outlive the window that it was asked for.
    skipUrlSync: true,
  }),
};

/** All values of a label, of which some can be chosen. All is also what has no such label. */
export const labelVariable = (label: string, title: string, family: MetricFamily): Variable => ({
  name: label,
  build: () =>
    choosable(labelValues(label, title, { family }))
      .allValue('.*')
      .build(),
});

/** One value of a label. @param of the series to look for it in */
export const oneLabelVariable = (label: string, title: string, of: Labelled): Variable => ({
  name: label,
  build: () => labelValues(label, title, of).build(),
});

interface Labelled {
  readonly family: MetricFamily;
  readonly matchers?: Matchers;
}

function labelValues(label: string, title: string, { family, matchers }: Labelled): QueryVariableBuilder {
  if (!family.labels.includes(label)) throw new Error(`${family.name} has no label ${label}`);
  const query = `label_values(${series(family, matchers)}, ${label})`;
  return new QueryVariableBuilder(label)
    .label(title)
    .query({ query, refId: label })
    .definition(query)
    .datasource(DATASOURCE)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc);
}

/** Tiles by their title. */
export function tileVariable(isSingle = false): Variable {
  return {
    name: 'tile',
    build() {
      const builder = new QueryVariableBuilder('tile')
        .label('Tile')
        .query({ query: `query_result(max by (tile, title) (${fold(TOLL.tile.name)}))`, refId: 'tile' })
        .regex('/tile="(?<value>[^"]+)",title="(?<text>[^"]+)"/')
        .datasource(DATASOURCE)
        .refresh(VariableRefresh.OnTimeRangeChanged)
        .sort(VariableSort.AlphabeticalAsc);
      return (isSingle ? builder : choosable(builder)).build();
    },
  };
}

const choosable = (builder: QueryVariableBuilder) =>
  builder.multi(true).includeAll(true).current({ text: 'All', value: '$__all' });

/** Where each panel of a dashboard stands, by its key. */
export interface Placed {
  readonly dashboard: Dashboard;
  readonly panels: ReadonlyMap<string, { readonly id: number; readonly spec: PanelSpec }>;
}

/** @throws Error when two panels have the same key */
export function place({ uid, title, description, range, variables, bands }: DashboardSpec): Placed {
  const panels = new Map<string, { id: number; spec: PanelSpec }>();
  const standing: (Panel | RowPanel)[] = [];
  let id = 0;
  let y = 0;
  for (const band of bands) {
    const row = band.title === undefined ? undefined : new RowBuilder(band.title).id(++id);
    row?.gridPos({ x: 0, y, w: COLUMNS, h: 1 });
    if (row) y += 1;
    if (band.repeat) row?.repeat(band.repeat);
    const inside: Panel[] = [];
    let x = 0;
    let lineHeight = 0;
    let last = { x: 0, bottom: y };
    for (const spec of band.panels) {
      if (panels.has(spec.key)) throw new Error(`${uid}: two panels are called ${spec.key}`);
      if (!spec.isBelow && x + spec.w > COLUMNS) {
        y += lineHeight;
        x = 0;
        lineHeight = 0;
      }
      const at = spec.isBelow ? { x: last.x, y: last.bottom } : { x, y };
      inside.push(spec.build({ id: ++id, gridPos: { ...at, w: spec.w, h: spec.h } }));
      panels.set(spec.key, { id, spec });
      last = { x: at.x, bottom: at.y + spec.h };
      lineHeight = Math.max(lineHeight, last.bottom - y);
      if (!spec.isBelow) x += spec.w;
    }
    y += lineHeight;
    if (row) {
      row.collapsed(band.isCollapsed ?? false);
      if (band.isCollapsed) for (const panel of inside) row.withPanel({ build: () => panel });
      standing.push(row.build());
      if (band.isCollapsed) continue;
    }
    standing.push(...inside);
  }
  // Grafana begins a step of a day at midnight in the dashboard's time zone, and bars by day are of UTC days.
  const hasDays = [...panels.values()].some(({ spec: { interval } }) => interval === '1d');
  const builder = new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags([TAG])
    .time({ from: `now-${range}`, to: 'now' })
    .refresh('1m')
    .timezone(hasDays ? 'utc' : 'browser')
    .readonly()
    .variables([datasource, ...variables])
    .links([
      new DashboardLinkBuilder('Tollbridge')
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .asDropdown(false)
        .includeVars(true)
        .keepTime(true),
    ]);
  return { dashboard: { ...builder.build(), panels: standing }, panels };
}

/** A link to another of our dashboards that keeps time and datasource. */
export const linkTo = (uid: string, variables: string): string =>
  `/d/${uid}?${variables}&var-datasource=\${datasource}&var-window=\${window}&\${__url_time_range}`;
