// test_screens.mjs — pictures of every view in both themes and three widths, written with --screenshots FOLDER; without it
// nothing is done. They are looked at by people; what they show is asserted elsewhere.
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { opened, skip } from './browser.mjs';
import { prepare, rested, views } from './test_looking.mjs';

export const server = { prepare };
const WIDTHS = [[360, 740], [820, 1100], [1440, 900]];

export const tests = {
  async 'every view'({ browser, server: s, url, options }) {
    if (!options.screenshots) throw skip('no --screenshots FOLDER');
    const folder = options.screenshots;
    mkdirSync(folder, { recursive: true });
    const only = process.env.ZAMBA_PAGE_VIEWS?.split(',');
    if (!only) for (const f of readdirSync(folder).filter((x) => x.endsWith('.webp'))) rmSync(join(folder, f));
    const all = Object.entries(await views(s)).filter(([name]) => !only || only.includes(name));
    // something has happened that the dashboard can tell of
    for (let i = 0; i < 4; i++) {
      const chat = await s.call('POST', '/page/v1/chats', { settings: { max_tokens: 80, ignore_eos: true } });
      await s.call('POST', `/page/v1/chats/${chat.id}/answers`, { parent: null, message: { content: `Tale ${i % 2} of the sea` } });
      await new Promise((r) => setTimeout(r, 300));
      await s.call('DELETE', `/page/v1/chats/${chat.id}`);
    }
    for (const theme of ['light', 'dark']) {
      const page = await opened(browser, url, { colorScheme: theme });
      const cdp = await page.context().newCDPSession(page);
      for (const [name, path] of all) {
        await page.goTo(path);
        await rested(page);
        if (name === 'dashboard') await page.waitForTimeout(6000);
        for (const [width, height] of WIDTHS) {
          await page.setViewportSize({ width, height });
          await page.evaluate(() => document.querySelector('.view-scroll')?.scrollTo(0, 0));
          await page.waitForTimeout(400);
          const { data } = await cdp.send('Page.captureScreenshot', { format: 'webp', quality: 80 });
          writeFileSync(join(folder, `${name}-${theme}-${width}.webp`), Buffer.from(data, 'base64'));
        }
      }
      page.quiet();
      await page.context().close();
    }
    const bytes = readdirSync(folder).reduce((sum, f) => sum + statSync(join(folder, f)).size, 0);
    assert.ok(bytes < 3e6, `${bytes} bytes of pictures`);
    return `${readdirSync(folder).length} pictures, ${(bytes / 1e6).toFixed(2)} MB`;
  },
};
