// The address of the page as signals, and going from one to the other without loading anything anew.
import { computed, signal } from '@preact/signals';

export const path = signal(location.pathname);
export const query = signal(location.search);
export const hash = signal(location.hash);

export type Route = { name: string; params: Record<string, string> };

// {x} is one part, {x...} all that is left. The first that fits counts.
const table: [string, string][] = [
  ['/', 'chat'],
  ['/c/{chat}', 'chat'],
  ['/c/{chat}/tree', 'tree'],
  ['/compare/{chat}', 'compare'],
  ['/notebook', 'notebook'],
  ['/notebook/{chat}', 'notebook'],
  ['/history', 'history'],
  ['/models', 'models'],
  ['/model', 'model'],
  ['/model/{model...}', 'model'],
  ['/dashboard', 'dashboard'],
  ['/training', 'training'],
  ['/training/{run}', 'training'],
  ['/charts', 'charts'],
  ['/settings', 'settings'],
  ['/help', 'help'],
];

function decode(s: string): string {
  try { return decodeURIComponent(s); } catch { return s; }
}

export function match(p: string): Route {
  const parts = p.replace(/\/+$/, '').split('/');
  for (const [pattern, name] of table) {
    const want = pattern.replace(/\/+$/, '').split('/');
    const params: Record<string, string> = {};
    let ok = true;
    for (let i = 0; i < Math.max(want.length, parts.length) && ok; i++) {
      const w = want[i];
      const rest = w?.match(/^\{(\w+)\.\.\.\}$/);
      if (rest) {
        params[rest[1]!] = decode(parts.slice(i).join('/'));
        ok = parts.length > i;
        break;
      }
      const one = w?.match(/^\{(\w+)\}$/);
      if (one && parts[i]) params[one[1]!] = decode(parts[i]!);
      else if (w !== parts[i]) ok = false;
    }
    if (ok) return { name, params };
  }
  return { name: 'missing', params: {} };
}

export const route = computed(() => match(path.value));

function read(): void {
  path.value = location.pathname;
  query.value = location.search;
  hash.value = location.hash;
}

/** Go to an address of the page. `replace` leaves no step for the back button. */
export function go(to: string, replace = false): void {
  if (to === location.pathname + location.search + location.hash) return;
  history[replace ? 'replaceState' : 'pushState'](null, '', to);
  read();
}

export function startRouter(): void {
  addEventListener('popstate', read);
  document.addEventListener('click', (e) => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const a = (e.target as Element | null)?.closest?.('a[href]') as HTMLAnchorElement | null;
    if (!a || a.target || a.hasAttribute('download') || a.origin !== location.origin) return;
    if (match(a.pathname).name === 'missing') return;
    e.preventDefault();
    go(a.pathname + a.search + a.hash);
  });
}
