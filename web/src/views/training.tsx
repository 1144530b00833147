// training.tsx — the run folder of `zamba train`, live: what was written since the last look is fetched every two seconds
// while the run goes on. The list of runs, and one run: curves, held-out loss, samples, options.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { Chart } from './chart';
import type { MetricLine, Part, Run, SampleLine } from './contract';
import { bytes, count, date, number, percent, seconds, whole } from './figures';
import { get, t } from './kit';
import { Columns, join, smooth, thin } from './metrics';
import { Tiles, Trouble, Waiting } from './view-parts';
import { View } from '../ui/view';
import './views.css';

const POINTS = 900;

function Badge({ run }: { run: Run }) {
  const state = run.finished ? 'finished' : run.live ? 'live' : 'resting';
  return <span class={`view-badge ${state}`}>{t(`train.${state}`)}</span>;
}

/** Calls `look` at once and then every `ms` while the page is seen; what it throws is told. */
function useLooks(look: (signal: AbortSignal) => Promise<void>, ms: number, on: unknown[], told: (e: unknown) => void): void {
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const go = async () => {
      if (!document.hidden) {
        try {
          await look(stop.signal);
          if (!stop.signal.aborted) told(null);
        } catch (e) {
          if (!stop.signal.aborted) told(e);
        }
      }
      if (!stop.signal.aborted) timer = window.setTimeout(() => void go(), ms);
    };
    void go();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, on);
}

function Runs() {
  const [runs, setRuns] = useState<Run[] | null>(null);
  const [trouble, setTrouble] = useState<unknown>(null);
  const [again, setAgain] = useState(0);
  useLooks(async (signal) => setRuns((await get<{ runs: Run[] }>('/page/v1/runs', signal)).runs), 5000, [again], setTrouble);
  return (
    <View title={t('train.title')} lead={t('train.note')} wide>
      {trouble !== null && <Trouble of={trouble} retry={() => setAgain(again + 1)} />}
      {!runs && trouble === null && <Waiting text={t('view.waiting')} />}
      {runs && runs.length === 0 && (
        <div class="view-card view-nothing">
          <p>{t('train.none')}</p>
          <pre tabIndex={0}><code>zamba train pretrain … -o runs/first{'\n'}zamba serve … --runs runs</code></pre>
        </div>
      )}
      {runs && runs.length > 0 && (
        <ul class="view-list">
          {runs.map((r) => (
            <li key={r.id}>
              <a class="view-list-item" href={`/training/${r.id}`}>
                <span class="view-list-name">{r.name}</span>
                <Badge run={r} />
                <span class="view-note">{date(r.updated)} · {bytes(r.metrics_bytes)}</span>
              </a>
            </li>
          ))}
        </ul>
      )}
    </View>
  );
}

async function follow<T>(path: string, from: number, signal: AbortSignal, add: (lines: T[], anew: boolean) => void): Promise<number> {
  for (let more = true; more; ) {
    const part = await get<Part<T>>(`${path}?from=${from}`, signal);
    add(part.lines, part.from < from);
    more = part.more && part.next > from;
    from = part.next;
  }
  return from;
}

function Samples({ samples }: { samples: SampleLine[] }) {
  const steps = useMemo(() => [...new Set(samples.map((s) => s.step))], [samples]);
  const [chosen, setChosen] = useState<number | null>(null);
  const i = chosen === null || chosen >= steps.length ? steps.length - 1 : chosen;
  if (!steps.length) return null;
  return (
    <section class="view-card" aria-labelledby="samples-title">
      <h2 id="samples-title">{t('train.samples')}</h2>
      <div class="view-controls">
        <label class="grow">
          <span>{t('train.step')} <b>{whole(steps[i])}</b></span>
          <input type="range" min={0} max={Math.max(steps.length - 1, 0)} value={i} aria-valuetext={`${t('train.step')} ${whole(steps[i])}`}
            disabled={steps.length < 2}
            onInput={(e) => {
              const to = Number(e.currentTarget.value);
              setChosen(to === steps.length - 1 ? null : to);
            }} />
        </label>
      </div>
      {samples.filter((s) => s.step === steps[i]).map((s, k) => (
        <blockquote class="view-sample" key={k} dir="auto">
          <span class="view-sample-prompt">{s.prompt}</span>
          {s.text}
        </blockquote>
      ))}
    </section>
  );
}

