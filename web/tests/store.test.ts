// The tree of a chat, where its drawing puts it, what a notebook makes of typing, addresses, files and texts.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { groups } from '../src/chat/help-view';
import { place } from '../src/chat/layout';
import { de } from '../src/i18n/de';
import { en } from '../src/i18n/en';
import type { Chat, Node } from '../src/lib/api';
import { withFiles } from '../src/lib/files';
import { match } from '../src/lib/router';
import { plan } from '../src/notebook/pieces';
import { Tree } from '../src/store/tree';
import { Flow } from '../src/store/watch';

const chat = (leaf: string | null = null): Chat => ({ id: 'c', kind: 'chat', title: '', folder: null, pinned: false, model: null, system: '', settings: {}, leaf, state: null, created: 0, updated: 0, revision: 1, nodes: 0, preview: '' });
let clock = 0;
const node = (id: string, parent: string | null, content = id, more: Partial<Node> = {}): Node => ({
  id, chat: 'c', parent, role: 'user', content, created: ++clock, updated: clock, revision: 1, status: 'done', finish: null, error: null, model: null,
  settings: null, usage: null, has_tokens: false, state: null, meta: {}, ...more });

describe('tree', () => {
  const nodes = () => [node('a', null), node('b', 'a'), node('c', 'a'), node('d', 'c'), node('e', 'b')];
  it('shows the branch it was left at, else the newest', () => {
    expect(new Tree(chat('d'), nodes()).path.value).toEqual(['a', 'c', 'd']);
    expect(new Tree(chat(), nodes()).path.value).toEqual(['a', 'b', 'e']);
    expect(new Tree(chat('gone'), nodes()).path.value).toEqual(['a', 'b', 'e']);
  });
  it('knows brothers and the way down', () => {
    const t = new Tree(chat('d'), nodes());
    expect(t.brothers('b')).toEqual(['b', 'c']);
    expect(t.deepest('c')).toBe('d');
    expect(t.leaves().sort()).toEqual(['d', 'e']);
  });
  it('puts an answer below and keeps text that has come further', () => {
    const t = new Tree(chat('d'), nodes());
    t.put(node('f', 'd', 'hello wor', { status: 'streaming' }));
    t.put(node('f', 'd', 'hello', { status: 'streaming' }));
    expect(t.get('f')!.content).toBe('hello wor');
    t.put(node('f', 'd', 'hello', { status: 'stopped' }));
    expect(t.get('f')!.content).toBe('hello');
    expect(t.children('d')).toEqual(['f']);
  });
  it('removes what is below and shows what is left', () => {
    const t = new Tree(chat('d'), nodes());
    t.remove('c');
    expect(t.nodes.has('d')).toBe(false);
    expect(t.path.value).toEqual(['a', 'b', 'e']);
    t.remove('a');
    expect(t.path.value).toEqual([]);
  });
  it('survives parents that go round', () => {
    const t = new Tree(chat('x'), [node('x', 'y'), node('y', 'x')]);
    expect(t.path.value.length).toBe(2);
  });
});

describe('text that comes', () => {
  const begun = (content = '') => {
    vi.stubGlobal('document', { hidden: false });
    vi.stubGlobal('requestAnimationFrame', () => 0); // frames come when the tests say so
    const t = new Tree(chat('f'), [node('a', null), node('f', 'a', content, { role: 'assistant', status: 'streaming' })]);
    return { t, flow: new Flow(t, 'f'), text: () => t.get('f')!.content };
  };
  it('is let out once a frame, what comes twice only once', () => {
    const { flow, text } = begun('Once ');
    expect([flow.add(5, 'upon '), flow.add(5, 'upon a '), flow.add(7, 'on a time'), flow.add(2, 'ce')]).toEqual([true, true, true, true]);
    expect([text(), flow.length()]).toEqual(['Once ', 16]);
    flow.out();
    expect([text(), flow.length()]).toEqual(['Once upon a time', 16]);
    expect(flow.add(20, 'gap')).toBe(false);
  });
  it('is not added to an answer that was told whole meanwhile', () => {
    const { t, flow, text } = begun('Once ');
    flow.add(5, 'upon');
    t.put({ ...t.get('f')!, content: 'Once upon', status: 'done' });
    flow.out();
    expect(text()).toBe('Once upon');
  });
  it('goes on behind what came another way', () => {
    const { t, flow, text } = begun('Once ');
    flow.add(5, 'upon a');
    t.put({ ...t.get('f')!, content: 'Once upon' });
    flow.out();
    expect(text()).toBe('Once upon a');
    flow.add(11, ' ti');
    t.put({ ...t.get('f')!, content: 'Once upon a time there' });
    expect(flow.length()).toBe(22);
    flow.add(22, ' was');
    flow.out();
    expect(text()).toBe('Once upon a time there was');
  });
});

