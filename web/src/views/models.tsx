// models.tsx — the models this server knows: what they take, whether they are in memory, and how far a load is.
import { useEffect, useState } from 'preact/hooks';
import { api, type Model } from '../lib/api';
import { notice } from '../lib/say';
import { Button, Progress } from '../ui/parts';
import { View } from '../ui/view';
import { bytes, count, percent, whole } from './figures';
import { plain, t } from './kit';
import { Trouble, Waiting } from './view-parts';
import './views.css';

type Reply = Awaited<ReturnType<typeof api.models>>;

function Card({ model: m, act }: { model: Model; act: (what: 'load' | 'unload') => void }) {
  const share = m.phase === 'loading' && m.elapsed_s !== null && m.expected_s ? Math.min(0.98, m.elapsed_s / m.expected_s) : null;
  const facts = [m.family, m.dtype, m.n_params ? t('inside.params', { n: count(m.n_params) }) : null, bytes(m.bytes),
    m.n_ctx ? t('inside.context_of', { n: whole(m.n_ctx) }) : null, m.memory ? t('inside.in_memory', { bytes: bytes(m.memory) }) : null];
  return (
    <li class="card model-card">
      <div class="grow">
        <h2>{m.name} <span class={`view-badge ${m.phase === 'ready' ? 'live' : m.phase}`}>{t(`model.${m.phase}`)}</span></h2>
        <p class="view-note">{facts.filter(Boolean).join(' · ')}</p>
        {m.phase === 'loading' && <Progress value={share} label={t('model.progress', { name: m.name, s: share === null ? '…' : percent(share) })} />}
        {m.error && <p class="view-bad">{m.error}</p>}
      </div>
      <div class="row">
        <a class="button" href={`/model/${encodeURIComponent(m.name)}`} aria-label={`${t('model.inside')}: ${m.name}`}>{t('model.inside')}</a>
        {m.phase === 'absent' && <Button onClick={() => act('load')}>{t('model.load')}</Button>}
        {m.phase === 'ready' && <Button onClick={() => act('unload')}>{t('model.unload')}</Button>}
      </div>
    </li>
  );
}

export default function ModelsView(_: { params: Record<string, string> }) {
  const [reply, setReply] = useState<Reply | null>(null);
  const [trouble, setTrouble] = useState<unknown>(null);
  const [again, setAgain] = useState(0);
  useEffect(() => {
    let timer = 0;
    let stopped = false;
    const look = async () => {
      let wait = 5000;
      if (!document.hidden) {
        try {
          const r = await api.models();
          if (stopped) return;
          setReply(r);
          setTrouble(null);
          if (r.models.some((m) => m.phase === 'loading' || m.phase === 'unloading')) wait = 500;
        } catch (e) {
          if (!stopped) setTrouble(e);
        }
      }
      if (!stopped) timer = window.setTimeout(() => void look(), wait);
    };
    void look();
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, [again]);
  const act = (name: string) => (what: 'load' | 'unload') =>
    void (what === 'load' ? api.loadModel(name) : api.unloadModel(name)).catch((e: unknown) => notice(plain(e), 'error')).then(() => setAgain((n) => n + 1));
  return (
    <View title={t('nav.models')} wide lead={reply ? t(reply.memory.most ? 'inside.taken_of' : 'inside.taken', { taken: bytes(reply.memory.taken), most: bytes(reply.memory.most) }) : undefined}>
      {trouble !== null && <Trouble of={trouble} retry={() => setAgain(again + 1)} />}
      {!reply && trouble === null && <Waiting text={t('view.waiting')} />}
      <ul class="view-list">{reply?.models.map((m) => <Card key={m.name} model={m} act={act(m.name)} />)}</ul>
    </View>
  );
}
