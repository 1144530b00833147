// What the page knows of the server: chats, models, folders, presets, the open trees; kept fresh by the feed of changes.
// Views read signals from here and call the actions (store/actions.ts).
import { batch, computed, effect, signal } from '@preact/signals';
import { t } from '../i18n';
import {
  ApiError, api, protocol, tab, wantsKey, type Bootstrap, type ChangeEvent, type Chat, type Folder, type Model, type Node, type Preset,
} from '../lib/api';
import { recall, remember } from '../lib/keep';
import { go, route } from '../lib/router';
import { announce, notice } from '../lib/say';
import { Tree } from './tree';
import { unwatch, watch } from './watch';

export const boot = signal<Bootstrap | null>(null);
/** 'first': not yet heard of. 'lost': heard of before, or not at all after a try. */
export const link = signal<'first' | 'on' | 'lost'>('first');
export const leaving = signal(false);
export const otherVersion = signal(false);
export const models = signal<Model[]>([]);
export const folders = signal<Folder[]>([]);
export const presets = signal<Preset[]>([]);

export const chats = signal<Chat[]>([]);
export const cursor = signal<string | null>(null);
export const total = signal(0);
export const search = signal('');
export const folder = signal<string>('');
export const listBusy = signal(false);
export const found = signal<Chat[] | null>(null);

export const trees = new Map<string, Tree>();
export const sidebarClosed = signal(recall('sidebar') === 'closed');
export const enterSends = signal(recall('enter') !== 'no');
export const drawMath = signal(recall('math') !== 'no');
effect(() => remember('sidebar', sidebarClosed.value ? 'closed' : null));
effect(() => remember('enter', enterSends.value ? null : 'no'));
effect(() => remember('math', drawMath.value ? null : 'no'));

const order = (a: Chat, b: Chat): number => Number(b.pinned) - Number(a.pinned) || b.updated - a.updated || (a.id < b.id ? 1 : -1);
export const shownChats = computed(() => {
  const list = found.value ?? chats.value;
  return found.value ? list : [...list].sort(order);
});

/** What went wrong, in plain words. */
export function explain(e: unknown): string {
  if (!(e instanceof ApiError)) return e instanceof Error ? e.message : String(e);
  if (e.status === 0) return t('net.lost');
  if (e.status === 401) return t('net.key');
  if (e.code === 'history_full' || e.status === 507) return t('hist.full');
  if (e.code === 'revision_conflict') return t('conflict');
  if (e.code === 'answer_under_way') return t('err.busy');
  if (e.status === 404 && /^(chat|node|not)_?/.test(e.code)) return t('err.gone');
  if (e.status === 429 || (e.status === 503 && e.retryAfter)) return t('err.wait', { n: e.retryAfter || 1 });
  if (e.code === 'history_read_only') return boot.value?.history.reason === 'newer' ? t('hist.read_only') : e.message;
  return e.message;
}

/** Do something; tell what went wrong. Null: it did not work. */
export async function attempt<T>(what: () => Promise<T>, again?: () => void): Promise<T | null> {
  try {
    return await what();
  } catch (e) {
    if (e instanceof ApiError && e.status === 0) lost();
    if (e instanceof ApiError && e.code === 'revision_conflict' && e.current) takeCurrent(e.current);
    notice(explain(e), 'error', again ? { label: t('again'), run: again } : undefined);
    return null;
  }
}

function takeCurrent(o: unknown): void {
  const x = o as Partial<Node & Chat>;
  if (x.kind && x.id) putChat(x as Chat);
  else if (x.chat && x.id) trees.get(x.chat)?.put(x as Node);
}

