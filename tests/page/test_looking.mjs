// test_looking.mjs — every view, in both themes: no accessibility finding, nothing wider than the window at three widths;
// and what the views that look inside show.
import assert from 'node:assert/strict';
import { appendFileSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessible, fits, opened, until } from './browser.mjs';

/** A run folder as `zamba train` leaves it, of a run that has not ended. */
export function makeRun(folder, steps = 1500, total = 2000) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ objective: 'pretrain', data: [{ path: 'books.txt', weight: 1 }], valid: 'valid.txt', sequence_length: 512, batch_size: 8,
    max_steps: total, seed: 1, bf16: true, lr_scheduler: 'cosine', learning_rate: 0.003, warmup_steps: 200, weight_decay: 0.1, max_grad_norm: 1 }));
  writeFileSync(join(folder, 'metrics.jsonl'), '');
  writeFileSync(join(folder, 'samples.jsonl'), '');
  let noise = 12345;
  const random = () => (noise = (noise * 1103515245 + 12345) % 2147483648) / 2147483648 - 0.5;
  const lines = [];
  for (let s = 1; s <= steps; s++) lines.push(line(s, total, random));
  appendFileSync(join(folder, 'metrics.jsonl'), lines.join(''));
  [['a little girl the the and', 0], [' there was a man who had a horse, and the horse was', 500], [' there lived a young man who had a kind heart and a small grey dog. He went out one morning to see the sea.', 1000], [' there was a fox who lived by the river. Every day she counted the boats, and every evening she told her children how many there had been.', 1500]]
    .forEach(([text, step]) => appendFileSync(join(folder, 'samples.jsonl'), `${JSON.stringify({ step, prompt: 'Once upon a time', text })}\n`));
}

export function line(s, total, random = () => 0) {
  const loss = 3.2 + 5.1 * Math.exp(-s / 90) + 0.9 * Math.exp(-s / 600) + 0.22 * random();
  const rate = 0.003 * Math.min(1, s / 200) * (s < 200 ? 1 : 0.55 + 0.45 * Math.cos((Math.PI * (s - 200)) / (total - 200)));
  let text = `${JSON.stringify({ step: s, total_steps: total, epoch: 0, tokens: s * 4096, loss, learning_rate: rate, grad_norm: 0.35 + 2 * Math.exp(-s / 60) + 0.12 * random(), seconds: 1.5, tokens_per_second: 2700 + 300 * random() })}\n`;
  if (s % 250 === 0) text += `${JSON.stringify({ step: s, valid_loss: loss + 0.06, perplexity: Math.exp(loss), bits_per_byte: (loss + 0.06) / 2.54, bytes_per_token: 3.66 })}\n`;
  return text;
}

export function prepare(s) {
  makeRun(join(s.runs, 'books'));
  const fixtures = new URL('./fixtures/', import.meta.url).pathname;
  copyFileSync(join(fixtures, 'needle.svg'), join(s.runs, 'needle.svg'));
  copyFileSync(join(fixtures, 'quality.svg'), join(s.runs, 'books', 'quality.svg'));
}
export const server = { prepare };

export const STORY = [
  ['user', 'What is a hybrid language model? Answer with a table.'],
  ['assistant', 'A **hybrid** model mixes two kinds of layers.\n\n| kind | memory of the past | cost for a token |\n| --- | --- | --- |\n| attention | keys and values of every token | grows |\n| state space | a state of fixed size | stays |\n\nThe state of a head follows\n\n$$h_t = e^{\\Delta_t A} h_{t-1} + \\Delta_t B_t x_t, \\qquad y_t = C_t^\\top h_t + D x_t.$$\n\nIn code, one step is short:\n\n```python\ndef step(h, x, dt, A, B, C, D):\n    h = np.exp(dt * A) * h + dt * B * x   # forget, then take in\n    return h, C @ h + D * x\n```\n'],
  ['user', 'And why are the attention blocks *shared*?'],
  ['assistant', 'Because one block can serve at several depths:\n\n1. its weights are stored **once**,\n2. each use has a small adapter of its own,\n3. and its own keys and values.\n\n> Much of what attention does is the same everywhere: look back and copy.\n'],
];

