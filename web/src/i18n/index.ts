// The texts of the interface. en.ts is the list of keys; every other language has the same (the compiler sees to it).
// `{x}` is filled in; "one|many" is chosen by `n`.
import { computed, signal } from '@preact/signals';
import { recall, remember } from '../lib/keep';
import { en } from './en';

export type Key = keyof typeof en;
export type Texts = Record<Key, string>;
export const languages: { id: string; name: string }[] = [{ id: 'en', name: 'English' }, { id: 'de', name: 'Deutsch' }];

const loaders: Record<string, () => Promise<Texts>> = { de: () => import('./de').then((m) => m.de) };
const texts = signal<Texts>(en);
export const language = signal('en');
/** For Intl. */
export const locale = computed(() => language.value);

export function t(key: Key, values?: Record<string, string | number>): string {
  let s: string = texts.value[key] ?? en[key] ?? key;
  if (values) {
    if (s.includes('|') && typeof values.n === 'number') {
      const [one, many] = s.split('|');
      s = (values.n === 1 ? one : many) ?? s;
    }
    s = s.replace(/\{(\w+)\}/g, (all, name: string) => (name in values ? String(values[name]) : all));
  }
  return s;
}

export async function setLanguage(id: string, keep = true): Promise<void> {
  const load = loaders[id];
  try {
    texts.value = load ? await load() : en;
    language.value = load ? id : 'en';
  } catch {
    texts.value = en;
    language.value = 'en';
  }
  document.documentElement.lang = language.value;
  if (keep) remember('language', id);
}

export async function startLanguage(): Promise<void> {
  const wanted = recall('language') ?? navigator.languages?.map((l) => l.slice(0, 2)).find((l) => l === 'en' || l in loaders) ?? 'en';
  if (wanted !== 'en') await setLanguage(wanted, false);
}
