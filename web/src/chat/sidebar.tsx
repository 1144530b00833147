// The chats there are: search, folders, pinned ones; and the way to the other views.
import { useEffect, useRef } from 'preact/hooks';
import { t } from '../i18n';
import { api, type Chat } from '../lib/api';
import { chooseFiles } from '../lib/files';
import { when } from '../lib/format';
import { go, route } from '../lib/router';
import { chatTitle, exportChat, importChats, moveChat, newFolder, patch, removeChat, rename } from '../store/actions';
import { attempt, boot, cursor, folder, folders, found, listBusy, loadChats, newChat, search, shownChats, sidebarClosed } from '../store/store';
import { ask, drawer, IconButton, Menu, type Item } from '../ui/parts';
import { Icon, type IconName } from '../ui/icon';

export const chatPath = (c: Chat): string => `/${c.kind === 'notebook' ? 'notebook' : 'c'}/${c.id}`;

export function chatItems(c: Chat): Item[] {
  return [
    { label: t('rename'), icon: 'edit', run: () => void rename(c) },
    { label: c.pinned ? t('chat.unpin') : t('chat.pin'), icon: 'pin', run: () => void patch(c, { pinned: !c.pinned }) },
    ...folders.value.filter((f) => f.id !== c.folder).map((f): Item => ({ label: `${t('chat.move')}: ${f.name}`, icon: 'folder', run: () => void moveChat(c, f.id) })),
    { label: `${t('chat.move')}: ${t('chat.newfolder')}…`, icon: 'folder', run: () => void newFolder().then((id) => { if (id) void moveChat(c, id); }) },
    ...(c.folder ? [{ label: t('chat.nofolder'), icon: 'folder' as const, run: () => void moveChat(c, null) }] : []),
    { label: t('chat.exportmd'), icon: 'save', run: () => void exportChat(c, 'markdown') },
    { label: t('chat.exportjson'), icon: 'save', run: () => void exportChat(c, 'json') },
    null, { label: t('delete'), icon: 'trash', danger: true, run: () => void removeChat(c) },
  ];
}

export function Marked({ text, marks }: { text: string; marks: [number, number][] }) {
  const out = [];
  let at = 0;
  for (const [a, b] of marks) { if (a < at) continue; out.push(text.slice(at, a), <mark key={a}>{text.slice(a, b)}</mark>); at = b; }
  return <>{out}{text.slice(at)}</>;
}

export function ChatRow({ c }: { c: Chat }) {
  const title = chatTitle(c);
  const here = route.value.params.chat === c.id;
  const hit = c.hits?.find((h) => h.node) ?? c.hits?.[0];
  return (
    <li class={here ? 'chat-row here' : 'chat-row'}>
      <a href={chatPath(c)} aria-current={here ? 'page' : undefined}>
        <span class="chat-title" dir="auto">{c.kind === 'notebook' && <Icon name="book" size={15} />}{c.pinned && <Icon name="pin" size={14} />}<span>{title}</span></span>
        {hit ? <span class="chat-hit" dir="auto"><Marked text={hit.snippet} marks={hit.marks} /></span> : null}
        <time class="sr" dateTime={new Date(c.updated).toISOString()}>{when(c.updated)}</time>
      </a>
      <Menu label={t('chat.actions', { title })} items={chatItems(c)} />
    </li>
  );
}

function Link({ to, icon, name, label }: { to: string; icon: IconName; name: string; label: string }) {
  return <a href={to} aria-current={route.value.name === name ? 'page' : undefined}><Icon name={icon} /><span>{label}</span></a>;
}

