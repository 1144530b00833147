/* page_talk_watch.c — the requests about answers: asked for, gone on with, stopped, and watched from any place of their
 * text on, while they are written or afterwards. */
#include <stdlib.h>
#include <string.h>

#include "api_run.h"
#include "clock.h"
#include "page_talk.h"
#include "sse.h"

#define END                                                                                                            \
    {                                                                                                                  \
        NULL, SV_ANY, 0, 0, 0, NULL, NULL, NULL                                                                        \
    }

static const sv_field message_fields[] = {{"id", SV_STR, 24, 24, SV_NO_NUL, NULL, NULL, ""},
                                          {"role", SV_ENUM, 0, 0, 0, "system|user|assistant|tool|text", NULL, ""},
                                          {"content", SV_STR, 0, SV_MAX_TEXT, SV_REQUIRED, NULL, NULL, ""},
                                          {"meta", SV_OBJ, 0, 0, 0, NULL, NULL, ""},
                                          END};

static const sv_field answer_fields[] = {
    {"id", SV_STR, 24, 24, SV_NO_NUL, NULL, NULL, ""},      {"parent", SV_STR, 24, 24, SV_NO_NUL, NULL, NULL, ""},
    {"message", SV_OBJ, 0, 0, 0, NULL, message_fields, ""}, {"settings", SV_OBJ, 0, 0, 0, NULL, NULL, ""},
    {"model", SV_STR, 1, 512, SV_NO_NUL, NULL, NULL, ""},   END};

static const sv_field continue_fields[] = {{"settings", SV_OBJ, 0, 0, 0, NULL, NULL, ""},
                                           {"model", SV_STR, 1, 512, SV_NO_NUL, NULL, NULL, ""},
                                           {"revision", SV_INT, 0, SV_MAX_INT, 0, NULL, NULL, ""},
                                           END};

/* What an answer in this chat is asked with. settings: a new reference. */
static int choose(sv_exchange *r, const sv_app *app, const json_t *chat, const json_t *o, const sv_served **served,
                  json_t **settings, sv_bad *bad)
{
    const char *model = sv_get_str(o, "model", json_string_value(json_object_get(chat, "model")));
    *settings = sv_settings_merge(json_object_get(chat, "settings"), sv_field_get(o, "settings"));
    *served = sv_settings_check(*settings, bad) ? sv_api_model(app, model, "model", bad) : NULL;
    (void)r;
    return *served != NULL;
}

static void tell(sv_exchange *r, const sv_page *p, const char *kind, const char *op, const json_t *object)
{
    if (json_is_object(object))
        sv_feed_change(p->feed, sv_http_key(r), sv_page_tab(r), kind, op,
                       json_string_value(json_object_get(object, "id")), object);
}

/* An answer that could not be started is not left as if it were written. */
static void give_up(const sv_page *p, const json_t *node, const sv_bad *bad)
{
    sv_bad none = {0};
    const json_t *content = json_object_get(node, "content");
    json_t *error = json_pack("{s:s,s:s}", "message", bad->message, "code", bad->code);
    const sv_history_end end = {.status = "error", .error = error};
    json_decref(sv_history_answer_end(p->history, json_string_value(json_object_get(node, "id")),
                                      json_string_value(content), json_string_length(content), &end, &none));
    json_decref(error);
}

/* Start the answer to a node that was made for it. */
static int start(sv_exchange *r, const sv_page *p, const json_t *node, const sv_served *served, const json_t *settings,
                 sv_bad *bad)
{
    const char *parent = json_string_value(json_object_get(node, "parent"));
    json_t *path =
        sv_history_path(p->history, sv_http_key(r), json_string_value(json_object_get(node, "chat")), parent, bad);
    const sv_answer_ask ask = {
        .owner = sv_http_key(r), .node = node, .path = path, .settings = settings, .served = served};
    const int ok = path && sv_answers_start(p->answers, &ask, bad);
    json_decref(path);
    if (!ok)
        give_up(p, node, bad);
    return ok;
}

