// Answers as they are written: one stream for each that is under way, asked for again where it broke off.
import { signal, type Signal } from '@preact/signals';
import { t } from '../i18n';
import { ApiError, api, type AnswerEvent, type Node, type Token } from '../lib/api';
import { announce } from '../lib/say';
import type { Tree } from './tree';

export type Phase =
  | { kind: 'start' | 'writing' } | { kind: 'loading'; model: string; elapsed: number; waits: boolean }
  | { kind: 'queued'; ahead: number } | { kind: 'reading'; done: number; total: number; cached: number };
const phases = new Map<string, Signal<Phase>>();
const running = new Map<string, AbortController>();
/** Tokens that came with a stream, by node. */
export const streamed = new Map<string, Token[]>();

export function phase(id: string): Signal<Phase> {
  let s = phases.get(id);
  if (!s) phases.set(id, s = signal<Phase>({ kind: 'start' }));
  return s;
}

export function unwatch(id: string): void {
  running.get(id)?.abort();
  running.delete(id);
  phases.delete(id);
}

/** What an answer has beyond the text that is shown, let out once a frame. By places: the answer may be told whole meanwhile. */
export class Flow {
  private from = 0;
  private text = '';
  private due = false;
  constructor(private tr: Tree, private id: string) {}
  private shown(): number { return this.tr.nodes.get(this.id)?.peek().content.length ?? 0; }
  length(): number { return Math.max(this.shown(), this.from + this.text.length); }
  add(at: number, text: string): boolean {
    const have = this.length();
    if (at > have) return false;
    if (at + text.length <= have) return true;
    if (have > this.from + this.text.length) this.drop();
    if (!this.text) this.from = have;
    this.text += text.slice(have - at);
    if (!this.due) {
      this.due = true;
      if (document.hidden) setTimeout(() => this.out(), 100);
      else requestAnimationFrame(() => this.out());
    }
    return true;
  }
  out(): void {
    this.due = false;
    const s = this.tr.nodes.get(this.id), n = s?.peek(), known = this.shown() - this.from;
    if (s && n?.status === 'streaming' && known >= 0 && known < this.text.length) s.value = { ...n, content: n.content + this.text.slice(known) };
    this.drop();
  }
  drop(): void { this.from = 0; this.text = ''; }
}

export function watch(tr: Tree, id: string): void {
  if (running.has(id)) return;
  const abort = new AbortController();
  running.set(id, abort);
  const ph = phase(id);
  ph.value = { kind: 'start' };
  announce(t('msg.started'));
  void (async () => {
    const flow = new Flow(tr, id);
    let ended = false, wait = 400;
    const on = (e: AnswerEvent): void => {
      wait = 400;
      switch (e.type) {
        case 'state':
          // the server lost what it had not yet written down (it was killed): its text counts
          if (e.length < flow.length()) {
            flow.drop();
            const s = tr.nodes.get(id);
            if (s && s.peek().content.length > e.length) s.value = { ...s.peek(), content: s.peek().content.slice(0, e.length) };
          }
          break;
        case 'loading': ph.value = { kind: 'loading', model: e.model, elapsed: e.elapsed_s, waits: e.waits }; break;
        case 'queued': ph.value = { kind: 'queued', ahead: e.ahead }; break;
        case 'prefill': ph.value = { kind: 'reading', done: e.done, total: e.total, cached: e.cached }; break;
        case 'text':
          if (ph.value.kind !== 'writing') ph.value = { kind: 'writing' };
          if (e.tokens?.length) streamed.set(id, [...(streamed.get(id) ?? []), ...e.tokens]);
          flow.add(e.at, e.text);
          break;
        case 'end':
          ended = true;
          flow.out();
          tr.put(e.node);
          done(e.node);
          break;
      }
    };
    while (!ended && !abort.signal.aborted) {
      try {
        await api.answerEvents(id, flow.length(), on, abort.signal);
        if (!ended) {
          const n = await api.node(id);
          if (n.status !== 'streaming') { ended = true; tr.put(n); done(n); }
        }
      } catch (e) {
        if (e instanceof ApiError && e.status === 404) { ended = true; tr.remove(id); break; }
        if (e instanceof ApiError && e.code === 'unreachable') void import('./store').then((m) => m.lost());
      }
      if (!ended) await new Promise((r) => setTimeout(r, wait));
      wait = Math.min(wait * 1.6, 5000);
    }
    if (running.get(id) === abort) { running.delete(id); phases.delete(id); }
  })();
}

function done(n: Node): void {
  if (n.status === 'error') announce(t('msg.error', { message: n.error?.message ?? '' }));
  else announce(t('msg.finished', { text: n.content.replace(/[`*_#>|$\\]/g, '').slice(0, 4000) }));
}
