/* openai_chat.c — POST /v1/chat/completions: a conversation through the chat template, answered whole or in chunks,
 * with tool calls read back from the text where the template's form of them is known. */
#include "api_handlers.h"

#include <stdlib.h>
#include <string.h>

#include "api_usage.h"
#include "sse.h"

static json_t *alternatives(const zamba_model *m, const sv_token *t)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->n_top; i++)
        json_array_append_new(list, json_pack("{s:o,s:o,s:o}", "token", sv_token_text(m, t->top[i].id), "logprob",
                                              sv_logprob(t->top[i].logprob), "bytes", sv_token_bytes(m, t->top[i].id)));
    return list;
}

json_t *sv_chat_logprobs(const sv_run *run, const sv_choice *c)
{
    const zamba_model *m = run->ask.served->model;
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_tokens; i++) {
        const sv_token *t = c->tokens + i;
        json_array_append_new(list, json_pack("{s:o,s:o,s:o,s:o}", "token", sv_token_text(m, t->id), "logprob",
                                              sv_logprob(t->logprob), "bytes", sv_token_bytes(m, t->id), "top_logprobs",
                                              alternatives(m, t)));
    }
    return list;
}

static json_t *logprobs_of(const sv_run *run, const sv_choice *c)
{
    if (run->ask.request.top_logprobs < 0)
        return json_null();
    return json_pack("{s:o,s:n}", "content", sv_chat_logprobs(run, c), "refusal");
}

/* ---- Streams ---- */

/* choices NULL: none */
static json_t *chunk_of(const sv_run *run, json_t *choice)
{
    json_t *o = json_pack("{s:o,s:s,s:I,s:s,s:s,s:o}", "id", sv_reply_id(run->r, "chatcmpl"), "object",
                          "chat.completion.chunk", "created", (json_int_t)run->created, "model", run->ask.served->name,
                          "system_fingerprint", "zamba", "choices", choice ? json_pack("[o]", choice) : json_array());
    if (run->ask.include_usage)
        json_object_set_new(o, "usage", json_null());
    return o;
}

static void send_delta(sv_run *run, sv_choice *c, json_t *delta, json_t *logprobs, const char *finish)
{
    json_t *choice = json_pack("{s:i,s:o,s:o,s:s?}", "index", (int)c->index, "delta", delta, "logprobs", logprobs,
                               "finish_reason", finish);
    if (finish && *c->last->state_id)
        json_object_set_new(choice, "state", json_string(c->last->state_id));
    if (c->begun > 1)
        sv_put_ids(choice, run, c, finish != NULL);
    json_t *o = chunk_of(run, choice);
    sv_sse_json(run->r, NULL, o);
    json_decref(o);
}

static void begin_choice(sv_run *run, sv_choice *c)
{
    if (c->begun)
        return;
    c->begun = 1;
    send_delta(run, c, json_pack("{s:s,s:s}", "role", "assistant", "content", ""), json_null(), NULL);
    c->begun = 2; /* what is there so far goes out with the text */
}

static void send_calls(sv_run *run, sv_choice *c, json_t *calls)
{
    for (size_t i = 0; i < json_array_size(calls); i++)
        json_object_set_new(json_array_get(calls, i), "index", json_integer((json_int_t)i));
    send_delta(run, c, json_pack("{s:o}", "tool_calls", calls), json_null(), NULL);
}

/* What is sent is taken out; what may become a call waits. */
static void send_text(sv_run *run, sv_choice *c, const char *text, size_t n, size_t n_taken)
{
    if (n || (c->n_tokens && (run->ask.request.top_logprobs >= 0 || run->token_ids)))
        send_delta(run, c, json_pack("{s:o}", "content", sv_json_text(text, n)), logprobs_of(run, c), NULL);
    const size_t left = c->n_text - n_taken;
    memmove(c->text, c->text + n_taken, left + 1);
    sv_choice_clear(c);
    c->n_text = left;
    c->n_sent += n;
}

