// run.mjs — the page in a real browser against a real server: every file test_*.mjs here, one after the other.
//
//   node tests/page/run.mjs --server build/release/zamba [--only WORD]... [--model FOLDER] [--dist web/dist] [--list]
//
// --only: tests whose name holds the word. --dist: the page from this folder in place of the one in the program.
// Without a browser or playwright-core (npm ci in web/) it says so and ends with 77: skipped.
import { readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { browserOf, missing } from './browser.mjs';
import { Server } from './server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const { values: args } = parseArgs({
  options: {
    server: { type: 'string' }, only: { type: 'string', multiple: true }, model: { type: 'string' }, dist: { type: 'string' },
    screenshots: { type: 'string' }, list: { type: 'boolean' },
  },
});

const lacking = missing();
if (lacking && !args.list) {
  console.log(`skipped: ${lacking}`);
  process.exit(77);
}
const options = {
  root,
  program: args.server ?? process.env.ZAMBA_PROGRAM ?? join(root, 'build/release/zamba'),
  model: args.model ?? join(root, 'models/zamba2-tales'),
  dist: args.dist ? resolve(args.dist) : null,
  screenshots: args.screenshots ?? null,
  /** A loaded machine is no fault of the page: bounds of time are multiplied by this. */
  patience: Number(process.env.ZAMBA_PAGE_PATIENCE) || 1,
};

const tests = [];
for (const file of readdirSync(here).filter((f) => /^test_.*\.mjs$/.test(f)).sort()) {
  const found = await import(pathToFileURL(join(here, file)));
  for (const [name, run] of Object.entries(found.tests)) tests.push({ name: `${file.slice(5, -4)}: ${name}`, run, needs: found.server ?? {} });
}
const wanted = tests.filter((t) => !args.only || args.only.some((word) => t.name.includes(word)));
if (args.list) {
  for (const t of wanted) console.log(t.name);
  process.exit(0);
}

let passed = 0;
let failed = 0;
let skipped = 0;
let server = null;
let needs = null;
const browser = await browserOf();
const ended = async () => {
  await browser.close().catch(() => {});
  await server?.end();
};
// what nobody waits for (a handler of requests, say) fails the test under way, not the whole run
let stray = null;
for (const kind of ['unhandledRejection', 'uncaughtException']) process.on(kind, (e) => (stray ? stray(e) : console.log(`        between two tests: ${e?.stack ?? e}`)));
process.on('SIGINT', () => void ended().then(() => process.exit(130)));
// A machine that stood still (put to sleep, moved, every process stopped) lets all bounds of time pass at once: seen by a clock
// that ticks late, or by two clocks that differ. What fails then is no finding, and is asked again.
let still = 0;
let clocks = [performance.now(), Date.now()];
setInterval(() => {
  const now = [performance.now(), Date.now()];
  const [ran, told] = [now[0] - clocks[0], now[1] - clocks[1]];
  if (ran > 6000 || told > 6000 || Math.abs(ran - told) > 3000) still = Math.max(still, ran, told);
  clocks = now;
  ticked?.();
}, 1000).unref();
let ticked = null;

async function once(t) {
  if (!server || needs !== t.needs) {
    await server?.end();
    server = null;
    server = await new Server(options, t.needs).start();
    needs = t.needs;
  }
  if (!server.alive) await server.start();
  // every wait has its own bound; this one is for what waits in the page or beside it, in seconds that this process has run
  let left = 300 * options.patience;
  const hung = new Promise((_, no) => {
    ticked = () => --left < 0 && no(new Error('it hangs'));
    stray = no;
  });
  const run = Promise.resolve(t.run({ browser, server, options, url: server.url }));
  run.catch(() => {}); // of a test that has failed already nobody hears more
  return Promise.race([run, hung]).finally(() => (ticked = stray = null));
}

for (const t of wanted) {
  const start = Date.now();
  for (let again = 2; ; again--) {
    still = 0;
    try {
      const said = await once(t);
      passed++;
      console.log(`ok      ${t.name} (${((Date.now() - start) / 1000).toFixed(1)} s)${typeof said === 'string' ? ` — ${said}` : ''}`);
    } catch (e) {
      if (e?.skip) {
        skipped++;
        console.log(`skipped ${t.name}: ${e.skip}`);
        break;
      }
      const why = String(e?.stack ?? e).split('\n').slice(0, 14).map((l) => `        ${l}`).join('\n');
      await new Promise((r) => setTimeout(r, 1500)); // until the clock has ticked
      if (still && again) {
        console.log(`again   ${t.name}: the machine stood still for ${(still / 1000).toFixed(0)} s\n${why}`);
        for (const context of browser.contexts()) await context.close().catch(() => {});
        await server?.end();
        server = null;
        continue;
      }
      failed++;
      console.log(`FAILED  ${t.name} (${((Date.now() - start) / 1000).toFixed(1)} s)\n${why}`);
    }
    break;
  }
  for (const context of browser.contexts()) await context.close().catch(() => {});
}
await ended();
console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
process.exit(failed || !passed ? 1 : 0);
