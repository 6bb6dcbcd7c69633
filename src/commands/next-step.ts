// What to do after a start: the one thing that is still missing, and how Prometheus is told.

import { commandText } from '../command-text.ts';
import { type Installation, pluginState } from './install.ts';

/** Lines for people, after the bridge's own banner. */
export function nextStep(installation: Installation & { readonly metricsUrl: string }): string[] {
  const { state, problem } = pluginState(installation);
  const install = `  ${commandText('install opencode', { env: installation.env })}`;
  const next =
    state === 'absent'
      ? ['Next: put the plugin into OpenCode, then restart OpenCode. In another terminal:', install]
      : state === 'outdated'
        ? ['Next: bring the plugin up to date, then restart OpenCode. In another terminal:', install]
        : state === 'unreadable'
          ? [`Next: mend the plugin of OpenCode, then restart OpenCode. ${problem}`]
          : ['The plugin is installed. Send OpenCode a prompt, and its turns appear.'];
  return [
    '',
    ...next,
    '',
    'For Prometheus, under scrape_configs: in prometheus.yml:',
    '  - job_name: tollbridge',
    '    static_configs:',
    `      - targets: ["${new URL(installation.metricsUrl).host}"]`,
  ];
}
