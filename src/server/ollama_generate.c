/* ollama_generate.c — POST /api/chat and /api/generate of Ollama: lines of JSON unless told otherwise, durations in
 * nanoseconds, and the ids so far as `context`. */
#define _GNU_SOURCE
#include "api_handlers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api_usage.h"

enum { CHAT, GENERATE };

static json_t *now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return sv_ollama_time((int64_t)t.tv_sec, t.tv_nsec);
}

/* A reply with text, and with Ollama's form of the calls (or NULL). */
static json_t *reply_of(const sv_run *run, const sv_choice *c, const char *text, size_t n, json_t *calls, int done)
{
    json_t *o = json_pack("{s:s,s:o}", "model", run->ask.served->name, "created_at", now());
    if (run->flavour == CHAT) {
        json_t *message = json_pack("{s:s,s:o}", "role", "assistant", "content", sv_json_text(text, n));
        if (calls)
            json_object_set_new(message, "tool_calls", calls);
        json_object_set_new(o, "message", message);
    } else {
        json_object_set_new(o, "response", sv_json_text(text, n));
    }
    json_object_set_new(o, "done", json_boolean(done));
    if (c && c->n_tokens && run->ask.request.top_logprobs >= 0)
        json_object_set_new(o, "logprobs", sv_chat_logprobs(run, c));
    return o;
}

static json_t *ollama_calls(json_t *calls)
{
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *f = json_object_get(json_array_get(calls, i), "function");
        const json_t *text = json_object_get(f, "arguments");
        json_t *arguments = json_loadb(json_string_value(text), json_string_length(text), JSON_ALLOW_NUL, NULL);
        if (!json_is_object(arguments)) {
            json_decref(arguments);
            arguments = json_object();
        }
        json_array_append_new(
            list, json_pack("{s:{s:O,s:o}}", "function", "name", json_object_get(f, "name"), "arguments", arguments));
    }
    json_decref(calls);
    return list;
}

static json_int_t nanoseconds(double s)
{
    return (json_int_t)(1e9 * s);
}

static void add_numbers(json_t *o, const sv_run *run, const sv_choice *c)
{
    const sv_usage u = sv_run_usage(run);
    json_t *numbers = json_pack(
        "{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "done_reason",
        c->last->stop == ZAMBA_STOP_LENGTH || c->last->stop == ZAMBA_STOP_CONTEXT ? "length" : "stop", "total_duration",
        nanoseconds(sv_api_now() - run->begun), "load_duration", nanoseconds(run->loaded), "prompt_eval_count",
        (json_int_t)u.prompt, "prompt_eval_cached_count", (json_int_t)u.cached, "prompt_eval_duration",
        nanoseconds(u.prefill_s), "eval_count", (json_int_t)u.generated, "eval_duration", nanoseconds(u.decode_s));
    json_object_update(o, numbers);
    json_decref(numbers);
    if (!run->ids)
        return;
    const zamba_tokenizer *t = zamba_model_tokenizer(run->ask.served->model);
    if (c->last->stop == ZAMBA_STOP_EOS && t && zamba_tokenizer_eos(t) >= 0)
        json_array_append_new(run->ids, json_integer(zamba_tokenizer_eos(t)));
    json_object_set(o, "context", run->ids);
}

static void note_ids(sv_run *run, const sv_choice *c)
{
    for (size_t i = 0; run->ids && i < c->n_tokens; i++)
        json_array_append_new(run->ids, json_integer(c->tokens[i].id));
}

/* ---- Streams ---- */

static void send(sv_run *run, json_t *o)
{
    sv_http_write_json_line(run->r, o);
    json_decref(o);
}

