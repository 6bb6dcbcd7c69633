// The way back: a decoded event as the record that decodes to the same. What a machine passes on is written here, from
// the normal form alone, so that nothing of a payload but numbers, names and ids can travel on.

import type { Bookable, StatedPoll } from './decoded.ts';
import { present } from './fields.ts';
import type { PermissionEvent, StatedError, StatedEvent, StatedTurn, ToolEvent } from './turn-event.ts';
import { snapshotRecord } from './usage-snapshot.ts';

const NANO_PER_USD = 1e9;

/** The record of `/v1/events` that decodes to `item`. */
export function encodeRecord(item: Bookable): object {
  return { v: 1, ...(item.type === 'poll' ? pollRecord(item.poll) : eventRecord(item.event)) };
}

function eventRecord(event: StatedEvent): object {
  switch (event.kind) {
    case 'turn':
      return turnRecord(event);
    case 'tool':
      return toolRecord(event);
    case 'permission':
      return permissionRecord(event);
    case 'error':
      return errorRecord(event);
    case 'session': {
      const { kind, agent, sessionId: session, parentSessionId: parent, project } = event;
      return present({ kind, agent, id: present({ session, parent }), project });
    }
  }
}

function turnRecord(turn: StatedTurn): object {
  const { kind, agent, phase, status, reason, provider, model, project, tokens, costNano } = turn;
  return present({
    ...{ kind, agent, id: turnIds(turn), event_id: turn.eventId },
    time: present({ started: turn.startedMs, completed: turn.completedMs }),
    ...(phase === 'completed' && turn.completedMs === undefined ? { completed: true } : {}),
    ...(phase === 'in_progress' ? { finished: false } : { finished: true, status }),
    ...{
      reason,
      provider,
      provider_basis: turn.providerBasis,
      model,
      upstream_provider: turn.upstreamHint,
      project,
      account_id: turn.accountId,
      tokens,
    },
    cost_usd: costNano === undefined ? undefined : costNano / NANO_PER_USD,
    is_title: turn.isTitle,
    awaits_session: turn.awaitsSession,
    ...turn.statedIdentity,
  });
}

const turnIds = ({ sessionId: session, messageId: message, promptId: prompt, subagentId: subagent }: StatedTurn) =>
  present({ session, message, prompt, subagent });

function toolRecord(call: ToolEvent): object {
  const { kind, agent, tool, mcpServer: mcp_server, status, project, origin } = call;
  const { sessionId: session, callId, messageId: message, promptId: prompt } = call;
  return present({
    ...{ kind, agent, id: present({ session, call: callId, message, prompt }) },
    time: present({ started: call.startedMs, completed: call.completedMs }),
    ...{ tool, mcp_server, status, project, origin },
  });
}

function permissionRecord({ kind, agent, ...asked }: PermissionEvent): object {
  return {
    ...{ kind, agent, id: present({ session: asked.sessionId, request: asked.requestId, message: asked.messageId }) },
    time: present({ asked: asked.askedMs, replied: asked.repliedMs }),
  };
}

function errorRecord({ kind, agent, provider, providerBasis, model, reason, ...attempt }: StatedError): object {
  const { sessionId: session, attemptId, failedMs: failed } = attempt;
  return present({
    ...{ kind, agent, id: { session, attempt: attemptId }, time: { failed } },
    ...{ provider, provider_basis: providerBasis, model, reason },
  });
}

function pollRecord({ snapshot, intervalMs, sentMs: sent, machine }: StatedPoll): object {
  const interval_s = intervalMs === undefined ? undefined : intervalMs / 1000;
  return present({ kind: 'poll', interval_s, sent, machine, payload: snapshotRecord(snapshot) });
}
