// One message of a chat: its text, what it cost, its versions, and what can be done with it.
import { memo } from 'preact/compat';
import { useEffect, useRef, useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import { t } from '../i18n';
import type { Node } from '../lib/api';
import { copyText } from '../lib/files';
import { bytes, fullTime, num, seconds } from '../lib/format';
import { recall, remember } from '../lib/keep';
import { go } from '../lib/router';
import { notice } from '../lib/say';
import { answer, chatTitle, edit, goOn, removeNode, saveState, show, stop } from '../store/actions';
import { boot } from '../store/store';
import type { Tree } from '../store/tree';
import { phase } from '../store/watch';
import { Button, IconButton, Menu, Progress, type Item } from '../ui/parts';
import { Icon } from '../ui/icon';
import { Text } from './text';
import { retrying } from './retry';

/** The message that is being edited, by its id. */
export const editing = signal<string | null>(null);

export function PhaseLine({ id }: { id: string }) {
  const p = phase(id).value;
  if (p.kind === 'writing') return null;
  const label = p.kind === 'loading' ? (p.waits ? t('phase.loading.waits', { model: p.model }) : t('phase.loading', { model: p.model }))
    : p.kind === 'queued' ? t('phase.queued', { n: p.ahead })
      : p.kind === 'reading' ? t('phase.reading', { done: num(p.done), total: num(p.total) }) : t('phase.start');
  const value = p.kind === 'reading' && p.total ? p.done / p.total : null;
  return (
    <div class="phase">
      <div class="row small muted"><span>{label}{p.kind === 'loading' && ` · ${seconds(p.elapsed)}`}</span>
        {p.kind === 'reading' && p.cached > 0 && <span class="pill on">{t('phase.reused', { n: num(p.cached) })}</span>}</div>
      <Progress value={value} label={label} />
    </div>
  );
}

function Facts({ n }: { n: Node }) {
  const u = n.usage;
  if (!u || n.status === 'streaming') return null;
  return (
    <span class="facts" title={`${n.model ?? ''} · ${fullTime(n.created)}`}>
      {u.tokens_per_second > 0 && <span>{t('msg.persec', { x: num(u.tokens_per_second, u.tokens_per_second < 100 ? 1 : 0) })}</span>}
      <span>{t('msg.ttft', { x: seconds(u.ttft_s) })}</span>
      <span>{t('msg.tokens', { n: u.generated })}</span>
      {u.cached > 0 && <span>{t('msg.cached', { n: num(u.cached), m: num(u.prompt) })}</span>}
    </span>
  );
}

function Editor({ tr, n }: { tr: Tree; n: Node }) {
  const ref = useRef<HTMLTextAreaElement>(null);
  const [busy, setBusy] = useState(false);
  const draft = `edit.${n.id}`;
  useEffect(() => {
    const a = ref.current!;
    a.style.height = `${Math.min(a.scrollHeight + 4, innerHeight * 0.6)}px`;
    a.focus({ preventScroll: true });
    a.setSelectionRange(a.value.length, a.value.length);
  }, []);
  const end = () => { remember(draft, null); editing.value = null; };
  const save = async (withAnswer: boolean) => {
    setBusy(true);
    const ok = await edit(tr, n.id, ref.current!.value, withAnswer);
    setBusy(false);
    if (ok) end();
  };
  const user = n.role === 'user';
  return (
    <form class="editor" onSubmit={(e) => { e.preventDefault(); void save(user); }} onKeyDown={(e) => {
      if (e.key === 'Escape') { e.preventDefault(); e.stopPropagation(); end(); }
      if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); e.stopPropagation(); void save(user); }
    }}>
      <textarea ref={ref} class="area" dir="auto" aria-label={t('msg.edit')} defaultValue={recall(draft) ?? n.content} onInput={(e) => remember(draft, e.currentTarget.value)} />
      <div class="row">
        {user && <Button type="submit" kind="primary" disabled={busy}>{t('msg.save.answer')}</Button>}
        <Button kind={user ? undefined as never : 'primary'} disabled={busy} onClick={() => void save(false)}>{t('msg.save.branch')}</Button>
        <Button kind="quiet" onClick={end}>{t('cancel')}</Button>
      </div>
    </form>
  );
}

export function Versions({ tr, id, onChoose }: { tr: Tree; id: string; onChoose?: (id: string) => void }) {
  tr.shape.value;
  const all = tr.brothers(id);
  if (all.length < 2) return null;
  const i = all.indexOf(id);
  const to = (k: number) => { const x = all[k]; if (x) (onChoose ?? ((y: string) => show(tr, tr.deepest(y))))(x); };
  return (
    <span class="versions">
      <IconButton icon="left" label={t('msg.prev')} disabled={i === 0} onClick={() => to(i - 1)} size={16} />
      <span aria-label={t('msg.sibling', { i: i + 1, n: all.length })}>{i + 1}/{all.length}</span>
      <IconButton icon="right" label={t('msg.next')} disabled={i === all.length - 1} onClick={() => to(i + 1)} size={16} />
    </span>
  );
}

