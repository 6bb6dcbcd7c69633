#!/usr/bin/env node
// argv → command. The only place that prints a command's lines, sets the exit code and ends the process:
// 0 all is well, 1 something failed, 2 the command line was wrong.
// Commands are loaded when they are called, so that help is there at once.

import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline/promises';
import util from 'node:util';
import { Argument, Command, CommanderError } from 'commander';
import { commandText } from './command-text.ts';
import { EXPORTING_AGENTS } from './commands/agent-settings.ts';
import type { ImportFlags } from './commands/import-opencode.ts';
import type { ExplainFlags } from './commands/policy-explain.ts';
import type { ExportOptions } from './commands/policy-export.ts';
import type { ReportFlags } from './commands/report.ts';
import type { Report } from './commands/show.ts';
import type { TokenOwner } from './commands/token.ts';
import type { Config } from './config.ts';
import { messageOf, PermanentFailure, RetryableFailure } from './failure.ts';
import type { Log } from './log.ts';
import { NODE_MIN_MAJOR, VERSION } from './version.ts';

const WRONG_USAGE = 2;
/** A terminal's Ctrl-C reaches us twice under npm: from the terminal, and passed on by npm. The echo is no second wish. */
const SECOND_SIGNAL_AFTER_MS = 500;
const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

interface ConfigOption {
  readonly config?: string;
}

async function loadConfig({ config }: ConfigOption): Promise<Config> {
  return (await import('./config.ts')).loadConfig(config);
}

function print(lines: readonly string[]): void {
  for (const line of lines) process.stdout.write(`${line}\n`);
}

function finish({ lines, exitCode }: Report): void {
  print(lines);
  process.exitCode = exitCode;
}

/** Resolves at the first signal to stop; the second one, meant as such, ends the process at once. */
function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    let firstMs: number | undefined;
    for (const signal of STOP_SIGNALS) {
      process.on(signal, () => {
        firstMs ??= performance.now();
        if (performance.now() - firstMs >= SECOND_SIGNAL_AFTER_MS) process.exit(128 + os.constants.signals[signal]);
        resolve();
      });
    }
  });
}

async function logOf(config: Config, options: { readonly logLevel?: string }, command: Command): Promise<Log> {
  const { createLog, LOG_LEVELS } = await import('./log.ts');
  const level = LOG_LEVELS.find((known) => known === (options.logLevel ?? config.log.level));
  if (!level) {
    command.error(`error: --log-level must be one of ${LOG_LEVELS.join(', ')}`, { exitCode: WRONG_USAGE });
  }
  return createLog(level);
}

async function start(options: ConfigOption & { readonly logLevel?: string }, command: Command): Promise<void> {
  // Where Node is told to write reports of crashes, they list the environment, and keys live there.
  if (process.report) process.report.excludeEnv = true;
  const config = await loadConfig(options);
  const [{ Bridge }, log] = await Promise.all([import('./bridge.ts'), logOf(config, options, command)]);
  const stopped = stopSignal();
  const bridge = await Bridge.start({ config, log });
  print(bridge.banner());
  const { nextStep } = await import('./commands/next-step.ts');
  print(nextStep({ config, env: process.env, home: os.homedir(), metricsUrl: bridge.metricsUrl }));
  await stopped;
  await bridge.stop();
  // Everything is committed; a connection that somebody else keeps open must not keep us.
  process.exit(0);
}

async function relay(options: ConfigOption & { readonly logLevel?: string }, command: Command): Promise<void> {
  if (process.report) process.report.excludeEnv = true;
  const config = await loadConfig(options);
  const { nats } = config;
  if (!nats?.jetstream.enabled) {
    throw new PermanentFailure(
      'A relay needs a NATS server to send turns to. Set nats.servers in tollbridge.yaml; to count turns on this machine, ' +
        `run: ${commandText('start')}`,
    );
  }
  const [{ Relay }, log] = await Promise.all([import('./relay.ts'), logOf(config, options, command)]);
  const stopped = stopSignal();
  const running = await Relay.start({ config: { ...config, nats }, log });
  print(running.banner());
  await stopped;
  await running.stop();
  process.exit(0);
}

interface DemoFlags {
  readonly listen: string;
  readonly days: string;
  readonly seed: string;
  readonly history?: string;
  readonly instance?: string;
  readonly historyDays: string;
}

