// The pieces views are made of: buttons, menus, dialogs, fields, the place of notices.
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import { t } from '../i18n';
import { drop, notices, spoken } from '../lib/say';
import { Icon, type IconName } from './icon';

export const drawer = signal(false);

export function MenuButton() {
  return <IconButton icon="menu" label={t('nav.open')} class="menu-button" onClick={() => { drawer.value = !drawer.value; }} />;
}

type ButtonProps = { onClick?: (e: MouseEvent) => void; disabled?: boolean | undefined; class?: string; pressed?: boolean; id?: string };

export function IconButton({ icon, label, onClick, disabled, class: c, pressed, id, size }: ButtonProps & { icon: IconName; label: string; size?: number }) {
  return (
    <button type="button" class={'icon-button ' + (c ?? '')} title={label} aria-label={label} disabled={disabled} id={id}
      aria-pressed={pressed} onClick={onClick}><Icon name={icon} size={size ?? 20} /></button>
  );
}

export function Button({ children, onClick, disabled, kind, icon, class: c, type, pressed, autofocus }: ButtonProps & {
  children: ComponentChildren; kind?: 'primary' | 'danger' | 'quiet'; icon?: IconName; type?: 'submit' | 'button'; autofocus?: boolean;
}) {
  return (
    <button type={type ?? 'button'} class={`button ${kind ?? ''} ${c ?? ''}`} disabled={disabled} onClick={onClick} aria-pressed={pressed} autofocus={autofocus}>
      {icon && <Icon name={icon} size={18} />}<span>{children}</span>
    </button>
  );
}

/** A modal dialog; the element itself holds the focus and answers Esc. */
export function Dialog({ title, onClose, children, wide }: { title: string; onClose: () => void; children: ComponentChildren; wide?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const d = ref.current!;
    const before = document.activeElement as HTMLElement | null;
    d.showModal?.();
    return () => { d.close?.(); before?.focus?.(); };
  }, []);
  return (
    <dialog ref={ref} class={wide ? 'dialog wide' : 'dialog'} aria-labelledby={id} onCancel={(e) => { e.preventDefault(); onClose(); }}
      onClick={(e) => { if (e.target === ref.current) onClose(); }}>
      <div class="dialog-head"><h2 id={id}>{title}</h2><IconButton icon="close" label={t('close')} onClick={onClose} /></div>
      <div class="dialog-body">{children}</div>
    </dialog>
  );
}

export type Item = { label: string; icon?: IconName; run: () => void; danger?: boolean; disabled?: boolean } | null;

