// Where each panel stands, with rows and panels that repeat written out.

import type { GridPos, PanelModel } from './model';
import type { Option, Variables } from './variables';

const COLUMNS = 24;

export interface Placed {
  readonly panel: PanelModel;
  readonly gridPos: GridPos;
  /** With the one value that a copy is for. */
  readonly variables: Variables;
  readonly key: string;
}

const chosen = (variables: Variables, name: string): readonly Option[] => variables.get(name)?.chosen ?? [];

function choosing(variables: Variables, name: string, option: Option): Variables {
  const variable = variables.get(name)!;
  return new Map([...variables, [name, { ...variable, chosen: [option] }]]);
}

/** Everything to draw, from top to bottom; collapsed rows are opened, because one wants to see what is in them. */
export function layOut(panels: readonly PanelModel[], variables: Variables): Placed[] {
  const placed: Placed[] = [];
  let bottom = 0;
  for (const { row, inside } of bandsOf(panels)) {
    const copies = row?.repeat
      ? chosen(variables, row.repeat).map((option) => choosing(variables, row.repeat!, option))
      : [variables];
    for (const [index, of] of copies.entries()) {
      if (row)
        placed.push({
          panel: row,
          gridPos: { x: 0, y: bottom, w: COLUMNS, h: 1 },
          variables: of,
          key: `${row.id}-${index}`,
        });
      const top = bottom + (row ? 1 : 0);
      const band = layOutBand(inside, of, `${index}`);
      placed.push(...band.map((each) => ({ ...each, gridPos: { ...each.gridPos, y: each.gridPos.y + top } })));
      bottom = top + Math.max(0, ...band.map(({ gridPos }) => gridPos.y + gridPos.h));
    }
  }
  return placed;
}

function bandsOf(panels: readonly PanelModel[]): { row?: PanelModel; inside: PanelModel[] }[] {
  const bands: { row?: PanelModel; inside: PanelModel[] }[] = [{ inside: [] }];
  for (const panel of panels) {
    if (panel.type === 'row') bands.push({ row: panel, inside: [...(panel.panels ?? [])] });
    else bands.at(-1)!.inside.push(panel);
  }
  return bands.filter(({ row, inside }) => row || inside.length > 0);
}

/** The panels of one band, counted from its top; what stands below a repeated panel moves down. */
function layOutBand(panels: readonly PanelModel[], variables: Variables, key: string): Placed[] {
  const placed: Placed[] = [];
  const top = Math.min(...panels.map(({ gridPos }) => gridPos.y));
  let pushed = 0;
  for (const panel of [...panels].sort((a, b) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x)) {
    const y = panel.gridPos.y - top + pushed;
    if (!panel.repeat) {
      placed.push({ panel, gridPos: { ...panel.gridPos, y }, variables, key: `${panel.id}-${key}` });
      continue;
    }
    const options = chosen(variables, panel.repeat);
    const perRow = panel.repeatDirection === 'v' ? 1 : Math.min(panel.maxPerRow ?? 4, Math.max(1, options.length));
    const w = panel.repeatDirection === 'v' ? panel.gridPos.w : COLUMNS / perRow;
    for (const [index, option] of options.entries()) {
      const line = Math.floor(index / perRow);
      const gridPos = { x: (index % perRow) * w, y: y + line * panel.gridPos.h, w, h: panel.gridPos.h };
      placed.push({
        panel,
        gridPos,
        variables: choosing(variables, panel.repeat, option),
        key: `${panel.id}-${key}-${index}`,
      });
    }
    pushed += (Math.ceil(options.length / perRow) - 1) * panel.gridPos.h;
  }
  return placed;
}
