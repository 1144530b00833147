// model.tsx — what a model is made of: its layers, its parameters counted once and with reuse, and what it takes in
// memory at a context that a slider chooses.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { Chart } from './chart';
import type { ModelPage } from './contract';
import { bytes, count, number, percent, whole } from './figures';
import { get, t } from './kit';
import { Layers } from './layers';
import { contexts, kvPassesState, memoryAt } from './memory';
import { Tiles, Trouble, Waiting } from './view-parts';
import { View } from '../ui/view';
import './views.css';

function Parameters({ model: m }: { model: ModelPage }) {
  const most = Math.max(m.params.used, m.params.once, 1);
  const bar = (of: 'params' | 'used', label: string, total: number) => (
    <div class="param-row">
      <span class="param-label">{label} <b>{count(total)}</b></span>
      <div class="param-bar" aria-hidden="true" style={{ width: `${(100 * total) / most}%` }}>
        {m.parts.map((p, i) =>
          p[of] > 0 ? <i key={p.part} class={`view-c${(i % 8) + 1}`} style={{ flexGrow: String(p[of]) }} title={`${partName(p.part)} ${count(p[of])}`} /> : null,
        )}
      </div>
    </div>
  );
  return (
    <section class="view-card" aria-labelledby="params-title">
      <h2 id="params-title">{t('inside.parameters')}</h2>
      <p class="view-note">{t('inside.parameters_note', { ratio: number(m.params.used / Math.max(m.params.once, 1), 3) })}</p>
      {bar('params', t('inside.once'), m.params.once)}
      {bar('used', t('inside.with_reuse'), m.params.used)}
      <div class="table-scroll" tabIndex={0} role="region" aria-label={t('view.table_of', { title: t('inside.parameters') })}>
        <table class="view-table">
          <thead>
            <tr>
              {['part', 'once', 'with_reuse', 'share', 'bytes'].map((c) => (
                <th scope="col" key={c}>{t(`inside.${c}`)}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {m.parts.map((p, i) => (
              <tr key={p.part}>
                <th scope="row"><i class={`view-swatch solid view-c${(i % 8) + 1}`} aria-hidden="true" /> {partName(p.part)}</th>
                <td>{count(p.params)}</td>
                <td>{count(p.used)}</td>
                <td>{percent(p.params / Math.max(m.params.once, 1))}</td>
                <td>{bytes(p.bytes)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

const PARTS = ['embedding', 'mamba', 'shared', 'adapter', 'linear', 'norm', 'head'];
const partName = (part: string): string => (PARTS.includes(part) ? t(`inside.part_${part}`) : part);

function Memory({ model: m }: { model: ModelPage }) {
  const longest = Math.max(m.memory.n_ctx, Number(m.info.max_positions) || 0, 1);
  const [tokens, setTokens] = useState(Math.min(m.memory.n_ctx || longest, longest));
  const [sequences, setSequences] = useState(1);
  const [weights, setWeights] = useState(false);
  const [attention, setAttention] = useState(true);
  const x = useMemo(() => contexts(longest), [longest]);
  const rows = useMemo(() => x.map((n) => memoryAt(m, n, sequences)), [m, x, sequences]);
  const here = memoryAt(m, tokens, sequences);
  const floor = weights ? here.weights : 0;
  const cross = kvPassesState(m);
  return (
    <section class="view-card" aria-labelledby="memory-title">
      <h2 id="memory-title">{t('inside.memory')}</h2>
      <p class="view-note">{t('inside.memory_note', { cross: whole(cross) })}</p>
      <div class="view-controls">
        <label class="grow">
          <span>{t('inside.context')} <b>{whole(tokens)}</b> {t('view.tokens')}</span>
          <input
            type="range" min={0} max={longest} step={Math.max(1, Math.min(m.memory.page_tokens, Math.ceil(longest / 512)))} value={tokens}
            aria-valuetext={`${whole(tokens)} ${t('view.tokens')}: ${bytes(here.total)}`}
            onInput={(e) => setTokens(Number(e.currentTarget.value))}
          />
        </label>
        <label>
          <span>{t('inside.sequences')}</span>
          <input class="input" type="number" min={1} max={1024} value={sequences} onInput={(e) => setSequences(Math.min(1024, Math.max(1, Math.round(Number(e.currentTarget.value)) || 1)))} />
        </label>
        <label class="check"><input type="checkbox" checked={weights} onChange={(e) => setWeights(e.currentTarget.checked)} /> {t('inside.with_weights')}</label>
        <label class="check"><input type="checkbox" checked={attention} onChange={(e) => setAttention(e.currentTarget.checked)} /> {t('inside.if_attention')}</label>
      </div>
      <Tiles
        tiles={[
          [t('inside.weights'), bytes(here.weights)],
          [t('inside.state'), bytes(here.state)],
          [t('inside.kv'), bytes(here.kv)],
          [t('inside.together'), bytes(here.total)],
        ]}
      />
      <Chart
        title={t('inside.memory_chart')}
        xLabel={t('inside.context')}
        x={x}
        height={300}
        bytes
        fromZero
        mark={tokens}
        rest="mark"
        xFormat={(n) => (n >= 10000 ? count(n) : whole(n))}
        yFormat={bytes}
        series={[
          { label: t('inside.kv'), colour: 1, fill: 'solid', values: rows.map((r) => r.kv + r.state + (weights ? r.weights : 0)), shown: rows.map((r) => r.kv) },
          { label: t('inside.state'), colour: 3, fill: 'solid', values: rows.map((r) => r.state + (weights ? r.weights : 0)), shown: rows.map((r) => r.state) },
          ...(weights ? [{ label: t('inside.weights'), colour: 7, fill: 'solid' as const, values: rows.map((r) => r.weights) }] : []),
          ...(attention && m.info.n_hybrid > 0
            ? [{ label: t('inside.attention_curve'), colour: 2, dash: [6, 4], values: rows.map((r) => r.attention - r.weights + floor), shown: rows.map((r) => r.attention - r.weights) }]
            : []),
        ]}
      />
    </section>
  );
}

const FACTS: [string, string][] = [
  ['family', 'family'], ['dtype', 'dtype'], ['compute', 'compute'], ['kernels', 'kernels'], ['n_threads', 'threads'], ['hidden_size', 'hidden'],
  ['vocab_size', 'vocabulary'], ['max_positions', 'positions'], ['n_heads', 'heads'], ['n_kv_heads', 'kv_heads'], ['head_dim', 'head_size'], ['ffn_size', 'ffn'],
  ['adapter_rank', 'adapter'], ['mamba_heads', 'mamba_heads'], ['mamba_head_dim', 'mamba_head_size'], ['mamba_state', 'mamba_state'],
  ['mamba_groups', 'mamba_groups'], ['mamba_conv', 'mamba_conv'], ['kv_k', 'kv_k'], ['kv_v', 'kv_v'], ['rope_theta', 'rope'], ['fingerprint', 'fingerprint'],
];

function Facts({ model: m }: { model: ModelPage }) {
  const show = (v: unknown) => (typeof v === 'number' ? whole(v) : typeof v === 'boolean' ? t(v ? 'view.yes' : 'view.no') : String(v));
  return (
    <section class="view-card" aria-labelledby="facts-title">
      <h2 id="facts-title">{t('inside.facts')}</h2>
      <dl class="view-facts">
        {FACTS.filter(([k]) => m.info[k] !== null && m.info[k] !== undefined && m.info[k] !== '').map(([k, name]) => (
          <div key={k}>
            <dt>{t(`inside.fact_${name}`)}</dt>
            <dd>{show(m.info[k])}</dd>
          </div>
        ))}
        <div>
          <dt>{t('inside.per_token')}</dt>
          <dd>{bytes(m.bytes.per_token)}</dd>
        </div>
      </dl>
    </section>
  );
}

export default function ModelView({ params: { model: name } }: { params: Record<string, string> }) {
  const [model, setModel] = useState<ModelPage | null>(null);
  const [trouble, setTrouble] = useState<unknown>(null);
  const [again, setAgain] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    setTrouble(null);
    setModel(null);
    get<ModelPage>(`/page/v1/model${name ? `?model=${encodeURIComponent(name)}` : ''}`, stop.signal)
      .then(setModel, (e: unknown) => !stop.signal.aborted && setTrouble(e));
    return () => stop.abort();
  }, [name, again]);
  return (
    <View title={model?.name ?? name ?? t('inside.title')} wide
      lead={model ? t('inside.head', { family: String(model.info['family']), once: count(model.params.once), layers: model.info.n_layers, bytes: bytes(model.bytes.weights) }) : undefined}>
      {trouble !== null && <Trouble of={trouble} retry={() => setAgain(again + 1)} />}
      {!model && trouble === null && <Waiting text={t('inside.loading')} />}
      {model && (
        <>
          <Layers model={model} />
          <Parameters model={model} />
          <Memory model={model} key={model.name} />
          <Facts model={model} />
        </>
      )}
    </View>
  );
}
