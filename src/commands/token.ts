// `tollbridge token new`: a token for a sender on TCP. It is shown once and kept nowhere; the bridge needs its hash only.

import { randomBytes } from 'node:crypto';
import { labelValue } from '../config-fields.ts';
import { PermanentFailure } from '../failure.ts';
import { tokenDigest } from '../listen.ts';
import type { Report } from './show.ts';

const TOKEN_BYTES = 32;
/** So that people and scanners for secrets see what it is. */
const TOKEN_PREFIX = 'tb_';

/** Whose events a token brings. */
export interface TokenOwner {
  readonly team?: string;
  readonly user?: string;
  readonly project?: string;
}

/**
 * Makes a token and says how to let it in and how to use it.
 * @throws PermanentFailure when a name cannot be a label
 */
export function newToken(owner: TokenOwner): Report {
  const bound = (['team', 'user', 'project'] as const).flatMap((key) => {
    const value = owner[key];
    if (value === undefined) return [];
    const { error } = labelValue.safeParse(value);
    if (error) throw new PermanentFailure(`--${key}: ${error.issues[0]!.message}. No token was made.`);
    // In quotes, because YAML reads some names as numbers or as true and false.
    return [`    ${key}: "${value}"`];
  });
  const token = TOKEN_PREFIX + randomBytes(TOKEN_BYTES).toString('base64url');
  return {
    lines: [
      'The token. It is shown only now and kept nowhere: give it to its sender, as a secret.',
      '',
      `  ${token}`,
      '',
      'Its entry for tollbridge.yaml. Add it below "tokens:", set tcp.listen, and restart the bridge:',
      '',
      'tokens:',
      `  - sha256: "${tokenDigest(token).toString('hex')}"`,
      ...bound,
      '',
      'Whether it is let in, and as whom, with the token in TOLLBRIDGE_TOKEN and the address of tcp.listen:',
      '',
      '  curl -H "Authorization: Bearer $TOLLBRIDGE_TOKEN" http://127.0.0.1:9465/v1/status',
    ],
    exitCode: 0,
  };
}
