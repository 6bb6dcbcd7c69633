import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseSeroval, SerovalError } from '../../src/poll/seroval.ts';

const frame = (payload: string) => `;0x${Buffer.byteLength(payload).toString(16).padStart(8, '0')};${payload}`;
/** A payload as a server writes it for a scope. */
const scoped = (value: string, scope = 'server-fn:1') =>
  `((self.$R=self.$R||{})[${JSON.stringify(scope)}]=[],($R=>$R[0]=${value})($R[${JSON.stringify(scope)}]))`;
/** Objects without a prototype, made comparable. */
const plain = (value: unknown): unknown => {
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return Array.from(value, plain);
  if (typeof value !== 'object' || value === null) return value;
  assert.equal(Object.getPrototypeOf(value), null);
  return Object.fromEntries(Object.entries(value).map(([key, of]) => [key, plain(of)]));
};
const read = (text: string) => plain(parseSeroval(text));

describe('what is read', () => {
  const cases: [string, string, unknown][] = [
    ['bare keys', '{a:1,$b:2,_c3:3}', { a: 1, $b: 2, _c3: 3 }],
    ['quoted and numeric keys', '{"a b":1,7:2,"":3}', { 'a b': 1, '7': 2, '': 3 }],
    ['escapes in strings', String.raw`"\"\\\n\r\t\b\f\x3Cé"`, '"\\\n\r\t\b\f<é'],
    ['what looks like code within a string', '"!0,a:1,$R[0]={}"', '!0,a:1,$R[0]={}'],
    ['numbers', '[0,-1.5,1e3,0x10]', [0, -1.5, 1000, 16]],
    ['minus zero', '-0', -0],
    ['the infinities and NaN', '[1/0,-1/0,0/0]', [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN]],
    ['booleans', '[!0,!1,true,false]', [true, false, true, false]],
    ['nothing', '[null,void 0]', [null, undefined]],
    ['big integers', '[123n,-5n]', [123n, -5n]],
    ['dates', 'new Date("2026-11-20T10:00:00.000Z")', '2026-11-20T10:00:00.000Z'],
    ['holes', '[,1,,]', [undefined, 1, undefined]],
    ['define and use', '{a:$R[1]={x:1},b:$R[1],c:[$R[2]="s",$R[2]]}', { a: { x: 1 }, b: { x: 1 }, c: ['s', 's'] }],
    [
      'nested definitions',
      '{a:$R[1]=[$R[2]={b:$R[3]=new Date("2026-01-01")}]}',
      { a: [{ b: '2026-01-01T00:00:00.000Z' }] },
    ],
  ];
  for (const [name, written, expected] of cases) {
    test(name, () => {
      assert.deepEqual(read(frame(scoped(written))), expected);
      assert.deepEqual(read(scoped(written, 'openusage')), expected, 'without a frame, in another scope');
      assert.deepEqual(read(`(${written})`), expected, 'without a scope');
    });
  }

  test('the worked example', () => {
    const billing =
      '{balance:1234000000,monthlyLimit:50,reload:!0,monthlyUsage:420000000,timeMonthlyUsageUpdated:$R[1]=' +
      'new Date("2026-11-20T10:00:00.000Z"),subscription:null,lite:$R[2]={useBalance:!1}}';
    assert.deepEqual(read(frame(scoped(billing))), {
      ...{ balance: 1234000000, monthlyLimit: 50, reload: true, monthlyUsage: 420000000 },
      ...{ timeMonthlyUsageUpdated: '2026-11-20T10:00:00.000Z', subscription: null, lite: { useBalance: false } },
    });
  });

  test('a value that comes in a later frame', () => {
    const first = frame(scoped('{a:1,late:$R[2]($R[18]={p:0,s:0,f:0})}'));
    const second = frame('($R=>$R[24]($R[18],$R[27]={b:[$R[27],2]}))($R["server-fn:1"])');
    const { a, late } = parseSeroval(first + second) as { a: number; late: { b: unknown[] } };
    assert.deepEqual([a, late.b[1], late.b[0] === late], [1, 2, true]);
    const defined = frame(scoped('[($R[2]=(a)=>{return a})($R[18]={p:0,s:0,f:0})]'));
    assert.deepEqual(read(defined + frame('($R=>($R[24]=(a,b)=>b)($R[18],5))($R["server-fn:1"])')), [5]);
  });

  test('the JSON mode', () => {
    const node = {
      t: 10,
      i: 0,
      p: {
        k: ['n', 's', 'list', 'again', 'when', 'big'],
        v: [
          { t: 0, s: 3 },
          { t: 1, s: 'a\\x3Cb\\"' },
          { t: 9, i: 1, a: [{ t: 2, s: 2 }, { t: 2, s: 0 }, 0, null] },
          { t: 18, i: 1 },
          { t: 5, i: 2, s: '2026-11-20T10:00:00.000Z' },
          { t: 3, s: '12345678901234567890' },
        ],
      },
    };
    const list = [true, null, undefined, undefined];
    const expected = {
      n: 3,
      s: 'a<b"',
      list,
      again: list,
      when: '2026-11-20T10:00:00.000Z',
      big: 12345678901234567890n,
    };
    assert.deepEqual(read(JSON.stringify({ t: node, f: 31, m: [] })), expected);
    assert.deepEqual(read(frame(JSON.stringify(node))), expected);
    const again = {
      t: 9,
      i: 0,
      a: [
        { t: 10, i: 1, p: { k: ['a'], v: [{ t: 0, s: 1 }] } },
        { t: 4, i: 1 },
      ],
    };
    assert.deepEqual(read(JSON.stringify(again)), [{ a: 1 }, { a: 1 }]);
    const constants = { t: 9, i: 0, a: Array.from({ length: 8 }, (_, s) => ({ t: 2, s })) };
    const infinities = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    assert.deepEqual(read(JSON.stringify(constants)), [null, undefined, true, false, -0, ...infinities, Number.NaN]);
  });

  test('any plain data that is written as a server writes it', () => {
    const data = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        ...[fc.constant(null), fc.boolean(), fc.string({ unit: 'grapheme' }), fc.integer()],
        fc.double({ noDefaultInfinity: true, noNaN: true }),
        fc.array(tie('value'), { maxLength: 4 }),
        fc.dictionary(
          fc.string().filter((key) => key !== '__proto__'),
          tie('value'),
          { maxKeys: 4 },
        ),
      ),
    }));
    fc.assert(
      fc.property(data.value, (value) => {
        let references = 0;
        const write = (of: unknown): string => {
          if (typeof of === 'boolean') return of ? '!0' : '!1';
          if (Object.is(of, -0)) return '-0';
          if (typeof of !== 'object' || of === null) return JSON.stringify(of);
          const define = `$R[${++references}]=`;
          if (Array.isArray(of)) return `${define}[${of.map(write).join(',')}]`;
          return `${define}{${Object.entries(of)
            .map(([key, each]) => `${JSON.stringify(key)}:${write(each)}`)
            .join(',')}}`;
        };
        assert.deepEqual(read(frame(scoped(write(value)))), plainOf(value));
      }),
    );
  });
});

