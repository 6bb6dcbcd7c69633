// `tollbridge check-config`: whether the configuration can be used, and what follows from it.

import type { Config } from '../config.ts';
import { defaultConfigFile } from '../config.ts';
import { policyNotes } from '../policy/policy-notes.ts';
import { findAccounts } from '../poll/detect.ts';
import { nameColumn, type Report } from './show.ts';

/** Says what a configuration that is free of mistakes comes to. */
export function describeConfig(options: { config: Config; env: NodeJS.ProcessEnv; home: string }): Report {
  const { config } = options;
  const { host, port } = config.metrics.listen;
  const { accounts, notes } = findAccounts({ ...options, platform: process.platform });
  const found = accounts.map(({ provider, id, foundIn }) => `${provider}/${id} (${foundIn})`);
  const rows = nameColumn([
    ['file', config.file ?? `none at ${defaultConfigFile()}: every default`],
    [
      'metrics',
      `${config.metrics.tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}/metrics`,
    ],
    ['socket', config.socket.enabled ? config.socket.path : 'off'],
    ['spool', config.spool.enabled ? config.spool.dir : 'off'],
    ['state_dir', config.state_dir],
    ['time zone', config.time_zone],
    ['accounts', found.join(', ') || 'none'],
  ]);
  return {
    lines: [
      'OK',
      ...rows,
      ...[...notes, ...policyNotes(config, { seen: undefined, project: config.labels.project })].map(
        (note) => `  note: ${note}`,
      ),
    ],
    exitCode: 0,
  };
}
