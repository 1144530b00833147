// Settings of the page in this browser, and presets.
import { language, languages, setLanguage, t } from '../i18n';
import { api, key, setKey } from '../lib/api';
import { theme, type Theme } from '../lib/theme';
import { attempt, boot, drawMath, enterSends, presets } from '../store/store';
import { Button, Field, IconButton } from '../ui/parts';
import { View } from '../ui/view';

export default function SettingsView() {
  const b = boot.value;
  return (
    <View title={t('app.settings')}>
      <section class="card">
        <h2>{t('app.theme')}</h2>
        <div class="tabs" role="group" aria-label={t('app.theme')}>
          {(['auto', 'light', 'dark'] as Theme[]).map((x) => <Button key={x} pressed={theme.value === x} onClick={() => { theme.value = x; }}>{t(`app.theme.${x}`)}</Button>)}
        </div>
      </section>
      <section class="card">
        <Field label={t('app.language')}>{(id) => <select id={id} class="select" value={language.value} onChange={(e) => void setLanguage(e.currentTarget.value)}>
          {languages.map((l) => <option key={l.id} value={l.id} lang={l.id}>{l.name}</option>)}</select>}</Field>
        <label class="check"><input type="checkbox" checked={enterSends.value} onChange={(e) => { enterSends.value = e.currentTarget.checked; }} />{t('app.send')}</label>
        <label class="check"><input type="checkbox" checked={drawMath.value} onChange={(e) => { drawMath.value = e.currentTarget.checked; }} />{t('app.math')}</label>
      </section>
      <section class="card">
        <h2>{t('app.presets')}</h2>
        {!presets.value.length && <p class="muted">{t('app.presets.none')}</p>}
        <ul class="plain-list">{presets.value.map((p) => (
          <li key={p.id} class="row"><span class="grow"><b dir="auto">{p.name}</b> <span class="muted small" dir="auto">{p.system.slice(0, 80)}</span></span>
            <IconButton icon="trash" label={`${t('preset.delete')}: ${p.name}`} onClick={() => void attempt(() => api.deletePreset(p.id)).then((r) => { if (r) presets.value = presets.value.filter((x) => x.id !== p.id); })} /></li>))}</ul>
      </section>
      {key.value && <section class="card"><h2>{t('app.key')}</h2><Button icon="key" onClick={() => { setKey(''); location.reload(); }}>{t('app.key.forget')}</Button></section>}
      <p class="muted small">{b ? t('app.version', { v: b.version }) : ''}{b?.history?.folder ? ` · ${t('history.kept', { folder: b.history.folder })}` : ''} · <a href="/history">{t('nav.history')}</a></p>
    </View>
  );
}
