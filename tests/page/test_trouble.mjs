// test_trouble.mjs — what goes wrong: a reload or the end of the server in the middle of an answer, two tabs, no network,
// a model that is not there. Nothing that was typed or written is lost, and the page goes on by itself.
import assert from 'node:assert/strict';
import { answers, chatId, ended, field, longAnswers, mine, newest, stopped, textOf, type, writing } from './acts.mjs';
import { opened, until } from './browser.mjs';

export const server = { slow: true };
const network = /Failed to load resource|net::ERR|ERR_CONNECTION|Failed to fetch/;

export const tests = {
  async 'reload in the middle'({ browser, server: s, url }) {
    const page = await opened(browser, url, { allowed: network });
    await longAnswers(page, s, 300);
    await writing(page);
    const before = (await textOf(newest(page))).trim();
    await page.reload();
    await until('the answer is there again', async () => (await answers(page).count()) === 1);
    await until('it has gone on', async () => (await textOf(newest(page))).trim().length > before.length);
    assert.ok((await textOf(newest(page))).trim().startsWith(before.slice(0, 60)));
    assert.equal(await ended(page, 120000), 'done');
    page.quiet();
  },

  async 'server killed and started again'({ browser, server: s, url }) {
    const page = await opened(browser, url, { allowed: network });
    const id = await longAnswers(page, s, 400);
    await writing(page, 60);
    await until('some of it is in the database', async () => (await s.call('GET', `/page/v1/chats/${id}`)).nodes.at(-1).content.length > 40);
    await new Promise((r) => setTimeout(r, 2500)); // "about every second"
    await s.kill();
    await page.getByText('The server does not answer').waitFor();
    await type(page, 'typed while it was away');
    await s.start();
    await until('the page notices', async () => !(await page.getByText('The server does not answer').isVisible()));
    assert.equal(await ended(page), 'interrupted');
    assert.ok((await textOf(newest(page))).length > 20, 'what was written is there');
    assert.equal(await field(page).inputValue(), 'typed while it was away');
    await newest(page).getByRole('button', { name: 'Continue', exact: true }).click();
    const before = (await textOf(newest(page))).length;
    await until('it goes on', async () => (await textOf(newest(page))).length > before + 10);
    await page.locator('form.composer').getByRole('button', { name: 'Stop' }).click();
    await ended(page);
    page.quiet();
  },

  async 'two tabs'({ browser, server: s, url }) {
    const one = await opened(browser, url);
    const id = await longAnswers(one, s, 120);
    const two = await opened(browser, url, { context: one.context() });
    await two.goTo(`/c/${id}`);
    await until('the answer in both', async () => (await answers(two).count()) === 1);
    await ended(one);
    await ended(two);
    assert.equal(await textOf(newest(two)), await textOf(newest(one)));
    await s.call('PATCH', `/page/v1/chats/${id}`, { title: 'Told to both' });
    for (const page of [one, two]) await page.getByRole('heading', { name: 'Told to both' }).waitFor();
    await Promise.all([type(one, 'from one'), type(two, 'from two')]);
    await field(one).press('Enter');
    await until('what the other said', async () => (await two.locator('main').innerText()).length > 0 && (await s.call('GET', `/page/v1/chats/${id}`)).nodes.length >= 4);
    assert.equal(await field(two).inputValue(), 'from two', 'what is typed in one tab stays when the other sends');
    await two.close();
    await stopped(one);
    one.quiet();
    two.quiet();
  },

  async 'deleted in another tab'({ browser, server: s, url }) {
    const page = await opened(browser, url, { allowed: /404/ });
    const id = await s.chat([['user', 'hello'], ['assistant', 'good day']]);
    await page.goTo(`/c/${id}`);
    await answers(page).first().waitFor();
    await s.call('DELETE', `/page/v1/chats/${id}`);
    await until('it is told', async () => /not there any more|New chat|What shall we talk about/.test(await page.locator('main').innerText()));
    page.quiet();
  },

  async 'offline and back'({ browser, server: s, url }) {
    const page = await opened(browser, url, { allowed: network });
    const id = await s.chat([['user', 'hello'], ['assistant', 'good day']], { settings: { max_tokens: 8 } });
    await page.goTo(`/c/${id}`);
    await answers(page).first().waitFor();
    await page.context().setOffline(true);
    await type(page, 'are you there?');
    await field(page).press('Enter');
    await page.getByText(/server does not answer/i).first().waitFor();
    assert.equal(await field(page).inputValue(), 'are you there?', 'what was typed is kept');
    await page.context().setOffline(false);
    const again = page.getByRole('button', { name: 'Try now' });
    if (await again.isVisible()) await again.click({ timeout: 2000 }).catch(() => {}); // it may find the server first
    await until('the page is back', async () => !(await page.getByText('The server does not answer. Trying').isVisible()));
    await field(page).press('Enter');
    await until('it was sent', async () => (await mine(page).count()) === 2);
    await ended(page);
    page.quiet();
  },

  async 'no such address, no such chat, no such model'({ browser, url }) {
    const page = await opened(browser, url, { allowed: /404/ });
    await page.goTo('/c/0123456789abcdef01234567');
    await page.getByText(/not there any more/).waitFor();
    await page.goTo('/model/nobody');
    await page.getByRole('alert').waitFor();
    page.quiet();
  },

  async 'a draft survives a reload'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    const id = await s.chat([['user', 'hello'], ['assistant', 'good day']]);
    await page.goTo(`/c/${id}`);
    await type(page, 'half a thought');
    await page.reload();
    await until('the draft', async () => (await field(page).inputValue()) === 'half a thought');
    assert.equal(chatId(page), id);
    page.quiet();
  },
};
