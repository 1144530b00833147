// What the views that look inside compute: memory at a context, rates and quantiles, columns of a run, and that every text
// they name is there.
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { en } from '../src/i18n/en';
import type { Histogram, Live, ModelPage } from '../src/views/contract';
import { LATENCIES } from '../src/views/contract';
import { byteTicks, number, percent } from '../src/views/figures';
import { contexts, kvPassesState, memoryAt } from '../src/views/memory';
import { Columns, join, smooth, thin } from '../src/views/metrics';
import { between, quantile, since } from '../src/views/rates';

const model = { info: { n_layers: 8, n_hybrid: 2, n_blocks: 1 }, bytes: { weights: 1000, copies: 10, workspace: 5, per_token: 1 },
  memory: { state: 100, kv_per_token: 4, page_tokens: 16, n_ctx: 64 } } as unknown as ModelPage;

describe('memory', () => {
  it('grows by pages, the state does not', () => {
    expect(memoryAt(model, 0, 1)).toMatchObject({ weights: 1015, state: 100, kv: 0, total: 1115 });
    expect(memoryAt(model, 1, 1).kv).toBe(64);
    expect(memoryAt(model, 17, 3)).toMatchObject({ kv: 3 * 32 * 4, state: 300 });
    expect(memoryAt(model, 10, 1).attention).toBe(1015 + 10 * 2 * 8);
    expect(kvPassesState(model)).toBe(25);
  });
  it('is drawn from nothing to the longest context', () => {
    const x = contexts(1000, 10);
    expect(x[0]).toBe(0);
    expect(x.at(-1)).toBe(1000);
    expect(x.length).toBeLessThanOrEqual(12);
  });
});

describe('rates', () => {
  const live = (now: number, generated: number, uptime: number) => ({ now, uptime_s: uptime, models: [{ name: 'm', loaded: true, running: 1, waiting: 0, batch_rows: 1, tokens: { prompt: 10, cached: 4, generated, steps: 1 },
    cache: { hits: generated, cold: 0, evicted: 0, parted: 0, bytes: 0 }, states: { bytes: 0 } }], memory: { resident: 5, models: 3 }, http: { requests: generated, streams: 0 } }) as unknown as Live;
  it('are differences over the time between', () => {
    expect(between(live(1000, 10, 1), live(3000, 50, 3), 'm')).toMatchObject({ generated: 20, hits: 1200, prompt: 0 });
  });
  it('say nothing when the server began anew', () => {
    expect(between(live(1000, 10, 100), live(3000, 2, 1), 'm')).toBeNull();
    expect(between(null, live(3000, 2, 1), 'm')).toBeNull();
  });
  const h: Histogram = { counts: [0, 10, 10, 0], sum: 3 };
  it('quantiles lie within their bucket, and beyond the last bound are only bounded', () => {
    expect(quantile(h, [1, 2, 4], 0.5)).toEqual({ value: 2, beyond: false });
    expect(quantile(h, [1, 2, 4], 0.75)).toEqual({ value: 3, beyond: false });
    expect(quantile({ counts: [0, 0, 0, 3], sum: 99 }, [1, 2, 4], 0.5)).toEqual({ value: 4, beyond: true });
    expect(quantile({ counts: [0, 0, 0, 0], sum: 0 }, [1, 2, 4], 0.5)).toBeNull();
  });
  it('count since', () => {
    expect(since({ counts: [0, 4, 0, 0], sum: 1 }, h)).toEqual({ counts: [0, 6, 10, 0], sum: 2 });
    expect(since({ counts: [99, 4, 0, 0], sum: 1 }, h)).toBe(h);
  });
});

describe('a run', () => {
  it('keeps columns, and replaces what a resumed run writes again', () => {
    const c = new Columns();
    c.add([{ step: 1, loss: 3, total_steps: 9 }, { step: 2, loss: 2 }, { step: 2, valid_loss: 2.5 }, { step: 3, loss: null, skipped: true }]);
    c.add([{ step: 2, loss: 1.9 }, { step: 2, valid_loss: 2.4 }]);
    expect(c.step).toEqual([1, 2]);
    expect(c.loss).toEqual([3, 1.9]);
    expect(c.valid).toEqual([2.4]);
    expect([c.totalSteps, c.skipped]).toEqual([9, 1]);
  });
  it('thins without losing a spike', () => {
    const x = Array.from({ length: 10000 }, (_, i) => i);
    const y = x.map((i) => (i === 777 ? 99 : i % 3));
    const [tx, ty] = thin(x, y, 200);
    expect(tx.length).toBeLessThanOrEqual(200);
    expect(ty).toContain(99);
    expect([...tx].sort((a, b) => a - b)).toEqual(tx);
  });
  it('smooths from the first value on', () => {
    expect(smooth([2, 2, null, 2], 10)).toEqual([2, 2, null, 2]);
  });
  it('joins over one axis', () => {
    expect(join([[1, 3], [10, 30]], [[2], [20]])).toEqual([[1, 2, 3], [10, undefined, 30], [undefined, 20, undefined]]);
  });
});

describe('figures', () => {
  it('have the digits that mean something', () => {
    expect([number(0.01234), number(4.5678), number(1234.5), number(null), number(0)]).toEqual(['0.0123', '4.57', '1,235', '–', '0']);
    expect([percent(0.5), percent(0.012)]).toEqual(['50%', '1.2%']);
    expect(byteTicks(0, 1000, 4)).toEqual([0, 256, 512, 768]);
  });
});

describe('texts', () => {
  it('all that the views name are there', () => {
    const keys = new Set(Object.keys(en));
    const folder = `${process.cwd()}/src/views/`;
    const missing: string[] = [];
    for (const f of readdirSync(folder).filter((x) => x.endsWith('.tsx'))) {
      const source = readFileSync(folder + f, 'utf8');
      for (const [, key] of source.matchAll(/\bt\('([\w.]+)'/g)) if (!keys.has(key!)) missing.push(`${f}: ${key}`);
    }
    for (const which of LATENCIES) for (const end of ['', '_note']) if (!keys.has(`live.${which}${end}`)) missing.push(which);
    for (const r of ['hits', 'cold', 'evicted', 'parted']) for (const end of ['', '_note']) if (!keys.has(`live.${r}${end}`)) missing.push(r);
    for (const r of ['all', 'done', 'cancelled', 'failed', 'refused']) if (!keys.has(`live.requests_${r}_label`)) missing.push(r);
    expect(missing).toEqual([]);
  });
});