void sv_talk_answer(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    const sv_page *p = app->page;
    const json_t *o = sv_http_json(r);
    const char *chat_id = sv_http_arg(r);
    sv_bad bad = {0};
    const sv_served *served = NULL;
    json_t *settings = NULL, *made = NULL, *chat = NULL;
    int fresh = 0;
    if (sv_fields_check(o, answer_fields, &bad) && sv_settings_check(sv_field_get(o, "settings"), &bad))
        chat = sv_history_chat(p->history, sv_http_key(r), chat_id, &bad);
    if (chat && choose(r, app, chat, o, &served, &settings, &bad))
        made = sv_history_answer_begin(p->history, sv_http_key(r), chat_id, o, settings, served->name, &fresh, &bad);
    json_decref(chat);
    const json_t *node = json_object_get(made, "node");
    const int ok = made && (!fresh || start(r, p, node, served, settings, &bad));
    json_decref(settings);
    if (ok && fresh) {
        tell(r, p, "node", "created", json_object_get(made, "message"));
        tell(r, p, "node", "created", node);
        chat = sv_history_chat(p->history, sv_http_key(r), chat_id, &bad);
        tell(r, p, "chat", "changed", chat);
        json_decref(chat);
    }
    if (ok) {
        sv_http_reply_json(r, fresh ? 201 : 200, made);
        return;
    }
    json_decref(made);
    sv_page_refuse(r, &bad, NULL);
}

void sv_talk_continue(sv_exchange *r, void *user)
{
    const sv_app *app = user;
    const sv_page *p = app->page;
    const json_t *o = sv_http_json(r);
    const char *id = sv_http_arg(r);
    sv_bad bad = {0};
    const sv_served *served = NULL;
    json_t *settings = NULL, *node = NULL, *chat = NULL, *current = NULL;
    if (sv_fields_check(o, continue_fields, &bad) && sv_settings_check(sv_field_get(o, "settings"), &bad))
        node = sv_history_node(p->history, sv_http_key(r), id, &bad);
    const char *chat_id = json_string_value(json_object_get(node, "chat"));
    if (node)
        chat = sv_history_chat(p->history, sv_http_key(r), chat_id, &bad);
    json_t *again = NULL;
    if (chat && choose(r, app, chat, o, &served, &settings, &bad))
        again = sv_history_answer_again(p->history, sv_http_key(r), id, settings, served->name,
                                        sv_get_int(o, "revision", -1), &current, &bad);
    json_decref(node);
    json_decref(chat);
    const int ok = again && start(r, p, again, served, settings, &bad);
    json_decref(settings);
    if (ok) {
        tell(r, p, "node", "changed", again);
        sv_http_reply_json(r, 200, again);
        return;
    }
    json_decref(again);
    sv_page_refuse(r, &bad, current);
}

/* ---- stopping: the reply is the node as it ended ---- */

typedef struct stopping {
    const sv_page *page;
    sv_watcher watcher;
    int late; /* it had ended already */
} stopping;

static void run_stop(sv_exchange *r, void *user)
{
    stopping *s = user;
    json_t *node = sv_answers_node(s->page->answers, sv_http_arg(r));
    const char *status = json_string_value(json_object_get(node, "status"));
    sv_bad bad = {0};
    if (!node) {
        node = sv_history_node(s->page->history, sv_http_key(r), sv_http_arg(r), &bad);
    } else if (strcmp(status, "streaming") == 0) {
        json_decref(node);
        return; /* woken again when it is over */
    }
    if (node && s->late) {
        sv_refuse(&bad, 409, "answer_not_under_way", "id", "the answer has ended already");
        sv_page_refuse(r, &bad, node);
    } else if (node) {
        sv_http_reply_json(r, 200, node);
    } else {
        sv_page_refuse(r, &bad, NULL);
    }
}

static void end_stop(void *user)
{
    stopping *s = user;
    sv_answers_unwatch(s->page->answers, &s->watcher);
    free(s);
}