static void chat_piece(sv_run *run, sv_choice *c)
{
    begin_choice(run, c);
    const sv_tool_form form = run->ask.tools;
    const int may_call = form == SV_TOOLS_TAGGED || (form == SV_TOOLS_BARE && !c->n_sent);
    const size_t plain = may_call ? sv_tools_plain(form, c->text, c->n_text) : c->n_text;
    char *rest = NULL;
    size_t n_rest = 0;
    json_t *calls = c->ended && plain < c->n_text ? sv_tools_parse(form, c->text, c->n_text, &rest, &n_rest) : NULL;
    if (calls)
        send_text(run, c, rest, n_rest, c->n_text);
    else if (c->ended)
        send_text(run, c, c->text, c->n_text, c->n_text);
    else if (plain || !may_call)
        send_text(run, c, c->text, plain, plain);
    free(rest);
    if (calls) {
        c->called = 1;
        send_calls(run, c, calls);
    }
    if (c->ended)
        send_delta(run, c, json_object(), json_null(), sv_finish_reason(c));
}

static void chat_progress(sv_run *run, sv_choice *c, const sv_event *ev)
{
    json_t *choice = json_pack("{s:i,s:{},s:n,s:n}", "index", (int)c->index, "delta", "logprobs", "finish_reason");
    sv_send_progress(run, chunk_of(run, choice), ev);
}

static void chat_end(sv_run *run)
{
    if (run->ask.include_usage) {
        json_t *o = chunk_of(run, NULL);
        json_object_set_new(o, "usage", sv_usage_json(run));
        json_object_set_new(o, "timings", sv_timings_json(run));
        sv_sse_json(run->r, NULL, o);
        json_decref(o);
    }
    sv_sse_event(run->r, NULL, "[DONE]", 6);
}

/* ---- Whole ---- */

static json_t *whole_choice(sv_run *run, sv_choice *c)
{
    char *rest = NULL;
    size_t n_rest = 0;
    json_t *calls = sv_tools_parse(run->ask.tools, c->text, c->n_text, &rest, &n_rest);
    json_t *content = calls ? (n_rest ? sv_json_text(rest, n_rest) : json_null()) : sv_json_text(c->text, c->n_text);
    json_t *message = json_pack("{s:s,s:o,s:n}", "role", "assistant", "content", content, "refusal");
    if (calls) {
        c->called = 1;
        json_object_set_new(message, "tool_calls", calls);
    }
    free(rest);
    json_t *o = json_pack("{s:i,s:o,s:o,s:s}", "index", (int)c->index, "message", message, "logprobs",
                          logprobs_of(run, c), "finish_reason", sv_finish_reason(c));
    if (*c->last->state_id)
        json_object_set_new(o, "state", json_string(c->last->state_id));
    sv_put_ids(o, run, c, 1);
    return o;
}

static json_t *chat_whole(sv_run *run)
{
    json_t *list = json_array();
    for (size_t i = 0; i < run->n_choices; i++)
        json_array_append_new(list, whole_choice(run, run->choices + i));
    return json_pack("{s:o,s:s,s:I,s:s,s:s,s:o,s:o,s:o}", "id", sv_reply_id(run->r, "chatcmpl"), "object",
                     "chat.completion", "created", (json_int_t)run->created, "model", run->ask.served->name,
                     "system_fingerprint", "zamba", "choices", list, "usage", sv_usage_json(run), "timings",
                     sv_timings_json(run));
}

static const sv_style style = {"text/event-stream", chat_progress, chat_piece, chat_end, sv_send_error, chat_whole};

static int fill(sv_run *run, const json_t *o, sv_bad *bad)
{
    sv_ask *a = &run->ask;
    if (!sv_ask_openai(a, o, bad))
        return 0;
    a->request.max_tokens = (int32_t)sv_get_int(o, "max_completion_tokens", sv_get_int(o, "max_tokens", -1));
    run->token_ids = sv_get_bool(o, "return_token_ids", 0);
    if (sv_get_bool(o, "logprobs", 0))
        a->request.top_logprobs = (int32_t)sv_get_int(o, "top_logprobs", 0);
    else if (sv_get_int(o, "top_logprobs", 0) > 0)
        return sv_refuse(bad, 400, "invalid_value", "top_logprobs", "top_logprobs: without logprobs");
    return sv_ask_chat(a, o, json_object_get(o, "messages"), sv_field_get(o, "tools"), bad);
}

void sv_openai_chat(sv_exchange *r, void *app)
{
    json_t *o;
    const sv_served *served;
    sv_bad bad = {0};
    if (!sv_api_read(r, app, sv_fields_chat, &o, &served, &bad))
        return;
    sv_run_begin(r, app, &style, o, served, 0, fill);
}
