// rates.ts — from counters that only grow to what happens now: rates between two looks, shares, quantiles of histograms.
// A server that was started anew counts from 0 again; then nothing is said for one look.
import type { Histogram, Live, LiveModel } from './contract';

export interface Look {
  time: number; // seconds
  generated: number; // tokens a second
  prompt: number;
  running: number;
  waiting: number;
  rows: number;
  hits: number; // a minute
  cold: number;
  evicted: number;
  parted: number;
  resident: number;
  models: number;
  cache: number;
  requests: number; // a second
  streams: number;
}

export function modelOf(live: Live, name: string): LiveModel | undefined {
  return live.models.find((m) => m.name === name) ?? live.models.find((m) => m.loaded) ?? live.models[0];
}

/** What happened between two replies, or null if they do not belong together. */
export function between(before: Live | null, now: Live, name: string): Look | null {
  const m = modelOf(now, name);
  const b = before && m ? before.models.find((x) => x.name === m.name) : undefined;
  const dt = before ? (now.now - before.now) / 1000 : 0;
  if (!before || dt <= 0 || now.uptime_s < before.uptime_s) return null;
  const rate = (x: number | undefined, y: number | undefined) => Math.max(0, (x ?? 0) - (y ?? 0)) / dt;
  return {
    time: now.now / 1000,
    generated: rate(m?.tokens.generated, b?.tokens.generated),
    prompt: rate(m?.tokens.prompt, b?.tokens.prompt),
    running: m?.running ?? 0,
    waiting: m?.waiting ?? 0,
    rows: m?.batch_rows ?? 0,
    hits: 60 * rate(m?.cache.hits, b?.cache.hits),
    cold: 60 * rate(m?.cache.cold, b?.cache.cold),
    evicted: 60 * rate(m?.cache.evicted, b?.cache.evicted),
    parted: 60 * rate(m?.cache.parted, b?.cache.parted),
    resident: now.memory.resident,
    models: now.memory.models,
    cache: (m?.cache.bytes ?? 0) + (m?.states.bytes ?? 0),
    requests: rate(now.http.requests, before.http.requests),
    streams: now.http.streams,
  };
}

export const total = (h: Histogram): number => h.counts.reduce((a, b) => a + b, 0);

/** What was counted since `before`; all of it if the server began anew. */
export function since(before: Histogram | undefined, now: Histogram): Histogram {
  if (!before || before.counts.length !== now.counts.length || total(before) > total(now)) return now;
  return { counts: now.counts.map((c, i) => Math.max(0, c - before.counts[i]!)), sum: Math.max(0, now.sum - before.sum) };
}

/** Evenly within its bucket; beyond the last bound it is only known to be greater, and the bound is what is said. */
export function quantile(h: Histogram, bounds: number[], q: number): { value: number; beyond: boolean } | null {
  const n = total(h);
  if (n === 0 || bounds.length === 0) return null;
  let left = q * n;
  for (let i = 0; i < h.counts.length; i++) {
    const c = h.counts[i]!;
    if (left <= c && c > 0) {
      if (i >= bounds.length) return { value: bounds[bounds.length - 1]!, beyond: true };
      const low = i ? bounds[i - 1]! : 0;
      return { value: low + (bounds[i]! - low) * (left / c), beyond: false };
    }
    left -= c;
  }
  return { value: bounds[bounds.length - 1]!, beyond: true };
}
