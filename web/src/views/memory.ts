// memory.ts — what a model takes in memory at a context of n tokens. The state of the Mamba layers is the same at any
// length; keys and values grow by whole pages, and only where a shared block is used.
import type { ModelPage } from './contract';

export interface MemoryAt {
  tokens: number;
  weights: number;
  state: number;
  kv: number;
  total: number;
  /** The same sequences if every layer attended. */
  attention: number;
}

export function memoryAt(m: ModelPage, tokens: number, sequences: number): MemoryAt {
  const page = Math.max(m.memory.page_tokens, 1);
  const kv = Math.ceil(tokens / page) * page * m.memory.kv_per_token * sequences;
  const state = m.memory.state * sequences;
  const weights = m.bytes.weights + m.bytes.copies + m.bytes.workspace;
  const each = m.info.n_hybrid > 0 ? m.memory.kv_per_token / m.info.n_hybrid : 0;
  return {
    tokens, weights, state, kv, total: weights + state + kv,
    attention: weights + tokens * each * m.info.n_layers * sequences,
  };
}

/** Contexts at which the curve is drawn: 0 and the borders of at most `most` equal steps. */
export function contexts(longest: number, most = 128): number[] {
  const step = Math.max(1, Math.ceil(longest / most));
  const out: number[] = [];
  for (let n = 0; n < longest; n += step) out.push(n);
  out.push(longest);
  return out;
}

/** From which context on the keys and values take more than the state (0: never). */
export function kvPassesState(m: ModelPage): number {
  return m.memory.kv_per_token > 0 ? Math.ceil(m.memory.state / m.memory.kv_per_token) : 0;
}