/** A button with a menu: arrows, Home, End, Esc; closes when the focus leaves it. */
export function Menu({ label, icon, items, class: c, children, up }: {
  label: string; icon?: IconName; items: Item[]; class?: string; children?: ComponentChildren; up?: boolean;
}) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const entries = () => [...(box.current?.querySelectorAll<HTMLElement>('[role=menuitem]') ?? [])];
  useEffect(() => {
    if (!open) return;
    const list = box.current!.querySelector<HTMLElement>('.menu-list')!;
    // above everything: rows of a long list hold what is fixed in them, and later ones lie over it
    list.showPopover?.();
    const place = () => {
      const r = box.current!.getBoundingClientRect(), h = list.offsetHeight, w = list.offsetWidth;
      if (r.bottom < 0 || r.top > innerHeight) { setOpen(false); return; }
      const below = innerHeight - r.bottom > h + 8 && !up;
      list.style.top = `${Math.max(8, Math.min(innerHeight - h - 8, below ? r.bottom + 4 : r.top - h - 4))}px`;
      list.style.left = `${Math.max(8, Math.min(innerWidth - w - 8, r.right - w > 8 ? r.right - w : r.left))}px`;
    };
    place();
    entries()[0]?.focus({ preventScroll: true });
    const away = (e: Event) => { if (!box.current?.contains(e.target as globalThis.Node)) setOpen(false); };
    const scrolled = (e: Event) => { if ((e.target as globalThis.Node).contains(box.current)) place(); };
    document.addEventListener('pointerdown', away);
    document.addEventListener('scroll', scrolled, true);
    addEventListener('resize', place);
    return () => { document.removeEventListener('pointerdown', away); document.removeEventListener('scroll', scrolled, true); removeEventListener('resize', place); };
  }, [open]);
  const onKey = (e: KeyboardEvent) => {
    if (!open) return;
    const all = entries(), i = all.indexOf(document.activeElement as HTMLElement);
    const to = e.key === 'ArrowDown' ? (i + 1) % all.length : e.key === 'ArrowUp' ? (i - 1 + all.length) % all.length
      : e.key === 'Home' ? 0 : e.key === 'End' ? all.length - 1 : -1;
    if (to >= 0) { e.preventDefault(); all[to]?.focus(); }
    if (e.key === 'Escape' || e.key === 'Tab') {
      if (e.key === 'Escape') e.preventDefault();
      e.stopPropagation();
      setOpen(false);
      box.current?.querySelector('button')?.focus();
    }
  };
  return (
    <div class={'menu ' + (c ?? '')} ref={box} onKeyDown={onKey}>
      <button type="button" class={children ? 'button quiet' : 'icon-button'} aria-haspopup="menu" aria-expanded={open} aria-label={label} title={label}
        onClick={(e) => { e.preventDefault(); e.stopPropagation(); setOpen(!open); }}>
        {children ?? <Icon name={icon ?? 'more'} />}
      </button>
      {open && (
        <div class="menu-list" role="menu" aria-label={label} popover="manual">
          {items.map((it, i) => it === null ? <hr key={i} /> : (
            <button key={i} type="button" role="menuitem" tabIndex={-1} class={it.danger ? 'danger' : ''} disabled={it.disabled}
              onClick={(e) => { e.preventDefault(); e.stopPropagation(); setOpen(false); box.current?.querySelector('button')?.focus(); it.run(); }}>
              {it.icon && <Icon name={it.icon} size={18} />}{it.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

export function Field({ label, hint, children }: { label: string; hint?: string | undefined; children: (id: string) => JSX.Element }) {
  const id = useId();
  return <div class="field"><label for={id}>{label}</label>{children(id)}{hint && <small>{hint}</small>}</div>;
}

export function Progress({ value, label }: { value: number | null; label: string }) {
  return (
    <div class={value === null ? 'progress busy' : 'progress'} role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={100}
      aria-valuenow={value === null ? undefined : Math.round(value * 100)}>
      <div style={value === null ? undefined : { width: `${Math.max(0, Math.min(1, value)) * 100}%` }} />
    </div>
  );
}

export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ComponentChildren }) {
  return <div class="empty"><Icon name={icon} size={36} /><h2>{title}</h2>{children}</div>;
}

export function Notices() {
  return (
    <>
      <div class="sr" role="status" aria-live="polite" aria-atomic="true">{spoken.value}</div>
      <div class="notices" role="region" aria-label={t('notices')}>
        {notices.value.map((n) => (
          <div key={n.id} class={`notice ${n.kind}`} role={n.kind === 'error' ? 'alert' : 'status'}>
            <span>{n.text}</span>
            {n.action && <button type="button" class="button quiet" onClick={() => { drop(n.id); n.action!.run(); }}>{n.action.label}</button>}
            <IconButton icon="close" label={t('close')} onClick={() => drop(n.id)} size={16} />
          </div>
        ))}
      </div>
    </>
  );
}

type Question = { title: string; text?: string; yes: string; danger?: boolean; value?: string; done: (v: string | null) => void };
export const question = signal<Question | null>(null);

/** Ask yes or no, or (with `value`) for a line of text. Null: no. */
export function ask(o: Omit<Question, 'done'>): Promise<string | null> {
  return new Promise((done) => { question.value = { ...o, done }; });
}

export function Questions() {
  const q = question.value;
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => { field.current?.select(); }, [q]);
  if (!q) return null;
  const end = (v: string | null) => { question.value = null; q.done(v); };
  return (
    <Dialog title={q.title} onClose={() => end(null)}>
      <form onSubmit={(e) => { e.preventDefault(); end(field.current ? field.current.value.trim() : 'yes'); }}>
        {q.text && <p>{q.text}</p>}
        {q.value !== undefined && <input ref={field} class="input" aria-label={q.title} defaultValue={q.value} dir="auto" autofocus />}
        <div class="dialog-actions">
          <Button onClick={() => end(null)}>{t('cancel')}</Button>
          <Button type="submit" kind={q.danger ? 'danger' : 'primary'} autofocus={q.value === undefined}>{q.yes}</Button>
        </div>
      </form>
    </Dialog>
  );
}
