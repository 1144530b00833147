// Where a message is typed. What is typed is kept in this browser until the server has it.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { t } from '../i18n';
import { bytes } from '../lib/format';
import { chooseFiles, readTexts, withFiles, type Attached } from '../lib/files';
import { recall, remember } from '../lib/keep';
import { enterSends } from '../store/store';
import { Icon } from '../ui/icon';
import { IconButton } from '../ui/parts';

type Draft = { text: string; files: Attached[] };
function readDraft(key: string): Draft {
  try { const d = JSON.parse(recall('draft.' + key) ?? ''); if (typeof d.text === 'string') return { text: d.text, files: Array.isArray(d.files) ? d.files : [] }; } catch { /* none */ }
  return { text: '', files: [] };
}

export function Composer({ draftKey, busy, onSend, onStop, extra }: {
  draftKey: string; busy: boolean; onSend: (text: string) => Promise<boolean>; onStop: () => void; extra?: ComponentChildren;
}) {
  const area = useRef<HTMLTextAreaElement>(null);
  const first = readDraft(draftKey);
  const [text, setText] = useState(first.text);
  const [files, setFiles] = useState<Attached[]>(first.files);
  const [sending, setSending] = useState(false);
  const [over, setOver] = useState(false);
  const size = () => {
    const a = area.current;
    if (!a) return;
    a.style.height = 'auto';
    a.style.height = `${Math.min(a.scrollHeight, Math.max(120, innerHeight * 0.4))}px`;
  };
  const keep = (d: Draft) => remember('draft.' + draftKey, d.text || d.files.length ? JSON.stringify(d) : null);
  const put = (d: Draft) => { setText(d.text); setFiles(d.files); keep(d); };
  useLayoutEffect(size, [text]);
  useEffect(() => { const d = readDraft(draftKey); setText(d.text); setFiles(d.files); if (matchMedia('(pointer: fine)').matches) area.current?.focus({ preventScroll: true }); }, [draftKey]);
  const add = async (list: Iterable<File>) => {
    const more = await readTexts(list);
    if (more.length) put({ text: area.current?.value ?? text, files: [...files, ...more].slice(0, 20) });
    area.current?.focus();
  };
  const send = async () => {
    const all = withFiles(text, files);
    if (!all || sending || busy) return;
    setSending(true);
    const ok = await onSend(all);
    setSending(false);
    // only what was sent is let go of; what was typed meanwhile stays
    if (ok) { remember('draft.' + draftKey, null); setText((now) => (now === text ? '' : now)); setFiles([]); }
  };
  useEffect(() => {
    const drag = (e: DragEvent) => { if (e.dataTransfer?.types.includes('Files')) { e.preventDefault(); setOver(true); } };
    const leave = (e: DragEvent) => { if (!e.relatedTarget) setOver(false); };
    const dropped = (e: DragEvent) => { setOver(false); if (e.dataTransfer?.files.length) { e.preventDefault(); void add([...e.dataTransfer.files]); } };
    addEventListener('dragover', drag);
    addEventListener('dragleave', leave);
    addEventListener('drop', dropped);
    return () => { removeEventListener('dragover', drag); removeEventListener('dragleave', leave); removeEventListener('drop', dropped); };
  });
  return (
    <form class={over ? 'composer over' : 'composer'} onSubmit={(e) => { e.preventDefault(); void send(); }}>
      {over && <div class="drop-hint">{t('compose.drop')}</div>}
      {files.length > 0 && (
        <ul class="attached">
          {files.map((f, i) => (
            <li key={i}><Icon name="file" size={16} /><span>{f.name}</span><small>{bytes(f.text.length)}</small>
              <IconButton icon="close" size={14} label={t('compose.remove', { name: f.name })} onClick={() => put({ text, files: files.filter((_, k) => k !== i) })} /></li>
          ))}
        </ul>
      )}
      <textarea ref={area} id="composer" rows={1} dir="auto" value={text} aria-label={t('compose.label')} placeholder={t('compose.placeholder')} enterkeyhint={enterSends.value ? 'send' : 'enter'}
        onInput={(e) => put({ text: e.currentTarget.value, files })}
        onPaste={(e) => { const l = [...(e.clipboardData?.files ?? [])]; if (l.length) { e.preventDefault(); void add(l); } }}
        onKeyDown={(e) => {
          if (e.key !== 'Enter' || e.isComposing) return;
          const mod = e.ctrlKey || e.metaKey;
          if (mod || (enterSends.value && !e.shiftKey)) { e.preventDefault(); void send(); }
        }} />
      <div class="composer-foot">
        <IconButton icon="clip" label={t('compose.attach')} onClick={() => void chooseFiles('').then(add)} />
        {extra}
        <span class="grow" />
        {busy ? <button type="button" class="send" aria-label={t('compose.stop')} title={t('compose.stop')} onClick={onStop}><Icon name="stop" /></button>
          : <button type="submit" class="send" aria-label={t('compose.send')} title={`${t('compose.send')} · ${t('compose.hint')}`} disabled={sending || !(text.trim() || files.length)}><Icon name="send" /></button>}
      </div>
    </form>
  );
}
