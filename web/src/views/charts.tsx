// charts.tsx — the pictures that evaluations left in the run folders: needle maps, size against quality. They are SVG
// files of the server, shown as images, in which nothing can run; what they say about themselves is their description.
import { useEffect, useState } from 'preact/hooks';
import type { Artifact } from './contract';
import { bytes, date } from './figures';
import { get, getText, t } from './kit';
import { Trouble, Waiting } from './view-parts';
import { View } from '../ui/view';
import './views.css';

interface Picture {
  url: string;
  title: string;
  words: string[];
}

const plainText = (markup: string): string =>
  markup.replace(/<[^>]*>/g, '').replace(/&(lt|gt|quot|apos|amp|#(\d{1,6}));/g, (_, name: string, code?: string) =>
    code ? String.fromCodePoint(Math.min(Number(code), 0x10ffff)) : { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' }[name]!).trim();

/** An SVG file as an image: its title, and all texts in it for those who do not see it. (Read as text: a parser would hold
 *  the file's own styles against the page's policy.) */
async function picture(a: Artifact, signal: AbortSignal): Promise<Picture> {
  const text = await getText(`/page/v1/artifacts/${encodeURIComponent(a.id)}`, signal);
  const all = (tag: string): string[] => [...text.matchAll(new RegExp(`<${tag}\\b[^>]*>([\\s\\S]*?)</${tag}>`, 'g'))].slice(0, 600).map((m) => plainText(m[1]!));
  const title = all('title')[0] || a.name;
  const words = all('text').filter((w) => w !== '');
  return { url: URL.createObjectURL(new Blob([text], { type: 'image/svg+xml' })), title, words };
}

function Shown({ artifact: a }: { artifact: Artifact }) {
  const [shown, setShown] = useState<Picture | null>(null);
  const [trouble, setTrouble] = useState<unknown>(null);
  useEffect(() => {
    const stop = new AbortController();
    let url = '';
    picture(a, stop.signal).then(
      (p) => {
        url = p.url;
        if (stop.signal.aborted) URL.revokeObjectURL(url);
        else setShown(p);
      },
      (e: unknown) => !stop.signal.aborted && setTrouble(e),
    );
    return () => {
      stop.abort();
      if (url) URL.revokeObjectURL(url);
    };
  }, [a.id, a.updated]);
  return (
    <figure class="view-card view-artifact">
      <figcaption>
        <span class="view-chart-title">{shown?.title ?? a.name}</span>
        <span class="view-note">{a.run ? `${a.run} · ` : ''}{a.name} · {bytes(a.bytes)} · {date(a.updated)}</span>
      </figcaption>
      {trouble !== null && <Trouble of={trouble} retry={() => setTrouble(null)} />}
      {shown && <img src={shown.url} alt={shown.title} />}
      {shown && shown.words.length > 0 && (
        <details class="view-details">
          <summary>{t('charts.words')}</summary>
          <p class="view-words">{shown.words.join(' · ')}</p>
        </details>
      )}
    </figure>
  );
}

const KINDS = ['needle', 'quality', 'other'] as const;

export default function ChartsView() {
  const [all, setAll] = useState<Artifact[] | null>(null);
  const [trouble, setTrouble] = useState<unknown>(null);
  const [again, setAgain] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    setTrouble(null);
    get<{ artifacts: Artifact[] }>('/page/v1/artifacts', stop.signal)
      .then((r) => setAll(r.artifacts), (e: unknown) => !stop.signal.aborted && setTrouble(e));
    return () => stop.abort();
  }, [again]);
  return (
    <View title={t('charts.title')} lead={t('charts.note')} wide>
      {trouble !== null && <Trouble of={trouble} retry={() => setAgain(again + 1)} />}
      {!all && trouble === null && <Waiting text={t('view.waiting')} />}
      {all && all.length === 0 && (
        <div class="view-card view-nothing">
          <p>{t('charts.none')}</p>
          <pre tabIndex={0}><code>zamba eval needle … --haystack book.txt --svg runs/needle.svg{'\n'}zamba quantize --report … -f text.txt -o runs/quality.svg{'\n'}zamba serve … --runs runs</code></pre>
        </div>
      )}
      {all && KINDS.map((kind) => {
        const these = all.filter((a) => a.kind === kind);
        return these.length === 0 ? null : (
          <section key={kind}>
            <h2>{t(`charts.${kind}`)}</h2>
            <div class="view-artifacts">{these.map((a) => <Shown key={a.id} artifact={a} />)}</div>
          </section>
        );
      })}
    </View>
  );
}
