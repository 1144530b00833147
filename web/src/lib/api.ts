// The server as the page sees it (docs/PAGE.md): types, requests, streams. Owns the key and what is told when it is wanted.
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { signal } from '@preact/signals';
import { recall, remember } from './keep';

export const protocol = 1;

export type Settings = {
  temperature?: number | null; top_p?: number | null; top_k?: number | null; min_p?: number | null; typical_p?: number | null;
  repeat_penalty?: number | null; repeat_last_n?: number | null; presence_penalty?: number | null;
  frequency_penalty?: number | null; seed?: number | null; max_tokens?: number | null; stop?: string[] | null;
  logprobs?: boolean | null; top_logprobs?: number | null; [other: string]: unknown;
};
export type Usage = {
  prompt: number; cached: number; generated: number; queued_s: number; load_s: number; prefill_s: number; decode_s: number;
  ttft_s: number; tokens_per_second: number;
};
export type Token = {
  at: number; n: number; id: number; text: string; logprob: number; top?: { id: number; text: string; logprob: number }[];
};
export type Chat = {
  id: string; kind: 'chat' | 'notebook'; title: string; folder: string | null; pinned: boolean; model: string | null;
  system: string; settings: Settings; leaf: string | null; state: string | null; created: number; updated: number;
  revision: number; nodes: number; preview: string;
  hits?: { node: string | null; snippet: string; marks: [number, number][] }[];
};
export type Status = 'done' | 'streaming' | 'stopped' | 'interrupted' | 'error';
export type Node = {
  id: string; chat: string; parent: string | null; role: 'system' | 'user' | 'assistant' | 'tool' | 'text'; content: string;
  created: number; updated: number; revision: number; status: Status; finish: null | 'stop' | 'length' | 'cancelled';
  error: null | { message: string; code: string | null }; model: string | null; settings: Settings | null; usage: Usage | null;
  has_tokens: boolean; state: { id: string } | null; meta: Record<string, unknown>;
};
export type Model = {
  name: string; bytes: number; phase: 'absent' | 'loading' | 'ready' | 'unloading'; known: boolean; memory: number | null;
  elapsed_s: number | null; expected_s: number | null; error: string | null; n_ctx: number | null; n_params: number | null;
  family: string | null; dtype: string | null; template?: boolean;
};
export type Folder = { id: string; name: string; position: number; revision: number };
export type Preset = { id: string; name: string; system: string; settings: Settings; revision: number };
export type Bootstrap = {
  version: string; protocol: number; build: string; needs_key: boolean; authorized: boolean; key_name?: string;
  started: number; epoch: string; model: string; models: Model[]; defaults: Settings;
  limits: { max_body: number; slots: number; n_ctx: number };
  history: { state: 'on' | 'off' | 'read_only'; reason: string | null; message: string | null; moved_aside: string | null; folder: string; other?: string | null };
  features: { search: boolean; states: boolean; runs: boolean; logprobs: boolean; tools: boolean };
};
export type StateCosts = {
  nodes: Record<string, { tokens: number; bytes: number; kept: 'memory' | null; saved: string | null }>;
  cache: { bytes: number; most: number; entries: number }; saved: { count: number; bytes: number; most: number };
};
export type AnswerEvent =
  | { type: 'state'; node: string; status: Status; from: number; length: number }
  | { type: 'loading'; model: string; elapsed_s: number; waits: boolean }
  | { type: 'queued'; ahead: number }
  | { type: 'prefill'; done: number; total: number; cached: number }
  | { type: 'text'; at: number; text: string; tokens?: Token[] }
  | { type: 'end'; node: Node };
export type ChangeEvent =
  | { type: 'hello'; epoch: string; seq: number; missed: boolean }
  | { type: 'chat'; seq: number; tab: string; op: string; id: string; chat: Chat | null }
  | { type: 'node'; seq: number; tab: string; op: string; id: string; chat: string; node: Node | null }
  | { type: 'folder'; seq: number; tab: string; op: string; id: string; folder: Folder | null }
  | { type: 'preset'; seq: number; tab: string; op: string; id: string; preset: Preset | null }
  | { type: 'model'; seq: number; model: Model }
  | { type: 'bye' };

/** An error of the server, or its absence: status 0 and code "unreachable"; "cut" is a stream that broke off, which says nothing yet. */
export class ApiError extends Error {
  constructor(message: string, readonly status: number, readonly code: string, readonly current: unknown = null,
    readonly retryAfter = 0) { super(message); }
}

