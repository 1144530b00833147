// Markdown: what it makes of ordinary text, and that hostile text comes to nothing. Long texts are made here, the corpus is in hostile.json.
import { describe, expect, it, vi } from 'vitest';
import { extend, render, split, tidy, type Block } from '../src/chat/markdown';
import { harmful } from '../src/chat/math';
import hostile from './hostile.json';

vi.setConfig({ testTimeout: 300_000 });
/** Seconds of the processor, which do not depend on what else the machine does. */
const spent = (): number => { const u = process.cpuUsage(); return (u.user + u.system) / 1e6; };

function draw(text: string): HTMLElement {
  const box = document.createElement('div');
  for (const b of split(tidy(text))) {
    if (b.kind === 'html') box.append(render(b.source));
    else { const el = document.createElement(b.kind === 'code' ? 'pre' : 'div'); el.textContent = b.source; box.append(el); }
  }
  return box;
}
const html = (text: string): string => draw(text).innerHTML;

describe('markdown', () => {
  it('makes paragraphs, lists, tables, code', () => {
    expect(html('a **b** `c`')).toContain('<strong>b</strong> <code>c</code>');
    expect(html('- x\n- y')).toContain('<li dir="auto">x</li>');
    expect(draw('| a | b |\n|---|---|\n| 1 | 2 |').querySelectorAll('td').length).toBe(2);
    expect(html('# One')).toContain('<h3');
  });
  it('turns lists, quotations, tables with their text', () => {
    const d = draw('1. مرحبا\n2. hello\n\n> שלום\n\n| النوع | b |\n|---|---|\n| 1 | 2 |\n\n- 5 hello مرحبا\n\n## أهلا');
    expect(['ol', 'blockquote', 'table', 'ul', 'h4'].map((x) => d.querySelector(x)!.getAttribute('dir'))).toEqual(['rtl', 'rtl', 'rtl', 'ltr', 'auto']);
  });
  it('sees code as blocks with their language', () => {
    const b = split('text\n\n```python\nprint(1)\n```\nmore');
    expect(b.map((x) => x.kind)).toEqual(['html', 'code', 'html']);
    expect(b[1]).toMatchObject({ lang: 'python', source: 'print(1)', closed: true });
    expect(split('```c\nint x;').at(0)).toMatchObject({ kind: 'code', closed: false });
    expect(split('```c\n').at(0)).toMatchObject({ kind: 'code', closed: false });
  });
  it('marks formulas and leaves prices alone', () => {
    expect(draw('so $x^2$ and \\(y\\) and $$z$$ and \\[w\\]').querySelectorAll('.tex').length).toBe(4);
    expect(draw('so $x^2$').querySelector('.tex')?.getAttribute('data-tex')).toBe('x^2');
    expect(draw('it costs $5 and $6').querySelectorAll('.tex').length).toBe(0);
    expect(draw('`$x$`').querySelectorAll('.tex').length).toBe(0);
  });
  it('opens links elsewhere, with no way back', () => {
    const a = draw('[x](https://e.example/)').querySelector('a')!;
    expect(a.getAttribute('rel')).toContain('noopener');
    expect(a.target).toBe('_blank');
  });
  it('names images of outside and asks for none', () => {
    const d = draw('![a cat](https://e.example/cat.png)');
    expect(d.querySelector('img')).toBeNull();
    expect(d.textContent).toContain('a cat');
  });
  it('grows to the same blocks as when it is cut at once', () => {
    const text = 'One\n\n- a\n- b\n\n```js\nlet x = 1;\n```\n\nTwo **b**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\n> r\n\nend';
    let blocks: Block[] = [], was = '';
    for (let i = 1; i <= text.length; i++) { const now = text.slice(0, i); blocks = extend(blocks, was, now); was = now; }
    expect(blocks).toEqual(split(text));
  });
  it('keeps all of a text in its blocks', () => {
    const line = 'x'.repeat(50_000);
    const blocks = split(`a\n\n${line}\n\nb`);
    expect(blocks.filter((b) => b.kind === 'plain').map((b) => b.source).join('').trim()).toBe(line);
  });
});

describe('hostile text', () => {
  it('has at least sixty messages', () => expect(hostile.length).toBeGreaterThanOrEqual(60));
  it.each(hostile.map((h) => [h.name, h.text]))('%s', (_name, text) => {
    const at = spent();
    const box = draw(text);
    expect(spent() - at).toBeLessThan(5);
    expect(box.querySelector('script, style, iframe, object, embed, form, input, svg, math, img, video, audio, link, meta, base, template')).toBeNull();
    for (const el of box.querySelectorAll('*')) {
      for (const a of el.attributes) {
        expect(a.name.startsWith('on'), a.name).toBe(false);
        expect(['style', 'src', 'srcset', 'id', 'name', 'action', 'formaction', 'xlink:href']).not.toContain(a.name);
        if (a.name === 'href') expect(a.value).toMatch(/^(https?:|mailto:)/i);
      }
      expect(el.textContent).not.toMatch(/[\u202a-\u202e\u2066-\u2069\u001b\u0007]/);
    }
    expect((window as { __hit?: number }).__hit).toBeUndefined();
  });
  it('a megabyte in one line', () => {
    for (const c of ['x', '[', '*', '$', '`', '<', '> ', '\\', '&', '|', '😀']) {
      const at = spent();
      const b = split(tidy(c.repeat(Math.ceil(1e6 / c.length))));
      expect(b.every((x) => x.source.length <= 8000)).toBe(true);
      expect(spent() - at, c).toBeLessThan(5);
    }
  });
  it('ten thousand lines', () => {
    expect(split(Array.from({ length: 10000 }, (_, i) => `line ${i}`).join('\n')).length).toBeGreaterThan(50);
    expect(split('```\n' + 'code\n'.repeat(10000) + '```')).toHaveLength(1);
  });
  it('refuses formulas that are made to harm', () => {
    expect(harmful('\\def\\a{\\a\\a}\\a')).toBe(true);
    expect(harmful('\\newcommand{\\x}{y}')).toBe(true);
    expect(harmful('{'.repeat(60) + '}'.repeat(60))).toBe(true);
    expect(harmful('x'.repeat(5000))).toBe(true);
    expect(harmful('\\frac{a}{b} + \\sum_{i=1}^n x_i^2')).toBe(false);
    expect(harmful('\\left( \\delta \\right)')).toBe(false);
  });
});