static void ollama_piece(sv_run *run, sv_choice *c)
{
    const sv_tool_form form = run->ask.tools;
    const int may_call = form == SV_TOOLS_TAGGED || (form == SV_TOOLS_BARE && !c->n_sent);
    size_t n = may_call ? sv_tools_plain(form, c->text, c->n_text) : c->n_text;
    char *rest = NULL;
    size_t n_rest = 0;
    json_t *calls = c->ended && n < c->n_text ? sv_tools_parse(form, c->text, c->n_text, &rest, &n_rest) : NULL;
    if (c->ended)
        n = c->n_text;
    note_ids(run, c);
    if (calls)
        send(run, reply_of(run, c, rest, n_rest, ollama_calls(calls), 0));
    else if (n)
        send(run, reply_of(run, c, c->text, n, NULL, 0));
    free(rest);
    const size_t left = c->n_text - n;
    memmove(c->text, c->text + n, left + 1);
    sv_choice_clear(c);
    c->n_text = left;
    c->n_sent += n;
}

/* An empty piece with one more key, while a long prompt is read. */
static void ollama_progress(sv_run *run, sv_choice *c, const sv_event *ev)
{
    const int waits = ev->kind == SV_QUEUED;
    (void)c;
    if (!waits && ev->done >= ev->total)
        return;
    json_t *o = reply_of(run, NULL, "", 0, NULL, 0);
    json_object_set_new(o, waits ? "load_progress" : "prompt_progress",
                        waits ? sv_wait_json(run) : sv_progress_json(run, ev));
    send(run, o);
}

static void ollama_end(sv_run *run)
{
    json_t *o = reply_of(run, NULL, "", 0, NULL, 1);
    add_numbers(o, run, run->choices);
    send(run, o);
}

static void ollama_fail(sv_run *run, int status, const char *message)
{
    (void)status;
    send(run, json_pack("{s:o}", "error", sv_json_text(message, strlen(message))));
}

/* ---- Whole ---- */

static json_t *ollama_whole(sv_run *run)
{
    sv_choice *c = run->choices;
    char *rest = NULL;
    size_t n_rest = 0;
    json_t *calls = sv_tools_parse(run->ask.tools, c->text, c->n_text, &rest, &n_rest);
    note_ids(run, c);
    json_t *o =
        calls ? reply_of(run, c, rest, n_rest, ollama_calls(calls), 1) : reply_of(run, c, c->text, c->n_text, NULL, 1);
    free(rest);
    add_numbers(o, run, c);
    return o;
}

static const sv_style style = {
    "application/x-ndjson", ollama_progress, ollama_piece, ollama_end, ollama_fail, ollama_whole};

/* ---- Requests ---- */

/* num_ctx bounds prompt and answer together. */
static int bound_context(sv_ask *a, const json_t *o, sv_bad *bad)
{
    const int64_t most = sv_get_int(sv_field_get(o, "options"), "num_ctx", 0);
    const int64_t n = (int64_t)a->prompts[0].n;
    if (most <= 0)
        return 1;
    if (n >= most)
        return sv_refuse(bad, 400, "context_length_exceeded", "options.num_ctx",
                         "options.num_ctx: the prompt has %lld tokens, wanted fewer than %lld", (long long)n,
                         (long long)most);
    if (a->request.max_tokens < 0 || a->request.max_tokens > most - n)
        a->request.max_tokens = (int32_t)(most - n);
    return 1;
}

/* The ids of the conversation before, in front of the prompt. */
static int put_context(sv_prompt *p, const json_t *context, const zamba_model *m, sv_bad *bad)
{
    const size_t n = json_array_size(context);
    sv_prompt *before = NULL;
    size_t n_before = 0;
    if (!n)
        return 1;
    int ok = sv_prompts_read(&before, &n_before, m, context, 0, "context", bad);
    int32_t *ids = ok ? malloc((n + p->n) * sizeof *ids) : NULL;
    if (ids) {
        memcpy(ids, before->ids, n * sizeof *ids);
        memcpy(ids + n, p->ids, p->n * sizeof *ids);
        zamba_free(p->ids);
        p->ids = ids;
        p->n += n;
        for (size_t i = 0; i < p->n_borders; i++)
            p->borders[i] += n;
    } else if (ok) {
        ok = sv_refuse(bad, 503, "unavailable", NULL, "no memory for the request");
    }
    sv_prompts_free(before, n_before);
    return ok;
}

