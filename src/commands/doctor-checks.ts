// What doctor looks at, as data: each check has a name and says what it found.

import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { ledgerFile } from '../bridge.ts';
import { commandText } from '../command-text.ts';
import type { Config } from '../config.ts';
import { messageOf } from '../failure.ts';
import { inspectDatabase } from '../ledger/database.ts';
import { readerToken } from '../metrics/reader-token.ts';
import type { AccountStatusLine, BridgeStatus, RelayStatus } from '../status.ts';
import type { BridgeAnswer } from './ask-bridge.ts';
import { checkAgents, checkPlugin } from './doctor-agents.ts';
import { pluginState } from './install.ts';
import { isOpenElsewhere } from './new-ledger.ts';
import { countOf, showAgo, showBytes, showCount, showSignedUsd } from './show.ts';

/** The spool is emptied every two seconds, so a few files may always be on their way. */
const SPOOL_BACKLOG_FILES = 100;
const SCRAPE_TIMEOUT_MS = 10_000;
/** The source whose trouble is that of the accounts it reads. */
const POLLER = 'poller';

export interface Finding {
  readonly level: 'ok' | 'warning' | 'problem';
  /** What is so, and what it means. */
  readonly what: string;
  /** What to do about it. */
  readonly next?: string;
}

export interface Check<Facts> {
  readonly name: string;
  run(facts: Facts): Finding | readonly Finding[] | Promise<Finding | readonly Finding[]>;
}

/** What can be checked as soon as the configuration is known. */
export interface ConfigFacts {
  readonly config: Config;
  readonly answer: BridgeAnswer;
  readonly env: NodeJS.ProcessEnv;
  readonly home: string;
  readonly nowMs: number;
}

/** What only a running bridge knows. */
export interface BridgeFacts extends ConfigFacts {
  readonly status: BridgeStatus;
}

export const CONFIG_CHECKS: readonly Check<ConfigFacts>[] = [
  { name: 'bridge', run: checkBridge },
  { name: 'plugin', run: checkPlugin },
  { name: 'agents', run: checkAgents },
  { name: 'spool', run: ({ config, answer }) => checkSpool(config, answer) },
  { name: 'ledger', run: checkLedger },
];

export const BRIDGE_CHECKS: readonly Check<BridgeFacts>[] = [
  { name: 'OpenCode', run: checkHeard },
  { name: 'sources', run: ({ status }) => checkSources(status) },
  { name: 'accounts', run: ({ status }) => checkAccounts(status.accounts) },
  { name: 'tiles', run: ({ status }) => checkTiles(status) },
  { name: 'turns', run: ({ status }) => checkUnfinished(status) },
  { name: 'metrics', run: async (facts) => [await checkScrape(facts)] },
  { name: 'otlp', run: async (facts) => checkSending(facts.status, facts.nowMs) },
];

/** What only a running relay knows. */
export interface RelayFacts extends ConfigFacts {
  readonly status: RelayStatus;
}

export const RELAY_CHECKS: readonly Check<RelayFacts>[] = [
  { name: 'OpenCode', run: checkHeard },
  { name: 'sources', run: ({ status }) => checkSources({ sources: status.sources, accounts: [] }) },
  { name: 'NATS', run: ({ status }) => checkRelaying(status) },
  { name: 'rules', run: ({ status, nowMs }) => checkTold(status.policy, nowMs) },
];

function checkRelaying({ relay }: RelayStatus): Finding {
  const { servers, problem, queue_events: events, queue_bytes: bytes, queue_max_bytes: max } = relay;
  const waiting = `${countOf(events, 'event')} ${events === 1 ? 'waits' : 'wait'} on this disk (${showBytes(bytes)} of ${showBytes(max)})`;
  if (problem) return { level: 'problem', what: `${problem}. ${waiting}; nothing is lost while there is room` };
  if (events > 0) return { level: 'ok', what: `turns go to ${servers}; ${waiting}, on the way out` };
  return { level: 'ok', what: `turns go to ${servers}, and none waits` };
}

function checkTold({ told_ms: toldMs, problem }: RelayStatus['policy'], nowMs: number): Finding {
  if (toldMs === undefined) {
    const what = `none are known, so calls are not checked (or refused, with verdict.fail: closed)${problem ? `: ${problem}` : ''}`;
    return { level: 'warning', what };
  }
  const what = `as bridges told them ${showAgo(toldMs, nowMs)}`;
  return problem ? { level: 'warning', what: `${what}; nothing newer is known: ${problem}` } : { level: 'ok', what };
}

