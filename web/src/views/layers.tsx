// layers.tsx — the layers of a model as a picture: the residual stream runs through the mixers, and each shared block
// stands once, with a line to every layer that uses it. Along the width where there is room for it, downwards on a phone.
// Each layer is a button; arrow keys go from one to the next.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { ModelPage } from './contract';
import { bytes, count } from './figures';
import { t } from './kit';

const blockName = (i: number): string => (i < 26 ? String.fromCharCode(65 + i) : String(i));

export function mixerName(mixer: string): string {
  return mixer === 'mamba1' ? 'Mamba-1' : mixer === 'mamba2' ? 'Mamba-2' : mixer;
}

export function layerText(m: ModelPage, i: number): string {
  const l = m.layers[i]!;
  const base = t('layers.layer', { n: l.index, mixer: mixerName(l.mixer), params: count(l.params), bytes: bytes(l.bytes) });
  return l.shared < 0 ? base : `${base} ${t('layers.with_block', { block: blockName(l.shared), use: l.use + 1 })}`;
}

interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

/** Where everything is. `along` is the way the stream runs, `across` the other; down turns the picture. */
function lay(m: ModelPage, width: number) {
  const n = m.layers.length;
  const blocks = m.blocks.length;
  const down = width < 560 || (width - 120) / n < 9;
  const ends = down ? 34 : 56; // embedding and head, along the stream
  const gap = 8;
  const pitch = down ? Math.max(22, Math.min(40, 900 / n)) : Math.min(96, (width - 2 * (ends + gap) - 4) / n);
  const size = down ? pitch - 5 : Math.max(pitch - Math.min(10, pitch / 4), 6);
  const extent = 2 * (ends + gap) + pitch * n;
  const start = down ? 2 : Math.max(2, (width - extent) / 2);
  const lane = down ? Math.min(width * 0.42, 190) : 128; // across, where the mixers begin
  const thick = down ? width - lane - 4 : 56;
  const blockSize = down ? 54 : Math.min(190, Math.max(90, (extent / Math.max(blocks, 1)) * 0.55));
  const turn = (a: number, c: number, la: number, lc: number): Box => (down ? { x: c, y: a, w: lc, h: la } : { x: a, y: c, w: la, h: lc });
  const at = (i: number) => start + ends + gap + pitch * i;
  const layerBoxes = m.layers.map((_, i) => turn(at(i), lane, size, thick));
  const blockBoxes = m.blocks.map((_, k) => {
    const middle = start + extent * ((k + 0.5) / Math.max(blocks, 1));
    return turn(middle - blockSize / 2, 2, blockSize, down ? 46 : 46);
  });
  return {
    down, pitch, layerBoxes, blockBoxes,
    first: turn(start, lane, ends, thick),
    last: turn(start + ends + 2 * gap + pitch * n - (pitch - size), lane, ends, thick),
    width, height: down ? extent + 4 : lane + thick + 26,
    trunk: down ? `M${lane + thick / 2} ${start + ends}V${start + extent - ends}` : `M${start + ends} ${lane + thick / 2}H${start + extent - ends}`,
  };
}

function link(down: boolean, from: Box, to: Box): string {
  if (down) {
    const x1 = from.x + from.w;
    const y1 = from.y + from.h / 2;
    const y2 = to.y + to.h / 2;
    const bend = Math.max(14, (to.x - x1) * 0.6);
    return `M${x1} ${y1}C${x1 + bend} ${y1} ${to.x - bend} ${y2} ${to.x} ${y2}`;
  }
  const x1 = from.x + from.w / 2;
  const y1 = from.y + from.h;
  const x2 = to.x + to.w / 2;
  const bend = (to.y - y1) * 0.6;
  return `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${to.y - bend} ${x2} ${to.y}`;
}