const random = (n: number): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(n)), (b) => b.toString(16).padStart(2, '0')).join('');
export const newId = (): string => random(12);
export const tab = random(8);
export const key = signal(recall('key') ?? '');
/** True while the server wants a key that is not there or wrong. */
export const wantsKey = signal(false);

export function setKey(k: string): void {
  key.value = k.trim();
  remember('key', key.value || null);
}

function headers(more?: Record<string, string>): Record<string, string> {
  const h: Record<string, string> = { 'X-Zamba-Tab': tab, ...more };
  if (key.value) h.Authorization = `Bearer ${key.value}`;
  return h;
}

async function failure(r: Response): Promise<ApiError> {
  let message = `${r.status} ${r.statusText}`, code = '', current: unknown = null;
  try {
    const body = await r.json();
    if (typeof body?.error === 'object') { message = body.error.message ?? message; code = body.error.code ?? body.error.type ?? ''; }
    else if (typeof body?.error === 'string') message = body.error;
    current = body?.current ?? null;
  } catch { /* no JSON: the status says it */ }
  if (r.status === 401) wantsKey.value = true;
  return new ApiError(message, r.status, code, current, Number(r.headers.get('Retry-After')) || 0);
}

export async function raw(method: string, url: string, body?: BodyInit | null, opts: { type?: string; signal?: AbortSignal } = {}): Promise<Response> {
  let r: Response;
  try {
    r = await fetch(url, {
      method, headers: headers(body != null ? { 'Content-Type': opts.type ?? 'application/json' } : undefined),
      body: body ?? null, cache: 'no-store', redirect: 'error', ...(opts.signal ? { signal: opts.signal } : {}),
    });
  } catch (e) {
    if (opts.signal?.aborted) throw e;
    throw new ApiError('The server does not answer.', 0, 'unreachable');
  }
  if (!r.ok) throw await failure(r);
  return r;
}

export async function call<T>(method: string, url: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const r = await raw(method, url, body === undefined ? null : JSON.stringify(body), signal ? { signal } : {});
  try { return await r.json() as T; } catch { throw new ApiError('The server\'s reply was cut off.', 0, 'unreachable'); }
}

export const get = <T>(url: string, signal?: AbortSignal): Promise<T> => call<T>('GET', url, undefined, signal);

/** Read server-sent events until they end or `signal` aborts. Nothing for 40 s (the server says something every 15) is an error. */
export async function stream(url: string, onEvent: (name: string, data: any) => void, signal: AbortSignal): Promise<void> {
  const quiet = new AbortController();
  const both = AbortSignal.any ? AbortSignal.any([signal, quiet.signal]) : signal;
  let timer = setTimeout(() => quiet.abort(), 40000);
  try {
    const r = await raw('GET', url, null, { signal: both });
    const parser = createParser({
      onEvent(e: EventSourceMessage) {
        let data: unknown;
        try { data = JSON.parse(e.data); } catch { return; }
        onEvent(e.event ?? 'message', data);
      },
    });
    const reader = r.body!.getReader();
    const text = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => quiet.abort(), 40000);
      parser.feed(text.decode(value, { stream: true }));
    }
  } catch (e) {
    if (signal.aborted) return;
    throw e instanceof ApiError ? e : new ApiError('The connection to the server was lost.', 0, 'cut');
  } finally {
    clearTimeout(timer);
  }
}

const q = (o: Record<string, string | number | boolean | null | undefined>): string => {
  const p = new URLSearchParams();
  for (const [k, v] of Object.entries(o)) if (v != null && v !== '') p.set(k, String(v));
  const s = p.toString();
  return s ? '?' + s : '';
};
const P = '/page/v1';
const e = encodeURIComponent;

