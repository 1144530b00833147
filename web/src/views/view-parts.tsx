// view-parts.tsx — what several views share: figures in boxes, "wait", "it did not work".
import type { ComponentChildren } from 'preact';
import { Button } from '../ui/parts';
import { plain, t } from './kit';

export function Tiles({ tiles }: { tiles: [string, ComponentChildren, string?][] }) {
  return (
    <dl class="view-tiles">
      {tiles.map(([label, value, note]) => (
        <div key={label} class="view-tile">
          <dt>{label}</dt>
          <dd>
            {value}
            {note && <span class="view-tile-note">{note}</span>}
          </dd>
        </div>
      ))}
    </dl>
  );
}

export function Waiting({ text }: { text: string }) {
  return <p class="view-waiting" role="status">{text}</p>;
}

export function Trouble({ of, retry }: { of: unknown; retry: () => void }) {
  return (
    <div class="view-trouble" role="alert">
      <p>{plain(of)}</p>
      <Button onClick={retry}>{t('again')}</Button>
    </div>
  );
}
