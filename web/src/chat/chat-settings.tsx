// Settings of one chat: system prompt, sampling, stop strings, presets. Kept as they are changed.
import { useState } from 'preact/hooks';
import { t } from '../i18n';
import { api, type Chat, type Settings } from '../lib/api';
import { notice } from '../lib/say';
import { attempt, presets } from '../store/store';
import { ask, Button, Dialog, Field } from '../ui/parts';
import { Sampling } from './sampling';

type Some = Pick<Chat, 'system' | 'settings'>;

/** What differs, with null for what was taken away: PATCH lays settings over those that are there. */
function changes(before: Settings, after: Settings): Settings {
  const out: Settings = { ...after };
  for (const k of Object.keys(before)) if (!(k in after)) out[k] = null;
  return out;
}

export function ChatSettings({ value, onSave, onClose }: { value: Some; onSave: (o: Some) => Promise<boolean>; onClose: () => void }) {
  const [system, setSystem] = useState(value.system);
  const [settings, setSettings] = useState<Settings>(() => Object.fromEntries(Object.entries(value.settings).filter(([, v]) => v != null)));
  const [preset, setPreset] = useState('');
  const current = presets.value.find((p) => p.id === preset);
  const save = async () => { if (await onSave({ system, settings: changes(value.settings, settings) })) onClose(); };
  const keep = async () => {
    const name = await ask({ title: t('preset.name'), yes: t('save'), value: current?.name ?? '' });
    if (!name) return;
    const same = presets.value.find((p) => p.name === name);
    const p = await attempt(() => same ? api.patchPreset(same.id, { revision: same.revision, system, settings: changes(same.settings, settings) }) : api.makePreset({ name, system, settings }));
    if (!p) return;
    presets.value = [...presets.value.filter((x) => x.id !== p.id), p];
    setPreset(p.id);
    notice(t('preset.saved'));
  };
  return (
    <Dialog title={t('set.title')} onClose={onClose} wide>
      <form onSubmit={(e) => { e.preventDefault(); void save(); }}>
        <div class="row preset-row">
          <select class="select grow" aria-label={t('preset')} value={preset} onChange={(e) => {
            const p = presets.value.find((x) => x.id === e.currentTarget.value);
            setPreset(p?.id ?? '');
            if (p) { setSystem(p.system); setSettings({ ...p.settings }); }
          }}>
            <option value="">{t('preset.choose')}</option>
            {presets.value.map((p) => <option key={p.id} value={p.id}>{p.name}</option>)}
          </select>
          <Button onClick={() => void keep()}>{t('preset.save')}</Button>
          {current && <Button kind="quiet" icon="trash" onClick={() => void attempt(() => api.deletePreset(current.id)).then((r) => { if (r) { presets.value = presets.value.filter((p) => p.id !== current.id); setPreset(''); } })}>{t('preset.delete')}</Button>}
        </div>
        <Field label={t('set.system')} hint={t('set.system.hint')}>{(id) => <textarea id={id} class="area" dir="auto" value={system} onInput={(e) => setSystem(e.currentTarget.value)} />}</Field>
        <h3>{t('set.sampling')}</h3>
        <Sampling value={settings} onChange={setSettings} />
        <div class="dialog-actions"><Button kind="quiet" onClick={() => { setSettings({}); }}>{t('set.reset')}</Button><span class="grow" /><Button onClick={onClose}>{t('cancel')}</Button><Button type="submit" kind="primary">{t('save')}</Button></div>
      </form>
    </Dialog>
  );
}
