// As much of Grafana's classic dashboard schema as the preview reads.

import type { DataTransformerConfig, FieldConfigSource } from '@grafana/data';

export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat?: string;
  readonly range?: boolean;
  readonly format?: 'table' | 'time_series';
  readonly interval?: string;
}

export interface GridPos {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

export interface PanelModel {
  readonly id: number;
  readonly type: string;
  readonly title?: string;
  readonly description?: string;
  readonly gridPos: GridPos;
  readonly targets?: readonly Target[];
  readonly options?: Readonly<Record<string, unknown>>;
  readonly fieldConfig?: FieldConfigSource;
  readonly transformations?: readonly DataTransformerConfig[];
  readonly repeat?: string;
  readonly repeatDirection?: 'h' | 'v';
  readonly maxPerRow?: number;
  readonly timeFrom?: string;
  readonly interval?: string;
  readonly collapsed?: boolean;
  readonly panels?: readonly PanelModel[];
}

export interface VariableModel {
  readonly name: string;
  readonly label?: string;
  readonly type: 'datasource' | 'query' | 'custom' | 'constant';
  readonly query: string | { readonly query: string };
  readonly regex?: string;
  readonly multi?: boolean;
  readonly includeAll?: boolean;
  /** What stands for all values in a query, as it is. */
  readonly allValue?: string;
  readonly sort?: number;
  readonly hide?: number;
  /** Not taken from the address. */
  readonly skipUrlSync?: boolean;
  readonly current?: { readonly text: string | readonly string[]; readonly value: string | readonly string[] };
}

export interface DashboardModel {
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly PanelModel[];
  readonly time: { readonly from: string; readonly to: string };
  readonly timezone: 'utc' | 'browser';
  readonly templating: { readonly list: readonly VariableModel[] };
}
