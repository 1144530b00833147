// Text of a message to DOM: markdown in blocks, cleaned, with code, tables and formulas. Whatever the text is, nothing runs, nothing
// is fetched, and nothing takes long: what is too large is shown as it is. Loaded when the first message is drawn.
import DOMPurify from 'dompurify';
import MarkdownIt from 'markdown-it';
import type Token from 'markdown-it/lib/token.mjs';
import { mathPlugin } from './math-rule';

/** Where markdown ends and plain text begins. */
export const limits = { line: 20000, block: 60000, nesting: 24, all: 4_000_000 };

const md = new MarkdownIt({ html: false, linkify: false, breaks: true, typographer: false });
md.set({ maxNesting: limits.nesting } as never);
md.use(mathPlugin);
md.validateLink = (url) => /^(https?:|mailto:)/i.test(url.trim()) && url.length < 2000;
const esc = md.utils.escapeHtml;

md.renderer.rules.image = (tokens, i) => {
  const tok = tokens[i]!;
  const src = tok.attrGet('src') ?? '';
  const name = tok.content.slice(0, 200) || src.slice(0, 80);
  // an image of outside would tell its server that it was read; it is named instead
  return /^https?:/i.test(src) ? `<a class="outside" href="${esc(src)}">${esc(name)}</a>` : `<span class="outside">${esc(name)}</span>`;
};
md.renderer.rules.table_open = () => '<div class="scroll-x" tabindex="0" role="group"><table>\n';
md.renderer.rules.table_close = () => '</table></div>\n';
const heading = (d: 'open' | 'close') => (tokens: Token[], i: number) => {
  // the page's own headings are h1 and h2: what a message says stands below them
  const level = Math.min(6, Number(tokens[i]!.tag.slice(1)) + 2);
  return d === 'open' ? `<h${level} class="md-h${tokens[i]!.tag.slice(1)}" dir="auto">` : `</h${level}>\n`;
};
md.renderer.rules.heading_open = heading('open');
md.renderer.rules.heading_close = heading('close');
for (const name of ['paragraph', 'list_item', 'th', 'td'])
  md.renderer.rules[`${name}_open`] = (tokens, i, o, _e, self) => { tokens[i]!.attrSet('dir', 'auto'); return self.renderToken(tokens, i, o); };
md.renderer.rules.link_open = (tokens, i, o, _e, self) => {
  tokens[i]!.attrSet('target', '_blank');
  tokens[i]!.attrSet('rel', 'noopener noreferrer nofollow');
  return self.renderToken(tokens, i, o);
};

export type Block =
  | { kind: 'html'; source: string; from: number }
  | { kind: 'code'; source: string; lang: string; closed: boolean; from: number }
  | { kind: 'plain'; source: string; from: number };

// What a terminal would obey, and what turns the direction of text beyond its own line.
const control = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;
const isolate = /[\u202a-\u202e\u2066-\u2069]/g;

export function tidy(s: string): string {
  return s.replace(/\r\n?/g, '\n').replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, '').replace(/\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g, '')
    .replace(control, '').replace(isolate, '');
}

function plain(source: string, from: number): Block[] {
  const out: Block[] = [];
  const step = 8000;
  for (let i = 0; i < source.length;) {
    let end = Math.min(source.length, i + step);
    const nl = source.lastIndexOf('\n', end);
    if (end < source.length && nl > i + step / 2) end = nl + 1;
    else if (end < source.length && /[\ud800-\udbff]/.test(source[end - 1]!)) end--;
    out.push({ kind: 'plain', source: source.slice(i, end), from: from + i });
    i = end;
  }
  return out;
}

function longLines(s: string): [number, number][] {
  const out: [number, number][] = [];
  for (let a = 0; a < s.length;) {
    const nl = s.indexOf('\n', a), b = nl < 0 ? s.length : nl + 1;
    if (b - a > limits.line) out.push([a, b]);
    a = b;
  }
  return out;
}

