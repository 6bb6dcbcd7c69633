// A real Prometheus that scrapes what a test serves, asked through its HTTP API.

import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';

const READY_TRIES = 400;

/** A TCP port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

/** Waits until something is true; says what it waited for when it never is. */
export async function until(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  tries = READY_TRIES,
): Promise<void> {
  for (let i = 0; i < tries; i++) {
    if (await isTrue()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what}: it did not happen`);
}

export interface Point {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Range {
  readonly startS: number;
  readonly endS: number;
  readonly stepS: number;
}

export class Prometheus {
  readonly #child: ChildProcess;
  readonly url: string;

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.url = url;
  }

  /** @param options.targets host:port of what to scrape; `dir` takes the configuration and the data */
  static async start(options: {
    dir: string;
    targets: readonly string[];
    scrapeMs: number;
    /** What its targets are called, instead of by their addresses. */
    instance?: string;
    /** Further settings of the job: how it reaches its targets. */
    job?: object;
  }): Promise<Prometheus> {
    const port = await freePort();
    const file = path.join(options.dir, 'prometheus.yml');
    writeFileSync(
      file,
      [
        'global:',
        `  scrape_interval: ${options.scrapeMs}ms`,
        `  scrape_timeout: ${options.scrapeMs}ms`,
        'scrape_configs:',
        '  - job_name: tollbridge',
        ...Object.entries(options.job ?? {}).map(([key, value]) => `    ${key}: ${JSON.stringify(value)}`),
        `    static_configs: [{ targets: ${JSON.stringify(options.targets)} }]`,
        ...(options.instance
          ? [`    relabel_configs: [{ target_label: instance, replacement: ${options.instance} }]`]
          : []),
        '',
      ].join('\n'),
    );
    const child = spawn(
      'prometheus',
      [
        `--config.file=${file}`,
        `--storage.tsdb.path=${path.join(options.dir, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        ...(options.instance ? ['--storage.tsdb.retention.time=400d'] : ['--query.lookback-delta=2m']),
        '--log.level=error',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let said = '';
    child.stderr?.on('data', (chunk) => {
      said += chunk;
    });
    child.on('error', (error) => {
      said += error.message;
    });
    const prometheus = new Prometheus(child, `http://127.0.0.1:${port}`);
    await until('the start of Prometheus', async () => {
      if (child.exitCode !== null) throw new Error(`prometheus ended: ${said}`);
      return fetch(`http://127.0.0.1:${port}/-/ready`).then(
        (answer) => answer.ok,
        () => false,
      );
    });
    return prometheus;
  }

  /** An instant query. @param atS Unix seconds; now when left out */
  async query(promql: string, atS?: number): Promise<Point[]> {
    const url = new URL('/api/v1/query', this.url);
    url.searchParams.set('query', promql);
    if (atS !== undefined) url.searchParams.set('time', String(atS));
    const answer = (await (await fetch(url)).json()) as {
      status: string;
      error?: string;
      data: { result: { metric: Record<string, string>; value: [number, string] }[] };
    };
    if (answer.status !== 'success') throw new Error(`${promql}: ${answer.error}`);
    return answer.data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
  }

  /** A range query: the last value of each series. Times and step in Unix seconds. */
  async queryRange(promql: string, range: Range): Promise<Point[]> {
    const series = await this.#range(promql, range);
    return series.map(({ metric, values }) => ({ metric, value: Number(values.at(-1)?.[1]) }));
  }

  /** The same: the value of each series at one point of it. */
  async rangeAt(promql: string, range: Range, atS: number): Promise<Point[]> {
    const series = await this.#range(promql, range);
    return series.flatMap(({ metric, values }) =>
      values.filter(([time]) => time === atS).map(([, value]) => ({ metric, value: Number(value) })),
    );
  }

  async #range(promql: string, { startS, endS, stepS }: Range) {
    const url = new URL('/api/v1/query_range', this.url);
    const asked = { query: promql, start: String(startS), end: String(endS), step: String(stepS) };
    for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
    const answer = (await (await fetch(url)).json()) as {
      status: string;
      error?: string;
      data: { result: { metric: Record<string, string>; values: [number, string][] }[] };
    };
    if (answer.status !== 'success') throw new Error(`${promql}: ${answer.error}`);
    return answer.data.result;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.exitCode !== null) return;
    this.#child.kill('SIGKILL');
    await ended;
  }
}
