// What Grafana would ask Prometheus for: the queries of a dashboard with its variables filled in.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { PLACED } from '../../dashboards/grafana/pack.ts';

const ROOT = path.dirname(path.dirname(import.meta.dirname));
const RATE_INTERVAL = '15m';
const RANGE = '7d';

export interface Asked {
  readonly dashboard: string;
  readonly panelId: number;
  readonly panel: string;
  readonly refId: string;
  readonly expr: string;
  readonly isRange: boolean;
  /** The step of a chart that has one of its own. */
  readonly interval?: string;
  readonly values: Readonly<Record<string, string>>;
}

interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly range?: boolean;
}
export interface PanelJson {
  readonly id: number;
  readonly type: string;
  readonly title?: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly repeat?: string;
  readonly interval?: string;
  readonly targets?: readonly Target[];
  readonly transformations?: readonly {
    readonly id: string;
    readonly options: { readonly byField?: string; readonly include?: { readonly names: readonly string[] } };
  }[];
  readonly panels?: readonly PanelJson[];
  readonly collapsed?: boolean;
}
export interface DashboardJson {
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly PanelJson[];
  readonly timezone: string;
  readonly templating: {
    readonly list: readonly {
      readonly name: string;
      readonly type: string;
      readonly query?: unknown;
      readonly hide?: number;
      readonly skipUrlSync?: boolean;
    }[];
  };
}

export function readDashboard(uid: string): DashboardJson {
  return JSON.parse(readFileSync(path.join(ROOT, 'dashboards', 'json', `${uid}.json`), 'utf8'));
}

/** Panels with those inside collapsed rows, each with the variable that repeats it. */
export function panelsOf(dashboard: DashboardJson): { panel: PanelJson; repeat: string | undefined }[] {
  let row: string | undefined;
  return dashboard.panels.flatMap((panel) => {
    if (panel.type !== 'row') return { panel, repeat: panel.repeat ?? row };
    row = panel.repeat;
    return (panel.panels ?? []).map((inside) => ({ panel: inside, repeat: inside.repeat ?? row }));
  });
}

/** @param values of `__to`, which queries ask for in seconds, too */
export function fill(expr: string, values: Readonly<Record<string, string>>): string {
  return expr.replaceAll(/\$(?:\{(\w+)(?::[\w:]+)?\}|([a-z_]\w*))/g, (placeholder, braced, bare) => {
    const name = braced ?? bare;
    if (name === '__rate_interval') return RATE_INTERVAL;
    if (name === '__range') return RANGE;
    const value = values[name];
    if (value === undefined) throw new Error(`nothing is known of ${placeholder} in ${expr}`);
    return value;
  });
}

/**
 * Every query of a dashboard.
 * @param values what each variable is; a list where the dashboard repeats something by it or all are chosen
 */
export function asked(dashboard: DashboardJson, values: Readonly<Record<string, string | readonly string[]>>): Asked[] {
  const joined = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, typeof value === 'string' ? value : `(?:${value.join('|')})`]),
  );
  return panelsOf(dashboard).flatMap(({ panel, repeat }) => {
    const repeated = repeat === undefined ? undefined : values[repeat];
    const copies =
      repeated === undefined ? [joined] : [repeated].flat().map((value) => ({ ...joined, [repeat!]: value }));
    return copies.flatMap((of) =>
      (panel.targets ?? []).map(({ refId, expr, range }) => ({
        ...{ dashboard: dashboard.uid, panelId: panel.id, panel: panel.title ?? '', refId, values: of },
        expr: fill(expr, of),
        isRange: range === true,
        ...(panel.interval && { interval: panel.interval }),
      })),
    );
  });
}

/** The query of a panel, by its number from 0. */
export function panelQuery(
  { uid, key, number }: { uid: string; key: string; number: number },
  values: Readonly<Record<string, string>>,
): string {
  const dashboard = readDashboard(uid);
  const { id } = PLACED.find((placed) => placed.dashboard.uid === uid)!.panels.get(key)!;
  const panel = dashboard.panels.flatMap((each) => [each, ...(each.panels ?? [])]).find((each) => each.id === id)!;
  return asked({ ...dashboard, panels: [panel] }, values)[number]!.expr;
}
