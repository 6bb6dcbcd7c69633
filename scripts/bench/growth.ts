// How the two things that are done all day grow: booking turns with how many a ledger holds, a scrape with its series.

import path from 'node:path';
import { BenchLedger, scratchFolder, turnRecord } from './bench-ledger.ts';
import { perSecond } from './measure.ts';
import { scrapeMs, startOurs } from './scrape.ts';

const TURNS = [1e4, 1e5, 1e6, 1e7];
const SERIES = [1e2, 1e3, 1e4, 1e5];
const MEASURED_TURNS = 10_000;
const FILL_BATCH = 5000;
const SCRAPES = 9;
const WARM_UP_SCRAPES = 18;

export interface Growth {
  readonly booking: readonly { readonly turns: number; readonly perSecond: number; readonly bytesPerTurn: number }[];
  readonly scraping: readonly { readonly series: number; readonly ms: number }[];
}

/** @param maxTurns the largest ledger; ten million take some minutes and two gigabytes */
export async function grow(maxTurns: number): Promise<Growth> {
  const { dir, clear } = scratchFolder();
  const booking: { turns: number; perSecond: number; bytesPerTurn: number }[] = [];
  const scraping: { series: number; ms: number }[] = [];
  const bench = new BenchLedger(path.join(dir, 'ledger.db'));
  try {
    let held = 0;
    for (const turns of TURNS.filter((each) => each <= maxTurns)) {
      for (; held < turns - MEASURED_TURNS; held += FILL_BATCH) await bench.book(records(FILL_BATCH));
      const batches = Array.from({ length: MEASURED_TURNS / 1000 }, () => records(1000));
      const rate = await perSecond(MEASURED_TURNS, async () => {
        for (const batch of batches) await bench.book(batch);
      });
      held += MEASURED_TURNS;
      booking.push({ turns, perSecond: rate, bytesPerTurn: bench.ledger.sizeBytes() / held });
    }
  } finally {
    await bench.close();
    clear();
  }
  for (const series of SERIES) {
    const ours = await startOurs(series);
    await scrapeMs(ours, WARM_UP_SCRAPES);
    const ms = await scrapeMs(ours, SCRAPES);
    scraping.push({ series: (await ours.lines()).length, ms });
    await ours.stop();
  }
  return { booking, scraping };
}

const records = (count: number) => Array.from({ length: count }, () => turnRecord());

const whole = (value: number) => Math.round(value).toLocaleString('en');

export function growthTables({ booking, scraping }: Growth): string {
  return [
    '| turns in the ledger | booked per second | file, bytes a turn |',
    '|---|---|---|',
    ...booking.map((row) => `| ${whole(row.turns)} | ${whole(row.perSecond)} | ${whole(row.bytesPerTurn)} |`),
    '',
    '| series | a scrape, ms |',
    '|---|---|',
    ...scraping.map(({ series, ms }) => `| ${whole(series)} | ${ms.toFixed(1)} |`),
  ].join('\n');
}

const WIDTH = 360;
const HEIGHT = 220;
const MARGIN = { left: 58, right: 16, top: 34, bottom: 40 };

interface Plot {
  readonly title: string;
  readonly xTitle: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  readonly yTop: number;
  readonly yBottom: number;
}

/** Both as one picture, on logarithmic axes. */
export function growthPicture({ booking, scraping }: Growth): string {
  const plots: Plot[] = [
    {
      ...{ title: 'turns booked per second', xTitle: 'turns in the ledger', yBottom: 1e3, yTop: 1e5 },
      points: booking.map(({ turns, perSecond }) => [turns, perSecond]),
    },
    {
      ...{ title: 'a scrape, ms', xTitle: 'series', yBottom: 0.1, yTop: 100 },
      points: scraping.map(({ series, ms }) => [series, ms]),
    },
  ];
  const body = plots.map((plot, n) => `<g transform="translate(${n * WIDTH} 0)">${drawn(plot)}</g>`).join('\n');
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11">\n` +
    '<title>How booking grows with the ledger, and a scrape with its series</title>\n' +
    `<rect width="100%" height="100%" fill="#fff"/>\n${body}\n</svg>\n`
  );
}

function drawn({ title, xTitle, points, yTop, yBottom }: Plot): string {
  const xs = points.map(([x]) => Math.log10(x));
  const [left, right] = [Math.floor(Math.min(...xs) + 0.01), Math.ceil(Math.max(...xs) - 0.01)];
  const [bottom, top] = [Math.log10(yBottom), Math.log10(yTop)];
  const at = (x: number, y: number) => {
    const across = (Math.log10(x) - left) / (right - left || 1);
    const up = (Math.log10(y) - bottom) / (top - bottom);
    return [
      (MARGIN.left + across * (WIDTH - MARGIN.left - MARGIN.right)).toFixed(1),
      (HEIGHT - MARGIN.bottom - up * (HEIGHT - MARGIN.top - MARGIN.bottom)).toFixed(1),
    ] as const;
  };
  const text = (x: string | number, y: string | number, what: string, anchor = 'middle') =>
    `<text x="${x}" y="${y}" text-anchor="${anchor}" fill="#444">${what}</text>`;
  const lines: string[] = [text(WIDTH / 2, 18, title), text(WIDTH / 2, HEIGHT - 8, xTitle)];
  for (let power = Math.ceil(bottom); power <= top; power++) {
    const [, y] = at(10 ** left, 10 ** power);
    lines.push(`<path d="M${MARGIN.left} ${y}H${WIDTH - MARGIN.right}" stroke="#ddd"/>`);
    lines.push(text(MARGIN.left - 6, Number(y) + 4, (10 ** power).toLocaleString('en'), 'end'));
  }
  for (let power = left; power <= right; power++) {
    lines.push(text(at(10 ** power, yBottom)[0], HEIGHT - MARGIN.bottom + 15, `10^${power}`));
  }
  const path = points.map(([x, y], n) => `${n === 0 ? 'M' : 'L'}${at(x, y).join(' ')}`).join('');
  lines.push(`<path d="${path}" fill="none" stroke="#3274d9" stroke-width="2"/>`);
  for (const [x, y] of points) {
    const [cx, cy] = at(x, y);
    lines.push(`<circle cx="${cx}" cy="${cy}" r="3" fill="#3274d9"/>`);
    lines.push(text(cx, Number(cy) - 8, y >= 100 ? whole(y) : y.toFixed(1)));
  }
  return lines.join('\n');
}
