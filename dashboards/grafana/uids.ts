// Addresses of the dashboards: fixed, because people keep links to them.

export const TILES_UID = 'tollbridge-tiles';
export const DETAIL_UID = 'tollbridge-tile';
export const UPSTREAM_UID = 'tollbridge-upstream';
export const OPENCODE_UID = 'tollbridge-opencode';
export const ATTRIBUTION_UID = 'tollbridge-attribution';
export const ANALYTICS_UID = 'tollbridge-analytics';
export const HEALTH_UID = 'tollbridge-health';
export const RUNS_UID = 'tollbridge-runs';
