// Where the nodes of a tree stand when it is drawn: depth goes down, leaves side by side, a parent above the middle of its children.
export type Placed = { id: string; x: number; y: number; parent: string | null };

/** Columns and rows, by one pass from the leaves up; nothing is called recursively, chats may be thousands deep. */
export function place(below: (id: string | null) => string[]): { nodes: Placed[]; columns: number; rows: number } {
  const x = new Map<string, number>(), nodes: Placed[] = [];
  let columns = 0, rows = 0;
  const stack: { id: string; parent: string | null; depth: number; done: boolean }[] = [];
  const push = (id: string | null, depth: number) => { for (const k of [...below(id)].reverse()) stack.push({ id: k, parent: id, depth, done: false }); };
  push(null, 0);
  while (stack.length) {
    const s = stack.at(-1)!;
    const kids = below(s.id);
    if (!s.done && kids.length) { s.done = true; push(s.id, s.depth + 1); continue; }
    stack.pop();
    // a first child stays in its parent's column, so that a branch that goes on is a straight line
    const at = kids.length ? x.get(kids[0]!)! : columns++;
    x.set(s.id, at);
    rows = Math.max(rows, s.depth + 1);
    nodes.push({ id: s.id, parent: s.parent, x: at, y: s.depth });
  }
  return { nodes, columns, rows };
}