static int fill_generate(sv_run *run, const json_t *o, sv_bad *bad)
{
    sv_ask *a = &run->ask;
    const json_t *prompt = sv_field_get(o, "prompt"), *system = sv_field_get(o, "system");
    if (sv_get_bool(o, "raw", 0)) {
        a->request.keep_space = 1;
        return sv_prompts_read(&a->prompts, &a->n_prompts, a->served->model, prompt, 1, "prompt", bad);
    }
    json_t *messages = json_array();
    if (json_string_length(system))
        json_array_append_new(messages, json_pack("{s:s,s:O}", "role", "system", "content", system));
    json_array_append_new(messages, json_pack("{s:s,s:O}", "role", "user", "content", prompt));
    const int ok = sv_ask_chat(a, o, messages, NULL, bad) &&
                   put_context(a->prompts, sv_field_get(o, "context"), a->served->model, bad);
    json_decref(messages);
    run->ids = ok ? json_array() : NULL;
    for (size_t i = 0; ok && i < a->prompts->n; i++)
        json_array_append_new(run->ids, json_integer(a->prompts->ids[i]));
    return ok;
}

static int fill(sv_run *run, const json_t *o, sv_bad *bad)
{
    sv_ask *a = &run->ask;
    if (!sv_ask_ollama(a, o, bad))
        return 0;
    const int ok = run->flavour == CHAT ? sv_ask_chat(a, o, sv_field_get(o, "messages"), sv_field_get(o, "tools"), bad)
                                        : fill_generate(run, o, bad);
    return ok && bound_context(a, o, bad);
}

static void reply_done(sv_exchange *r, const sv_served *served, int chat, const char *reason)
{
    json_t *reply =
        json_pack("{s:s,s:o,s:b,s:s}", "model", served->name, "created_at", now(), "done", 1, "done_reason", reason);
    if (chat)
        json_object_set_new(reply, "message", json_pack("{s:s,s:s}", "role", "assistant", "content", ""));
    else
        json_object_set_new(reply, "response", json_string(""));
    sv_http_reply_json(r, 200, reply);
}

static void chat_loaded(sv_exchange *r, const sv_app *app, const sv_served *served, json_t *o)
{
    (void)app;
    (void)o;
    reply_done(r, served, 1, "load");
}

static void generate_loaded(sv_exchange *r, const sv_app *app, const sv_served *served, json_t *o)
{
    (void)app;
    (void)o;
    reply_done(r, served, 0, "load");
}

static void answer(sv_exchange *r, const sv_app *app, const sv_field *fields, int flavour)
{
    json_t *o;
    const sv_served *served;
    sv_bad bad = {0};
    if (!sv_api_read(r, app, fields, &o, &served, &bad))
        return;
    const json_t *asked = flavour == CHAT ? sv_field_get(o, "messages") : sv_field_get(o, "prompt");
    if (flavour == CHAT ? json_array_size(asked) : json_string_length(asked)) {
        sv_run_begin(r, app, &style, o, served, flavour, fill);
    } else if (sv_get_seconds(o, "keep_alive", NAN) == 0) { /* nothing to answer: the model is to go, or to come */
        sv_models_expire(app->models, served);
        reply_done(r, served, flavour == CHAT, "unload");
    } else {
        sv_api_hold(r, app, served, o, flavour == CHAT ? chat_loaded : generate_loaded);
    }
}

void sv_ollama_chat(sv_exchange *r, void *app)
{
    answer(r, app, sv_fields_ollama_chat, CHAT);
}

void sv_ollama_generate(sv_exchange *r, void *app)
{
    answer(r, app, sv_fields_ollama_generate, GENERATE);
}