export function putChat(c: Chat): void {
  batch(() => {
    const { hits: _, ...plain } = c;
    const i = chats.value.findIndex((x) => x.id === c.id);
    if (i >= 0) { const l = chats.value.slice(); l[i] = plain; chats.value = l; }
    else if (!folder.value || plain.folder === folder.value) { chats.value = [plain, ...chats.value]; total.value++; }
    if (found.value) found.value = found.value.map((x) => (x.id === c.id ? { ...plain, ...(x.hits ? { hits: x.hits } : {}) } : x));
    const tr = trees.get(c.id);
    if (tr) tr.chat.value = plain;
  });
}

export function dropChat(id: string): void {
  batch(() => {
    const n = chats.value.length;
    chats.value = chats.value.filter((c) => c.id !== id);
    if (chats.value.length < n) total.value = Math.max(0, total.value - 1);
    if (found.value) found.value = found.value.filter((c) => c.id !== id);
  });
  const tr = trees.get(id);
  trees.delete(id);
  if (tr) for (const x of tr.nodes.keys()) unwatch(x);
  if (route.value.params.chat !== id) return;
  // what was being typed there goes on at the first page
  const draft = recall('draft.' + id);
  remember('draft.' + id, null);
  if (draft && !recall('draft.new')) remember('draft.new', draft);
  notice(t('chat.deleted'));
  go('/');
}

export async function loadChats(more = false): Promise<void> {
  listBusy.value = true;
  try {
    const f = folder.value;
    const r = await api.chats({ limit: 60, ...(f ? { folder: f } : {}), ...(more ? { after: cursor.value } : {}) });
    if (f !== folder.value) return;
    batch(() => {
      const have = more ? chats.value : [];
      const ids = new Set(have.map((c) => c.id));
      chats.value = [...have, ...r.chats.filter((c) => !ids.has(c.id))];
      cursor.value = r.next;
      total.value = r.total;
    });
  } finally { listBusy.value = false; }
}

let asking: AbortController | null = null;
effect(() => {
  const q = search.value.trim();
  asking?.abort();
  if (!q) { found.value = null; return; }
  const mine = asking = new AbortController();
  setTimeout(() => {
    if (mine.signal.aborted) return;
    api.chats({ q, limit: 40 }, mine.signal).then((r) => { if (!mine.signal.aborted) { found.value = r.chats; announce(t('chat.count', { n: r.chats.length })); } })
      .catch(() => { if (!mine.signal.aborted) found.value = []; });
  }, 180);
});

/** The tree of a chat, from the server if it is not here. */
export async function openTree(id: string): Promise<Tree> {
  const have = trees.get(id);
  if (have) return have;
  const r = await api.chat(id);
  const again = trees.get(id);
  if (again) return again;
  const tr = new Tree(r.chat, r.nodes);
  trees.set(id, tr);
  for (const n of r.nodes) if (n.status === 'streaming') watch(tr, n.id);
  // a few stay, so that going back and forth is quick
  if (trees.size > 8) for (const [k, v] of trees) { if (k !== id && ![...v.nodes.values()].some((s) => s.peek().status === 'streaming')) { trees.delete(k); break; } }
  return tr;
}

async function refreshTrees(): Promise<void> {
  for (const [id, tr] of trees) {
    try {
      const r = await api.chat(id);
      tr.chat.value = r.chat;
      tr.fill(r.nodes);
      for (const n of r.nodes) if (n.status === 'streaming') watch(tr, n.id);
    } catch (e) {
      if (e instanceof ApiError && e.status === 404) dropChat(id);
    }
  }
}

export function newChat(): void {
  go('/');
  setTimeout(() => document.getElementById('composer')?.focus(), 30);
}

export function lost(): void {
  if (link.value !== 'lost') { link.value = 'lost'; wake(); }
}

// -- the feed of changes, and finding the server again --
let seq: number | null = null;
let epoch: string | null = null;
let wakeUp: (() => void) | null = null;
export function wake(): void { wakeUp?.(); }
const pause = (ms: number): Promise<void> => new Promise((r) => { const id = setTimeout(r, ms); wakeUp = () => { clearTimeout(id); r(); }; });

