// Two branches of a chat side by side: what they share once, then each in its column.
import { useEffect, useRef } from 'preact/hooks';
import { t } from '../i18n';
import { go, query } from '../lib/router';
import { chatTitle, show } from '../store/actions';
import type { Tree } from '../store/tree';
import { Button, Empty } from '../ui/parts';
import { View } from '../ui/view';
import { useTree } from './chat-view';
import { Message } from './message';
import { Retry } from './retry';

function Column({ tr, ids, label, leaf, leaves, choose }: { tr: Tree; ids: string[]; label: string; leaf: string; leaves: string[]; choose: (id: string) => void }) {
  const end = useRef<HTMLDivElement>(null);
  return (
    <section class="cmp-col" aria-label={label} ref={end}>
      <div class="cmp-head">
        <select class="select grow" aria-label={`${label}: ${t('cmp.pick')}`} value={leaf} onChange={(e) => choose(e.currentTarget.value)}>
          {leaves.map((x, i) => <option key={x} value={x}>{i + 1}. {(tr.get(x)?.content ?? '').replace(/\s+/g, ' ').slice(0, 60) || '…'}</option>)}
        </select>
        <Button onClick={() => { show(tr, leaf); go(`/c/${tr.chat.value.id}`); }}>{t('cmp.use')}</Button>
      </div>
      {ids.slice(-40).map((id) => <Message key={id} tr={tr} id={id} plain />)}
    </section>
  );
}

export default function Compare({ params }: { params: Record<string, string> }) {
  const { tr, failed } = useTree(params.chat ?? null);
  const q = new URLSearchParams(query.value);
  tr?.shape.value;
  const base = tr ? tr.leaves() : [];
  const pick = (name: string, other: string | null) => { const x = q.get(name); return x && tr?.nodes.has(x) ? x : base.find((l) => l !== other) ?? null; };
  const left = tr ? pick('left', q.get('right')) : null;
  const right = tr ? pick('right', left) : null;
  useEffect(() => { if (tr && left && right && (q.get('left') !== left || q.get('right') !== right)) go(`/compare/${tr.chat.value.id}?left=${left}&right=${right}`, true); }, [tr, left, right]);
  if (failed) return <View title={t('cmp.title')}><Empty icon="warn" title={failed} /></View>;
  if (!tr) return <View title={t('cmp.title')}><p>{t('loading')}</p></View>;
  const back = <Button icon="left" kind="quiet" class="back" onClick={() => go(`/c/${tr.chat.value.id}`)}>{t('tree.back')}</Button>;
  if (!left || !right) return <View title={t('cmp.title')} actions={back}><Empty icon="split" title={t('cmp.need')} /></View>;
  const a = tr.ancestors(left), b = tr.ancestors(right);
  let same = 0;
  while (same < a.length && same < b.length && a[same] === b[same]) same++;
  const leaves = [...new Set([...base, left, right])];
  const set = (l: string, r: string) => go(`/compare/${tr.chat.value.id}?left=${l}&right=${r}`, true);
  return (
    <View wide title={`${t('cmp.title')}: ${chatTitle(tr.chat.value)}`} actions={back}>
      {same > 0 && <details class="card cmp-same"><summary>{t('cmp.same', { n: same })}</summary>{a.slice(Math.max(0, same - 20), same).map((id) => <Message key={id} tr={tr} id={id} plain />)}</details>}
      <div class="cmp">
        <Column tr={tr} ids={a.slice(same)} label={t('cmp.left')} leaf={left} leaves={leaves} choose={(x) => set(x, right)} />
        <Column tr={tr} ids={b.slice(same)} label={t('cmp.right')} leaf={right} leaves={leaves} choose={(x) => set(left, x)} />
      </div>
      <Retry />
    </View>
  );
}
