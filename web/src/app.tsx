// The shell: sidebar, banners, and the view that the address names. Views that are not the chat are loaded when they are wanted.
import type { ComponentType } from 'preact';
import { Component } from 'preact';
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { t } from './i18n';
import { useShortcuts } from './lib/keys';
import { go, path, route } from './lib/router';
import { Banners } from './chat/banners';
import { ChatView } from './chat/chat-view';
import { Sidebar } from './chat/sidebar';
import { newChat, sidebarClosed } from './store/store';
import { Button, Empty, MenuButton, Notices, Questions, drawer } from './ui/parts';

type Views = ComponentType<{ params: Record<string, string> }>;
const lazy: Record<string, () => Promise<{ default: Views }>> = {
  tree: () => import('./chat/tree-view'),
  compare: () => import('./chat/compare-view'),
  notebook: () => import('./notebook/notebook-view'),
  history: () => import('./chat/history-view'),
  settings: () => import('./chat/settings-view'),
  help: () => import('./chat/help-view'),
  models: () => import('./views/models'),
  model: () => import('./views/model'),
  dashboard: () => import('./views/dashboard'),
  training: () => import('./views/training'),
  charts: () => import('./views/charts'),
};
const loaded = signal<Record<string, Views | 'failed'>>({});

function load(name: string): void {
  lazy[name]!().then((m) => { loaded.value = { ...loaded.value, [name]: m.default }; })
    .catch(() => { loaded.value = { ...loaded.value, [name]: 'failed' }; });
}

class Guard extends Component<{ where: string }, { error: Error | null; where: string }> {
  state = { error: null as Error | null, where: this.props.where };
  static getDerivedStateFromProps(p: { where: string }, s: { where: string }) {
    return p.where === s.where ? null : { error: null, where: p.where };
  }
  componentDidCatch(error: Error) { this.setState({ error }); }
  render() {
    if (!this.state.error) return this.props.children;
    return <Empty icon="warn" title={t('broken.title')}><p>{t('broken.text')}</p><p class="small mono">{String(this.state.error.message).slice(0, 200)}</p>
      <Button kind="primary" onClick={() => location.reload()}>{t('reload')}</Button></Empty>;
  }
}

function Current() {
  const { name, params } = route.value;
  const wanted = name in lazy && !loaded.value[name];
  useEffect(() => { if (wanted) load(name); }, [name, wanted]);
  if (name === 'chat') return <ChatView id={params.chat ?? null} />;
  if (name === 'missing') return <Empty icon="search" title={t('missing.title')}><Button kind="primary" onClick={() => go('/')}>{t('chat.new')}</Button></Empty>;
  const V = loaded.value[name];
  if (V === 'failed')
    return (
      <div class="view"><header class="bar"><MenuButton /><h1>{t('view.failed')}</h1></header>
        <Empty icon="warn" title={t('view.failed')}><p>{t('view.failed.text')}</p><div class="row">
          <Button kind="primary" onClick={() => { const { [name]: _, ...rest } = loaded.value; loaded.value = rest; }}>{t('again')}</Button>
          <Button onClick={() => location.reload()}>{t('reload')}</Button></div></Empty></div>);
  return V ? <V params={params} /> : <div class="view" aria-busy="true" />;
}

export function App() {
  useShortcuts([
    { keys: '?', what: 'key.help', run: () => go('/help') },
    { keys: 'mod+k', what: 'key.search', inFields: true, run: () => { drawer.value = true; sidebarClosed.value = false; setTimeout(() => document.getElementById('chat-search')?.focus(), 30); } },
    { keys: 'mod+shift+o', what: 'key.new', inFields: true, run: () => newChat() },
    { keys: 'mod+b', what: 'key.sidebar', inFields: true, run: () => { if (innerWidth > 860) sidebarClosed.value = !sidebarClosed.value; else drawer.value = !drawer.value; } },
    { keys: 'mod+,', what: 'key.settings', inFields: true, run: () => go('/settings') },
    { keys: 'escape', what: 'key.close', inFields: true, run: () => { if (!drawer.value) return false; drawer.value = false; return undefined; } },
  ]);
  useEffect(() => { drawer.value = false; }, [path.value]);
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById('main')?.focus(); }}>{t('skip')}</a>
      <div class={'shell' + (drawer.value ? ' drawer' : '') + (sidebarClosed.value ? ' closed' : '')}>
        <Sidebar />
        <button type="button" class="scrim" aria-label={t('close')} tabIndex={-1} onClick={() => { drawer.value = false; }} />
        <main class="main" id="main" tabIndex={-1}>
          <Banners />
          <Guard where={path.value}><Current /></Guard>
        </main>
      </div>
      <Notices />
      <Questions />
    </>
  );
}
