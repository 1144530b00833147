// browser.mjs — a browser, and pages in it that are watched: errors in the console, what the content policy forbade,
// requests to anywhere but the server. Also axe-core. Knows nothing of what the page shows.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const web = join(fileURLToPath(new URL('../../web', import.meta.url)), 'package.json');
const from = createRequire(web);
const PROGRAMS = [process.env.ZAMBA_BROWSER, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const program = PROGRAMS.find((p) => p && existsSync(p));

/** An answer that ends by itself while Stop is pressed: the server says so, the page takes it as it is. */
const ENDED = /status of 409 .*\/page\/v1\/answers\/[0-9a-f]{24}\/stop\)/;

export function missing() {
  if (!program) return 'no chromium (Debian: chromium)';
  for (const name of ['playwright-core', 'axe-core']) {
    try {
      from.resolve(name);
    } catch {
      return `no ${name} (npm ci in web/)`;
    }
  }
  return null;
}

export function browserOf() {
  const { chromium } = from('playwright-core');
  return chromium.launch({ executablePath: program, args: ['--no-sandbox', '--disable-dev-shm-usage', '--force-color-profile=srgb'] });
}

/**
 * A page with its own storage that is watched. `faults` must stay empty but for what `allowed` matches (a server that was
 * killed is heard of in the console); `quiet()` asserts it.
 */
export async function opened(browser, url, { allowed = null, context: given = null, ...options } = {}) {
  const context = given ?? (await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce', locale: 'en-GB', ...options }));
  const page = await context.newPage();
  page.setDefaultTimeout(30000 * (Number(process.env.ZAMBA_PAGE_PATIENCE) || 1));
  const faults = [];
  const fault = (text) => {
    if (!allowed?.test(text) && !ENDED.test(text)) faults.push(text);
  };
  const origin = new URL(url).origin;
  page.on('console', (m) => {
    if (m.type() === 'error' || m.type() === 'warning') fault(`console: ${m.text()} (${m.location().url})`);
  });
  page.on('pageerror', (e) => fault(`script: ${e.stack ?? e}`));
  page.on('request', (r) => {
    const u = new URL(r.url());
    if (!['data:', 'blob:'].includes(u.protocol) && u.origin !== origin) fault(`request to ${r.url()}`);
  });
  page.on('dialog', (d) => {
    fault(`dialog: ${d.message()}`);
    void d.dismiss();
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
  });
  page.faults = faults;
  page.quiet = () => assert.deepEqual(faults, []);
  page.goTo = async (path) => {
    await page.goto(origin + path, { waitUntil: 'load' });
    await page.locator('main').waitFor();
  };
  return page;
}

/** What the server says of itself, changed on its way to the page. A server that is away stays away. Returns what ends it. */
export async function bootstrapped(page, change) {
  const handler = async (route) => {
    try {
      const reply = await route.fetch();
      await route.fulfill({ response: reply, json: change(await reply.json()) });
    } catch {
      await route.abort().catch(() => {}); // the page may be closed already
    }
  };
  await page.route('**/page/v1/bootstrap', handler);
  return () => page.unroute('**/page/v1/bootstrap', handler);
}

/** axe-core over what is shown; no finding of any impact is let through. */
export async function accessible(page, what) {
  if (!page.axed) {
    page.axed = readFileSync(from.resolve('axe-core/axe.min.js'), 'utf8');
  }
  await page.evaluate(page.axed); // the debugger's evaluation is not held by the policy
  const found = await page.evaluate(async () => {
    const r = await window.axe.run(document, { resultTypes: ['violations'] });
    return r.violations.map((v) => `${v.impact} ${v.id}: ${v.help}\n  ${v.nodes.slice(0, 4).map((n) => `${n.target.join(' ')}  ${(n.failureSummary ?? '').split('\n').slice(1, 3).join('; ').trim()}`).join('\n  ')}`);
  });
  assert.deepEqual(found, [], `${what}:\n${found.join('\n')}`);
}

/** Nothing sticks out sideways. */
export async function fits(page, what) {
  const over = await page.evaluate(() => {
    const out = [];
    if (document.documentElement.scrollWidth > innerWidth) out.push(`document ${document.documentElement.scrollWidth} > ${innerWidth}`);
    for (const e of document.querySelectorAll('main *')) {
      const r = e.getBoundingClientRect();
      if (r.width === 0 || r.right <= innerWidth + 1) continue;
      let p = e.parentElement;
      while (p && !(['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(p).overflowX) && p.getBoundingClientRect().right <= innerWidth + 1)) p = p.parentElement;
      if (!p) out.push(`${e.tagName}.${e.getAttribute('class')} ends at ${r.right}`);
    }
    return out.slice(0, 5);
  });
  assert.deepEqual(over, [], `${what} is wider than the window`);
}

/**
 * How much longer work takes here than on a machine that does nothing else (1: as long). Bounds of time are multiplied by it: what
 * is to be found out is what the page costs, not what else runs.
 */
export function crowd() {
  const start = performance.now();
  const used = process.cpuUsage();
  let spent = 0;
  for (let x = 0; spent < 150; ) {
    for (let i = 0; i < 100000; i++) x += Math.sqrt(i);
    const u = process.cpuUsage(used);
    spent = (u.user + u.system) / 1000;
  }
  const ratio = (performance.now() - start) / spent;
  return ratio < 1.25 ? 1 : ratio * 3;
}

export const skip = (why) => Object.assign(new Error(why), { skip: why });

export async function until(what, test, ms = 30000) {
  const end = Date.now() + ms * (Number(process.env.ZAMBA_PAGE_PATIENCE) || 1);
  for (;;) {
    const got = await test();
    if (got) return got;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((r) => setTimeout(r, 50));
  }
}