function checkSending({ otlp }: BridgeStatus, nowMs: number): Finding[] {
  return (otlp ?? []).map(({ signal, endpoint, interval_s: seconds, last_ok_ms: lastMs, problem }) => {
    if (problem) {
      const lost =
        signal === 'metrics' ? 'Nothing is lost: totals are cumulative' : 'They wait, as far as there is room';
      const what = `${signal} cannot be sent to ${endpoint}: ${problem}. ${lost}`;
      return { level: 'warning', what, next: 'Start the receiver, or correct otlp in tollbridge.yaml.' };
    }
    const last = lastMs === undefined ? 'none yet' : `last ${showAgo(lastMs, nowMs)}`;
    return { level: 'ok', what: `${signal} are sent to ${endpoint}${seconds ? ` every ${seconds} s` : ''} (${last})` };
  });
}

function checkBridge({ answer, env }: ConfigFacts): Finding {
  if (!answer.answers && answer.relay) {
    const { version, pid } = answer.relay;
    return { level: 'ok', what: `none on this machine: a relay has its place (${version}, process ${pid})` };
  }
  if (!answer.answers) {
    const what = `no bridge answers: ${answer.why}. Until one runs, nothing is counted; what the plugin sends waits in the spool.`;
    return { level: 'problem', what, next: `Start it with: ${commandText('start', { env })}` };
  }
  const { version, pid, ready, not_ready } = answer.status;
  if (ready) return { level: 'ok', what: `${version} answers (process ${pid})` };
  return { level: 'warning', what: `${version} answers, but is not ready: ${not_ready.join('; ')}` };
}

function checkSpool(config: Config, answer: BridgeAnswer): Finding[] {
  const { enabled, dir } = config.spool;
  if (!enabled)
    return [
      { level: 'warning', what: 'switched off (spool.enabled: false): turns made while no bridge runs are lost' },
    ];
  const { waiting, quarantined } = (answer.answers && answer.status.spool) || spoolOnDisk(dir);
  const findings: Finding[] = [];
  if (quarantined > 0) {
    findings.push({
      level: 'warning',
      what: `${countOf(quarantined, 'file')} could not be read and ${quarantined === 1 ? 'is' : 'are'} not counted`,
      next: `The .reason files in ${path.join(dir, 'quarantine')} say why. Mended files can be moved back to ${dir}.`,
    });
  }
  if (!answer.answers && waiting > 0) {
    findings.push({
      level: 'warning',
      what: `${countOf(waiting, 'file')} wait in ${dir}; a bridge counts them as soon as it starts`,
    });
  } else if (waiting > SPOOL_BACKLOG_FILES) {
    findings.push({
      level: 'warning',
      what: `${countOf(waiting, 'file')} wait in ${dir}`,
      next: 'Right after a start this is normal. If the number does not fall, see the log of the bridge.',
    });
  }
  return findings.length > 0 ? findings : [{ level: 'ok', what: `nothing waits in ${dir}` }];
}

function spoolOnDisk(dir: string): { waiting: number; quarantined: number } {
  const count = (folder: string) => {
    try {
      return readdirSync(folder).filter((name) => name.endsWith('.json')).length;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
      throw error;
    }
  };
  return { waiting: count(dir), quarantined: count(path.join(dir, 'quarantine')) };
}

function checkHeard({ status, config, home, env, nowMs }: BridgeFacts | RelayFacts): Finding[] {
  const heardMs = status.last_heard_ms.opencode;
  if (heardMs !== undefined) return [{ level: 'ok', what: `last heard ${showAgo(heardMs, nowMs)}` }];
  // What is not installed cannot be heard; the check of the plugin has said so.
  if (pluginState({ config, home, env }).state === 'absent') return [];
  const next = 'Send OpenCode a prompt. If it ran before the plugin was installed, restart it first.';
  return [{ level: 'warning', what: 'never heard of since the bridge started', next }];
}

