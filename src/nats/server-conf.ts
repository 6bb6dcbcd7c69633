// The parts of nats-server.conf that no client can set: who may publish whose turns, and how turns are divided.

import type { NatsConfig } from '../config.ts';
import { RELAY_KEYS } from './budget-bucket.ts';
import { streamNames } from './streams.ts';
import { DEAD_LETTERS, inboxOf, POLLS, TURNS, VERDICTS } from './subjects.ts';

/** What a bridge must be allowed, a line for each stream that it reads, then what it publishes. */
function bridgeSubjects(config: NatsConfig): string[][] {
  const { turns, polls, accounts, budgets } = streamNames(config);
  return [
    ...[turns, polls, `KV_${accounts}`, `KV_${budgets}`].flatMap((stream) => [
      [`$JS.API.STREAM.INFO.${stream}`, `$JS.API.STREAM.MSG.GET.${stream}`, `$JS.API.DIRECT.GET.${stream}.>`],
      [`$JS.API.CONSUMER.CREATE.${stream}`, `$JS.API.CONSUMER.*.${stream}.>`, `$JS.API.CONSUMER.*.*.${stream}.>`],
      [`$JS.ACK.${stream}.>`, `$JS.FC.${stream}.>`],
    ]),
    [`${TURNS}.>`, `${POLLS}.>`, `${DEAD_LETTERS}.>`, `$KV.${accounts}.>`, `$KV.${budgets}.>`],
  ];
}

/** What relays must be allowed to read: the rules, and where budgets stand. */
function relaySubjects(config: NatsConfig): string[] {
  const { budgets } = streamNames(config);
  return RELAY_KEYS.map((key) => `$JS.API.DIRECT.GET.KV_${budgets}.$KV.${budgets}.${key}`);
}

const quoted = (subjects: readonly string[]) => subjects.map((subject) => `"${subject}"`).join(', ');

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
# Users of one account; who may publish to a subject decides whose turns they are. Each listens to answers at a place of its
# own: what a bridge reads comes to it as answers, and is for nobody else.
${mapping(config.partition.of)}
authorization: {
  users: [
    # The bridges: read the streams and keep their consumers.
    { user: "bridge", password: $BRIDGE_PASSWORD, permissions: {
      publish: { allow: [
${bridgeSubjects(config)
  .map((line) => `        ${quoted(line)}`)
  .join('\n')}
      ] }
      subscribe: { allow: [ ${quoted([`${inboxOf({ user: 'bridge' })}.>`, `${TURNS}.>`, `${POLLS}.>`, `${VERDICTS}.>`])} ] }
      # To answer who asks, and nobody else.
      allow_responses: true
    } }
    # One team: its relays publish the turns of its people, and ask for them, and for nobody else.
    { user: "platform", password: $PLATFORM_PASSWORD, permissions: {
      publish: { allow: [
        ${quoted([`${TURNS}.platform.*`, `${VERDICTS}.platform.*`, `${POLLS}.*.*`])}
        ${quoted(relaySubjects(config))}
      ] }
      subscribe: { allow: [ ${quoted([`${inboxOf({ user: 'platform' })}.>`])} ] }
    } }
    # For \`tollbridge nats setup\` only, which makes the streams.
    { user: "operator", password: $OPERATOR_PASSWORD }
  ]
}
`;
}
