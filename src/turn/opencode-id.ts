// OpenCode's ids carry their birth: prefix, 12 hex digits = (ms × 4096 + n) mod 2^48, 14 base-62 characters.
// Session ids have the bits inverted, so that the newest sorts first.

const ID = /^(?:msg|ses|evt|prt|per)_[0-9a-f]{12}[0-9A-Za-z]{14}$/;
const HEX_SPAN = 2 ** 48;
const IDS_PER_MS = 4096;
/** The birth is known modulo this many ms, about 2.2 years. */
const WRAP_MS = HEX_SPAN / IDS_PER_MS;
/** A real message's id and its time are taken from one clock within a few ms; a fork's copies keep the old time. */
const COPY_AFTER_MS = 100;

/** The birth of an id modulo WRAP_MS; undefined when it is not an OpenCode id of that kind. */
function birth(id: string, kind?: 'msg' | 'ses'): number | undefined {
  if (!ID.test(id) || (kind && !id.startsWith(kind))) return undefined;
  const digits = Number.parseInt(id.slice(4, 16), 16);
  return Math.floor((id.startsWith('ses') ? HEX_SPAN - 1 - digits : digits) / IDS_PER_MS);
}

/** The distance from one time to another, either modulo WRAP_MS: of the congruent ones, the shortest. */
function distance(fromMs: number, toMs: number): number {
  const ahead = (((toMs - fromMs) % WRAP_MS) + WRAP_MS) % WRAP_MS;
  return ahead >= WRAP_MS / 2 ? ahead - WRAP_MS : ahead;
}

/**
 * When an OpenCode id was born, in Unix ms: of all the times that it can stand for, the one nearest to `nearMs`.
 * Undefined when it is not an OpenCode id.
 */
export function bornMs(id: string, nearMs: number): number | undefined {
  const born = birth(id);
  return born === undefined ? undefined : nearMs + distance(nearMs, born);
}

/**
 * Whether a message is a copy that a fork made of an old one: its id was born well after `createdMs`, and
 * `createdMs` lies before its session's birth. Both must hold, so that a stepped clock loses no turn.
 * Ids that do not decode are no copies.
 */
export function isForkCopy(message: { messageId: string; sessionId: string; createdMs: number }): boolean {
  const messageBirth = birth(message.messageId, 'msg');
  const sessionBirth = birth(message.sessionId, 'ses');
  if (messageBirth === undefined || sessionBirth === undefined) return false;
  return distance(message.createdMs, messageBirth) > COPY_AFTER_MS && distance(message.createdMs, sessionBirth) > 0;
}