async function demo(flags: DemoFlags, command: Command): Promise<void> {
  const [{ startDemo }, { createLog }] = await Promise.all([import('./demo/demo.ts'), import('./log.ts')]);
  const whole = (name: 'days' | 'seed' | 'historyDays', most: number): number => {
    const value = Number(flags[name]);
    if (Number.isInteger(value) && value >= 1 && value <= most) return value;
    return command.error(
      `error: --${name === 'historyDays' ? 'history-days' : name} must be a whole number from 1 to ${most}`,
      {
        exitCode: WRONG_USAGE,
      },
    );
  };
  const days = whole('days', 90);
  const historyDays = Math.min(whole('historyDays', 90), days);
  const { history: file, instance = flags.listen } = flags;
  const showsProgress = process.stderr.isTTY;
  const stopped = stopSignal();
  const running = await startDemo({
    ...{ listen: flags.listen, days, seed: whole('seed', 2 ** 31), log: createLog('warn') },
    ...(file !== undefined && { history: { file, instance, days: historyDays } }),
    ...(showsProgress && {
      onProgress: (share) => process.stderr.write(`\rMaking up ${days} days of work: ${Math.round(share * 100)} %`),
    }),
  });
  if (showsProgress) process.stderr.write('\n');
  const { metricsUrl } = running.bridge;
  print([
    `A demonstration runs at ${metricsUrl}/ with ${days} days of made-up turns and eight accounts; more come as you watch.`,
    `  metrics   ${metricsUrl}/metrics`,
    ...(file === undefined
      ? []
      : [`  history   ${file}, for: promtool tsdb create-blocks-from openmetrics ${file} <data folder of Prometheus>`]),
    'Your own ledger and accounts are not touched. Ctrl-C ends it and deletes all of it.',
  ]);
  await stopped;
  await running.stop();
  process.exit(0);
}

/** Asks on the terminal. Without one nobody can answer, and silence is not consent. */
async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new PermanentFailure(`${question} Nobody can be asked here, so nothing was changed. To say yes, add --yes.`);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}

