// Raw text that the model goes on with. In "Probabilities" each token shows how likely it was and what else could have stood there;
// taking another one branches.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import { t } from '../i18n';
import { api, newId, type Settings, type Token } from '../lib/api';
import { bytes, num } from '../lib/format';
import { useShortcuts } from '../lib/keys';
import { recall, remember } from '../lib/keep';
import { go } from '../lib/router';
import { answer, begin, chatTitle, goOn, patch, removeChat, rename, saveState, show, stop } from '../store/actions';
import { attempt, boot } from '../store/store';
import type { Tree } from '../store/tree';
import { streamed } from '../store/watch';
import { Button, Empty, IconButton, Menu, MenuButton } from '../ui/parts';
import { ChatSettings } from '../chat/chat-settings';
import { useTree } from '../chat/chat-view';
import { PhaseLine, Versions } from '../chat/message';
import { ModelPicker } from '../chat/model-picker';
import { plan } from './pieces';
import './notebook.css';

const tokens = new Map<string, Token[]>();
const known = signal(0);
const shownMost = 3000;

function useTokens(tr: Tree | null): void {
  const path = tr?.path.value ?? [];
  for (const id of path) {
    const n = tr!.nodes.get(id)?.value;
    if (n?.status === 'streaming') tokens.delete(id); // it grows: what was known of it is not all
    if (!n || n.status === 'streaming' || !n.has_tokens || tokens.has(id)) continue;
    tokens.set(id, streamed.get(id) ?? []);
    api.tokens(id).then((r) => { tokens.set(id, r.tokens); known.value++; }).catch(() => { tokens.delete(id); });
  }
}

const chance = (logprob: number): number => Math.exp(Math.max(-50, logprob));
const level = (p: number): string => p > 0.8 ? 'p5' : p > 0.5 ? 'p4' : p > 0.25 ? 'p3' : p > 0.08 ? 'p2' : 'p1';
const seen = (s: string): string => s.replace(/\n/g, '⏎').replace(/\t/g, '⇥').replace(/ /g, '·') || '∅';

type Spot = { node: string; i: number };

function Look({ tr, live, pick }: { tr: Tree; live: boolean; pick: (node: string, tok: Token, alt: { id: number; text: string; logprob: number }) => void }) {
  known.value;
  const [spot, setSpot] = useState<Spot | null>(null);
  const [over, setOver] = useState<Spot | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const stick = useRef(true);
  useLayoutEffect(() => { if (live && stick.current && box.current) box.current.scrollTop = box.current.scrollHeight; });
  const list: Spot[] = [];
  const parts = tr.path.value.map((id) => {
    const n = tr.nodes.get(id)!.value;
    const toks = n.status === 'streaming' ? streamed.get(id) ?? [] : tokens.get(id) ?? [];
    return { id, n, toks };
  });
  const count = parts.reduce((s, p) => s + p.toks.length, 0);
  let skip = Math.max(0, count - shownMost);
  const at = over ?? spot;
  const tok = at ? parts.find((p) => p.id === at.node)?.toks[at.i] : undefined;
  const body = parts.map(({ id, n, toks }) => {
    if (!toks.length) return <span key={id} class={n.role === 'assistant' ? 'wrote' : ''}>{n.content}</span>;
    const out = [];
    let pos = 0;
    for (let i = 0; i < toks.length; i++) {
      const k = toks[i]!;
      if (skip > 0) { skip--; continue; }
      if (k.at > pos) out.push(n.content.slice(pos, k.at));
      list.push({ node: id, i });
      const on = at?.node === id && at.i === i;
      out.push(<span key={i} data-node={id} data-i={i} class={`tok ${level(chance(k.logprob))}${on ? ' on' : ''}`}>{n.content.slice(k.at, k.at + k.n)}</span>);
      pos = k.at + k.n;
    }
    out.push(n.content.slice(pos));
    return <span key={id} class="wrote">{out}</span>;
  });
  const find = (e: Event): Spot | null => {
    const el = (e.target as HTMLElement).closest?.<HTMLElement>('.tok');
    return el ? { node: el.dataset.node!, i: Number(el.dataset.i) } : null;
  };
  return (
    <div class="look">
      <div class="nb-text" ref={box} dir="auto" tabIndex={0} role="application" aria-label={`${t('nb.look')}. ${t('nb.hint')}`}
        aria-describedby="alternatives"
        onScroll={(e) => { const b = e.currentTarget; stick.current = b.scrollHeight - b.scrollTop - b.clientHeight < 30; }}
        onMouseOver={(e) => setOver(find(e))} onMouseLeave={() => setOver(null)} onClick={(e) => setSpot(find(e))}
        onKeyDown={(e) => {
          const i = spot ? list.findIndex((s) => s.node === spot.node && s.i === spot.i) : list.length;
          const by = e.key === 'ArrowRight' ? 1 : e.key === 'ArrowLeft' ? -1 : 0;
          if (!by || !list.length) return;
          e.preventDefault();
          setSpot(list[Math.max(0, Math.min(list.length - 1, i + by))]!);
        }}>{body}</div>
      <aside class="card nb-alts" id="alternatives" aria-live="polite">
        {tok && at ? (
          <>
            <h2>{t('nb.alternatives')}</h2>
            <ol>{[...(tok.top ?? []), ...((tok.top ?? []).some((x) => x.id === tok.id) ? [] : [{ id: tok.id, text: tok.text, logprob: tok.logprob }])].map((x) => {
              const p = chance(x.logprob), same = x.id === tok.id;
              return <li key={x.id}><button type="button" class={same ? 'alt same' : 'alt'} disabled={same || live} title={t('nb.use', { text: x.text })} onClick={() => { setSpot(null); setOver(null); pick(at.node, tok, x); }}>
                <span class="alt-bar" style={{ width: `${Math.max(1, p * 100)}%` }} /><code dir="ltr">{seen(x.text)}</code><span class="grow" />{same && <span class="pill on">{t('nb.chosen')}</span>}<span class="alt-p">{num(p * 100, p < 0.1 ? 1 : 0)} %</span></button></li>;
            })}</ol>
          </>
        ) : <p class="muted small">{count ? t('nb.hint') : t('nb.noprobs')}</p>}
      </aside>
    </div>
  );
}

