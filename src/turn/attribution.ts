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
    const { project: name, ...rest } = ofBoundProject(event, identity);
    const shown = this.#shownProject(name);
    const project = shown === undefined ? {} : { project: shown };
    if (rest.kind === 'turn') return { ...this.#turn(rest, identity), ...project };
    return { ...rest, ...project };
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

  #turn(stated: Omit<StatedTurn, 'project'>, { team, user }: Identity): TurnEvent {
    const { upstreamHint: hint, accountId, statedIdentity: _, ...turn } = stated;
    const { pricing } = this.#options;
    const provider = turn.provider.trim().toLowerCase();
    const { upstreamProvider, evidence } = this.#upstream({ provider, model: turn.model, hint });
    const { state, estimatedNano } = pricing.price({ ...turn, provider });
    const account = this.#account(provider, accountId?.trim());
    return {
      ...turn,
      provider,
      upstreamProvider,
      upstreamEvidence: evidence,
      pricing: state,
      ...(estimatedNano !== undefined && { estimatedNano }),
      ...(account !== undefined && { account }),
      ...(team !== undefined && { team }),
      ...(user !== undefined && { user }),
    };
  }

  #error(stated: StatedError): ErrorEvent {
    const provider = stated.provider.trim().toLowerCase();
    const { upstreamProvider } = this.#upstream({ provider, model: stated.model });
    return { ...stated, provider, upstreamProvider };
  }

  #upstream(question: UpstreamQuestion): UpstreamAnswer {
    const { provider, model, hint = '' } = question;
    const key = `${provider}\0${model}\0${hint}`;
    const known = this.#upstreams.get(key);
    if (known) return known;
    if (this.#upstreams.size >= UPSTREAMS_REMEMBERED) this.#upstreams.clear();
    const answer = resolveUpstream(question, this.#options.gateways);
    this.#upstreams.set(key, answer);
    return answer;
  }

  /** The account that a sender names, in its configured spelling; else the only one that can have paid. */
  #account(provider: string, named: string | undefined): string | undefined {
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
