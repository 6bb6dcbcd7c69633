// Fills a ledger with the past of the demonstration, by a clock that runs through it, and writes down on the way what a
// Prometheus would have scraped.

import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { type Config, parseConfig } from '../config.ts';
import { Ledger } from '../ledger/ledger.ts';
import type { PolicyCount } from '../ledger/reading.ts';
import type { Log } from '../log.ts';
import { Health } from '../metrics/health.ts';
import { LedgerMetricProducer } from '../metrics/producer.ts';
import { Policy } from '../policy/policy.ts';
import { NO_RULE } from '../policy/verdict-desk.ts';
import { LedgerSink } from '../sources/ledger-sink.ts';
import { Intake } from '../sources/source.ts';
import { Attribution } from '../turn/attribution.ts';
import { Pricing } from '../turn/pricing.ts';
import { Tiles } from '../turn/tiles.ts';
import type { Identity } from '../turn/turn-event.ts';
import { VERSION } from '../version.ts';
import { DEMO_ACCOUNTS, type DemoAccounts } from './accounts.ts';
import { demoRules } from './rules.ts';
import { type Asked, askQuarter, QUARTER_MS, type Told, takeDue, tellQuarter } from './story.ts';

/** The name under which the demonstration's events are counted. */
export const DEMO_SOURCE = 'demo';
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
/**
 * How far apart scrapes are, by their age: as close as charts of that age look. Windows begin on a quarter of an hour, so
 * where that of 30 days begins, also a day from now, there is one for each.
 */
const SCRAPES: readonly { readonly youngerMs: number; readonly everyMs: number }[] = [
  { youngerMs: DAY_MS, everyMs: 5 * 60_000 },
  { youngerMs: 11 * DAY_MS, everyMs: QUARTER_MS },
  { youngerMs: 29 * DAY_MS, everyMs: HOUR_MS },
  { youngerMs: Number.POSITIVE_INFINITY, everyMs: QUARTER_MS },
];
/** What no chart shows the past of. */
const NOT_IN_HISTORY =
  /^(?:gen_ai_|nodejs_|v8js_|toll_tool_duration_|toll_model_duration_|toll_window_(?!start)|tollbridge_(?!ledger_created|series))/;

export interface History {
  /** The file, in OpenMetrics. */
  readonly file: string;
  /** The `instance` of the target under which the running demonstration is scraped. */
  readonly instance: string;
  /** How far back it reaches. */
  readonly days: number;
}

export interface FillOptions {
  readonly config: Config;
  /** The file of the ledger; nothing may be there yet. */
  readonly file: string;
  readonly log: Log;
  readonly seed: number;
  /** Unix ms, a multiple of QUARTER_MS. */
  readonly fromMs: number;
  /** Unix ms. */
  readonly toMs: number;
  readonly accounts: DemoAccounts;
  readonly history?: History | undefined;
  readonly onProgress?: (share: number) => void;
}

/**
 * How turns of the demonstration are shown: what its users would have written into their configuration.
 * @param place.nowMs when somebody looks, Unix ms: some budgets began some days before
 */
export function demoConfig(place: { stateDir: string; listen: string; nowMs: number }): Config {
  const { stateDir, listen, nowMs } = place;
  return parseConfig({
    state_dir: stateDir,
    // The story goes by it, and so do the budgets that it uses up.
    time_zone: 'UTC',
    // What it shows is made up: everybody may read it.
    metrics: { listen, open: true },
    spool: { enabled: false },
    detect: false,
    telemetry: { provider_links: { openai: 'codex' } },
    pricing: [
      { provider: 'openai', state: 'included' },
      { provider: 'google', state: 'estimated', usd_per_million_tokens: { input: 2, output: 12, cache_read: 0.2 } },
    ],
    ...demoRules(nowMs),
  });
}

/** What adds the bridge's own rules to the turns of the demonstration. */
function attributionOf({ gateways, pricing, labels }: Config): Attribution {
  return new Attribution({ gateways, pricing: new Pricing(pricing), accounts: DEMO_ACCOUNTS, project: labels.project });
}

/** Those of one name, in one go each: a credential speaks for one user. */
export function byIdentity(told: readonly Told[]): { readonly identity: Identity; readonly told: Told[] }[] {
  const groups = Map.groupBy(told, ({ identity: { team, user } }) => `${team} ${user}`);
  return [...groups.values()].map((group) => ({ identity: group[0]!.identity, told: group }));
}

