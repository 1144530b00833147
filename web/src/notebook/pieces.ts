// A notebook's text and its nodes: what has to be made of the tree so that it says what was typed.
import type { Tree } from '../store/tree';

export type Plan = { keep: string | null; copy: { id: string; content: string } | null; add: string };

/** keep: the last node that stays; copy: a node of which only the beginning stays (a new brother of it); add: what comes behind. */
export function plan(tr: Tree, text: string): Plan {
  let at = 0;
  let keep: string | null = null;
  for (const id of tr.path.peek()) {
    const n = tr.get(id)!;
    if (at === text.length && n.content) return { keep, copy: null, add: '' };
    if (text.startsWith(n.content, at)) { at += n.content.length; keep = id; continue; }
    let same = 0;
    while (same < n.content.length && at + same < text.length && n.content[same] === text[at + same]) same++;
    // never within a surrogate pair
    if (same && /[\ud800-\udbff]/.test(text[at + same - 1]!)) same--;
    return same ? { keep, copy: { id, content: n.content.slice(0, same) }, add: text.slice(at + same) } : { keep, copy: null, add: text.slice(at) };
  }
  return { keep, copy: null, add: text.slice(at) };
}
