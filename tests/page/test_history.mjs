// test_history.mjs — the chats there are: search, rename, pin, folders, export and import, delete for good; the notebook.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chatId, menu } from './acts.mjs';
import { opened, until } from './browser.mjs';

export const server = {};
const list = (page) => page.getByRole('navigation', { name: 'Chats' });

export const tests = {
  async 'search, rename, pin'({ browser, server: s, url }) {
    await s.chat([['user', 'the walrus sings'], ['assistant', 'of cabbages']], { title: 'First' });
    await s.chat([['user', 'about trains'], ['assistant', 'they are long']], { title: 'Second' });
    const page = await opened(browser, url);
    await page.goTo('/');
    await list(page).getByText('Second').waitFor();
    await page.keyboard.press('Control+k');
    await list(page).getByRole('searchbox').fill('cabb');
    await list(page).getByText('First').waitFor();
    await until('the others are left out', async () => !(await list(page).getByText('Second').isVisible()));
    await list(page).getByRole('searchbox').fill('');
    await menu(page, list(page), 'Rename', 'Actions for First');
    await page.getByRole('dialog').getByRole('textbox').fill('Walrus');
    await page.getByRole('dialog').getByRole('button', { name: 'Save' }).or(page.getByRole('dialog').getByRole('button', { name: 'Rename' })).first().click();
    await list(page).getByText('Walrus').waitFor();
    await menu(page, list(page), 'Pin', 'Actions for Walrus');
    await list(page).getByText('Pinned').waitFor();
    await until('it is pinned', async () => (await s.call('GET', '/page/v1/chats')).chats[0].title === 'Walrus');
    page.quiet();
  },

  async 'folders'({ browser, server: s, url }) {
    await s.chat([['user', 'put me away']], { title: 'Loose' });
    const page = await opened(browser, url);
    await page.goTo('/');
    await menu(page, list(page), 'Move to folder: New folder…', 'Actions for Loose');
    await page.getByRole('dialog').getByRole('textbox').fill('Drawer');
    await page.getByRole('dialog').getByRole('button').last().click();
    await until('it is in the folder', async () => {
      const { folders } = await s.call('GET', '/page/v1/folders');
      const { chats } = await s.call('GET', '/page/v1/chats');
      return folders[0]?.name === 'Drawer' && chats.find((c) => c.title === 'Loose').folder === folders[0].id;
    });
    page.quiet();
  },

  async 'export, delete for good, import'({ browser, server: s, url }) {
    const id = await s.chat([['user', 'keep **this**'], ['assistant', 'kept: çà et là']], { title: 'Treasure' });
    const page = await opened(browser, url);
    await page.goTo(`/c/${id}`);
    const [md] = await Promise.all([page.waitForEvent('download'), menu(page, page.locator('main header').first(), 'Export as Markdown', 'Actions for Treasure')]);
    assert.match(readFileSync(await md.path(), 'utf8'), /keep \*\*this\*\*[\s\S]*çà et là/);
    const [json] = await Promise.all([page.waitForEvent('download'), menu(page, page.locator('main header').first(), 'Export as JSON', 'Actions for Treasure')]);
    const file = await json.path();
    assert.equal(JSON.stringify(JSON.parse(readFileSync(file, 'utf8'))).includes('çà et là'), true);
    await menu(page, page.locator('main header').first(), 'Delete', 'Actions for Treasure');
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await until('it is gone', async () => !(await s.call('GET', '/page/v1/chats')).chats.some((c) => c.title === 'Treasure'));
    assert.equal(readFileSync(`${s.data}/history.db`).includes('çà et là'), false, 'nothing of it stays in the file');
    await page.goTo('/history');
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.locator('main').getByRole('button', { name: 'Import' }).click()]);
    await chooser.setFiles({ name: 'treasure.json', mimeType: 'application/json', buffer: readFileSync(file) });
    await until('it is back', async () => (await s.call('GET', '/page/v1/chats')).chats.some((c) => c.title === 'Treasure'));
    page.quiet();
  },

  async 'a file that is no export'({ browser, server: s, url }) {
    const page = await opened(browser, url, { allowed: /422/ });
    await page.goTo('/history');
    const before = (await s.call('GET', '/page/v1/chats')).total;
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.locator('main').getByRole('button', { name: 'Import' }).click()]);
    await chooser.setFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from('{"no": "export"}') });
    await page.getByRole('alert').waitFor();
    assert.equal((await s.call('GET', '/page/v1/chats')).total, before);
    page.quiet();
  },

  async 'notebook: complete, probabilities, another token'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    await page.goTo('/notebook');
    await page.getByLabel('Tokens to write').fill('12');
    await page.getByRole('textbox', { name: 'Notebook' }).fill('Once upon a time there was a');
    await page.getByRole('button', { name: 'Complete' }).click();
    await until('its address', () => chatId(page));
    const id = chatId(page);
    await until('it was written', async () => {
      const { nodes } = await s.call('GET', `/page/v1/chats/${id}`);
      return nodes.some((n) => n.role === 'assistant' && n.status !== 'streaming' && n.content.length > 5);
    });
    await page.getByRole('button', { name: 'Probabilities' }).click();
    await page.locator('.tok').nth(3).click();
    const others = page.locator('#alternatives').getByRole('button');
    await others.first().waitFor();
    assert.ok((await others.count()) > 1);
    await page.locator('#alternatives button:not([disabled])').first().click();
    await until('a branch', async () => (await s.call('GET', `/page/v1/chats/${id}`)).nodes.filter((n) => n.role === 'assistant').length > 1);
    page.quiet();
  },
};
