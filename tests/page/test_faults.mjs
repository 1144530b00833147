// test_faults.mjs — a server that wants a key or is of another version, a disk that is full, a damaged database, a model that
// disappears, streams that are cut: the page says what happened in plain words, keeps what was typed, and recovers by itself
// when it can. (Reloads, kills, no network, two tabs: test_trouble.mjs.)
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, cpSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { answers, ended, field, longAnswers, menu, mine, newest, say, stopped, textOf, type, writing } from './acts.mjs';
import { accessible, bootstrapped, opened, skip, until } from './browser.mjs';
import { Line, withServer } from './server.mjs';

export const server = {};
const network = /Failed to load resource|net::ERR|ERR_CONNECTION|Failed to fetch/;
const short = { settings: { max_tokens: 8, temperature: 0 } };
const alert = (page, text) => page.getByRole('alert').filter({ hasText: text });

/** The folder of the chats on a disk of its own, of so many MiB. */
const smallDisk = (mib) => ({ slow: true, under: (s) => ['unshare', '-rm', 'sh', '-c', `mount -t tmpfs -o size=${mib}m tmpfs "$0" && exec "$@"`, s.data] });
const canMount = () => spawnSync('unshare', ['-rm', 'sh', '-c', 'mount -t tmpfs -o size=1m tmpfs /mnt']).status === 0;
function fill(s) {
  const file = `/proc/${s.process.pid}/root${s.data}/filler`; // in the server's own view of the files
  const fd = openSync(file, 'w');
  for (const size of [1 << 16, 1 << 12])
    for (const b = Buffer.alloc(size, 1); ; ) {
      try {
        if (writeSync(fd, b) < size) break;
      } catch (e) {
        if (e.code !== 'ENOSPC') throw e;
        break;
      }
    }
  closeSync(fd);
  return () => unlinkSync(file);
}

/** A second model in a folder that can be taken away. */
const withSecond = {
  prepare(s) {
    s.models = join(s.folder, 'models');
    mkdirSync(s.models);
    s.second = () => cpSync(s.o.model, join(s.models, 'second'), { recursive: true });
    s.second();
  },
  options: (s) => ['--models-dir', s.models],
};

