// Whose a balance is, without saying who.

import { createHash } from 'node:crypto';

const DIGEST_CHARS = 16;

/**
 * A digest of an organisation's or workspace's id. It tells only whether two balances belong to the same one: the ids are
 * random, so none can be found from it.
 */
export function balanceOwner(id: string): string {
  return createHash('sha256').update(`tollbridge balance owner\0${id}`).digest('hex').slice(0, DIGEST_CHARS);
}