function checkSources({ sources, accounts }: Pick<BridgeStatus, 'sources' | 'accounts'>): Finding[] {
  const findings = sources.flatMap(({ source, up, problem, events }): Finding[] => {
    const rejected = events.rejected ?? 0;
    if (!up && source === POLLER && accounts.some(({ status }) => status === 'error')) {
      return [{ level: 'warning', what: `${source} is down: no account can be read; "accounts" below says why` }];
    }
    if (!up) return [{ level: 'problem', what: `${source} is down: ${problem ?? 'see the log of the bridge'}` }];
    if (problem) return [{ level: 'warning', what: `${source}: ${problem}` }];
    if (rejected === 0) return [];
    const next = `tollbridge_events_rejected_total{source="${source}"} on the metrics page says why, by reason.`;
    return [{ level: 'warning', what: `${source}: ${countOf(rejected, 'event')} refused and not counted`, next }];
  });
  return findings.length > 0
    ? findings
    : [{ level: 'ok', what: sources.map(({ source }) => source).join(', ') || 'none' }];
}

function checkLedger({ answer, config, env, nowMs }: ConfigFacts): Finding | Finding[] {
  if (!answer.answers && answer.relay) return [];
  if (!answer.answers) return inspectLedger(ledgerFile(config));
  const { ledger } = answer.status;
  const findings: Finding[] = [];
  // It says what to do itself. Never to begin a new one: a ledger that cannot be written is whole.
  if (ledger.problem) findings.push({ level: 'problem', what: ledger.problem });
  if (!ledger.books_balance) {
    findings.push({
      level: 'problem',
      what: 'its sums do not agree with each other, so its numbers cannot be trusted',
      next: `Stop the bridge, keep a copy of ${ledger.file} for a report, and begin a new one with: ${commandText('ledger new', { env })}`,
    });
  }
  if (findings.length > 0) return findings;
  const last = ledger.last_turn_ms === undefined ? '' : `, the last ${showAgo(ledger.last_turn_ms, nowMs)}`;
  return {
    level: 'ok',
    what: `${countOf(ledger.turns, 'turn')}${last}; the books balance (${showBytes(ledger.size_bytes)})`,
  };
}

/** What can be told of a ledger while no bridge does. Nothing is changed by looking. */
function inspectLedger(file: string): Finding {
  if (!existsSync(file)) return { level: 'ok', what: `none at ${file} yet: the first start begins one` };
  if (isOpenElsewhere(file)) {
    const next =
      'Usual when a bridge runs without a socket. Otherwise stop the process that has it, then start a bridge.';
    return { level: 'warning', what: `another process has ${file} open, so it was not looked into`, next };
  }
  try {
    inspectDatabase(file);
    return { level: 'ok', what: `${file} is sound; a bridge opens it when it starts` };
  } catch (error) {
    // Its message names the way out.
    return { level: 'problem', what: messageOf(error) };
  }
}

/** What OpenCode's plugin cannot report, and what is not its business. */
const DRIFT_CAUSES =
  'known causes: calls that make titles, aborted calls, turns on other machines, other users of the same balance';

/** As the bridge says where it found an account that it does not poll itself. */
const ANOTHER_POLLER = 'another poller';

const ACCOUNT_LEVELS = {
  ok: 'ok',
  unknown: 'ok',
  near_limit: 'warning',
  limited: 'warning',
  unsupported: 'warning',
  error: 'warning',
  auth_required: 'problem',
} as const satisfies Record<AccountStatusLine['status'], Finding['level']>;

function checkAccounts(accounts: readonly AccountStatusLine[]): Finding[] {
  if (accounts.length === 0) {
    const what = 'none found: turns are counted all the same, but nothing is known of keys and limits';
    return [
      {
        level: 'ok',
        what,
        next: 'Set OPENCODE_API_KEY, sign in with "opencode auth login", or name one under accounts:.',
      },
    ];
  }
  const [foreign, own] = [true, false].map((isForeign) =>
    accounts.filter(
      ({ found_in, status }) => (found_in === ANOTHER_POLLER && ACCOUNT_LEVELS[status] === 'ok') === isForeign,
    ),
  );
  const findings = own!.map(accountFinding);
  if (foreign!.length > 0) {
    const names = foreign!.map(({ provider, account }) => `${provider}/${account}`).join(', ');
    findings.push({ level: 'ok', what: `reported by other pollers, and fine: ${names}` });
  }
  return findings;
}

function accountFinding(line: AccountStatusLine): Finding {
  const { provider, account, status, message, credentials, sees, cannot_see, more } = line;
  const lines = [`${provider}/${account}: ${message || status}`];
  // What to do is in the message: the poller knows where it looked for the credential and what came back.
  for (const { opens, place, problem } of credentials) {
    if (!problem) lines.push(`${opens} by what is in ${place}`);
    else if (!message.includes(problem)) lines.push(`not used for ${opens}: ${problem}`);
  }
  if (sees.length > 0) lines.push(`sees ${sees.join(', ')}`);
  for (const { what, why } of cannot_see) lines.push(`cannot see ${what}: ${why}`);
  lines.push(...driftLines(line));
  const hasProblem = credentials.some(({ problem }) => problem);
  const level = ACCOUNT_LEVELS[status];
  return {
    level: level === 'ok' && hasProblem ? 'warning' : level,
    what: lines.join('\n'),
    ...(more ? { next: more } : {}),
  };
}

