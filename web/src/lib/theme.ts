// Light, dark, or as the system says. The colours are CSS variables (ui/base.css); here only which set is meant.
import { computed, effect, signal } from '@preact/signals';
import { recall, remember } from './keep';

export type Theme = 'auto' | 'light' | 'dark';
const saved = recall('theme');
export const theme = signal<Theme>(saved === 'light' || saved === 'dark' ? saved : 'auto');

const wantsDark = matchMedia('(prefers-color-scheme: dark)');
const systemDark = signal(wantsDark.matches);
wantsDark.addEventListener?.('change', (e) => { systemDark.value = e.matches; });

/** What is shown now; drawings that cannot use CSS variables (canvas) follow it. */
export const dark = computed(() => theme.value === 'dark' || (theme.value === 'auto' && systemDark.value));
export const calm = signal(matchMedia('(prefers-reduced-motion: reduce)').matches);

export function startTheme(): void {
  effect(() => {
    document.documentElement.dataset.theme = dark.value ? 'dark' : 'light';
    remember('theme', theme.value === 'auto' ? null : theme.value);
  });
}
