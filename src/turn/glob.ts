/**
 * Whether a glob matches a whole text. `*` stands for any run of characters, `/` included; everything else stands for
 * itself. Upper and lower case are the same.
 */
export function matchesGlob(glob: string, text: string): boolean {
  const [head = '', ...rest] = glob.toLowerCase().split('*');
  const subject = text.toLowerCase();
  const tail = rest.pop();
  if (tail === undefined) return subject === head;
  if (!subject.startsWith(head)) return false;
  // Taking each inner piece where it first occurs leaves the most room for those after it, so no step is ever undone.
  let from = head.length;
  for (const piece of rest) {
    const at = subject.indexOf(piece, from);
    if (at === -1) return false;
    from = at + piece.length;
  }
  return subject.length - from >= tail.length && subject.endsWith(tail);
}
