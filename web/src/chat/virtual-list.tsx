// A long list of which only what is near the view exists. Heights are measured; what changes above the view moves nothing in it; who is at
// the end stays there while text grows, until they scroll up.
import type { ComponentChildren } from 'preact';
import { memo } from 'preact/compat';
import { useCallback, useEffect, useImperativeHandle, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { MutableRef } from 'preact/hooks';

export type ListHandle = { toEnd: (smooth?: boolean) => void; toItem: (key: string) => void; atEnd: () => boolean };
const guess = 160;

const Row = memo(function Row({ id, seen, children, index, count }: {
  id: string; seen: (el: HTMLElement | null, id: string) => void; children: ComponentChildren; index: number; count: number;
}) {
  const ref = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => { const el = ref.current!; seen(el, id); return () => seen(null, id); }, [id]);
  return <div class="vrow" ref={ref} data-row={id} role="listitem" aria-posinset={index + 1} aria-setsize={count}>{children}</div>;
});

export function VirtualList({ items, draw, handle, label, onEnd, footer }: {
  items: string[]; draw: (id: string) => ComponentChildren; handle: MutableRef<ListHandle | null>; label: string;
  onEnd?: (at: boolean) => void; footer?: ComponentChildren;
}) {
  const box = useRef<HTMLDivElement>(null);
  const inner = useRef<HTMLDivElement>(null);
  const heights = useRef(new Map<string, number>());
  const rows = useRef(new Map<string, HTMLElement>());
  const stick = useRef(true);
  const lastTop = useRef(0);
  const [range, setRange] = useState<[number, number]>([Math.max(0, items.length - 12), items.length]);
  const now = useRef({ items, range });
  now.current.items = items;
  now.current.range = range;
  const h = (id: string): number => heights.current.get(id) ?? guess;

  const look = useCallback(() => {
    const b = box.current;
    if (!b) return;
    const { items, range } = now.current;
    const top = b.scrollTop - b.clientHeight, end = b.scrollTop + 2 * b.clientHeight;
    let y = 0, from = 0, to = items.length;
    for (let i = 0; i < items.length; i++) {
      const hi = h(items[i]!);
      if (y + hi < top) from = i + 1;
      y += hi;
      if (y > end) { to = i + 1; break; }
    }
    if (stick.current) {
      // at the end, or on the way there: what the scroll position says does not count yet
      to = items.length;
      from = to;
      for (let room = 2 * b.clientHeight; from > 0 && room > 0; from--) room -= h(items[from - 1]!);
    }
    from = Math.min(from, Math.max(0, to - 1));
    if (from !== range[0] || to !== range[1]) setRange([from, to]);
  }, []);

  const settle = useCallback(() => {
    const b = box.current;
    if (b && stick.current) { b.scrollTop = b.scrollHeight; lastTop.current = b.scrollTop; }
  }, []);

  const watcher = useRef<ResizeObserver | null>(null);
  if (!watcher.current && typeof ResizeObserver !== 'undefined') {
    watcher.current = new ResizeObserver((entries) => {
      const b = box.current;
      if (!b) return;
      let shift = 0;
      for (const e of entries) {
        const el = e.target as HTMLElement, id = el.dataset.row;
        if (!id) continue;
        const was = h(id), is = e.borderBoxSize?.[0]?.blockSize ?? el.offsetHeight;
        if (Math.abs(is - was) < 0.5 && heights.current.has(id)) continue;
        heights.current.set(id, is);
        // what ends above the view, or is drawn for the first time and begins above it, must not push the view
        const r = el.getBoundingClientRect(), view = b.getBoundingClientRect().top;
        if (r.bottom - (is - was) <= view + 1 || (r.top < view && r.bottom <= view + 1)) shift += is - was;
      }
      if (stick.current) settle();
      else if (shift) { b.scrollTop += shift; lastTop.current = b.scrollTop; }
      look();
    });
  }
  const seen = useCallback((el: HTMLElement | null, id: string) => {
    const old = rows.current.get(id);
    if (old) watcher.current?.unobserve(old);
    if (el) { rows.current.set(id, el); watcher.current?.observe(el); } else rows.current.delete(id);
  }, []);

  const tell = (at: boolean): void => { if (at !== stick.current) { stick.current = at; onEnd?.(at); } };
  const onScroll = useCallback(() => {
    const b = box.current!;
    const rest = b.scrollHeight - b.clientHeight - b.scrollTop;
    if (b.scrollTop < lastTop.current - 1 && rest > 8) tell(false);
    else if (rest < 24) tell(true);
    lastTop.current = b.scrollTop;
    look();
  }, []);

  useLayoutEffect(() => { look(); settle(); }, [items]);
  useLayoutEffect(settle);
  useEffect(() => {
    const ro = new ResizeObserver(() => { settle(); look(); });
    ro.observe(box.current!);
    return () => { ro.disconnect(); watcher.current?.disconnect(); };
  }, []);
  useImperativeHandle(handle, () => ({
    toEnd() { tell(true); look(); requestAnimationFrame(() => { settle(); requestAnimationFrame(settle); }); },
    toItem(id: string) {
      const i = now.current.items.indexOf(id);
      if (i < 0) return;
      tell(false);
      let y = 0;
      for (let k = 0; k < i; k++) y += h(now.current.items[k]!);
      box.current!.scrollTop = y;
      look();
      let n = 0;
      const exact = (): void => {
        rows.current.get(id)?.scrollIntoView({ block: 'start' });
        if (++n < 4) requestAnimationFrame(exact);
      };
      requestAnimationFrame(exact);
    },
    atEnd: () => stick.current,
  }), []);

  const [from, to] = [Math.min(range[0], Math.max(0, items.length - 1)), Math.max(range[1], stick.current ? items.length : 0)];
  let above = 0, under = 0;
  for (let i = 0; i < from; i++) above += h(items[i]!);
  for (let i = to; i < items.length; i++) under += h(items[i]!);
  return (
    <div class="message-list" ref={box} onScroll={onScroll} tabIndex={0} role="region" aria-label={label}>
      <div ref={inner} role="list" aria-label={label}>
        <div style={{ height: `${above}px` }} role="presentation" />
        {items.slice(from, to).map((id, i) => <Row key={id} id={id} seen={seen} index={from + i} count={items.length}>{draw(id)}</Row>)}
        <div style={{ height: `${under}px` }} role="presentation" />
      </div>
      {footer}
    </div>
  );
}