/** What the balance lost beyond what turns explain, with what is known to cause it; or why that cannot be told. */
function driftLines({ drift, drift_gap, balances }: AccountStatusLine): string[] {
  const lines: string[] = [];
  if (drift.length > 0) {
    const parts = drift.map(({ window, usd, ratio }) => {
      const share = ratio === undefined ? '' : ` (${Math.round(ratio * 100)} % of what it lost)`;
      return `${window} ${showSignedUsd(usd)}${share}`;
    });
    lines.push(`unexplained by turns: ${parts.join(', ')}`);
    lines.push(DRIFT_CAUSES);
  }
  if (drift_gap && balances)
    lines.push(`unexplained by turns: not told${drift.length > 0 ? ' for every window' : ''}, because ${drift_gap}`);
  return lines;
}

function checkTiles({ unmapped, tiles }: BridgeStatus): Finding[] {
  if (unmapped.length === 0) return [{ level: 'ok', what: tiles.map(({ tile }) => tile).join(', ') || 'none yet' }];
  return unmapped.map(({ upstream_provider, reason, fix }) => ({
    level: 'warning',
    what:
      reason === 'mapped_target_missing'
        ? `${upstream_provider} is linked to a tile that does not exist`
        : `${upstream_provider} belongs to no tile`,
    next: `In tollbridge.yaml: ${fix}`,
  }));
}

function checkUnfinished({ unfinished }: BridgeStatus): Finding[] {
  if (unfinished.length === 0) return [{ level: 'ok', what: 'none hangs unfinished' }];
  return unfinished.map(({ agent, provider, turns }) => ({
    level: 'warning',
    what: `${countOf(turns, 'turn')} of ${agent} at ${provider} began over 15 minutes ago and never finished`,
    next: 'Usual when the agent was killed: what such a turn cost is known only if the agent reports it later.',
  }));
}

async function checkScrape({ status, config, env }: BridgeFacts): Promise<Finding> {
  const url = new URL('/metrics', status.metrics_url);
  const { token_env: variable, token_file, tls } = config.metrics;
  if (tls?.client_ca_file) return { level: 'ok', what: `${url} asks for a client certificate, so it was not scraped` };
  if (variable && !env[variable]) {
    const what = `${url} was not scraped: it asks for the token in ${variable}, which is not set here`;
    return { level: 'warning', what, next: `Run doctor with ${variable} set.` };
  }
  let response: Response;
  try {
    const token = readerToken(config.metrics, env);
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    response = await fetch(url, { headers, redirect: 'error', signal: AbortSignal.timeout(SCRAPE_TIMEOUT_MS) });
    const text = await response.text();
    const samples = text.match(/^(?:toll|tollbridge)_\w+(?=[ {])/gm)?.length ?? 0;
    if (response.ok && samples > 0) return { level: 'ok', what: `${url} shows ${showCount(samples)} series` };
    if (response.status === 503 && !status.ready) {
      return { level: 'warning', what: `${url} shows nothing until the bridge is ready; "bridge" above says why` };
    }
    if (response.ok)
      return {
        level: 'problem',
        what: `${url} answers, but shows none of our metrics`,
        next: 'Is another program on this port? See metrics.listen.',
      };
  } catch (error) {
    const cause = error instanceof Error && error.cause ? messageOf(error.cause) : messageOf(error);
    return {
      level: 'problem',
      what: `${url} cannot be scraped: ${cause}`,
      next:
        url.protocol === 'https:' && /certificate|altname/i.test(cause)
          ? 'Doctor does not know who signed it: set NODE_EXTRA_CA_CERTS, as scrapers have ca_file.'
          : 'See metrics.listen and the log of the bridge.',
    };
  }
  const next =
    response.status === 401
      ? `The bridge was started with another value of ${variable ?? (token_file ? 'metrics.token_file' : 'its token')}.`
      : 'See the log of the bridge.';
  return { level: 'problem', what: `${url} answers with HTTP ${response.status}`, next };
}
