// test_speed.mjs — what the page costs: bytes of the first paint and in all, time until it can be used; a chat of 2,000
// messages opens within a second and scrolls at 60 frames a second. Numbers are printed; bounds of time are for a machine
// that does nothing else, times ZAMBA_PAGE_PATIENCE. What is over one is measured again, at most twice: the best counts.
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { field } from './acts.mjs';
import { crowd, opened, until } from './browser.mjs';

export const server = {};
const KB = 1000;

async function measured(browser, run) {
  for (let left = 2; ; left--) {
    try {
      return await run();
    } catch (e) {
      if (!left || e?.code !== 'ERR_ASSERTION') throw e;
      for (const context of browser.contexts()) await context.close();
    }
  }
}

export const tests = {
  async 'first paint <= 100 kB, all <= 1 MB'({ browser, url, options }) {
    const page = await opened(browser, url);
    const got = [];
    page.on('response', (r) => got.push(r));
    await page.goTo('/');
    await field(page).waitFor();
    const painted = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0);
    // what was asked for before something was to be seen; the server's replies (JSON) are no part of the page
    const early = await page.evaluate((t) => performance.getEntriesByType('resource').filter((e) => e.startTime <= t && !e.name.includes('/page/v1/')).map((e) => e.name), painted);
    let first = 0;
    for (const r of got) {
      if (r.url().includes('/page/v1/')) continue;
      if (early.includes(r.url()) || r.request().isNavigationRequest()) first += gzipSync(await r.body(), { level: 9 }).length;
    }
    const dist = options.dist ?? join(options.root, 'web/dist');
    let all = 0;
    const walk = (d) => readdirSync(d).forEach((f) => {
      const p = join(d, f);
      if (statSync(p).isDirectory()) walk(p);
      else all += p.endsWith('.woff2') ? statSync(p).size : gzipSync(readFileSync(p), { level: 9 }).length;
    });
    walk(dist);
    // until the first message can be typed: the document, its style, its scripts; what the server says of itself
    const files = got.filter((r) => !r.url().includes('/page/v1/')).map((r) => new URL(r.url()).pathname);
    const asked = got.filter((r) => r.url().includes('/page/v1/')).map((r) => new URL(r.url()).pathname);
    const usable = (await Promise.all(got.filter((r) => !r.url().includes('/page/v1/')).map((r) => r.body()))).reduce((sum, b) => sum + gzipSync(b, { level: 9 }).length, 0);
    assert.ok(first > 1000 && first <= 100 * KB, `first paint: ${first} bytes of gzip`);
    assert.ok(usable <= 100 * KB, `until it can be used: ${usable} bytes of gzip`);
    assert.ok(files.length <= 8 && new Set(files).size === files.length, `files asked for: ${files.join(' ')}`);
    assert.ok(asked.length <= 5 && new Set(asked).size === asked.length, `asked of the server: ${asked.join(' ')}`);
    assert.ok(all <= 1000 * KB, `in all: ${all} bytes`);
    // and from the cache nothing but the document, which is asked whether it changed
    got.length = 0;
    const transferred = async () => page.evaluate(() => performance.getEntriesByType('resource').filter((e) => /\/assets\//.test(e.name)).reduce((sum, e) => sum + e.transferSize, 0));
    await page.goTo('/');
    await field(page).waitFor();
    if (!options.dist) assert.equal(await transferred(), 0, 'files below /assets/ come from the cache the second time');
    page.quiet();
    return `first paint ${(first / KB).toFixed(1)} kB of gzip in ${Math.round(painted)} ms; ${files.length} files, ${(usable / KB).toFixed(1)} kB until it can be used; all ${(all / KB).toFixed(0)} kB`;
  },

  async 'time to interactive'({ browser, url, options }) {
    const times = [];
    for (let i = 0; i < 3; i++) {
      const page = await opened(browser, url); // one of its own: nothing cached, and all that its process works is its work
      await page.addInitScript(() => {
        window.lastLong = 0;
        window.blocked = 0;
        new PerformanceObserver((l) => l.getEntries().forEach((e) => {
          window.lastLong = Math.max(window.lastLong, e.startTime + e.duration);
          window.blocked += Math.max(0, e.duration - 50);
        })).observe({ type: 'longtask', buffered: true });
        const seen = new MutationObserver(() => {
          if (document.getElementById('composer') && !window.usable) window.usable = performance.now();
        });
        seen.observe(document, { childList: true, subtree: true });
      });
      const cdp = await page.context().newCDPSession(page);
      await cdp.send('Performance.enable', { timeDomain: 'threadTicks' }); // of the processor: others' work does not count
      await page.goTo('/');
      await field(page).waitFor();
      await page.waitForTimeout(500);
      const work = 1000 * (await cdp.send('Performance.getMetrics')).metrics.find((m) => m.name === 'TaskDuration').value;
      times.push({ ...(await page.evaluate(() => ({ tti: Math.max(window.usable, window.lastLong), blocked: window.blocked }))), work });
      page.quiet();
      await page.context().close();
    }
    times.sort((a, b) => a.tti - b.tti);
    // how often the work was interrupted by others is not the page's; what it does before it can be used is
    const slow = crowd();
    assert.ok(times[0].tti < 1500 * options.patience * slow, `${JSON.stringify(times)}, machine ${slow.toFixed(1)} times as slow`);
    const work = Math.min(...times.map((x) => x.work));
    assert.ok(work > 5 && work < 700, `${work} ms of the processor until it can be used`);
    return `interactive after ${Math.round(times[0].tti)} ms (best of 3), blocked for ${Math.round(times[0].blocked)} ms, ${Math.round(work)} ms of the processor`;
  },

  async '2,000 messages: open, scroll'({ browser, server: s, url, options }) {
    const id = await bigChat(s);
    return measured(browser, () => openAndScroll({ browser, url, options }, id));
  },

  async 'an answer of 10,000 lines'({ browser, server: s, url, options }) {
    const id = await s.chat([['user', 'count'], ['assistant', Array.from({ length: 10000 }, (_, i) => `${i}. line **${i}** of a long answer`).join('\n')]]);
    return measured(browser, async () => {
      const page = await opened(browser, url);
      const start = Date.now();
      await page.goTo(`/c/${id}`);
      await until('its end', async () => (await page.locator('article.msg.assistant').count()) === 1);
      await page.getByText('of a long answer').first().waitFor();
      const took = Date.now() - start;
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
      page.quiet();
      await page.context().close();
      assert.ok(took < 6000 * options.patience * crowd(), `${took} ms`);
      return `shown after ${took} ms`;
    });
  },
};

async function openAndScroll({ browser, url, options }, id) {
  const page = await opened(browser, url);
  await page.goTo('/');
  await field(page).waitFor();
  await page.waitForTimeout(300);
  const open = await page.evaluate(async (to) => {
    const start = performance.now();
    history.pushState(null, '', to);
    dispatchEvent(new PopStateEvent('popstate'));
    while (![...document.querySelectorAll('article.msg')].some((m) => m.textContent.includes('message 1999'))) await new Promise((r) => requestAnimationFrame(r));
    await new Promise((r) => requestAnimationFrame(() => setTimeout(r)));
    return performance.now() - start;
  }, `/c/${id}`);
  const there = await page.locator('article.msg').count();
  assert.ok(there < 200, `${there} messages in the document: not virtualized`);
  await page.waitForTimeout(500);
  const cdp = await page.context().newCDPSession(page);
  const events = [];
  cdp.on('Tracing.dataCollected', (e) => events.push(...e.value));
  await cdp.send('Tracing.start', { traceConfig: { includedCategories: ['toplevel', 'devtools.timeline', 'disabled-by-default-devtools.timeline'] }, transferMode: 'ReportEvents' });
  const frames = await page.evaluate(async () => {
    const box = [...document.querySelectorAll('main *')].find((e) => e.scrollHeight > e.clientHeight + 2000 && /auto|scroll/.test(getComputedStyle(e).overflowY));
    const at = [];
    const end = performance.now() + 5000;
    let last = performance.now();
    while (performance.now() < end) {
      await new Promise((r) => requestAnimationFrame(r));
      const now = performance.now();
      at.push(now - last);
      last = now;
      box.scrollTop -= 60; // 3,600 pixels a second
    }
    return at.slice(5);
  });
  const done = new Promise((r) => cdp.once('Tracing.tracingComplete', r));
  await cdp.send('Tracing.end');
  await done;
  const tasks = events.filter((e) => e.name === 'RunTask' && e.dur).map((e) => e.dur / 1000);
  frames.sort((a, b) => a - b);
  const mean = frames.reduce((a, b) => a + b, 0) / frames.length;
  const p95 = frames[Math.floor(frames.length * 0.95)];
  const longest = Math.max(0, ...tasks);
  // what a frame takes of the processor, whatever else runs: less than a 60th of a second
  const threads = new Map();
  for (const e of events) if (e.name === 'RunTask' && e.tdur) threads.set(`${e.pid} ${e.tid}`, (threads.get(`${e.pid} ${e.tid}`) ?? 0) + e.tdur / 1000);
  const busy = Math.max(0, ...threads.values()) / (frames.length + 5);
  const slow = crowd();
  const numbers = `opens in ${Math.round(open)} ms, ${there} of 2,000 in the document; scrolling ${(1000 / mean).toFixed(1)} frames/s, 95 % within ${p95.toFixed(1)} ms; work ${busy.toFixed(1)} ms a frame, longest task ${longest.toFixed(0)} ms`;
  assert.ok(open < 1000 * options.patience * slow, numbers);
  assert.ok(busy > 0 && busy < 1000 / 60, numbers);
  assert.ok(1000 / mean > 55 / options.patience / slow, numbers);
  page.quiet();
  await page.context().close();
  return numbers;
}

async function bigChat(s) {
  const chat = await s.call('POST', '/page/v1/chats', { title: 'Two thousand' });
  // a message that the server made shows how nodes look in an export
  await s.call('POST', `/page/v1/chats/${chat.id}/nodes`, { parent: null, role: 'user', content: 'message 0' });
  const full = await (await fetch(`${s.api}/page/v1/chats/${chat.id}/export?format=json`)).json();
  const where = full.chats[0];
  const [shape] = where.tree;
  const list = (where.tree = []);
  let parent = null;
  for (let i = 0; i < 2000; i++) {
    const id = (0x100000 + i).toString(16).padStart(24, '5');
    list.push({ ...shape, id, parent, role: i % 2 ? 'assistant' : 'user', status: 'done',
      content: i % 2 ? `This is **message ${i}** of two thousand.\n\n- it has a list\n- and some \`code\`\n\n${i % 14 === 1 ? '```c\nint main(void)\n{\n    return 0;\n}\n```\n' : 'And a second paragraph that is somewhat longer, so that heights differ from one message to the next and nothing is even.'}` : `message ${i}` });
    parent = id;
  }
  where.leaf = parent;
  const r = await s.call('POST', '/page/v1/import', full);
  const made = r.chats[0].id;
  const { nodes } = await s.call('GET', `/page/v1/chats/${made}`);
  assert.equal(nodes.length, 2000);
  await s.call('PATCH', `/page/v1/chats/${made}`, { leaf: nodes.at(-1).id });
  return made;
}
