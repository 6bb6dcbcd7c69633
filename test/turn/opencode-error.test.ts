import assert from 'node:assert/strict';
import test from 'node:test';
import { errorReasonOf } from '../../src/turn/opencode-error.ts';

const api = (statusCode: unknown, responseBody?: unknown) => ({ name: 'APIError', data: { statusCode, responseBody } });
const zen = (statusCode: number, type: string) =>
  api(statusCode, JSON.stringify({ type: 'error', error: { type, message: 'x' } }));
const plugin = (statusCode: number | undefined, errorType: string) => ({
  name: 'APIError',
  data: { statusCode, errorType },
});

const CASES: [string, unknown, string][] = [
  ['provider auth', { name: 'ProviderAuthError', data: { providerID: 'x', message: 'y' } }, 'auth'],
  ['context overflow', { name: 'ContextOverflowError', data: {} }, 'context_length'],
  ['unknown error', { name: 'UnknownError', data: { message: 'boom' } }, 'other'],
  ['output length', { name: 'MessageOutputLengthError', data: {} }, 'other'],
  ['400', api(400), 'other'],
  ['401', api(401), 'auth'],
  ['402', api(402), 'credits'],
  ['403', api(403), 'auth'],
  ['404', api(404), 'other'],
  ['413', api(413), 'context_length'],
  ['429', api(429), 'rate_limit'],
  ['500', api(500), 'overloaded'],
  ['503', api(503), 'overloaded'],
  ['529', api(529), 'overloaded'],
  ['a status as a string', api('429'), 'rate_limit'],
  ['a status that is none', api('soon'), 'other'],
  ['Zen, spent balance', zen(401, 'CreditsError'), 'credits'],
  ['Zen, monthly limit', zen(401, 'MonthlyLimitError'), 'limit'],
  ['Zen, limit of the user', zen(401, 'UserLimitError'), 'limit'],
  ['Zen, bad key', zen(401, 'AuthError'), 'auth'],
  ['Zen, unknown model', zen(401, 'ModelError'), 'other'],
  ['Zen, rate limit', zen(429, 'RateLimitError'), 'rate_limit'],
  ['Zen, free limit', zen(429, 'FreeUsageLimitError'), 'limit'],
  ['Go, plan window', zen(429, 'GoUsageLimitError'), 'limit'],
  ['Anthropic, overloaded', zen(529, 'overloaded_error'), 'overloaded'],
  ['Anthropic, too large', zen(413, 'request_too_large'), 'context_length'],
  [
    'OpenAI, quota',
    api(429, JSON.stringify({ error: { type: 'insufficient_quota', code: 'insufficient_quota' } })),
    'credits',
  ],
  [
    'OpenAI, context',
    api(400, JSON.stringify({ error: { type: 'invalid_request_error', code: 'context_length_exceeded' } })),
    'context_length',
  ],
  [
    'OpenAI, tokens per minute',
    api(429, JSON.stringify({ error: { type: 'tokens', code: 'rate_limit_exceeded' } })),
    'rate_limit',
  ],
  ['Google, exhausted', api(429, JSON.stringify({ error: { code: 429, status: 'RESOURCE_EXHAUSTED' } })), 'rate_limit'],
  ['a body that is an object', api(401, { error: { type: 'CreditsError' } }), 'credits'],
  [
    'a type that nobody knows',
    api(402, JSON.stringify({ error: { type: 'invalid_request_error', code: 'budget_exceeded' } })),
    'credits',
  ],
  ['a body that is no JSON', api(429, '<html>CreditsError</html>'), 'rate_limit'],
  [
    'a body that is too large to be an error',
    api(401, JSON.stringify({ error: { type: 'CreditsError' }, pad: 'x'.repeat(70_000) })),
    'auth',
  ],
  ['the word in a text is no token', api(401, JSON.stringify({ error: { message: 'CreditsError' } })), 'auth'],
  ['our plugin, spent balance', plugin(401, 'CreditsError'), 'credits'],
  ['our plugin, unknown token', plugin(401, 'constructor'), 'auth'],
  ['our plugin, another spelling of context length', plugin(400, 'model_context_length_error'), 'context_length'],
  ['our plugin, connection', plugin(undefined, 'ECONNRESET'), 'network'],
  ['connection reset', { name: 'APIError', data: { metadata: { code: 'ECONNRESET' } } }, 'network'],
  ['connection refused in Bun', { name: 'APIError', data: { metadata: { code: 'ConnectionRefused' } } }, 'network'],
  ['no such host', { name: 'UnknownError', data: { code: 'ENOTFOUND' } }, 'network'],
  ['undici', { name: 'APIError', data: { metadata: { code: 'UND_ERR_SOCKET' } } }, 'network'],
  [
    'a status counts before a code',
    { name: 'APIError', data: { statusCode: 429, metadata: { code: 'ECONNRESET' } } },
    'rate_limit',
  ],
  ['no access is not the network', { name: 'UnknownError', data: { code: 'EACCES' } }, 'other'],
  ['a status that turns into no number', api({ toString: 1 }), 'other'],
  ['a status of an array', api([429]), 'other'],
  ['a status as a text', api('429'), 'rate_limit'],
  ['a text', 'it broke', 'other'],
  ['true', true, 'other'],
  ['an empty object', {}, 'other'],
  ['inherited names', JSON.parse('{"__proto__":{"name":"ProviderAuthError"}}'), 'other'],
];

for (const [what, error, expected] of CASES) {
  test(`error reason: ${what} → ${expected}`, () => assert.equal(errorReasonOf(error), expected));
}
