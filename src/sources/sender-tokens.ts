// The tokens that senders on TCP bear, and whose events each of them brings. Only digests are held.

import { timingSafeEqual } from 'node:crypto';
import type { TokenConfig } from '../config.ts';
import { repeats } from '../config-mistake.ts';
import { PermanentFailure } from '../failure.ts';
import { bearerOf, tokenDigest } from '../listen.ts';
import { inFile, inVariable } from '../poll/credential.ts';
import type { Identity } from '../turn/turn-event.ts';
import type { Unanswered } from './event-receiver.ts';
import { Pace } from './pace.ts';

interface KnownToken {
  readonly digest: Buffer;
  readonly identity: Identity;
  readonly pace: Pace;
}

export class SenderTokens {
  readonly #tokens: readonly KnownToken[];

  /**
   * Reads the tokens that the configuration lists or leads to.
   * @param perSecond how many requests may come with a token that states no limit of its own
   * @throws PermanentFailure when one cannot be read, or is there twice
   */
  constructor(tokens: readonly TokenConfig[], { env, perSecond }: { env: NodeJS.ProcessEnv; perSecond: number }) {
    this.#tokens = tokens.map((token, index) => {
      const digest = digestOf(token, { place: `tokens[${index}]`, env });
      const { team, user, project } = token;
      const identity = { ...(team && { team }), ...(user && { user }), ...(project && { project }) };
      return { digest, identity, pace: new Pace(token.rate_limit ?? perSecond) };
    });
    const [repeat] = repeats(this.#tokens, ({ digest }) => digest.toString('hex'));
    if (repeat) {
      throw new PermanentFailure(
        `tokens[${repeat.index}] is the same token as tokens[${repeat.first}], so it cannot be told whose events it brings. ` +
          'Remove one of them, or give one sender another token.',
      );
    }
  }

  get isEmpty(): boolean {
    return this.#tokens.length === 0;
  }

  /** Whose token an Authorization header bears. All are compared, so that the time tells nothing about which it was. */
  identify(authorization: string | undefined): Identity | Exclude<Unanswered, 'web_page'> {
    const given = bearerOf(authorization);
    return given === undefined ? 'missing' : this.identifyToken(given);
  }

  /** Whose token this is. */
  identifyToken(given: string): Identity | 'wrong' | 'too_fast' {
    const digest = tokenDigest(given);
    let found: KnownToken | undefined;
    for (const token of this.#tokens) if (timingSafeEqual(token.digest, digest)) found = token;
    if (!found) return 'wrong';
    return found.pace.admits() ? found.identity : 'too_fast';
  }
}

/** Whether a configuration lists a token; undefined where what it leads to cannot all be read here. */
export function isListedToken(
  given: string,
  tokens: readonly TokenConfig[],
  env: Readonly<Record<string, string | undefined>>,
): boolean | undefined {
  const digest = tokenDigest(given);
  let isAllKnown = true;
  for (const token of tokens) {
    try {
      if (timingSafeEqual(digestOf(token, { place: 'tokens', env }), digest)) return true;
    } catch (error) {
      if (!(error instanceof PermanentFailure)) throw error;
      isAllKnown = false;
    }
  }
  return isAllKnown ? false : undefined;
}

function digestOf(
  token: TokenConfig,
  { place, env }: { place: string; env: Readonly<Record<string, string | undefined>> },
): Buffer {
  if (token.sha256 !== undefined) return Buffer.from(token.sha256, 'hex');
  const credential =
    token.token_env === undefined
      ? inFile(token.token_file!, { key: 'token_file', account: place })
      : inVariable(token.token_env, env);
  const secret = credential.read();
  if (secret.type === 'found') return tokenDigest(secret.secret);
  const why = secret.type === 'absent' ? `it holds no token; ${credential.remedy}` : secret.problem;
  throw new PermanentFailure(
    `${place} leads to ${credential.place}, but its senders would all be turned away: ${why}, or remove the entry.`,
  );
}
