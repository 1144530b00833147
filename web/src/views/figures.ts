// figures.ts — numbers of measurements, in the page's language: as many digits as they mean. Sizes, counts and times are
// lib/format's.
import { num } from '../lib/format';
import { locale } from '../i18n';

export { bytes, count, seconds, fullTime as date } from '../lib/format';

const made = new Map<string, Intl.NumberFormat>();

// Charts ask for every tick, so formatters are made once.
function format(options: Intl.NumberFormatOptions, x: number): string {
  const key = locale.value + JSON.stringify(options);
  let f = made.get(key);
  if (!f) made.set(key, (f = new Intl.NumberFormat(locale.value, options)));
  return f.format(x);
}

const known = (x: number | null | undefined): x is number => x !== null && x !== undefined && Number.isFinite(x);

/** So many digits and never more: 0.0123, 4.57, 1,234. */
export function number(x: number | null | undefined, digits = 3): string {
  if (!known(x)) return '–';
  if (Math.abs(x) >= 10 ** digits) return num(x);
  if (x !== 0 && Math.abs(x) < 1e-4) return format({ notation: 'scientific', maximumFractionDigits: digits - 1 }, x);
  return format({ maximumSignificantDigits: digits }, x);
}

export const whole = (x: number | null | undefined): string => (known(x) ? num(x) : '–');

export const percent = (share: number | null | undefined): string =>
  known(share) ? format({ style: 'percent', maximumFractionDigits: share > 0 && share < 0.1 ? 1 : 0 }, share) : '–';

/** Ticks of an axis in bytes, at multiples of powers of two, as many as fit. */
export function byteTicks(min: number, max: number, most: number): number[] {
  const least = Math.max((max - min) / Math.max(most, 1), 1);
  const step = 2 ** Math.ceil(Math.log2(least));
  const ticks: number[] = [];
  for (let x = Math.ceil(min / step) * step; x <= max; x += step) ticks.push(x);
  return ticks;
}
