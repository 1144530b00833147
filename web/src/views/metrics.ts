// metrics.ts — the lines of metrics.jsonl as columns that grow, and as few points as a picture can show. Knows nothing of
// where the lines come from.
import type { MetricLine } from './contract';

export class Columns {
  step: number[] = [];
  loss: (number | null)[] = [];
  rate: (number | null)[] = [];
  norm: (number | null)[] = [];
  speed: (number | null)[] = [];
  validStep: number[] = [];
  valid: (number | null)[] = [];
  bits: (number | null)[] = [];
  last: MetricLine | null = null;
  lastValid: MetricLine | null = null;
  skipped = 0;
  totalSteps = 0;

  /** A step that comes again (the run was resumed from before it) replaces what stood there and behind it. */
  add(lines: readonly MetricLine[]): void {
    const value = (x: unknown) => (typeof x === 'number' && Number.isFinite(x) ? x : null);
    for (const l of lines) {
      if (!l || typeof l.step !== 'number') continue;
      if ('valid_loss' in l) {
        while (this.validStep.length && this.validStep[this.validStep.length - 1]! >= l.step) {
          this.validStep.pop();
          this.valid.pop();
          this.bits.pop();
        }
        this.validStep.push(l.step);
        this.valid.push(value(l.valid_loss));
        this.bits.push(value(l.bits_per_byte));
        this.lastValid = l;
      } else {
        while (this.step.length && this.step[this.step.length - 1]! >= l.step) {
          this.step.pop();
          this.loss.pop();
          this.rate.pop();
          this.norm.pop();
          this.speed.pop();
        }
        this.step.push(l.step);
        this.loss.push(value(l.loss));
        this.rate.push(value(l.learning_rate));
        this.norm.push(value(l.grad_norm));
        this.speed.push(value(l.tokens_per_second));
        this.last = l;
        if (l.skipped) this.skipped++;
        if (typeof l.total_steps === 'number') this.totalSteps = l.total_steps;
      }
    }
  }
}

/** Exponential mean over about `width` points, begun without a bias towards the first; gaps stay gaps. */
export function smooth(y: readonly (number | null)[], width: number): (number | null)[] {
  const keep = 1 - 1 / Math.max(1, width);
  let sum = 0;
  let weight = 0;
  return y.map((v) => {
    if (v === null) return null;
    sum = keep * sum + (1 - keep) * v;
    weight = keep * weight + (1 - keep);
    return sum / weight;
  });
}

/** At most `most` points: of each stretch its least and its greatest, so that a spike is never lost. */
export function thin(x: readonly number[], y: readonly (number | null)[], most: number): [number[], (number | null)[]] {
  if (x.length <= most) return [x.slice(), y.slice()];
  const stretches = Math.max(1, Math.floor(most / 2));
  const xs: number[] = [];
  const ys: (number | null)[] = [];
  for (let s = 0; s < stretches; s++) {
    const from = Math.floor((s * x.length) / stretches);
    const to = Math.floor(((s + 1) * x.length) / stretches);
    let low = -1;
    let high = -1;
    for (let i = from; i < to; i++) {
      const v = y[i] ?? null;
      if (v === null) continue;
      if (low < 0 || v < y[low]!) low = i;
      if (high < 0 || v > y[high]!) high = i;
    }
    for (const i of low === high ? [low] : [Math.min(low, high), Math.max(low, high)]) {
      if (i < 0) continue;
      xs.push(x[i]!);
      ys.push(y[i]!);
    }
  }
  return [xs, ys];
}

/** Several series over one axis of steps: those of each, a gap where another has one. */
export function join(...series: [readonly number[], readonly (number | null)[]][]): [number[], ...(number | null | undefined)[][]] {
  const steps = [...new Set(series.flatMap(([x]) => x as number[]))].sort((a, b) => a - b);
  const place = new Map(steps.map((s, i) => [s, i]));
  const columns = series.map(([x, y]) => {
    const column: (number | null | undefined)[] = new Array(steps.length).fill(undefined);
    x.forEach((s, i) => (column[place.get(s)!] = y[i]));
    return column;
  });
  return [steps, ...columns];
}
