// What is told beside the views: short notices, and what a screen reader says (ends of answers, not tokens).
import { signal } from '@preact/signals';

export type Notice = { id: number; text: string; kind: 'info' | 'error'; action?: { label: string; run: () => void } };
export const notices = signal<Notice[]>([]);
export const spoken = signal('');
let next = 1;

export function drop(id: number): void {
  notices.value = notices.value.filter((n) => n.id !== id);
}

export function notice(text: string, kind: Notice['kind'] = 'info', action?: Notice['action']): void {
  if (notices.value.some((n) => n.text === text)) return;
  const id = next++;
  notices.value = [...notices.value.slice(-3), { id, text, kind, ...(action ? { action } : {}) }];
  setTimeout(() => drop(id), kind === 'error' ? 12000 : action ? 8000 : 4000);
}

export function announce(text: string): void {
  // the same text twice is said twice
  spoken.value = spoken.value === text ? text + '\u00a0' : text;
}
