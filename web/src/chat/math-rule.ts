// Formulas for markdown-it: $...$, $$...$$, \(...\), \[...\]. They become spans that hold the source; drawing is math.ts.
import type MarkdownIt from 'markdown-it';

export const mathLimits = { length: 1500, count: 200 };

export function mathPlugin(md: MarkdownIt): void {
  const esc = md.utils.escapeHtml;
  md.inline.ruler.before('escape', 'math', (state, silent) => {
    const s = state.src, at = state.pos;
    let open = '', close = '';
    if (s.startsWith('$$', at)) open = close = '$$';
    else if (s[at] === '$') open = close = '$';
    else if (s.startsWith('\\(', at)) { open = '\\('; close = '\\)'; }
    else if (s.startsWith('\\[', at)) { open = '\\['; close = '\\]'; }
    else return false;
    const from = at + open.length;
    let end = s.indexOf(close, from);
    while (end > 0 && close[0] === '$' && s[end - 1] === '\\') end = s.indexOf(close, end + 1);
    if (end < 0 || end === from || end - from > mathLimits.length) return false;
    const tex = s.slice(from, end);
    // "5 $ and 6 $" are prices: no space inside, no digit behind
    if (open === '$' && (/^\s|\s$/.test(tex) || tex.includes('\n\n') || /\d/.test(s[end + 1] ?? ''))) return false;
    if (!silent) {
      const tok = state.push('math', 'span', 0);
      tok.content = tex;
      tok.info = open === '$$' || open === '\\[' ? 'block' : '';
    }
    state.pos = end + close.length;
    return true;
  });
  md.renderer.rules.math = (tokens, i) => {
    const { content, info } = tokens[i]!;
    return `<span class="tex${info ? ' tex-block' : ''}" data-tex="${esc(content)}" data-display="${info}">${esc(content)}</span>`;
  };
}
