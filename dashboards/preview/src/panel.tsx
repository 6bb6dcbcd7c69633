// One panel: asks for its data, shapes it as its JSON says, and frames the picture. How it went can be read from its
// element, so that tests need not guess.

import {
  applyFieldOverrides,
  cacheFieldDisplayNames,
  type DataFrame,
  dateMath,
  EventBusSrv,
  type InterpolateFunction,
  LoadingState,
  type ScopedVars,
  type TimeRange,
  transformDataFrame,
} from '@grafana/data';
import { PanelChrome, PanelContextProvider, useTheme2 } from '@grafana/ui';
import { useEffect, useState } from 'react';
import { firstValueFrom } from 'rxjs';
import { fieldRegistry, withDefaults } from './fields';
import type { PanelModel } from './model';
import { type Prometheus, withDistinctValues } from './prometheus';
import { fill, type Scoped, type Variables } from './variables';
import { Visualization } from './visualization';

export interface PanelProps {
  readonly panel: PanelModel;
  readonly variables: Variables;
  readonly range: TimeRange;
  readonly timeZone: 'utc' | 'browser';
  readonly prometheus: Prometheus;
  readonly width: number;
  readonly height: number;
  /** Told once, when the panel is drawn or has failed. */
  readonly onSettled: (error?: string) => void;
}

interface Loaded {
  readonly frames?: DataFrame[];
  readonly error?: string;
}

export function Panel({ panel: stated, variables, range, timeZone, prometheus, width, height, onSettled }: PanelProps) {
  const theme = useTheme2();
  const [{ frames, error }, setLoaded] = useState<Loaded>({});
  const panel = { ...stated, fieldConfig: withDefaults(stated.type, stated.fieldConfig) };
  const ownRange = stated.timeFrom ? lastOf(stated.timeFrom, timeZone) : range;

  useOnce(() => {
    const load = async () => {
      const asked = {
        range: ownRange,
        variables,
        maxPoints: Math.max(100, Math.round(width)),
        interval: panel.interval,
      };
      const answers = await Promise.all((panel.targets ?? []).map((target) => prometheus.query({ target, ...asked })));
      const isTable = panel.type === 'table';
      const found = isTable ? withDistinctValues(answers.flat(), answers.length) : answers.flat();
      const shaped = panel.transformations?.length
        ? await firstValueFrom(transformDataFrame([...panel.transformations], found))
        : found;
      const data = applyFieldOverrides({
        data: shaped,
        fieldConfig: panel.fieldConfig,
        replaceVariables: linkFiller(variables, ownRange),
        theme,
        timeZone,
        fieldConfigRegistry: fieldRegistry(),
      });
      cacheFieldDisplayNames(data);
      setLoaded({ frames: data });
    };
    load().then(
      () => onSettled(),
      (failure: Error) => {
        setLoaded({ error: failure.message });
        onSettled(failure.message);
      },
    );
  });

  const title = fill(panel.title ?? '', variables);
  const isEmpty = panel.type !== 'text' && frames?.every(({ length }) => length === 0);
  const state = error ? 'error' : !frames ? 'loading' : isEmpty ? 'empty' : 'done';
  return (
    <div data-panel-id={panel.id} data-panel-title={title} data-panel-type={panel.type} data-state={state}>
      <PanelChrome
        title={title}
        description={panel.description}
        {...{ width, height }}
        padding={panel.type === 'table' ? 'none' : 'md'}
        statusMessage={error}
        loadingState={frames || error ? LoadingState.Done : LoadingState.Loading}
        titleItems={panel.timeFrom ? <span className="own-range">Last {panel.timeFrom}</span> : undefined}
      >
        {(innerWidth: number, innerHeight: number) =>
          error ? (
            <div className="no-data">{error}</div>
          ) : frames ? (
            <PanelContextProvider value={{ eventBus: new EventBusSrv(), eventsScope: 'preview' } as never}>
              <Visualization
                {...{ panel, frames, timeZone }}
                range={ownRange}
                width={innerWidth}
                height={innerHeight}
                fill={(text) => fill(text, variables)}
              />
            </PanelContextProvider>
          ) : (
            <span />
          )
        }
      </PanelChrome>
    </div>
  );
}

/** Nothing that is asked for changes while a page stands: another choice is another address. */
function useOnce(effect: () => void): void {
  // biome-ignore lint/correctness/useExhaustiveDependencies: see above
  useEffect(effect, []);
}

function lastOf(duration: string, timezone: string): TimeRange {
  const raw = { from: `now-${duration}`, to: 'now' };
  return { from: dateMath.toDateTime(raw.from, { timezone })!, to: dateMath.toDateTime(raw.to, { timezone })!, raw };
}

/** Fills links, which may name the value they stand on. */
function linkFiller(variables: Variables, range: TimeRange): InterpolateFunction {
  return (text = '', scopedVars: ScopedVars = {}) => {
    const context = scopedVars.__dataContext?.value;
    const value = context?.field?.values?.[context.rowIndex ?? 0];
    const scoped: Scoped = {
      __url_time_range: `from=${range.raw.from}&to=${range.raw.to}`,
      ...(value === undefined ? {} : { '__value.raw': encodeURIComponent(String(value)) }),
    };
    return fill(text, variables, scoped);
  };
}
