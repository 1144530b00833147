// test_everyone.mjs — for everyone: each control reached by the Tab key, targets large enough for fingers, text from right to
// left, reduced motion, another language, a phone from end to end.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { answers, ended, field, mine, newest, say, stopped, textOf, type } from './acts.mjs';
import { accessible, fits, opened, until } from './browser.mjs';
import { prepare, rested, views } from './test_looking.mjs';

export const server = { prepare };
const names = ['start', 'chat', 'tree', 'compare', 'notebook', 'history', 'models', 'model', 'dashboard', 'training', 'run', 'charts', 'settings', 'help'];
export const phone = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

/** Texts of a language as its file has them. */
const texts = (file) => {
  const source = readFileSync(new URL(`../../web/src/i18n/${file}.ts`, import.meta.url), 'utf8');
  return Object.fromEntries([...source.matchAll(/'([\w.]+)': '((?:[^'\\]|\\.)*)'/g)].map(([, k, v]) => [k, v.replace(/\\(.)/g, '$1')]));
};

const tests = {};
for (const name of names) {
  tests[`by Tab, for fingers: ${name}`] = async ({ browser, server: s, url }) => {
    const path = (await views(s))[name];
    const page = await opened(browser, url, phone);
    await page.goTo(path);
    await rested(page);
    const small = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [role=menuitem]')]
      .filter((e) => e.checkVisibility({ checkVisibilityCSS: true }) && !e.closest('.sr, .skip') && !(e.tagName === 'A' && getComputedStyle(e).display === 'inline'))
      .map((e) => [e, (e.matches('[type=checkbox], [type=radio]') ? e.closest('label') ?? e : e).getBoundingClientRect()])
      .filter(([, r]) => r.width < 43.5 || r.height < 43.5)
      .map(([e, r]) => `${e.tagName} ${e.getAttribute('aria-label') ?? e.textContent.slice(0, 30)}: ${Math.round(r.width)} x ${Math.round(r.height)}`));
    assert.deepEqual(small, [], 'smaller than 44 x 44');
    await page.context().close();

    const wide = await opened(browser, url);
    await wide.goTo(path);
    await rested(wide);
    await wide.evaluate(() => document.activeElement?.blur());
    const count = await wide.evaluate(() => {
      window.wanted = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')]
        .filter((e) => e.checkVisibility({ checkVisibilityCSS: true }) && !e.disabled && e.tabIndex >= 0 && !(e.type === 'radio' && !e.checked));
      window.reached = new Set();
      document.addEventListener('focusin', (e) => window.reached.add(e.target));
      return window.wanted.length;
    });
    for (let i = 0; i < count + 12; i++) await wide.keyboard.press('Tab');
    const left = await wide.evaluate(() => window.wanted.filter((e) => e.isConnected && !window.reached.has(e)).map((e) => e.outerHTML.slice(0, 120)));
    assert.deepEqual(left, [], 'not reached by Tab');
    // nothing works with the mouse alone
    const mouse = await wide.evaluate(() => [...document.querySelectorAll('main [onclick], main [class*=clickable]')].map((e) => e.outerHTML.slice(0, 120)));
    assert.deepEqual(mouse, []);
    wide.quiet();
    page.quiet();
    return `${count} controls`;
  };

  tests[`in German: ${name}`] = async ({ browser, server: s, url }) => {
    const path = (await views(s))[name];
    const page = await opened(browser, url, { locale: 'de-DE' });
    await page.goTo(path);
    await rested(page);
    assert.equal(await page.evaluate(() => document.documentElement.lang), 'de');
    const [en, de] = [texts('en'), texts('de')];
    const german = new Set(Object.values(de).flatMap((x) => x.split('|')));
    const english = Object.values(en).flatMap((x) => x.split('|')).filter((x) => !german.has(x) && !x.includes('{'));
    const shown = await page.evaluate(() => {
      const out = [];
      const walk = document.createTreeWalker(document.getElementById('app'), NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) if (!walk.currentNode.parentElement.closest('.md, .nb-text, svg title')) out.push(walk.currentNode.data.trim());
      for (const e of document.querySelectorAll('[aria-label], [title], [placeholder]')) out.push(e.getAttribute('aria-label') ?? '', e.getAttribute('title') ?? '', e.getAttribute('placeholder') ?? '');
      return out.filter(Boolean);
    });
    assert.deepEqual(shown.filter((x) => english.includes(x)), [], 'not translated');
    for (const width of [360, 820, 1280]) {
      await page.setViewportSize({ width, height: 800 });
      await page.waitForTimeout(100);
      await fits(page, `${name} in German at ${width}`);
      // words that are cut off by their own box
      const cut = await page.evaluate(() => [...document.querySelectorAll('button, .side-nav a, th, h1, h2, .pill, .view-tile dt, summary, label')]
        .filter((e) => e.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true }) && !e.closest('.sr, .skip') && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible' && getComputedStyle(e).textOverflow !== 'ellipsis')
        .map((e) => e.outerHTML.slice(0, 140)));
      assert.deepEqual(cut, [], `cut off at ${width}`);
    }
    await accessible(page, `${name} in German`);
    page.quiet();
  };
}