function buildProgram(): Command {
  const program = new Command('tollbridge')
    .description('Meters every turn of a coding agent exactly once and shows its cost to Prometheus.')
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError(`Run "${commandText('help', { argv: [] })}" to see what there is.`);
  const withConfig = (command: Command) =>
    command.option('--config <file>', 'use this file instead of ~/.config/tollbridge/tollbridge.yaml');
  const place = { env: process.env, home: os.homedir() };

  withConfig(program.command('start').description('run the bridge until it is told to stop'))
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent (default: the one of the configuration)')
    .action(start);

  withConfig(
    program.command('relay').description('pass turns on to a bridge elsewhere, over NATS; counts nothing itself'),
  )
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent (default: the one of the configuration)')
    .action(relay);

  program
    .command('demo')
    .description('run a bridge with made-up turns and accounts, to look at; your own ledger is not touched')
    .option('--listen <address>', 'where to serve metrics', '127.0.0.1:9466')
    .option('--days <days>', 'how many days of past to make up', '30')
    .option('--seed <number>', 'another number makes up another past', '1')
    .option('--history <file>', 'write what Prometheus would have scraped, in OpenMetrics')
    .option('--history-days <days>', 'how many days of it', '30')
    .option('--instance <name>', 'the target that the history is of (default: what --listen says)')
    .action(demo);

  withConfig(program.command('check-config').description('check the configuration and show what it comes to')).action(
    async (options: ConfigOption) => {
      const { describeConfig } = await import('./commands/check-config.ts');
      finish(describeConfig({ config: await loadConfig(options), ...place }));
    },
  );

  const part = new Argument(
    '<part>',
    'opencode: the plugin for OpenCode; claude-code, codex, gemini-cli: what these need to export to the bridge; ' +
      'service: a systemd user service that keeps a bridge running',
  ).choices(['opencode', ...EXPORTING_AGENTS, 'service']);
  const exporting = (name: string) => EXPORTING_AGENTS.find((agent) => agent === name);
  withConfig(program.command('install').description('connect an agent to the bridge, or let systemd run the bridge'))
    .addArgument(part)
    .action(async (name: string, options: ConfigOption) => {
      const config = await loadConfig(options);
      if (name === 'service') {
        const { installService } = await import('./commands/install-service.ts');
        finish(await installService({ config, configFile: options.config, platform: process.platform, ...place }));
        return;
      }
      const agent = exporting(name);
      if (agent) {
        const { installAgent } = await import('./commands/install-agent.ts');
        print(installAgent(agent, { config, ...place }));
        return;
      }
      const { installOpencode } = await import('./commands/install.ts');
      print(installOpencode({ config, ...place }));
    });
  withConfig(program.command('uninstall').description('take out again what install put somewhere'))
    .addArgument(part)
    .action(async (name: string, options: ConfigOption) => {
      if (name === 'service') {
        const { uninstallService } = await import('./commands/install-service.ts');
        finish(uninstallService({ platform: process.platform, ...place }));
        return;
      }
      const agent = exporting(name);
      if (agent) {
        const { uninstallAgent } = await import('./commands/install-agent.ts');
        print(uninstallAgent(agent, { config: await loadConfig(options), ...place }));
        return;
      }
      const { uninstallOpencode } = await import('./commands/install.ts');
      print(uninstallOpencode(place));
    });

  withConfig(program.command('doctor').description('find out what is wrong and what to do about it'))
    .option('--json', 'for programs', false)
    .action(async (options: ConfigOption & { readonly json: boolean }) => {
      const [{ doctor }, config] = await Promise.all([import('./commands/doctor.ts'), import('./config.ts')]);
      const load = () => config.loadConfig(options.config);
      finish(await doctor({ json: options.json, nowMs: Date.now(), loadConfig: load, ...place }));
    });

  withConfig(program.command('status').description('show cost, tokens and turns of every tile'))
    .option('--json', 'for programs', false)
    .action(async (options: ConfigOption & { readonly json: boolean }) => {
      const { showStatus } = await import('./commands/status.ts');
      finish(await showStatus({ config: await loadConfig(options), json: options.json, nowMs: Date.now(), ...place }));
    });

  program
    .command('token')
    .description("look after senders' tokens")
    .command('new')
    .description('make a token for a sender on TCP; it is printed once and kept nowhere')
    .option('--team <team>', 'whose turns it brings')
    .option('--user <user>', 'whose turns it brings')
    .option('--project <project>', 'the only project that it brings turns of')
    .action(async (owner: TokenOwner) => {
      const { newToken } = await import('./commands/token.ts');
      finish(newToken(owner));
    });

  withConfig(program.command('report').description('show what was spent, by team, model, session, …'))
    .requiredOption(
      '--by <what>',
      'team, user, project, agent, provider, upstream_provider, model, account, session or turn',
    )
    .option('--period <period>', 'today, week, month, 30d or all (default: month)')
    .option('--since <day>', 'from this day on, such as 2026-01-15')
    .option('--until <day>', 'to the end of this day')
    .option('--format <format>', 'table, csv or json', 'table')
    .action(async (flags: ReportFlags & ConfigOption, command: Command) => {
      const { mistakeInFlags, showReport } = await import('./commands/report.ts');
      const mistake = mistakeInFlags(flags);
      if (mistake) command.error(`error: ${mistake}`, { exitCode: WRONG_USAGE });
      const report = await showReport({ flags, config: await loadConfig(flags), nowMs: Date.now(), ...place });
      for (const note of report.notes) process.stderr.write(`${note}\n`);
      finish(report);
    });

  withConfig(
    program.command('import').description('book what an agent wrote down itself; known turns stay as they are'),
  )
    .addArgument(new Argument('<agent>', 'opencode: the turns in its own database').choices(['opencode']))
    .option('--since <day>', 'from this day on, such as 2026-01-15')
    .option('--db <file>', "another file than OpenCode's own opencode.db")
    .action(async (_agent: string, flags: ImportFlags & ConfigOption, command: Command) => {
      const { importOpencode, mistakeInImportFlags } = await import('./commands/import-opencode.ts');
      const mistake = mistakeInImportFlags(flags);
      if (mistake) command.error(`error: ${mistake}`, { exitCode: WRONG_USAGE });
      const showsProgress = process.stderr.isTTY;
      let isShown = false;
      const onProgress = ({ turns, share }: { readonly turns: number; readonly share: number }) => {
        isShown = true;
        process.stderr.write(`\rImported ${turns} turns (${Math.floor(share * 100)} %)`);
      };
      const options = { flags, config: await loadConfig(flags), platform: process.platform, ...place };
      const importing = importOpencode({ ...options, ...(showsProgress && { onProgress }) });
      finish(await importing.finally(() => isShown && process.stderr.write('\n')));
    });

  program
    .command('pricing')
    .description('look after prices, for cost that no agent states')
    .command('import')
    .description("make a pricing_file from a list of prices in the form of models.dev's api.json")
    .argument('<file>', 'the list')
    .option('--out <file>', 'write this new file (default: prices-<day>.yaml beside the configuration)')
    .action(async (file: string, { out }: { readonly out?: string }) => {
      const [{ importPricing }, { defaultConfigFile }] = await Promise.all([
        import('./commands/pricing-import.ts'),
        import('./config.ts'),
      ]);
      finish(importPricing({ file, out, folder: path.dirname(defaultConfigFile()), nowMs: Date.now() }));
    });

  const policy = program.command('policy').description('look into the rules: budgets, caps and guardrails');
  withConfig(policy.command('explain').description('show what an agent would be answered, and which rules say so'))
    .requiredOption('--provider <provider>', 'as the agent calls it')
    .requiredOption('--model <model>', 'as the agent calls it')
    .option('--agent <agent>', 'which agent asks', 'opencode')
    .option('--team <team>', 'whose turn it is (default: of this socket)')
    .option('--user <user>', 'whose turn it is (default: of this socket)')
    .option('--project <project>', 'what the turn is for')
    .option('--account <id>', 'which account would pay, where there are several')
    .option('--tool <tool>', 'ask about a call of this tool, not about a turn')
    .option('--priced', 'as if the agent itself knew a price of the model')
    .option('--json', 'for programs', false)
    .action(async ({ config: file, ...flags }: ExplainFlags & ConfigOption) => {
      const { explainPolicy } = await import('./commands/policy-explain.ts');
      const config = await loadConfig(file === undefined ? {} : { config: file });
      finish(await explainPolicy({ flags, config, env: process.env }));
    });
  withConfig(policy.command('export').description('write rules down in the own words of an agent'))
    .addArgument(
      new Argument('<agent>', 'opencode: its managed configuration, which holds without plugins, too').choices([
        'opencode',
      ]),
    )
    .option('--team <team>', 'whose rules (default: the team of socket.identity)')
    .option('--user <user>', 'whose rules (default: the user of socket.identity)')
    .option('--project <project>', 'the rules of this project, too')
    .option('--out <file>', 'write a new file instead of printing')
    .action(async (_agent: string, { config: file, ...options }: ConfigOption & ExportOptions) => {
      const { exportPolicy } = await import('./commands/policy-export.ts');
      const { lines, remarks } = exportPolicy(
        await loadConfig({ ...(file !== undefined && { config: file }) }),
        options,
      );
      print(lines);
      for (const remark of remarks) process.stderr.write(`${remark}\n`);
    });

  const nats = program.command('nats').description('look after the streams in NATS');
  withConfig(nats.command('setup').description('make the streams; what is there and right is left alone'))
    .option('--print', 'only print what nats-server.conf must say; asks no server', false)
    .action(async (options: ConfigOption & { readonly print: boolean }) => {
      const { setUpNats } = await import('./commands/nats-setup.ts');
      const config = await loadConfig(options);
      finish(await setUpNats({ config, env: process.env, isPrintOnly: options.print }));
    });

  const ledger = program.command('ledger').description('look after the ledger');
  withConfig(ledger.command('new').description('move a damaged ledger aside; counting starts anew'))
    .option('--yes', 'do not ask', false)
    .action(async (options: ConfigOption & { readonly yes: boolean }) => {
      const { startNewLedger } = await import('./commands/new-ledger.ts');
      const ask = options.yes ? async () => true : confirm;
      finish(await startNewLedger({ config: await loadConfig(options), nowMs: Date.now(), confirm: ask }));
    });
  return program;
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USAGE;
  const isExpected = error instanceof PermanentFailure || error instanceof RetryableFailure;
  const text = isExpected || !(error instanceof Error) ? messageOf(error) : (error.stack ?? error.message);
  process.stderr.write(`${util.styleText('red', 'tollbridge:', { stream: process.stderr })} ${text}\n`);
  return 1;
}

// Before any part is loaded that an old Node cannot load; what stands above imports no name that an old Node lacks.
if (Number.parseInt(process.versions.node, 10) < NODE_MIN_MAJOR) {
  process.stderr.write(
    `tollbridge: Node ${NODE_MIN_MAJOR} or later is needed; this is ${process.versions.node}. ` +
      'Install one, then run the command again; from a clone, npm runs the one that is among the packages.\n',
  );
  process.exit(1);
}

// `tollbridge status | head` closes the pipe early, which is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

const argv = process.argv.slice(2);
try {
  await buildProgram().parseAsync(argv.length === 0 ? ['help'] : argv, { from: 'user' });
} catch (error) {
  process.exitCode = exitCodeOf(error);
}
