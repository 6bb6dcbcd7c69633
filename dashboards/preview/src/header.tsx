// What stands above the panels: the title, one picker for each variable, the other dashboards, the range.

import type { TimeRange } from '@grafana/data';
import { useEffect, useState } from 'react';
import type { DashboardModel } from './model';
import type { Variable, Variables } from './variables';

interface HeaderProps {
  readonly dashboard: DashboardModel;
  readonly variables: Variables;
  readonly range: TimeRange;
  readonly address: URLSearchParams;
}

const HIDDEN = 2;

export function Header({ dashboard, variables, range, address }: HeaderProps) {
  const [others, setOthers] = useState<{ uid: string; title: string }[]>([]);
  useEffect(() => {
    fetch('/dashboards/')
      .then((answer) => answer.json())
      .then(setOthers, () => {});
  }, []);
  const shown = [...variables.values()].filter(({ model }) => model.hide !== HIDDEN && model.type !== 'datasource');
  return (
    <header>
      <h3>{dashboard.title}</h3>
      {shown.map((variable) => (
        <Picker key={variable.model.name} {...{ variable, address }} />
      ))}
      <nav>
        {others.map(({ uid, title }) => (
          <a key={uid} href={`/d/${uid}?${address}`} aria-current={uid === dashboard.uid}>
            {title.replace(/^Tollbridge \/ /, '')}
          </a>
        ))}
      </nav>
      <span className="range">
        {String(range.raw.from)} to {String(range.raw.to)}
      </span>
    </header>
  );
}

function Picker({ variable: { model, options, chosen }, address }: { variable: Variable; address: URLSearchParams }) {
  const isAll = model.includeAll && chosen.length === options.length;
  const choose = (value: string) => {
    const next = new URLSearchParams(address);
    next.delete(`var-${model.name}`);
    if (value !== '$__all') next.set(`var-${model.name}`, value);
    location.search = String(next);
  };
  return (
    <label>
      {model.label ?? model.name}
      <select value={isAll ? '$__all' : chosen[0]?.value} onChange={({ target }) => choose(target.value)}>
        {model.includeAll && <option value="$__all">All</option>}
        {options.map(({ text, value }) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}