/** The same data with ordinary objects. */
function plainOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plainOf);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, of]) => [key, plainOf(of)]));
}

describe('what is refused, and never run', () => {
  const CANARY = 'CANARY';
  const ran = globalThis as { ran?: boolean };
  const cases: [string, string][] = [
    ['an assignment', 'globalThis.ran=true'],
    ['a call of a function', 'process.exit(1)'],
    ['a function that is called', '(()=>{globalThis.ran=true})()'],
    ['a function as a value', '$R[1]=()=>1'],
    ['member access', 'process.env.HOME'],
    ['computed member access', 'process["env"]'],
    ['a name', CANARY],
    ['a template', `\`$${'{process.pid}'}\``],
    ['a plain template', '`x`'],
    ['spread', '[...[1]]'],
    ['spread in an object', '{...{a:1}}'],
    ['a getter', '{get a(){return 1}}'],
    ['a method', '{a(){return 1}}'],
    ['a computed key', '{["a"]:1}'],
    ['the prototype', '{__proto__:{polluted:1}}'],
    ['the prototype, quoted', '{"__proto__":{polluted:1}}'],
    ['the prototype, escaped', '{__pr\\u006fto__:{polluted:1}}'],
    ['the prototype, escaped within quotes', '{"__pr\\x6fto__":{polluted:1}}'],
    ['a shorthand key', '{process}'],
    ['a setter', '{set a(b){}}'],
    ['an async function', '(async()=>{globalThis.ran=true})()'],
    ['an optional call', 'process?.exit(1)'],
    ['a tagged template', 'String.raw`x`'],
    ['typeof', 'typeof process'],
    ['an object that is made', 'Object.assign(Object.create(null),{a:1})'],
    ['a regular expression', '/a/'],
    ['new of something else', 'new Function("globalThis.ran=true")'],
    ['a date of now', 'new Date()'],
    ['a date of an expression', 'new Date(Date.now())'],
    ['arithmetic', '1+1'],
    ['a division', '4/2'],
    ['a condition', 'true?1:2'],
    ['a reference to nothing', '$R[99]'],
    ['a reference by name', '$R["constructor"]'],
    ['await', 'await 1'],
    ['import', 'import("node:fs")'],
    ['assignment to a name', 'x=1'],
    ['an operator of assignment', '$R[1]+=1'],
    ['delete', 'delete $R[1]'],
    ['a promise that nobody resolves', '$R[2]($R[18]={p:0,s:0,f:0})'],
    ['a promise of something else', '[$R[2]($R[18]=process.exit(1)),$R[3]($R[18],5)]'],
    ['a promise that holds something', '[$R[2]($R[18]={p:0,s:0,f:process}),$R[3]($R[18],5)]'],
    ['a call of what is no function', '[$R[2]=5,$R[2]($R[18]={p:0,s:0,f:0}),$R[3]($R[18],5)]'],
    ['a promise that comes to itself', '[$R[2]($R[18]={p:0,s:0,f:0}),$R[3]($R[18],$R[18])]'],
    ['what is resolved and no promise', '[$R[18]={p:0,s:0,f:0},$R[3]($R[18],5)]'],
    ['too deep', '['.repeat(60) + ']'.repeat(60)],
    ['far too deep', '['.repeat(100_000)],
    ['too deep by references', `{chain:[${chainOf(3000)}],0:$R[3000]}`],
    ['too much', `[${'0,'.repeat(20_001)}]`],
    ['too many holes', `[${','.repeat(20_001)}]`],
  ];
  for (const [name, written] of cases) {
    test(name, () => {
      for (const text of [frame(scoped(written)), `(${written})`]) {
        assert.throws(
          () => parseSeroval(text),
          (error) => error instanceof SerovalError && !error.message.includes(CANARY),
        );
      }
      assert.equal(ran.ran, undefined);
      assert.equal(({} as { polluted?: number }).polluted, undefined);
    });
  }

  const whole: [string, string][] = [
    ['nothing', ''],
    ['blanks', ' \n'],
    ['HTML', `<html>${CANARY}`],
    ['several statements', 'if(1){}'],
    ['a cut-off frame', frame(scoped('{a:1}')).slice(0, -1)],
    ['a frame that is longer than it says', frame(scoped('{a:1}')).replace(/^;0x(.{8})/, ';0x00000010')],
    ['a frame that counts characters for bytes', `;0x00000005;("é")`],
    ['a cut-off header', `${frame('(1)')};0x0000`],
    ['a scope that a call makes', '(evil()["x"]=[],($R=>$R[0]=1)($R["x"]))'],
    ['a scope elsewhere', '(process.env["x"]=[],($R=>$R[0]=1)($R["x"]))'],
    ['a scope that is not empty', '((self.$R=self.$R||{a:evil()})["x"]=[],($R=>$R[0]=1)($R["x"]))'],
    ['a scope of a call', '($R=>$R[0]=1)(evil())'],
    ['an async scope', '(async $R=>$R[0]=1)($R["x"])'],
    ['a scope with a body', '($R=>{process.exit(1)})($R["x"])'],
    ['a declaration', 'var a=1'],
    ['a frame without a header', `${frame('(1)')}(2)`],
    ['a cut-off script', frame('((self.$R=self.$R||{})["x"]=[],($R=>$R[0]={a:')],
    ['too many frames', frame('(1)').repeat(101)],
    ['broken JSON', `{"t": ${CANARY}`],
    ['JSON of another kind', '{"a":1}'],
    ['an unknown node', '{"t":{"t":99,"i":0},"f":31,"m":[]}'],
    ['a node that leads to the prototype', '{"t":{"t":10,"i":0,"p":{"k":["__proto__"],"v":[{"t":0,"s":1}]}}}'],
    ['a node that does so escaped', '{"t":10,"i":0,"p":{"k":["__pr\\\\u006fto__"],"v":[{"t":0,"s":1}]}}'],
    ['a key without a value', '{"t":10,"i":0,"p":{"k":["a"],"v":[]}}'],
    ['a key that is no text', '{"t":10,"i":0,"p":{"k":[1],"v":[{"t":0,"s":1}]}}'],
    ['a reference to no node', '{"t":4,"i":7}'],
    ['an unknown constant', '{"t":2,"s":8}'],
    ['a big integer that is none', '{"t":3,"s":"0x10"}'],
    ['nodes too deep', `${'{"t":9,"i":0,"a":['.repeat(60)}${']}'.repeat(60)}`],
    ['nodes too deep by references', JSON.stringify(chainOfNodes(3000))],
    ['too many holes in a node', `{"t":9,"i":0,"a":[${'0,'.repeat(20_000)}0]}`],
    ['JSON far too deep', `{"t":${'['.repeat(100_000)}`],
  ];
  for (const [name, text] of whole) {
    test(name, () => {
      assert.throws(
        () => parseSeroval(text),
        (error) => error instanceof SerovalError && !error.message.includes(CANARY),
      );
    });
  }

  test('an error answer is known from what cannot be read, and nothing is told of it', () => {
    const message = 'the server answered with an error of its own';
    const answers = [
      scoped(`Object.assign(new Error("${CANARY}"),{stack:"${CANARY}"})`),
      scoped(`$R[1]=new TypeError("${CANARY}")`),
      scoped(`{a:new Error("${CANARY}")}`),
      JSON.stringify({ t: 13, i: 0, s: 0, m: CANARY, p: { k: [], v: [] } }),
    ];
    for (const text of answers) {
      const expected = { name: 'SerovalError', kind: 'error answer', message };
      for (const each of [text, frame(text)]) assert.throws(() => parseSeroval(each), expected);
    }
    assert.throws(() => parseSeroval(`(${CANARY})`), { name: 'SerovalError', kind: 'unreadable' });
  });

  test('whatever is changed in an answer, it is read or refused', () => {
    const answers = [
      frame(scoped('{a:$R[1]=[1,,"s"],b:$R[1],late:$R[2]($R[18]={p:0,s:0,f:0}),d:new Date("2026-01-01")}')) +
        frame('($R=>$R[24]($R[18],$R[27]={b:1/0,c:-12n}))($R["server-fn:1"])'),
      '{"t":{"t":10,"i":0,"p":{"k":["a","b"],"v":[{"t":9,"i":1,"a":[0,{"t":3,"s":"1"}]},{"t":4,"i":1}]}},"f":31,"m":[]}',
    ];
    const pieces = [
      '$R',
      '[',
      ']',
      '(',
      ')',
      '{',
      '}',
      '=>',
      ',',
      ';',
      '"',
      '0',
      '18',
      'new Date',
      'x',
      '\\u',
      '__proto__',
    ];
    const change = fc.tuple(fc.nat(), fc.nat(4), fc.constantFrom(...pieces, ''));
    fc.assert(
      fc.property(fc.constantFrom(...answers), fc.array(change, { minLength: 1, maxLength: 4 }), (answer, changes) => {
        const changed = changes.reduce((text, [at, cut, piece]) => {
          const start = at % (text.length + 1);
          return text.slice(0, start) + piece + text.slice(start + cut);
        }, answer);
        try {
          parseSeroval(changed);
        } catch (error) {
          assert.ok(error instanceof SerovalError, changed);
        }
      }),
    );
  });
});

/** Lists of which each holds the one before, by its reference. */
function chainOf(length: number): string {
  return Array.from({ length }, (_, n) => `$R[${n + 1}]=[${n > 0 ? `$R[${n}]` : ''}]`).join();
}

/** The same as nodes, under a key that is read after another that refers to the last of them. */
function chainOfNodes(length: number): unknown {
  const chain = Array.from({ length }, (_, n) => ({ t: 9, i: n + 1, a: n > 0 ? [{ t: 4, i: n }] : [] }));
  return {
    t: 10,
    i: 0,
    p: {
      k: ['chain', '0'],
      v: [
        { t: 9, i: length + 1, a: chain },
        { t: 4, i: length },
      ],
    },
  };
}
