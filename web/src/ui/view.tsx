// The frame of a view that is not a chat: a heading, room for actions, a column that scrolls.
import type { ComponentChildren } from 'preact';
import { useEffect } from 'preact/hooks';
import { MenuButton } from './parts';

export function View({ title, lead, actions, wide, children }: {
  title: string; lead?: string | undefined; actions?: ComponentChildren; wide?: boolean; children: ComponentChildren;
}) {
  useEffect(() => { document.title = `${title} · zamba`; }, [title]);
  return (
    <div class="view">
      <header class="bar">
        <MenuButton />
        <h1>{title}</h1>
        <div class="bar-actions">{actions}</div>
      </header>
      <div class="view-scroll" tabIndex={0} role="region" aria-label={title}>
        <div class={wide ? 'view-body wide' : 'view-body'}>
          {lead && <p class="lead">{lead}</p>}
          {children}
        </div>
      </div>
    </div>
  );
}
