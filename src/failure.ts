// The two ways something can fail. Whoever catches one knows what to do without reading its text.

/** Trying again cannot help: the input or the set-up is wrong. The message says what to change. */
export class PermanentFailure extends Error {
  override readonly name = 'PermanentFailure';
}

/** The same thing may work later: the disk is full, the queue is long, the remote is away. */
export class RetryableFailure extends Error {
  override readonly name = 'RetryableFailure';
  /** How long to wait before the next try, in seconds. */
  readonly retryAfterS: number;

  constructor(message: string, options: ErrorOptions & { retryAfterS?: number } = {}) {
    super(message, options);
    this.retryAfterS = options.retryAfterS ?? 1;
  }
}

/** The message of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