describe('drawing', () => {
  it('keeps a chain straight and brothers apart', () => {
    const kids: Record<string, string[]> = { '': ['a'], a: ['b', 'c'], b: ['d'], c: [], d: [] };
    const p = place((id) => kids[id ?? ''] ?? []);
    const at = Object.fromEntries(p.nodes.map((n) => [n.id, [n.x, n.y]]));
    expect(at).toEqual({ a: [0, 0], b: [0, 1], d: [0, 2], c: [1, 1] });
    expect([p.columns, p.rows]).toEqual([2, 3]);
  });
  it('draws a chat of ten thousand turns', () => {
    const p = place((id) => { const n = id === null ? -1 : Number(id); return n < 9999 ? [String(n + 1)] : []; });
    expect(p.rows).toBe(10000);
    expect(p.columns).toBe(1);
  });
});

describe('notebook', () => {
  const t = () => new Tree(chat('b'), [node('a', null, 'Once upon', { role: 'text' }), node('b', 'a', ' a time.', { role: 'assistant' })]);
  it('adds what was typed behind', () => expect(plan(t(), 'Once upon a time. Then')).toEqual({ keep: 'b', copy: null, add: ' Then' }));
  it('does nothing for the same text', () => expect(plan(t(), 'Once upon a time.')).toEqual({ keep: 'b', copy: null, add: '' }));
  it('goes back to a border', () => expect(plan(t(), 'Once upon')).toEqual({ keep: 'a', copy: null, add: '' }));
  it('branches within a piece', () => expect(plan(t(), 'Once upon a dog')).toEqual({ keep: 'a', copy: { id: 'b', content: ' a ' }, add: 'dog' }));
  it('begins anew', () => expect(plan(t(), 'Zebra')).toEqual({ keep: null, copy: null, add: 'Zebra' }));
});

describe('addresses', () => {
  it('are those of docs/PAGE.md', () => {
    expect(match('/')).toEqual({ name: 'chat', params: {} });
    expect(match('/c/12')).toEqual({ name: 'chat', params: { chat: '12' } });
    expect(match('/c/12/tree')).toEqual({ name: 'tree', params: { chat: '12' } });
    expect(match('/model/a/b%20c')).toEqual({ name: 'model', params: { model: 'a/b c' } });
    expect(match('/training/x')).toEqual({ name: 'training', params: { run: 'x' } });
    expect(match('/nothing').name).toBe('missing');
    expect(match('/c/%E0%A4%A').name).toBe('chat');
  });
});

describe('files in a message', () => {
  it('have a fence longer than any in them', () => {
    const m = withFiles('look', [{ name: 'a.md', text: 'x\n````\ny\n````\n' }]);
    expect(m).toBe('look\n\na.md:\n`````md\nx\n````\ny\n````\n`````');
  });
});

describe('the list of keys', () => {
  it('names all that the views bind, and no others', () => {
    const src = join(import.meta.dirname, '..', 'src');
    const bound = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.tsx'))
      .flatMap((f) => [...readFileSync(join(src, f), 'utf8').matchAll(/\{ keys: '([^']+)', what: '([\w.]+)'/g)].map(([, k, what]) => `${k!.toLowerCase()} ${what}`));
    // the field's own, which are no shortcuts
    const listed = groups.flatMap(([, list]) => list.map(([k, what]) => `${k.toLowerCase()} ${what}`)).filter((x) => !['enter key.send', 'shift+enter key.newline'].includes(x));
    expect([...new Set(listed)].sort()).toEqual([...new Set(bound)].sort());
  });
});

describe('texts', () => {
  it('fill in the same places in every language', () => {
    const slots = (s: string) => [...new Set(s.match(/\{\w+\}/g) ?? [])].sort();
    for (const k of Object.keys(en) as (keyof typeof en)[]) {
      expect(slots(de[k]), k).toEqual(slots(en[k]));
      expect(de[k].split('|').length, k).toBe(en[k].split('|').length);
      expect(de[k].trim(), k).not.toBe('');
    }
  });
});
