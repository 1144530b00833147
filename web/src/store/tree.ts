// One chat as a tree: its nodes, who is below whom, and the branch that is shown. Knows nothing of the network.
import { batch, signal, type Signal } from '@preact/signals';
import type { Chat, Node } from '../lib/api';

export class Tree {
  readonly chat: Signal<Chat>;
  /** Each node has a signal of its own, so that a token that arrives draws one message anew and no more. */
  readonly nodes = new Map<string, Signal<Node>>();
  readonly below = new Map<string | null, string[]>();
  /** Raised when nodes come or go. */
  readonly shape = signal(0);
  readonly leaf = signal<string | null>(null);
  /** Ids from the root to the leaf. */
  readonly path = signal<string[]>([]);

  constructor(chat: Chat, nodes: Node[]) {
    this.chat = signal(chat);
    this.fill(nodes);
    this.show(chat.leaf && this.nodes.has(chat.leaf) ? chat.leaf : this.newest());
  }

  /** Take over what the server has. Text that has arrived by a stream and is longer stays. */
  fill(nodes: Node[]): void {
    batch(() => {
      const there = new Set(nodes.map((n) => n.id));
      for (const id of this.nodes.keys()) if (!there.has(id)) this.nodes.delete(id);
      for (const n of nodes) this.set(n);
      this.below.clear();
      for (const n of nodes) {
        const list = this.below.get(n.parent);
        if (list) list.push(n.id);
        else this.below.set(n.parent, [n.id]);
      }
      this.shape.value++;
      const leaf = this.leaf.value;
      if (leaf && !this.nodes.has(leaf)) this.show(this.newest());
      else this.show(leaf);
    });
  }

  private set(n: Node): void {
    const s = this.nodes.get(n.id);
    if (!s) { this.nodes.set(n.id, signal(n)); return; }
    const old = s.value;
    if (n.status === 'streaming' && old.status === 'streaming' && old.content.length > n.content.length && old.content.startsWith(n.content))
      n = { ...n, content: old.content };
    s.value = n;
  }

  put(n: Node): void {
    batch(() => {
      const fresh = !this.nodes.has(n.id);
      this.set(n);
      if (!fresh) return;
      const list = this.below.get(n.parent) ?? [];
      if (!list.includes(n.id)) this.below.set(n.parent, [...list, n.id]);
      this.shape.value++;
    });
  }

  get(id: string | null | undefined): Node | undefined { return id ? this.nodes.get(id)?.value : undefined; }

  remove(id: string): void {
    batch(() => {
      const parent = this.nodes.get(id)?.peek().parent ?? null;
      const wasShown = this.path.peek().includes(id);
      const go = [id];
      while (go.length) {
        const x = go.pop()!;
        go.push(...(this.below.get(x) ?? []));
        this.below.delete(x);
        this.nodes.delete(x);
      }
      const brothers = (this.below.get(parent) ?? []).filter((b) => b !== id);
      this.below.set(parent, brothers);
      this.shape.value++;
      if (wasShown) this.show(brothers.length ? this.deepest(brothers.at(-1)!) : parent);
      else this.show(this.leaf.peek());
    });
  }

  children(id: string | null): string[] { return this.below.get(id) ?? []; }

  brothers(id: string): string[] {
    const n = this.nodes.get(id)?.peek();
    return n ? this.children(n.parent) : [];
  }

  ancestors(id: string | null): string[] {
    const out: string[] = [];
    const seen = new Set<string>();
    for (let x = id; x && this.nodes.has(x) && !seen.has(x); x = this.nodes.get(x)!.peek().parent) { out.push(x); seen.add(x); }
    return out.reverse();
  }

  /** The newest way down from a node. */
  deepest(id: string): string {
    let x = id;
    for (let kids = this.children(x); kids.length; kids = this.children(x)) x = kids.at(-1)!;
    return x;
  }

  newest(): string | null {
    let best: string | null = null, at = -1;
    for (const [id, s] of this.nodes) {
      if (this.children(id).length) continue;
      if (s.peek().updated >= at) { best = id; at = s.peek().updated; }
    }
    return best;
  }

  leaves(): string[] { return [...this.nodes.keys()].filter((id) => !this.children(id).length); }

  /** Show the branch that ends here. */
  show(leaf: string | null): void {
    batch(() => {
      this.leaf.value = leaf;
      const p = this.ancestors(leaf);
      const old = this.path.peek();
      if (p.length !== old.length || p.some((x, i) => x !== old[i])) this.path.value = p;
    });
  }

  /** The text of a notebook: all pieces down to the leaf. */
  text(to: string | null = this.leaf.value): string {
    return this.ancestors(to).map((id) => this.nodes.get(id)!.value.content).join('');
  }
}
