// test_answers.mjs — what one sees and hears while an answer comes: how far the reading of a long prompt is, text that does not
// jump, a screen reader that is told of the answer and not of each token; and what is made of its text.
import assert from 'node:assert/strict';
import { answers, ended, field, newest, say, type, writing } from './acts.mjs';
import { opened, until } from './browser.mjs';
import { STORY } from './test_looking.mjs';

export const server = { slow: true };
const PROSE = 'The boat went out in the morning and came back in the evening with fish for the whole village. '.repeat(14);

export const tests = {
  async 'a long prompt: progress, and what is not read again'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    const chat = await s.call('POST', '/page/v1/chats', { settings: { max_tokens: 4, temperature: 0 } });
    await page.goTo(`/c/${chat.id}`);
    const watch = () => page.evaluate(() => {
      window.bars = [];
      window.reused = [];
      const look = () => {
        const bar = document.querySelector('.msg [role=progressbar]');
        if (bar?.getAttribute('aria-valuenow')) window.bars.push(`${bar.getAttribute('aria-valuenow')} ${bar.getAttribute('aria-label')}`);
        const pill = document.querySelector('.msg .phase .pill')?.textContent;
        if (pill) window.reused.push(pill);
      };
      window.watcher?.disconnect();
      (window.watcher = new MutationObserver(look)).observe(document.getElementById('main'), { subtree: true, childList: true, attributes: true, characterData: true });
    });
    await watch();
    await say(page, PROSE);
    assert.equal(await ended(page), 'done');
    const bars = await page.evaluate(() => window.bars);
    assert.ok(bars.some((b) => /^\d+ Reading the prompt: \d+ of \d+ tokens$/.test(b)), JSON.stringify(bars));
    const seen = bars.map((b) => Number(b.split(' ')[0]));
    assert.deepEqual(seen, [...seen].sort((a, b) => a - b), 'it only grows');
    assert.deepEqual(await page.evaluate(() => window.reused), [], 'nothing was there to reuse');
    await watch();
    await say(page, `And the next day? ${PROSE.slice(0, 300)}`);
    await ended(page);
    const reused = await page.evaluate(() => window.reused);
    assert.ok(reused.some((r) => Number(r.replace(/\D/g, '')) > 100), `reused: ${reused}`);
    page.quiet();
  },

  async 'text that comes does not jump'({ browser, server: s, url }) {
    const page = await opened(browser, url, { viewport: { width: 900, height: 500 } });
    const lines = Array.from({ length: 60 }, (_, i) => 'abcdefghij'[i % 10]).join('\n\n'); // many lines, few tokens
    const id = await s.chat([['user', 'Tell me a tale'], ['assistant', lines]], { settings: { max_tokens: 160, ignore_eos: true, temperature: 0.8, seed: 3 } });
    await page.goTo(`/c/${id}`);
    await answers(page).first().waitFor();
    await say(page, 'And then?');
    await writing(page, 5);
    // who is at the end stays there, and what was written stands still
    const look = () => page.evaluate(async () => {
      const box = document.querySelector('.message-list');
      const message = () => [...document.querySelectorAll('.msg.assistant')].at(-1);
      const frames = [];
      const end = performance.now() + 1500;
      while (performance.now() < end || frames.length < 20) {
        await new Promise((r) => requestAnimationFrame(() => setTimeout(r))); // after layout and what hangs on it
        const m = message();
        frames.push({ rest: box.scrollHeight - box.clientHeight - box.scrollTop, top: box.scrollTop, body: m.querySelector('.md')?.getBoundingClientRect().height ?? 0, text: m.textContent.length });
      }
      return frames;
    });
    const below = await look();
    assert.ok(below.at(-1).text > below[0].text, 'it grew meanwhile');
    assert.ok(below.every((f) => f.rest <= 2), `not at the end: ${Math.max(...below.map((f) => f.rest))}`);
    for (let i = 1; i < below.length; i++) assert.ok(below[i].top >= below[i - 1].top - 1 && below[i].body >= below[i - 1].body - 1, JSON.stringify(below.slice(i - 1, i + 1)));
    // who reads above is left alone
    await page.locator('.message-list').hover();
    await page.mouse.wheel(0, -600);
    await page.getByRole('button', { name: /New text below|Jump to the newest/ }).waitFor();
    const above = await page.evaluate(async () => {
      const box = document.querySelector('.message-list');
      const first = [...box.querySelectorAll('.msg')].find((m) => m.getBoundingClientRect().bottom > box.getBoundingClientRect().top + 40);
      const at = [];
      const text = [];
      const end = performance.now() + 1500;
      while (performance.now() < end || at.length < 20) {
        await new Promise((r) => requestAnimationFrame(() => setTimeout(r)));
        at.push(first.getBoundingClientRect().top);
        text.push(box.scrollHeight);
      }
      return { at, grew: text.at(-1) - text[0] };
    });
    assert.ok(Math.max(...above.at) - Math.min(...above.at) <= 1, `what is read moved: ${Math.min(...above.at)} to ${Math.max(...above.at)}`);
    await page.getByRole('button', { name: /New text below|Jump to the newest/ }).click();
    await until('the end', () => page.evaluate(() => { const b = document.querySelector('.message-list'); return b.scrollHeight - b.clientHeight - b.scrollTop <= 2; }));
    await ended(page);
    page.quiet();
  },

  async 'a screen reader hears of the answer, not of each token'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    const chat = await s.call('POST', '/page/v1/chats', { settings: { max_tokens: 40, ignore_eos: true, temperature: 0 } });
    await page.goTo(`/c/${chat.id}`);
    await page.evaluate(() => {
      window.said = [];
      const region = document.querySelector('[role=status][aria-live=polite]');
      new MutationObserver(() => window.said.push(region.textContent)).observe(region, { subtree: true, childList: true, characterData: true });
    });
    await say(page, 'Once upon a time');
    assert.equal(await page.evaluate(() => !!document.querySelector('.msg')?.closest('[aria-live]')), false, 'messages are in no live region');
    await ended(page);
    await until('the end is told', () => page.evaluate(() => /^The answer is complete/.test(window.said.at(-1) ?? '')));
    const said = await page.evaluate(() => window.said);
    assert.equal(said[0], 'The model is answering.');
    assert.equal(said.length, 2, JSON.stringify(said));
    assert.ok(said[1].length > 60, 'with its text');
    assert.equal(await newest(page).getAttribute('aria-busy'), 'false');
    page.quiet();
  },

  async 'tables, mathematics, code that is copied'({ browser, server: s, url }) {
    const page = await opened(browser, url, { permissions: ['clipboard-read', 'clipboard-write'] });
    const id = await s.chat(STORY);
    await page.goTo(`/c/${id}`);
    await page.locator('.msg table th').first().waitFor();
    assert.equal(await page.locator('.msg table td').count(), 6);
    await page.locator('.msg .katex-display, .msg .tex-block.drawn').first().waitFor();
    await page.locator('.msg .hljs-keyword', { hasText: 'def' }).waitFor();
    await page.getByRole('button', { name: 'Copy code' }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    const code = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(code, /^def step\(h, x[\s\S]*return h, C @ h \+ D \* x\n?$/);
    await page.keyboard.press('Control+v');
    assert.equal(await page.locator('.msg blockquote').count(), 1);
    assert.equal(await page.locator('.msg ol li').count(), 3);
    page.quiet();
  },

  async 'what is typed while an answer comes stays'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    const chat = await s.call('POST', '/page/v1/chats', { settings: { max_tokens: 60, ignore_eos: true, temperature: 0 } });
    await page.goTo(`/c/${chat.id}`);
    await say(page, 'Once upon a time');
    await type(page, 'and what came');
    await field(page).press('Enter'); // an answer is under way: nothing is sent, nothing is lost
    await ended(page);
    assert.equal(await field(page).inputValue(), 'and what came');
    assert.equal(await answers(page).count(), 1);
    page.quiet();
  },
};
