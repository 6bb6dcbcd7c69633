// Why an OpenCode turn failed, as one of our closed set of reasons. Texts are looked up in tables, never kept.

import { isObject } from './fields.ts';
import { Fields } from './message-fields.ts';
import type { ErrorReason } from './turn-event.ts';

/** Bodies of errors are small; a larger one is a web page. */
const BODY_MAX_CHARS = 65_536;

/**
 * What providers call their errors, lower-cased. They say more than the status: Zen answers a spent balance, a reached
 * limit and an unknown model with 401 alike.
 */
const REASON_OF_TOKEN: ReadonlyMap<string, ErrorReason> = new Map([
  ['creditserror', 'credits'],
  ['insufficient_quota', 'credits'],
  ['insufficient_credits', 'credits'],
  ['insufficient_balance', 'credits'],
  ['billing_error', 'credits'],
  ['payment_required', 'credits'],
  ['monthlylimiterror', 'limit'],
  ['userlimiterror', 'limit'],
  ['freeusagelimiterror', 'limit'],
  ['gousagelimiterror', 'limit'],
  ['blackusagelimiterror', 'limit'],
  ['usage_limit_reached', 'limit'],
  ['billing_hard_limit_reached', 'limit'],
  ['ratelimiterror', 'rate_limit'],
  ['rate_limit_error', 'rate_limit'],
  ['rate_limit_exceeded', 'rate_limit'],
  ['too_many_requests', 'rate_limit'],
  ['resource_exhausted', 'rate_limit'],
  ['overloaded_error', 'overloaded'],
  ['overloaded', 'overloaded'],
  ['server_error', 'overloaded'],
  ['api_error', 'overloaded'],
  ['internal_server_error', 'overloaded'],
  ['service_unavailable', 'overloaded'],
  ['unavailable', 'overloaded'],
  ['context_length_exceeded', 'context_length'],
  ['request_too_large', 'context_length'],
  ['string_above_max_length', 'context_length'],
  ['autherror', 'auth'],
  ['authentication_error', 'auth'],
  ['permission_error', 'auth'],
  ['permission_denied', 'auth'],
  ['unauthenticated', 'auth'],
  ['invalid_api_key', 'auth'],
  ['modelerror', 'other'],
  ['regionerror', 'other'],
]);

const REASON_OF_NAME: ReadonlyMap<string, ErrorReason> = new Map([
  ['providerautherror', 'auth'],
  ['contextoverflowerror', 'context_length'],
  ['contextlengtherror', 'context_length'],
]);

const REASON_OF_STATUS: ReadonlyMap<number, ErrorReason> = new Map([
  [401, 'auth'],
  [402, 'credits'],
  [403, 'auth'],
  [413, 'context_length'],
  [429, 'rate_limit'],
]);

/** What Node, undici and Bun call a connection that did not come about or broke. */
const NETWORK_CODE =
  /^(e(conn\w+|pipe|host\w+|net\w+|timedout|notfound|ai_again)|und_err_\w+|connection(refused|closed|reset|timeout)|failedtoopensocket)$/;

/** The reason behind an HTTP status, where nothing else is known. */
export function reasonOfStatus(status: number): ErrorReason {
  if (status >= 500 && status <= 599) return 'overloaded';
  return REASON_OF_STATUS.get(status) ?? 'other';
}

/** The error object inside a response's body; undefined when it has none that can be read. */
function bodyOf(error: Fields): Fields | undefined {
  const body = error.at('data.responseBody');
  if (isObject(body)) return new Fields(body);
  if (typeof body !== 'string' || body.length > BODY_MAX_CHARS) return undefined;
  try {
    return new Fields(JSON.parse(body));
  } catch {
    return undefined;
  }
}

/**
 * The reason behind an OpenCode `error` (`{name, data: {statusCode, responseBody, …}}`). What the provider calls it
 * counts before OpenCode's name for it, and both before the status.
 */
export function errorReasonOf(stated: unknown): ErrorReason {
  const error = new Fields(stated);
  const body = bodyOf(error);
  const tokens = [
    error.word('data.errorType'),
    ...(body
      ? ['error.code', 'error.type', 'error.status', 'error', 'code', 'type'].map((path) => body.word(path))
      : []),
  ];
  for (const token of tokens) {
    const reason = REASON_OF_TOKEN.get(token);
    if (reason) return reason;
  }
  if (tokens.some((token) => token.includes('context_length'))) return 'context_length';

  const named = REASON_OF_NAME.get(error.word('name'));
  if (named) return named;

  const code = error.at('data.statusCode');
  const status = typeof code === 'number' || typeof code === 'string' ? Number(code) : Number.NaN;
  if (!Number.isNaN(status)) return reasonOfStatus(status);

  const codes = [...tokens, error.word('data.metadata.code'), error.word('data.code'), error.word('code')];
  return codes.some((code) => NETWORK_CODE.test(code)) ? 'network' : 'other';
}
