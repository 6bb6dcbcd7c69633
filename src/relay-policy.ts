// The rules on a relay: read from what bridges tell, kept on this disk, and judged by also while NATS is away. What a relay
// knows is as old as it was told, and it says how old that is.

import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { Config, NatsConfig } from './config.ts';
import { messageOf } from './failure.ts';
import type { Standing } from './ledger/reading.ts';
import type { Log } from './log.ts';
import { POLICY_KEY, readForRelay, STANDINGS_KEY } from './nats/budget-bucket.ts';
import type { NatsLink } from './nats/connection.ts';
import { streamNames } from './nats/streams.ts';
import { streamTrouble } from './nats/trouble.ts';
import { type KeptPolicy, keepPolicy, readKeptPolicy } from './policy/kept-policy.ts';
import { digestOf, type Figure, figuresIn, knownAfter } from './policy/shared-standings.ts';
import { policyIn, standingsOf, type ToldPolicy } from './policy/told-policy.ts';
import { PolicySide } from './policy-side.ts';
import type { RelayStatus } from './status.ts';
import { Attribution } from './turn/attribution.ts';
import { Pricing } from './turn/pricing.ts';
import type { Identity } from './turn/turn-event.ts';

/** How often it is read while agents ask, and while none does: there may be many relays. */
const READ_EVERY_MS = 5000;
const READ_IDLE_EVERY_MS = 60_000;
const IDLE_AFTER_MS = 60_000;
/** How long a start waits for what is read first. */
const FIRST_READ_MS = 1000;
const STOP_GRACE_MS = 1000;
/** Figures change with every turn, and the disk need not have each. */
const KEEP_FIGURES_EVERY_MS = 60_000;

/** The file in the state folder that holds what was told last. */
export function policyFile(config: Pick<Config, 'state_dir'>): string {
  return path.join(config.state_dir, 'policy.json');
}

export interface RelayPolicyOptions {
  readonly link: NatsLink;
  readonly config: NatsConfig;
  readonly file: string;
  /** Whose turns come from this machine. */
  readonly identity: Identity;
  readonly log: Log;
}

/** What was told, ready to be judged by. */
interface Known extends KeptPolicy {
  readonly rules: ToldPolicy;
  readonly figures: readonly Figure[];
}

export class RelayPolicy {
  readonly #options: RelayPolicyOptions;
  readonly #stopping = new AbortController();
  #known: Known | undefined;
  #side: PolicySide | undefined;
  #problem: string | undefined;
  #keepProblem: string | undefined;
  #askedMs = performance.now();
  #readMs = Number.NEGATIVE_INFINITY;
  #kept: { readonly policy?: string; readonly atMs: number } = { atMs: Number.NEGATIVE_INFINITY };
  #wake: () => void = () => {};
  #running: Promise<void> | undefined;

