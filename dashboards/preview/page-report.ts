// What the page tells of itself to whoever drives the browser.

/** What a user can read of one panel. */
export interface PanelReport {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly state: 'done' | 'empty' | 'error' | 'loading';
  readonly text: string;
  /** False for a chart without a plot. */
  readonly isDrawn: boolean;
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
