// The registries of field options and transformations that Grafana's core fills at its start, and the defaults of its
// panel plugins. Both are not in its libraries.

import {
  dataLinksOverrideProcessor,
  displayNameOverrideProcessor,
  FieldColorModeId,
  FieldConfigOptionsRegistry,
  FieldConfigProperty,
  type FieldConfigPropertyItem,
  type FieldConfigSource,
  identityOverrideProcessor,
  numberOverrideProcessor,
  standardEditorsRegistry,
  standardFieldConfigEditorRegistry,
  standardTransformers,
  standardTransformersRegistry,
  stringOverrideProcessor,
  ThresholdsMode,
  thresholdsOverrideProcessor,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';

type Item = FieldConfigPropertyItem;
const nothing = () => null;

function item(id: string, process: unknown, custom: Partial<Item> = {}): Item {
  const base = { id, path: id, name: id, editor: nothing, override: nothing, process, settings: {} };
  return { ...base, shouldApply: () => true, getItemsCount: () => 0, ...custom } as unknown as Item;
}

const STANDARD: readonly Item[] = [
  item(FieldConfigProperty.Unit, unitOverrideProcessor),
  item(FieldConfigProperty.Min, numberOverrideProcessor),
  item(FieldConfigProperty.Max, numberOverrideProcessor),
  item(FieldConfigProperty.Decimals, numberOverrideProcessor),
  item(FieldConfigProperty.DisplayName, displayNameOverrideProcessor),
  item(FieldConfigProperty.NoValue, stringOverrideProcessor),
  item(FieldConfigProperty.Thresholds, thresholdsOverrideProcessor),
  item(FieldConfigProperty.Mappings, valueMappingsOverrideProcessor),
  item(FieldConfigProperty.Links, dataLinksOverrideProcessor),
  item(FieldConfigProperty.Color, identityOverrideProcessor),
  item('description', stringOverrideProcessor),
  item('fieldMinMax', identityOverrideProcessor),
];
/** Options of single panel types that our dashboards set. */
const CUSTOM = [
  ...['cellOptions', 'align', 'width', 'minWidth', 'hidden', 'hideFrom', 'inspect', 'filterable'],
  ...['drawStyle', 'lineInterpolation', 'lineWidth', 'lineStyle', 'fillOpacity', 'gradientMode', 'showPoints'],
  ...['pointSize', 'spanNulls', 'stacking', 'thresholdsStyle', 'axisPlacement', 'axisLabel', 'axisColorMode'],
  ...['axisSoftMin', 'axisSoftMax', 'axisGridShow', 'axisCenteredZero', 'axisBorderShow', 'scaleDistribution'],
  ...['barAlignment', 'barWidthFactor', 'barMaxWidth', 'transform', 'insertNulls'],
];

/** Fills Grafana's registries; once, before anything is drawn. */
export function fillRegistries(): void {
  standardFieldConfigEditorRegistry.setInit(() => [...STANDARD]);
  standardEditorsRegistry.setInit(() => []);
  // Some are listed twice, which the registry refuses.
  const transformers = new Map(Object.values(standardTransformers).map((each) => [each.id, each]));
  standardTransformersRegistry.setInit(() =>
    [...transformers.values()].map(
      (transformation) =>
        ({ id: transformation.id, name: transformation.name, transformation, editor: nothing }) as never,
    ),
  );
}

export function fieldRegistry(): FieldConfigOptionsRegistry {
  const registry = new FieldConfigOptionsRegistry();
  for (const each of STANDARD) registry.register(each);
  for (const name of CUSTOM) {
    registry.register(item(`custom.${name}`, identityOverrideProcessor, { path: name, isCustom: true }));
  }
  return registry;
}

const CUSTOM_DEFAULTS: Readonly<Record<string, object>> = {
  timeseries: {
    ...{ drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none' },
    ...{ barAlignment: 0, barWidthFactor: 0.6, spanNulls: false, insertNulls: false, showPoints: 'auto', pointSize: 5 },
    ...{ axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text', axisBorderShow: false, axisCenteredZero: false },
    stacking: { mode: 'none', group: 'A' },
    scaleDistribution: { type: 'linear' },
    hideFrom: { tooltip: false, viz: false, legend: false },
    thresholdsStyle: { mode: 'off' },
  },
  table: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false, filterable: false },
};

/** A panel's field configuration over the defaults of its type. */
export function withDefaults(type: string, stated: FieldConfigSource | undefined): FieldConfigSource {
  const { defaults = {}, overrides = [] } = stated ?? {};
  const isChart = type === 'timeseries';
  const thresholds = defaults.thresholds ?? {
    mode: ThresholdsMode.Absolute,
    steps: [{ value: Number.NEGATIVE_INFINITY, color: 'green' }],
  };
  return {
    defaults: {
      ...defaults,
      color: defaults.color ?? { mode: isChart ? FieldColorModeId.PaletteClassic : FieldColorModeId.Thresholds },
      thresholds: lowestFirst(thresholds),
      custom: { ...CUSTOM_DEFAULTS[type], ...defaults.custom },
    },
    overrides: overrides.map((override) => ({
      ...override,
      properties: override.properties.map((property) =>
        property.id === 'thresholds' ? { ...property, value: lowestFirst(property.value) } : property,
      ),
    })),
  };
}

/** In JSON the lowest step has no value, because minus infinity has no number there. */
const lowestFirst = <T extends { steps: { value: number | null; color: string }[] }>(thresholds: T) => ({
  ...thresholds,
  steps: thresholds.steps.map((step) => ({ ...step, value: step.value ?? Number.NEGATIVE_INFINITY })),
});
