// Verdicts for those who ask over NATS: the question and the answer of `POST /v1/verdict`. NATS guards who publishes
// where, so it is the subject that says whose turn it would be.

import type { Log } from '../log.ts';
import type { NatsLink } from '../nats/connection.ts';
import type { Heard } from '../nats/core.ts';
import { askerIn, VERDICTS } from '../nats/subjects.ts';
import type { Identity } from '../turn/turn-event.ts';
import { NatsListener } from './nats-listener.ts';
import { type Answer, takeQuestion } from './socket-routes.ts';
import { placeOf, type Refusal, type SourceMeter } from './source.ts';

const SOURCE = 'nats';
/** A question is a few names. */
const QUESTION_MAX_BYTES = 64 * 1024;
/** One of the bridges that have the rules answers, whichever part of the turns it counts. */
const QUEUE = 'tollbridge_verdicts';

export interface NatsVerdictsOptions {
  readonly link: NatsLink;
  /** Answers a question, which is a JSON object. */
  readonly verdict: (question: unknown, identity: Identity) => Answer;
  readonly meter: Pick<SourceMeter, 'refused'>;
  readonly log: Log;
}

export class NatsVerdicts {
  readonly #options: NatsVerdictsOptions;
  readonly #listener: NatsListener;

  constructor(options: NatsVerdictsOptions) {
    this.#options = options;
    const { link, log } = options;
    const subjects = [`${VERDICTS}.>`];
    this.#listener = new NatsListener({ link, log, subjects, queue: QUEUE, take: (heard) => this.#answer(heard) });
  }

  /** What keeps questions from being heard, one line for people. */
  problem(): string | undefined {
    return this.#listener.problem();
  }

  start(): void {
    this.#listener.start();
  }

  /** Answers what was asked until now, then returns. */
  async stop(): Promise<void> {
    await this.#listener.stop();
  }

  #answer({ subject, data, respond }: Heard): void {
    const answer = this.#answerTo(subject, data);
    if (answer.refused) this.#options.meter.refused(SOURCE, answer.refused);
    respond(JSON.stringify(answer.body));
  }

  #answerTo(subject: string, data: Uint8Array): { body: object; refused?: Refusal } {
    const identity = askerIn(subject);
    if (!identity) return { body: { error: `expected the subject ${VERDICTS}.<team>.<user>` }, refused: 'malformed' };
    if (data.length > QUESTION_MAX_BYTES) {
      return { body: { error: `a question may hold ${QUESTION_MAX_BYTES} bytes` }, refused: 'too_large' };
    }
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    try {
      const { status, body } = takeQuestion(bytes, (question) => this.#options.verdict(question, identity));
      return status === 400 ? { body, refused: 'malformed' } : { body };
    } catch (error) {
      // Thrown further it would end the connection, and with it everything else that comes over NATS.
      this.#options.log.error(placeOf(error), 'a question from NATS could not be answered');
      return { body: { error: 'the bridge cannot answer now; its log says why. Ask again later' } };
    }
  }
}