function onChange(e: ChangeEvent): void {
  if ('seq' in e && e.type !== 'hello') seq = e.seq;
  switch (e.type) {
    case 'hello': {
      const other = epoch !== null && e.epoch !== epoch;
      if (other || e.missed) { void start(); void refreshTrees(); }
      epoch = e.epoch;
      seq = e.seq;
      break;
    }
    case 'chat':
      if (e.op === 'deleted') dropChat(e.id);
      else if (e.chat) putChat(e.chat);
      break;
    case 'node': {
      const tr = trees.get(e.chat);
      if (!tr) break;
      if (!e.node) { if (tr.nodes.has(e.id)) tr.remove(e.id); break; }
      if (e.tab === tab && tr.get(e.id) && e.node.revision < tr.get(e.id)!.revision) break;
      const atEnd = tr.leaf.value === e.node.parent;
      tr.put(e.node);
      // another tab goes on where this one stands: follow, as one does when a person watches
      if (e.op === 'created' && atEnd && e.tab !== tab) tr.show(e.node.id);
      if (e.node.status === 'streaming') watch(tr, e.id);
      break;
    }
    case 'folder':
      folders.value = e.folder ? [...folders.value.filter((f) => f.id !== e.id), e.folder].sort((a, b) => a.position - b.position) : folders.value.filter((f) => f.id !== e.id);
      break;
    case 'preset':
      presets.value = e.preset ? [...presets.value.filter((p) => p.id !== e.id), e.preset] : presets.value.filter((p) => p.id !== e.id);
      break;
    case 'model': {
      const old = models.value.find((m) => m.name === e.model.name);
      if (old?.phase === 'loading' && e.model.phase === 'ready') announce(`${e.model.name}: ${t('model.ready')}`);
      if (e.model.error && !old?.error) notice(t('model.failed', { name: e.model.name, message: e.model.error }), 'error');
      models.value = old ? models.value.map((m) => (m.name === e.model.name ? e.model : m)) : [...models.value, e.model];
      break;
    }
    case 'bye': leaving.value = true; break;
  }
}

/** Ask for all that the shell shows. */
async function start(): Promise<boolean> {
  const b = await api.bootstrap();
  batch(() => {
    boot.value = b;
    otherVersion.value = b.protocol !== protocol || (!!seenBuild && b.build !== seenBuild);
    wantsKey.value = b.needs_key && !b.authorized;
    if (b.models) models.value = b.models;
  });
  seenBuild ||= b.build;
  if (wantsKey.value) return false;
  await Promise.all([loadChats(), api.folders().then((r) => { folders.value = r.folders; }), api.presets().then((r) => { presets.value = r.presets; })]);
  return true;
}
let seenBuild = '';

async function loop(): Promise<void> {
  let wait = 500;
  for (;;) {
    try {
      if (!(await start())) { link.value = 'on'; await pause(1e9); continue; }
      const back = link.value === 'lost' && boot.value;
      batch(() => { link.value = 'on'; leaving.value = false; });
      if (back) { notice(t('net.back')); void refreshTrees(); }
      wait = 500;
      const abort = new AbortController();
      const stop = effect(() => { if (link.value === 'lost' || wantsKey.value) abort.abort(); });
      try { await api.changes(seq, epoch, onChange, abort.signal); } finally { stop(); }
      await pause(300);
    } catch (e) {
      if (e instanceof ApiError && e.status === 401) continue;
      if (e instanceof ApiError && e.code === 'cut') { await pause(200); continue; } // whether the server is there is seen at the next request
      if (e instanceof ApiError && e.status && e.status < 500) { link.value = 'on'; notice(explain(e), 'error'); }
      else link.value = 'lost';
      await pause(wait);
      wait = Math.min(wait * 1.7, 8000);
    }
  }
}

export function startStore(): void {
  addEventListener('online', wake);
  addEventListener('offline', () => lost());
  document.addEventListener('visibilitychange', () => { if (!document.hidden && link.value === 'lost') wake(); });
  void loop();
}
