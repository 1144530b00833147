// dashboard.tsx — what the server does at this moment: a look every second, the last minutes as lines, latencies as
// histograms. Sleeps while nobody looks at the page. Meanings of the numbers: rates.ts.
import { useEffect, useRef, useState } from 'preact/hooks';
import { Chart } from './chart';
import { LATENCIES, type Latency, type Live, type LiveModel } from './contract';
import { bytes, count, number, percent, seconds, whole } from './figures';
import { get, t } from './kit';
import { Tiles, Trouble } from './view-parts';
import { Button } from '../ui/parts';
import { View } from '../ui/view';
import './views.css';
import { between, modelOf, quantile, since, total, type Look } from './rates';

const KEPT = 300;

function Bars({ counts, bounds }: { counts: number[]; bounds: number[] }) {
  const most = Math.max(...counts, 1);
  const label = (i: number) => (i < bounds.length ? `≤ ${seconds(bounds[i]!)}` : `> ${seconds(bounds[bounds.length - 1]!)}`);
  return (
    <div class="view-bars" aria-hidden="true">
      {counts.map((c, i) => (
        <div key={i} class="view-bar" title={`${label(i)}: ${whole(c)}`}>
          <i style={{ height: c ? `${Math.max(3, (100 * c) / most)}%` : '0' }} />
        </div>
      ))}
    </div>
  );
}