/** Books everything that was sent between two times. @returns when the ledger is complete and closed */
export async function fillLedger(options: FillOptions): Promise<void> {
  const { config, file, log, seed, fromMs, toMs, accounts, history, onProgress } = options;
  let clockMs = fromMs;
  const now = () => clockMs;
  const { time_zone: timeZone, retention: retentionMs, labels } = config;
  const ledger = Ledger.open({ file, timeZone, retentionMs, caps: labels.caps, log, policy: config, now });
  const tiles = new Tiles(
    config.telemetry.provider_links,
    DEMO_ACCOUNTS.map(({ provider }) => provider),
  );
  const producer = new LedgerMetricProducer({ reading: ledger, tiles, accounts: DEMO_ACCOUNTS });
  const health = new Health({ version: VERSION, sources: [DEMO_SOURCE], producers: [producer] });
  const attribution = attributionOf(config);
  const sink = new LedgerSink({ ledger, attribution, now });
  const intake = new Intake({ sink, meter: health, now });
  const writer = history && new HistoryWriter(history);

  const standings = () => ledger.standings();
  const policy = new Policy({ rules: config, timeZone, standings, now });

  /** Answers each question at its time, by what was booked before. */
  async function answer(asked: readonly Asked[]): Promise<void> {
    const answers = asked.map(({ atMs, identity, question }): PolicyCount => {
      clockMs = atMs;
      const labels = attribution.labelsOf(question, identity);
      const { decision, deciding } = policy.decide({ labels, isPriced: () => true });
      return { counter: 'policyVerdicts', labels: { decision, rule: deciding?.rule ?? NO_RULE }, times: 1 };
    });
    if (answers.length > 0) await ledger.countPolicy(answers);
  }

  async function sendUntil(untilMs: number, questions: Asked[], queue: Told[]): Promise<void> {
    await answer(takeDue(questions, untilMs));
    const due = takeDue(queue, untilMs);
    clockMs = untilMs;
    await Promise.all(
      byIdentity(due).map(({ identity, told }) =>
        intake.accept(
          DEMO_SOURCE,
          told.map(({ event }) => ({ type: 'event', event })),
          identity,
        ),
      ),
    );
    for (const { event } of due) if (event.kind === 'turn' && event.phase === 'completed') accounts.spend(event);
    await Promise.all(accounts.read(untilMs).map((result) => ledger.recordPoll(result, { isOwn: true })));
    await ledger.settle();
  }

  try {
    for (let quarterMs = fromMs; quarterMs < toMs; quarterMs += QUARTER_MS) {
      const endMs = Math.min(quarterMs + QUARTER_MS, toMs);
      const questions = askQuarter({ seed, startMs: quarterMs });
      const queue = tellQuarter({ seed, startMs: quarterMs });
      const everyMs = SCRAPES.find(({ youngerMs }) => toMs - endMs < youngerMs)!.everyMs;
      for (let atMs = quarterMs; atMs < endMs; ) {
        atMs = Math.min(atMs + Math.min(everyMs, QUARTER_MS), endMs);
        await sendUntil(atMs, questions, queue);
        const isScraped = history !== undefined && atMs >= toMs - history.days * DAY_MS && atMs % everyMs === 0;
        if (isScraped || (writer && atMs === toMs)) await writer!.write(await health.scrape(), atMs);
      }
      onProgress?.((endMs - fromMs) / (toMs - fromMs));
    }
    await writer?.end();
  } finally {
    await health.shutdown();
    ledger.close();
  }
}

/** Scrapes with their times, as `promtool tsdb create-blocks-from openmetrics` takes them. */
class HistoryWriter {
  readonly #stream: ReturnType<typeof createWriteStream>;
  readonly #labels: string;

  constructor({ file, instance }: History) {
    this.#stream = createWriteStream(file, { mode: 0o644 });
    this.#labels = `instance="${instance}",job="tollbridge"`;
  }

  async write(scrape: string, atMs: number): Promise<void> {
    const lines: string[] = [];
    for (const line of scrape.split('\n')) {
      if (line === '' || line.startsWith('#') || NOT_IN_HISTORY.test(line)) continue;
      const [, name, labels, value] = /^([^{ ]+)(?:\{(.*)\})? (\S+)$/.exec(line)!;
      lines.push(`${name}{${labels ? `${labels},` : ''}${this.#labels}} ${value} ${atMs / 1000}\n`);
    }
    lines.push(`up{${this.#labels}} 1 ${atMs / 1000}\n`);
    if (!this.#stream.write(lines.join('')))
      await new Promise<void>((resolve) => void this.#stream.once('drain', resolve));
  }

  async end(): Promise<void> {
    this.#stream.end('# EOF\n');
    await finished(this.#stream);
  }
}