export const tests = {
  async 'a key is asked for'({ browser, options }) {
    return withServer(options, { options: ['--api-key', 'the-first-key'] }, async (s) => {
      const page = await opened(browser, s.url, { allowed: /status of 401|net::ERR|ERR_CONNECTION|Failed to load/ });
      await page.goTo('/');
      const form = page.getByRole('heading', { name: 'This server wants a key' });
      await form.waitFor();
      await accessible(page, 'the form for the key');
      await type(page, 'typed before the key');
      const use = async (key) => {
        await page.getByLabel('Key', { exact: true }).fill(key);
        await page.getByRole('button', { name: 'Use key' }).click();
      };
      await use('a wrong one');
      await alert(page, 'The server did not take this key').waitFor();
      await use('the-first-key');
      await until('it is taken', async () => !(await form.isVisible()));
      assert.equal(await field(page).inputValue(), 'typed before the key');
      await field(page).press('Enter');
      await until('an answer', async () => (await answers(page).count()) === 1);
      await stopped(page);
      await page.reload();
      await until('the chat is there without asking again', async () => (await mine(page).count()) === 1 && !(await form.isVisible()));
      // the server comes back with another key
      await type(page, 'typed meanwhile');
      await s.stop();
      s.needs = { options: ['--api-key', 'another-key'] };
      await s.start();
      await form.waitFor();
      await use('another-key');
      await until('it is taken', async () => !(await form.isVisible()));
      await until('the field', async () => (await field(page).inputValue()) === 'typed meanwhile');
      assert.equal(await page.getByText('The server does not answer').isVisible(), false);
      await page.goTo('/settings');
      await page.getByRole('button', { name: 'Forget the key' }).click();
      await form.waitFor();
      page.quiet();
    });
  },

  async 'a server of another version'({ browser, server: s, url }) {
    const page = await opened(browser, url, { allowed: network });
    const id = await s.chat([['user', 'hello'], ['assistant', 'good day']]);
    await page.goTo(`/c/${id}`);
    await answers(page).first().waitFor();
    await type(page, 'half a thought');
    const same = await bootstrapped(page, (boot) => ({ ...boot, build: 'another', version: '9.9.9' }));
    await s.stop();
    await s.start();
    const said = page.getByText('The server is of another version than this page.');
    await said.waitFor();
    // a view of the page that was not yet loaded is not there any more
    await page.route('**/assets/help-view*', (r) => r.fulfill({ status: 404, body: '' }));
    await page.keyboard.press('Escape');
    await page.locator('main').focus();
    await page.keyboard.press('?');
    await page.getByRole('heading', { name: 'This view could not be loaded' }).first().waitFor();
    await accessible(page, 'a view that could not be loaded');
    await page.unroute('**/assets/help-view*');
    await same();
    await page.locator('.banner').getByRole('button', { name: 'Reload' }).click();
    await page.getByRole('heading', { name: 'Keyboard and help' }).waitFor();
    assert.equal(await said.isVisible(), false);
    await page.goTo(`/c/${id}`);
    await until('the draft', async () => (await field(page).inputValue()) === 'half a thought');
    page.quiet();
  },

  async 'a server that says less than this page knows of'({ browser, url }) {
    const page = await opened(browser, url);
    await bootstrapped(page, ({ version, needs_key, authorized, model }) => ({ version, needs_key, authorized, model, protocol: 0, build: '' }));
    for (const path of ['/', '/history', '/settings', '/notebook', '/dashboard']) {
      await page.goTo(path);
      await page.getByText('The server is of another version than this page.').waitFor();
      assert.equal(await page.getByText('This view stopped working').count(), 0, path);
    }
    page.quiet();
  },

  async 'a full disk'({ browser, options }) {
    if (!canMount()) throw skip('no disk of a size of its own can be mounted here');
    return withServer(options, smallDisk(2), async (s) => {
      const page = await opened(browser, s.url, { allowed: /status of 507/ });
      const id = await s.chat([['user', 'hello'], ['assistant', 'good day']], { ...short, title: 'Before' });
      await page.goTo(`/c/${id}`);
      await answers(page).first().waitFor();
      const free = fill(s);
      const long = 'a thought that must not be lost, '.repeat(400);
      await type(page, long);
      await field(page).press('Enter');
      await alert(page, 'The disk is full').waitFor();
      assert.equal(await field(page).inputValue(), long);
      assert.equal(await mine(page).count(), 1, 'nothing was changed');
      await page.reload();
      await until('what was written before can be read', async () => (await answers(page).count()) === 1);
      await until('the draft', async () => (await field(page).inputValue()) === long);
      free();
      await type(page, 'Once upon a time');
      await field(page).press('Enter');
      await until('it is answered', async () => (await answers(page).count()) === 2);
      await ended(page);
      page.quiet();
    });
  },

  async 'a disk that fills in the middle of an answer'({ browser, options }) {
    if (!canMount()) throw skip('no disk of a size of its own can be mounted here');
    return withServer(options, smallDisk(2), async (s) => {
      const page = await opened(browser, s.url, { allowed: /status of 507/ });
      await longAnswers(page, s, 150);
      await writing(page);
      const free = fill(s);
      const state = await ended(page, 120000);
      const text = await textOf(newest(page));
      assert.ok(text.length > 100, text);
      free();
      await say(page, 'And then?');
      await stopped(page);
      await page.reload();
      await until('both are there', async () => (await answers(page).count()) === 2);
      assert.ok((await textOf(answers(page).first())).startsWith(text.slice(0, 20)));
      page.quiet();
      return `it was told as "${state}"`;
    });
  },

  async 'a damaged database'({ browser, options }) {
    return withServer(options, {}, async (s) => {
      const page = await opened(browser, s.url, { allowed: /net::ERR|ERR_CONNECTION|Failed to (load|fetch)/ });
      const id = await s.chat([['user', 'hello'], ['assistant', 'good day']], { ...short, title: 'Of old' });
      await page.goTo(`/c/${id}`);
      await answers(page).first().waitFor();
      await type(page, 'half a thought');
      await s.stop();
      const file = join(s.data, 'history.db');
      writeFileSync(file, Buffer.alloc(readFileSync(file).length, 'no database '));
      for (const more of ['-wal', '-shm']) rmSync(file + more, { force: true });
      await s.start();
      const said = page.getByText(/The history was damaged. It was kept as history\.db\.damaged-/);
      await said.waitFor();
      await accessible(page, 'a damaged history');
      assert.ok(existsSync(join(s.data, /history\.db\.damaged-[\w-]+/.exec(await said.innerText())[0])));
      await until('a chat that is gone is left', () => new URL(page.url()).pathname === '/');
      await until('what was typed comes along', async () => (await field(page).inputValue()) === 'half a thought');
      await page.locator('.banner').getByRole('button', { name: 'Hide' }).click();
      assert.equal(await said.count(), 0);
      await field(page).press('Enter');
      await until('it is answered', async () => (await answers(page).count()) === 1);
      await stopped(page);
      page.quiet();
    });
  },

  async 'a database of a newer version'({ browser, options }) {
    return withServer(options, {}, async (s) => {
      const id = await s.chat([['user', 'hello'], ['assistant', 'good day']], { title: 'Readable' });
      await s.stop();
      const fd = openSync(join(s.data, 'history.db'), 'r+');
      writeSync(fd, Buffer.from([0, 0, 0, 99]), 0, 4, 60); // user_version in the file's header
      closeSync(fd);
      await s.start();
      const page = await opened(browser, s.url, { allowed: /status of 409/ });
      await page.goTo(`/c/${id}`);
      await until('it can be read', async () => (await answers(page).count()) === 1);
      await page.locator('.banner', { hasText: /newer/ }).waitFor();
      await type(page, 'not to be kept');
      await field(page).press('Enter');
      await alert(page, 'can only be read').waitFor();
      assert.equal(await field(page).inputValue(), 'not to be kept');
      page.quiet();
    });
  },

  async 'a folder that another server has'({ browser, server: s, options }) {
    return withServer(options, {}, async (other) => {
      await other.stop();
      other.data = s.data;
      await other.start();
      const page = await opened(browser, other.url);
      await page.goTo('/');
      await page.locator('.banner', { hasText: `http://127.0.0.1:${s.port}` }).waitFor();
      await page.locator('.banner', { hasText: 'Chats are not kept' }).waitFor();
      await say(page, 'Once upon a time');
      await stopped(page);
      page.quiet();
    });
  },

  async 'switching models, and a model that disappears'({ browser, options }) {
    const first = new RegExp(`^${basename(options.model)}`);
    return withServer(options, withSecond, async (s) => {
      const page = await opened(browser, s.url, { allowed: /status of (404|503)/ });
      await page.goTo('/');
      await page.evaluate(() => {
        window.loads = [];
        new MutationObserver(() => document.querySelectorAll('.model-progress [role=progressbar], .msg .phase').forEach((b) => window.loads.push(b.getAttribute('aria-label') ?? b.textContent)))
          .observe(document.getElementById('main'), { subtree: true, childList: true, attributes: true, characterData: true });
      });
      await page.getByRole('button', { name: /^Model: / }).click();
      await page.getByRole('menuitem', { name: /^second/ }).click();
      await page.getByRole('button', { name: 'Model: second' }).waitFor();
      await until('it is loaded', async () => (await s.call('GET', '/page/v1/models')).models.find((m) => m.name === 'second').phase === 'ready');
      await until('its loading was shown', () => page.evaluate(() => window.loads.some((x) => /Loading second/.test(x))));
      await page.getByRole('button', { name: 'Settings of this chat' }).click();
      await page.getByLabel('Longest answer').fill('8');
      await page.getByRole('dialog').getByRole('button', { name: 'Save', exact: true }).click();
      await say(page, 'Once upon a time');
      assert.equal(await ended(page), 'done');
      assert.equal(await newest(page).getAttribute('aria-label'), 'second');
      await page.getByRole('button', { name: 'Model: second' }).click();
      await page.getByRole('menuitem', { name: 'Unload' }).click();
      await until('it is unloaded', async () => (await s.call('GET', '/page/v1/models')).models.find((m) => m.name === 'second').phase === 'absent');
      rmSync(join(s.models, 'second'), { recursive: true });
      await say(page, 'And then?');
      assert.equal(await ended(page), 'error');
      const why = await newest(page).locator('.msg-note').innerText();
      assert.match(why, /The answer failed: .*second/);
      assert.doesNotMatch(why, new RegExp(s.folder), 'no path of the server');
      assert.equal(await textOf(mine(page).last()), 'And then?', 'what was typed is kept');
      // another model answers it
      await page.getByRole('button', { name: 'Model: second' }).click();
      await page.getByRole('menuitem', { name: first }).click();
      await page.getByRole('button', { name: new RegExp(`^Model: ${first.source.slice(1)}`) }).waitFor();
      await newest(page).getByRole('button', { name: 'Regenerate' }).click();
      await newest(page).getByText('2/2').waitFor();
      assert.equal(await ended(page), 'done');
      // and it comes back
      s.second();
      await page.getByRole('button', { name: new RegExp(`^Model: ${first.source.slice(1)}`) }).click();
      await page.getByRole('menuitem', { name: /^second/ }).click();
      await page.getByRole('button', { name: 'Model: second' }).waitFor();
      await newest(page).getByRole('button', { name: 'Regenerate' }).click();
      await newest(page).getByText('3/3').waitFor();
      assert.equal(await ended(page), 'done');
      page.quiet();
    });
  },

  async 'streams that are cut again and again'({ browser, options }) {
    return withServer(options, { slow: true }, async (s) => {
      const line = await new Line(s.url).start();
      try {
        const page = await opened(browser, line.url, { allowed: network });
        const id = await longAnswers(page, s, 200, 'Write of çà et là, 日本 and 🦊');
        let n = 0;
        line.after('/events?from=', () => 900 + 37 * n++); // in the middle of events, lines, letters
        line.cut();
        assert.equal(await ended(page, 180000), 'done');
        line.after(null);
        assert.ok(line.cuts > 2, `cut ${line.cuts} times`);
        const node = (await s.call('GET', `/page/v1/chats/${id}`)).nodes.at(-1);
        await menu(page, newest(page), 'Show plain text');
        assert.equal(await newest(page).locator('.plain').evaluate((e) => e.textContent), node.content);
        page.quiet();
        return `cut ${line.cuts} times`;
      } finally {
        line.end();
      }
    });
  },

  async 'a reply that does not come: sent again, made once'({ browser, server: s, url }) {
    const line = await new Line(url).start();
    try {
      const page = await opened(browser, line.url, { allowed: network });
      const { id } = await s.call('POST', '/page/v1/chats', short);
      const before = (await s.call('GET', '/page/v1/chats')).total;
      for (const path of [`/c/${id}`, '/']) {
        await page.goTo(path);
        line.after('/answers HTTP', () => 0);
        await type(page, 'Once upon a time');
        await field(page).press('Enter');
        await alert(page, 'The server does not answer').first().waitFor();
        assert.equal(await field(page).inputValue(), 'Once upon a time');
        line.after(null);
        await until('the page is back', async () => !(await page.locator('.banner.bad').isVisible()));
        await field(page).press('Enter');
        await until('it is there', async () => (await mine(page).count()) === 1 && (await answers(page).count()) === 1);
        await stopped(page);
        assert.equal(await field(page).inputValue(), '');
        const made = /\/c\/(\w+)/.exec(page.url())[1];
        assert.equal((await s.call('GET', `/page/v1/chats/${made}`)).nodes.length, 2);
      }
      assert.equal((await s.call('GET', '/page/v1/chats')).total, before + 1, 'no chat was made twice');
      page.quiet();
    } finally {
      line.end();
    }
  },
};