export const api = {
  bootstrap: () => get<Bootstrap>(`${P}/bootstrap`),
  chats: (o: { q?: string; folder?: string; kind?: string; pinned?: boolean; limit?: number; after?: string | null } = {}, s?: AbortSignal) =>
    get<{ chats: Chat[]; next: string | null; total: number }>(`${P}/chats${q(o)}`, s),
  makeChat: (o: Partial<Chat>) => call<Chat>('POST', `${P}/chats`, o),
  chat: (id: string, s?: AbortSignal) => get<{ chat: Chat; nodes: Node[] }>(`${P}/chats/${e(id)}`, s),
  patchChat: (id: string, o: Partial<Chat>) => call<Chat>('PATCH', `${P}/chats/${e(id)}`, o),
  deleteChat: (id: string) => call<unknown>('DELETE', `${P}/chats/${e(id)}`),
  deleteAll: () => call<unknown>('DELETE', `${P}/chats?confirm=all`),
  exportChat: (id: string, format: 'json' | 'markdown', leaf?: string | null) =>
    raw('GET', `${P}/chats/${e(id)}/export${q({ format, leaf: leaf ?? null })}`),
  exportAll: () => raw('GET', `${P}/export`),
  importChats: (text: BodyInit) => raw('POST', `${P}/import`, text).then((r) => r.json() as Promise<{ chats: Chat[]; renamed: number }>),
  folders: () => get<{ folders: Folder[] }>(`${P}/folders`),
  makeFolder: (name: string) => call<Folder>('POST', `${P}/folders`, { name }),
  patchFolder: (id: string, o: Partial<Folder>) => call<Folder>('PATCH', `${P}/folders/${e(id)}`, o),
  deleteFolder: (id: string) => call<unknown>('DELETE', `${P}/folders/${e(id)}`),
  presets: () => get<{ presets: Preset[] }>(`${P}/presets`),
  makePreset: (o: Partial<Preset>) => call<Preset>('POST', `${P}/presets`, o),
  patchPreset: (id: string, o: Partial<Preset>) => call<Preset>('PATCH', `${P}/presets/${e(id)}`, o),
  deletePreset: (id: string) => call<unknown>('DELETE', `${P}/presets/${e(id)}`),
  makeNode: (chat: string, o: { parent: string | null; role: Node['role']; content: string; meta?: object; id?: string; tokens?: Token[]; copy?: string }) =>
    call<Node>('POST', `${P}/chats/${e(chat)}/nodes`, o),
  node: (id: string) => get<Node>(`${P}/nodes/${e(id)}`),
  patchNode: (id: string, o: { revision?: number; content?: string; meta?: object }) => call<Node>('PATCH', `${P}/nodes/${e(id)}`, o),
  deleteNode: (id: string) => call<{ deleted: string[]; parent: string | null }>('DELETE', `${P}/nodes/${e(id)}`),
  tokens: (id: string) => get<{ tokens: Token[] }>(`${P}/nodes/${e(id)}/tokens`),
  prompt: (id: string) => get<{ prompt: string }>(`${P}/nodes/${e(id)}/prompt`),
  answer: (chat: string, o: { parent: string | null; message?: { role?: 'user' | 'text'; content: string; meta?: object; id?: string }; settings?: Settings; model?: string | null; id?: string }) =>
    call<{ message: Node | null; node: Node }>('POST', `${P}/chats/${e(chat)}/answers`, o),
  goOn: (node: string, o: { settings?: Settings; model?: string | null; revision?: number } = {}) =>
    call<Node>('POST', `${P}/answers/${e(node)}/continue`, o),
  stop: (node: string) => call<Node>('POST', `${P}/answers/${e(node)}/stop`, {}),
  answerEvents: (node: string, from: number, on: (ev: AnswerEvent) => void, s: AbortSignal) =>
    stream(`${P}/answers/${e(node)}/events?from=${from}`, (type, d) => on({ ...d, type } as AnswerEvent), s),
  changes: (after: number | null, epoch: string | null, on: (ev: ChangeEvent) => void, s: AbortSignal) =>
    stream(`${P}/events${q({ after, epoch })}`, (type, d) => on({ ...d, type } as ChangeEvent), s),
  states: (chat: string) => get<StateCosts>(`${P}/chats/${e(chat)}/states`),
  saveState: (node: string) => call<{ id: string; tokens: number; bytes: number }>('POST', `${P}/nodes/${e(node)}/state`, {}),
  stateFile: (id: string) => raw('GET', `/v1/states/${e(id)}`),
  deleteState: (id: string) => raw('DELETE', `/v1/states/${e(id)}`),
  putState: (file: Blob, model: string) =>
    raw('PUT', `/v1/states${q({ model })}`, file, { type: 'application/octet-stream' }).then((r) => r.json() as Promise<{ id: string }>),
  models: () => get<{ models: Model[]; memory: { taken: number; most: number | null } }>(`${P}/models`),
  loadModel: (model: string) => call<Model>('POST', `${P}/models/load`, { model }),
  unloadModel: (model: string) => call<Model>('POST', `${P}/models/unload`, { model }),
};
