// `tollbridge doctor`: looks at everything between an agent's turn and a scrape, and says what is wrong and what to do.

import { styleText } from 'node:util';
import { type Config, defaultConfigFile } from '../config.ts';
import { messageOf } from '../failure.ts';
import { NODE_MIN_MAJOR } from '../version.ts';
import { askBridge } from './ask-bridge.ts';
import { BRIDGE_CHECKS, type Check, CONFIG_CHECKS, type Finding, RELAY_CHECKS } from './doctor-checks.ts';
import { countOf, type Report } from './show.ts';

const NAME_COLUMNS = 15;

export interface DoctorOptions {
  readonly json: boolean;
  readonly env: NodeJS.ProcessEnv;
  /** The user's home folder. */
  readonly home: string;
  readonly nowMs: number;
  /** Reads the configuration; what it throws is a finding. */
  readonly loadConfig: () => Config;
}

type NamedFinding = Finding & { readonly name: string };

/** What the checks found, and the names of those that could not be made, by the reason. */
interface Examination {
  readonly findings: NamedFinding[];
  readonly skipped: { readonly why: string; readonly names: readonly string[] }[];
}

/** Makes every check that can be made. The exit code is 1 when any of them finds a problem. */
export async function doctor(options: DoctorOptions): Promise<Report> {
  const { findings, skipped } = await examine(options);
  const problems = findings.filter(({ level }) => level === 'problem').length;
  const warnings = findings.filter(({ level }) => level === 'warning').length;
  const exitCode = problems > 0 ? 1 : 0;
  if (options.json) return { lines: [JSON.stringify({ problems, warnings, findings, skipped }, null, 2)], exitCode };
  const verdict =
    problems + warnings === 0
      ? 'Everything is fine.'
      : `${countOf(problems, 'problem')}, ${countOf(warnings, 'warning')}.`;
  const notMade = skipped.map(({ why, names }) => `- not checked, because ${why}: ${names.join(', ')}`);
  return { lines: [...findings.flatMap(findingLines), ...notMade, '', verdict], exitCode };
}

async function examine(options: DoctorOptions): Promise<Examination> {
  const findings: NamedFinding[] = [{ name: 'Node', ...checkNode() }];
  const skipped: Examination['skipped'] = [];
  const skip = (checks: readonly Check<never>[], why: string) =>
    skipped.push({ why, names: checks.map(({ name }) => name) });

  let config: Config;
  try {
    config = options.loadConfig();
  } catch (error) {
    findings.push({ name: 'configuration', level: 'problem', what: messageOf(error) });
    skip([...CONFIG_CHECKS, ...BRIDGE_CHECKS], 'the configuration cannot be used');
    return { findings, skipped };
  }
  const file = config.file ?? `no file at ${defaultConfigFile()}, so every default holds`;
  findings.push({ name: 'configuration', level: 'ok', what: file });

  const answer = await askBridge(config);
  const facts = { config, answer, env: options.env, home: options.home, nowMs: options.nowMs };
  findings.push(...(await makeAll(CONFIG_CHECKS, facts)));
  if (answer.answers) findings.push(...(await makeAll(BRIDGE_CHECKS, { ...facts, status: answer.status })));
  else if (answer.relay) findings.push(...(await makeAll(RELAY_CHECKS, { ...facts, status: answer.relay })));
  else skip(BRIDGE_CHECKS, 'no bridge answers');
  return { findings, skipped };
}

/** One check that breaks is a finding of its own and stops no other. */
async function makeAll<Facts>(checks: readonly Check<Facts>[], facts: Facts): Promise<NamedFinding[]> {
  const findings: NamedFinding[] = [];
  for (const { name, run } of checks) {
    try {
      findings.push(...[await run(facts)].flat().map((finding) => ({ name, ...finding })));
    } catch (error) {
      const next = 'If nothing explains it, please report it with this output.';
      findings.push({ name, level: 'problem', what: `could not be checked: ${messageOf(error)}`, next });
    }
  }
  return findings;
}

function checkNode(): Finding {
  const { node } = process.versions;
  if (Number.parseInt(node, 10) >= NODE_MIN_MAJOR) return { level: 'ok', what: node };
  return { level: 'problem', what: `${node} is too old`, next: `Install Node ${NODE_MIN_MAJOR} or later.` };
}

function findingLines({ name, level, what, next }: NamedFinding): string[] {
  const mark = { ok: styleText('green', '✔'), warning: styleText('yellow', '!'), problem: styleText('red', '✖') }[
    level
  ];
  const indent = ' '.repeat(NAME_COLUMNS + 2);
  const [first, ...others] = what.split('\n');
  const lines = [`${mark} ${name.padEnd(NAME_COLUMNS)}${first}`, ...others.map((line) => indent + line)];
  if (next) lines.push(`${indent}→ ${next}`);
  return lines;
}
