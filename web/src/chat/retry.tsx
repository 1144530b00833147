// A second answer to the same message with other settings: both are written at once and shown side by side.
import { signal } from '@preact/signals';
import { useState } from 'preact/hooks';
import { t } from '../i18n';
import type { Settings } from '../lib/api';
import { go } from '../lib/router';
import { answer } from '../store/actions';
import { models } from '../store/store';
import type { Tree } from '../store/tree';
import { Button, Dialog, Field } from '../ui/parts';
import { Sampling } from './sampling';

export const retrying = signal<{ tr: Tree; id: string } | null>(null);

export function Retry() {
  const r = retrying.value;
  const [s, setS] = useState<Settings>({});
  const [model, setModel] = useState('');
  const [busy, setBusy] = useState(false);
  if (!r) return null;
  const { tr, id } = r;
  const n = tr.get(id);
  if (!n) return null;
  const end = () => { retrying.value = null; setS({}); setModel(''); };
  return (
    <Dialog title={t('retry.title')} onClose={end} wide>
      <p class="muted">{t('retry.text')}</p>
      <form onSubmit={async (e) => {
        e.preventDefault();
        setBusy(true);
        const other = await answer(tr, n.parent, s, model || n.model, false);
        setBusy(false);
        if (!other) return;
        end();
        go(`/compare/${tr.chat.value.id}?left=${id}&right=${other}`);
      }}>
        {models.value.length > 1 && <Field label={t('retry.model')}>{(fid) => <select id={fid} class="select" value={model || (n.model ?? '')} onChange={(e) => setModel(e.currentTarget.value)}>
          {models.value.map((m) => <option key={m.name} value={m.name}>{m.name}</option>)}</select>}</Field>}
        <Sampling value={s} below={{ ...tr.chat.value.settings, ...(n.settings ?? {}) }} onChange={setS} />
        <div class="dialog-actions"><Button onClick={end}>{t('cancel')}</Button><Button type="submit" kind="primary" disabled={busy}>{t('retry.go')}</Button></div>
      </form>
    </Dialog>
  );
}
