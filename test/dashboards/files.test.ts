// The dashboards' JSON, as far as it can be judged without asking anybody.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { COVERAGE } from '../../dashboards/grafana/coverage.ts';
import { dashboardFiles, PLACED } from '../../dashboards/grafana/pack.ts';
import { BRIDGE, TOLL } from '../../src/metrics/catalogue.ts';
import { type DashboardJson, type PanelJson, panelsOf } from './expand.ts';

const COLUMNS = 24;
/** A variable's `hide`, in Grafana's numbers. */
const HIDDEN = 2;
const OURS = new Set([...Object.values(TOLL), ...Object.values(BRIDGE)].map(({ name }) => name));
const dashboards = dashboardFiles().map(
  ({ text }) =>
    JSON.parse(text) as DashboardJson & {
      readonly time: object;
      readonly links: { keepTime: boolean; includeVars: boolean }[];
    },
);

/** Cells of the grid that two panels both claim. */
function overlaps(panels: readonly PanelJson[]): string[] {
  const claimed = new Map<string, string>();
  const found: string[] = [];
  for (const { title = '', gridPos } of panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        const other = claimed.get(`${x} ${y}`);
        if (other !== undefined) found.push(`${title} and ${other} at ${x}, ${y}`);
        claimed.set(`${x} ${y}`, title);
      }
    }
  }
  return found;
}

describe('dashboards', () => {
  it('are seven, each with an address of its own', () => {
    assert.equal(dashboards.length, 7);
    assert.equal(new Set(dashboards.map(({ uid }) => uid)).size, 7);
  });

  for (const dashboard of dashboards) {
    describe(dashboard.title, () => {
      const panels = panelsOf(dashboard).map(({ panel }) => panel);

      it('has ids, and no two alike', () => {
        const ids = dashboard.panels.map(({ id }) => id);
        assert.ok(ids.every((id) => id > 0));
        assert.equal(new Set(ids).size, ids.length);
      });

      it('has panels beside and below each other, and inside the grid', () => {
        assert.deepEqual(overlaps(dashboard.panels), []);
        for (const { title, gridPos } of dashboard.panels) assert.ok(gridPos.x + gridPos.w <= COLUMNS, title);
      });

      it('says of every panel what it shows', () => {
        for (const { title, description } of panels) assert.ok(description && description.length > 15, title);
      });

      it('asks the chosen datasource, and nobody else', () => {
        const uids = [...JSON.stringify(dashboard).matchAll(/"datasource":\{[^}]*"uid":"([^"]*)"/g)].map(
          ([, uid]) => uid,
        );
        assert.deepEqual(new Set(uids), new Set(['$' + '{datasource}']));
        assert.equal(dashboard.templating.list[0]?.name, 'datasource');
      });

      it('names metrics of the catalogue only', () => {
        const exprs = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
        const names = new Set(exprs.join(' ').match(/\b(?:toll|tollbridge)_[a-z_]+\b/g) ?? []);
        for (const name of names) {
          assert.ok(
            OURS.has(name.replace(/_(?:bucket|count|sum)$/, '')) || OURS.has(name),
            `${name} is not in the catalogue`,
          );
        }
      });

      it('folds replicas before it adds up what the ledger counted', () => {
        const counted = new Set(
          Object.values(TOLL)
            .filter(({ type }) => type === 'counter')
            .map(({ name }) => name),
        );
        for (const { title, targets = [] } of panels) {
          for (const { expr } of targets) {
            const summed = /sum(?: by \([^)]*\))? \((?:rate\()?(toll_\w+)/.exec(expr)?.[1];
            assert.ok(!summed || !counted.has(summed), `${title} sums ${summed} without max`);
          }
        }
      });

      it('never takes increase() for money, which loses the first value of every series', () => {
        for (const { title, targets = [] } of panels) {
          for (const { expr } of targets) assert.doesNotMatch(expr, /increase\(/, title);
        }
      });

      it('is in UTC where it has bars by day, which are of UTC days, and else in the time zone of who looks', () => {
        const hasDays = panels.some(({ interval }) => interval === '1d');
        assert.equal(dashboard.timezone, hasDays ? 'utc' : 'browser');
      });

      it('keeps what is hidden out of addresses, where it would outlive what it was asked for', () => {
        for (const { name, hide, skipUrlSync } of dashboard.templating.list) {
          assert.equal(skipUrlSync === true, hide === HIDDEN, name);
          assert.equal(hide === HIDDEN, name === 'start', name);
        }
      });

      it('never takes end() for now, which Grafana rounds down to the step', () => {
        for (const { title, targets = [] } of panels) {
          for (const { expr } of targets) assert.doesNotMatch(expr, /@ end\(\)/, title);
        }
      });

      it('links to the others, keeping time and variables', () => {
        assert.deepEqual(
          dashboard.links.map(({ keepTime, includeVars }) => keepTime && includeVars),
          [true],
        );
      });
    });
  }

  it('have bars by day and hidden variables, or nothing was judged', () => {
    assert.ok(dashboards.filter(({ timezone }) => timezone === 'utc').length > 0);
    assert.ok(dashboards.flatMap(({ templating }) => templating.list).some(({ hide }) => hide === HIDDEN));
  });

  it('two panels on one place would be told', () => {
    const at = { x: 0, y: 0, w: 2, h: 1 };
    assert.equal(
      overlaps([
        { id: 1, type: 'stat', title: 'a', gridPos: at },
        { id: 2, type: 'stat', title: 'b', gridPos: at },
      ]).length,
      2,
    );
  });

  it('have a reason wherever a panel may show nothing', () => {
    for (const { panels } of PLACED) {
      for (const { spec } of panels.values()) assert.ok(spec.mayBeEmpty === undefined || spec.mayBeEmpty.length > 10);
    }
  });
});

describe('the coverage of tiles', () => {
  const elements = COVERAGE.flatMap(({ elements: of }) => of);

  it('names a panel or a reason for every element, and not both', () => {
    for (const { element, panels, reason } of elements) {
      assert.equal((panels?.length ?? 0) > 0, reason === undefined, element);
      assert.ok(reason === undefined || reason.length > 20, element);
    }
    assert.equal(new Set(elements.map(({ element }) => element)).size, elements.length);
  });

  it('names every panel of the tiles and the detail view', () => {
    const named = new Set(elements.flatMap(({ panels = [] }) => panels));
    for (const { dashboard, panels } of PLACED.filter(({ dashboard: { uid } }) => /-tiles?$/.test(uid!))) {
      const unnamed = [...panels.keys()].map((key) => `${dashboard.uid}/${key}`).filter((each) => !named.has(each));
      // What sums up all accounts is on no single tile.
      assert.deepEqual(unnamed, dashboard.uid === 'tollbridge-tiles' ? ['tollbridge-tiles/attention'] : []);
    }
  });
});
