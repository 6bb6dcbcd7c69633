// What our own rules add to what an agent stated: who served, how it was paid, which account, whose turn, and how much
// of the project's name may be shown.

import { createHash } from 'node:crypto';
import type { GatewayRules } from '../config.ts';
import { PROJECT_HASH_CHARS } from '../config-policy.ts';
import type { Pricing } from './pricing.ts';
import type { ScopedLabels } from './scope.ts';
import type {
  ErrorEvent,
  Identity,
  MeterEvent,
  Mutable,
  PermissionEvent,
  StatedError,
  StatedEvent,
  StatedTurn,
  TurnEvent,
} from './turn-event.ts';
import { resolveUpstream, type UpstreamAnswer, type UpstreamQuestion } from './upstream-provider.ts';

/** Providers that one account of another provider pays for as well: one key opens Zen and Go. */
const PAID_BY: ReadonlyMap<string, string> = new Map([['opencode-go', 'opencode']]);

const hasProject = (event: StatedEvent): event is Exclude<StatedEvent, PermissionEvent | StatedError> =>
  event.kind !== 'permission' && event.kind !== 'error';

/** An event with the project that its credential is bound to, whatever its sender stated. */
export function ofBoundProject<T extends StatedEvent>(event: T, { project }: Identity): T {
  return project === undefined || !hasProject(event) ? event : { ...event, project };
}

/** Whether an event's sender names another project than the one its credential is bound to. */
export function contradictsProject(event: StatedEvent, identity: Identity): boolean {
  if (!hasProject(event) || identity.project === undefined) return false;
  return event.project !== undefined && event.project !== identity.project;
}

export interface AttributionOptions {
  readonly gateways: GatewayRules;
  readonly pricing: Pricing;
  readonly accounts: readonly { readonly provider: string; readonly id: string }[];
  /** How a project is shown: by its name, by a hash of it, or not at all. */
  readonly project: 'name' | 'hash' | 'off';
}

/** What is known of a turn before it begins. */
export interface PlannedTurn {
  readonly agent: string;
  readonly provider: string;
  readonly model: string;
  readonly project?: string | undefined;
  readonly accountId?: string | undefined;
  /** Who would serve, as the asker says. */
  readonly upstreamHint?: string | undefined;
}

/** Answers kept at most; a new one beyond that begins anew. */
const UPSTREAMS_REMEMBERED = 1000;

/** Turns what a sender stated into what the ledger books. */
export class Attribution {
  readonly #options: AttributionOptions;
  /** Few questions are asked again and again, and an answer takes some dozen patterns. */
  readonly #upstreams = new Map<string, UpstreamAnswer>();
  #lastUpstream: { provider: string; model: string; hint: string; answer: UpstreamAnswer } | undefined;

  constructor(options: AttributionOptions) {
    this.#options = options;
  }

  /**
   * Adds to an event what the sender does not decide.
   * @param identity whose credential the event came with; its team and user belong to turns only
   */
  attribute(event: StatedEvent, identity: Identity): MeterEvent {
    if (event.kind === 'permission') return event;
    if (event.kind === 'error') return this.#error(event);
    const project = this.#shownProject(identity.project ?? event.project);
    if (event.kind === 'turn') return this.#turn(event, identity, project);
    const { project: _, ...rest } = event;
    return project === undefined ? rest : { ...rest, project };
  }

  /** The labels that a turn would be booked under which has not begun. */
  labelsOf(
    { agent, provider: called, model, project: name, accountId, upstreamHint: hint }: PlannedTurn,
    { team, user, project: bound }: Identity,
  ): ScopedLabels {
    const provider = called.trim().toLowerCase();
    const { upstreamProvider } = this.#upstream({ provider, model, hint });
    return {
      ...{ agent, provider, upstream_provider: upstreamProvider, model },
      account: this.#account(provider, accountId?.trim()),
      project: this.#shownProject(bound ?? name),
      ...{ team, user },
    };
  }

  /** Written out, because nearly every event is one. */
  #turn(stated: StatedTurn, { team, user }: Identity, project: string | undefined): TurnEvent {
    const { model, tokens, costNano } = stated;
    const provider = stated.provider.trim().toLowerCase();
    const { upstreamProvider, evidence } = this.#upstream({ provider, model, hint: stated.upstreamHint });
    const { state, estimatedNano } = this.#options.pricing.price({ provider, model, tokens, costNano });
    const account = this.#account(provider, stated.accountId?.trim());
    const turn: Mutable<TurnEvent> = {
      kind: 'turn',
      agent: stated.agent,
      sessionId: stated.sessionId,
      messageId: stated.messageId,
      phase: stated.phase,
      status: stated.status,
      startedMs: stated.startedMs,
      provider,
      model,
      tokens,
      upstreamProvider,
      upstreamEvidence: evidence,
      pricing: state,
    };
    if (stated.promptId !== undefined) turn.promptId = stated.promptId;
    if (stated.subagentId !== undefined) turn.subagentId = stated.subagentId;
    if (stated.eventId !== undefined) turn.eventId = stated.eventId;
    if (stated.reason !== undefined) turn.reason = stated.reason;
    if (stated.completedMs !== undefined) turn.completedMs = stated.completedMs;
    if (costNano !== undefined) turn.costNano = costNano;
    if (stated.isTitle) turn.isTitle = true;
    if (stated.awaitsSession) turn.awaitsSession = true;
    if (estimatedNano !== undefined) turn.estimatedNano = estimatedNano;
    if (account !== undefined) turn.account = account;
    if (team !== undefined) turn.team = team;
    if (user !== undefined) turn.user = user;
    if (project !== undefined) turn.project = project;
    return turn;
  }

  #error(stated: StatedError): ErrorEvent {
    const provider = stated.provider.trim().toLowerCase();
    const { upstreamProvider } = this.#upstream({ provider, model: stated.model });
    const { providerBasis: _, ...error } = stated;
    return { ...error, provider, upstreamProvider };
  }

  #upstream(question: UpstreamQuestion): UpstreamAnswer {
    const { provider, model, hint = '' } = question;
    const last = this.#lastUpstream;
    if (last && last.provider === provider && last.model === model && last.hint === hint) return last.answer;
    const key = `${provider}\0${model}\0${hint}`;
    let answer = this.#upstreams.get(key);
    if (!answer) {
      if (this.#upstreams.size >= UPSTREAMS_REMEMBERED) this.#upstreams.clear();
      answer = resolveUpstream(question, this.#options.gateways);
      this.#upstreams.set(key, answer);
    }
    this.#lastUpstream = { provider, model, hint, answer };
    return answer;
  }

  /** The account that a sender names, in its configured spelling; else the only one that can have paid. */
  #account(provider: string, named: string | undefined): string | undefined {
    if (this.#options.accounts.length === 0) return named || undefined;
    const at = (id: string | undefined) =>
      this.#options.accounts.filter((account) => account.provider.toLowerCase() === id);
    const own = at(provider);
    const candidates = own.length > 0 ? own : at(PAID_BY.get(provider));
    if (!named) return candidates.length === 1 ? candidates[0]!.id : undefined;
    const same = (account: { readonly id: string }) => account.id.toLowerCase() === named.toLowerCase();
    return (candidates.find(same) ?? this.#options.accounts.find(same))?.id ?? named;
  }

  #shownProject(name: string | undefined): string | undefined {
    if (name === undefined || this.#options.project === 'off') return undefined;
    if (this.#options.project === 'name') return name;
    return createHash('sha256').update(name).digest('hex').slice(0, PROJECT_HASH_CHARS);
  }
}