/** Addresses of every view; made once a server. */
export async function views(s) {
  if (!s.views) {
    const chat = await s.chat(STORY, { title: 'Hybrid models', system: 'You explain things briefly.' });
    const { nodes } = await s.call('GET', `/page/v1/chats/${chat}`);
    await s.call('POST', `/page/v1/chats/${chat}/nodes`, { parent: nodes[2].id, role: 'assistant', content: 'To save parameters: the block is stored once and used at several depths.' });
    await s.call('PATCH', `/page/v1/chats/${chat}`, { leaf: nodes[3].id });
    for (const [title, text] of [['A tale of a fox', 'Tell me a tale of a fox by the river'], ['قصة قصيرة', 'اكتب قصة قصيرة عن البحر'], ['Bread without yeast', 'How do I bake bread without yeast?']])
      await s.chat([['user', text], ['assistant', 'Gladly.']], { title });
    const book = await s.call('POST', '/page/v1/chats', { kind: 'notebook', title: 'The lighthouse' });
    await s.call('POST', `/page/v1/chats/${book.id}/answers`, { parent: null, message: { role: 'text', content: 'Once upon a time there was a lighthouse' }, settings: { max_tokens: 48, logprobs: true, top_logprobs: 8, temperature: 0.7, seed: 4 } });
    const run = (await s.call('GET', '/page/v1/runs')).runs.find((r) => r.name === 'books');
    await until('the notebook is written', async () => (await s.call('GET', '/page/v1/answers')).answers.length === 0);
    s.views = {
      start: '/', chat: `/c/${chat}`, tree: `/c/${chat}/tree`, compare: `/compare/${chat}`, notebook: `/notebook/${book.id}`, history: '/history', models: '/models', model: '/model',
      dashboard: '/dashboard', training: '/training', run: `/training/${run.id}`, charts: '/charts', settings: '/settings', help: '/help',
    };
  }
  return s.views;
}

/** The view is there and at rest: what it waits for has come, charts are drawn. */
export async function rested(page) {
  await page.waitForLoadState('networkidle', { timeout: 4000 }).catch(() => {});
  await until('the view is loaded', () => page.evaluate(() => !document.querySelector('.view[aria-busy=true], .view-waiting') && !!document.querySelector('main h1')));
  await page.evaluate(() => document.fonts.ready);
}

const names = ['start', 'chat', 'tree', 'compare', 'notebook', 'history', 'models', 'model', 'dashboard', 'training', 'run', 'charts', 'settings', 'help'];
const every = {};
for (const name of names) {
  every[`accessible, fits: ${name}`] = async ({ browser, server: s, url }) => {
    const path = (await views(s))[name];
    for (const theme of ['light', 'dark']) {
      const page = await opened(browser, url, { colorScheme: theme });
      await page.goTo(path);
      await rested(page);
      await accessible(page, `${name}, ${theme}`);
      if (theme === 'light')
        for (const width of [360, 768, 1920]) {
          await page.setViewportSize({ width, height: 800 });
          await page.waitForTimeout(150);
          await fits(page, `${name} at ${width}`);
          if (width === 360) await accessible(page, `${name} at 360`);
        }
      page.quiet();
      await page.context().close();
    }
  };
}

