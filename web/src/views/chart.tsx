// chart.tsx — a chart that everybody can read: drawn (plot.ts, loaded when it comes into view), its points by arrow keys
// with their values spoken, and a table of the same numbers. Knows nothing of where the numbers come from.
import { effect } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { dark } from '../lib/theme';
import { t } from './kit';
import type { Plot, PlotOptions } from './plot';

export interface ChartProps extends PlotOptions {
  title: string;
  xLabel: string;
  note?: string;
  height?: number;
  /** What is read out where no point is chosen: the last (default) or the one nearest to the mark. */
  rest?: 'last' | 'mark';
  class?: string;
}

const ROWS = 60;

function nearest(x: readonly number[], at: number): number {
  let low = 0;
  let high = x.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle]! < at) low = middle + 1;
    else high = middle;
  }
  return low > 0 && at - x[low - 1]! < x[low]! - at ? low - 1 : low;
}

/** The value at a point, or the last one before it that is there. */
function valueAt(values: readonly (number | null | undefined)[], i: number): number | null {
  for (let k = i; k >= 0 && k > i - 2000; k--) if (values[k] !== undefined) return values[k]!;
  return null;
}

function ChartTable(p: ChartProps) {
  const step = Math.max(1, Math.ceil(p.x.length / ROWS));
  const rows: number[] = [];
  for (let i = p.x.length - 1; i >= 0; i -= step) rows.push(i);
  rows.reverse();
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={t('view.table_of', { title: p.title })}>
      <table class="view-table">
        <thead>
          <tr>
            <th scope="col">{p.xLabel}</th>
            {p.series.map((s) => (
              <th scope="col" key={s.label}>{s.label}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((i) => (
            <tr key={i}>
              <th scope="row">{p.xFormat(p.x[i]!)}</th>
              {p.series.map((s) => {
                const v = (s.shown ?? s.values)[i];
                return <td key={s.label}>{v === null || v === undefined ? '' : p.yFormat(v)}</td>;
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Chart(p: ChartProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | null>(null);
  const latest = useRef(p);
  latest.current = p;
  const [at, setAt] = useState<number | null>(null);
  const [table, setTable] = useState(false);

  useEffect(() => {
    const element = host.current!;
    let closed = false;
    let stopTheme = () => {};
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((e) => e.isIntersecting)) return;
      seen.disconnect();
      void import('./plot').then(({ Plot }) => {
        if (closed) return;
        plot.current = new Plot(element, latest.current, (i) => setAt(i));
        let first = true;
        stopTheme = effect(() => {
          void dark.value;
          if (!first) requestAnimationFrame(() => plot.current?.retheme());
          first = false;
        });
      });
    }, { rootMargin: '200px' });
    seen.observe(element);
    return () => {
      closed = true;
      seen.disconnect();
      stopTheme();
      plot.current?.close();
      plot.current = null;
    };
  }, []);
  useEffect(() => plot.current?.update(p));

  const n = p.x.length;
  const rest = p.rest === 'mark' && p.mark !== null && p.mark !== undefined && n ? nearest(p.x, p.mark) : n - 1;
  const i = at !== null && at < n ? at : rest;
  const said = n ? `${p.xLabel} ${p.xFormat(p.x[i]!)}: ` +
    p.series.map((s) => [s.label, valueAt(s.shown ?? s.values, i)] as const).filter(([, v]) => v !== null)
      .map(([label, v]) => `${label} ${p.yFormat(v!)}`).join(', ') : t('view.nothing_yet');

  const move = (e: KeyboardEvent) => {
    const jump = Math.max(1, Math.round(n / 10));
    const to = { ArrowLeft: i - 1, ArrowDown: i - 1, ArrowRight: i + 1, ArrowUp: i + 1, PageUp: i - jump, PageDown: i + jump, Home: 0, End: n - 1 }[e.key];
    if (to === undefined || !n) return;
    e.preventDefault();
    const next = Math.min(n - 1, Math.max(0, to));
    setAt(next);
    plot.current?.point(next);
  };

  return (
    <figure class={`view-chart ${p.class ?? ''}`}>
      <figcaption>
        <span class="view-chart-title">{p.title}</span>
        {p.note && <span class="view-note">{p.note}</span>}
      </figcaption>
      <div class="view-legend" aria-hidden="true">
        {n > 0 && <span class="view-legend-x">{p.xLabel} {p.xFormat(p.x[i]!)}</span>}
        {p.series.map((s) => {
          const v = valueAt(s.shown ?? s.values, i);
          return (
            <span key={s.label} class="view-key">
              <i class={`view-swatch view-c${s.colour} ${s.dash ? 'dashed' : ''} ${s.fill === 'solid' ? 'solid' : ''}`} />
              {s.label} <b>{v === null ? '–' : p.yFormat(v)}</b>
            </span>
          );
        })}
      </div>
      <div
        class="view-plot"
        style={p.height ? { height: `${p.height}px` } : undefined}
        {...(n
          ? { role: 'slider', tabIndex: 0, 'aria-valuemin': 0, 'aria-valuemax': n - 1, 'aria-valuenow': Math.max(i, 0), 'aria-valuetext': said }
          : { role: 'img' })}
        aria-label={t('view.chart_of', { title: p.title })}
        onKeyDown={move}
        onBlur={() => setAt(null)}
      >
        <div class="view-plot-host" ref={host} />
        {n === 0 && <p class="view-empty">{t('view.nothing_yet')}</p>}
      </div>
      {n > 0 && (
        <details class="view-details" onToggle={(e) => setTable((e.currentTarget as HTMLDetailsElement).open)}>
          <summary>{t('view.as_table')}</summary>
          {table && <ChartTable {...p} />}
        </details>
      )}
    </figure>
  );
}
