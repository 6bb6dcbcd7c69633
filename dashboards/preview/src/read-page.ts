// What a user can read on the page, for tests.

import type { PageReport } from '../page-report.ts';

const isCutOff = (element: Element) =>
  element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== 'visible';

/** Every panel with its words, and those words that do not fit. */
export function readPage(): Omit<PageReport, 'errors'> {
  return {
    title: document.title,
    isTooWide: document.documentElement.scrollWidth > innerWidth,
    panels: [...document.querySelectorAll<HTMLElement>('[data-panel-id]')].map((panel) => ({
      id: Number(panel.dataset.panelId),
      title: panel.dataset.panelTitle ?? '',
      type: panel.dataset.panelType ?? '',
      state: panel.dataset.state as 'done' | 'empty' | 'error' | 'loading',
      // As it is seen, line by line; textContent would run the words together.
      // biome-ignore lint/performance/useDomNodeTextContent: see above
      text: panel.innerText,
      isDrawn: panel.dataset.panelType !== 'timeseries' || panel.querySelector('canvas') !== null,
      cutOff: [...panel.querySelectorAll('*')]
        .filter((element) => element.children.length === 0 && element.textContent?.trim() && isCutOff(element))
        .map((element) => element.textContent ?? ''),
    })),
  };
}
