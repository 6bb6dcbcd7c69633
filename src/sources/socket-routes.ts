// What the bodies posted to the socket mean, and what their senders are answered. Statuses and bodies of the hook route
// are those of OpenUsage, so that its unmodified senders work here; only the 200 is given later, after the commit.

import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { LATEST_MS, type Span } from '../ledger/budget-period.ts';
import { REPORT_BY, type ReportBy } from '../ledger/spend-report.ts';
import { type Decoded, rejected } from '../turn/decoded.ts';
import { importTally } from '../turn/import-tally.ts';
import { decodeBody, decodeHook, HOOK_AGENTS } from '../turn/normalize.ts';
import type { Booking, Rejection } from '../turn/turn-event.ts';

/** Sources that OpenUsage knows but takes no hooks from. */
const KNOWN_WITHOUT_HOOKS: readonly string[] = ['cursor', 'copilot', 'gemini_cli', 'ollama'];
/** A body of nothing but mistakes would be answered with a list far longer than itself. */
const LISTED_REJECTIONS = 1000;

export interface Answer {
  readonly status: number;
  readonly body: object;
  readonly retryAfterS?: number;
}

/** Books decoded items and counts them. @throws RetryableFailure when the commit failed */
export type Accept = (decoded: readonly Decoded[]) => Promise<Booking[]>;

/** Counts a body that cannot be used at all, and says why to its sender. */
export async function refuse(
  accept: Accept,
  answer: { status: number; error: string },
  rejection: Rejection,
): Promise<Answer> {
  await accept([rejected(rejection)]);
  return { status: answer.status, body: { error: answer.error } };
}

function tally(bookings: readonly Booking[]) {
  const counts = { accepted: 0, duplicate: 0, ignored: 0, rejected: 0 };
  for (const { outcome } of bookings) {
    if (outcome.type === 'recorded' || outcome.type === 'updated' || outcome.type === 'forwarded') counts.accepted++;
    else counts[outcome.type]++;
  }
  return counts;
}

export interface HookTarget {
  /** The rest of the path, as the sender wrote it, without blanks and slashes around it. */
  readonly source: string;
  /** Empty when the sender named none. */
  readonly accountId: string;
}

/**
 * `POST /v1/hook/{source}?account_id=`: one hook payload of an agent.
 * @throws RetryableFailure when the commit failed
 */
export async function takeHook({ source, accountId }: HookTarget, body: Buffer, accept: Accept): Promise<Answer> {
  const agent = source.toLowerCase();
  const bad = (error: string, rejection: Rejection) => refuse(accept, { status: 400, error }, rejection);
  const agents = HOOK_AGENTS.join(', ');

  if (agent === '') {
    return bad(`missing hook source; post to /v1/hook/ and one of ${agents}`, {
      reason: 'unknown_agent',
      detail: 'the path names no source',
    });
  }
  const text = body.toString('utf8');
  if (text.trim() === '') return bad('empty payload', { reason: 'invalid_json', detail: 'the body is empty' });
  if (KNOWN_WITHOUT_HOOKS.includes(agent)) {
    return bad(`parse hook payload: hook parsing not supported; supported are ${agents}`, {
      reason: 'unknown_agent',
      detail: 'the source has no hooks',
    });
  }
  if (!(HOOK_AGENTS as readonly string[]).includes(agent)) {
    const named = /^[a-z0-9_.-]{1,40}$/.test(agent) ? ` "${agent}"` : '';
    return bad(`unknown hook source${named}; known are ${agents}`, {
      reason: 'unknown_agent',
      detail: `expected one of ${agents}`,
    });
  }
  let payload: unknown;
  try {
    if (!isUtf8(body)) throw new SyntaxError();
    payload = JSON.parse(text);
  } catch {
    return bad('parse hook payload: the body is not JSON', { reason: 'invalid_json', detail: 'the body is not JSON' });
  }

  const bookings = await accept(decodeHook(agent, payload, accountId ? { accountId } : {}));
  const counts = tally(bookings);
  const rejections = bookings.flatMap(({ outcome }) => (outcome.type === 'rejected' ? [outcome] : []));
  if (rejections.length > 0 && rejections.length === bookings.length) {
    const { reason, detail } = rejections[0]!;
    return { status: 400, body: { error: `parse hook payload: ${reason}: ${detail}`, reason } };
  }
  return {
    status: 200,
    body: {
      source,
      enqueued: bookings.length,
      processed: bookings.length,
      ingested: counts.accepted,
      deduped: counts.duplicate,
      failed: counts.rejected,
      ...(rejections.length > 0 && { warnings: rejections.map(({ reason, detail }) => `${reason}: ${detail}`) }),
    },
  };
}

