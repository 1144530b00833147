// plot.ts — one uPlot drawing in an element: colours of the theme, width of the element, the cursor told to whoever asks.
// A chunk of its own, loaded by chart.tsx when the first chart is seen. Owns no text and no meaning.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { byteTicks } from './figures';

export interface PlotSeries {
  label: string;
  /** 1..8: --view-c1 ... */
  colour: number;
  values: readonly (number | null | undefined)[];
  /** What is read out where it is not what is drawn (stacked surfaces). */
  shown?: readonly (number | null | undefined)[];
  dash?: number[];
  fill?: 'solid' | 'faint';
  points?: boolean;
  width?: number;
  steps?: boolean;
}

export interface PlotOptions {
  x: readonly number[];
  series: readonly PlotSeries[];
  xFormat: (x: number) => string;
  yFormat: (y: number) => string;
  bytes?: boolean;
  log?: boolean;
  fromZero?: boolean;
  time?: boolean;
  /** A line at this x. */
  mark?: number | null;
  /** The highest y that is shown at least. */
  least?: number;
  /** y is cut to where nearly all values lie (a loss begins high). */
  cut?: boolean;
}

/** Colours as the style sheet means them at this moment (light-dark() is resolved only in a property of colour). */
function colourOf(host: HTMLElement, name: string): string {
  const probe = document.createElement('i');
  probe.className = `view-${name}`;
  host.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function cutOff(series: readonly PlotSeries[]): [number, number] | null {
  const all = series.flatMap((s) => s.values.filter((v): v is number => typeof v === 'number'));
  if (all.length < 50) return null;
  all.sort((a, b) => a - b);
  const low = all[0]!;
  const high = all[Math.floor(all.length * 0.98)]!;
  return [low - (high - low) * 0.05, high + (high - low) * 0.08];
}

export class Plot {
  private u: uPlot | null = null;
  private o: PlotOptions;
  private shape = '';
  private readonly watch: ResizeObserver;

  constructor(
    private readonly host: HTMLElement,
    options: PlotOptions,
    private readonly onCursor: (i: number | null) => void,
  ) {
    this.o = options;
    this.make();
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(host);
  }

  private size(): { width: number; height: number } {
    return { width: Math.max(160, Math.floor(this.host.clientWidth)), height: Math.max(120, this.host.clientHeight) };
  }

  private resize(): void {
    const s = this.size();
    if (this.u && (this.u.width !== s.width || this.u.height !== s.height)) this.u.setSize(s);
  }

  private data(): uPlot.AlignedData {
    return [this.o.x as number[], ...this.o.series.map((s) => s.values as (number | null | undefined)[])];
  }

  private static shapeOf(o: PlotOptions): string {
    return JSON.stringify([o.bytes, o.log, o.fromZero, o.time, o.cut, o.series.map((s) => [s.label, s.colour, s.dash, s.fill, s.points, s.width, s.steps])]);
  }

  private make(): void {
    this.u?.destroy();
    this.shape = Plot.shapeOf(this.o);
    const ink = colourOf(this.host, 'soft');
    const grid = colourOf(this.host, 'grid-line');
    const mark = colourOf(this.host, 'ink');
    const font = `12px ${getComputedStyle(this.host).fontFamily}`;
    const axis: uPlot.Axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    this.u = new uPlot(
      {
        ...this.size(),
        padding: [8, 12, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
        scales: {
          x: { time: false },
          y: {
            distr: this.o.log ? 3 : 1,
            range: this.o.log
              ? undefined
              : (_u, min, max) => {
                 if (min === null || max === null || !Number.isFinite(min) || !Number.isFinite(max)) return [0, this.o.least ?? 1];
                 const cut = this.o.cut ? cutOff(this.o.series) : null;
                 if (cut) [min, max] = cut;
                 if (this.o.fromZero) return [0, Math.max(max * 1.08, this.o.least ?? 0) || 1];
                 const room = (max - min || Math.abs(max) || 1) * 0.08;
                 return [min - room, max + room];
               },
          },
        },
        axes: [
          { ...axis, size: 30, space: 70, values: (_u, ticks) => ticks.map((t) => this.o.xFormat(t)) },
          {
            ...axis,
            space: 36,
            size: (_u, values) => 14 + 7 * Math.max(3, ...(values ?? []).map((v) => v?.length ?? 0)),
            splits: this.o.bytes
              ? (u, _i, min, max) => byteTicks(min, max, Math.max(2, Math.floor(u.height / 44)))
              : undefined,
            values: (_u, ticks) => ticks.map((t) => (t === null || t === undefined ? '' : this.o.yFormat(t))),
          },
        ],
        series: [
          {},
          ...this.o.series.map((s): uPlot.Series => {
            const colour = colourOf(this.host, `c${s.colour}`);
            return {
              label: s.label,
              stroke: colour,
              width: s.width ?? 2,
              dash: s.dash,
              fill: s.fill ? (s.fill === 'solid' ? colour : colour.replace(/^rgb\((.*)\)$/, 'rgba($1, 0.16)')) : undefined,
              points: { show: s.points ?? false, size: 6, fill: colour },
              paths: s.steps ? uPlot.paths.stepped!({ align: -1 }) : undefined,
              spanGaps: false,
            };
          }),
        ],
        hooks: {
          setCursor: [(u) => this.onCursor(u.cursor.idx ?? null)],
          draw: [
            (u) => {
              const at = this.o.mark;
              if (at === null || at === undefined) return;
              const left = Math.round(u.valToPos(at, 'x', true)) + 0.5;
              u.ctx.save();
              u.ctx.strokeStyle = mark;
              u.ctx.lineWidth = devicePixelRatio;
              u.ctx.setLineDash([4, 3]);
              u.ctx.beginPath();
              u.ctx.moveTo(left, u.bbox.top);
              u.ctx.lineTo(left, u.bbox.top + u.bbox.height);
              u.ctx.stroke();
              u.ctx.restore();
            },
          ],
        },
      },
      this.data(),
      this.host,
    );
  }

  update(options: PlotOptions): void {
    this.o = options;
    if (!this.u || this.shape !== Plot.shapeOf(options)) this.make();
    else this.u.setData(this.data());
  }

  /** Other colours. */
  retheme(): void {
    this.make();
  }

  /** The cursor by keyboard. */
  point(i: number): void {
    if (this.u) this.u.setCursor({ left: this.u.valToPos(this.o.x[i] ?? 0, 'x'), top: 10 }, false);
  }

  close(): void {
    this.watch.disconnect();
    this.u?.destroy();
    this.u = null;
  }
}
