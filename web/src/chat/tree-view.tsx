// The branches of a chat as a drawing, with what it costs to have each node's state ready. Any node can be gone on from.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { t } from '../i18n';
import { api, type Node, type StateCosts } from '../lib/api';
import { bytes, num } from '../lib/format';
import { go } from '../lib/router';
import { chatTitle, saveState, show } from '../store/actions';
import { attempt, boot, link } from '../store/store';
import type { Tree } from '../store/tree';
import { Button, Empty, IconButton } from '../ui/parts';
import { View } from '../ui/view';
import { useTree } from './chat-view';
import { place } from './layout';

const W = 176, H = 84, BW = 156, BH = 58;
const role = (n: Node): string => n.role === 'user' ? t('msg.you') : n.role === 'assistant' ? t('msg.model') : n.role === 'system' ? t('msg.system') : n.role === 'text' ? t('nb.write') : t('msg.tool');
const short = (s: string, k: number): string => { const x = s.replace(/[\s#*`>|]+/g, ' ').trim(); return x.length > k ? x.slice(0, k - 1) + '…' : x; };

function Drawing({ tr, costs, chosen, choose }: { tr: Tree; costs: StateCosts | null; chosen: string | null; choose: (id: string) => void }) {
  const shape = tr.shape.value;
  const { nodes, columns, rows } = useMemo(() => place((id) => tr.children(id)), [shape]);
  const at = useMemo(() => new Map(nodes.map((n) => [n.id, n])), [nodes]);
  const [zoom, setZoom] = useState(1);
  const box = useRef<HTMLDivElement>(null);
  const [win, setWin] = useState<[number, number, number, number]>([0, 1200, 0, 1600]);
  const path = new Set(tr.path.value);
  const look = () => { const b = box.current; if (b) setWin([b.scrollTop / zoom - 400, (b.scrollTop + b.clientHeight) / zoom + 400, b.scrollLeft / zoom - 400, (b.scrollLeft + b.clientWidth) / zoom + 400]); };
  useEffect(look, [zoom, nodes]);
  useEffect(() => {
    const n = chosen ? at.get(chosen) : null, b = box.current;
    if (!n || !b) return;
    b.scrollTo({ top: Math.max(0, n.y * H * zoom - b.clientHeight / 2), left: Math.max(0, n.x * W * zoom - b.clientWidth / 2) });
    look();
  }, [nodes]);
  const key = (e: KeyboardEvent) => {
    const n = chosen ? tr.get(chosen) : null;
    if (!n) return;
    const bro = tr.brothers(n.id), i = bro.indexOf(n.id);
    const to = e.key === 'ArrowUp' ? n.parent : e.key === 'ArrowDown' ? tr.children(n.id)[0] : e.key === 'ArrowLeft' ? bro[i - 1] : e.key === 'ArrowRight' ? bro[i + 1] : null;
    if (to) { e.preventDefault(); choose(to); setTimeout(() => document.getElementById('node-' + to)?.focus(), 0); }
    if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); show(tr, n.id); go(`/c/${tr.chat.value.id}`); }
  };
  const seen = (y: number, x: number) => y * H > win[0] - H && y * H < win[1] && x * W > win[2] - W && x * W < win[3];
  const most = Math.max(1, ...Object.values(costs?.nodes ?? {}).map((c) => c.bytes));
  return (
    <div class="tree-box card" ref={box} onScroll={look}>
      <div class="tree-zoom"><IconButton icon="plus" label={t('tree.zoom.in')} onClick={() => setZoom(Math.min(2, zoom * 1.25))} /><IconButton icon="minus" label={t('tree.zoom.out')} onClick={() => setZoom(Math.max(0.3, zoom / 1.25))} /></div>
      <svg class="tree" role="tree" aria-label={t('tree.title')} width={(columns * W + 24) * zoom} height={(rows * H + 24) * zoom} viewBox={`0 0 ${columns * W + 24} ${rows * H + 24}`} onKeyDown={key}>
        {nodes.map((n) => {
          const p = n.parent ? at.get(n.parent) : null;
          if (!p || !(seen(n.y, n.x) || seen(p.y, p.x))) return null;
          const x1 = 12 + p.x * W + BW / 2, y1 = 12 + p.y * H + BH, x2 = 12 + n.x * W + BW / 2, y2 = 12 + n.y * H, m = (y1 + y2) / 2;
          return <path key={'l' + n.id} class={path.has(n.id) ? 'edge on' : 'edge'} d={x1 === x2 ? `M${x1} ${y1}V${y2}` : `M${x1} ${y1}C${x1} ${m} ${x2} ${m} ${x2} ${y2}`} />;
        })}
        {nodes.map((n) => {
          if (!seen(n.y, n.x) && n.id !== chosen) return null;
          const node = tr.nodes.get(n.id)?.value, c = costs?.nodes[n.id];
          if (!node) return null;
          const cost = c?.saved || c?.kept ? bytes(c.bytes) : '';
          return (
            <g key={n.id} id={'node-' + n.id} role="treeitem" aria-selected={chosen === n.id} aria-level={n.y + 1} tabindex={chosen === n.id || (!chosen && !n.parent) ? 0 : -1}
              aria-label={t('tree.node', { role: role(node), text: short(node.content, 80) }) + (cost ? `, ${t('tree.cost', { bytes: cost })}` : '') + (tr.leaf.value === n.id ? `, ${t('tree.current')}` : '')}
              class={`tnode ${node.role}${path.has(n.id) ? ' on' : ''}${chosen === n.id ? ' chosen' : ''}${tr.leaf.value === n.id ? ' leaf' : ''}`}
              transform={`translate(${12 + n.x * W} ${12 + n.y * H})`} onClick={() => choose(n.id)} onDblClick={() => { show(tr, n.id); go(`/c/${tr.chat.value.id}`); }}>
              <rect width={BW} height={BH} rx="10" />
              {c && (c.kept || c.saved) && <rect class={c.saved ? 'bar saved' : 'bar'} x="11" y={BH - 9} width={Math.max(4, (BW - 22) * c.bytes / most)} height="3" rx="1.5" />}
            </g>
          );
        })}
        {nodes.map((n) => {
          if (!seen(n.y, n.x) && n.id !== chosen) return null;
          const node = tr.nodes.get(n.id)?.value, c = costs?.nodes[n.id];
          if (!node) return null;
          const cost = c?.saved || c?.kept ? bytes(c.bytes) : '';
          return (
            <g key={'t' + n.id} aria-hidden="true" class={`tnode words ${node.role}${path.has(n.id) ? ' on' : ''}${tr.leaf.value === n.id ? ' leaf' : ''}`} transform={`translate(${12 + n.x * W} ${12 + n.y * H})`}>
              <text class="who" x="11" y="18">{role(node)}{node.status === 'streaming' ? ' …' : ''}</text>
              {cost && <text class="cost" x={BW - 10} y="18" text-anchor="end">{cost}</text>}
              <text x="11" y="38">{short(node.content, 18)}</text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}

export default function TreeView({ params }: { params: Record<string, string> }) {
  const id = params.chat ?? null;
  const { tr, failed } = useTree(id);
  const [costs, setCosts] = useState<StateCosts | null>(null);
  const [chosen, setChosen] = useState<string | null>(null);
  const [first, setFirst] = useState<string | null>(null);
  const ask = () => { if (id) api.states(id).then(setCosts).catch(() => { /* drawn without */ }); };
  const shape = tr?.shape.value;
  const alive = link.value;
  useEffect(() => { ask(); const every = setInterval(ask, 5000); return () => clearInterval(every); }, [id, shape, alive]);
  useEffect(() => { if (tr && !chosen) setChosen(tr.leaf.value); }, [tr]);
  if (failed) return <View title={t('tree.title')}><Empty icon="warn" title={failed} /></View>;
  if (!tr) return <View title={t('tree.title')}><p>{t('loading')}</p></View>;
  const n = tr.get(chosen);
  const c = n && costs?.nodes[n.id];
  const back = `/${tr.chat.value.kind === 'notebook' ? 'notebook' : 'c'}/${tr.chat.value.id}`;
  const pick = (x: string) => {
    if (first && first !== x) { go(`/compare/${tr.chat.value.id}?left=${first}&right=${x}`); return; }
    setChosen(x);
  };
  return (
    <View wide title={`${t('tree.title')}: ${chatTitle(tr.chat.value)}`} lead={t('tree.lead')} actions={<Button icon="left" kind="quiet" class="back" onClick={() => go(back)}>{t('tree.back')}</Button>}>
      {costs && <div class="row tree-facts"><span class="pill">{t('tree.memory', { a: bytes(costs.cache.bytes), b: bytes(costs.cache.most) })}</span>
        {costs.saved.count > 0 && <span class="pill">{t('tree.savedcount', { n: costs.saved.count })} · {bytes(costs.saved.bytes)}</span>}</div>}
      {first && <div class="banner"><span class="grow">{t('tree.comparewith')}</span><Button onClick={() => setFirst(null)}>{t('cancel')}</Button></div>}
      <div class="tree-layout">
        {tr.nodes.size ? <Drawing tr={tr} costs={costs} chosen={chosen} choose={pick} /> : <Empty icon="tree" title={t('tree.empty')} />}
        <aside class="card tree-side" aria-live="polite">
          {!n ? <p class="muted">{t('tree.pick')}</p> : (
            <>
              <h2>{role(n)}</h2>
              <p class="tree-text" dir="auto" tabIndex={0}>{n.content.slice(0, 600)}{n.content.length > 600 && '…'}</p>
              <p class="small muted">{c ? (c.kept || c.saved ? t('tree.cost', { bytes: bytes(c.bytes) }) + ` · ${t('msg.tokens', { n: c.tokens })}` : t('tree.again', { n: num(c.tokens) })) : ''}{c?.saved && <> <span class="pill on">{t('tree.saved')}</span></>}</p>
              <div class="column">
                <Button kind="primary" icon="branch" onClick={() => { show(tr, n.id); go(back); }}>{t('tree.goto')}</Button>
                <Button icon="split" onClick={() => setFirst(n.id)}>{t('tree.compare')}</Button>
                {boot.value?.features?.states && n.status !== 'streaming' && <Button icon="save" onClick={() => void saveState(n.id, chatTitle(tr.chat.peek()), (k, b) => t('state.saved', { n: num(k), bytes: bytes(b) })).then(ask)}>{t('state.save')}</Button>}
                {c?.saved && <Button kind="quiet" icon="trash" onClick={() => void attempt(() => api.deleteState(c.saved!)).then(ask)}>{t('tree.drop')}</Button>}
              </div>
              <p class="small muted">{t('state.hint')}</p>
            </>
          )}
        </aside>
      </div>
    </View>
  );
}