/**
 * `POST /v1/events`: one JSON record, an array of records, or NDJSON.
 * @throws RetryableFailure when the commit failed
 */
export async function takeEvents(body: Buffer, accept: Accept): Promise<Answer> {
  const items = decodeBody(body);
  if (items.length === 0) {
    const detail = 'the body holds no record; send one JSON object, an array of them, or one on each line';
    return refuse(accept, { status: 400, error: detail }, { reason: 'invalid_json', detail });
  }
  const bookings = await accept(items.map(({ decoded }) => decoded));
  const { rejected: failed, ...counts } = tally(bookings);
  const rejections = bookings.flatMap(({ outcome }, at) =>
    outcome.type === 'rejected' ? [{ index: items[at]!.index, reason: outcome.reason, detail: outcome.detail }] : [],
  );
  const unlisted = rejections.length - LISTED_REJECTIONS;
  return {
    status: failed === bookings.length ? 400 : 202,
    body: {
      ...counts,
      rejected: rejections.slice(0, LISTED_REJECTIONS),
      ...(unlisted > 0 && { rejected_not_listed: unlisted }),
    },
  };
}

/**
 * `POST /v1/import`: records as for `/v1/events`, of which an import wants to know what became.
 * @throws RetryableFailure when the commit failed
 */
export async function takeImport(body: Buffer, accept: Accept): Promise<Answer> {
  const bookings = await accept(decodeBody(body).map(({ decoded }) => decoded));
  return { status: 200, body: importTally(bookings) };
}

/** `POST /v1/verdict`: one JSON object, which is what `ask` is asked. Nothing of it is booked. */
export function takeQuestion(body: Buffer, ask: (question: object) => Answer): Answer {
  let question: unknown;
  try {
    question = isUtf8(body) ? JSON.parse(body.toString('utf8')) : undefined;
  } catch {
    // Told below, with everything else that is no question.
  }
  if (typeof question !== 'object' || question === null || Array.isArray(question)) {
    return { status: 400, body: { error: 'the body is no JSON object; send one question, such as {"agent": …}' } };
  }
  return ask(question);
}

/** `GET /v1/report?by=…&from_ms=…&to_ms=…`; without a bound all that is known counts. */
export function readReport(query: string, report: (by: ReportBy, span: Span) => object): Answer {
  const asked = new URLSearchParams(query);
  const by = REPORT_BY.find((known) => known === asked.get('by'));
  if (!by) return { status: 400, body: { error: `by: expected one of ${REPORT_BY.join(', ')}` } };
  const startMs = unixMs(asked.get('from_ms') ?? '0');
  const endMs = unixMs(asked.get('to_ms') ?? String(LATEST_MS));
  if (startMs === undefined || endMs === undefined || startMs >= endMs) {
    return { status: 400, body: { error: 'from_ms, to_ms: expected Unix ms, the first below the second' } };
  }
  return { status: 200, body: report(by, { startMs, endMs }) };
}

function unixMs(text: string): number | undefined {
  const ms = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return ms <= LATEST_MS ? ms : undefined;
}

/** The answer of `GET /healthz`, in the shape that OpenUsage's clients read. */
export function healthAnswer(version: string, tileIds: readonly string[]): object {
  const registry = [...new Set(tileIds)].sort().join(',');
  return {
    status: 'ok',
    daemon_version: version,
    api_version: 'v1',
    integration_version: version,
    provider_registry_hash: createHash('sha256').update(registry).digest('hex'),
  };
}
