// OTLP/HTTP, as coding agents export it: `POST <prefix>/v1/{logs,traces,metrics}`. Logs are booked, and of spans what no
// log and no plugin tells; metrics repeat them and are dropped. Agents keep nothing on disk and send nothing again that was
// answered by a 500, so there is none.

import type { IncomingMessage } from 'node:http';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { type Decoded, ignored } from '../turn/decoded.ts';
import { Conversations } from '../turn/otlp/conversations.ts';
import { decodeLogs } from '../turn/otlp/decode.ts';
import { OpencodeTitles } from '../turn/otlp/opencode-titles.ts';
import { type Encoding, readBody } from '../turn/otlp/payload.ts';
import { UnreadableBody } from '../turn/otlp/records.ts';
import type { Desk, Route } from './event-receiver.ts';
import { bookedAnswer, encodeAnswer, MEDIA_TYPES } from './otlp-answer.ts';
import { type Accept, type Answer, refuse } from './socket-routes.ts';
import { OTLP_SOURCE } from './source.ts';
import { type Service, TcpServer, type TcpServerOptions } from './tcp-server.ts';

/** Of a body, packed or not: a batch of 512 records of the most talkative agent fits. */
const BODY_MAX_BYTES = 16 * 1024 * 1024;
const SERVICE: Service = { source: OTLP_SOURCE, key: 'otlp_in', serves: 'agents that export by OTLP', port: 4318 };
/** Anything may stand before it: agents can be given an endpoint with a token in it. */
const ROUTE = /^(.*)\/v1\/(logs|traces|metrics)\/?$/;

const EXPECTED_TYPES = Object.values(MEDIA_TYPES).join(' or ');

const unpack = promisify(gunzip);

export type OtlpServerOptions = Omit<TcpServerOptions, 'service' | 'desk' | 'tokenInPath'>;

/** A source that agents export to. */
export function otlpServer(options: OtlpServerOptions): TcpServer {
  return new TcpServer({
    ...options,
    service: SERVICE,
    desk: new OtlpDesk(),
    tokenInPath: (url) => routeOf(url)?.[1]?.split('/').at(-1) || undefined,
    limits: { maxBodyBytes: BODY_MAX_BYTES, ...options.limits },
  });
}

const routeOf = (url: string) => ROUTE.exec(url.split('?', 1)[0]!);

class OtlpDesk implements Desk {
  readonly routes = 'POST /v1/logs, POST /v1/traces, POST /v1/metrics';
  readonly mistake = { status: 503, retryAfterS: 1 };
  readonly #conversations = new Conversations();
  readonly #titles = new OpencodeTitles();
  /** One body is read at a time: unpacked and parsed it takes much room, and what is kept of it is small. */
  #bodies: Promise<unknown> = Promise.resolve();

  route(path: string, accept: Accept): Route | undefined {
    switch (routeOf(path)?.[2]) {
      case 'logs':
        return this.#reading(accept, (body, encoding) =>
          decodeLogs(readBody('logs', body, encoding), this.#conversations),
        );
      case 'traces':
        return this.#reading(accept, (body, encoding) => this.#titles.decode(readBody('traces', body, encoding)));
      case 'metrics':
        return { isBooked: true, take: async () => bookedAnswer(await accept([ignored('metric')])) };
      default:
        return undefined;
    }
  }

  encode(answer: Answer, request: IncomingMessage): { contentType: string; bytes: Buffer } {
    const encoding = encodingOf(request) ?? 'json';
    const counts = routeOf(request.url ?? '')?.[2] === 'traces' ? 'rejectedSpans' : 'rejectedLogRecords';
    return { contentType: MEDIA_TYPES[encoding], bytes: encodeAnswer(answer, encoding, counts) };
  }

  #reading(accept: Accept, read: (body: Buffer, encoding: Encoding) => Decoded[]): Route {
    const take = async (body: Buffer, request: IncomingMessage) => {
      try {
        const encoding = encodingOf(request);
        if (!encoding) throw new UnreadableBody('unreadable', `content-type: expected ${EXPECTED_TYPES}`);
        const decoded = await this.#inTurn(async () => {
          return read(await unpacked(body, request.headers['content-encoding']), encoding);
        });
        return bookedAnswer(await accept(decoded));
      } catch (error) {
        if (!(error instanceof UnreadableBody)) throw error;
        const { reason, message } = error;
        return refuse(
          accept,
          { status: reason === 'too_large' ? 413 : 400, error: message },
          { reason, detail: message },
        );
      }
    };
    return { isBooked: true, take };
  }

  #inTurn<T>(read: () => Promise<T>): Promise<T> {
    const result = this.#bodies.then(read);
    this.#bodies = result.catch(() => {});
    return result;
  }
}

function encodingOf({ headers }: IncomingMessage): Encoding | undefined {
  const [type = ''] = (headers['content-type'] ?? '').toLowerCase().split(/\s*;/, 1);
  return type === MEDIA_TYPES.json ? 'json' : type === MEDIA_TYPES.protobuf ? 'protobuf' : undefined;
}

/** @throws UnreadableBody */
async function unpacked(body: Buffer, packing = 'identity'): Promise<Buffer> {
  switch (packing.trim().toLowerCase()) {
    case 'identity':
      return body;
    case 'gzip':
      break;
    default:
      throw new UnreadableBody('unreadable', 'content-encoding: expected gzip or identity');
  }
  try {
    return await unpack(body, { maxOutputLength: BODY_MAX_BYTES });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      throw new UnreadableBody(
        'too_large',
        `a body may hold ${BODY_MAX_BYTES} bytes when unpacked; export smaller batches`,
      );
    }
    throw new UnreadableBody('unreadable', 'expected a body packed by gzip, as content-encoding says');
  }
}
