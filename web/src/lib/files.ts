// Files in and out: text that is dropped into a message, and replies that become downloads.
import { t } from '../i18n';
import { bytes } from './format';
import { notice } from './say';

export type Attached = { name: string; text: string };
const most = 2 * 1024 * 1024;

/** Text files of a drop or a choice; what is none is named and left out. */
export async function readTexts(files: Iterable<File>): Promise<Attached[]> {
  const out: Attached[] = [];
  for (const f of files) {
    if (f.size > most) { notice(t('compose.toolarge', { name: f.name, size: bytes(most) }), 'error'); continue; }
    try {
      const text = new TextDecoder('utf-8', { fatal: true }).decode(await f.arrayBuffer());
      if (text.includes('\0')) throw new Error('binary');
      out.push({ name: f.name, text: text.replace(/^\ufeff/, '').replace(/\r\n?/g, '\n') });
    } catch { notice(t('compose.notext', { name: f.name }), 'error'); }
  }
  return out;
}

/** A message with its files as fenced code; the fence is longer than any in the text. */
export function withFiles(text: string, files: Attached[]): string {
  const parts = files.map((f) => {
    const longest = Math.max(2, ...(f.text.match(/`{3,}/g) ?? []).map((s) => s.length));
    const fence = '`'.repeat(longest + 1);
    const ext = f.name.match(/\.(\w{1,12})$/)?.[1] ?? '';
    return `${f.name}:\n${fence}${ext}\n${f.text.replace(/\n$/, '')}\n${fence}`;
  });
  return [text.trim(), ...parts].filter(Boolean).join('\n\n');
}

export async function saveFile(r: Response, name: string): Promise<void> {
  const said = r.headers.get('Content-Disposition')?.match(/filename="([^"]+)"/)?.[1];
  const url = URL.createObjectURL(await r.blob());
  const a = document.createElement('a');
  a.href = url;
  a.download = said ?? name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 30000);
}

export function chooseFiles(accept: string, many = true): Promise<File[]> {
  return new Promise((done) => {
    const i = document.createElement('input');
    i.type = 'file';
    i.accept = accept;
    i.multiple = many;
    i.onchange = () => done([...(i.files ?? [])]);
    i.oncancel = () => done([]);
    i.click();
  });
}

export async function copyText(s: string): Promise<void> {
  try { await navigator.clipboard.writeText(s); } catch {
    // no clipboard without https: the old way
    const a = document.createElement('textarea');
    a.value = s;
    a.className = 'sr';
    document.body.append(a);
    a.select();
    document.execCommand('copy');
    a.remove();
  }
}
