// openai.mjs — the npm client `openai` against a server: node openai.mjs URL MODEL, in a folder with node_modules.
// Ends with "ok" or with what did not hold.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { OpenAI, BadRequestError, NotFoundError } = createRequire(process.cwd() + "/")("openai");
const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url + "/v1", apiKey: "none", maxRetries: 0, timeout: 300000 });
const messages = [{ role: "user", content: "Tell me of the king." }];
const ask = { model, messages, max_tokens: 8, seed: 1 };

const models = [];
for await (const m of client.models.list()) models.push(m.id);
assert.deepEqual(models, [model]);
assert.equal((await client.models.retrieve(model)).id, model);

const whole = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 2 });
assert.equal(whole.choices[0].logprobs.content.length, 8);
assert.equal(whole.usage.completion_tokens, 8);

let text = "", usage;
for await (const chunk of await client.chat.completions.create({
    ...ask, stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(usage.completion_tokens, 8);
assert.ok(usage.prompt_tokens_details.cached_tokens > 0);
assert.equal(await client.chat.completions.stream(ask).finalContent(), text);

const prompt = "Once upon a time there was a king, and";
const long = await client.completions.create({ model, prompt, max_tokens: 4, temperature: 0, echo: true, logprobs: 1 });
assert.ok(long.choices[0].text.startsWith(prompt));
assert.equal(long.choices[0].logprobs.token_logprobs[0], null);

const both = await client.embeddings.create({ model, input: ["a king", "a queen"] }); // base64 on the wire
assert.equal(both.data.length, 2);
assert.ok(Math.abs(both.data[0].embedding.reduce((s, x) => s + x * x, 0) - 1) < 1e-3);

const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false };
const formed = await client.chat.completions.create({ ...ask, max_tokens: 60, temperature: 0,
    response_format: { type: "json_schema", json_schema: { name: "x", schema, strict: true } } });
assert.equal(typeof JSON.parse(formed.choices[0].message.content).ok, "boolean");

await assert.rejects(client.chat.completions.create({ ...ask, temperature: -3 }),
    (e) => e instanceof BadRequestError && e.param === "temperature");
await assert.rejects(client.chat.completions.create({ ...ask, model: "gpt-4" }), NotFoundError);

// A reader that leaves: the answer stops.
const left = await client.chat.completions.create({ ...ask, max_tokens: 400, stream: true, logit_bias: { 2: -100 } });
for await (const chunk of left) if (chunk.choices[0]?.delta?.content) break;
assert.ok(left.controller.signal.aborted);
console.log("ok");
