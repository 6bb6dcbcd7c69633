// Makes the preview of the dashboards ready: its packages, which are large and therefore not among ours, and its page.

import { globSync } from 'node:fs';
import path from 'node:path';
import { installOwnPackages, make } from './made.ts';

const FOLDER = path.join(path.dirname(import.meta.dirname), 'dashboards', 'preview');
const PAGE = ['src/**/*', 'index.html', 'vite.config.ts', 'tsconfig.json'];

/** Installs and builds what is not there. Takes some two minutes the first time. */
export function buildPreview(): void {
  installOwnPackages(FOLDER, "installing Grafana's libraries for the preview of the dashboards, some 700 MB");
  const bin = (name: string) => path.join('node_modules', name);
  const page = PAGE.flatMap((pattern) => globSync(pattern, { cwd: FOLDER }))
    .filter((file) => path.extname(file) !== '')
    .sort();
  const lock = 'package-lock.json';
  make({
    folder: FOLDER,
    made: 'dist',
    from: [...page, lock],
    command: [process.execPath, bin('vite/bin/vite.js'), 'build'],
    say: 'building the preview of the dashboards',
  });
}
