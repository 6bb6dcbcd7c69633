// The bridge as far as verdicts go, for tests: a real HTTP server on a unix socket whose answers the test decides.

import { createServer } from 'node:http';

/** What is answered: a verdict, any other body with its status, or nothing at all. */
export type Reply = object | { readonly status: number; readonly body: string } | 'never';

/** Allows without a rule, as a bridge without any policy does. */
export const ALLOW = { decision: 'allow', ttl_s: 0, fail: 'open' };
export const STOP = {
  decision: 'stop',
  rule: 'budget/platform-month',
  message: 'Tollbridge: the budget platform-month is spent (5.00 of 5.00 USD). Ask #platform.',
  budget: 'platform-month',
  resets_at: '2026-12-01T00:00:00+01:00',
  ttl_s: 0,
  fail: 'open',
};
export const WARN = {
  ...STOP,
  decision: 'warn',
  message: 'Tollbridge: 80% of the budget platform-month is spent.',
  step: 0.8,
};

export interface Question {
  readonly agent: string;
  readonly provider: string;
  readonly model: string;
  readonly tool?: string;
}

export class VerdictServer {
  /** Every question as it came, in order. */
  readonly questions: Question[] = [];
  /** What is answered from now on. */
  reply: Reply | ((question: Question) => Reply) = ALLOW;
  readonly #server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      if (request.url !== '/v1/verdict') {
        response.writeHead(202).end('{}');
        return;
      }
      const question = JSON.parse(body) as Question;
      this.questions.push(question);
      const reply = typeof this.reply === 'function' ? this.reply(question) : this.reply;
      if (reply === 'never') return;
      const raw = 'body' in reply ? (reply as { status: number; body: string }) : undefined;
      response.writeHead(raw?.status ?? 200, { 'content-type': 'application/json' });
      response.end(raw?.body ?? JSON.stringify(reply));
    });
  });

  start(socket: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject).listen(socket, resolve);
    });
  }

  stop(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}