/** Cut into top-level blocks. Only the outer structure is looked at here; what is within is parsed when a block is drawn. */
export function split(text: string, from = 0): Block[] {
  if (text.length > limits.all) return plain(text, from);
  const long = longLines(text);
  if (long.length) {
    // lines that are too long are plain, the rest around them is markdown
    const out: Block[] = [];
    let at = 0;
    for (const [a, b] of long) {
      if (a > at) out.push(...split(text.slice(at, a), from + at));
      out.push(...plain(text.slice(a, b), from + a));
      at = b;
    }
    if (at < text.length) out.push(...split(text.slice(at), from + at));
    return out;
  }
  const starts = [0];
  for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) starts.push(i + 1);
  const at = (line: number): number => starts[line] ?? text.length;
  const state = new md.core.State(text, md, {});
  md.block.parse(text, md, state.env, state.tokens);
  const out: Block[] = [];
  for (const tok of state.tokens) {
    if (tok.level !== 0 || tok.nesting < 0 || !tok.map) continue;
    const a = at(tok.map[0]), b = at(tok.map[1]);
    if (out.length && a < out.at(-1)!.from - from + out.at(-1)!.source.length && tok.type !== 'fence') continue;
    const source = text.slice(a, b);
    if (tok.type === 'fence' || tok.type === 'code_block') {
      const last = text.slice(at(tok.map[1] - 1), b).trim();
      const closed = tok.type === 'code_block' || (tok.map[1] - tok.map[0] > 1 && last.startsWith(tok.markup) && !last.slice(tok.markup.length).replace(/[`~]/g, ''));
      out.push({ kind: 'code', source: tok.content.replace(/\n$/, ''), lang: tok.info.trim().split(/\s/)[0] ?? '', closed, from: from + a });
    } else if (source.length > limits.block || lines(source) > 400) {
      // a list or paragraph of thousands of lines: in pieces, so that drawing one is never long
      if (tok.type === 'paragraph_open') out.push(...pieces(source, from + a));
      else if (source.length > limits.block * 4) out.push(...plain(source, from + a));
      else out.push({ kind: 'html', source, from: from + a });
    } else out.push({ kind: 'html', source, from: from + a });
  }
  return out;
}

function lines(s: string): number { let n = 1; for (let i = s.indexOf('\n'); i >= 0; i = s.indexOf('\n', i + 1)) n++; return n; }

function pieces(source: string, from: number): Block[] {
  const out: Block[] = [];
  const all = source.split('\n');
  let at = from;
  for (let i = 0; i < all.length; i += 100) {
    const piece = all.slice(i, i + 100).join('\n') + (i + 100 < all.length ? '\n' : '');
    out.push(piece.length > limits.block ? { kind: 'plain', source: piece, from: at } : { kind: 'html', source: piece, from: at });
    at += piece.length;
  }
  return out;
}

/** As `split`, when text was only added: all but the last two blocks are as they were. */
export function extend(before: Block[], oldText: string, text: string): Block[] {
  if (!before.length || !text.startsWith(oldText)) return split(text);
  const keep = before.slice(0, -2);
  const cut = before[keep.length]!.from;
  return [...keep, ...split(text.slice(cut), cut)];
}

const allowed = ['p', 'br', 'strong', 'em', 's', 'code', 'pre', 'ul', 'ol', 'li', 'blockquote', 'hr', 'a', 'table', 'thead', 'tbody', 'tr', 'th', 'td',
  'h3', 'h4', 'h5', 'h6', 'span', 'div'];
DOMPurify.addHook('afterSanitizeAttributes', (el) => {
  const a = el as Element;
  if (a.tagName === 'A') {
    if (!/^(https?:|mailto:)/i.test(a.getAttribute('href') ?? '')) a.removeAttribute('href');
    a.setAttribute('target', '_blank');
    a.setAttribute('rel', 'noopener noreferrer nofollow');
  }
});

const rightToLeft = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
/** Lists, quotations and tables go the way of their first letter: `dir=auto` does not look into elements that have a direction of their own. */
function turn(part: DocumentFragment): DocumentFragment {
  for (const el of part.querySelectorAll('ul, ol, blockquote, table')) {
    const first = /\p{L}/u.exec(el.textContent ?? '')?.[0];
    if (!first) continue;
    for (const x of el.tagName === 'TABLE' && el.parentElement ? [el, el.parentElement] : [el]) x.setAttribute('dir', rightToLeft.test(first) ? 'rtl' : 'ltr');
  }
  return part;
}

/** A block as DOM that nothing can come of. Formulas are spans with their text, for math.ts. */
export function render(source: string): DocumentFragment {
  let html: string;
  try { html = md.render(source); } catch { html = `<p>${esc(source)}</p>`; }
  return turn(DOMPurify.sanitize(html, {
    ALLOWED_TAGS: allowed, ALLOWED_ATTR: ['href', 'class', 'dir', 'start', 'target', 'rel', 'tabindex', 'role', 'data-tex', 'data-display'],
    ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false, RETURN_DOM_FRAGMENT: true,
  }));
}
