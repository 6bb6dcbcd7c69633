// `tollbridge nats setup`: makes the streams, and prints what only the server's own configuration can say.

import { setTimeout as delay } from 'node:timers/promises';
import { commandText } from '../command-text.ts';
import type { Config } from '../config.ts';
import { PermanentFailure } from '../failure.ts';
import { createLog } from '../log.ts';
import { NatsLink } from '../nats/connection.ts';
import { serverConf } from '../nats/server-conf.ts';
import { setUpStreams, streamNames } from '../nats/streams.ts';
import { streamTrouble } from '../nats/trouble.ts';
import type { Report } from './show.ts';

/** A server that is being started is waited for so long. */
const PATIENCE_MS = 3000;

export interface NatsSetupOptions {
  readonly config: Config;
  readonly env: NodeJS.ProcessEnv;
  /** Only prints the blocks; no server is asked. */
  readonly isPrintOnly: boolean;
}

/**
 * Makes what is missing and says what it did. Running it again changes nothing.
 * @throws PermanentFailure when the configuration names no server, none answers, or it says no
 */
export async function setUpNats({ config, env, isPrintOnly }: NatsSetupOptions): Promise<Report> {
  const { nats } = config;
  if (!nats?.jetstream.enabled) {
    throw new PermanentFailure(
      'The configuration names no NATS server, or switches JetStream off. Set nats.servers in tollbridge.yaml, for example ' +
        '`nats: { servers: ["nats://127.0.0.1:4222"] }`, then run this again.',
    );
  }
  const conf = serverConf(nats).trimEnd().split('\n');
  if (isPrintOnly) return { lines: conf, exitCode: 0 };
  const link = new NatsLink({ config: nats, env, log: createLog('silent'), name: 'tollbridge nats setup' });
  try {
    await link.start();
    const deadlineMs = performance.now() + PATIENCE_MS;
    while (!link.current && performance.now() < deadlineMs) await delay(100);
    if (!link.current) throw new PermanentFailure(`Nothing was changed: ${link.problem()}.`);
    const steps = await setUpStreams(link.current, nats).catch((error) => {
      const why = streamTrouble(error, { stream: streamNames(nats).turns });
      throw new PermanentFailure(`The streams could not be set up: ${why}.`);
    });
    const width = Math.max(...steps.map(({ what }) => what.length));
    return {
      lines: [
        `At ${link.servers}:`,
        ...steps.map(({ what, did, detail }) => `  ${what.padEnd(width)}  ${did}${detail ? `   ${detail}` : ''}`),
        '',
        `What a client cannot set (permissions${nats.partition.of > 1 ? ', and the mapping that divides the turns' : ''}):`,
        `  ${commandText('nats setup --print', { env })}`,
      ],
      exitCode: 0,
    };
  } finally {
    await link.stop();
  }
}
