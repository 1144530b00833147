// Numbers as people read them.
import { locale } from '../i18n';

export function num(x: number, digits = 0): string {
  return new Intl.NumberFormat(locale.value, { maximumFractionDigits: digits }).format(x);
}

export function bytes(n: number | null | undefined): string {
  if (n == null || !Number.isFinite(n)) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return `${num(n, i && n < 100 ? 1 : 0)} ${units[i]}`;
}

export function count(n: number | null | undefined): string {
  if (n == null || !Number.isFinite(n)) return '–';
  for (const [size, unit] of [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'k']] as const)
    if (n >= size * (unit === 'k' ? 10 : 1)) return `${num(n / size, n / size < 100 ? 1 : 0)} ${unit}`;
  return num(n);
}

export function seconds(s: number | null | undefined): string {
  if (s == null || !Number.isFinite(s)) return '–';
  if (s < 1) return `${num(s * 1000)} ms`;
  if (s < 100) return `${num(s, s < 10 ? 1 : 0)} s`;
  const m = Math.floor(s / 60);
  return m < 60 ? `${m} min ${num(Math.floor(s % 60))} s` : `${num(Math.floor(m / 60))} h ${m % 60} min`;
}

export function when(ms: number, now = Date.now()): string {
  const d = new Date(ms);
  const same = new Date(now).toDateString() === d.toDateString();
  return new Intl.DateTimeFormat(locale.value, same ? { hour: '2-digit', minute: '2-digit' }
    : { day: 'numeric', month: 'short', ...(now - ms > 300 * 86400e3 ? { year: 'numeric' as const } : {}) }).format(d);
}

// making a formatter takes far longer than using it
let full: Intl.DateTimeFormat | null = null;
let fullOf = '';
export function fullTime(ms: number): string {
  if (!full || fullOf !== locale.value) { fullOf = locale.value; full = new Intl.DateTimeFormat(fullOf, { dateStyle: 'medium', timeStyle: 'short' }); }
  return full.format(new Date(ms));
}
