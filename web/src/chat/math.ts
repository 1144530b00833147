// Draws formulas with KaTeX, which is fetched with the first of them. Through DOM nodes: styles in HTML text would be refused by the CSP,
// and so would be the ones of its MathML; screen readers get the source.
import { t } from '../i18n';
import { mathLimits } from './math-rule';

const defines = /\\(?:[gex]?def|(?:future)?let|(?:re)?newcommand|providecommand|global|long)(?![a-z])/;

/** Too much, or made to be. */
export function harmful(tex: string): boolean {
  if (tex.length > mathLimits.length || defines.test(tex)) return true;
  let depth = 0, most = 0;
  for (const c of tex) { if (c === '{') most = Math.max(most, ++depth); else if (c === '}') depth--; }
  return most > 40 || (tex.match(/\^|_|\\[dt]?frac|\\sqrt|\\left/g)?.length ?? 0) > 250;
}

let katex: Promise<typeof import('katex').default> | null = null;
function load() {
  return katex ??= Promise.all([import('katex'), import('katex/dist/katex.min.css')]).then(([m]) => m.default)
    .catch((e) => { katex = null; throw e; });
}

export async function drawMath(root: ParentNode): Promise<void> {
  const all = [...root.querySelectorAll<HTMLElement>('.tex:not([data-drawn])')].slice(0, mathLimits.count);
  if (!all.length) return;
  let k;
  try { k = await load(); } catch { return; }
  for (const el of all) {
    const tex = el.dataset.tex ?? '';
    el.dataset.drawn = '1';
    if (harmful(tex)) { el.title = t('math.bad'); continue; }
    try {
      const box = document.createElement('span');
      k.render(tex, box, {
        displayMode: el.dataset.display === 'block', output: 'html', trust: false, strict: 'ignore', throwOnError: true,
        maxExpand: 100, maxSize: 20, colorIsTextColor: true,
      });
      el.setAttribute('role', 'math');
      el.setAttribute('aria-label', tex);
      el.dir = 'ltr';
      if (el.dataset.display === 'block' || tex.length > 40) el.tabIndex = 0; // may be wider than the page: scrolled with the keys
      el.replaceChildren(box);
      el.classList.add('drawn');
    } catch { el.title = t('math.bad'); }
  }
}
