// What is wrong beyond one message: no server, another version, no key, a history that is not kept. With the way out.
import { signal } from '@preact/signals';
import { t } from '../i18n';
import { key, setKey, wantsKey } from '../lib/api';
import { boot, leaving, link, otherVersion, wake } from '../store/store';
import { Button, Field, IconButton } from '../ui/parts';
import { Icon } from '../ui/icon';

const hidden = signal<string[]>([]);

function KeyForm() {
  const tried = !!key.value;
  return (
    <form class="key-form card" onSubmit={(e) => {
      e.preventDefault();
      setKey(new FormData(e.currentTarget as HTMLFormElement).get('key') as string);
      wake();
    }}>
      <h2><Icon name="key" /> {t('net.key')}</h2>
      <p class="muted">{t('net.key.text')}</p>
      {tried && <p class="msg-note bad" role="alert"><Icon name="warn" size={16} /> {t('net.key.wrong')}</p>}
      <Field label={t('net.key.label')}>{(id) => <input id={id} name="key" class="input" type="password" autocomplete="current-password" autofocus required />}</Field>
      <Button type="submit" kind="primary">{t('net.key.use')}</Button>
    </form>
  );
}

function Hideable({ id, text, link }: { id: string; text: string; link?: string | null | undefined }) {
  if (hidden.value.includes(id)) return null;
  return <div class="banner" role="status"><Icon name="warn" /><span class="grow">{text}{link && /^https?:/.test(link) && <> <a href={link}>{t('hist.other', { url: link })}</a></>}</span><IconButton icon="close" label={t('hist.hide')} onClick={() => { hidden.value = [...hidden.value, id]; }} /></div>;
}

export function Banners() {
  const b = boot.value;
  return (
    <>
      {link.value === 'lost' && <div class="banner bad" role="alert"><Icon name="warn" /><span class="grow">{t('net.lost')}</span><Button onClick={wake}>{t('net.now')}</Button></div>}
      {link.value === 'on' && leaving.value && <div class="banner" role="status"><Icon name="warn" /><span class="grow">{t('net.leaving')}</span></div>}
      {otherVersion.value && <div class="banner" role="status"><Icon name="warn" /><span class="grow">{t('net.version')}</span><Button onClick={() => location.reload()}>{t('reload')}</Button></div>}
      {b?.history && !wantsKey.value && <>
        {b.history.moved_aside && <Hideable id="moved" text={t('hist.moved', { name: b.history.moved_aside })} />}
        {b.history.state === 'off' && <Hideable id="off" text={b.history.message ? `${t('hist.off')} ${b.history.message}` : t('hist.off')} link={b.history.other} />}
        {b.history.state === 'on' && !b.history.moved_aside && b.history.message && <Hideable id="news" text={b.history.message} />}
        {b.history.state === 'read_only' && <Hideable id="read_only" text={b.history.message ?? t('hist.read_only')} />}
      </>}
      {wantsKey.value && <KeyForm />}
    </>
  );
}
