// What a person does to chats. Each says by its result whether it worked, so that what was typed is let go of only then.
import { t } from '../i18n';
import { api, newId, type Chat, type Settings } from '../lib/api';
import { saveFile } from '../lib/files';
import { recall, remember } from '../lib/keep';
import { go } from '../lib/router';
import { notice } from '../lib/say';
import { ask } from '../ui/parts';
import { attempt, boot, dropChat, folder, folders, loadChats, putChat, trees } from './store';
import { Tree } from './tree';
import { watch } from './watch';

/** Make a chat, from what was chosen before its first message. */
export async function begin(o: Partial<Chat>): Promise<Tree | null> {
  const f = folder.value && folder.value !== 'none' ? { folder: folder.value } : {};
  const c = await attempt(() => api.makeChat({ id: newId(), ...f, ...o }));
  if (!c) return null;
  putChat(c);
  const tr = trees.get(c.id) ?? new Tree(c, []);
  trees.set(c.id, tr);
  return tr;
}

export function show(tr: Tree, leaf: string | null): void {
  tr.show(leaf);
  if (leaf) void api.patchChat(tr.chat.value.id, { leaf }).then((c) => { tr.chat.value = c; }).catch(() => { /* only where one left off */ });
}

/** Send a message and have it answered. The ids are made here: asked twice, it is made once. */
export async function send(tr: Tree, content: string, meta: Record<string, unknown> = {}, parent = tr.leaf.value,
  ids = { message: newId(), answer: newId() }, role: 'user' | 'text' = 'user', settings?: Settings): Promise<boolean> {
  const r = await attempt(() => api.answer(tr.chat.value.id, { parent, message: { role, content, meta, id: ids.message }, id: ids.answer, ...(settings ? { settings } : {}) }));
  if (!r) return false;
  if (r.message) tr.put(r.message);
  tr.put(r.node);
  tr.show(r.node.id);
  watch(tr, r.node.id);
  return true;
}

export async function answer(tr: Tree, parent: string | null, settings?: Settings, model?: string | null, shown = true): Promise<string | null> {
  const r = await attempt(() => api.answer(tr.chat.value.id, { parent, id: newId(), ...(settings ? { settings } : {}), ...(model ? { model } : {}) }));
  if (!r) return null;
  tr.put(r.node);
  if (shown) tr.show(r.node.id);
  watch(tr, r.node.id);
  return r.node.id;
}

export async function goOn(tr: Tree, id: string, settings?: Settings): Promise<boolean> {
  const n = await attempt(() => api.goOn(id, settings ? { settings } : {}));
  if (!n) return false;
  tr.put(n);
  watch(tr, id);
  return true;
}

export async function stop(id: string): Promise<void> {
  try { await api.stop(id); } catch (e) {
    if ((e as { code?: string }).code !== 'answer_not_under_way') await attempt(() => Promise.reject(e));
  }
}

/** An edit is a new brother; for what the user said it is answered at once if `withAnswer`. */
export async function edit(tr: Tree, id: string, content: string, withAnswer: boolean): Promise<boolean> {
  const old = tr.get(id);
  if (!old) return false;
  if (withAnswer && old.role === 'user') return send(tr, content, old.meta, old.parent);
  const n = await attempt(() => api.makeNode(tr.chat.value.id, { parent: old.parent, role: old.role, content, meta: old.meta, id: newId(), ...(old.has_tokens ? { copy: id } : {}) }));
  if (!n) return false;
  tr.put(n);
  show(tr, n.id);
  return true;
}

export async function removeNode(tr: Tree, id: string): Promise<void> {
  if (!(await ask({ title: t('msg.delete.title'), yes: t('delete'), danger: true }))) return;
  const r = await attempt(() => api.deleteNode(id));
  if (r && tr.nodes.has(id)) tr.remove(id);
}

export async function patch(c: Chat, o: Partial<Chat>): Promise<boolean> {
  const r = await attempt(() => api.patchChat(c.id, { revision: c.revision, ...o }));
  if (r) putChat(r);
  return !!r;
}

export async function rename(c: Chat): Promise<void> {
  const title = await ask({ title: t('rename'), yes: t('save'), value: c.title || c.preview.slice(0, 60) });
  if (title !== null && title !== c.title) await patch(c, { title });
}

export async function removeChat(c: Chat): Promise<void> {
  if (!(await ask({ title: t('chat.delete.title'), text: t('chat.delete.text'), yes: t('delete'), danger: true }))) return;
  const draft = recall('draft.' + c.id);
  remember('draft.' + c.id, null); // first: what is typed in a chat that somebody else deletes is kept, here it is not meant to be
  if (!(await attempt(() => api.deleteChat(c.id)))) { remember('draft.' + c.id, draft); return; }
  dropChat(c.id);
}

export async function moveChat(c: Chat, to: string | null): Promise<void> {
  await patch(c, { folder: to });
}

export async function newFolder(): Promise<string | null> {
  const name = await ask({ title: t('chat.newfolder'), yes: t('save'), value: '' });
  if (!name) return null;
  const f = await attempt(() => api.makeFolder(name));
  if (!f) return null;
  if (!folders.value.some((x) => x.id === f.id)) folders.value = [...folders.value, f];
  return f.id;
}

export async function exportChat(c: Chat, format: 'json' | 'markdown', leaf?: string | null): Promise<void> {
  const r = await attempt(() => api.exportChat(c.id, format, leaf));
  if (r) await saveFile(r, `${fileName(c.title)}.${format === 'json' ? 'json' : 'md'}`);
}

/** Its title, or how it begins. */
export const chatTitle = (c: Chat): string => c.title || c.preview.slice(0, 60) || t('chat.untitled');

const fileName = (title: string): string => title.replace(/[^\p{L}\p{N} _-]/gu, '').trim().slice(0, 60) || 'chat';

export async function importChats(files: File[]): Promise<void> {
  for (const f of files) {
    const r = await attempt(() => api.importChats(f));
    if (!r) continue;
    notice(t('chat.imported', { n: r.chats.length }));
    await attempt(() => loadChats());
    const one = r.chats.length === 1 ? r.chats[0] : null;
    if (one) go(`/${one.kind === 'notebook' ? 'notebook' : 'c'}/${one.id}`);
  }
}

export async function saveState(node: string, title: string, tokensText: (n: number, b: number) => string): Promise<boolean> {
  const s = await attempt(() => api.saveState(node));
  if (!s) return false;
  const r = await attempt(() => api.stateFile(s.id));
  if (!r) return false;
  await saveFile(r, `${fileName(title)}.zambastate`);
  notice(tokensText(s.tokens, s.bytes));
  return true;
}

export async function openState(file: File, model: string | null, kind: 'chat' | 'notebook' = 'chat'): Promise<void> {
  const s = await attempt(() => api.putState(file, model ?? boot.value?.model ?? ''));
  if (!s) return;
  const tr = await begin({ kind, state: s.id, title: file.name.replace(/\.\w+$/, ''), ...(model ? { model } : {}) });
  if (!tr) return;
  go(`/${kind === 'notebook' ? 'notebook' : 'c'}/${tr.chat.value.id}`);
  notice(t('state.opened'));
}
