// Which model answers, and how far its loading is.
import { t } from '../i18n';
import { api, type Model } from '../lib/api';
import { bytes, seconds } from '../lib/format';
import { go } from '../lib/router';
import { attempt, boot, models } from '../store/store';
import { Menu, Progress, type Item } from '../ui/parts';
import { Icon } from '../ui/icon';

export function loadProgress(m: Model): number | null {
  return m.phase === 'loading' && m.expected_s && m.elapsed_s != null ? Math.min(0.98, m.elapsed_s / m.expected_s) : null;
}

/** Shown as loading from the click on; how it goes is told by the feed. */
async function load(m: Model): Promise<void> {
  const put = (to: Model) => { models.value = models.value.map((x) => (x.name === m.name ? to : x)); };
  const shown: Model = { ...m, phase: 'loading', elapsed_s: 0, error: null };
  put(shown);
  const got = await attempt(() => api.loadModel(m.name));
  if (models.value.includes(shown) && got?.phase !== 'loading') put(got ?? m);
}

export function ModelPicker({ value, onChange }: { value: string | null; onChange: (name: string) => void }) {
  const name = value ?? boot.value?.model ?? '';
  const m = models.value.find((x) => x.name === name);
  const items: Item[] = [
    ...models.value.map((x): Item => ({
      label: `${x.name}${x.template !== false ? '' : ` · ${t('model.notemplate')}`} · ${x.phase === 'ready' ? t('model.ready') : x.phase === 'loading' ? t('model.loading') : bytes(x.bytes)}`,
      icon: x.name === name ? 'check' : 'cpu',
      run: () => { onChange(x.name); if (x.phase === 'absent') void load(x); },
    })),
    null,
    { label: t('model.inside'), icon: 'layers', run: () => go(`/model/${name}`) },
    ...(m?.phase === 'ready' && models.value.length > 1 ? [{ label: t('model.unload'), icon: 'close' as const, run: () => { void attempt(() => api.unloadModel(name)); } }] : []),
  ];
  return (
    <div class="model-picker">
      <Menu label={t('model.switch', { name: name || t('model.none') })} items={items}>
        <span class="model-name">{name || t('model.none')}</span><Icon name="down" size={16} />
      </Menu>
      {m?.phase === 'loading' && <div class="model-progress"><Progress value={loadProgress(m)} label={t('model.progress', { name: m.name, s: seconds(m.elapsed_s) })} /></div>}
    </div>
  );
}