function LatencyCard({ which, model, before }: { which: Latency; model: LiveModel; before: LiveModel | undefined }) {
  const bounds = model.latency.bounds;
  const h = since(before?.latency[which], model.latency[which]);
  const n = total(h);
  const q = (share: number) => {
    const v = quantile(h, bounds, share);
    return v ? `${v.beyond ? '> ' : ''}${seconds(v.value)}` : '–';
  };
  const used = h.counts.map((c, i) => [c, i] as const).filter(([c]) => c > 0).map(([, i]) => i);
  const from = Math.max(0, Math.min(...used, bounds.length) - 1);
  const to = Math.max(from + 8, Math.max(...used, 0) + 2);
  return (
    <div class="view-latency">
      <h3>{t(`live.${which}`)}</h3>
      <p class="view-note">{t(`live.${which}_note`)}</p>
      <Bars counts={h.counts.slice(from, to)} bounds={bounds.slice(from, to)} />
      <div class="view-bar-ends" aria-hidden="true">
        <span>{from ? seconds(bounds[from - 1]!) : '0'}</span>
        <span>{to > bounds.length ? `> ${seconds(bounds[bounds.length - 1]!)}` : seconds(bounds[Math.min(to, bounds.length) - 1]!)}</span>
      </div>
      <dl class="view-quantiles">
        <div><dt>{t('live.median')}</dt><dd>{q(0.5)}</dd></div>
        <div><dt>{t('live.p95')}</dt><dd>{q(0.95)}</dd></div>
        <div><dt>{t('live.mean')}</dt><dd>{n ? seconds(h.sum / n) : '–'}</dd></div>
        <div><dt>{t('live.counted')}</dt><dd>{count(n)}</dd></div>
      </dl>
      <details class="view-details">
        <summary>{t('view.as_table')}</summary>
        <table class="view-table">
          <thead>
            <tr>
              <th scope="col">{t('live.up_to')}</th>
              <th scope="col">{t('live.counted')}</th>
            </tr>
          </thead>
          <tbody>
            {h.counts.map((c, i) => (
              <tr key={i}>
                <th scope="row">{i < bounds.length ? seconds(bounds[i]!) : t('live.beyond')}</th>
                <td>{whole(c)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </div>
  );
}

const REASONS = ['hits', 'cold', 'evicted', 'parted'] as const;
const REASON_COLOURS = { hits: 3, cold: 1, evicted: 2, parted: 5 };

function Cache({ model, before, looks, ago }: { model: LiveModel; before: LiveModel | undefined; looks: Look[]; ago: number[] }) {
  const c = model.cache;
  const b = before?.cache;
  const n = (r: (typeof REASONS)[number]) => Math.max(0, c[r] - (b && b[r] <= c[r] ? b[r] : 0));
  const all = REASONS.reduce((sum, r) => sum + n(r), 0);
  return (
    <section class="view-card" aria-labelledby="cache-title">
      <h2 id="cache-title">{t('live.cache')}</h2>
      <p class="view-note">{t('live.cache_note', { entries: whole(c.entries), bytes: bytes(c.bytes), most: bytes(c.most) })}</p>
      <div class="param-bar full" aria-hidden="true">
        {REASONS.map((r) => (n(r) > 0 ? <i key={r} class={`view-c${REASON_COLOURS[r]}`} style={{ flexGrow: String(n(r)) }} /> : null))}
      </div>
      <dl class="view-tiles small">
        {REASONS.map((r) => (
          <div key={r} class="view-tile">
            <dt><i class={`view-swatch solid view-c${REASON_COLOURS[r]}`} aria-hidden="true" /> {t(`live.${r}`)}</dt>
            <dd>
              {count(n(r))}
              <span class="view-tile-note">{all ? percent(n(r) / all) : ''}</span>
            </dd>
            <dd class="view-tile-text">{t(`live.${r}_note`)}</dd>
          </div>
        ))}
      </dl>
      <Chart
        title={t('live.cache_chart')} xLabel={t('live.ago')} x={ago} xFormat={agoText} yFormat={number} fromZero least={1} height={180}
        series={REASONS.map((r) => ({ label: t(`live.${r}`), colour: REASON_COLOURS[r], values: looks.map((l) => l[r]), width: 2, dash: r === 'hits' ? undefined : [5, 3] }))}
      />
    </section>
  );
}

const agoText = (s: number): string => (s > -1 ? t('live.now') : `−${seconds(-s)}`);

export default function DashboardView() {
  const [live, setLive] = useState<Live | null>(null);
  const [first, setFirst] = useState<Live | null>(null);
  const [looks, setLooks] = useState<Look[]>([]);
  const [name, setName] = useState('');
  const [recent, setRecent] = useState(false);
  const [paused, setPaused] = useState(false);
  const [trouble, setTrouble] = useState<unknown>(null);
  const [again, setAgain] = useState(0);
  const last = useRef<Live | null>(null);

  useEffect(() => {
    if (paused) return;
    const stop = new AbortController();
    let timer = 0;
    let wait = 1000;
    const look = async () => {
      if (!document.hidden) {
        try {
          const now = await get<Live>('/page/v1/live', stop.signal);
          const step = between(last.current, now, name);
          if (last.current && now.uptime_s < last.current.uptime_s) setFirst(now);
          last.current = now;
          setFirst((f) => f ?? now);
          setLive(now);
          if (step) setLooks((all) => [...all.slice(-KEPT + 1), step]);
          setTrouble(null);
          wait = 1000;
        } catch (e) {
          if (stop.signal.aborted) return;
          setTrouble(e);
          wait = Math.min(wait * 2, 15000);
        }
      }
      if (!stop.signal.aborted) timer = window.setTimeout(() => void look(), wait);
    };
    void look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [name, paused, again]);

  const model = live ? modelOf(live, name) : undefined;
  const before = recent && first && model ? first.models.find((m) => m.name === model.name) : undefined;
  const now = looks[looks.length - 1];
  const ago = looks.map((l) => l.time - (now?.time ?? 0));
  const chart = { xLabel: t('live.ago'), x: ago, xFormat: agoText, height: 190, fromZero: true };
  const reused = model && model.tokens.prompt + model.tokens.cached > 0 ? model.tokens.cached / (model.tokens.prompt + model.tokens.cached) : null;
  return (
    <View title={t('live.title')} wide lead={live ? t('live.head', { uptime: seconds(live.uptime_s), requests: whole(live.http.requests) }) : t('view.waiting')}>
        <div class="view-controls">
          {live && live.models.length > 1 && (
            <label>
              <span>{t('live.model')}</span>
              <select class="select" value={model?.name} onChange={(e) => {
                setName(e.currentTarget.value);
                setLooks([]);
                last.current = null;
              }}>
                {live.models.map((m) => <option key={m.name} value={m.name}>{m.name}</option>)}
              </select>
            </label>
          )}
          <Button pressed={paused} onClick={() => setPaused(!paused)}>{t('live.pause')}</Button>
          <label class="check"><input type="checkbox" checked={recent} onChange={(e) => setRecent(e.currentTarget.checked)} /> {t('live.since_opened')}</label>
        </div>
      {trouble !== null && <Trouble of={trouble} retry={() => setAgain(again + 1)} />}
      {live && model && (
        <>
          <Tiles
            tiles={[
              [t('live.generated'), number(now?.generated ?? 0), t('live.per_second')],
              [t('live.read'), number(now?.prompt ?? 0), t('live.per_second')],
              [t('live.running'), `${whole(model.running)} / ${whole(model.slots)}`],
              [t('live.waiting'), whole(model.waiting)],
              [t('live.reused'), percent(reused)],
              [t('live.resident'), bytes(live.memory.resident), live.memory.most ? t('live.of', { most: bytes(live.memory.most) }) : undefined],
            ]}
          />
          <div class="view-grid">
            <section class="view-card">
              <h2 class="sr">{t('live.speed')}</h2>
              <Chart {...chart} title={t('live.speed')} note={t('live.speed_note')} yFormat={number} least={10}
                series={[
                  { label: t('live.generated'), colour: 1, fill: 'faint', values: looks.map((l) => l.generated) },
                  { label: t('live.read'), colour: 2, dash: [5, 3], values: looks.map((l) => l.prompt) },
                ]}
              />
            </section>
            <section class="view-card">
              <h2 class="sr">{t('live.load')}</h2>
              <Chart {...chart} title={t('live.load')} note={t('live.load_note')} yFormat={number} least={model.slots}
                series={[
                  { label: t('live.running'), colour: 1, steps: true, fill: 'faint', values: looks.map((l) => l.running) },
                  { label: t('live.waiting'), colour: 2, steps: true, dash: [5, 3], values: looks.map((l) => l.waiting) },
                  { label: t('live.rows'), colour: 3, steps: true, dash: [2, 3], values: looks.map((l) => l.rows) },
                ]}
              />
            </section>
            <section class="view-card">
              <h2 class="sr">{t('live.memory')}</h2>
              <Chart {...chart} title={t('live.memory')} note={t('live.memory_note')} yFormat={bytes} bytes least={1024}
                series={[
                  { label: t('live.resident'), colour: 1, fill: 'faint', values: looks.map((l) => l.resident) },
                  { label: t('live.models_memory'), colour: 3, dash: [5, 3], values: looks.map((l) => l.models) },
                  { label: t('live.states_memory'), colour: 2, dash: [2, 3], values: looks.map((l) => l.cache) },
                ]}
              />
            </section>
            <section class="view-card">
              <h2 class="sr">{t('live.http')}</h2>
              <Chart {...chart} title={t('live.http')} note={t('live.http_note', { connections: whole(live.http.connections), failed: whole(live.http.by_status[3]) })} yFormat={number} least={2}
                series={[
                  { label: t('live.requests'), colour: 1, fill: 'faint', values: looks.map((l) => l.requests) },
                  { label: t('live.streams'), colour: 2, steps: true, dash: [5, 3], values: looks.map((l) => l.streams) },
                ]}
              />
            </section>
          </div>
          <Cache model={model} before={before} looks={looks} ago={ago} />
          <section class="view-card" aria-labelledby="latency-title">
            <h2 id="latency-title">{t('live.latency')}</h2>
            <p class="view-note">{t(recent ? 'live.latency_recent' : 'live.latency_all', { bound: seconds(model.pause_bound) })}</p>
            <div class="view-grid three">
              {LATENCIES.map((which) => <LatencyCard key={which} which={which} model={model} before={before} />)}
              <div class="view-latency">
                <h3>{t('live.requests_all')}</h3>
                <dl class="view-facts narrow">
                  {(['all', 'done', 'cancelled', 'failed', 'refused'] as const).map((k) => (
                    <div key={k}><dt>{t(`live.requests_${k}_label`)}</dt><dd>{whole(model.requests[k])}</dd></div>
                  ))}
                  <div><dt>{t('live.tokens_generated')}</dt><dd>{count(model.tokens.generated)}</dd></div>
                  <div><dt>{t('live.tokens_read')}</dt><dd>{count(model.tokens.prompt)}</dd></div>
                  <div><dt>{t('live.tokens_reused')}</dt><dd>{count(model.tokens.cached)}</dd></div>
                </dl>
              </div>
            </div>
          </section>
        </>
      )}
    </View>
  );
}
