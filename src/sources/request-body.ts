// Reads request bodies within two limits: what one may hold, and what all of them together may hold until booked.

import type { IncomingMessage } from 'node:http';

export type BodyRefusal = 'too_large' | 'overloaded';

/** A whole body; `release` must be called once what it held is booked or given up. */
export interface Body {
  readonly bytes: Buffer;
  release(): void;
}

export class BodyReader {
  readonly #maxBodyBytes: number;
  readonly #maxInFlightBytes: number;
  #inFlightBytes = 0;

  constructor(limits: { readonly maxBodyBytes: number; readonly maxInFlightBytes: number }) {
    this.#maxBodyBytes = limits.maxBodyBytes;
    this.#maxInFlightBytes = limits.maxInFlightBytes;
  }

  /** Whether a request can be refused by what its header declares, before a byte of its body is read. */
  refusal(request: IncomingMessage): BodyRefusal | undefined {
    const declared = Number(request.headers['content-length'] ?? 0);
    if (declared > this.#maxBodyBytes) return 'too_large';
    // Only bytes that came are counted, so nobody can take all the room by declaring bodies and not sending them.
    if (this.#inFlightBytes + declared > this.#maxInFlightBytes) return 'overloaded';
    return undefined;
  }

  /**
   * Reads on until the body is whole, or refused, or its sender has left. A body is whole when its last byte came, also
   * when the sender has closed the connection meanwhile.
   */
  read(request: IncomingMessage): Promise<Body | BodyRefusal | 'truncated'> {
    return new Promise((resolve) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      let settled = false;
      const release = () => {
        this.#inFlightBytes -= bytes;
        bytes = 0;
      };
      const give = (result: Body | BodyRefusal | 'truncated') => {
        if (settled) return;
        settled = true;
        if (typeof result === 'string') {
          chunks.length = 0;
          release();
        }
        resolve(result);
      };
      const whole = () => {
        if (!settled) give({ bytes: Buffer.concat(chunks), release });
      };

      request.on('data', (chunk: Buffer) => {
        if (settled) return;
        bytes += chunk.length;
        this.#inFlightBytes += chunk.length;
        if (bytes > this.#maxBodyBytes) give('too_large');
        else if (this.#inFlightBytes > this.#maxInFlightBytes) give('overloaded');
        else chunks.push(chunk);
      });
      request.once('end', whole);
      request.once('close', () => (request.complete ? whole() : give('truncated')));
      request.on('error', () => {}); // A sender that leaves is normal; `close` follows and says whether the body is whole.
    });
  }
}
