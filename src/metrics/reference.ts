// The catalogue as Markdown: docs/metrics.md.

import { BRIDGE, type MetricFamily, TOLL } from './catalogue.ts';

interface Group {
  readonly title: string;
  readonly text: string;
  readonly holds: (family: MetricFamily) => boolean;
}

/** A family belongs to the first group that holds it. */
const GROUPS: readonly Group[] = [
  {
    title: 'Tiles and windows',
    text: 'What the tiles show, computed by the ledger on the time of the turns. Windows overlap: never sum over `window`. `today` and `month` are calendar units in the configured time zone; `3d`, `7d` and `30d` are the last 72, 168 and 720 hours.',
    holds: ({ name }) => /^toll_(window_|tile_|upstream_)/.test(name),
  },
  {
    title: 'Accounts',
    text: 'What polls reported. A reading that is unknown or expired is absent, never 0; `toll_account_status` then says `unknown`.',
    holds: ({ name, labels }) => name.startsWith('toll_') && labels[0] === 'provider' && labels[1] === 'account',
  },
  {
    title: 'Turns',
    text: 'What was observed, turn by turn. Counters are restored from the ledger before the first scrape is answered: they never reset and never fall. What a later description takes back goes to a counter of corrections, so **net = counter − corrections**.',
    holds: ({ name }) => name.startsWith('toll_'),
  },
  {
    title: 'Semantic conventions',
    text: 'The same turns under the names that OpenTelemetry gives them, for interoperability.',
    holds: ({ name }) => name.startsWith('gen_ai_'),
  },
  {
    title: 'The bridge',
    text: 'The health of the bridge itself. At rest, for every source: received = recorded + updated + duplicate + ignored + rejected. Beside these stand `nodejs_*` and `v8js_*`, as `@opentelemetry/instrumentation-runtime-node` names them.',
    holds: () => true,
  },
];

/** The metric reference, as Markdown with a closing line break. */
export function metricReference(): string {
  const families: readonly MetricFamily[] = [...Object.values(TOLL), ...Object.values(BRIDGE)];
  const byGroup = Map.groupBy(families, (family) => GROUPS.find((group) => group.holds(family)) as Group);
  const sections = GROUPS.map((group) => `## ${group.title}\n\n${group.text}\n\n${table(byGroup.get(group) ?? [])}`);
  return `<!-- Generated from src/metrics/catalogue.ts by \`npm run generate\`. Do not edit. -->

# Metrics

Every metric of the bridge, as \`/metrics\` shows it. Base units: USD, seconds, ratios from 0 to 1, bytes.
A label in [brackets] is left out where it has no value.

${sections.join('\n')}`;
}

function table(families: readonly MetricFamily[]): string {
  const rows = families.map((family) => {
    const { name, type, unit, labels, optional = [], help, otelName, buckets } = family;
    const labelText = labels.map((label) => (optional.includes(label) ? `[\`${label}\`]` : `\`${label}\``)).join(', ');
    const bounds = buckets ? ` Buckets: ${buckets.join(', ')}.` : '';
    return row([`\`${name}\``, type, `\`${unit}\``, labelText || 'none', cell(help) + bounds, `\`${otelName}\``]);
  });
  const head = [row(['Metric', 'Type', 'Unit', 'Labels', 'Meaning', 'OpenTelemetry name']), `|${' --- |'.repeat(6)}`];
  return `${[...head, ...rows].join('\n')}\n`;
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}