export function Sidebar() {
  const list = shownChats.value;
  const more = useRef<HTMLLIElement>(null);
  const next = cursor.value;
  useEffect(() => {
    if (!more.current || !next || found.value) return;
    const o = new IntersectionObserver((e) => { if (e.some((x) => x.isIntersecting) && !listBusy.value) void attempt(() => loadChats(true)); });
    o.observe(more.current);
    return () => o.disconnect();
  }, [next, list.length]);
  const f = folders.value.find((x) => x.id === folder.value);
  const choose = (id: string) => { folder.value = id; void attempt(() => loadChats()); };
  const pinned = found.value ? [] : list.filter((c) => c.pinned), rest = found.value ? list : list.filter((c) => !c.pinned);
  return (
    <nav class="side" aria-label={t('nav.chats')}>
      <div class="side-head">
        <a class="brand" href="/"><svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="9" fill="#0f766e" /><path d="M9 10h14L10 22h13" fill="none" stroke="#fff" stroke-width="3.2" stroke-linecap="round" stroke-linejoin="round" /></svg>zamba</a>
        <IconButton icon="plus" label={t('chat.new')} onClick={newChat} />
        <IconButton icon="left" label={t('nav.open')} onClick={() => { if (innerWidth > 860) sidebarClosed.value = true; else drawer.value = false; }} />
      </div>
      <div class="side-search">
        <Icon name="search" size={17} />
        <input id="chat-search" type="search" class="input" placeholder={t('chat.search')} aria-label={t('chat.search')} dir="auto" value={search.value}
          onInput={(e) => { search.value = e.currentTarget.value; }} onKeyDown={(e) => { if (e.key === 'Escape' && search.value) { e.stopPropagation(); search.value = ''; } }} />
      </div>
      <div class="side-folders">
        <select class="select" aria-label={t('folder.choose')} value={folder.value} onChange={(e) => {
          if (e.currentTarget.value === '+') { e.currentTarget.value = folder.value; void newFolder().then((id) => { if (id) choose(id); }); } else choose(e.currentTarget.value);
        }}>
          <option value="">{t('folder.all')}</option>
          {folders.value.map((x) => <option key={x.id} value={x.id}>{x.name}</option>)}
          {folders.value.length > 0 && <option value="none">{t('chat.nofolder')}</option>}
          <option value="+">{t('chat.newfolder')}…</option>
        </select>
        <Menu label={f ? t('folder.actions', { name: f.name }) : t('more')} items={[
          ...(f ? [
            { label: t('folder.rename'), icon: 'edit' as const, run: () => void ask({ title: t('folder.rename'), yes: t('save'), value: f.name }).then((name) => { if (name) void attempt(() => api.patchFolder(f.id, { name })).then((x) => { if (x) folders.value = folders.value.map((y) => (y.id === x.id ? x : y)); }); }) },
            { label: t('folder.delete'), icon: 'trash' as const, danger: true, run: () => void attempt(() => api.deleteFolder(f.id)).then((r) => { if (r) { folders.value = folders.value.filter((y) => y.id !== f.id); choose(''); } }) }, null] : []),
          { label: t('nav.history'), icon: 'clock', run: () => go('/history') },
          { label: t('chat.import'), icon: 'open', run: () => void chooseFiles('.json,application/json').then(importChats) },
        ]} />
      </div>
      <ul class="chat-list">
        {pinned.length > 0 && <li class="list-head">{t('chat.pinned')}</li>}
        {pinned.map((c) => <ChatRow key={c.id} c={c} />)}
        {pinned.length > 0 && rest.length > 0 && <li class="list-head">{t('chat.recent')}</li>}
        {rest.map((c) => <ChatRow key={c.id} c={c} />)}
        {next && !found.value && <li ref={more} class="chat-row"><button type="button" class="button quiet" onClick={() => void attempt(() => loadChats(true))}>{t('chat.more')}</button></li>}
        {!list.length && boot.value && !listBusy.value && <li class="muted small list-none">{found.value ? t('chat.nohits') : t('chat.none')}</li>}
      </ul>
      <div class="side-nav">
        <Link to="/" icon="chat" name="chat" label={t('nav.chat')} />
        <Link to="/notebook" icon="book" name="notebook" label={t('nav.notebook')} />
        <Link to="/models" icon="cpu" name="models" label={t('nav.models')} />
        <Link to="/dashboard" icon="gauge" name="dashboard" label={t('nav.dashboard')} />
        <Link to="/training" icon="train" name="training" label={t('nav.training')} />
        <Link to="/charts" icon="chart" name="charts" label={t('nav.charts')} />
        <Link to="/settings" icon="gear" name="settings" label={t('nav.settings')} />
        <Link to="/help" icon="help" name="help" label={t('nav.help')} />
      </div>
    </nav>
  );
}
