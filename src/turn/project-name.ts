// A project is called by the base name of its worktree root. Nothing else of a path is kept.

import { KEY_LIKE, pathSegments, readName } from './fields.ts';

/** A path's segments; a drive letter alone is a root, not a name. */
function segments(path: unknown): string[] {
  if (typeof path !== 'string') return [];
  const parts = pathSegments(path);
  return parts.length === 1 && /^[A-Za-z]:$/.test(parts[0]!) ? [] : parts;
}

/**
 * The base name of the first path that has one. A name that cannot be a label is no name: it costs no turn. One with an
 * @ may be an e-mail address, or one may look like a key, and the folders below it are no projects either: there is none then.
 */
export function projectName(...paths: unknown[]): string | undefined {
  for (const path of paths) {
    const name = readName(segments(path).at(-1));
    if (name !== undefined) return name.includes('@') || KEY_LIKE.test(name) ? undefined : name;
  }
  return undefined;
}

/**
 * The project of a session that runs in `directory`, of which `relative` is the part below the worktree root.
 * Without a worktree the root is `/`, and the folder itself names the project.
 */
export function sessionProjectName(directory: unknown, relative: unknown): string | undefined {
  const folder = segments(directory);
  const below = segments(relative);
  const isBelow =
    below.length > 0 && below.every((part, index) => part === folder[folder.length - below.length + index]);
  const root = isBelow ? folder.slice(0, -below.length).join('/') : directory;
  return projectName(root, directory);
}
