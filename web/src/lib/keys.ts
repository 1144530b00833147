// Shortcuts. Views add theirs while they are shown; the list under ? is made of what is there.
import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { Key } from '../i18n';

/** "mod" is Ctrl, or Cmd on a Mac. Single letters count outside fields only. */
export type Shortcut = { keys: string; what: Key; run: (e: KeyboardEvent) => void | false; inFields?: boolean };
export const shortcuts = signal<Shortcut[]>([]);
const mac = /Mac|iPhone|iPad/.test(navigator.platform ?? '');

export function shown(keys: string): string {
  return keys.replace('mod', mac ? '⌘' : 'Ctrl').replace('shift', mac ? '⇧' : 'Shift').replace('alt', mac ? '⌥' : 'Alt')
    .replace('arrowup', '↑').replace('arrowdown', '↓').replace('arrowleft', '←').replace('arrowright', '→')
    .replace('enter', 'Enter').replace('escape', 'Esc');
}

export function addShortcuts(list: Shortcut[]): () => void {
  shortcuts.value = [...list, ...shortcuts.value];
  return () => { shortcuts.value = shortcuts.value.filter((s) => !list.includes(s)); };
}

export function useShortcuts(list: Shortcut[], deps: unknown[] = []): void {
  // what a key does is what the view last drawn says, not the first one
  const now = useRef(list);
  now.current = list;
  useEffect(() => addShortcuts(list.map((s, i) => ({ ...s, run: (e: KeyboardEvent) => (now.current[i] ?? s).run(e) }))), deps);
}

function fits(s: string, e: KeyboardEvent): boolean {
  const parts = s.split('+');
  const key = parts.at(-1) === '' ? '+' : parts.at(-1)!;
  const mod = mac ? e.metaKey : e.ctrlKey;
  if (parts.includes('mod') !== mod || parts.includes('alt') !== e.altKey) return false;
  if (/^[a-z0-9]$|^(arrow|enter|escape)/.test(key) && parts.includes('shift') !== e.shiftKey) return false;
  return e.key.toLowerCase() === key;
}

export function startKeys(): void {
  document.addEventListener('keydown', (e) => {
    if (e.defaultPrevented || e.isComposing) return;
    const el = e.target as HTMLElement;
    const field = !!el.closest?.('input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select, [contenteditable=true]');
    const modal = !!document.querySelector('dialog[open]');
    for (const s of shortcuts.value) {
      if (!fits(s.keys, e) || (field && !s.inFields && !s.keys.includes('mod')) || (modal && !s.inFields)) continue;
      if (s.run(e) === false) continue;
      e.preventDefault();
      return;
    }
  });
}
