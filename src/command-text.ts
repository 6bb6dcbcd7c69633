// A command as the user of this process can type it: from a clone it goes through npm, and it reads the same configuration.

import path from 'node:path';

/** How a process was called. `process` itself is one. */
export interface Invocation {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly argv: readonly string[];
}

/** What a shell takes as one word without quotes. */
const PLAIN_WORD = /^[\w@%+=:,./-]+$/;

/**
 * The text to type for a command of ours, for example `npm run tollbridge -- doctor --config /etc/toll.yaml`.
 * A `--config` that this process was given is kept, as an absolute path: the user may stand elsewhere by then.
 * @param command its words after `tollbridge`: `doctor`, `install opencode`
 * @param invocation how this process was called, as far as that is not to be read from the process
 */
export function commandText(
  command: string,
  { env = process.env, argv = process.argv }: Partial<Invocation> = {},
): string {
  const program = env.npm_lifecycle_event ? 'npm run tollbridge --' : 'tollbridge';
  const file = configArgument(argv);
  return [program, command, ...(file === undefined ? [] : ['--config', shellWord(path.resolve(file))])].join(' ');
}

/** The last one counts, as it does where the command line is read. */
function configArgument(argv: readonly string[]): string | undefined {
  const at = argv.findLastIndex((word) => word === '--config' || word.startsWith('--config='));
  if (at === -1) return undefined;
  return argv[at] === '--config' ? argv[at + 1] : argv[at]?.slice('--config='.length);
}

/** A word as a shell takes it, whatever is in it. */
export function shellWord(text: string): string {
  return PLAIN_WORD.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
