// How systemd reads ExecStart=, written down a second time: quotes, C escapes, specifiers, then variables of arguments.

import assert from 'node:assert/strict';

const ESCAPES: Readonly<Record<string, string>> = { '"': '"', '\\': '\\', n: '\n', t: '\t' };

/** The words that a unit's ExecStart= comes to. Fails at a specifier or a variable: none is ever meant. */
export function commandWords(unit: string): string[] {
  const [, line] = /^ExecStart=(.*)$/m.exec(unit) ?? [];
  assert.ok(line, 'the unit has an ExecStart=');
  const words = [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
  return words.map((word, index) => {
    const bare = word
      .replaceAll(/\\(?:x([0-9a-f]{2})|(.))/g, (_all, hex?: string, one = '') =>
        hex ? String.fromCharCode(Number.parseInt(hex, 16)) : (ESCAPES[one] ?? assert.fail(`\\${one}`)),
      )
      .replaceAll(/%(.?)/g, (_all, letter) => (letter === '%' ? '%' : assert.fail(`the specifier %${letter}`)));
    if (index === 0) return bare;
    return bare.replaceAll(/\$(.?)/g, (_all, next) => (next === '$' ? '$' : assert.fail(`the variable $${next}`)));
  });
}