export const Message = memo(function Message({ tr, id, plain }: { tr: Tree; id: string; plain?: boolean }) {
  const s = tr.nodes.get(id);
  const [raw, setRaw] = useState(false);
  if (!s) return null;
  const n = s.value;
  const mine = n.role === 'user';
  const live = n.status === 'streaming';
  const name = mine ? t('msg.you') : n.role === 'assistant' ? (n.model ?? t('msg.model')) : n.role === 'system' ? t('msg.system') : t('msg.tool');
  const all = tr.brothers(id);
  const last = tr.leaf.value === id;
  const can = boot.value?.history?.state !== 'read_only';
  const items: Item[] = [
    { label: raw ? t('msg.rendered') : t('msg.raw'), icon: 'file', run: () => setRaw(!raw) },
    ...(live ? [] : [
      ...(last ? [] : [{ label: t('msg.branch'), icon: 'branch' as const, run: () => show(tr, id) }]),
      ...(n.role === 'assistant' ? [{ label: t('msg.retry'), icon: 'split' as const, run: () => { retrying.value = { tr, id }; } }] : []),
      ...(n.role === 'assistant' || n.role === 'user' ? [{ label: t('msg.continue'), icon: 'play' as const, run: () => { void (mine ? answer(tr, id) : goOn(tr, id)); } }] : []),
      ...all.filter((x) => x !== id).slice(0, 6).map((x) => ({ label: t('msg.compare', { i: all.indexOf(x) + 1 }), icon: 'split' as const, run: () => go(`/compare/${tr.chat.value.id}?left=${tr.deepest(id)}&right=${tr.deepest(x)}`) })),
      ...(boot.value?.features?.states && n.role === 'assistant' ? [{ label: t('msg.save.state'), icon: 'save' as const, run: () => { void saveState(id, chatTitle(tr.chat.peek()), (k, b) => t('state.saved', { n: num(k), bytes: bytes(b) })); } }] : []),
      null, { label: t('msg.delete'), icon: 'trash' as const, danger: true, run: () => { void removeNode(tr, id); } },
    ]),
  ];
  return (
    <article class={`msg ${n.role}${live ? ' live' : ''}`} data-id={id} data-status={n.status} aria-label={name} tabIndex={-1} aria-busy={live}>
      <header class="msg-head"><span class="msg-name">{name}</span><time dateTime={new Date(n.created).toISOString()} class="sr">{fullTime(n.created)}</time></header>
      {editing.value === id && !plain ? <Editor tr={tr} n={n} /> : (
        <>
          <div class="msg-body">
            {n.content ? <Text text={n.content} live={live} raw={raw} /> : !live && n.role === 'assistant' && n.status === 'done' && <p class="muted small">{t('msg.empty')}</p>}
            {live && <PhaseLine id={id} />}
          </div>
          {n.status === 'interrupted' && <p class="msg-note warn"><Icon name="warn" size={16} /> {t('msg.interrupted')}</p>}
          {n.status === 'error' && <p class="msg-note bad"><Icon name="warn" size={16} /> {t('msg.error', { message: n.error?.message ?? '' })}</p>}
          <footer class="msg-foot">
            {live ? <Button icon="stop" kind="quiet" onClick={() => void stop(id)}>{t('compose.stop')}</Button> : (
              <>
                <Versions tr={tr} id={id} />
                {can && !plain && <IconButton icon="edit" label={t('msg.edit')} size={17} onClick={() => { editing.value = id; }} />}
                <IconButton icon="copy" label={t('msg.copy')} size={17} onClick={() => void copyText(n.content).then(() => notice(t('copied')))} />
                {can && !plain && n.role === 'assistant' && <IconButton icon="redo" label={t('msg.regenerate')} size={17} onClick={() => void answer(tr, n.parent)} />}
                {can && !plain && n.role === 'assistant' && (n.status !== 'done' || n.finish === 'length') &&
                  <Button kind="quiet" icon="play" onClick={() => void goOn(tr, id)}>{t('msg.continue')}</Button>}
                {can && !plain && <Menu label={t('msg.actions')} items={items} />}
                {n.status === 'stopped' && <span class="pill">{t('msg.stopped')}</span>}
                {n.finish === 'length' && <span class="pill">{t('msg.length')}</span>}
                <Facts n={n} />
              </>
            )}
          </footer>
        </>
      )}
    </article>
  );
});
