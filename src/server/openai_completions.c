/* openai_completions.c — POST /v1/completions: texts and ids gone on with; the prompt's own log-probabilities with
 * `echo`, which is how evaluations score answers. */
#include "api_handlers.h"

#include <stdlib.h>
#include <string.h>

#include "api_usage.h"
#include "sse.h"

/* ---- Log-probabilities in the old shape ---- */

typedef struct lists {
    json_t *tokens, *values, *tops, *offsets;
    size_t at;   /* characters so far */
    size_t lead; /* of the first token's text that the whole's does not have: its space */
} lists;

static size_t characters(const char *text, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += ((unsigned char)text[i] & 0xc0) != 0x80;
    return k;
}

/* Characters that a token adds to the text. */
static size_t width(const zamba_model *m, int32_t id)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(m);
    if (!t || zamba_tokenizer_is_special(t, id))
        return 0;
    json_t *bytes = sv_token_bytes(m, id);
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(bytes); i++)
        n += (json_integer_value(json_array_get(bytes, i)) & 0xc0) != 0x80;
    json_decref(bytes);
    return n;
}

static void add_token(lists *l, const zamba_model *m, const sv_token *t, int n_top, int first)
{
    json_array_append_new(l->tokens, sv_token_text(m, t->id));
    json_array_append_new(l->offsets, json_integer((json_int_t)l->at));
    size_t w = width(m, t->id);
    if (w && l->lead) {
        w -= l->lead;
        l->lead = 0;
    }
    l->at += w;
    json_array_append_new(l->values, first ? json_null() : sv_logprob(t->logprob));
    if (first || n_top == 0) {
        json_array_append_new(l->tops, json_null());
        return;
    }
    json_t *top = json_object();
    for (size_t i = 0; i < t->n_top && i < (size_t)n_top; i++) {
        json_t *text = sv_token_text(m, t->top[i].id); /* of ids that look alike the best counts */
        if (!json_object_get(top, json_string_value(text)))
            json_object_set_new(top, json_string_value(text), sv_logprob(t->top[i].logprob));
        json_decref(text);
    }
    json_t *text = sv_token_text(m, t->id);
    if (!json_object_get(top, json_string_value(text)))
        json_object_set_new(top, json_string_value(text), sv_logprob(t->logprob));
    json_decref(text);
    json_array_append_new(l->tops, top);
}

/* The prompt's text for echo. Released with free. */
static char *prompt_text(const sv_run *run, const sv_prompt *p, size_t *n)
{
    char *text = NULL;
    if (p->text) {
        text = malloc(p->n_text + 1);
        if (text)
            memcpy(text, p->text, p->n_text + 1);
        *n = text ? p->n_text : 0;
        return text;
    }
    const zamba_tokenizer *t = zamba_model_tokenizer(run->ask.served->model);
    *n = 0;
    if (t)
        zamba_detokenize(t, p->ids, p->n, 0, &text, n, NULL);
    return text;
}

static json_t *logprobs_of(const sv_run *run, const sv_choice *c, const char *echo, size_t n_echo)
{
    const zamba_model *m = run->ask.served->model;
    const int n_top = run->ask.request.top_logprobs;
    if (n_top < 0)
        return json_null();
    lists l = {json_array(), json_array(), json_array(), json_array(), c->n_sent, 0};
    const sv_prompt *p = run->ask.prompts + c->prompt;
    if (run->echo && c->last && c->last->prompt_tokens) {
        size_t sum = 0;
        for (size_t i = 0; i < p->n; i++)
            sum += width(m, p->ids[i]);
        l.lead = sum == characters(echo, n_echo) + 1;
        for (size_t i = 0; i < p->n; i++)
            add_token(&l, m, c->last->prompt_tokens + i, n_top, i == 0);
        l.lead = 0;
    }
    for (size_t i = 0; i < c->n_tokens; i++)
        add_token(&l, m, c->tokens + i, n_top, 0);
    return json_pack("{s:o,s:o,s:o,s:o}", "tokens", l.tokens, "token_logprobs", l.values, "top_logprobs", l.tops,
                     "text_offset", l.offsets);
}

static json_t *choice_of(const sv_run *run, const sv_choice *c, json_t *text, json_t *logprobs, const char *finish)
{
    json_t *o = json_pack("{s:o,s:i,s:o,s:s?}", "text", text, "index", (int)c->index, "logprobs", logprobs,
                          "finish_reason", finish);
    if (finish && *c->last->state_id)
        json_object_set_new(o, "state", json_string(c->last->state_id));
    sv_put_ids(o, run, c, finish != NULL);
    return o;
}

static json_t *reply_of(const sv_run *run, json_t *choices)
{
    return json_pack("{s:o,s:s,s:I,s:s,s:s,s:o}", "id", sv_reply_id(run->r, "cmpl"), "object", "text_completion",
                     "created", (json_int_t)run->created, "model", run->ask.served->name, "system_fingerprint", "zamba",
                     "choices", choices);
}