const fallback = 64;

function Book({ tr }: { tr: Tree | null }) {
  const id = tr?.chat.value.id ?? 'new';
  const draft = `nb.${id}`;
  const leaf = tr?.leaf.value ?? null;
  tr?.shape.value;
  const last = leaf ? tr!.nodes.get(leaf)?.value : undefined;
  const live = last?.status === 'streaming';
  const [mode, setMode] = useState<'write' | 'look'>('write');
  const saved = tr ? tr.text() : '';
  const [typed, setTyped] = useState<string | null>(recall(draft));
  const [busy, setBusy] = useState(false);
  const [settings, setSettings] = useState(false);
  const [n, setN] = useState(Number(recall('nb.tokens')) || fallback);
  const [model, setModel] = useState<string | null>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  const made = useRef<Tree | null>(null);
  useTokens(tr);
  useEffect(() => { document.title = `${tr ? chatTitle(tr.chat.value) : t('nb.title')} · zamba`; });
  const text = live ? saved : typed ?? saved;
  const put = (s: string | null) => { setTyped(s); remember(draft, s); };
  const ask: Settings = useMemo(() => ({ logprobs: true, top_logprobs: 8, max_tokens: n }), [n]);

  /** Make the tree say what is typed; the node to go on from. */
  const commit = async (): Promise<Tree | null> => {
    let x = tr ?? made.current;
    if (!x) {
      x = await begin({ kind: 'notebook', title: (typed ?? '').trim().split('\n')[0]!.slice(0, 80), ...(model ? { model } : {}) });
      if (!x) return null;
      made.current = x;
    }
    const want = typed ?? x.text();
    const p = plan(x, want);
    let parent = p.keep;
    const c = x.chat.value.id;
    if (p.copy) {
      const old = x.get(p.copy.id)!;
      const made1 = await attempt(() => api.makeNode(c, { parent, role: old.role, content: p.copy!.content, id: newId(), ...(old.has_tokens ? { copy: old.id } : {}) }));
      if (!made1) return null;
      x.put(made1);
      parent = made1.id;
    }
    if (p.add) {
      const made2 = await attempt(() => api.makeNode(c, { parent, role: 'text', content: p.add, id: newId() }));
      if (!made2) return null;
      x.put(made2);
      parent = made2.id;
    }
    if (parent !== x.leaf.peek()) show(x, parent);
    remember(draft, null);
    setTyped(null);
    return x;
  };
  const run = async () => {
    if (busy || live) return;
    setBusy(true);
    const x = await commit();
    const ok = x && await answer(x, x.leaf.peek(), ask);
    setBusy(false);
    if (x && !tr) go(`/notebook/${x.chat.value.id}`);
    else if (ok) area.current?.blur();
  };
  const pick = async (node: string, tok: Token, alt: { id: number; text: string; logprob: number }) => {
    const old = tr?.get(node);
    if (!tr || !old) return;
    const one: Token = { at: tok.at, n: alt.text.length, id: alt.id, text: alt.text, logprob: alt.logprob, ...(tok.top ? { top: tok.top } : {}) };
    const before = (tokens.get(node) ?? []).filter((x) => x.at + x.n <= tok.at);
    const made1 = await attempt(() => api.makeNode(tr.chat.value.id, { parent: old.parent, role: 'assistant', content: old.content.slice(0, tok.at) + alt.text, id: newId(), copy: node, tokens: [...before, one] }));
    if (!made1) return;
    tr.put(made1);
    tokens.set(made1.id, [...before, one]);
    streamed.set(made1.id, [...before, one]);
    show(tr, made1.id);
    await goOn(tr, made1.id, ask);
  };
  useShortcuts([
    { keys: 'mod+enter', what: 'key.complete', inFields: true, run: () => void run() },
    { keys: 'escape', what: 'key.stop', inFields: true, run: () => { if (!live || !leaf) return false; void stop(leaf); return undefined; } },
  ]);
  useEffect(() => { if (!live && last?.role === 'assistant') known.value++; }, [live]);
  const c = tr?.chat.value;
  const looking = mode === 'look' || live;
  return (
    <div class="view notebook">
      <header class="bar">
        <MenuButton />
        <h1 dir="auto" class={c ? '' : 'sr-wide'}>{c ? chatTitle(c) : t('nb.new')}</h1>
        <ModelPicker value={c ? c.model : model} onChange={(m) => { if (tr) void patch(tr.chat.value, { model: m }); else setModel(m); }} />
        <div class="bar-actions">
          {c && <IconButton icon="tree" label={t('tree.open')} onClick={() => go(`/c/${c.id}/tree`)} />}
          {c && <IconButton icon="sliders" label={t('compose.settings')} onClick={() => setSettings(true)} />}
          {c && <Menu label={t('chat.actions', { title: chatTitle(c) })} items={[
            { label: t('nb.new'), icon: 'plus', run: () => go('/notebook') }, { label: t('rename'), icon: 'edit', run: () => void rename(c) },
            ...(leaf && boot.value?.features?.states ? [{ label: t('state.save'), icon: 'save' as const, run: () => void saveState(leaf, chatTitle(c), (k, b) => t('state.saved', { n: num(k), bytes: bytes(b) })) }] : []),
            null, { label: t('delete'), icon: 'trash', danger: true, run: () => void removeChat(c) }]} />}
        </div>
      </header>
      <div class="nb-body">
        {looking && tr ? <Look tr={tr} live={live} pick={(a, b, x) => void pick(a, b, x)} />
          : <textarea ref={area} class="nb-text" dir="auto" spellcheck={false} aria-label={t('nb.title')} placeholder={`${t('nb.lead')}\n\n${t('nb.placeholder')}`} value={text} readOnly={busy} autofocus onInput={(e) => put(e.currentTarget.value)} />}
      </div>
      {live && leaf && <div class="nb-phase"><PhaseLine id={leaf} /></div>}
      {last && (last.status === 'error' || last.status === 'interrupted') && <p class="msg-note warn nb-phase">{last.status === 'error' ? t('msg.error', { message: last.error?.message ?? '' }) : t('msg.interrupted')}</p>}
      <footer class="nb-foot">
        {live ? <Button kind="primary" icon="stop" onClick={() => leaf && void stop(leaf)}>{t('compose.stop')}</Button>
          : <Button kind="primary" icon="play" disabled={busy || !text} onClick={() => void run()}>{t('nb.go')}</Button>}
        <label class="row small"><span>{t('nb.tokens')}</span><input class="input narrow" type="number" min={1} max={100000} value={n} onChange={(e) => { const v = Math.max(1, Math.min(100000, Math.round(e.currentTarget.valueAsNumber) || fallback)); setN(v); remember('nb.tokens', String(v)); }} /></label>
        {tr && <div class="tabs" role="group" aria-label={t('nb.look')}>
          <Button pressed={!looking} onClick={() => setMode('write')} disabled={live}>{t('nb.write')}</Button>
          <Button pressed={looking} onClick={() => { void (typed !== null ? commit() : Promise.resolve(tr)).then(() => setMode('look')); }}>{t('nb.look')}</Button></div>}
        {tr && leaf && !live && <>
          <Versions tr={tr} id={leaf} onChoose={(x) => { put(null); show(tr, tr.deepest(x)); }} />
          <Button kind="quiet" icon="left" onClick={() => { put(null); show(tr, last?.parent ?? null); }}>{t('nb.undo')}</Button></>}
        {last?.usage && !live && last.usage.tokens_per_second > 0 && <span class="facts">{t('msg.persec', { x: num(last.usage.tokens_per_second, 0) })}</span>}
      </footer>
      {settings && c && <ChatSettings value={c} onClose={() => setSettings(false)} onSave={(o) => patch(tr!.chat.peek(), o)} />}
    </div>
  );
}

export default function Notebook({ params }: { params: Record<string, string> }) {
  const id = params.chat ?? null;
  const { tr, failed } = useTree(id);
  if (failed) return <div class="view"><header class="bar"><MenuButton /><h1>{t('nb.title')}</h1></header><Empty icon="warn" title={failed}><Button onClick={() => go('/notebook')}>{t('nb.new')}</Button></Empty></div>;
  if (id && !tr) return <div class="view" aria-busy="true"><header class="bar"><MenuButton /><h1>{t('nb.title')}</h1></header></div>;
  return <Book key={id ?? 'new'} tr={tr} />;
}
