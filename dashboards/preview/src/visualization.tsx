// Data frames as pictures: Grafana's own components, put together as its panel plugins do.

import {
  type DataFrame,
  type FieldDisplay,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  renderMarkdown,
  type TimeRange,
  type VizOrientation,
} from '@grafana/data';
import { BarGauge, BigValue, TimeSeries, useTheme2, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import type { PanelModel } from './model';

export interface VisualizationProps {
  readonly panel: PanelModel;
  readonly frames: DataFrame[];
  readonly range: TimeRange;
  readonly timeZone: 'utc' | 'browser';
  readonly width: number;
  readonly height: number;
  readonly fill: (text: string) => string;
}

/** The options of a panel; what each type reads of them is its own. */
// biome-ignore lint/suspicious/noExplicitAny: Grafana types them in its panel plugins, which are not in its libraries
type Options = any;

export function Visualization(props: VisualizationProps) {
  const { panel, frames, fill } = props;
  const options: Options = panel.options ?? {};
  if (panel.type === 'text') {
    const html = { __html: renderMarkdown(fill(options.content)) };
    // biome-ignore lint/security/noDangerouslySetInnerHtml: renderMarkdown sanitizes it
    return <div className="markdown-html" dangerouslySetInnerHTML={html} />;
  }
  if (frames.every(({ length }) => length === 0)) {
    return <div className="no-data">{panel.fieldConfig?.defaults.noValue ?? 'No data'}</div>;
  }
  switch (panel.type) {
    case 'stat':
    case 'bargauge':
      return <Values {...props} />;
    case 'table':
      return <Table {...props} />;
    case 'timeseries':
      return <Chart {...props} />;
    default:
      throw new Error(`the preview does not draw panels of type ${panel.type}`);
  }
}

/** One value for each series: large numbers or bars. */
function Values({ panel, frames, timeZone, width, height, fill }: VisualizationProps) {
  const theme = useTheme2();
  const options: Options = panel.options;
  const isBars = panel.type === 'bargauge';
  const isManual = options.sizing === 'manual';
  const getValues = () =>
    getFieldDisplayValues({
      fieldConfig: panel.fieldConfig!,
      reduceOptions: options.reduceOptions,
      replaceVariables: fill,
      theme,
      data: frames,
      sparkline: options.graphMode === 'area',
      timeZone,
    });
  return (
    <VizRepeater<FieldDisplay, ReturnType<typeof getDisplayValueAlignmentFactors>>
      getValues={getValues}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      {...{ width, height }}
      source={frames}
      renderCounter={0}
      itemSpacing={isBars ? 10 : 3}
      autoGrid={!isBars}
      orientation={options.orientation as VizOrientation}
      minVizHeight={isManual ? options.minVizHeight : 16}
      maxVizHeight={isManual ? options.maxVizHeight : 300}
      renderValue={({ value, count, width: w, height: h, orientation, alignmentFactors }) =>
        isBars ? (
          <BarGauge
            value={value.display}
            field={value.field}
            display={value.view?.getFieldDisplayProcessor(value.colIndex!)}
            {...{ theme, orientation, width: w, height: h }}
            text={options.text}
            displayMode={options.displayMode}
            valueDisplayMode={options.valueMode}
            namePlacement={options.namePlacement}
            showUnfilled={options.showUnfilled}
            itemSpacing={10}
            lcdCellWidth={12}
            alignmentFactors={count > 1 ? alignmentFactors : undefined}
          />
        ) : (
          <BigValue
            value={value.display}
            {...{ theme, count, width: w, height: h }}
            sparkline={value.sparkline}
            colorMode={options.colorMode}
            graphMode={options.graphMode}
            justifyMode={options.justifyMode}
            textMode={options.textMode}
            text={options.text}
            alignmentFactors={alignmentFactors}
          />
        )
      }
    />
  );
}

function Table({ panel, frames, range, width, height }: VisualizationProps) {
  const options: Options = panel.options;
  return (
    <TableNG
      data={frames[0]!}
      {...{ width, height }}
      noHeader={options.showHeader === false}
      cellHeight={options.cellHeight}
      initialSortBy={options.sortBy}
      timeRange={range}
      fieldConfig={panel.fieldConfig}
      structureRev={1}
      enableVirtualization={false}
    />
  );
}

function Chart({ panel, frames, range, timeZone, width, height }: VisualizationProps) {
  const options: Options = panel.options;
  return (
    <TimeSeries
      frames={frames}
      {...{ width, height }}
      timeRange={range}
      timeZone={timeZone}
      legend={options.legend}
      options={options}
    >
      {() => null}
    </TimeSeries>
  );
}