/* ---- Streams ---- */

static void send(sv_run *run, json_t *choice)
{
    json_t *o = reply_of(run, choice ? json_pack("[o]", choice) : json_array());
    if (run->ask.include_usage)
        json_object_set_new(o, "usage", choice ? json_null() : sv_usage_json(run));
    if (!choice)
        json_object_set_new(o, "timings", sv_timings_json(run));
    sv_sse_json(run->r, NULL, o);
    json_decref(o);
}

static void completion_piece(sv_run *run, sv_choice *c)
{
    if (!c->begun && run->echo) {
        size_t n = 0;
        char *text = prompt_text(run, run->ask.prompts + c->prompt, &n);
        send(run, choice_of(run, c, sv_json_text(text, n), json_null(), NULL));
        c->n_sent = characters(text, n);
        zamba_free(text);
    }
    c->begun = 1;
    const int tokens = c->n_tokens && (run->ask.request.top_logprobs >= 0 || run->token_ids);
    if (!c->n_text && !tokens && !c->ended)
        return;
    send(run, choice_of(run, c, sv_json_text(c->text, c->n_text), logprobs_of(run, c, NULL, 0),
                        c->ended ? sv_finish_reason(c) : NULL));
    c->n_sent += characters(c->text, c->n_text);
    sv_choice_clear(c);
}

static void completion_progress(sv_run *run, sv_choice *c, const sv_event *ev)
{
    sv_send_progress(run, reply_of(run, json_pack("[o]", choice_of(run, c, json_string(""), json_null(), NULL))), ev);
}

static void completion_end(sv_run *run)
{
    if (run->ask.include_usage)
        send(run, NULL);
    sv_sse_event(run->r, NULL, "[DONE]", 6);
}

/* ---- Whole ---- */

static json_t *whole_choice(sv_run *run, const sv_choice *c)
{
    size_t n_echo = 0;
    char *echo = run->echo ? prompt_text(run, run->ask.prompts + c->prompt, &n_echo) : NULL;
    char *text = malloc(n_echo + c->n_text + 1);
    if (text) {
        if (n_echo)
            memcpy(text, echo, n_echo);
        if (c->n_text)
            memcpy(text + n_echo, c->text, c->n_text);
    }
    json_t *o = choice_of(run, c, text ? sv_json_text(text, n_echo + c->n_text) : json_string(""),
                          logprobs_of(run, c, echo, n_echo), sv_finish_reason(c));
    free(text);
    zamba_free(echo);
    return o;
}

static json_t *completion_whole(sv_run *run)
{
    json_t *list = json_array();
    for (size_t i = 0; i < run->n_choices; i++)
        json_array_append_new(list, whole_choice(run, run->choices + i));
    json_t *o = reply_of(run, list);
    json_object_set_new(o, "usage", sv_usage_json(run));
    json_object_set_new(o, "timings", sv_timings_json(run));
    return o;
}

static const sv_style style = {"text/event-stream", completion_progress, completion_piece,
                               completion_end,      sv_send_error,       completion_whole};

static int fill(sv_run *run, const json_t *o, sv_bad *bad)
{
    sv_ask *a = &run->ask;
    if (!sv_ask_openai(a, o, bad))
        return 0;
    run->echo = sv_get_bool(o, "echo", 0);
    run->token_ids = sv_get_bool(o, "return_token_ids", 0);
    a->request.max_tokens = (int32_t)sv_get_int(o, "max_tokens", 16);
    a->request.top_logprobs = (int32_t)sv_get_int(o, "logprobs", -1);
    a->request.prompt_logprobs = run->echo ? a->request.top_logprobs : -1;
    a->request.keep_space = 1;
    if (sv_get_int(o, "best_of", (int64_t)a->n) != (int64_t)a->n)
        return sv_refuse(bad, 400, "unsupported_value", "best_of", "best_of: only the value of n (%zu) is supported",
                         a->n);
    if (a->stream && run->echo && a->request.top_logprobs >= 0)
        return sv_refuse(bad, 400, "unsupported_value", "logprobs",
                         "logprobs: with echo they are there at the end only, wanted no stream");
    return sv_prompts_read(&a->prompts, &a->n_prompts, a->served->model, json_object_get(o, "prompt"),
                           sv_get_bool(o, "add_special_tokens", a->request.state_id == NULL), "prompt", bad);
}

void sv_openai_completions(sv_exchange *r, void *app)
{
    json_t *o;
    const sv_served *served;
    sv_bad bad = {0};
    if (!sv_api_read(r, app, sv_fields_completion, &o, &served, &bad))
        return;
    sv_run_begin(r, app, &style, o, served, 0, fill);
}
