// test_chat.mjs — chatting as people do: send, stop, go on, regenerate, edit, branch, side by side, settings, files.
import assert from 'node:assert/strict';
import { answers, chatId, ended, field, longAnswers, menu, mine, newest, say, stopped, textOf, type, writing } from './acts.mjs';
import { opened, until } from './browser.mjs';

export const server = { slow: true };
const short = { settings: { max_tokens: 12, temperature: 0 } };

async function begun({ browser, server: s, url }, more = short) {
  const page = await opened(browser, url);
  const chat = await s.call('POST', '/page/v1/chats', more);
  await page.goTo(`/c/${chat.id}`);
  return page;
}

export const tests = {
  'send from the first page'({ browser, url }) {
    return opened(browser, url).then(async (page) => {
      await page.goTo('/');
      await type(page, 'Tell me about a dog.');
      await field(page).press('Enter');
      await until('the address of the chat', () => chatId(page));
      await until('an answer', async () => (await answers(page).count()) === 1);
      assert.equal(await textOf(mine(page).first()), 'Tell me about a dog.');
      assert.equal(await field(page).inputValue(), '');
      await stopped(page);
      page.quiet();
    });
  },

  async 'facts of an answer'(t) {
    const page = await begun(t);
    await say(page, 'Once upon a time');
    assert.equal(await ended(page), 'done');
    const facts = await newest(page).locator('footer').innerText();
    assert.match(facts, /tokens\/s/);
    assert.match(facts, /first token after/);
    const { nodes: [, { usage }] } = await t.server.call('GET', `/page/v1/chats/${chatId(page)}`);
    assert.ok(usage.generated > 0 && facts.split('\n').includes(`${usage.generated} tokens`), facts);
    await say(page, 'And then?');
    await ended(page);
    assert.match(await newest(page).locator('footer').innerText(), /read from the cache/);
    page.quiet();
  },

  async 'stop, then continue'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    await longAnswers(page, s);
    await writing(page);
    await page.locator('form.composer').getByRole('button', { name: 'Stop' }).click();
    assert.equal(await ended(page), 'stopped');
    const before = await textOf(newest(page));
    assert.ok(before.length > 10);
    await newest(page).getByRole('button', { name: 'Continue', exact: true }).click();
    await until('it goes on', async () => (await textOf(newest(page))).length > before.length + 10);
    await page.keyboard.press('Escape');
    await ended(page);
    assert.ok((await textOf(newest(page))).startsWith(before.trim().slice(0, 40)));
    page.quiet();
  },

  async 'regenerate makes a version'(t) {
    const page = await begun(t, { settings: { max_tokens: 12, temperature: 1 } });
    await say(page, 'Once upon a time');
    await ended(page);
    await newest(page).getByRole('button', { name: 'Regenerate' }).click();
    await newest(page).getByText('2/2').waitFor();
    await ended(page);
    const second = await textOf(newest(page));
    await newest(page).getByRole('button', { name: 'Previous version' }).click();
    await newest(page).getByText('1/2').waitFor();
    await newest(page).getByRole('button', { name: 'Next version' }).click();
    await newest(page).getByText('2/2').waitFor();
    assert.equal(await textOf(newest(page)), second);
    page.quiet();
  },

  async 'edit both sides, go back, branch'(t) {
    // short answers: of long ones only what is near the view is in the document
    const page = await begun(t, { settings: { max_tokens: 24, temperature: 1 } });
    await say(page, 'A cat sat');
    await ended(page);
    await mine(page).first().getByRole('button', { name: 'Edit' }).click();
    await page.getByRole('textbox', { name: 'Edit' }).fill('A bird flew');
    await page.getByRole('button', { name: 'Save and answer' }).click();
    await mine(page).first().getByText('2/2').waitFor();
    await until('the answer', async () => (await answers(page).count()) === 1);
    await ended(page);
    assert.equal(await textOf(mine(page).first()), 'A bird flew');
    await newest(page).getByRole('button', { name: 'Edit' }).click();
    await page.getByRole('textbox', { name: 'Edit' }).fill('It flew far away.');
    await page.getByRole('button', { name: 'Save as a branch' }).click();
    await newest(page).getByText('It flew far away.').waitFor();
    await say(page, 'And then?');
    await until('a second answer', async () => (await answers(page).count()) === 2);
    await ended(page);
    assert.equal(await answers(page).count(), 2);
    await mine(page).first().getByRole('button', { name: 'Previous version' }).click();
    await until('the first branch', async () => (await textOf(mine(page).first())) === 'A cat sat');
    assert.equal(await answers(page).count(), 1);
    page.quiet();
  },

  async 'tree and side by side'(t) {
    const page = await begun(t, { settings: { max_tokens: 8, temperature: 1 } });
    await say(page, 'One day');
    await ended(page);
    await newest(page).getByRole('button', { name: 'Regenerate' }).click();
    await newest(page).getByText('2/2').waitFor();
    await ended(page);
    await page.goTo(`/c/${chatId(page)}/tree`);
    await page.getByRole('heading', { name: 'Branches' }).first().waitFor();
    await page.getByText(/States in memory: /).waitFor();
    await page.goTo(`/compare/${chatId(page) ?? page.url().split('/')[4]}`);
    await page.getByRole('heading', { name: 'Side by side' }).first().waitFor();
    page.quiet();
  },

  async 'retry with other settings'(t) {
    const page = await begun(t);
    await say(page, 'The little girl');
    await ended(page);
    await menu(page, newest(page), 'Retry with other settings, side by side');
    await page.getByRole('dialog').getByRole('button', { name: 'Answer', exact: true }).click();
    await until('the two side by side', () => /\/compare\//.test(page.url()));
    await until('two answers', async () => (await page.locator('article.msg.assistant').count()) >= 2);
    page.quiet();
  },

  async 'a file dropped in'(t) {
    const page = await begun(t);
    const data = await page.evaluateHandle(() => {
      const d = new DataTransfer();
      d.items.add(new File(['int main(void) { return 0; }\n'], 'main.c', { type: 'text/x-c' }));
      return d;
    });
    await page.dispatchEvent('form.composer', 'drop', { dataTransfer: data });
    await page.getByText('main.c').waitFor();
    await type(page, 'What is this?');
    await field(page).press('Enter');
    await until('the message', async () => (await mine(page).count()) === 1);
    assert.match(await textOf(mine(page).first()), /int main/);
    await ended(page);
    page.quiet();
  },

  async 'system prompt and sampling of a chat'(t) {
    const page = await begun(t);
    await page.getByRole('button', { name: 'Settings of this chat' }).first().click();
    await page.getByLabel('System prompt').fill('You tell short tales.');
    await page.getByLabel('Temperature').fill('0.3');
    await page.getByRole('dialog').getByRole('button', { name: 'Save', exact: true }).click();
    await until('it is kept', async () => (await t.server.call('GET', `/page/v1/chats/${chatId(page)}`)).chat.system === 'You tell short tales.');
    const { chat } = await t.server.call('GET', `/page/v1/chats/${chatId(page)}`);
    assert.equal(chat.settings.temperature, 0.3);
    page.quiet();
  },

  async 'stop strings of a chat'(t) {
    const page = await begun(t, { settings: { max_tokens: 60, temperature: 0, ignore_eos: true } });
    await say(page, 'Once upon a time');
    await ended(page);
    const whole = await textOf(newest(page));
    const word = whole.split(' ').find((w, i) => i > 3 && /^[a-z]{3,}$/.test(w));
    await page.getByRole('button', { name: 'Settings of this chat' }).first().click();
    await page.getByLabel('Stop strings').fill(`${word}\n`);
    await page.getByRole('dialog').getByRole('button', { name: 'Save', exact: true }).click();
    await until('it is kept', async () => (await t.server.call('GET', `/page/v1/chats/${chatId(page)}`)).chat.settings.stop?.[0] === word);
    await newest(page).getByRole('button', { name: 'Regenerate' }).click();
    await newest(page).getByText('2/2').waitFor();
    await ended(page);
    const cut = await textOf(newest(page));
    assert.ok(cut.length < whole.length && !cut.includes(word), `"${cut}" before "${word}" of "${whole}"`);
    page.quiet();
  },

  async 'presets: saved, chosen in another chat, changed, deleted'(t) {
    const page = await begun(t);
    const dialog = page.getByRole('dialog', { name: 'Settings of this chat' });
    const open = () => page.getByRole('button', { name: 'Settings of this chat' }).first().click();
    const keep = async (name) => {
      await dialog.getByRole('button', { name: 'Save as preset' }).click();
      const asked = page.getByRole('dialog', { name: 'Name of the preset' });
      await asked.getByRole('textbox').fill(name);
      await asked.getByRole('button', { name: 'Save', exact: true }).click();
    };
    const list = async () => (await t.server.call('GET', '/page/v1/presets')).presets;
    await open();
    await page.getByLabel('System prompt').fill('You are brief.');
    await page.getByLabel('Temperature').fill('0.2');
    await page.getByLabel('Stop strings').fill('END');
    await keep('Brief');
    await until('it is kept', async () => (await list()).length === 1);
    assert.deepEqual((await list()).map((p) => [p.name, p.system, p.settings.temperature, p.settings.stop[0]]), [['Brief', 'You are brief.', 0.2, 'END']]);
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    assert.equal((await t.server.call('GET', `/page/v1/chats/${chatId(page)}`)).chat.system, '', 'the chat itself was not changed');
    // for a chat that begins
    await page.goTo('/');
    await open();
    await dialog.getByLabel('Preset', { exact: true }).selectOption({ label: 'Brief' });
    assert.equal(await page.getByLabel('System prompt').inputValue(), 'You are brief.');
    assert.equal(await page.getByLabel('Temperature').inputValue(), '0.2');
    await page.getByLabel('Longest answer').fill('6');
    await dialog.getByRole('button', { name: 'Save', exact: true }).click();
    await say(page, 'Once upon a time');
    await ended(page);
    const { chat } = await t.server.call('GET', `/page/v1/chats/${chatId(page)}`);
    assert.deepEqual([chat.system, chat.settings.temperature, chat.settings.stop, chat.settings.max_tokens], ['You are brief.', 0.2, ['END'], 6]);
    // changed under its name, and seen in another tab
    const other = await opened(t.browser, t.url, { context: page.context() });
    await other.goTo('/settings');
    await other.getByText('Brief', { exact: true }).waitFor();
    await open();
    await dialog.getByLabel('Preset', { exact: true }).selectOption({ label: 'Brief' });
    await page.getByLabel('System prompt').fill('You are very brief.');
    await keep('Brief');
    await until('it is changed', async () => (await list())[0].system === 'You are very brief.');
    assert.equal((await list()).length, 1);
    await other.getByText('You are very brief.').waitFor();
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await other.getByRole('button', { name: 'Delete preset: Brief' }).click();
    await other.getByText('No presets yet').waitFor();
    assert.deepEqual(await list(), []);
    page.quiet();
    other.quiet();
  },

  async 'keyboard alone'(t) {
    const page = await begun(t);
    await field(page).focus();
    await page.keyboard.type('Hello there');
    await page.keyboard.press('Enter');
    await until('an answer', async () => (await answers(page).count()) === 1);
    await ended(page);
    await page.locator('main').focus();
    await page.keyboard.press('r');
    await newest(page).getByText('2/2').waitFor();
    await ended(page);
    await page.locator('main').focus();
    await page.keyboard.press('e');
    await page.getByRole('textbox', { name: 'Edit' }).waitFor();
    await page.keyboard.press('Escape');
    await page.locator('main').focus();
    await page.keyboard.press('?');
    await until('the list of keys', () => page.url().endsWith('/help'));
    await page.getByRole('heading', { name: 'Keyboard and help' }).waitFor();
    page.quiet();
  },
};