  /** Knows at once what the file holds. */
  constructor(options: RelayPolicyOptions) {
    this.#options = options;
    try {
      const kept = readKeptPolicy(options.file);
      if (!kept) return;
      if (!this.#take(kept)) throw new Error('another version wrote it');
      this.#kept = { policy: kept.policy, atMs: performance.now() };
    } catch (error) {
      const { file, log } = options;
      // What a damaged file holds is not repeated, as a parser's message would.
      const why = error instanceof SyntaxError || error instanceof z.ZodError ? 'it is damaged' : messageOf(error);
      log.warn(
        { file },
        `the rules that were kept on disk cannot be read (${why}): there are none until a bridge tells them`,
      );
    }
  }

  /** Begins to read. What can be had at once is known when it resolves. */
  async start(): Promise<void> {
    if (this.#running) return;
    const { link } = this.#options;
    link.onChange(() => link.current && this.#wake());
    const first = this.#read();
    this.#running = first.then(() => this.#run());
    await Promise.race([first, delay(FIRST_READ_MS, undefined, { ref: false })]);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    // What is asked of a server that does not answer is given up with the connection.
    await Promise.race([this.#running, delay(STOP_GRACE_MS, undefined, { ref: false })]);
    if (this.#known) this.#keep(this.#known);
  }

  /** `POST /v1/verdict`: what a bridge would answer, as far as this relay knows. */
  answer(question: unknown, identity: Identity): { status: number; body: object } {
    this.#askedMs = performance.now();
    if (this.#askedMs - this.#readMs > READ_EVERY_MS) this.#wake();
    if (this.#side) return this.#side.answer(question, identity);
    return { status: 503, body: { error: 'no bridge has told this relay its rules yet, so it cannot judge' } };
  }

  /** What it knows, and how old that is. */
  status(): RelayStatus['policy'] {
    const problem = this.#options.link.problem() ?? this.#problem ?? this.#keepProblem;
    return {
      ...(this.#known ? { told_ms: this.#known.told_ms } : {}),
      ...(problem === undefined ? {} : { problem }),
    };
  }

  async #run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const isIdle = performance.now() - this.#askedMs > IDLE_AFTER_MS;
      // Relays that were started together need not ask together.
      await this.#sleep((isIdle ? READ_IDLE_EVERY_MS : READ_EVERY_MS) * (0.75 + Math.random() / 2));
      if (!this.#stopping.signal.aborted) await this.#read();
    }
  }

  async #sleep(ms: number): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    await Promise.race([woken, delay(ms, undefined, { signal: this.#stopping.signal, ref: false }).catch(() => {})]);
  }

  /** Reads what is told now. Never throws: what cannot be read leaves standing what is known. */
  async #read(): Promise<void> {
    const { link, config } = this.#options;
    this.#readMs = performance.now();
    if (!link.current) return;
    const from = { connection: link.current, config };
    try {
      const standings = await readForRelay(from, STANDINGS_KEY);
      const digest = standings && figuresIn(standings.text)?.policy;
      const isSame = this.#known !== undefined && digestOf(this.#known.policy) === digest;
      const policy = isSame ? this.#known?.policy : (await readForRelay(from, POLICY_KEY))?.text;
      if (!standings || policy === undefined) {
        this.#note('no bridge of this stream has told its rules yet: start one, of the same version as this relay');
        return;
      }
      const told = { policy, standings: standings.text, told_ms: standings.storedMs };
      const isTaken = this.#take(told);
      const other =
        'the rules were told by a bridge of another version: bring this relay to the version of the bridges';
      this.#note(isTaken ? undefined : other);
      const isDue = performance.now() - this.#kept.atMs > KEEP_FIGURES_EVERY_MS;
      if (isTaken && (isDue || this.#kept.policy !== policy)) this.#keep(told);
    } catch (error) {
      if (!link.problem()) this.#note(streamTrouble(error, { stream: `KV_${streamNames(config).budgets}` }));
    }
  }

  #note(problem: string | undefined): void {
    if (problem !== undefined && problem !== this.#problem && !this.#stopping.signal.aborted) {
      const meaning = this.#known ? 'verdicts are given by what was told last' : 'no verdicts are given';
      this.#options.log.warn(`${meaning}: ${problem}`);
    }
    this.#problem = problem;
  }

  /** @returns whether it can be judged by */
  #take(told: KeptPolicy): boolean {
    const isSame = this.#known?.policy === told.policy;
    const rules = isSame ? this.#known?.rules : policyIn(told.policy);
    const figures = figuresIn(told.standings)?.budgets;
    if (!rules || !figures) return false;
    this.#known = { ...told, rules, figures: knownAfter(figures, this.#known?.figures ?? []) };
    if (!isSame) this.#side = this.#sideOf(rules);
    return true;
  }

  #sideOf(rules: ToldPolicy): PolicySide {
    const { identity, log } = this.#options;
    const pricing = new Pricing(rules.pricing);
    return new PolicySide({
      ...{ rules, project: rules.project, timeZone: rules.time_zone, identity, log, pricing },
      attribution: new Attribution({ ...rules, pricing }),
      standings: () => this.#standings(),
      asOfMs: () => this.#known?.told_ms,
      pricingStates: () => [],
      seenLabels: () => undefined,
      // Counted are the answers of bridges, whose ledgers hold counters; those of a relay are in its log.
      countPolicy: async () => {},
    });
  }

  #standings(): readonly Standing[] {
    return this.#known ? standingsOf(this.#known.rules, { figures: this.#known.figures, nowMs: Date.now() }) : [];
  }

  #keep(told: KeptPolicy): void {
    const { file, log } = this.#options;
    this.#kept = { policy: told.policy, atMs: performance.now() };
    try {
      keepPolicy(file, told);
      this.#keepProblem = undefined;
    } catch (error) {
      const problem = `the rules cannot be kept on disk (${messageOf(error)}): a restart without NATS goes back to what was kept before`;
      if (problem !== this.#keepProblem) log.warn({ file }, problem);
      this.#keepProblem = problem;
    }
  }
}
