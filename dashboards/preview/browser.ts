// The preview in a headless Chromium: pictures of dashboards, and what can be read on them.

import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';

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

/** What a user can read of one panel. */
export interface PanelReport {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly state: 'done' | 'empty' | 'error' | 'loading';
  readonly text: string;
  /** Texts that do not fit and end in dots or nothing. */
  readonly cutOff: readonly string[];
}

export interface PageReport {
  readonly title: string;
  readonly panels: readonly PanelReport[];
  /** Failed panels, and what the browser complained of. */
  readonly errors: readonly string[];
  /** Whether it is wider than the window. */
  readonly isTooWide: boolean;
}

export async function openBrowser(executable = CHROMIUM.find((file) => existsSync(file))): Promise<Browser> {
  if (!executable) throw new Error('Chromium is needed to see the dashboards: install the package "chromium"');
  return chromium.launch({
    executablePath: executable,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--force-color-profile=srgb'],
  });
}

/** Opens a dashboard and waits until every panel is drawn. @returns the page, to be closed by the caller */
export async function openDashboard(browser: Browser, look: Look): Promise<{ page: Page; errors: string[] }> {
  // A table draws the rows that are in view, so everything must be.
  const page = await browser.newPage({ viewport: { width: look.width, height: 1200 } });
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('response', (answer) => {
    if (answer.status() >= 400) errors.push(`${answer.status()} ${answer.url()}`);
  });
  await page.goto(`${look.url}/d/${look.dashboard}?theme=${look.theme}&${look.query ?? ''}`);
  const drawn = () => page.waitForFunction(() => window.__pending === 0, undefined, { timeout: DRAWN_MS });
  await drawn();
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width: look.width, height });
  await page.waitForTimeout(500);
  errors.push(...(await page.evaluate(() => window.__errors)));
  return { page, errors };
}

/** Draws a dashboard and writes it as a picture. */
export async function shoot(browser: Browser, look: Look & { readonly file: string }): Promise<void> {
  const { page } = await openDashboard(browser, look);
  await page.screenshot({ path: look.file });
  await page.close();
}

/** Draws a dashboard and tells what is on it. */
export async function readDashboard(browser: Browser, look: Look): Promise<PageReport> {
  const { page, errors } = await openDashboard(browser, look);
  const report = await page.evaluate(() => {
    const isCut = (element: Element) =>
      element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== 'visible';
    return {
      title: document.title,
      isTooWide: document.documentElement.scrollWidth > innerWidth,
      panels: [...document.querySelectorAll<HTMLElement>('[data-panel-id]')].map((panel) => ({
        id: Number(panel.dataset.panelId),
        title: panel.dataset.panelTitle ?? '',
        type: panel.dataset.panelType ?? '',
        state: panel.dataset.state as 'done' | 'empty' | 'error' | 'loading',
        text: panel.innerText,
        cutOff: [...panel.querySelectorAll('*')]
          .filter((element) => element.children.length === 0 && element.textContent?.trim() && isCut(element))
          .map((element) => element.textContent ?? ''),
      })),
    };
  });
  await page.close();
  return { ...report, errors };
}
