// The side of a bridge to which others send: sockets, the spool, the hub. Built and stopped by the composition root.

import { type Config, ownIdentity } from './config.ts';
import { bearerToken } from './listen.ts';
import type { Log } from './log.ts';
import { HubServer } from './sources/hub-server.ts';
import { OpenusagePull } from './sources/openusage-pull.ts';
import { SenderTokens } from './sources/sender-tokens.ts';
import { SocketServer, type SocketServerOptions } from './sources/socket-server.ts';
import type { Intake, Source, SourceMeter } from './sources/source.ts';
import { SpoolDrain } from './sources/spool-drain.ts';
import { TcpServer } from './sources/tcp-server.ts';
import type { BridgeStatus } from './status.ts';

/** What senders are answered besides that their events were taken. */
export type Answers = Pick<SocketServerOptions, 'status' | 'health' | 'verdict' | 'report' | 'explain'>;

export interface IntakeSideOptions {
  readonly config: Config;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Log;
  readonly meter: SourceMeter;
  readonly intake: Intake;
}

export class IntakeSide {
  readonly #options: IntakeSideOptions;
  #socket: SocketServer | undefined;
  #tcp: TcpServer | undefined;
  #spool: SpoolDrain | undefined;
  #hub: HubServer | undefined;
  #openusage: OpenusagePull | undefined;

  constructor(options: IntakeSideOptions) {
    this.#options = options;
  }

  /** The sources that a configuration asks for. */
  static sourceNames({ socket, tcp, spool, hub, openusage }: Config): string[] {
    return [
      ...(socket.enabled ? ['socket'] : []),
      ...(tcp ? ['tcp'] : []),
      ...(spool.enabled ? ['spool'] : []),
      ...(hub.listen ? ['hub'] : []),
      ...(openusage.socket ? ['openusage'] : []),
    ];
  }

  /** Opens every source. @throws PermanentFailure when one cannot be; those before it stay open until `stop` */
  async start(answers: Answers): Promise<void> {
    const { config, env, log, meter, intake } = this.#options;
    const { socket, spool, tcp, tokens, hub, openusage } = config;
    const common = { intake, identity: ownIdentity(config), meter, log };
    if (socket.enabled) {
      const { path, group } = socket;
      this.#socket = await started(new SocketServer({ ...common, ...answers, path, group }));
    }
    if (tcp) {
      // Reports and explanations name what people did, and are for this machine.
      const { report: _, explain: __, ...others } = answers;
      this.#tcp = await started(new TcpServer({ ...common, ...others, tcp, tokens: new SenderTokens(tokens, env) }));
    }
    if (spool.enabled) this.#spool = await started(new SpoolDrain({ ...common, dir: spool.dir }));
    if (hub.listen) {
      const token = bearerToken({ key: 'hub.token_env', variable: hub.token_env, guards: 'the hub' }, env);
      this.#hub = await started(new HubServer({ ...common, listen: hub.listen, token }));
    }
    if (openusage.socket) {
      const { socket: socketPath, interval: intervalMs } = openusage;
      this.#openusage = await started(new OpenusagePull({ ...common, socketPath, intervalMs }));
    }
  }

  async stop(): Promise<void> {
    const sources: readonly (Source | undefined)[] = [
      ...[this.#socket, this.#tcp, this.#spool],
      ...[this.#hub, this.#openusage],
    ];
    await Promise.all(sources.map((source) => source?.stop()));
  }

  /** What keeps a source of this side from working, one line for people. */
  problem(source: string): string | undefined {
    return [this.#socket, this.#spool, this.#openusage].find((each) => each?.name === source)?.problem();
  }

  /** What a status says of this side. */
  status(): Pick<BridgeStatus, 'socket' | 'spool'> {
    const { socket, spool } = this.#options.config;
    return {
      ...(this.#socket ? { socket: socket.path } : {}),
      ...(this.#spool
        ? { spool: { dir: spool.dir, waiting: this.#spool.waiting(), quarantined: this.#spool.quarantined() } }
        : {}),
    };
  }

  /** Where it listens, as lines of the banner. */
  banner(): string[] {
    const { socket, spool, hub } = this.#options.config;
    return [
      `  socket    ${socket.enabled ? socket.path : 'off (socket.enabled is false)'}`,
      ...(this.#tcp ? [`  tcp       ${this.#tcp.url}`] : []),
      ...(hub.listen
        ? [`  hub       ${this.#hub?.url}/v1/push   (for OpenUsage's export.target: ${this.#hub?.url})`]
        : []),
      `  spool     ${spool.enabled ? spool.dir : 'off (spool.enabled is false)'}`,
    ];
  }
}

async function started<S extends Source>(source: S): Promise<S> {
  await source.start();
  return source;
}
