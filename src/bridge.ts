// The composition root: builds every part, starts them against the flow (readers before writers) and stops them with
// it, so that nothing is taken in that cannot be booked, and what was taken in is booked before the ledger closes.

import os from 'node:os';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type Config, ownIdentity } from './config.ts';
import { type NatsConfig, partitionText } from './config-nats.ts';
import { messageOf } from './failure.ts';
import type { Guest } from './guest.ts';
import { Ledger } from './ledger/ledger.ts';
import type { Log } from './log.ts';
import { accountReport } from './metrics/account-report.ts';
import { AdminServer } from './metrics/admin-server.ts';
import { Health } from './metrics/health.ts';
import { landingPage } from './metrics/landing-page.ts';
import { type ConfiguredAccount, LedgerMetricProducer } from './metrics/producer.ts';
import { readerToken } from './metrics/reader-token.ts';
import { tileReport, unmappedReport } from './metrics/tile-report.ts';
import { NatsSide } from './nats-side.ts';
import { OtlpSide } from './otlp-side.ts';
import { PolicySide, type PolicySideOptions } from './policy-side.ts';
import { findAccounts, isPolled } from './poll/detect.ts';
import { OpencodeAccount } from './poll/opencode-account.ts';
import type { PollResult } from './poll/poll-result.ts';
import { SenderSide } from './sender-side.ts';
import { LedgerSink } from './sources/ledger-sink.ts';
import { Poller } from './sources/poller.ts';
import { Intake } from './sources/source.ts';
import type { BridgeStatus, SourceStatus } from './status.ts';
import { Attribution } from './turn/attribution.ts';
import { Pricing } from './turn/pricing.ts';
import { Tiles } from './turn/tiles.ts';
import { VERSION } from './version.ts';

const SETTLE_EVERY_MS = 5000;
const SWEEP_EVERY_MS = 10 * 60_000;
const POLL_TIMEOUT_MS = 15_000;

export interface BridgeOptions {
  readonly config: Config;
  readonly log: Log;
  readonly env?: NodeJS.ProcessEnv;
  readonly guest?: Guest;
}

/** The file in the state folder that holds the ledger. */
export function ledgerFile(config: Pick<Config, 'state_dir'>): string {
  return path.join(config.state_dir, 'ledger.db');
}

export class Bridge {
  readonly #config: Config;
  readonly #log: Log;
  readonly #env: NodeJS.ProcessEnv;
  readonly #guest: Guest | undefined;
  readonly #found: { readonly accounts: readonly ConfiguredAccount[]; readonly notes: readonly string[] };
  readonly #polled: readonly OpencodeAccount[];
  readonly #tiles: Tiles;
  readonly #admin: AdminServer;
  readonly #startedMs = Date.now();
  #ledger!: Ledger;
  #health!: Health;
  /** Books in our own ledger. */
  #ledgerIntake!: Intake;
  /** Takes what this machine's own senders bring: into the ledger, or into the stream. */
  #intake!: Intake;
  #senders: SenderSide | undefined;
  #poller: Poller | undefined;
  #nats: NatsSide | undefined;
  #otlp: OtlpSide | undefined;
  #policy!: PolicySide;
  #timers: NodeJS.Timeout[] = [];
  #metricsUrl = '';
  /** The ledger can be read. */
  #isOpen = false;
  /** Every source takes what comes. */
  #isListening = false;
  #stopped: Promise<void> | undefined;

  /**
   * Starts a bridge; resolves when it listens and its totals are restored.
   * @throws PermanentFailure when something is set up wrongly or taken; nothing is left running then
   */
  static async start(options: BridgeOptions): Promise<Bridge> {
    const bridge = new Bridge(options);
    try {
      await bridge.#start();
    } catch (error) {
      await bridge.stop();
      throw error;
    }
    return bridge;
  }

