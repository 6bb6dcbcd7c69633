// Variables: what they can be, what is chosen, and how they are written into text, queries and links.

import type { VariableModel } from './model';
import type { Prometheus } from './prometheus';

export interface Option {
  readonly text: string;
  readonly value: string;
}

export interface Variable {
  readonly model: VariableModel;
  readonly options: readonly Option[];
  /** Those that are chosen; of a variable that takes one value, one. */
  readonly chosen: readonly Option[];
}

export type Variables = ReadonlyMap<string, Variable>;
/** Values that only hold in one place, such as `__rate_interval`. */
export type Scoped = Readonly<Record<string, string>>;

const PLACEHOLDER = /\$(?:\{([\w.]+)(?::([\w:]+))?\}|(\w+))/g;

/** Characters that a regular expression inside a PromQL string must escape twice. */
const escapeRegex = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\\\$&');

function asRegex(options: readonly Option[]): string {
  const values = options.map(({ value }) => escapeRegex(value));
  return values.length === 1 ? values[0]! : `(${values.join('|')})`;
}

/**
 * Fills the placeholders of a text. One that nobody knows stays as it is, as in Grafana.
 * @param isQuery whether it is PromQL, where several values become a regular expression
 */
export function fill(text: string, variables: Variables, scoped: Scoped = {}, isQuery = false): string {
  return text.replace(
    PLACEHOLDER,
    (placeholder, braced: string | undefined, format: string | undefined, bare: string) => {
      const name = braced ?? bare;
      const local = scoped[format ? `${name}:${format}` : name] ?? scoped[name];
      if (local !== undefined) return local;
      const variable = variables.get(name);
      if (!variable) return placeholder;
      const { model, chosen, options } = variable;
      if (isQuery && model.allValue !== undefined && chosen.length === options.length) return model.allValue;
      switch (format ?? (isQuery && model.multi ? 'regex' : undefined)) {
        case 'regex':
          return asRegex(chosen);
        case 'pipe':
          return chosen.map(({ value }) => value).join('|');
        case 'text':
          return chosen.map((option) => option.text).join(' + ');
        case 'queryparam':
          return chosen.map(({ value }) => `var-${name}=${encodeURIComponent(value)}`).join('&');
        default:
          return chosen.map(({ value }) => value).join(isQuery ? ',' : ' + ');
      }
    },
  );
}

/** The variables of a dashboard, each with what the address chose, or else what the dashboard says. */
export async function resolveVariables(
  models: readonly VariableModel[],
  address: URLSearchParams,
  prometheus: Prometheus,
): Promise<Variables> {
  const variables = new Map<string, Variable>();
  // In order: a query may name the variables before it.
  for (const model of models) {
    const options = await optionsOf(model, variables, prometheus);
    variables.set(model.name, {
      model,
      options,
      chosen: chosenOf(model, options, model.skipUrlSync ? [] : address.getAll(`var-${model.name}`)),
    });
  }
  return variables;
}

async function optionsOf(model: VariableModel, variables: Variables, prometheus: Prometheus): Promise<Option[]> {
  const query = typeof model.query === 'string' ? model.query : model.query.query;
  switch (model.type) {
    case 'datasource':
      return [{ text: 'Prometheus', value: 'prometheus' }];
    case 'custom':
      return query.split(',').map((part) => {
        const [text, value] = part.split(' : ').map((each) => each.trim());
        return { text: text!, value: value ?? text! };
      });
    case 'constant':
      return [{ text: query, value: query }];
    case 'query':
      return sorted(model, matched(model, await prometheus.variableQuery(fill(query, variables, {}, true))));
  }
}

/** What the variable's regular expression makes of an answer: named groups, else the first group, else all of it. */
function matched({ regex }: VariableModel, answers: readonly string[]): Option[] {
  if (!regex) return answers.map((text) => ({ text, value: text }));
  const pattern = new RegExp(regex.replace(/^\/|\/$/g, ''));
  const options = answers.flatMap((answer): Option[] => {
    const match = pattern.exec(answer);
    if (!match) return [];
    const value = match.groups?.value ?? match[1] ?? match[0];
    return [{ text: match.groups?.text ?? value, value }];
  });
  return [...new Map(options.map((option) => [option.value, option])).values()];
}

const sorted = ({ sort }: VariableModel, options: Option[]): Option[] =>
  sort ? options.sort((a, b) => (a.text < b.text ? -1 : 1)) : options;

function chosenOf(model: VariableModel, options: readonly Option[], asked: readonly string[]): readonly Option[] {
  const stated = asked.length > 0 ? asked : [model.current?.value ?? []].flat();
  const chosen = options.filter(({ value }) => stated.includes(value));
  if (chosen.length > 0) return chosen;
  return model.multi || model.includeAll ? options : options.slice(0, 1);
}
