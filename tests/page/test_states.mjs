// test_states.mjs — the model's memory of what it has read: a node gone back to is not read again, the tree says what keeping it
// costs, and a state goes to a file and is opened on another server.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { answers, ended, menu, newest, say, textOf } from './acts.mjs';
import { opened, until } from './browser.mjs';
import { withServer } from './server.mjs';

export const server = {};
const short = { settings: { max_tokens: 10, temperature: 0, ignore_eos: true } };
const cached = async (page) => {
  const [, n, m] = /(\d+) of (\d+) read from the cache/.exec(await newest(page).locator('footer').innerText()) ?? [];
  return [Number(n), Number(m)];
};

export const tests = {
  async 'going back to a node reads nothing again'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    const { id } = await s.call('POST', '/page/v1/chats', short);
    await page.goTo(`/c/${id}`);
    for (const text of ['Once upon a time there was a fisherman who lived at the sea', 'And one day?', 'And then?']) {
      await say(page, text);
      await ended(page);
    }
    const first = (await s.call('GET', `/page/v1/chats/${id}`)).nodes.find((n) => n.role === 'assistant');
    await page.getByRole('button', { name: 'Branches of this chat' }).first().click();
    const node = page.locator(`#node-${first.id}`); // two answers may say the same
    await node.click();
    await until('what it costs', async () => /[\d.]+ (KiB|MiB) in memory · \d+ tokens/.test(await page.getByRole('complementary').innerText()));
    assert.match(await node.getAttribute('aria-label'), /in memory/);
    assert.match(await page.locator('main').innerText(), /States in memory: [\d.]+ [KM]iB of/);
    await page.getByRole('button', { name: 'Go on from here' }).click();
    await until('its branch', async () => (await answers(page).count()) === 1);
    await say(page, 'But he had a boat');
    await ended(page);
    const [again, all] = await cached(page);
    assert.ok(again >= first.usage.prompt, `${again} of ${all} were read from the cache; the first answer's prompt had ${first.usage.prompt}`);
    await page.getByRole('button', { name: 'Branches of this chat' }).first().click();
    await until('the branch is drawn', async () => (await page.getByRole('treeitem').count()) === 8);
    page.quiet();
  },

  async 'the tree by keys, two of its nodes side by side'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    const id = await s.chat([['user', 'red or blue?'], ['assistant', 'Red.']]);
    const { nodes } = await s.call('GET', `/page/v1/chats/${id}`);
    await s.call('POST', `/page/v1/chats/${id}/nodes`, { parent: nodes[0].id, role: 'assistant', content: 'Blue.' });
    await page.goTo(`/c/${id}/tree`);
    await until('its nodes', async () => (await page.getByRole('treeitem').count()) === 3);
    await page.locator('[role=treeitem][tabindex="0"]').focus();
    await page.keyboard.press('ArrowUp');
    await until('the root', () => page.evaluate(() => document.activeElement?.getAttribute('aria-label')?.startsWith('You: red or blue')));
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowRight');
    await until('the brother', () => page.evaluate(() => document.activeElement?.getAttribute('aria-label')?.startsWith('Answer: Blue')));
    await page.getByRole('button', { name: 'Compare', exact: true }).click();
    await page.getByRole('treeitem', { name: /^Answer: Red/ }).click();
    await until('side by side', () => /\/compare\//.test(page.url()));
    await page.getByRole('region', { name: 'Left branch' }).getByText('Blue.', { exact: true }).waitFor();
    await page.getByRole('region', { name: 'Right branch' }).getByText('Red.', { exact: true }).waitFor();
    await page.getByRole('region', { name: 'Left branch' }).getByRole('button', { name: 'Go on with this one' }).click();
    await until('that one', async () => (await answers(page).count()) === 1 && (await textOf(newest(page))) === 'Blue.');
    page.quiet();
  },

  async 'to a file, and on from it on another server'({ browser, server: s, url, options }) {
    const page = await opened(browser, url);
    const { id } = await s.call('POST', '/page/v1/chats', { ...short, title: 'The fisherman' });
    await page.goTo(`/c/${id}`);
    await say(page, 'Once upon a time there was a fisherman who lived at the sea');
    await ended(page);
    const coming = page.waitForEvent('download');
    await menu(page, newest(page), 'Save the state to a file');
    const file = await coming;
    assert.match(file.suggestedFilename(), /^The fisherman\.zambastate$/);
    await page.getByText(/State saved: \d+ tokens, [\d.]+ [KM]iB/).waitFor();
    const bytes = readFileSync(await file.path());
    assert.ok(bytes.length > 10000);
    const { usage } = (await s.call('GET', `/page/v1/chats/${id}`)).nodes.at(-1);
    await withServer(options, {}, async (other) => {
      const there = await opened(browser, other.url);
      await there.goTo('/');
      const open = async (name, buffer) => {
        await there.locator('main header').getByRole('button', { name: 'More' }).click();
        const [chooser] = await Promise.all([there.waitForEvent('filechooser'), there.getByRole('menuitem', { name: 'Open a saved state' }).click()]);
        await chooser.setFiles({ name, mimeType: 'application/octet-stream', buffer });
      };
      await open('The fisherman.zambastate', bytes);
      await there.getByText('Goes on behind a saved state').waitFor();
      await there.getByRole('heading', { name: 'The fisherman' }).waitFor();
      await say(there, 'And one day?');
      assert.equal(await ended(there, 120000), 'done');
      // only what is new was read
      const { chats: [chat] } = await other.call('GET', '/page/v1/chats');
      const node = (await other.call('GET', `/page/v1/chats/${chat.id}`)).nodes.at(-1);
      assert.ok(node.usage.prompt < 28, `${node.usage.prompt} tokens were read, ${usage.prompt} are in the state`);
      await there.reload();
      await until('it is kept', async () => (await answers(there).count()) === 1);
      // and of the next turn only what is new, too; the tree says what that costs
      await say(there, 'And then?');
      assert.equal(await ended(there, 120000), 'done');
      const [again, all] = await cached(there);
      assert.ok(again >= node.usage.prompt + node.usage.generated - 1 && all - again < 28, `${again} of ${all} were read from the cache, ${node.usage.prompt} and ${node.usage.generated} tokens before`);
      await there.getByRole('button', { name: 'Branches of this chat' }).first().click();
      await there.locator(`#node-${node.id}`).click();
      await until('what it costs', async () => /[\d.]+ (KiB|MiB) in memory · \d+ tokens/.test(await there.getByRole('complementary').innerText()));
      there.quiet();
    });
    page.quiet();
  },

  async 'a file that is no state, a state that is cut off'({ browser, server: s, url }) {
    const page = await opened(browser, url, { allowed: /status of 4\d\d/ });
    const { id } = await s.call('POST', '/page/v1/chats', short);
    const { node } = await s.call('POST', `/page/v1/chats/${id}/answers`, { parent: null, message: { content: 'Once' } });
    await until('its end', async () => (await s.call('GET', `/page/v1/nodes/${node.id}`)).status === 'done');
    const state = await s.call('POST', `/page/v1/nodes/${node.id}/state`, {});
    const whole = Buffer.from(await (await fetch(`${s.api}/v1/states/${state.id}`)).arrayBuffer());
    const before = (await s.call('GET', '/page/v1/chats')).total;
    await page.goTo('/');
    for (const buffer of [Buffer.from('no state at all'), whole.subarray(0, whole.length >> 1), Buffer.alloc(0)]) {
      await page.locator('main header').getByRole('button', { name: 'More' }).click();
      const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.getByRole('menuitem', { name: 'Open a saved state' }).click()]);
      await chooser.setFiles({ name: 'x.zambastate', mimeType: 'application/octet-stream', buffer });
      const alert = page.getByRole('alert').last();
      await alert.waitFor();
      assert.ok((await alert.innerText()).length > 15);
      await alert.getByRole('button', { name: 'Close' }).click();
    }
    assert.equal((await s.call('GET', '/page/v1/chats')).total, before, 'no chat was begun');
    page.quiet();
  },
};
