// Answers of OTLP/HTTP: in the encoding of the request, as its specification says them.

import protobuf from 'protobufjs/minimal.js';
import type { Encoding } from '../turn/otlp/payload.ts';
import type { Booking } from '../turn/turn-event.ts';
import type { Answer } from './socket-routes.ts';

export const MEDIA_TYPES = { json: 'application/json', protobuf: 'application/x-protobuf' } as const;
/** google.rpc.Code UNKNOWN: the HTTP status says more. */
const STATUS_CODE = 2;

/** What a success or a refusal says, before it is encoded. */
interface Said {
  readonly error?: string;
  readonly partialSuccess?: { readonly rejected: number; readonly message: string };
}

/** The answer to records that were booked; those that were not are told. */
export function bookedAnswer(bookings: readonly Booking[]): Answer {
  const rejections = bookings.flatMap(({ outcome }) => (outcome.type === 'rejected' ? [outcome] : []));
  const [first] = rejections;
  const body: Said = first
    ? { partialSuccess: { rejected: rejections.length, message: `${first.reason}: ${first.detail}` } }
    : {};
  return { status: 200, body };
}

/** @param counts how JSON names the rejected records of the signal */
export function encodeAnswer({ body }: Answer, encoding: Encoding, counts: string): Buffer {
  const { error, partialSuccess } = body as Said;
  if (encoding === 'protobuf') return inProtobuf({ error, partialSuccess });
  if (error !== undefined) return inJson({ code: STATUS_CODE, message: error });
  if (!partialSuccess) return inJson({});
  const { rejected, message } = partialSuccess;
  return inJson({ partialSuccess: { [counts]: String(rejected), errorMessage: message } });
}

const inJson = (value: object) => Buffer.from(JSON.stringify(value));

/** The field numbers are the same for every signal. */
function inProtobuf({ error, partialSuccess }: { [K in keyof Said]: Said[K] | undefined }): Buffer {
  const [firstVarint, firstBytes, secondBytes] = [0x08, 0x0a, 0x12];
  const writer = protobuf.Writer.create();
  if (error !== undefined) writer.uint32(firstVarint).int32(STATUS_CODE).uint32(secondBytes).string(error);
  if (partialSuccess) {
    writer.uint32(firstBytes).fork().uint32(firstVarint).int64(partialSuccess.rejected);
    writer.uint32(secondBytes).string(partialSuccess.message).ldelim();
  }
  return Buffer.from(writer.finish());
}
