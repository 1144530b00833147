// contract.ts — the replies of "Looking inside" and "Training" as docs/PAGE.md has them. Types only.

export interface ModelLayer {
  index: number;
  mixer: string;
  shared: number;
  use: number;
  params: number;
  bytes: number;
}

export interface ModelPart {
  part: string;
  params: number;
  used: number;
  bytes: number;
}

export interface ModelPage {
  name: string;
  info: Record<string, string | number | boolean | null> & { n_layers: number; n_hybrid: number; n_blocks: number };
  params: { once: number; used: number };
  bytes: { weights: number; copies: number; workspace: number; per_token: number };
  layers: ModelLayer[];
  blocks: { index: number; params: number; bytes: number; uses: number }[];
  parts: ModelPart[];
  memory: { state: number; kv_per_token: number; page_tokens: number; n_ctx: number };
}

export interface Histogram {
  counts: number[];
  sum: number;
}

export const LATENCIES = ['queue_wait', 'first_token', 'between_tokens', 'longest_pause', 'mixed_step'] as const;
export type Latency = (typeof LATENCIES)[number];

export interface LiveModel {
  name: string;
  loaded: boolean;
  slots: number;
  running: number;
  waiting: number;
  batch_rows: number;
  requests: { all: number; done: number; cancelled: number; failed: number; refused: number };
  tokens: { prompt: number; cached: number; generated: number; steps: number };
  cache: { hits: number; cold: number; evicted: number; parted: number; entries: number; bytes: number; most: number };
  states: { count: number; bytes: number };
  pause_bound: number;
  latency: { bounds: number[] } & Record<Latency, Histogram>;
}

export interface Live {
  now: number;
  uptime_s: number;
  models: LiveModel[];
  memory: { models: number; most: number | null; resident: number };
  http: {
    requests: number; in_flight: number; streams: number; connections: number;
    by_status: number[]; bytes_in: number; bytes_out: number;
  };
}

export interface Run {
  id: string;
  name: string;
  updated: number;
  live: boolean;
  finished: boolean;
  metrics_bytes: number;
  samples_bytes: number;
  config?: Record<string, unknown>;
}

export interface MetricLine {
  step: number;
  total_steps?: number;
  tokens?: number;
  loss?: number | null;
  learning_rate?: number | null;
  grad_norm?: number | null;
  seconds?: number | null;
  tokens_per_second?: number | null;
  valid_loss?: number | null;
  perplexity?: number | null;
  bits_per_byte?: number | null;
  skipped?: boolean;
  [other: string]: unknown;
}

export interface SampleLine {
  step: number;
  prompt: string;
  text: string;
}

export interface Part<T> {
  from: number;
  next: number;
  more: boolean;
  lines: T[];
}

export interface Artifact {
  id: string;
  run: string | null;
  name: string;
  kind: 'needle' | 'quality' | 'other';
  bytes: number;
  updated: number;
}
