// The preview in a headless Chromium: pictures of dashboards, and what can be read on them.

import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { PageReport } from './page-report.ts';

/** Where Debian and others put it. */
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const DRAWN_MS = 120_000;

export interface Look {
  /** The address of the preview, without a path. */
  readonly url: string;
  readonly dashboard: string;
  readonly theme: 'dark' | 'light';
  /** In pixels. */
  readonly width: number;
  /** Variables and range, as Grafana's addresses have them: `var-window=today&from=now-1h`. */
  readonly query?: string;
}

export async function openBrowser(executable = CHROMIUM.find((file) => existsSync(file))): Promise<Browser> {
  if (!executable) throw new Error('Chromium is needed to see the dashboards: install the package "chromium"');
  return chromium.launch({
    executablePath: executable,
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-background-networking',
      '--force-color-profile=srgb',
    ],
  });
}

/** Opens a dashboard and waits until every panel is drawn. @returns the page, to be closed by the caller */
export async function openDashboard(browser: Browser, look: Look): Promise<{ page: Page; errors: string[] }> {
  // A table draws the rows that are in view, so everything must be.
  const page = await browser.newPage({ viewport: { width: look.width, height: 1200 } });
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('response', (answer) => {
    // Another typeface will do.
    if (answer.status() >= 400 && !answer.url().includes('/fonts/')) errors.push(`${answer.status()} ${answer.url()}`);
  });
  await page.goto(`${look.url}/d/${look.dashboard}?theme=${look.theme}&${look.query ?? ''}`);
  await page.waitForFunction('window.__pending === 0', undefined, { timeout: DRAWN_MS });
  const height = await page.evaluate<number>('document.documentElement.scrollHeight');
  await page.setViewportSize({ width: look.width, height });
  await page.waitForTimeout(500);
  errors.push(...(await page.evaluate<string[]>('window.__errors')));
  return { page, errors };
}

/**
 * Draws a dashboard and writes it as a picture.
 * @param look.height where to cut it off; all of it when left out
 * @param look.band the title of the only row to take
 */
export async function shoot(browser: Browser, look: Look & Picture): Promise<void> {
  const { page } = await openDashboard(browser, look);
  const { width, height, band, file } = look;
  const part = band === undefined ? height && { y: 0, height } : await placeOf(page, band);
  await page.screenshot({ path: file, ...(part && { clip: { x: 0, width, ...part } }) });
  await page.close();
}

interface Picture {
  readonly file: string;
  readonly height?: number;
  readonly band?: string;
}

/** From where to where a row reaches on its page. @throws Error when there is none of this title */
async function placeOf(page: Page, band: string): Promise<{ y: number; height: number }> {
  const tops = await page
    .locator('.row-title')
    .evaluateAll((titles) =>
      titles.map((title) => ({ title: title.textContent, y: title.getBoundingClientRect().top })),
    );
  const at = tops.findIndex(({ title }) => title === band);
  if (at < 0) throw new Error(`the dashboard has no row ${band}`);
  const y = tops[at]!.y;
  return { y, height: (tops[at + 1]?.y ?? page.viewportSize()!.height) - y };
}

/** Draws a dashboard and tells what is on it. */
export async function readDashboard(browser: Browser, look: Look): Promise<PageReport> {
  const { page, errors } = await openDashboard(browser, look);
  const report = await page.evaluate<Omit<PageReport, 'errors'>>('window.__read()');
  await page.close();
  return { ...report, errors };
}
