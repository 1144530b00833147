// The text of a message, block by block. Only blocks that changed are drawn anew, so an answer that grows costs what its end costs.
import { memo } from 'preact/compat';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import { t } from '../i18n';
import { copyText } from '../lib/files';
import { drawMath as mathOn } from '../store/store';
import { IconButton } from '../ui/parts';
import type { Block } from './markdown';

type Markdown = typeof import('./markdown');
type Highlight = typeof import('./highlight');
const markdown = signal<Markdown | null>(null);
const highlighter = signal<Highlight | null>(null);
let asked = false;
export function loadMarkdown(): void {
  if (markdown.value || asked) return;
  asked = true;
  import('./markdown').then((m) => { markdown.value = m; }).catch(() => { asked = false; });
}
let askedCode = false;
function loadHighlight(): void {
  if (askedCode) return;
  askedCode = true;
  import('./highlight').then((m) => { highlighter.value = m; }).catch(() => { askedCode = false; });
}

const Html = memo(function Html({ source, m }: { source: string; m: Markdown }) {
  const ref = useRef<HTMLDivElement>(null);
  const math = mathOn.value;
  useLayoutEffect(() => {
    const part = m.render(source);
    ref.current!.replaceChildren(part);
    if (math && ref.current!.querySelector('.tex')) {
      const el = ref.current!;
      void import('./math').then((x) => { if (el.isConnected) return x.drawMath(el); return undefined; });
    }
  }, [source, m, math]);
  return <div class="block" ref={ref} />;
});

const Code = memo(function Code({ source, lang, closed }: { source: string; lang: string; closed: boolean }) {
  const [done, setDone] = useState(false);
  const [wrap, setWrap] = useState(false);
  const ref = useRef<HTMLElement>(null);
  const h = highlighter.value;
  useEffect(loadHighlight, []);
  useLayoutEffect(() => {
    const html = h && lang && (closed || source.length < 4000) ? h.highlight(source, lang.toLowerCase()) : null;
    const el = ref.current!;
    if (html !== null) el.innerHTML = html; // escaped by highlight.js: only its own spans are markup
    else if (el.firstChild?.nodeType === 3 && el.childNodes.length === 1 && source.startsWith((el.firstChild as Text).data))
      (el.firstChild as Text).appendData(source.slice((el.firstChild as Text).data.length));
    else el.textContent = source;
  }, [source, lang, closed, h]);
  return (
    <div class="code" dir="ltr">
      <div class="code-head">
        <span>{lang.slice(0, 30)}</span>
        <button type="button" class="code-button" aria-pressed={wrap} onClick={() => setWrap(!wrap)}>{t('code.wrap')}</button>
        <IconButton icon={done ? 'check' : 'copy'} label={done ? t('copied') : t('code.copy')} size={17}
          onClick={() => void copyText(source).then(() => { setDone(true); setTimeout(() => setDone(false), 1500); })} />
      </div>
      <pre class={wrap ? 'wrap' : ''} tabIndex={0} role="group" aria-label={lang || 'code'}><code ref={ref} /></pre>
    </div>
  );
});

const Plain = memo(function Plain({ source }: { source: string }) { return <div class="block plain" dir="auto">{source}</div>; });

export const Text = memo(function Text({ text, live, raw }: { text: string; live?: boolean; raw?: boolean }) {
  const m = markdown.value;
  const last = useRef<{ text: string; blocks: Block[]; m: Markdown } | null>(null);
  useEffect(loadMarkdown, []);
  const [all, setAll] = useState(false);
  const blocks = useMemo(() => {
    if (!m) return null;
    const clean = m.tidy(text);
    const was = last.current;
    // while it grows only its end is looked at; when it has ended, all of it once more
    const b = live && was ? m.extend(was.blocks, was.text, clean) : m.split(clean);
    last.current = { text: clean, blocks: b, m };
    return b;
  }, [text, live, m]);
  if (!blocks || raw) return <div class="md"><div class="block plain" dir="auto">{text.length > 200000 ? text.slice(0, 200000) + '…' : text}</div></div>;
  // hundreds of blocks: those out of sight are not laid out
  const many = blocks.length > 30;
  const most = 60;
  const shown = many && !live && !all && text.length > 400000 ? blocks.slice(0, most) : blocks;
  return (
    <div class={many ? 'md many' : 'md'}>
      {shown.map((b) => b.kind === 'code' ? <Code key={b.from} source={b.source} lang={b.lang} closed={b.closed} />
        : b.kind === 'plain' ? <Plain key={b.from} source={b.source} /> : <Html key={b.from} source={b.source} m={m!} />)}
      {shown.length < blocks.length && <button type="button" class="button" onClick={() => setAll(true)}>{t('msg.long', { n: text.split('\n').length })}</button>}
    </div>
  );
});
