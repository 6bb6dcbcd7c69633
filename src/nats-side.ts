// The NATS side of a bridge or relay: what comes over NATS into the ledger, and what goes from this machine into the
// stream. Built and stopped by the composition roots.

import path from 'node:path';
import { BudgetSharing } from './budget-sharing.ts';
import type { Config } from './config.ts';
import { type NatsConfig, partitionText } from './config-nats.ts';
import { messageOf } from './failure.ts';
import type { Ledger } from './ledger/ledger.ts';
import type { Standing } from './ledger/reading.ts';
import type { Log } from './log.ts';
import type { Health } from './metrics/health.ts';
import { NatsLink } from './nats/connection.ts';
import { DiskQueue } from './nats/disk-queue.ts';
import { StreamPublisher } from './nats/publisher.ts';
import { type PolicyParts, policyText } from './policy/told-policy.ts';
import type { PollResult } from './poll/poll-result.ts';
import { publishedText } from './poll/published-result.ts';
import { AccountFollower } from './sources/account-follower.ts';
import { JetStreamSource } from './sources/jetstream.ts';
import { NatsCoreSource } from './sources/nats-core.ts';
import { NatsVerdicts, type NatsVerdictsOptions } from './sources/nats-verdicts.ts';
import type { Intake } from './sources/source.ts';
import { StreamSink } from './sources/stream-sink.ts';

export interface NatsSideOptions {
  readonly config: Config & { readonly nats: NatsConfig };
  readonly env: NodeJS.ProcessEnv;
  readonly log: Log;
  readonly meter: Health;
  /** Whether what goes into the stream names projects; true by default. */
  readonly hasProject?: boolean;
}

export interface Reader {
  readonly ledger: Ledger;
  readonly intake: Intake;
  readonly accounts: PolicyParts['accounts'];
}

/** The file in the state folder that holds what could not be published yet. */
export function queueFile(config: Pick<Config, 'state_dir'>): string {
  return path.join(config.state_dir, 'relay-queue.db');
}

export class NatsSide {
  readonly link: NatsLink;
  /** Where this machine's own turns go; undefined without JetStream. */
  readonly sink: StreamSink | undefined;
  readonly queue: DiskQueue | undefined;
  readonly #options: NatsSideOptions;
  #jetstream: JetStreamSource | undefined;
  #core: NatsCoreSource | undefined;
  #follower: AccountFollower | undefined;
  #verdicts: NatsVerdicts | undefined;
  #sharing: BudgetSharing | undefined;

  /** @param options.config with `nats` in it @throws PermanentFailure when the queue on disk cannot be used */
  constructor(options: NatsSideOptions) {
    this.#options = options;
    const { config, env, log, meter, hasProject } = options;
    const { nats } = config;
    this.link = new NatsLink({ config: nats, env, log, name: `tollbridge ${nats.replica}` });
    if (!nats.jetstream.enabled) return;
    this.queue = DiskQueue.open({ file: queueFile(config), maxBytes: config.relay.queue_max_bytes, log });
    this.sink = new StreamSink({ link: this.link, config: nats, queue: this.queue, hasProject, log });
    meter.watchQueue(this.queue);
  }

  /** Connects, as far as a server answers by then, and begins to publish what waits. */
  async start(): Promise<void> {
    await this.link.start();
    this.sink?.start();
  }

  /**
   * Begins to read.
   * @param reader.accounts by whose ids turns are labelled here
   * @throws PermanentFailure when the ledger holds another partition than the configured one
   */
  async read({ ledger, intake, accounts }: Reader): Promise<void> {
    const { log, meter, config: whole } = this.#options;
    const { nats: config } = whole;
    const parts = { link: this.link, config, intake, meter, log };
    if (config.jetstream.enabled) {
      meter.ownsPartition(partitionText(config));
      this.#jetstream = new JetStreamSource({ ...parts, ledger });
      await this.#jetstream.start();
      const record = (result: PollResult) => ledger.recordPoll(result, { isOwn: true, mayBeOld: true });
      this.#follower = new AccountFollower({ ...parts, record });
      await this.#follower.start();
      this.#sharing = new BudgetSharing({
        ...{ link: this.link, config, log, policy: policyText({ ...whole, accounts }) },
        ...{ ledger: ledger.id, hasBudgets: whole.budgets.length > 0 },
        own: () => ledger.standings(),
        isFilling: () => this.isFilling(),
      });
      await this.#sharing.start();
    }
    if (config.core.enabled) {
      this.#core = new NatsCoreSource(parts);
      await this.#core.start();
    }
  }

  /** Begins to answer who asks for a verdict. */
  answer(verdict: NatsVerdictsOptions['verdict']): void {
    const { log, meter } = this.#options;
    this.#verdicts = new NatsVerdicts({ link: this.link, verdict, meter, log });
    this.#verdicts.start();
  }

  /** Our ledger has committed something. */
  noteCommit(): void {
    this.#sharing?.noteCommit();
  }

  /** Where budgets stand over all partitions, and caps by our own ledger; undefined where nothing is shared. */
  standings(): readonly Standing[] | undefined {
    return this.#sharing?.standings();
  }

  /** Whether a new ledger does not yet hold what the stream held when it began: its totals would read as counters that fell. */
  isFilling(): boolean {
    return this.#jetstream?.isFilling() ?? false;
  }

  /** The sources that it brings. */
  static sourceNames({ nats }: Pick<Config, 'nats'>): string[] {
    return [...(nats?.jetstream.enabled ? ['jetstream'] : []), ...(nats?.core.enabled ? ['nats'] : [])];
  }

  /** What is wrong with one of them, one line for people. */
  problem(source: string): string | undefined {
    const parts = { nats: [this.#core], jetstream: [this.#jetstream, this.sink, this.#follower, this.#sharing] };
    if (source !== 'nats' && source !== 'jetstream') return undefined;
    const problems = [...parts[source], this.#verdicts].map((part) => part?.problem());
    return problems.find((problem) => problem !== undefined);
  }

  /** Tells the other bridges what was polled. One that is lost is made good by the next. */
  async publishPoll(result: PollResult): Promise<void> {
    const connection = this.link.current;
    if (!connection) return;
    try {
      await new StreamPublisher(connection, this.#options.config.nats).putAccount(result, publishedText(result));
    } catch (error) {
      this.#options.log.debug({ error: messageOf(error) }, 'a reading could not be published; the next one will be');
    }
  }

  /** Ends what reads, then tells the others once more where budgets stand. */
  async stopReading(): Promise<void> {
    await Promise.all([this.#jetstream?.stop(), this.#core?.stop(), this.#follower?.stop(), this.#verdicts?.stop()]);
    await this.#sharing?.stop();
  }

  /** Ends the rest: after this machine's own sources, whose turns go through it. */
  async stop(): Promise<void> {
    await this.sink?.stop();
    await this.link.stop();
    this.queue?.close();
  }
}
