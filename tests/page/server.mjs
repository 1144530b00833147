// server.mjs — a server of the page with a data folder of its own: started, killed, started again on the same port. With
// `dist` a small one stands before it, which serves the page from that folder as docs/PAGE.md says and hands on the rest.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, existsSync, mkdirSync, statSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';

export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; " +
  "manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2',
  '.webmanifest': 'application/manifest+json', '.json': 'application/json' };

const freePort = () =>
  new Promise((done, no) => {
    const s = net.createServer();
    s.on('error', no);
    s.listen(0, '127.0.0.1', () => {
      const { port } = s.address();
      s.close(() => done(port));
    });
  });

function before(dist, port, target) {
  const s = http.createServer((q, r) => {
    const path = decodeURIComponent(new URL(q.url, 'http://x').pathname);
    if (/^\/(page\/v1|v1|api|health|metrics)(\/|$)/.test(path)) {
      const on = http.request({ port: target, host: '127.0.0.1', path: q.url, method: q.method, headers: q.headers }, (a) => {
        r.writeHead(a.statusCode, a.headers);
        a.pipe(r);
        a.on('error', () => r.destroy());
      });
      on.on('error', () => r.destroy());
      r.on('close', () => on.destroy());
      q.pipe(on);
      return;
    }
    let file = join(dist, path);
    if (!file.startsWith(dist) || !existsSync(file) || statSync(file).isDirectory()) file = join(dist, 'index.html');
    r.writeHead(200, { 'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream', 'Content-Security-Policy': POLICY, 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-cache' });
    r.end(readFileSync(file));
  });
  return new Promise((done) => s.listen(port, '127.0.0.1', () => done(s)));
}

export class Server {
  constructor(options, needs) {
    this.o = options;
    this.needs = needs; // {options: [...] or (server) => [...], slow: true, prepare(server), under(server): words before the command}
    this.folder = mkdtempSync(join(tmpdir(), 'zamba-page-'));
    this.data = join(this.folder, 'data');
    mkdirSync(this.data);
    this.runs = join(this.folder, 'runs');
    mkdirSync(this.runs);
    this.said = '';
    needs.prepare?.(this);
  }

  get alive() {
    return this.process !== undefined && this.process.exitCode === null && this.process.signalCode === null;
  }

  async start() {
    this.port ??= await freePort();
    const env = { ...process.env, ...(this.needs.slow ? { ZAMBA_CPU: 'ref' } : {}) };
    const { options = [] } = this.needs;
    const [program, ...words] = [
      ...(this.needs.under?.(this) ?? []), this.o.program, 'serve', this.o.model, '--port', String(this.port), '--data', this.data, '--runs', this.runs,
      ...(this.needs.slow ? ['--threads', '1'] : []), ...(typeof options === 'function' ? options(this) : options),
    ];
    this.process = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], env });
    const p = this.process;
    p.stdout.on('data', (d) => (this.said += d));
    p.stderr.on('data', (d) => (this.said += d));
    const end = Date.now() + 60000 * this.o.patience;
    this.api = `http://127.0.0.1:${this.port}`;
    while (!(await this.answers())) {
      if (p.exitCode !== null || Date.now() > end) throw new Error(`no server: ${this.said.slice(-2000)}`);
      await new Promise((r) => setTimeout(r, 50));
    }
    if (this.o.dist && !this.front) this.front = await before(this.o.dist, (this.frontPort ??= await freePort()), this.port);
    this.url = this.front ? `http://127.0.0.1:${this.frontPort}` : this.api;
    return this;
  }

  async answers() {
    try {
      return (await fetch(`${this.api}/page/v1/bootstrap`)).ok;
    } catch {
      return false;
    }
  }

  async call(method, path, body) {
    const headers = { ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...(this.key ? { Authorization: `Bearer ${this.key}` } : {}) };
    const r = await fetch(this.api + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const text = await r.text();
    if (!r.ok) throw new Error(`${method} ${path}: ${r.status} ${text.slice(0, 400)}`);
    return text ? JSON.parse(text) : null;
  }

  /** A chat with these messages, one below the other; its id. */
  async chat(messages, more = {}) {
    const chat = await this.call('POST', '/page/v1/chats', more);
    let parent = null;
    for (const [role, content] of messages) {
      parent = (await this.call('POST', `/page/v1/chats/${chat.id}/nodes`, { parent, role, content })).id;
    }
    if (parent) await this.call('PATCH', `/page/v1/chats/${chat.id}`, { leaf: parent });
    return chat.id;
  }

  gone() {
    return this.alive ? new Promise((done) => this.process.once('exit', done)) : Promise.resolve();
  }

  /** Ends as a person ends it (SIGTERM). */
  async stop() {
    const gone = this.gone();
    this.process.kill('SIGTERM');
    const hard = setTimeout(() => this.process.kill('SIGKILL'), 20000 * this.o.patience);
    await gone;
    clearTimeout(hard);
  }

  async kill() {
    const gone = this.gone();
    this.process.kill('SIGKILL');
    await gone;
  }

  async end() {
    if (this.alive) await this.stop();
    this.front?.closeAllConnections?.();
    this.front?.close();
    this.front = null;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A server for one test alone. */
export async function withServer(options, needs, run) {
  const s = new Server(options, needs);
  try {
    await s.start();
    return await run(s);
  } finally {
    await s.end();
  }
}

/**
 * A way to the server that can be cut: `cut()` breaks every connection, `after(word, bytes)` those that ask for something with
 * the word, once so many bytes have come; `closed` refuses new ones.
 */
export class Line {
  constructor(target) {
    this.target = new URL(target);
    this.open = new Set();
    this.closed = false;
    this.rule = null;
    this.cuts = 0;
  }

  async start() {
    this.server = net.createServer((near) => {
      if (this.closed) return near.destroy();
      const far = net.connect(Number(this.target.port), this.target.hostname);
      let left = Infinity;
      const end = () => {
        near.destroy();
        far.destroy();
        this.open.delete(end);
      };
      this.open.add(end);
      near.on('data', (d) => {
        if (this.rule && d.toString('latin1').split('\r\n', 1)[0].includes(this.rule.word)) left = this.rule.bytes();
        far.write(d);
      });
      far.on('data', (d) => {
        near.write(left < d.length ? d.subarray(0, left) : d, () => {
          if (left > 0) return;
          this.cuts++;
          end();
        });
        left = Math.max(0, left - d.length);
      });
      for (const s of [near, far]) {
        s.on('error', end);
        s.on('close', end);
      }
      return undefined;
    });
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  after(word, bytes) {
    this.rule = word ? { word, bytes } : null;
  }

  cut() {
    for (const end of [...this.open]) end();
  }

  end() {
    this.cut();
    this.server.close();
  }
}
