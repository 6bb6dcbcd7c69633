// The parts of nats-server.conf that no client can set: who may publish whose turns, and how turns are divided.

import type { NatsConfig } from '../config.ts';
import { streamNames } from './streams.ts';
import { DEAD_LETTERS, POLLS, TURNS } from './subjects.ts';

/** The lines that stand at the same place whoever is let in. */
const REQUESTS = ['_INBOX.>'];

function quoted(subjects: readonly string[], indent: string): string {
  return subjects.map((subject) => `${indent}"${subject}"`).join('\n');
}

/** What a bridge must be allowed: to read the streams, to keep its consumers, to publish what this machine takes in. */
function bridgeSubjects(config: NatsConfig): string[] {
  const { turns, polls, deadLetters, accounts } = streamNames(config);
  const streams = [turns, polls, deadLetters, `KV_${accounts}`];
  return [
    ...streams.map((stream) => `$JS.API.STREAM.INFO.${stream}`),
    ...streams.flatMap((stream) => [`$JS.API.STREAM.MSG.GET.${stream}`, `$JS.API.DIRECT.GET.${stream}.>`]),
    ...streams.map((stream) => `$JS.API.CONSUMER.*.${stream}`),
    ...streams.flatMap((stream) => [`$JS.API.CONSUMER.*.${stream}.>`, `$JS.API.CONSUMER.MSG.NEXT.${stream}.>`]),
    ...streams.map((stream) => `$JS.API.CONSUMER.DURABLE.CREATE.${stream}.>`),
    ...streams.flatMap((stream) => [`$JS.ACK.${stream}.>`, `$JS.FC.${stream}.>`]),
    ...[`${TURNS}.>`, `${POLLS}.>`, `${DEAD_LETTERS}.>`, `$KV.${accounts}.>`],
  ];
}

function mapping(partitions: number): string {
  if (partitions === 1) return '';
  return `
# Divides the turns by who took them: the same team and user always in the same part, whatever publishes them.
mappings: {
  "${TURNS}.*.*": "${TURNS}.{{partition(${partitions},1,2)}}.{{wildcard(1)}}.{{wildcard(2)}}"
}
`;
}

/** Blocks for nats-server.conf, with an example team. Passwords are read from the server's environment. */
export function serverConf(config: NatsConfig): string {
  return `# What nats-server must be told in its own configuration; a client cannot set it.
# Users of one account; who may publish to a subject decides whose turns they are.
${mapping(config.partition.of)}
authorization: {
  users: [
    # The bridges: read the streams and keep their consumers.
    { user: "bridge", password: $BRIDGE_PASSWORD, permissions: {
      publish: { allow: [
${quoted(bridgeSubjects(config), '        ')}
      ] }
      subscribe: { allow: [ "${[...REQUESTS, `${TURNS}.>`].join('", "')}" ] }
    } }
    # One team: its relays publish the turns of its people, and nobody else's.
    { user: "platform", password: $PLATFORM_PASSWORD, permissions: {
      publish: { allow: [ "${TURNS}.platform.*", "${POLLS}.*.*" ] }
      subscribe: { allow: [ "${REQUESTS.join('", "')}" ] }
    } }
    # For \`tollbridge nats setup\` only, which makes the streams.
    { user: "operator", password: $OPERATOR_PASSWORD }
  ]
}
`;
}