export const tests = {
  ...every,

  async 'model: layers, memory follows the slider'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    await page.goTo('/model');
    const info = await s.call('GET', '/page/v1/model');
    const layers = page.locator('[data-layer]');
    await until('all layers', async () => (await layers.count()) === info.layers.length);
    assert.equal(await page.locator('.layer-link').count(), info.info.n_hybrid, 'a line for each use of a shared block');
    await page.locator('[data-layer][tabindex="0"]').focus();
    await page.keyboard.press('Home');
    assert.match(await page.locator('.view-said').innerText(), /Layer 0/);
    await page.keyboard.press('ArrowRight');
    assert.match(await page.locator('.view-said').innerText(), /Layer 1.*Shared block A/s);
    const tile = page.locator('.view-tile', { hasText: 'Keys and values' }).locator('dd');
    const slider = page.getByRole('slider', { name: /^Context/ });
    await slider.focus();
    await page.keyboard.press('Home');
    assert.match(await tile.innerText(), /^0 B/);
    await page.keyboard.press('End');
    assert.doesNotMatch(await tile.innerText(), /^0 B/);
    await page.locator('.view-plot canvas').first().waitFor();
    page.quiet();
  },

  async 'dashboard: sees an answer'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    await page.goTo('/dashboard');
    await page.locator('.view-tile').first().waitFor();
    const chat = await s.call('POST', '/page/v1/chats', { settings: { max_tokens: 60, ignore_eos: true } });
    await s.call('POST', `/page/v1/chats/${chat.id}/answers`, { parent: null, message: { content: 'Once upon a time' } });
    const written = page.locator('.view-facts > div', { hasText: 'Tokens written' }).locator('dd');
    await until('its tokens are counted', async () => Number((await written.innerText()).replace(/\D/g, '')) >= 60);
    await page.locator('.view-plot canvas').first().waitFor();
    assert.ok((await page.locator('.view-latency h3').count()) >= 5);
    await page.locator('.view-latency summary').first().click();
    await page.locator('.view-latency table').first().waitFor();
    page.quiet();
  },

  async 'training: a run that goes on'({ browser, server: s, url }) {
    const page = await opened(browser, url);
    await page.goTo('/training');
    await page.getByRole('link', { name: /books/ }).click();
    await page.getByText('1,500 / 2,000').waitFor();
    appendFileSync(join(s.runs, 'books', 'metrics.jsonl'), line(1501, 2000) + line(1502, 2000).slice(0, 30));
    await page.getByText('1,501 / 2,000').waitFor();
    appendFileSync(join(s.runs, 'books', 'metrics.jsonl'), line(1502, 2000).slice(30));
    await page.getByText('1,502 / 2,000').waitFor();
    const chart = page.getByRole('slider', { name: /^Loss: chart/ });
    await chart.focus();
    await page.keyboard.press('Home');
    assert.match(await chart.getAttribute('aria-valuetext'), /Step [1-5]:.*Every step/);
    await page.getByText('As a table').first().click();
    await page.locator('.view-table').first().waitFor();
    await page.getByText('She counted the boats').or(page.getByText('counted the boats')).first().waitFor();
    page.quiet();
  },

  async 'charts: pictures of the run folders'({ browser, url }) {
    const page = await opened(browser, url);
    await page.goTo('/charts');
    await until('two pictures', async () => (await page.locator('.view-artifact img').count()) === 2);
    await until('they are drawn', () => page.evaluate(() => [...document.querySelectorAll('.view-artifact img')].every((i) => i.complete && i.naturalWidth > 0)));
    await page.getByRole('heading', { name: 'Needle in a haystack' }).waitFor();
    page.quiet();
  },

  async 'theme and language are chosen and kept'({ browser, url }) {
    const page = await opened(browser, url, { colorScheme: 'light' });
    await page.goTo('/settings');
    await page.getByRole('button', { name: 'Dark', exact: true }).click();
    await until('dark', () => page.evaluate(() => document.documentElement.dataset.theme === 'dark'));
    await page.reload();
    await until('still dark', () => page.evaluate(() => document.documentElement.dataset.theme === 'dark'));
    await page.getByLabel('Language').selectOption('de');
    await until('German', () => page.evaluate(() => document.documentElement.lang === 'de'));
    await page.getByRole('heading', { name: 'Einstellungen' }).first().waitFor();
    page.quiet();
  },
};
