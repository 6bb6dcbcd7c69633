// How Grafana turns the range of a dashboard into what Prometheus is asked for. It imports nothing, so that tests ask as
// Grafana does.

/** As the provisioned datasource says: `jsonData.timeInterval`. */
const SCRAPE_S = 15;

/** Times in Unix seconds. */
export interface AskedRange {
  readonly startS: number;
  readonly endS: number;
  readonly stepS: number;
}

/**
 * Both ends rounded down to the step, which is counted from midnight in the dashboard's time zone: with a step of a day a
 * chart ends at the last midnight and not now.
 * @param utcOffsetS what that zone is ahead of UTC, in seconds
 */
export function aligned({ startS, endS, stepS }: AskedRange, utcOffsetS = 0): AskedRange {
  const down = (timeS: number) => Math.floor((timeS + utcOffsetS) / stepS) * stepS - utcOffsetS;
  return { startS: down(startS), endS: down(endS), stepS };
}

/** A step in seconds that is not smaller than the panel's own, or than the scrape interval. */
export const atLeast = (stepS: number, leastS: number = SCRAPE_S): number => Math.max(stepS, leastS);

/** Grafana's own variables; of the range that was asked for, before it is rounded. */
export function timeVariables({ startS, endS, stepS }: AskedRange): Record<string, string> {
  return {
    __interval: `${stepS}s`,
    __rate_interval: `${Math.max(stepS + SCRAPE_S, 4 * SCRAPE_S)}s`,
    __range: `${Math.round(endS - startS)}s`,
    __range_s: String(Math.round(endS - startS)),
    '__to:date:seconds': String(Math.floor(endS)),
  };
}
