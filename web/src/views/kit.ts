// kit.ts — what the views that look inside take from the rest of the page, and errors in plain words.
import { t as text, type Key } from '../i18n';
import { raw } from '../lib/api';

export { get } from '../lib/api';

/** Keys that are put together (`live.` + name of a measure) are checked by tests/texts.test.ts, the others too. */
export const t = (key: string, values?: Record<string, string | number>): string => text(key as Key, values);

export const getText = (url: string, signal: AbortSignal): Promise<string> => raw('GET', url, null, { signal }).then((r) => r.text());

export { explain as plain } from '../store/store';
