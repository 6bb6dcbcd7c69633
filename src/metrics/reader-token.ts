// The token that readers of metrics bear, from where the configuration says it is.

import type { MetricsConfig } from '../config.ts';
import { PermanentFailure } from '../failure.ts';
import { inFile, inVariable } from '../poll/credential.ts';

/**
 * The token itself; undefined when readers are asked for none.
 * @throws PermanentFailure when the configuration leads to none: what it guards would be open, or closed to everybody
 */
export function readerToken(
  { token_env: variable, token_file: file }: Pick<MetricsConfig, 'token_env' | 'token_file'>,
  env: NodeJS.ProcessEnv,
): string | undefined {
  if (variable === undefined && file === undefined) return undefined;
  const credential =
    file === undefined ? inVariable(variable!, env) : inFile(file, { key: 'token_file', account: 'metrics' });
  const secret = credential.read();
  if (secret.type === 'found') return secret.secret;
  const [key, empty] =
    file === undefined
      ? ['token_env', `names ${variable}, but that variable is empty`]
      : ['token_file', 'names a file that is missing or empty'];
  const why = secret.type === 'unusable' ? `cannot be used: ${secret.problem}` : empty;
  throw new PermanentFailure(`metrics.${key} ${why}: /metrics would be open. Put the token there, or remove the key.`);
}