void sv_talk_stop(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    stopping *s = calloc(1, sizeof *s);
    sv_bad bad = {0};
    if (!s) {
        sv_http_error(r, 503, NULL, NULL, NULL, "no memory for the request");
        return;
    }
    s->page = p;
    s->watcher.r = r;
    if (sv_answers_watch(p->answers, sv_http_key(r), sv_http_arg(r), &s->watcher)) {
        sv_http_pump(r, run_stop, end_stop, s);
        s->late = !sv_answers_stop(p->answers, sv_http_key(r), sv_http_arg(r));
        return;
    }
    free(s);
    json_t *node = sv_history_node(p->history, sv_http_key(r), sv_http_arg(r), &bad);
    if (node)
        sv_refuse(&bad, 409, "answer_not_under_way", "id", "the answer has ended already");
    sv_page_refuse(r, &bad, node);
}

/* ---- watching ---- */

typedef struct watching {
    const sv_page *page;
    sv_watcher watcher;
    size_t from;
} watching;

static void run_watch(sv_exchange *r, void *user)
{
    watching *w = user;
    (void)r;
    sv_answers_tell(w->page->answers, &w->watcher, w->from);
}

static void end_watch(void *user)
{
    watching *w = user;
    sv_answers_unwatch(w->page->answers, &w->watcher);
    free(w);
}

/* One that has ended: the same events from what was kept. */
static void tell_kept(sv_exchange *r, const sv_page *p, json_t *node, size_t from)
{
    sv_bad bad = {0};
    const json_t *content = json_object_get(node, "content");
    const char *text = json_string_value(content);
    const size_t n = json_string_length(content), at = sv_utf16_bytes(text, n, from), units = sv_utf16_units(text, at);
    json_t *o =
        json_pack("{s:O,s:O,s:I,s:I}", "node", json_object_get(node, "id"), "status", json_object_get(node, "status"),
                  "from", (json_int_t)units, "length", (json_int_t)sv_utf16_units(text, n));
    sv_sse_begin(r);
    sv_sse_json(r, "state", o);
    json_decref(o);
    if (at < n) {
        json_t *tokens = json_is_true(json_object_get(node, "has_tokens"))
                             ? sv_history_tokens(p->history, sv_http_key(r), sv_http_arg(r), &bad)
                             : NULL;
        json_t *behind = json_array();
        for (size_t i = 0; i < json_array_size(tokens); i++)
            if ((size_t)sv_get_int(json_array_get(tokens, i), "at", 0) >= units)
                json_array_append(behind, json_array_get(tokens, i));
        o = json_pack("{s:I,s:o}", "at", (json_int_t)units, "text", sv_json_text(text + at, n - at));
        if (json_array_size(behind))
            json_object_set(o, "tokens", behind);
        sv_sse_json(r, "text", o);
        json_decref(o);
        json_decref(behind);
        json_decref(tokens);
    }
    o = json_pack("{s:O}", "node", node);
    sv_sse_json(r, "end", o);
    json_decref(o);
    sv_http_end(r);
}

void sv_talk_watch(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    const char *asked = sv_http_query(r, "from");
    char *end = NULL;
    sv_bad bad = {0};
    const unsigned long long from = asked ? strtoull(asked, &end, 10) : 0;
    if (asked && (*end || end == asked || *asked == '-')) {
        sv_http_error(r, 400, NULL, "from", "invalid_value", "from: wanted an offset into the text");
        return;
    }
    watching *w = calloc(1, sizeof *w);
    if (!w) {
        sv_http_error(r, 503, NULL, NULL, NULL, "no memory for the request");
        return;
    }
    w->page = p;
    w->from = (size_t)from;
    w->watcher.r = r;
    if (sv_answers_watch(p->answers, sv_http_key(r), sv_http_arg(r), &w->watcher)) {
        sv_http_pump(r, run_watch, end_watch, w);
        return;
    }
    free(w);
    json_t *node = sv_history_node(p->history, sv_http_key(r), sv_http_arg(r), &bad);
    if (node)
        tell_kept(r, p, node, (size_t)from);
    else
        sv_page_refuse(r, &bad, NULL);
    json_decref(node);
}

void sv_talk_answers(sv_exchange *r, void *app)
{
    sv_http_reply_json(r, 200,
                       json_pack("{s:o}", "answers", sv_answers_list(sv_page_of(app)->answers, sv_http_key(r))));
}