const ARABIC = [
  ['user', 'ما هو النموذج الهجين؟ أجب بقائمة وجدول.'],
  ['assistant', 'النموذج الهجين يمزج **نوعين** من الطبقات:\n\n1. الانتباه، ويحفظ كل كلمة.\n2. فضاء الحالة، وله `state` بحجم ثابت.\n\n> ما يُقرأ مرة لا يُقرأ ثانية.\n\n| النوع | الذاكرة |\n| --- | --- |\n| الانتباه | تنمو |\n| فضاء الحالة | ثابتة |\n\n```python\nprint("שלום")  # مرحبا\n```\n'],
  ['user', 'תודה! ומה עם Zamba2 (1.2B)?'],
  ['assistant', 'בבקשה. הגודל הוא 1.2B פרמטרים, והקצב 40 tokens/s.\n\nAnd this paragraph is in English, so it begins at the left.'],
];

Object.assign(tests, {
  async 'from right to left'({ browser, server: s, url }) {
    const id = await s.chat(ARABIC, { title: 'ما هو النموذج الهجين؟', system: 'أجب باختصار.' });
    for (const options of [{}, phone]) {
      const page = await opened(browser, url, options);
      await page.goTo(`/c/${id}`);
      await page.locator('.msg table td').first().waitFor();
      const dir = (what) => page.locator(what).first().evaluate((e) => getComputedStyle(e).direction);
      for (const what of ['.msg.user .md p', '.msg.assistant .md p', '.msg.assistant .md ol li', '.msg.assistant .md blockquote', '.msg.assistant .md td', '.bar h1', '.under-bar span']) assert.equal(await dir(what), 'rtl', what);
      assert.equal(await dir('.msg.assistant .md ol'), 'rtl', 'numbers stand at the right');
      assert.equal(await dir('.msg.assistant .md table'), 'rtl', 'columns begin at the right');
      assert.equal(await dir('.msg .code pre'), 'ltr');
      assert.equal(await page.locator('.msg.assistant .md p').last().evaluate((e) => getComputedStyle(e).direction), 'ltr');
      // a list's numbers and a quotation's bar are inside the message, at the right
      assert.ok(await page.locator('.msg.assistant .md ol').first().evaluate((e) => parseFloat(getComputedStyle(e).paddingRight) > 10 && parseFloat(getComputedStyle(e).paddingLeft) === 0));
      assert.ok(await page.locator('.msg.assistant .md blockquote').first().evaluate((e) => parseFloat(getComputedStyle(e).borderRightWidth) > 0));
      await type(page, 'שלום');
      assert.equal(await field(page).evaluate((e) => getComputedStyle(e).direction), 'rtl');
      await fits(page, 'a chat from right to left');
      await accessible(page, 'a chat from right to left');
      page.quiet();
    }
  },

  async 'reduced motion'({ browser, server: s, url }) {
    const page = await opened(browser, url, { ...phone, reducedMotion: 'reduce' });
    await page.goTo((await views(s)).chat);
    // the drawer is there at once, with all that is in it
    const late = await page.getByRole('button', { name: 'Open or close the sidebar' }).first().evaluate(async (button) => {
      button.click();
      while (!document.querySelector('.shell.drawer')) await new Promise((r) => setTimeout(r));
      return [...document.querySelectorAll('.side, .side *')].filter((e) => getComputedStyle(e).visibility !== 'visible').length;
    });
    assert.equal(late, 0, 'parts of the drawer not yet to be seen');
    const moving = await page.evaluate(() => [...document.querySelectorAll('*')].map((e) => getComputedStyle(e)).filter((c) => c.transitionDuration.split(',').some((d) => parseFloat(d) > 0.02) || (c.animationName !== 'none' && parseFloat(c.animationDuration) > 0.02)).length);
    assert.equal(moving, 0);
    assert.equal(await page.evaluate(() => document.getAnimations().filter((a) => a.effect.getComputedTiming().activeDuration > 20).length), 0);
    page.quiet();
  },

  async 'on a phone, from end to end'({ browser, server: s, url }) {
    const page = await opened(browser, url, phone);
    const old = await s.chat(Array.from({ length: 30 }, (_, i) => [i % 2 ? 'assistant' : 'user', `message ${i} of a chat that is longer than the screen of a phone is high`]), { title: 'A long one', settings: { max_tokens: 8 } });
    await page.goTo('/');
    assert.equal(await page.getByRole('navigation', { name: 'Chats' }).isVisible(), false);
    await page.getByRole('button', { name: 'Open or close the sidebar' }).first().tap();
    await page.getByRole('navigation', { name: 'Chats' }).getByRole('link', { name: /A long one/ }).tap();
    await until('the chat, the drawer closed', async () => page.url().endsWith(old) && !(await page.getByRole('navigation', { name: 'Chats' }).isVisible()));
    await until('its end', async () => /message 29/.test(await newest(page).innerText()));
    await page.evaluate(() => (document.querySelector('.message-list').scrollTop -= 900));
    const jump = page.getByRole('button', { name: 'Jump to the newest' });
    await jump.waitFor();
    const box = await jump.boundingBox();
    assert.ok(box.height < 50 && box.x > 0 && box.x + box.width < 360 && Math.abs(box.x + box.width / 2 - 180) < 8, JSON.stringify(box));
    await jump.tap();
    await until('the end again', async () => !(await jump.isVisible()));
    await say(page, 'And then?');
    await ended(page);
    await newest(page).getByRole('button', { name: 'More actions for this message' }).tap();
    const list = await page.getByRole('menu').boundingBox();
    assert.ok(list.x >= 0 && list.x + list.width <= 360 && list.y >= 0 && list.y + list.height <= 740, JSON.stringify(list));
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Settings of this chat' }).tap();
    const dialog = await page.getByRole('dialog').boundingBox();
    assert.ok(dialog.x >= 0 && dialog.x + dialog.width <= 360 && dialog.y >= 0 && dialog.y + dialog.height <= 740);
    await accessible(page, 'settings on a phone');
    await page.getByRole('dialog').getByRole('button', { name: 'Close' }).tap();
    await page.getByRole('button', { name: 'Open or close the sidebar' }).first().tap();
    await accessible(page, 'the drawer');
    await page.getByRole('button', { name: 'New chat' }).tap();
    await until('a new one', () => new URL(page.url()).pathname === '/');
    await type(page, 'Once upon a time');
    await page.getByRole('button', { name: 'Send' }).tap();
    await until('an answer', async () => (await answers(page).count()) === 1);
    await stopped(page);
    assert.equal(await textOf(mine(page).first()), 'Once upon a time');
    await fits(page, 'a chat on a phone');
    page.quiet();
  },
});
export { tests };