export function Layers({ model: m }: { model: ModelPage }) {
  const frame = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [chosen, setChosen] = useState(() => Math.max(0, m.layers.findIndex((l) => l.shared >= 0)));
  const [over, setOver] = useState<number | null>(null);
  useLayoutEffect(() => {
    const measure = () => setWidth(frame.current?.clientWidth ?? 0);
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(frame.current!);
    return () => watch.disconnect();
  }, []);
  useEffect(() => setChosen(Math.max(0, m.layers.findIndex((l) => l.shared >= 0))), [m.name]);

  const shown = over ?? chosen;
  const block = m.layers[shown]?.shared ?? -1;
  const choose = (i: number, focus: boolean) => {
    const to = Math.min(m.layers.length - 1, Math.max(0, i));
    setChosen(to);
    if (focus) frame.current?.querySelector<SVGElement>(`[data-layer="${to}"]`)?.focus();
  };
  const key = (e: KeyboardEvent) => {
    const to = { ArrowLeft: chosen - 1, ArrowUp: chosen - 1, ArrowRight: chosen + 1, ArrowDown: chosen + 1, Home: 0, End: m.layers.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    choose(to, true);
  };
  const p = width > 0 ? lay(m, width) : null;
  const centre = (b: Box) => ({ x: b.x + b.w / 2, y: b.y + b.h / 2 });
  return (
    <section class="view-card" aria-labelledby="layers-title">
      <h2 id="layers-title">{t('layers.title')}</h2>
      <p class="view-note">{t('layers.note', { n: m.info.n_layers, blocks: m.info.n_blocks, uses: m.info.n_hybrid })}</p>
      <div class="view-layers" ref={frame}>
        {p && (
          <svg width={p.width} height={p.height} viewBox={`0 0 ${p.width} ${p.height}`} role="group" aria-label={t('layers.picture')} onKeyDown={key}>
            <path class="layer-trunk" d={p.trunk} />
            {m.layers.map((l, i) =>
              l.shared < 0 || !p.blockBoxes[l.shared] ? null : (
                <path
                  key={i}
                  class={`layer-link view-c${(l.shared % 6) + 3} ${block === l.shared ? (shown === i ? 'chosen' : 'kin') : ''}`}
                  d={link(p.down, p.blockBoxes[l.shared]!, p.layerBoxes[i]!)}
                />
              ),
            )}
            {m.blocks.map((b, k) => {
              const box = p.blockBoxes[k]!;
              const c = centre(box);
              return (
                <g key={k} class={`layer-block view-c${(k % 6) + 3} ${block === k ? 'kin' : ''}`}>
                  <rect x={box.x} y={box.y} width={p.down ? Math.min(box.w + 50, p.width * 0.33) : box.w} height={box.h} rx="8" />
                  <text x={p.down ? box.x + Math.min(box.w + 50, p.width * 0.33) / 2 : c.x} y={c.y - 3}>{t('layers.block', { block: blockName(k) })}</text>
                  <text class="small" x={p.down ? box.x + Math.min(box.w + 50, p.width * 0.33) / 2 : c.x} y={c.y + 14}>{count(b.params)} · {t('layers.uses', { n: b.uses })}</text>
                </g>
              );
            })}
            {[[p.first, t('layers.embedding')], [p.last, t('layers.head')]].map(([b, text]) => {
              const box = b as Box;
              const c = centre(box);
              return (
                <g key={text as string} class="layer-end">
                  <rect x={box.x} y={box.y} width={box.w} height={box.h} rx="8" />
                  <text class="small" x={c.x} y={c.y + 4}>{text as string}</text>
                </g>
              );
            })}
            {m.layers.map((l, i) => {
              const box = p.layerBoxes[i]!;
              return (
                <g
                  key={i}
                  class={`layer-cell ${l.shared >= 0 ? `view-c${(l.shared % 6) + 3} hybrid` : ''} ${shown === i ? 'chosen' : ''}`}
                  data-layer={i}
                  role="button"
                  tabIndex={i === chosen ? 0 : -1}
                  aria-pressed={i === chosen}
                  aria-label={layerText(m, i)}
                  onClick={() => choose(i, false)}
                  onFocus={() => setChosen(i)}
                  onKeyDown={(e) => {
                    if (e.key === 'Enter' || e.key === ' ') {
                      e.preventDefault();
                      choose(i, false);
                    }
                  }}
                  onMouseEnter={() => setOver(i)}
                  onMouseLeave={() => setOver(null)}
                >
                  <rect x={box.x} y={box.y} width={box.w} height={box.h} rx={Math.min(6, box.w / 3)} />
                </g>
              );
            })}
            <g aria-hidden="true">
              {m.layers.map((l, i) => {
                const box = p.layerBoxes[i]!;
                const c = centre(box);
                return (
                  <g key={i}>
                    {(p.down || box.w > 54) && <text class={p.down || box.w > 76 ? '' : 'small'} x={c.x} y={c.y + 4}>{p.down ? `${l.index} · ${mixerName(l.mixer)}` : mixerName(l.mixer)}</text>}
                    {!p.down && (p.pitch > 17 || i % Math.ceil(20 / p.pitch) === 0) && <text class="small" x={c.x} y={box.y + box.h + 17}>{l.index}</text>}
                  </g>
                );
              })}
            </g>
          </svg>
        )}
      </div>
      <p class="view-said">{layerText(m, shown)}</p>
      <details class="view-details">
        <summary>{t('view.as_table')}</summary>
        <div class="table-scroll" tabIndex={0} role="region" aria-label={t('view.table_of', { title: t('layers.title') })}>
          <table class="view-table">
            <thead>
              <tr>
                {['layer_column', 'mixer', 'shared_block', 'use', 'parameters', 'bytes'].map((c) => (
                  <th scope="col" key={c}>{t(`layers.${c}`)}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {m.layers.map((l) => (
                <tr key={l.index}>
                  <th scope="row">{l.index}</th>
                  <td>{mixerName(l.mixer)}</td>
                  <td>{l.shared < 0 ? '–' : blockName(l.shared)}</td>
                  <td>{l.use < 0 ? '–' : l.use + 1}</td>
                  <td>{count(l.params)}</td>
                  <td>{bytes(l.bytes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </section>
  );
}
