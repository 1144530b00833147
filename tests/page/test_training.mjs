// test_training.mjs — a training run that is under way, seen live; charts as the program draws them.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { opened, until } from './browser.mjs';

export const server = {};
/** A model so small that a step takes a moment only. */
const CONFIG = { model_type: 'zamba2', hidden_size: 32, num_hidden_layers: 3, hybrid_layer_ids: [1], num_mem_blocks: 1, num_attention_heads: 2, intermediate_size: 48,
  mamba_expand: 2, mamba_headdim: 16, mamba_ngroups: 1, mamba_d_state: 8, adapter_rank: 4, use_mem_rope: true, max_position_embeddings: 128, vocab_size: 4096 };
const STORIES = Array.from({ length: 80 }, (_, i) => `Once upon a time there was a fox named Fox ${i}. He ran over ${i % 5} hills and slept at the river.`).join('\n<|endoftext|>\n');
const ended = (p) => new Promise((done) => (p.exitCode !== null || p.signalCode !== null ? done() : p.once('exit', done)));

export const tests = {
  async 'zamba train, live'({ browser, server: s, url, options }) {
    const page = await opened(browser, url);
    await page.goTo('/training');
    await page.getByText('No training runs here.').waitFor();
    writeFileSync(join(s.folder, 'config.json'), JSON.stringify(CONFIG));
    writeFileSync(join(s.folder, 'text.txt'), STORIES);
    const train = spawn(options.program, ['train', 'pretrain', '--config', join(s.folder, 'config.json'), '--tokenizer', options.model, '--data', join(s.folder, 'text.txt'),
      '--valid', join(s.folder, 'text.txt'), '--eval-steps', '100', '-o', join(s.runs, 'foxes'), '--batch-size', '8', '--sequence-length', '64', '--max-steps', '1000000', '--learning-rate', '3e-3',
      '--warmup-steps', '1', '--save-steps', '0', '--sample-prompt', 'Once upon', '--sample-steps', '50', '--sample-tokens', '8', '--threads', '1', '--progress', 'none'],
      { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    train.stderr.on('data', (d) => (said += d));
    try {
      await until(`a run folder ${said}`, async () => {
        if (train.exitCode !== null) throw new Error(`zamba train: ${said}`);
        return (await s.call('GET', '/page/v1/runs')).runs.some((r) => r.metrics_bytes > 0);
      });
      await page.getByRole('link', { name: /foxes/ }).click(); // it came into the list by itself
      const bar = page.getByRole('progressbar', { name: 'Progress of the run' });
      const step = async () => Number(await bar.getAttribute('value'));
      await until('steps', async () => (await step()) > 0);
      const first = await step();
      await until('more of them', async () => (await step()) > first);
      const second = await step();
      await until('and more', async () => (await step()) > second + 5);
      assert.match(await page.locator('main').innerText(), /\/ 1,000,000/);
      await page.locator('.view-badge.live').first().waitFor();
      await page.locator('.view-plot canvas').first().waitFor();
      await page.getByText('What it writes').first().waitFor();
      const chart = page.getByRole('slider', { name: /^Loss: chart/ });
      const last = async () => Number(/Step ([\d,]+)/.exec(await chart.getAttribute('aria-valuetext'))[1].replace(/,/g, ''));
      await until('the chart follows', async () => (await last()) > second);
      await until('what was held out', async () => /bits a byte/.test(await page.locator('main').innerText()));
    } finally {
      train.kill('SIGINT');
      const hard = setTimeout(() => train.kill('SIGKILL'), 60000);
      await ended(train);
      clearTimeout(hard);
    }
    page.quiet();
  },

  async 'charts as the program draws them'({ browser, server: s, url, options }) {
    const text = join(s.folder, 'long.txt');
    writeFileSync(text, STORIES.replace(/\n<\|endoftext\|>\n/g, ' '));
    mkdirSync(join(s.runs, 'charts'), { recursive: true });
    const draw = (...words) => {
      const r = spawnSync(options.program, words, { encoding: 'utf8' });
      assert.equal(r.status, 0, `zamba ${words.join(' ')}: ${r.stderr}`);
    };
    draw('eval', 'needle', options.model, '--haystack', text, '--lengths', '128,192', '--depths', '0,50,100', '--svg', join(s.runs, 'charts', 'map.svg'), '--progress', 'none');
    draw('quantize', '--report', options.model, '-f', text, '--limit', '64', '-o', join(s.runs, 'report.svg'), '--progress', 'none');
    const page = await opened(browser, url);
    await page.goTo('/charts');
    await until('both are drawn', () => page.evaluate(() => {
      const all = [...document.querySelectorAll('.view-artifact img')];
      return all.length === 2 && all.every((i) => i.complete && i.naturalWidth > 0);
    }));
    const of = (name) => page.locator('main section').filter({ has: page.getByRole('heading', { name }) });
    await of('Needle in a haystack').locator('figcaption', { hasText: 'map.svg' }).waitFor();
    await of('Size against quality').locator('figcaption', { hasText: 'report.svg' }).waitFor();
    assert.match(await of('Size against quality').locator('img').getAttribute('alt'), /size against divergence/);
    await page.getByText('Its labels as text').first().click();
    assert.match(await page.locator('.view-words').first().innerText(), /128 · /);
    page.quiet();
  },
};
