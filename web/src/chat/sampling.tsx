// Fields for how tokens are chosen. What is left empty is what lies below: the chat's, or the server's defaults.
import { t, type Key } from '../i18n';
import type { Settings } from '../lib/api';
import { boot } from '../store/store';
import { Field } from '../ui/parts';

const fields: { name: keyof Settings & string; min: number; max: number; step: number }[] = [
  { name: 'temperature', min: 0, max: 2, step: 0.05 }, { name: 'top_p', min: 0, max: 1, step: 0.01 }, { name: 'top_k', min: 0, max: 1000, step: 1 },
  { name: 'min_p', min: 0, max: 1, step: 0.01 }, { name: 'typical_p', min: 0, max: 1, step: 0.01 }, { name: 'repeat_penalty', min: 0.1, max: 3, step: 0.01 },
  { name: 'repeat_last_n', min: -1, max: 4096, step: 1 }, { name: 'presence_penalty', min: -2, max: 2, step: 0.05 },
  { name: 'frequency_penalty', min: -2, max: 2, step: 0.05 }, { name: 'max_tokens', min: 1, max: 1000000, step: 1 }, { name: 'seed', min: 0, max: 9007199254740991, step: 1 },
];

export function Sampling({ value, below, onChange }: { value: Settings; below?: Settings; onChange: (s: Settings) => void }) {
  const base = { ...boot.value?.defaults, ...below };
  const put = (name: string, x: unknown) => {
    const next = { ...value };
    if (x === null) delete next[name]; else next[name] = x;
    onChange(next);
  };
  return (
    <>
      <div class="fields">
        {fields.map((f) => {
          const d = base[f.name];
          return (
            <Field key={f.name} label={t(`set.${f.name}` as Key)} hint={f.name === 'temperature' ? t('set.temperature.hint') : undefined}>
              {(id) => <input id={id} class="input" type="number" inputMode="decimal" min={f.min} max={f.max} step={f.step === 1 ? 1 : 'any'}
                placeholder={d == null ? '' : t('set.default', { x: String(d) })} value={value[f.name] == null ? '' : String(value[f.name])}
                onChange={(e) => {
                  const x = e.currentTarget.valueAsNumber;
                  put(f.name, Number.isFinite(x) ? Math.min(f.max, Math.max(f.min, f.step === 1 ? Math.round(x) : x)) : null);
                }} />}
            </Field>
          );
        })}
      </div>
      <Field label={t('set.stop')} hint={t('set.stop.hint')}>
        {(id) => <textarea id={id} class="area short" dir="auto" value={(value.stop ?? []).join('\n')} placeholder={(base.stop as string[] | null | undefined)?.join('\n') ?? ''}
          onChange={(e) => { const l = e.currentTarget.value.split('\n').filter(Boolean).slice(0, 16); put('stop', l.length ? l : null); }} />}
      </Field>
      <label class="check"><input type="checkbox" checked={!!(value.logprobs ?? base.logprobs)} onChange={(e) => { const on = e.currentTarget.checked; const { top_logprobs: _, ...rest } = value; onChange({ ...rest, logprobs: on, ...(on ? { top_logprobs: 8 } : {}) }); }} />{t('set.logprobs')}</label>
    </>
  );
}
