// The bridge as a systemd user service: the text of its unit.

import { createHash } from 'node:crypto';
import { VERSION } from '../version.ts';

const HEADER = /^# Tollbridge service, version (\S+), sha256 ([0-9a-f]{64})\n/;

export interface UnitParts {
  /** The program and its arguments. */
  readonly command: readonly string[];
  /** A file of `NAME=value` lines, for keys; it need not be there. */
  readonly environmentFile: string;
}

const digestOf = (text: string) => createHash('sha256').update(text).digest('hex');

/** One word as systemd reads it: `%` and `$` would be replaced, quotes and blanks would end it. */
function word(text: string, index: number): string {
  const escaped = text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%');
  // In the program's own name nothing is replaced but `%`.
  const whole = index === 0 ? escaped : escaped.replaceAll('$', '$$$$');
  return /^[\w@%+=:,./-]+$/.test(whole) ? whole : `"${whole}"`;
}

/** A path as a setting of its own, which takes no quotes. */
const path = (text: string) => text.replaceAll('%', '%%');

/** The unit, with a first line by which it is known again. */
export function serviceUnit({ command, environmentFile }: UnitParts): string {
  const body = `[Unit]
Description=Tollbridge, which meters every turn of a coding agent
After=network-online.target
# What is set up wrongly stays wrong: ten tries in five minutes, then it rests.
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=exec
ExecStart=${command.map(word).join(' ')}
# API keys and such, one NAME=value on a line; for your eyes only (chmod 600).
EnvironmentFile=-${path(environmentFile)}
Restart=on-failure
RestartSec=10
# A wrong command line does not become right.
RestartPreventExitStatus=2
# It books what it has taken in, then ends.
TimeoutStopSec=30
KillMode=mixed
UMask=0077
LimitNOFILE=8192
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=default.target
`;
  return `# Tollbridge service, version ${VERSION}, sha256 ${digestOf(body)}\n${body}`;
}

/** Whether a unit was written by us, and whether by hand since. */
export function originOf(text: string): 'ours' | 'edited' | 'foreign' {
  const header = HEADER.exec(text);
  if (!header) return 'foreign';
  return digestOf(text.slice(header[0].length)) === header[2] ? 'ours' : 'edited';
}
