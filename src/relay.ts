// The relay: the bridge's socket, spool and OTLP intake on a machine that keeps no ledger. What it takes in goes into the stream, or
// waits on this disk until it can; the plugin cannot tell it from a bridge.

import { type Config, ownIdentity } from './config.ts';
import type { NatsConfig } from './config-nats.ts';
import type { Log } from './log.ts';
import { AdminServer } from './metrics/admin-server.ts';
import { Health } from './metrics/health.ts';
import { readerToken } from './metrics/reader-token.ts';
import { relayPage } from './metrics/relay-page.ts';
import { NatsSide, queueFile } from './nats-side.ts';
import { policyFile, RelayPolicy } from './relay-policy.ts';
import { SenderSide } from './sender-side.ts';
import { Intake } from './sources/source.ts';
import type { RelayStatus } from './status.ts';
import { VERSION } from './version.ts';

export interface RelayOptions {
  readonly config: Config & { readonly nats: NatsConfig };
  readonly log: Log;
  readonly env?: NodeJS.ProcessEnv;
}

export class Relay {
  readonly #config: RelayOptions['config'];
  readonly #health: Health;
  readonly #nats: NatsSide;
  readonly #intake: Intake;
  readonly #policy: RelayPolicy;
  readonly #admin: AdminServer;
  readonly #sources: readonly string[];
  readonly #senders: SenderSide;
  readonly #startedMs = Date.now();
  #isListening = false;
  #metricsUrl = '';
  #stopped: Promise<void> | undefined;

  /**
   * Starts a relay; resolves when it listens, whether or not NATS answers yet.
   * @throws PermanentFailure when something is set up wrongly or taken; nothing is left running then
   */
  static async start(options: RelayOptions): Promise<Relay> {
    const relay = new Relay(options);
    try {
      await relay.#start();
    } catch (error) {
      await relay.stop();
      throw error;
    }
    return relay;
  }

  private constructor({ config, log, env = process.env }: RelayOptions) {
    this.#config = config;
    const own = takenByRelay(config);
    this.#sources = SenderSide.sourceNames(own);
    const left = SenderSide.sourceNames(config).filter((source) => !this.#sources.includes(source));
    if (left.length > 0)
      log.warn({ sources: left }, 'a relay does not have these sources: what they are set to is passed over');
    this.#health = new Health({ version: VERSION, sources: this.#sources, producers: [] });
    const hasProject = config.labels.project !== 'off';
    this.#nats = new NatsSide({ config, env, log, meter: this.#health, hasProject });
    this.#intake = new Intake({ sink: this.#nats.sink!, roads: config.sources, meter: this.#health });
    const identity = ownIdentity(config);
    const { link } = this.#nats;
    this.#policy = new RelayPolicy({ link, config: config.nats, file: policyFile(config), identity, log });
    this.#senders = new SenderSide({
      ...{ config: own, env, intake: this.#intake, meter: this.#health, log },
      // The agents of this machine are those of its user, under whose name alone a relay may publish.
      unnamed: identity,
      status: () => this.status(),
      verdict: (question, whose) => this.#policy.answer(question, whose),
    });
    this.#admin = new AdminServer({
      ...config.metrics,
      token: readerToken(config.metrics, env),
      collect: () => this.#health.collect(),
      isRestored: () => true,
      ready: () => this.#notReady(),
      page: () => relayPage(this.status()),
      log,
    });
    this.#health.watchCertificate('metrics', () => this.#admin.certificateEndsMs());
    this.#health.watchCertificate('otlp', () => this.#senders.certificateEndsMs('otlp'));
  }

  /** What the relay tells about itself. */
  status(): RelayStatus {
    const notReady = this.#notReady();
    const problem = this.#nats.sink?.problem();
    const queue = this.#nats.queue!;
    return {
      ...{ version: VERSION, node: process.version, pid: process.pid, started_ms: this.#startedMs },
      ...(this.#config.file ? { config_file: this.#config.file } : {}),
      ...{ metrics_url: this.#metricsUrl, ready: notReady.length === 0, not_ready: notReady },
      sources: this.#sources.map((source) => this.#health.sourceStatus(source, this.#senders.problem(source))),
      relay: {
        servers: this.#nats.link.servers,
        ...(problem === undefined ? {} : { problem }),
        queue_events: queue.events,
        queue_bytes: queue.bytes,
        queue_max_bytes: this.#config.relay.queue_max_bytes,
      },
      policy: this.#policy.status(),
      last_heard_ms: this.#intake.lastHeardMs(),
    };
  }

  /** What a user wants to see after a start. */
  banner(): string[] {
    const { file } = this.#config;
    const problem = this.#nats.link.problem();
    return [
      `Tollbridge ${VERSION} relays: turns go to the stream, and a bridge elsewhere counts them.`,
      `  nats      ${this.#nats.link.servers}${problem ? `   (${problem})` : ''}`,
      `  metrics   ${this.#metricsUrl}/metrics   (about this relay only)`,
      ...this.#senders.banner(),
      `  queue     ${queueFile(this.#config)}`,
      `  config    ${file ?? 'none: all defaults'}`,
    ];
  }

  /** Takes nothing more, then stops; what waits stays on disk. Safe to call more than once. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #start(): Promise<void> {
    this.#metricsUrl = (await this.#admin.start()).url;
    // Before NATS, which may take seconds to be missed: agents keep nothing that they cannot deliver.
    await this.#senders.start();
    this.#isListening = true;
    await this.#nats.start();
    await this.#policy.start();
  }

  async #stop(): Promise<void> {
    this.#nats.sink?.hasten();
    await this.#senders.stop();
    await this.#policy.stop();
    await this.#nats.stop();
    await this.#admin.stop();
    await this.#health.shutdown();
  }

  /** That NATS is away does not make it unready: it takes turns all the same. */
  #notReady(): string[] {
    if (!this.#isListening) return ['The sources are being opened.'];
    const problem = this.#nats.queue?.problem;
    return problem ? [problem] : [];
  }
}

/** A configuration without the sources that a relay has not. */
const takenByRelay = <C extends Config>(config: C): C => ({
  ...config,
  tcp: undefined,
  hub: { ...config.hub, listen: undefined },
  openusage: { ...config.openusage, socket: undefined },
  import: { ...config.import, opencode: { ...config.import.opencode, interval: undefined } },
});
