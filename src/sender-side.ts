// Where this machine's senders deliver: the socket and the spool, and what else of the kind is configured.

import os from 'node:os';
import path from 'node:path';
import { type Config, ownIdentity } from './config.ts';
import { isLoopbackHost } from './config-fields.ts';
import { bearerToken } from './listen.ts';
import type { Log } from './log.ts';
import type { EventReceiverOptions } from './sources/event-receiver.ts';
import { HubServer } from './sources/hub-server.ts';
import { ImportPosition } from './sources/import-position.ts';
import { OpencodeImport } from './sources/opencode-import.ts';
import { OpenusagePull } from './sources/openusage-pull.ts';
import { otlpServer } from './sources/otlp-server.ts';
import { SenderTokens } from './sources/sender-tokens.ts';
import { healthAnswer } from './sources/socket-routes.ts';
import { SocketServer } from './sources/socket-server.ts';
import { IMPORT_SOURCE, type Intake, type Source, type SourceMeter } from './sources/source.ts';
import { SpoolDrain } from './sources/spool-drain.ts';
import { TcpServer } from './sources/tcp-server.ts';
import type { BridgeStatus } from './status.ts';
import { TILE_IDS } from './turn/tiles.ts';
import type { Identity } from './turn/turn-event.ts';
import { VERSION } from './version.ts';

export interface SenderSideOptions extends Required<Pick<EventReceiverOptions, 'verdict'>> {
  /** All that the bridge or relay tells about itself. */
  readonly status: () => Pick<BridgeStatus, 'version' | 'ready'>;
  readonly config: Config;
  readonly env: NodeJS.ProcessEnv;
  readonly intake: Intake;
  readonly meter: SourceMeter;
  readonly log: Log;
  /** Before what the ledger refuses what is new to it, Unix ms. */
  readonly horizonMs?: () => number;
  /** Whose turns they are that agents of this machine export without a name; nobody's by default. */
  readonly unnamed?: Identity;
  /** What only the socket answers: sessions are named there. */
  readonly onSocket?: Pick<EventReceiverOptions, 'report' | 'explain'>;
}

export class SenderSide {
  readonly #options: SenderSideOptions;
  /** Everything that was begun, whether or not its start went well. */
  readonly #sources: Source[] = [];
  #socket: SocketServer | undefined;
  #tcp: TcpServer | undefined;
  #otlpIn: TcpServer | undefined;
  #spool: SpoolDrain | undefined;
  #hub: HubServer | undefined;
  #openusage: OpenusagePull | undefined;
  #import: OpencodeImport | undefined;

  constructor(options: SenderSideOptions) {
    this.#options = options;
  }

  /** The sources that a configuration asks for. */
  static sourceNames({ socket, tcp, otlp_in, spool, hub, openusage, import: imported }: Config): string[] {
    const names: string[] = [];
    if (socket.enabled) names.push('socket');
    if (tcp) names.push('tcp');
    if (otlp_in) names.push('otlp');
    if (spool.enabled) names.push('spool');
    if (hub.listen) names.push('hub');
    if (openusage.socket) names.push('openusage');
    if (imported.opencode.interval) names.push(IMPORT_SOURCE);
    return names;
  }

  /** @throws PermanentFailure when one of them is set up wrongly or taken */
  async start(): Promise<void> {
    const { config, env, onSocket, horizonMs, unnamed, intake, meter, log, status, verdict } = this.#options;
    const { socket, tcp, otlp_in, tokens, spool, hub, openusage } = config;
    const common = { intake, identity: ownIdentity(config), meter, log };
    const answers = { status, verdict, health: () => healthAnswer(VERSION, TILE_IDS) };
    // What everybody spent, and what accounts hold, is for readers; a sender learns whether it is let in, and as whom.
    const toSenders = ({ team, user, project }: Identity) => {
      const { version, ready } = status();
      return { version, ready, team, user, project };
    };
    const started = async <S extends Source>(source: S): Promise<S> => {
      this.#sources.push(source);
      await source.start();
      return source;
    };
    if (socket.enabled) {
      const { path, group } = socket;
      this.#socket = await started(new SocketServer({ ...common, ...answers, ...onSocket, path, group }));
    }
    if (tcp) {
      const senders = new SenderTokens(tokens, { env, perSecond: tcp.rate_limit });
      this.#tcp = await started(new TcpServer({ ...common, ...answers, status: toSenders, tcp, tokens: senders }));
    }
    if (otlp_in) {
      const senders = new SenderTokens(tokens, { env, perSecond: otlp_in.rate_limit });
      const whose = isLoopbackHost(otlp_in.listen.host) ? unnamed : undefined;
      this.#otlpIn = await started(
        otlpServer({ ...common, ...answers, unnamed: whose, tcp: otlp_in, tokens: senders }),
      );
    }
    if (spool.enabled) {
      this.#spool = await started(new SpoolDrain({ ...common, dir: spool.dir }));
    }
    if (hub.listen) {
      const token = bearerToken({ key: 'hub.token_env', variable: hub.token_env, guards: 'the hub' }, env);
      this.#hub = await started(new HubServer({ ...common, listen: hub.listen, token }));
    }
    if (openusage.socket) {
      const { socket: socketPath, interval: intervalMs } = openusage;
      this.#openusage = await started(new OpenusagePull({ ...common, socketPath, intervalMs }));
    }
    const { interval: intervalMs, db: file } = config.import.opencode;
    if (intervalMs) {
      const where = { env, home: os.homedir(), platform: process.platform };
      // A stream keeps what it is told twice; a ledger does not.
      const position = config.nats && new ImportPosition(path.join(config.state_dir, 'import-position.json'));
      this.#import = await started(new OpencodeImport({ ...common, file, where, intervalMs, horizonMs, position }));
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#sources.map((source) => source.stop()));
  }

  /** What keeps a source from being reached, one line for people. */
  problem(source: string): string | undefined {
    return [this.#socket, this.#tcp, this.#otlpIn, this.#spool, this.#openusage, this.#import]
      .find((each) => each?.name === source)
      ?.problem();
  }

  /** When the certificate of a listener ends, Unix ms. */
  certificateEndsMs(listener: 'tcp' | 'otlp'): number | undefined {
    return (listener === 'tcp' ? this.#tcp : this.#otlpIn)?.certificateEndsMs();
  }

  /** What of the bridge's status is about it. */
  status(): Pick<BridgeStatus, 'socket' | 'spool'> {
    const { socket, spool } = this.#options.config;
    return {
      ...(this.#socket ? { socket: socket.path } : {}),
      ...(this.#spool
        ? { spool: { dir: spool.dir, waiting: this.#spool.waiting(), quarantined: this.#spool.quarantined() } }
        : {}),
    };
  }

  /** Where it listens, for people. */
  banner(): string[] {
    const { socket, spool } = this.#options.config;
    return [
      `  socket    ${socket.enabled ? socket.path : 'off (socket.enabled is false)'}`,
      ...(this.#tcp ? [`  tcp       ${this.#tcp.url}`] : []),
      ...(this.#otlpIn ? [`  otlp in   ${this.#otlpIn.url}   (the endpoint that agents export to)`] : []),
      ...(this.#hub
        ? [`  hub       ${this.#hub.url}/v1/push   (for OpenUsage's export.target: ${this.#hub.url})`]
        : []),
      `  spool     ${spool.enabled ? spool.dir : 'off (spool.enabled is false)'}`,
    ];
  }
}
