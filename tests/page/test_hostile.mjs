// test_hostile.mjs — messages made to do harm (web/tests/hostile.json), shown in the real page: no script runs, nothing is
// asked of anybody, nothing stands still for long.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { answers } from './acts.mjs';
import { crowd, opened, until } from './browser.mjs';

export const server = {};
const corpus = JSON.parse(readFileSync(new URL('../../web/tests/hostile.json', import.meta.url), 'utf8'));
/** Texts that would make the file large are described: {"repeat": text, "times": n}. */
const textOf = (c) => {
  const m = typeof c === 'string' ? c : (c.text ?? c.content ?? c.message ?? c);
  if (typeof m === 'string') return typeof c?.times === 'number' ? m.repeat(c.times) : m;
  if (Array.isArray(m)) return m.map(textOf).join('');
  return (m.before ?? '') + String(m.repeat ?? '').repeat(m.times ?? 1) + (m.after ?? '');
};
/** JSON of the server's has no half pairs. */
const wellFormed = (s) => s.replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, '\uFFFD');
const nameOf = (c, i) => c?.name ?? c?.what ?? `message ${i}`;
const messages = (Array.isArray(corpus) ? corpus : (corpus.messages ?? Object.entries(corpus).map(([name, text]) => ({ name, text })))).map((c, i) => ({ name: nameOf(c, i), text: wellFormed(textOf(c)) }));
messages.push(
  { name: 'one line of a megabyte', text: 'x'.repeat(1 << 20) },
  { name: 'a megabyte of words', text: 'word '.repeat(200000) },
  { name: 'a megabyte of stars', text: '*'.repeat(1 << 20) },
  { name: 'ten thousand lines', text: Array.from({ length: 10000 }, (_, i) => `line ${i}`).join('\n') },
);

/** The longest task that may block the page, in ms, on a machine that does nothing else. */
const LONGEST = 200;

export const tests = {
  'there are at least sixty'() {
    assert.ok(messages.length >= 60, `${messages.length}`);
    for (const m of messages) assert.equal(typeof m.text, 'string', m.name);
    return `${messages.length} messages`;
  },

  async 'shown one after the other'({ browser, server: s, url, options }) {
    const page = await opened(browser, url, { javaScriptEnabled: true });
    await page.addInitScript(() => {
      window.longest = 0;
      window.ran = [];
      window.__hit = 0;
      new PerformanceObserver((l) => l.getEntries().forEach((e) => (window.longest = Math.max(window.longest, e.duration)))).observe({ type: 'longtask' });
      for (const f of ['alert', 'confirm', 'prompt', 'open']) window[f] = () => window.ran.push(f);
    });
    let worst = ['', 0];
    const slow = [];
    await page.goTo('/');
    for (const m of messages) {
      const id = await s.chat([['user', 'show it'], ['assistant', m.text]]);
      const show = async () => {
        await page.evaluate((to) => {
          window.longest = 0;
          history.pushState(null, '', to);
          dispatchEvent(new PopStateEvent('popstate'));
        }, `/c/${id}`);
        await until(`${m.name} is shown`, async () => page.url().endsWith(id) && (await answers(page).count()) === 1);
        await page.evaluate(() => new Promise((r) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(r)), 150)));
        return page.evaluate(() => window.longest);
      };
      // a pause may be another program's: from the beginning then, at most twice more, and the shortest counts
      let longest = await show();
      for (let again = 0; again < 2 && longest > LONGEST * options.patience; again++) {
        await page.goTo('/');
        longest = Math.min(longest, await show());
      }
      const state = await page.evaluate(() => ({
        ran: [...window.ran, ...(window.__hit ? ['script'] : [])], title: document.title,
        scripts: document.querySelectorAll('main script, main iframe, main object, main embed, main form:not(.composer):not(.editor), main style, main link, main base, main meta').length,
        handlers: [...document.querySelectorAll('main .msg-body *')].filter((e) => [...e.attributes].some((a) => /^on/i.test(a.name))).length,
        outside: [...document.querySelectorAll('main .msg-body [src], main .msg-body image')].map((e) => e.getAttribute('src') ?? e.getAttribute('href')).filter((x) => x && !/^(data:image|blob:)/.test(x)),
        links: [...document.querySelectorAll('main .msg-body a[href]')].map((a) => a.getAttribute('href')).filter((h) => !/^(https?:|mailto:|#|\/(?!\/))/i.test(h)),
        wide: document.documentElement.scrollWidth > innerWidth,
      }));
      assert.deepEqual({ ...state, title: '' }, { title: '', ran: [], scripts: 0, handlers: 0, outside: [], links: [], wide: false }, m.name);
      if (page.faults.length) assert.deepEqual(page.faults, [], m.name);
      if (longest > worst[1]) worst = [m.name, longest];
      if (longest > LONGEST * options.patience && longest > LONGEST * options.patience * crowd()) slow.push(`${m.name}: ${Math.round(longest)} ms`);
      await s.call('DELETE', `/page/v1/chats/${id}`);
    }
    assert.deepEqual(slow, [], 'blocked the page');
    page.quiet();
    return `${messages.length} messages; longest task ${Math.round(worst[1])} ms (${worst[0]})`;
  },

  async 'as titles, system prompts, in the tree and search'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    for (const m of messages.filter((x) => x.text.length < 2000).slice(0, 30)) await s.chat([['user', m.text], ['assistant', m.text]], { title: m.text.slice(0, 120).replace(/[\n\r\0]/g, ' ') || 'x', system: m.text });
    for (const path of ['/', '/history']) {
      await page.goTo(path);
      await page.waitForTimeout(300);
    }
    const { chats } = await s.call('GET', '/page/v1/chats');
    await page.goTo(`/c/${chats[0].id}/tree`);
    await page.waitForTimeout(300);
    assert.equal(await page.evaluate(() => document.querySelectorAll('#app script, #app iframe, #app img[src^=http]').length), 0);
    page.quiet();
  },
};
