// What to do after a start: the one thing that is still missing, and how Prometheus is told.

import { defaultConfigFile } from '../config.ts';
import { type Installation, pluginState } from './install.ts';

/** Lines for people, after the bridge's own banner. */
export function nextStep(installation: Installation & { readonly metricsUrl: string }): string[] {
  const { state } = pluginState(installation);
  const next =
    state === 'absent'
      ? [
          'Next: put the plugin into OpenCode, then restart OpenCode. In another terminal:',
          `  ${installCommand(installation)}`,
        ]
      : state === 'outdated'
        ? [
            'Next: bring the plugin up to date, then restart OpenCode. In another terminal:',
            `  ${installCommand(installation)}`,
          ]
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

/** The command that installs the plugin, as it works here: from a clone through npm, else by its name. */
export function installCommand({ config, env }: Pick<Installation, 'config' | 'env'>): string {
  const { file } = config;
  const named = file === undefined || file === defaultConfigFile() ? '' : ` --config ${file}`;
  return `${env.npm_lifecycle_event ? 'npm run tollbridge -- ' : 'tollbridge '}install opencode${named}`;
}
