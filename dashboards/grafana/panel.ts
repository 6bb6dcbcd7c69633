// One panel in few words. Everything that all panels share is decided here: the datasource, what no data looks like, and
// that the same things look the same.

import * as bargauge from '@grafana/grafana-foundation-sdk/bargauge';
import {
  BarGaugeDisplayMode,
  BarGaugeNamePlacement,
  BarGaugeSizing,
  BarGaugeValueMode,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  GraphDrawStyle,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TableCellHeight,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizOrientation,
  VizTextDisplayOptionsBuilder,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import type {
  DataTransformerConfig,
  DynamicConfigValue,
  FieldColor,
  GridPos,
  Panel,
  ThresholdsConfig,
  ValueMapping,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DashboardLinkBuilder, DashboardLinkType } from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import * as statPanel from '@grafana/grafana-foundation-sdk/stat';
import * as tablePanel from '@grafana/grafana-foundation-sdk/table';
import * as textPanel from '@grafana/grafana-foundation-sdk/text';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';
import { BY_NAME, BY_THRESHOLDS, THRESHOLDS, type ThresholdName, UNKNOWN_IS_DASH } from './look.ts';

export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' } as const;

export interface Query {
  readonly expr: string;
  /** How its series are called; `{{label}}` is replaced. */
  readonly legend?: string;
  /** How its values look, where they differ from the panel's. */
  readonly look?: Look;
}

export interface Look {
  /** One of Grafana's units, or `suffix:…`/`currency:…`. */
  readonly unit?: string;
  readonly decimals?: number;
  readonly thresholds?: ThresholdName;
  readonly colour?: FieldColor;
  readonly mappings?: readonly ValueMapping[];
  readonly min?: number;
  readonly max?: number;
}

interface Common {
  /** Names it in the coverage of tiles, and is what its id is made from; unique in its dashboard. */
  readonly key: string;
  readonly title: string;
  /** For the user: what it shows, in which unit, and what to know when reading it. */
  readonly description: string;
  /** Columns of 24, and rows of 38 px. */
  readonly w: number;
  readonly h: number;
  /** Stands under the panel before it instead of beside it. */
  readonly isBelow?: boolean;
  readonly look?: Look;
  /** Why it may show nothing although all is well; absent where it must show something. */
  readonly mayBeEmpty?: string;
  readonly repeat?: { readonly variable: string; readonly perRow: number };
  /** Overrides the dashboard's range, for example `30d`. */
  readonly timeFrom?: string;
  /** Smallest step of a chart, for example `1d`. */
  readonly interval?: string;
  readonly queries?: readonly Query[];
  /** Where its title leads. */
  readonly link?: { readonly title: string; readonly url: string };
}

export interface PanelSpec extends Common {
  build(place: { id: number; gridPos: GridPos }): Panel;
}

/** What the builders of all panel types share. */
interface AnyBuilder {
  id(id: number): unknown;
  title(title: string): unknown;
  description(description: string): unknown;
  gridPos(gridPos: GridPos): unknown;
  datasource(datasource: typeof DATASOURCE): unknown;
  noValue(text: string): unknown;
  repeat(variable: string): unknown;
  repeatDirection(direction: 'h' | 'v'): unknown;
  maxPerRow(panels: number): unknown;
  timeFrom(range: string): unknown;
  interval(step: string): unknown;
  links(links: DashboardLinkBuilder[]): unknown;
  withTarget(query: DataqueryBuilder): unknown;
}

const refId = (index: number) => String.fromCharCode(65 + index);

type QueryKind = 'instant' | 'range' | 'table';

/** Unit, decimals and colours as Grafana's field configuration names them. */
function properties({ unit, decimals, thresholds, colour, mappings, min, max }: Look): DynamicConfigValue[] {
  const values: Readonly<Record<string, unknown>> = {
    unit,
    decimals,
    thresholds: thresholds && THRESHOLDS[thresholds],
    color: colour ?? (thresholds && BY_THRESHOLDS),
    mappings: mappings && [...mappings, UNKNOWN_IS_DASH],
    min,
    max,
  };
  return Object.entries(values).flatMap(([id, value]) => (value === undefined ? [] : [{ id, value }]));
}

interface Fields {
  unit(unit: string): unknown;
  decimals(decimals: number): unknown;
  min(min: number): unknown;
  max(max: number): unknown;
  mappings(mappings: ValueMapping[]): unknown;
  thresholds(thresholds: { build(): ThresholdsConfig }): unknown;
  colorScheme(colour: { build(): FieldColor }): unknown;
}

function applyLook(
  builder: Fields,
  { unit, decimals, thresholds = 'none', colour = BY_THRESHOLDS, mappings = [], min, max }: Look,
) {
  if (unit !== undefined) builder.unit(unit);
  if (decimals !== undefined) builder.decimals(decimals);
  if (min !== undefined) builder.min(min);
  if (max !== undefined) builder.max(max);
  builder.mappings([...mappings, UNKNOWN_IS_DASH]);
  builder.thresholds({ build: () => THRESHOLDS[thresholds] });
  builder.colorScheme({ build: () => colour });
}

function place(builder: AnyBuilder, spec: Common, at: { id: number; gridPos: GridPos }, kind: QueryKind): void {
  builder.id(at.id);
  builder.title(spec.title);
  builder.description(spec.description);
  builder.gridPos(at.gridPos);
  builder.datasource(DATASOURCE);
  builder.noValue('–');
  if (spec.repeat) {
    builder.repeat(spec.repeat.variable);
    builder.repeatDirection('h');
    builder.maxPerRow(spec.repeat.perRow);
  }
  if (spec.link) {
    builder.links([new DashboardLinkBuilder(spec.link.title).type(DashboardLinkType.Link).url(spec.link.url)]);
  }
  if (spec.timeFrom) builder.timeFrom(spec.timeFrom);
  if (spec.interval) builder.interval(spec.interval);
  for (const [index, { expr, legend }] of (spec.queries ?? []).entries()) {
    const query = new DataqueryBuilder().refId(refId(index)).expr(expr).datasource(DATASOURCE);
    if (kind === 'range') query.range();
    else query.instant();
    if (kind === 'table') query.format(PromQueryFormat.Table);
    builder.withTarget(query.legendFormat(legend ?? '__auto'));
  }
}

function overrideByQuery(
  builder: { overrideByQuery(refId: string, properties: DynamicConfigValue[]): unknown },
  { queries = [] }: Common,
): void {
  for (const [index, { look }] of queries.entries()) {
    if (look) builder.overrideByQuery(refId(index), properties(look));
  }
}

const lastValue = () => new ReduceDataOptionsBuilder().calcs(['lastNotNull']).fields('').values(false);

export interface StatSpec extends Common {
  /** The value alone, large; else names and values, one below the other. */
  readonly isSingle?: boolean;
  readonly hasSparkline?: boolean;
}

/** Numbers: a single large one, or a list of names and values. */
export function stat(spec: StatSpec): PanelSpec {
  return {
    ...spec,
    build(at) {
      const builder = new statPanel.PanelBuilder();
      place(builder, spec, at, spec.hasSparkline ? 'range' : 'instant');
      applyLook(builder, spec.look ?? {});
      overrideByQuery(builder, spec);
      builder
        .colorMode(BigValueColorMode.Value)
        .graphMode(spec.hasSparkline ? BigValueGraphMode.Area : BigValueGraphMode.None)
        .justifyMode(BigValueJustifyMode.Auto)
        .textMode(spec.isSingle ? BigValueTextMode.Value : BigValueTextMode.ValueAndName)
        .orientation(VizOrientation.Horizontal)
        .wideLayout(true)
        .reduceOptions(lastValue());
      // Else all sparklines share one scale, and dollars are flat beside tokens.
      if (spec.hasSparkline) builder.fieldMinMax(true);
      // Left to itself each panel picks sizes that fit it, and equal things look unequal.
      const text = new VizTextDisplayOptionsBuilder().valueSize(spec.isSingle ? 26 : 14);
      builder.text(spec.isSingle ? text : text.titleSize(13));
      return builder.build();
    },
  };
}

/** Ranked bars with their values at the right. */
export function bars(spec: Common): PanelSpec {
  return {
    ...spec,
    build(at) {
      const builder = new bargauge.PanelBuilder();
      place(builder, spec, at, 'instant');
      applyLook(builder, { min: 0, ...spec.look });
      overrideByQuery(builder, spec);
      builder
        .displayMode(BarGaugeDisplayMode.Basic)
        .valueMode(BarGaugeValueMode.Text)
        .namePlacement(BarGaugeNamePlacement.Left)
        .showUnfilled(true)
        // Left to itself, one bar fills its panel.
        .sizing(BarGaugeSizing.Manual)
        .minVizHeight(16)
        .maxVizHeight(24)
        .orientation(VizOrientation.Horizontal)
        .text(new VizTextDisplayOptionsBuilder().titleSize(12).valueSize(12))
        .reduceOptions(lastValue());
      return builder.build();
    },
  };
}

export interface ChartSpec extends Common {
  readonly isBars?: boolean;
  readonly isStacked?: boolean;
  /** Last and largest value of each series, beside its name. */
  readonly hasValues?: boolean;
  readonly colours?: Readonly<Record<string, string>>;
  /** The name of the series that the others should stay below: dashed, and nothing is filled. */
  readonly limit?: string;
}

/** Something over time. */
export function chart(spec: ChartSpec): PanelSpec {
  return {
    ...spec,
    build(at) {
      const builder = new timeseries.PanelBuilder();
      place(builder, spec, at, 'range');
      applyLook(builder, { colour: BY_NAME, min: 0, ...spec.look });
      overrideByQuery(builder, spec);
      for (const [name, fixedColor] of Object.entries(spec.colours ?? {})) {
        builder.overrideByName(name, [{ id: 'color', value: { mode: 'fixed', fixedColor } }]);
      }
      if (spec.limit !== undefined) {
        builder.overrideByName(spec.limit, [
          { id: 'color', value: { mode: 'fixed', fixedColor: 'red' } },
          { id: 'custom.lineStyle', value: { fill: 'dash', dash: [8, 6] } },
        ]);
      }
      const legend = new VizLegendOptionsBuilder()
        .displayMode(spec.hasValues ? LegendDisplayMode.Table : LegendDisplayMode.List)
        .placement(spec.hasValues ? LegendPlacement.Right : LegendPlacement.Bottom)
        .showLegend(true)
        .calcs(spec.hasValues ? ['lastNotNull', 'max'] : []);
      builder
        .drawStyle(spec.isBars ? GraphDrawStyle.Bars : GraphDrawStyle.Line)
        .fillOpacity(spec.isBars ? 80 : spec.isStacked ? 30 : spec.limit === undefined ? 8 : 0)
        .lineWidth(spec.isBars ? 0 : 1)
        .showPoints(VisibilityMode.Never)
        .spanNulls(!spec.isBars)
        .stacking(new StackingConfigBuilder().mode(spec.isStacked ? StackingMode.Normal : StackingMode.None).group('A'))
        .legend(legend)
        .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
      return builder.build();
    },
  };
}

export interface Column {
  /** A label, or the number of a query from 0. */
  readonly of: string | number;
  readonly title: string;
  readonly look?: Look;
  readonly width?: number;
  /** A bar of its share, or its whole cell in its colour. */
  readonly cell?: 'gauge' | 'background' | 'text';
  /** Where a click on it leads. */
  readonly link?: { readonly title: string; readonly url: string };
}

export interface TableSpec extends Common {
  /** From left to right; what is not named is not shown. */
  readonly columns: readonly Column[];
  /** The label that the queries' rows are joined by. */
  readonly joinBy?: string;
  readonly sortBy?: { readonly column: string; readonly isAscending?: boolean };
}

const CELLS = {
  gauge: { type: 'gauge', mode: 'basic', valueDisplayMode: 'text' },
  background: { type: 'color-background', mode: 'basic' },
  text: { type: 'color-text' },
} as const;

/** Rows and columns; several queries are joined by a label. */
export function table(spec: TableSpec): PanelSpec {
  const { columns, joinBy, queries = [], sortBy } = spec;
  const fieldOf = (of: string | number) =>
    typeof of === 'string' ? of : queries.length > 1 ? `Value #${refId(of)}` : 'Value';
  return {
    ...spec,
    build(at) {
      const builder = new tablePanel.PanelBuilder();
      place(builder, spec, at, 'table');
      applyLook(builder, spec.look ?? {});
      for (const transformation of shaped(columns, joinBy, fieldOf)) builder.withTransformation(transformation);
      for (const { title, look, width, cell, link } of columns) {
        const of = [
          ...(look ? properties(look) : []),
          ...(width === undefined ? [] : [{ id: 'custom.width', value: width }]),
          ...(cell ? [{ id: 'custom.cellOptions', value: CELLS[cell] }] : []),
          ...(link ? [{ id: 'links', value: [{ ...link, targetBlank: false }] }] : []),
        ];
        if (of.length > 0) builder.overrideByName(title, of);
      }
      builder.minWidth(44).cellHeight(TableCellHeight.Sm).showHeader(true);
      if (sortBy) builder.sortBy([{ build: () => ({ displayName: sortBy.column, desc: !sortBy.isAscending }) }]);
      return builder.build();
    },
  };
}

/** Joins the queries and keeps the named columns, in their order. */
function shaped(
  columns: readonly Column[],
  joinBy: string | undefined,
  fieldOf: (of: string | number) => string,
): DataTransformerConfig[] {
  const names = columns.map(({ of }) => fieldOf(of));
  const join = joinBy ? [{ id: 'joinByField', options: { byField: joinBy, mode: 'outer' } }] : [];
  return [
    ...join,
    { id: 'filterFieldsByName', options: { include: { names } } },
    {
      id: 'organize',
      options: {
        excludeByName: {},
        indexByName: Object.fromEntries(names.map((name, index) => [name, index])),
        renameByName: Object.fromEntries(columns.map(({ title }, index) => [names[index], title])),
      },
    },
  ];
}

/** Words. */
export function text(spec: Omit<Common, 'queries' | 'look'> & { readonly content: string }): PanelSpec {
  return {
    ...spec,
    build(at) {
      const builder = new textPanel.PanelBuilder();
      builder.id(at.id).title(spec.title).description(spec.description).gridPos(at.gridPos);
      return builder.mode(textPanel.TextMode.Markdown).content(spec.content).build();
    },
  };
}