function Config({ config }: { config: Record<string, unknown> }) {
  const show = (v: unknown): string =>
    typeof v === 'number' ? String(v) : typeof v === 'boolean' ? t(v ? 'view.yes' : 'view.no') : typeof v === 'string' ? v : JSON.stringify(v);
  return (
    <section class="view-card" aria-labelledby="options-title">
      <h2 id="options-title">{t('train.options')}</h2>
      <dl class="view-facts">
        {Object.entries(config).map(([k, v]) => (
          <div key={k}>
            <dt>{k.replaceAll('_', ' ')}</dt>
            <dd>{show(v)}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function OneRun({ id }: { id: string }) {
  const [run, setRun] = useState<Run | null>(null);
  const [version, setVersion] = useState(0);
  const [samples, setSamples] = useState<SampleLine[]>([]);
  const [smoothed, setSmoothed] = useState(50);
  const [trouble, setTrouble] = useState<unknown>(null);
  const [again, setAgain] = useState(0);
  const columns = useRef(new Columns());
  const place = useRef({ metrics: 0, samples: 0 });
  const ended = run !== null && !run.live;

  useEffect(() => {
    columns.current = new Columns();
    place.current = { metrics: 0, samples: 0 };
    setSamples([]);
    setRun(null);
  }, [id]);
  useLooks(async (signal) => {
    const base = `/page/v1/runs/${encodeURIComponent(id)}`;
    setRun(await get<Run>(base, signal));
    place.current.metrics = await follow<MetricLine>(`${base}/metrics`, place.current.metrics, signal, (lines, anew) => {
      if (anew) columns.current = new Columns();
      columns.current.add(lines);
      if (lines.length || anew) setVersion((v) => v + 1);
    });
    place.current.samples = await follow<SampleLine>(`${base}/samples`, place.current.samples, signal, (lines, anew) => {
      if (lines.length || anew) setSamples((all) => (anew ? lines : [...all, ...lines]));
    });
  }, ended ? 10000 : 2000, [id, ended, again], setTrouble);

  const c = columns.current;
  const curves = useMemo(() => {
    const mean = smooth(c.loss, smoothed);
    return {
      loss: join(thin(c.step, c.loss, POINTS), thin(c.step, mean, POINTS), [c.validStep, c.valid]),
      rate: thin(c.step, c.rate, POINTS),
      norm: thin(c.step, c.norm, POINTS),
      speed: join(thin(c.step, c.speed, POINTS), thin(c.step, smooth(c.speed, smoothed), POINTS)),
    };
  }, [version, smoothed, id]);
  const last = c.last;
  const totalSteps = c.totalSteps || Number(run?.config?.['max_steps']) || 0;
  const recent = c.speed.slice(-50).filter((v): v is number => v !== null && v > 0);
  const speed = recent.length ? recent.reduce((a, b) => a + b, 0) / recent.length : null;
  const left = run?.live && last && totalSteps > last.step && typeof last.seconds === 'number' ? (totalSteps - last.step) * last.seconds : null;
  const chart = { xLabel: t('train.step'), xFormat: (x: number) => (x >= 100000 ? count(x) : whole(x)), height: 220 };
  return (
    <View title={run?.name ?? t('train.title')} wide>
      <p class="view-crumb"><a href="/training">← {t('train.title')}</a>{run && <Badge run={run} />}{run && <span class="view-note">{t('train.written', { when: date(run.updated) })}</span>}</p>
      {trouble !== null && <Trouble of={trouble} retry={() => setAgain(again + 1)} />}
      {!run && trouble === null && <Waiting text={t('view.waiting')} />}
      {run && (
        <>
          <div class="view-progress">
            <progress max={totalSteps || 1} value={last?.step ?? 0} aria-label={t('train.progress')} />
            <span>{whole(last?.step ?? 0)} / {totalSteps ? whole(totalSteps) : '?'}{left !== null ? ` · ${t('train.left', { time: seconds(left) })}` : ''}</span>
          </div>
          <Tiles
            tiles={[
              [t('train.loss'), number(last?.loss, 4)],
              [t('train.valid'), number(c.lastValid?.valid_loss, 4), c.lastValid ? t('train.bits', { bits: number(c.lastValid.bits_per_byte, 4) }) : undefined],
              [t('train.tokens'), count(last?.tokens)],
              [t('train.speed'), number(speed), t('live.per_second')],
              [t('train.rate'), number(last?.learning_rate)],
              [t('train.skipped'), whole(c.skipped), c.step.length ? percent(c.skipped / c.step.length) : undefined],
            ]}
          />
          <section class="view-card">
            <h2 class="sr">{t('train.loss')}</h2>
            <div class="view-controls end">
              <label>
                <span>{t('train.smoothing')} <b>{whole(smoothed)}</b></span>
                <input type="range" min={1} max={200} value={smoothed} onInput={(e) => setSmoothed(Number(e.currentTarget.value))} />
              </label>
            </div>
            <Chart {...chart} title={t('train.loss')} note={t('train.loss_note')} height={320} cut x={curves.loss[0]} yFormat={(y) => number(y, 4)}
              series={[
                { label: t('train.each_step'), colour: 8, width: 1, values: curves.loss[1] ?? [] },
                { label: t('train.mean'), colour: 1, width: 2.5, values: curves.loss[2] ?? [] },
                { label: t('train.valid'), colour: 2, points: true, dash: [6, 4], values: curves.loss[3] ?? [] },
              ]}
            />
          </section>
          <div class="view-grid three">
            <section class="view-card">
              <h2 class="sr">{t('train.rate')}</h2>
              <Chart {...chart} title={t('train.rate')} x={curves.rate[0]} yFormat={(y) => number(y)} fromZero
                series={[{ label: t('train.rate'), colour: 3, values: curves.rate[1] }]} />
            </section>
            <section class="view-card">
              <h2 class="sr">{t('train.norm')}</h2>
              <Chart {...chart} title={t('train.norm')} x={curves.norm[0]} yFormat={(y) => number(y)} cut
                series={[{ label: t('train.norm'), colour: 5, width: 1, values: curves.norm[1] }]} />
            </section>
            <section class="view-card">
              <h2 class="sr">{t('train.speed')}</h2>
              <Chart {...chart} title={t('train.speed')} x={curves.speed[0]} yFormat={(y) => number(y)} fromZero
                series={[
                  { label: t('train.each_step'), colour: 8, width: 1, values: curves.speed[1] ?? [] },
                  { label: t('train.mean'), colour: 4, width: 2.5, values: curves.speed[2] ?? [] },
                ]} />
            </section>
          </div>
          <Samples samples={samples} />
          {run.config && <Config config={run.config} />}
        </>
      )}
    </View>
  );
}

export default function TrainingView({ params: { run } }: { params: Record<string, string> }) {
  return run ? <OneRun id={run} /> : <Runs />;
}
