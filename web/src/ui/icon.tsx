// The pictures on buttons: strokes on a 24 x 24 grid, in the colour of the text.
const paths = {
  plus: 'M12 5v14M5 12h14', chat: 'M4 5h16v11H9l-5 4z', book: 'M5 4h14v16H5zM9 8h6M9 12h6M9 16h3', menu: 'M4 7h16M4 12h16M4 17h16',
  search: 'M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16 16l4 4', send: 'M12 19V6M6 11l6-6 6 6', stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v11H9zM15 9V4H5v11h4', check: 'M5 12l5 5 9-10', redo: 'M19 11a7 7 0 1 0-1.5 5M19 5v6h-6',
  edit: 'M4 20l1-4L16 5l3 3L8 19zM14 7l3 3', trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5', pin: 'M9 4h6l-1 6 3 3H7l3-3zM12 13v7',
  folder: 'M4 6h6l2 2h8v11H4z', more: 'M5.5 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0M11.5 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0M17.5 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0', minus: 'M5 12h14', left: 'M14 6l-6 6 6 6', right: 'M10 6l6 6-6 6', down: 'M6 10l6 6 6-6', up: 'M6 14l6-6 6 6',
  tree: 'M5 6a2 2 0 1 0 4 0 2 2 0 0 0-4 0M5 18a2 2 0 1 0 4 0 2 2 0 0 0-4 0M15 9a2 2 0 1 0 4 0 2 2 0 0 0-4 0M7 8v8M17 11c0 4-10 1-10 5', split: 'M4 5h7v14H4zM13 5h7v14h-7z', sliders: 'M4 8h8M16 8h4M14 5.5v5M4 16h4M12 16h8M10 13.5v5',
  close: 'M6 6l12 12M18 6L6 18', file: 'M6 3h8l4 4v14H6zM14 3v4h4', clip: 'M18 11l-7 7a4 4 0 0 1-6-6l8-8a3 3 0 0 1 4 4l-8 8a1 1 0 0 1-2-2l7-7', gauge: 'M4 18a8 8 0 1 1 16 0M12 18l4-6',
  layers: 'M12 4l8 4-8 4-8-4zM4 12l8 4 8-4M4 16l8 4 8-4', cpu: 'M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4',
  train: 'M4 18l5-6 4 3 7-9M15 6h5v5', chart: 'M5 4v15h15M9 15v-4M13 15V8M17 15v-6', gear: 'M12 9a3 3 0 1 1 0 6 3 3 0 0 1 0-6zM12 3v3M12 18v3M3 12h3M18 12h3M5.6 5.6l2.2 2.2M16.2 16.2l2.2 2.2M5.6 18.4l2.2-2.2M16.2 7.8l2.2-2.2',
  help: 'M9 9a3 3 0 1 1 4 3c-1 .5-1 1-1 2M12 17.5h.01', play: 'M8 5l10 7-10 7z', save: 'M12 4v10M8 10l4 4 4-4M5 16v4h14v-4', open: 'M12 14V4M8 8l4-4 4 4M5 16v4h14v-4',
  sun: 'M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5L19 19M5 19l1.5-1.5M17.5 6.5L19 5', clock: 'M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM12 8v4l3 2', branch: 'M7 4v16M7 14c6 0 10-2 10-7M14 8l3-3 3 3',
  warn: 'M12 4l9 16H3zM12 10v4M12 17h.01', key: 'M14 10a4 4 0 1 1-8 0 4 4 0 0 1 8 0zM13 12l7 7M17 16l2-2',
};
export type IconName = keyof typeof paths;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.7"
      stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false"><path d={paths[name]} /></svg>
  );
}
