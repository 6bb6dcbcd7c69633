// The dashboards as files.

import { type Dashboard, DashboardLinkPlacement } from '@grafana/grafana-foundation-sdk/dashboard';
import { ANALYTICS } from './analytics.ts';
import { ATTRIBUTION } from './attribution.ts';
import { type DashboardSpec, place } from './dashboard.ts';
import { HEALTH } from './health.ts';
import { OPENCODE } from './opencode.ts';
import { runsDashboard } from './runs.ts';
import { TILE_DETAIL } from './tile-detail.ts';
import { TILES } from './tiles.ts';
import { UPSTREAM } from './upstream.ts';

export const DASHBOARDS: readonly DashboardSpec[] = [
  TILES,
  UPSTREAM,
  TILE_DETAIL,
  OPENCODE,
  ATTRIBUTION,
  ANALYTICS,
  HEALTH,
];
const FOLDER = 'dashboards/json';
const RUNS_FOLDER = 'dashboards/runs';

interface DashboardFile {
  readonly file: string;
  readonly text: string;
}

export const PLACED = DASHBOARDS.map(place);

/** What the builders add, and what says nothing. */
function tidy(dashboard: Dashboard): object {
  const { templating = {}, ...rest } = dashboard;
  const list = (templating.list ?? []).map(({ auto: _a, auto_min: _b, auto_count: _c, skipUrlSync, ...variable }) => ({
    ...variable,
    ...(skipUrlSync && { skipUrlSync }),
  }));
  return { ...rest, annotations: { list: [] }, templating: { list } };
}

/** A link in a menu, where the builders put all of them, is not seen. */
const withoutMenus = (_: string, value: unknown) =>
  value === DashboardLinkPlacement.InControlsMenu ? undefined : value;

/** Every dashboard, as the JSON that Grafana provisions and imports. */
export function dashboardFiles(): DashboardFile[] {
  return PLACED.map(({ dashboard }) => fileOf(FOLDER, dashboard));
}

/** The one of runs, which needs stores of traces and logs: not among the others, so that nobody loads it without. */
export function runsDashboardFile(): DashboardFile {
  return fileOf(RUNS_FOLDER, runsDashboard());
}

const fileOf = (folder: string, dashboard: Dashboard): DashboardFile => ({
  file: `${folder}/${dashboard.uid}.json`,
  text: JSON.stringify(tidy(dashboard), withoutMenus, 1),
});
