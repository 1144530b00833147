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
process.on('unhandledRejection', (e) => (stray ? stray(e) : console.log(`        between two tests: ${e?.stack ?? e}`)));
process.on('SIGINT', () => void ended().then(() => process.exit(130)));
for (const t of wanted) {
  const start = Date.now();
  try {
    if (!server || needs !== t.needs) {
      await server?.end();
      server = await new Server(options, t.needs).start();
      needs = t.needs;
    }
    if (!server.alive) await server.start();
    // every wait has its own bound; this one is for what waits in the page or beside it
    let timer;
    const hung = new Promise((_, no) => {
      timer = setTimeout(() => no(new Error('it hangs')), 300000 * options.patience);
      stray = no;
    });
    const run = Promise.resolve(t.run({ browser, server, options, url: server.url }));
    run.catch(() => {}); // of a test that has failed already nobody hears more
    const said = await Promise.race([run, hung]).finally(() => {
      clearTimeout(timer);
      stray = null;
    });
    passed++;
    console.log(`ok      ${t.name} (${((Date.now() - start) / 1000).toFixed(1)} s)${typeof said === 'string' ? ` — ${said}` : ''}`);
  } catch (e) {
    if (e?.skip) {
      skipped++;
      console.log(`skipped ${t.name}: ${e.skip}`);
    } else {
      failed++;
      console.log(`FAILED  ${t.name} (${((Date.now() - start) / 1000).toFixed(1)} s)\n${String(e?.stack ?? e).split('\n').slice(0, 14).map((l) => `        ${l}`).join('\n')}`);
    }
  }
  for (const context of browser.contexts()) await context.close().catch(() => {});
}
await ended();
console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
process.exit(failed || !passed ? 1 : 0);
