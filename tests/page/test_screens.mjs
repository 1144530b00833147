// test_screens.mjs — pictures of every view in both themes and three widths, written with --screenshots FOLDER; without it
// nothing is done. They are looked at by people; what they show is asserted elsewhere.
import { mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { bootstrapped, opened, skip } from './browser.mjs';
import { prepare, rested, views } from './test_looking.mjs';

export const server = { prepare };
const WIDTHS = [[360, 740], [820, 1100], [1440, 900]];

/** Some answers at once and one after the other, so that there is something to see. */
async function load(s, ms) {
  const end = Date.now() + ms;
  const chats = [];
  for (let i = 0; Date.now() < end; i++) {
    const chat = await s.call('POST', '/page/v1/chats', { title: 'load', settings: { max_tokens: 150 + 90 * (i % 4), ignore_eos: true } });
    chats.push(chat.id);
    await s.call('POST', `/page/v1/chats/${chat.id}/answers`, { parent: null, message: { content: `Tale ${i % 3} of the sea and of those who live by it` } });
    await new Promise((r) => setTimeout(r, 150 + 250 * (i % 5)));
  }
  for (const id of chats) await s.call('DELETE', `/page/v1/chats/${id}`);
}

export const tests = {};
for (const theme of ['light', 'dark'])
  tests[`every view, ${theme}`] = async ({ browser, server: s, url, options }) => {
    if (!options.screenshots) throw skip('no --screenshots FOLDER');
    const folder = options.screenshots;
    mkdirSync(folder, { recursive: true });
    const only = process.env.ZAMBA_PAGE_VIEWS?.split(',');
    if (!only) for (const f of readdirSync(folder).filter((x) => x.includes(`-${theme}-`) && x.endsWith('.webp'))) rmSync(join(folder, f));
    const all = Object.entries(await views(s)).filter(([name]) => !only || only.includes(name));
    const page = await opened(browser, url, { colorScheme: theme });
    // where this run keeps its files is nobody's business
    await bootstrapped(page, (boot) => ({ ...boot, history: { ...boot.history, folder: '~/.local/share/zamba' } }));
    const cdp = await page.context().newCDPSession(page);
    for (const [name, path] of all) {
      if (name === 'run' || name === 'training') utimesSync(join(s.runs, 'books', 'metrics.jsonl'), new Date(), new Date());
      await page.goTo(path);
      await rested(page);
      if (name === 'dashboard') await load(s, 9000);
      for (const [width, height] of WIDTHS) {
        await page.setViewportSize({ width, height });
        await page.evaluate(() => document.querySelector('.view-scroll')?.scrollTo(0, 0));
        await page.waitForTimeout(400);
        const { data } = await cdp.send('Page.captureScreenshot', { format: 'webp', quality: 80 });
        writeFileSync(join(folder, `${name}-${theme}-${width}.webp`), Buffer.from(data, 'base64'));
      }
    }
    page.quiet();
    const bytes = readdirSync(folder).reduce((sum, f) => sum + statSync(join(folder, f)).size, 0);
    assert.ok(bytes < 3e6, `${bytes} bytes of pictures`);
    return `${readdirSync(folder).length} pictures in all, ${(bytes / 1e6).toFixed(2)} MB`;
  };
