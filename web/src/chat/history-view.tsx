// All chats at once, wider than the sidebar: search with its places, export and import, deleting all.
import { t } from '../i18n';
import { api } from '../lib/api';
import { chooseFiles, saveFile } from '../lib/files';
import { when } from '../lib/format';
import { chatTitle, importChats } from '../store/actions';
import { attempt, boot, cursor, dropChat, found, loadChats, search, shownChats, total, trees } from '../store/store';
import { ask, Button, Menu } from '../ui/parts';
import { View } from '../ui/view';
import { chatItems, chatPath, Marked } from './sidebar';

export default function History() {
  const list = shownChats.value;
  const all = async () => {
    const r = await attempt(() => api.exportAll());
    if (r) await saveFile(r, 'zamba-chats.json');
  };
  const wipe = async () => {
    if (!(await ask({ title: t('history.deleteall.title'), text: t('history.deleteall.text'), yes: t('history.deleteall'), danger: true }))) return;
    if (await attempt(() => api.deleteAll())) { for (const id of [...trees.keys()]) dropChat(id); await attempt(() => loadChats()); }
  };
  const where = boot.value?.history?.folder;
  return (
    <View title={t('history.title')} lead={t('history.lead')}>
      <div class="row toolbar">
        <input type="search" class="input grow" aria-label={t('chat.search')} placeholder={t('chat.search')} dir="auto" value={search.value} onInput={(e) => { search.value = e.currentTarget.value; }} />
        <Button icon="save" onClick={() => void all()}>{t('chat.exportall')}</Button>
        <Button icon="open" onClick={() => void chooseFiles('.json,application/json').then(importChats)}>{t('chat.import')}</Button>
      </div>
      <p class="muted small">{t('history.total', { n: found.value ? list.length : total.value })}{where && ` · ${t('history.kept', { folder: where })}`}</p>
      <ul class="history-list">
        {list.map((c) => (
          <li key={c.id} class="card history-card">
            <a href={chatPath(c)}><h2 dir="auto">{chatTitle(c)}</h2>
              <p class="muted small" dir="auto">{c.hits?.length ? c.hits.map((h, i) => <span key={i} class="hit"><Marked text={h.snippet} marks={h.marks} /></span>) : c.preview}</p>
              <span class="small muted">{when(c.updated)} · {t('chat.count', { n: c.nodes })}</span></a>
            <Menu label={t('chat.actions', { title: chatTitle(c) })} items={chatItems(c)} />
          </li>
        ))}
      </ul>
      {!list.length && <p class="muted">{found.value ? t('chat.nohits') : t('chat.none')}</p>}
      {cursor.value && !found.value && <Button onClick={() => void attempt(() => loadChats(true))}>{t('chat.more')}</Button>}
      {list.length > 0 && !found.value && <p class="danger-zone"><Button kind="quiet" icon="trash" onClick={() => void wipe()}>{t('history.deleteall')}</Button></p>}
    </View>
  );
}
