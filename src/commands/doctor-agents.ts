// What doctor says of the agents on this machine: whether they are set up, and what is in the way. It names settings and
// never says what they hold: one may be a token.

import { commandText, shellWord } from '../command-text.ts';
import { messageOf, PermanentFailure } from '../failure.ts';
import { EXPORTING_AGENTS, type ExportingAgent } from './agent-settings.ts';
import type { ConfigFacts, Finding } from './doctor-checks.ts';
import { pluginState } from './install.ts';
import { type AgentState, agentState } from './install-agent.ts';

export function checkPlugin({ config, home, env }: ConfigFacts): Finding {
  const { state, path: file, problem } = pluginState({ config, home, env });
  const install = commandText('install opencode', { env });
  switch (state) {
    case 'current':
      return { level: 'ok', what: file };
    case 'unreadable':
      return { level: 'problem', what: problem ?? file, next: `Then: ${install}` };
    case 'absent': {
      const what = config.import.opencode.interval
        ? 'its turns come from its database only, once they have ended, and no verdict is asked for'
        : 'its turns are not seen';
      return { level: 'warning', what: `OpenCode has no plugin at ${file}: ${what}`, next: install };
    }
    case 'outdated':
      return {
        level: 'warning',
        what: `${file} was installed by another version or for another configuration`,
        next: `${install}, then restart OpenCode`,
      };
    case 'edited':
      return {
        level: 'warning',
        what: `${file} was changed by hand, so it may send something else than this version expects`,
        next: `Keep it if you mean it; "${install}" puts ours back and keeps yours as a backup.`,
      };
  }
}

/** Agents that export by themselves; of those that are not on this machine nothing is said. */
export function checkAgents(facts: ConfigFacts): Finding[] {
  return EXPORTING_AGENTS.flatMap((agent) => checkAgent(agent, facts));
}

/** Whether the bridge or relay that runs was started before its configuration let it take telemetry. */
function isDeaf({ answer }: ConfigFacts): boolean {
  const sources = answer.answers ? answer.status.sources : answer.relay?.sources;
  return Array.isArray(sources) && !sources.some(({ source }) => source === 'otlp');
}

function checkAgent(agent: ExportingAgent, facts: ConfigFacts): Finding[] {
  const { config, home, env } = facts;
  let found: AgentState;
  try {
    found = agentState(agent, { config, home, env });
  } catch (error) {
    if (!(error instanceof PermanentFailure)) throw error;
    return [{ level: 'problem', what: messageOf(error) }];
  }
  const { state, title, path: file, keys, isExposed } = found;
  const install = commandText(`install ${agent}`, { env });
  switch (state) {
    case 'no agent':
      return [];
    case 'untaken': {
      const add = 'add otlp_in: { listen: "127.0.0.1:4318" } to tollbridge.yaml, then';
      if (keys.length === 0) {
        const next = `To have it metered ${add}: ${install}`;
        return [{ level: 'ok', what: `${title} is on this machine and is not metered`, next }];
      }
      const next = `To have it metered again ${add}: ${install}. Else: ${commandText(`uninstall ${agent}`, { env })}`;
      const what = `${title} exports to a bridge that takes no telemetry, so its turns are not seen (${file})`;
      return [{ level: 'warning', what, next }];
    }
    case 'unreadable': {
      const what = `${title} cannot read ${file}, so it does not export to the bridge`;
      return [{ level: 'warning', what, next: `"${install}" says what it expects there.` }];
    }
    case 'current': {
      if (isDeaf(facts)) {
        const what = `${title} exports to the bridge (${file}), which does not listen to it: it was started without otlp_in`;
        return [{ level: 'problem', what, next: 'Restart the bridge.' }];
      }
      if (!isExposed) return [{ level: 'ok', what: `${title} exports to the bridge (${file})` }];
      const what = `${title} exports to the bridge, but other users of this machine may read its token (${file})`;
      return [{ level: 'warning', what, next: `chmod 600 ${shellWord(file)}` }];
    }
    case 'absent': {
      const what = `${title} does not export to the bridge: its turns are not seen`;
      return [{ level: 'warning', what, next: install }];
    }
    case 'outdated': {
      const what = `${title} was set up for another configuration or changed since: ${keys.join(', ')} (${file})`;
      return [{ level: 'warning', what, next: `${install}, then restart ${title}` }];
    }
    case 'tokenless':
    case 'refused': {
      const bears = state === 'refused' ? 'bears a token that the configuration does not list' : 'bears no token';
      const next = `Put its token into TOLLBRIDGE_TOKEN, then: ${install}`;
      return [{ level: 'problem', what: `${title} ${bears}, so the bridge turns it away (${file})`, next }];
    }
    case 'outdone': {
      const what = `${title} is set up (${file}), but not where it is started with ${keys.join(', ')}, as this shell has it`;
      return [{ level: 'warning', what, next: `Start ${title} without.` }];
    }
    case 'other': {
      const what = `${title} exports to somebody else, in another way or not at all, by ${keys.join(', ')} (${file})`;
      const next = `What it needs is in docs/agents.md. "${install}" says what can be done.`;
      return [{ level: 'warning', what, next }];
    }
  }
}
