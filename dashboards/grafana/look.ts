// What colours mean, everywhere the same: green is well, yellow is near a limit, red is at it, orange asks somebody to
// sign in, grey is not known. Blue and purple say nothing but "this series".

import {
  FieldColorModeId,
  MappingType,
  type SpecialValueMap,
  SpecialValueMatch,
  type ThresholdsConfig,
  ThresholdsMode,
  type ValueMap,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { LIMIT_CRIT, LIMIT_WARN } from '../alerts/expressions.ts';

const steps = (...rest: readonly (readonly [from: number | null, colour: string])[]): ThresholdsConfig => ({
  mode: ThresholdsMode.Absolute,
  steps: rest.map(([value, color]) => ({ value, color })),
});

export const THRESHOLDS = {
  /** A plain number. */
  none: steps([null, 'text']),
  /** Used share of a limit. */
  used: steps([null, 'green'], [LIMIT_WARN, 'yellow'], [LIMIT_CRIT, 'red']),
  /** Used share of a limit when its period ends. */
  forecast: steps([null, 'green'], [1, 'red']),
  /** A share that is good when it is high. */
  good: steps([null, 'red'], [0.5, 'yellow'], [0.8, 'green']),
  /** A share of failures. */
  failing: steps([null, 'green'], [0.05, 'yellow'], [0.2, 'red']),
  /** Money that is left. */
  left: steps([null, 'red'], [0.01, 'green']),
  /** Days that are left. */
  days: steps([null, 'red'], [3, 'yellow'], [7, 'green']),
  /** Seconds since something was last heard. */
  age: steps([null, 'green'], [300, 'yellow'], [900, 'red']),
  /** Seconds until something starts anew. */
  soon: steps([null, 'red'], [900, 'yellow'], [3600, 'green']),
  /** 1 is well. */
  up: steps([null, 'red'], [1, 'green']),
  /** Anything but 0 is a fault. */
  zero: steps([null, 'green'], [1e-9, 'red']),
} as const;
export type ThresholdName = keyof typeof THRESHOLDS;

const textOf = (texts: Readonly<Record<string, readonly [text: string, color: string]>>): ValueMap => ({
  type: MappingType.ValueToText,
  options: Object.fromEntries(
    Object.entries(texts).map(([value, [text, color]], index) => [value, { text, color, index }]),
  ),
});

/** What no number can say: unknown is not zero. */
export const UNKNOWN_IS_DASH: SpecialValueMap = {
  type: MappingType.SpecialValue,
  options: { match: SpecialValueMatch.NullAndNan, result: { text: '–', color: 'text', index: 99 } },
};

/**
 * States of an account. The place is the code, and the greatest code is shown: a bridge that knows hides one that does not,
 * and of several accounts the one that wants somebody most is told.
 */
export const STATUSES = ['unknown', 'unsupported', 'ok', 'near_limit', 'error', 'auth_required', 'limited'] as const;
/** What is above it wants somebody. */
export const OK_CODE = STATUSES.indexOf('ok');
export const NOT_POLLED = STATUSES.length;
const STATUS_LOOKS: Readonly<Record<(typeof STATUSES)[number], readonly [text: string, colour: string]>> = {
  unknown: ['…', '#8e8e8e'],
  unsupported: ['N/A', '#8e8e8e'],
  ok: ['OK', 'green'],
  near_limit: ['WARN', 'yellow'],
  error: ['ERR', 'red'],
  auth_required: ['AUTH', 'orange'],
  limited: ['LIMIT', 'red'],
};
export const STATUS_TEXT = textOf({
  ...Object.fromEntries(STATUSES.map((status, code) => [code, STATUS_LOOKS[status]])),
  [NOT_POLLED]: ['not polled', '#8e8e8e'],
});
/** What state a budget is in, by code: the greatest code wants somebody most. */
export const BUDGET_STATE_CODES = { leadsOver: 1, warns: 2, usedUp: 3, stops: 4 } as const;
export const BUDGET_STATE_TEXT = textOf({
  0: ['OK', 'green'],
  [BUDGET_STATE_CODES.leadsOver]: ['TOO FAST', 'yellow'],
  [BUDGET_STATE_CODES.warns]: ['WARN', 'yellow'],
  [BUDGET_STATE_CODES.usedUp]: ['USED UP', 'red'],
  [BUDGET_STATE_CODES.stops]: ['STOPS', 'red'],
});
/** Whether a figure is everything, or only what arrived. */
export const COUNTED_TEXT = textOf({ 0: ['all', 'text'], 1: ['lower bound', 'text'] });
export const YES_NO = textOf({ 0: ['no', 'text'], 1: ['yes', 'text'] });
export const UP_DOWN = textOf({ 0: ['DOWN', 'red'], 1: ['UP', 'green'] });
export const FAILING = textOf({ 0: ['works', 'green'], 1: ['failing', 'red'] });
export const BALANCED = textOf({ 0: ['balanced', 'green'] });

/** Each series gets a colour by its name, the same one in every chart. */
export const BY_NAME = { mode: FieldColorModeId.PaletteClassicByName };
export const BY_THRESHOLDS = { mode: FieldColorModeId.Thresholds };
/** Series of one kind: the same colour, lighter and darker. */
export const shadesOf = (fixedColor: string) => ({ mode: FieldColorModeId.Shades, fixedColor });
export const plain = (fixedColor: string) => ({ mode: FieldColorModeId.Fixed, fixedColor });

/** The colours that OpenUsage gives its tiles, by upstream provider: the same in every chart. */
export const PROVIDER_COLOURS: Readonly<Record<string, string>> = {
  anthropic: '#fab387',
  openai: '#a6e3a1',
  google: '#89b4fa',
  azure: '#7287fd',
  groq: '#f9e2af',
  mistral: '#f2cdcd',
  deepseek: '#89dceb',
  xai: '#eba0ac',
  perplexity: '#04a5e5',
  moonshot: '#cba6f7',
  zai: '#74c7ec',
  alibaba: '#fe640b',
  unknown: '#8e8e8e',
};
