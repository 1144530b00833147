// A chat: its branch as a list, and the field below it. Without an id: a chat that begins with its first message.
import { useEffect, useRef, useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import { t } from '../i18n';
import { ApiError, newId, type Settings } from '../lib/api';
import { chooseFiles, copyText } from '../lib/files';
import { useShortcuts } from '../lib/keys';
import { go } from '../lib/router';
import { notice } from '../lib/say';
import { answer, begin, chatTitle, exportChat, goOn, openState, patch, removeChat, rename, send, show, stop } from '../store/actions';
import { boot, chats, explain, link, openTree, trees } from '../store/store';
import type { Tree } from '../store/tree';
import { Button, Empty, IconButton, Menu, MenuButton } from '../ui/parts';
import { Icon } from '../ui/icon';
import { ChatSettings } from './chat-settings';
import { Composer } from './composer';
import { editing, Message } from './message';
import { ModelPicker } from './model-picker';
import { Retry } from './retry';
import { VirtualList, type ListHandle } from './virtual-list';

/** What was chosen for a chat that is not yet there. */
const next = signal<{ system: string; settings: Settings; model: string | null }>({ system: '', settings: {}, model: null });

export function useTree(id: string | null): { tr: Tree | null; failed: string | null; again: () => void } {
  const [tr, setTr] = useState<Tree | null>(id ? trees.get(id) ?? null : null);
  const [failed, setFailed] = useState<string | null>(null);
  const [n, setN] = useState(0);
  const alive = link.value === 'on';
  useEffect(() => {
    let gone = false;
    setFailed(null);
    if (!id) { setTr(null); return; }
    const have = trees.get(id);
    setTr(have ?? null);
    if (!have) openTree(id).then((x) => { if (!gone) setTr(x); })
      .catch((e) => { if (!gone) setFailed(e instanceof ApiError && e.status === 404 ? t('chat.gone') : explain(e)); });
    return () => { gone = true; };
  }, [id, n, alive]);
  return { tr: id && tr?.chat.value.id === id ? tr : null, failed, again: () => setN(n + 1) };
}

/** Ids of what is sent: the same for the same text below the same node, so that what is sent twice, because no reply came, is made once. */
function useIds(): (text: string, below: string | null) => { message: string; answer: string } {
  const last = useRef({ text: '', below: null as string | null, ids: { message: newId(), answer: newId() } });
  return (text, below) => {
    if (last.current.text !== text || last.current.below !== below) last.current = { text, below, ids: { message: newId(), answer: newId() } };
    return last.current.ids;
  };
}

const firstLine = (s: string): string => s.trim().split('\n')[0]!.replace(/^[#>*`\s]+/, '').slice(0, 80);

function Open({ tr }: { tr: Tree }) {
  const list = useRef<ListHandle | null>(null);
  const [atEnd, setAtEnd] = useState(true);
  const [settings, setSettings] = useState(false);
  const c = tr.chat.value;
  const items = tr.path.value;
  const leaf = tr.leaf.value;
  tr.shape.value;
  const last = leaf ? tr.nodes.get(leaf)?.value : undefined;
  const busyId = last?.status === 'streaming' ? last.id : null;
  const ids = useIds();
  const title = chatTitle(c);
  useEffect(() => { document.title = `${title} · zamba`; }, [title]);
  const move = (by: number) => {
    const rows = [...document.querySelectorAll<HTMLElement>('.message-list .msg')];
    const here = document.activeElement?.closest<HTMLElement>('.msg');
    const i = here ? items.indexOf(here.dataset.id!) : by < 0 ? items.length : -1;
    const to = items[Math.max(0, Math.min(items.length - 1, i + by))];
    if (!to) return;
    const el = rows.find((r) => r.dataset.id === to);
    if (el) { el.focus(); el.scrollIntoView({ block: 'nearest' }); } else { list.current?.toItem(to); setTimeout(() => document.querySelector<HTMLElement>(`.msg[data-id="${to}"]`)?.focus(), 80); }
  };
  const version = (by: number) => {
    const here = document.activeElement?.closest<HTMLElement>('.msg')?.dataset.id ?? [...items].reverse().find((x) => tr.brothers(x).length > 1);
    if (!here) return;
    const all = tr.brothers(here), to = all[all.indexOf(here) + by];
    if (to) show(tr, tr.deepest(to));
  };
  const lastOf = (role: string) => [...tr.path.peek()].reverse().map((x) => tr.get(x)!).find((n) => n.role === role && n.status !== 'streaming');
  useShortcuts([
    { keys: '/', what: 'key.focus', run: () => document.getElementById('composer')?.focus() },
    { keys: 'escape', what: 'key.stop', inFields: true, run: () => { const n = tr.get(tr.leaf.peek()); if (n?.status !== 'streaming') return false; void stop(n.id); return undefined; } },
    { keys: 'r', what: 'key.regenerate', run: () => { const n = lastOf('assistant'); if (n) void answer(tr, n.parent); } },
    { keys: 'e', what: 'key.edit', run: () => { const n = lastOf('user'); if (n) { editing.value = n.id; list.current?.toItem(n.id); } } },
    { keys: 'g', what: 'key.continue', run: () => { const n = lastOf('assistant'); if (n) void goOn(tr, n.id); } },
    { keys: 'c', what: 'key.copy', run: () => { const n = lastOf('assistant'); if (n) void copyText(n.content).then(() => notice(t('copied'))); } },
    { keys: 't', what: 'key.tree', run: () => go(`/c/${c.id}/tree`) },
    { keys: 's', what: 'key.chatsettings', run: () => setSettings(true) },
    { keys: 'k', what: 'key.prev', run: () => move(-1) }, { keys: 'j', what: 'key.next', run: () => move(1) },
    { keys: '[', what: 'key.older', run: () => version(-1) }, { keys: ']', what: 'key.newer', run: () => version(1) },
  ], [tr]);
  return (
    <div class="view chat">
      <header class="bar">
        <MenuButton />
        <h1 dir="auto" class={c.title ? '' : 'sr-wide'}>{title}</h1>
        <ModelPicker value={c.model} onChange={(m) => void patch(tr.chat.value, { model: m })} />
        <div class="bar-actions">
          <IconButton icon="tree" label={t('tree.open')} onClick={() => go(`/c/${c.id}/tree`)} class="hide-small" />
          <IconButton icon="sliders" label={t('compose.settings')} onClick={() => setSettings(true)} />
          <Menu label={t('chat.actions', { title })} items={[
            { label: t('tree.open'), icon: 'tree', run: () => go(`/c/${c.id}/tree`) },
            { label: t('cmp.title'), icon: 'split', run: () => go(`/compare/${c.id}`) },
            { label: t('rename'), icon: 'edit', run: () => void rename(c) },
            { label: c.pinned ? t('chat.unpin') : t('chat.pin'), icon: 'pin', run: () => void patch(c, { pinned: !c.pinned }) },
            { label: t('chat.exportmd'), icon: 'save', run: () => void exportChat(c, 'markdown', tr.leaf.peek()) },
            { label: t('chat.exportjson'), icon: 'save', run: () => void exportChat(c, 'json') },
            null, { label: t('delete'), icon: 'trash', danger: true, run: () => void removeChat(c) },
          ]} />
        </div>
      </header>
      {(c.system || c.state) && <div class="under-bar">
        {c.system && <button type="button" class="pill tall" onClick={() => setSettings(true)}><Icon name="sliders" size={14} /><span dir="auto">{c.system.slice(0, 90)}</span></button>}
        {c.state && <span class="pill on">{t('state.behind')}</span>}
      </div>}
      <div class="list-box">
        {items.length === 0 ? <Empty icon="chat" title={t('chat.hello')}><p>{t('chat.hello.text')}</p></Empty>
          : <VirtualList key={c.id} items={items} handle={list} label={t('nav.chat')} onEnd={setAtEnd} draw={(id) => <Message tr={tr} id={id} />} />}
        {!atEnd && <button type="button" class="jump" onClick={() => list.current?.toEnd()}><Icon name="down" size={18} /><span>{busyId ? t('msg.jumpnew') : t('msg.jump')}</span></button>}
      </div>
      <Composer draftKey={c.id} busy={!!busyId} onStop={() => { if (busyId) void stop(busyId); }}
        onSend={async (text) => { const ok = await send(tr, text, {}, tr.leaf.peek(), ids(text, tr.leaf.peek())); if (ok) list.current?.toEnd(); return ok; }} />
      {settings && <ChatSettings value={c} onClose={() => setSettings(false)} onSave={(o) => patch(tr.chat.peek(), o)} />}
      <Retry />
    </div>
  );
}

function Fresh() {
  const [settings, setSettings] = useState(false);
  const n = next.value;
  const made = useRef<Tree | null>(null);
  const ids = useIds();
  const chatId = useRef(newId());
  useEffect(() => { document.title = 'zamba'; }, []);
  useShortcuts([
    { keys: '/', what: 'key.focus', run: () => document.getElementById('composer')?.focus() },
    { keys: 's', what: 'key.chatsettings', run: () => setSettings(true) },
  ]);
  return (
    <div class="view chat">
      <header class="bar">
        <MenuButton />
        <h1 class="sr-wide">{t('chat.new')}</h1>
        <ModelPicker value={n.model} onChange={(model) => { next.value = { ...n, model }; }} />
        <div class="bar-actions">
          <IconButton icon="sliders" label={t('compose.settings')} onClick={() => setSettings(true)} />
          {boot.value?.features?.states && <Menu label={t('more')} items={[{ label: t('state.open'), icon: 'open', run: () => void chooseFiles('', false).then((f) => { if (f[0]) void openState(f[0], n.model); }) }]} />}
        </div>
      </header>
      <div class="list-box fresh"><Empty icon="chat" title={t('chat.hello')}><p>{t('chat.hello.text')}</p></Empty></div>
      <Composer draftKey="new" busy={false} onStop={() => {}} onSend={async (text) => {
        const tr = made.current ?? await begin({ id: chatId.current, title: firstLine(text), system: n.system, settings: n.settings, ...(n.model ? { model: n.model } : {}) });
        if (!tr) return false;
        made.current = tr;
        if (!(await send(tr, text, {}, tr.leaf.peek(), ids(text, tr.leaf.peek())))) return false;
        made.current = null;
        chatId.current = newId();
        next.value = { system: '', settings: {}, model: n.model };
        if (!chats.value.length) chats.value = [tr.chat.value];
        go(`/c/${tr.chat.value.id}`);
        return true;
      }} />
      {settings && <ChatSettings value={n} onClose={() => setSettings(false)} onSave={async (o) => {
        next.value = { ...n, system: o.system, settings: Object.fromEntries(Object.entries(o.settings).filter(([, v]) => v != null)) };
        return true;
      }} />}
    </div>
  );
}

export function ChatView({ id }: { id: string | null }) {
  const { tr, failed, again } = useTree(id);
  if (!id) return <Fresh />;
  if (failed) return <div class="view"><header class="bar"><MenuButton /><h1>{t('nav.chat')}</h1></header><Empty icon="warn" title={failed}><div class="row"><Button kind="primary" onClick={again}>{t('again')}</Button><Button onClick={() => go('/')}>{t('chat.new')}</Button></div></Empty></div>;
  if (!tr) return <div class="view" aria-busy="true"><header class="bar"><MenuButton /><h1 class="sr">{t('loading')}</h1></header></div>;
  return <Open key={id} tr={tr} />;
}