  private constructor({ config, log, env = process.env, guest }: BridgeOptions) {
    this.#config = config;
    this.#log = log;
    this.#env = env;
    this.#guest = guest;
    const found = guest ? undefined : findAccounts({ config, env, home: os.homedir(), platform: process.platform });
    this.#found = found ?? { accounts: guest?.accounts ?? [], notes: [] };
    this.#polled = (found?.accounts ?? []).filter(isPolled).map((account) => {
      const { interval: intervalMs, console_interval: consoleIntervalMs } = config.poll;
      return new OpencodeAccount({ account, intervalMs, consoleIntervalMs, timeoutMs: POLL_TIMEOUT_MS });
    });
    const providers = this.#found.accounts.map(({ provider }) => provider);
    this.#tiles = new Tiles(config.telemetry.provider_links, providers);
    this.#admin = new AdminServer({
      ...config.metrics,
      token: readerToken(config.metrics, env),
      collect: () => this.#health.collect(),
      isRestored: () => this.#isRestored(),
      ready: () => this.#notReady(),
      page: () => landingPage(this.status()),
      log,
    });
  }

  /** Where metrics are served, without a path. */
  get metricsUrl(): string {
    return this.#metricsUrl;
  }

  /** What the bridge tells about itself. */
  status(): BridgeStatus {
    const ledger = this.#ledger.health();
    const notReady = this.#notReady();
    return {
      version: VERSION,
      node: process.version,
      pid: process.pid,
      started_ms: this.#startedMs,
      ...(this.#config.file ? { config_file: this.#config.file } : {}),
      state_dir: this.#config.state_dir,
      time_zone: this.#config.time_zone,
      ...this.#senders?.status(),
      metrics_url: this.#metricsUrl,
      ...(this.#otlp ? { otlp: this.#otlp.status() } : {}),
      ready: notReady.length === 0,
      not_ready: notReady,
      sources: this.#sourceNames().map((source) => this.#sourceStatus(source)),
      ledger: {
        file: ledgerFile(this.#config),
        size_bytes: this.#ledger.sizeBytes(),
        created_ms: this.#ledger.createdMs,
        turns: ledger.turns,
        tool_calls: ledger.toolCalls,
        sessions: ledger.sessions,
        books_balance: ledger.booksBalance,
        ...(ledger.lastTurnMs === undefined ? {} : { last_turn_ms: ledger.lastTurnMs }),
        ...(ledger.problem === undefined ? {} : { problem: ledger.problem }),
      },
      accounts: this.#accountLines(),
      tiles: tileReport(this.#ledger, this.#tiles),
      unmapped: unmappedReport(this.#ledger, this.#tiles),
      unfinished: this.#ledger.unfinishedTurns(),
      last_heard_ms: { ...this.#ledgerIntake.lastHeardMs(), ...this.#intake.lastHeardMs() },
    };
  }

  /** What a user wants to see after a start: where it listens and whom it found. */
  banner(): string[] {
    const { file } = this.#config;
    const { accounts, notes } = this.#found;
    return [
      `Tollbridge ${VERSION} runs.`,
      `  metrics   ${this.#metricsUrl}/metrics   (a page for people: ${this.#metricsUrl}/)`,
      ...(this.#otlp?.banner() ?? []),
      ...(this.#senders?.banner() ?? []),
      `  ledger    ${ledgerFile(this.#config)}`,
      ...(this.#nats
        ? [`  nats      ${this.#nats.link.servers}${this.#nats.link.problem() ? '   (not connected yet)' : ''}`]
        : []),
      `  config    ${file ?? 'none: all defaults'}`,
      ...(accounts.length === 0
        ? ['  accounts  none found. Turns are metered all the same; to watch an OpenCode account set OPENCODE_API_KEY.']
        : accounts.map(
            ({ provider, id, foundIn }, index) =>
              `  ${index === 0 ? 'accounts' : '        '}  ${provider} · ${id} (from ${foundIn})`,
          )),
      ...[...notes, ...this.#policy.notes].map((note) => `  note      ${note}`),
    ];
  }

  /** Stops with the flow: sources, then the readers, who must not see totals go, then the ledger. Safe to call more than once. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #start(): Promise<void> {
    const config = this.#config;
    this.#metricsUrl = (await this.#admin.start()).url;
    // Opening blocks the loop for as long as the ledger is large: who asks already is first told to come back.
    await setImmediate();
    this.#ledger = Ledger.open({
      file: ledgerFile(config),
      timeZone: config.time_zone,
      retentionMs: config.retention,
      caps: config.labels.caps,
      log: this.#log,
      policy: config,
      partition: config.nats && config.nats.partition.of > 1 ? partitionText(config.nats) : undefined,
      onCommit: (commit) => {
        this.#health.committed(commit);
        this.#nats?.noteCommit();
      },
    });
    const { accounts } = this.#found;
    const producer = new LedgerMetricProducer({ reading: this.#ledger, tiles: this.#tiles, accounts });
    this.#otlp = this.#otlpSide(producer);
    this.#health = new Health({
      version: VERSION,
      sources: this.#sourceNames(),
      producers: [producer],
      // As a scrape's `instance` reads: the same after a restart, and no other bridge's.
      instance: `${os.hostname()}:${new URL(this.#metricsUrl).port || (config.metrics.tls ? '443' : '80')}`,
      pushing: this.#otlp?.push?.reader,
      signals: this.#otlp?.signals,
    });
    const pricing = new Pricing(config.pricing, config.price_list);
    const attribution = new Attribution({ ...config, pricing, accounts, project: config.labels.project });
    this.#health.watchCertificate('metrics', () => this.#admin.certificateEndsMs());
    for (const listener of ['tcp', 'otlp'] as const)
      this.#health.watchCertificate(listener, () => this.#senders?.certificateEndsMs(listener));
    const runs = this.#otlp?.runs;
    const sink = new LedgerSink({
      ...{ ledger: this.#ledger, attribution },
      ...(runs && { onBooked: (events, bookings) => runs.booked(events, bookings) }),
    });
    this.#policy = this.#policySide({ attribution, pricing });
    this.#ledgerIntake = new Intake({ sink, meter: this.#health });
    this.#intake = new Intake({ sink, roads: config.sources, meter: this.#health });
    if (config.nats) await this.#startNats({ ...config, nats: config.nats });
    // Told from the disk when they are first asked for, which is not to be the time of somebody who waits for a verdict.
    this.#ledger.standings();
    this.#isOpen = true;
    // A bridge that restarts often must not put this off for ever.
    this.#quietly('settle', this.#ledger.settle());
    this.#timers = [
      setInterval(() => this.#quietly('settle', this.#ledger.settle()), SETTLE_EVERY_MS),
      setInterval(() => this.#quietly('sweep', this.#ledger.sweep()), SWEEP_EVERY_MS),
    ];
    await this.#startSources();
    this.#isListening = true;
  }

  /** Metrics go out from when their reader is bound; nothing of them before every source listens. */
  #otlpSide(producer: LedgerMetricProducer): OtlpSide | undefined {
    const { otlp } = this.#config;
    if (!otlp) return undefined;
    const isDue = () => this.#isListening && this.#isRestored();
    return new OtlpSide({ otlp, env: this.#env, producer, isDue, meter: () => this.#health, log: this.#log });
  }

  async #startNats(config: Config & { readonly nats: NatsConfig }): Promise<void> {
    this.#nats = new NatsSide({ config, env: this.#env, log: this.#log, meter: this.#health });
    await this.#nats.start();
    // What this machine takes in goes into the stream first, so that every bridge of it counts the same.
    if (this.#nats.sink)
      this.#intake = new Intake({ sink: this.#nats.sink, roads: config.sources, meter: this.#health });
    await this.#nats.read({ ledger: this.#ledger, intake: this.#ledgerIntake, accounts: this.#found.accounts });
    this.#nats.answer((question, identity) => this.#policy.answer(question, identity));
  }

  #policySide(parts: Pick<PolicySideOptions, 'attribution' | 'pricing'>): PolicySide {
    const ledger = this.#ledger;
    return new PolicySide({
      ...{ ...parts, rules: this.#config, timeZone: this.#config.time_zone, log: this.#log },
      standings: () => this.#nats?.standings() ?? ledger.standings(),
      pricingStates: () => ledger.pricingStates(),
      project: this.#config.labels.project,
      // Who is in another partition has no turn in this one.
      seenLabels: () => (ledger.partition === undefined ? ledger.seenLabels() : undefined),
      identity: ownIdentity(this.#config),
      countPolicy: (counts) => ledger.countPolicy(counts),
      onAudit: (verdict) => this.#otlp?.runs?.judged(verdict),
    });
  }

  async #startSources(): Promise<void> {
    this.#senders = new SenderSide({
      ...{ config: this.#config, env: this.#env, intake: this.#intake, meter: this.#health, log: this.#log },
      status: () => this.status(),
      verdict: (question, identity) => this.#policy.answer(question, identity),
      horizonMs: () => this.#ledger.horizonMs,
      onSocket: {
        report: (by, span) => this.#ledger.report(by, span),
        explain: (question, identity) => this.#policy.explain(question, identity),
      },
    });
    await this.#senders.start();
    if (this.#polled.length > 0) {
      const record = async (result: PollResult) => {
        await this.#ledger.recordPoll(result, { isOwn: true });
        if (this.#config.poll.publish) await this.#nats?.publishPoll(result);
      };
      this.#poller = new Poller({ accounts: this.#polled, record, meter: this.#health, log: this.#log });
      this.#poller.start();
    }
    const record = (result: PollResult) => this.#ledger.recordPoll(result, { isOwn: true });
    this.#guest?.start({
      ...{ intake: this.#ledgerIntake, record },
      ask: (question, identity) => this.#policy.answer(question, identity),
    });
    if (this.#guest) this.#health.up(this.#guest.name, true);
  }

  async #stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#nats?.sink?.hasten();
    await Promise.all([this.#senders, this.#poller, this.#guest].map((source) => source?.stop()));
    await this.#nats?.stopReading();
    await this.#policy?.stop();
    // Last: acknowledgements and answers of what was just booked leave with it.
    await this.#nats?.stop();
    // Everything that was taken in is booked, and the ledger can still be read.
    await this.#otlp?.stop();
    // Prometheus must not see totals that are about to go: its last sample stays the last committed one.
    await this.#admin.stop();
    this.#ledger?.close();
    await this.#health?.shutdown();
  }

  #isRestored(): boolean {
    return this.#isOpen && !this.#nats?.isFilling();
  }

  #notReady(): string[] {
    if (!this.#isOpen) return ['The totals are being restored from the ledger.'];
    if (this.#nats?.isFilling()) {
      const problem = this.#nats.problem('jetstream');
      return [`This ledger is new, and is filled from the stream first.${problem ? ` It waits: ${problem}` : ''}`];
    }
    if (!this.#isListening) return ['The sources are being opened.'];
    return this.#ledger.problem ? [this.#ledger.problem] : [];
  }

  #sourceNames(): string[] {
    const names = SenderSide.sourceNames(this.#config);
    if (this.#polled.length > 0) names.push('poller');
    if (this.#guest) names.push(this.#guest.name);
    names.push(...NatsSide.sourceNames(this.#config));
    return names;
  }

  #sourceStatus(source: string): SourceStatus {
    return this.#health.sourceStatus(source, this.#senders?.problem(source) ?? this.#nats?.problem(source));
  }

  #accountLines() {
    const access = new Map(this.#polled.map((polled) => [polled.account, polled.access()]));
    const accounts = this.#found.accounts.map((account) => {
      const { provider, id, foundIn } = account;
      const own = access.get(account);
      return { provider, id, foundIn, ...(own ? { access: own } : {}) };
    });
    return accountReport(this.#ledger, accounts);
  }

  /** Timers must not end the process: the ledger has logged what went wrong, and the next round tries again. */
  #quietly(what: string, work: Promise<void>): void {
    work.catch((error) => this.#log.debug({ error: messageOf(error) }, `${what} will be tried again`));
  }
}
