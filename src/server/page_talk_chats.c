/* page_talk_chats.c — the requests about chats, folders, presets and nodes: their bodies are checked here, the rest is
 * the history's. What changed is told to every tab. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "page_talk.h"

/* ---- tables of bodies ---- */

#define MOST_TITLE  1000
#define MOST_SYSTEM 1048576
#define MOST_META   65536
#define FIELD(name, type, lo, hi)                                                                                      \
    {                                                                                                                  \
        name, type, lo, hi, SV_NO_NUL, NULL, NULL, ""                                                                  \
    }
#define WORD(name, values, flags)                                                                                      \
    {                                                                                                                  \
        name, SV_ENUM, 0, 0, flags, values, NULL, ""                                                                   \
    }
#define END                                                                                                            \
    {                                                                                                                  \
        NULL, SV_ANY, 0, 0, 0, NULL, NULL, NULL                                                                        \
    }

static const sv_field chat_fields[] = {FIELD("id", SV_STR, 24, 24),
                                       WORD("kind", "chat|notebook", 0),
                                       FIELD("title", SV_STR, 0, MOST_TITLE),
                                       FIELD("folder", SV_STR, 24, 24),
                                       FIELD("pinned", SV_BOOL, 0, 0),
                                       FIELD("model", SV_STR, 1, 512),
                                       FIELD("system", SV_STR, 0, MOST_SYSTEM),
                                       FIELD("settings", SV_OBJ, 0, 0),
                                       FIELD("leaf", SV_STR, 24, 24),
                                       FIELD("state", SV_STR, 1, 39),
                                       FIELD("revision", SV_INT, 0, SV_MAX_INT),
                                       END};

static const sv_field thing_fields[] = {FIELD("id", SV_STR, 24, 24),
                                        {"name", SV_STR, 1, MOST_TITLE, SV_REQUIRED | SV_NO_NUL, NULL, NULL, ""},
                                        FIELD("position", SV_INT, -SV_MAX_INT, SV_MAX_INT),
                                        FIELD("system", SV_STR, 0, MOST_SYSTEM),
                                        FIELD("settings", SV_OBJ, 0, 0),
                                        FIELD("revision", SV_INT, 0, SV_MAX_INT),
                                        END};

static const sv_field thing_changes[] = {
    FIELD("name", SV_STR, 1, MOST_TITLE),     FIELD("position", SV_INT, -SV_MAX_INT, SV_MAX_INT),
    FIELD("system", SV_STR, 0, MOST_SYSTEM),  FIELD("settings", SV_OBJ, 0, 0),
    FIELD("revision", SV_INT, 0, SV_MAX_INT), END};

static const sv_field top_fields[] = {FIELD("id", SV_INT, 0, SV_MAX_INT), FIELD("text", SV_STR, 0, 4096),
                                      FIELD("logprob", SV_NUM, -1e9, 1e9), END};

static const sv_field token_fields[] = {{"at", SV_INT, 0, SV_MAX_INT, SV_REQUIRED, NULL, NULL, ""},
                                        {"n", SV_INT, 0, SV_MAX_INT, SV_REQUIRED, NULL, NULL, ""},
                                        FIELD("id", SV_INT, 0, SV_MAX_INT),
                                        FIELD("text", SV_STR, 0, 4096),
                                        FIELD("logprob", SV_NUM, -1e9, 1e9),
                                        {"top", SV_LIST, 0, 64, 0, NULL, top_fields, ""},
                                        END};

static const sv_field node_fields[] = {FIELD("id", SV_STR, 24, 24),
                                       FIELD("parent", SV_STR, 24, 24),
                                       WORD("role", "system|user|assistant|tool|text", SV_REQUIRED),
                                       {"content", SV_STR, 0, SV_MAX_TEXT, SV_REQUIRED, NULL, NULL, ""},
                                       FIELD("meta", SV_OBJ, 0, 0),
                                       {"tokens", SV_LIST, 0, 1e6, 0, NULL, token_fields, ""},
                                       FIELD("copy", SV_STR, 24, 24),
                                       END};

static const sv_field node_changes[] = {FIELD("revision", SV_INT, 0, SV_MAX_INT),
                                        {"content", SV_STR, 0, SV_MAX_TEXT, 0, NULL, NULL, ""},
                                        FIELD("meta", SV_OBJ, 0, 0),
                                        END};

static int check_meta(const json_t *o, sv_bad *bad)
{
    const json_t *meta = sv_field_get(o, "meta");
    char *text = meta ? json_dumps(meta, JSON_COMPACT) : NULL;
    const size_t n = text ? strlen(text) : 0;
    free(text);
    return n <= MOST_META
               ? 1
               : sv_refuse(bad, 400, "invalid_value", "meta", "meta: %zu bytes, wanted up to %d", n, MOST_META);
}

/* The body, checked; NULL: refused. */
static const json_t *body_of(sv_exchange *r, const sv_field *fields)
{
    const json_t *o = sv_http_json(r);
    sv_bad bad = {0};
    if (sv_fields_check(o, fields, &bad) && sv_settings_check(sv_field_get(o, "settings"), &bad) && check_meta(o, &bad))
        return o;
    sv_page_refuse(r, &bad, NULL);
    return NULL;
}

static void tell(sv_exchange *r, const sv_page *p, const char *kind, const char *op, const json_t *object)
{
    sv_feed_change(p->feed, sv_http_key(r), sv_page_tab(r), kind, op, json_string_value(json_object_get(object, "id")),
                   object);
}

static void tell_gone(sv_exchange *r, const sv_page *p, const char *kind, const char *id)
{
    sv_feed_change(p->feed, sv_http_key(r), sv_page_tab(r), kind, "deleted", id, NULL);
}

/* The chat that a node was put in or taken from changed its order. */
static void tell_chat_of(sv_exchange *r, const sv_page *p, const char *chat)
{
    sv_bad bad = {0};
    json_t *o = chat ? sv_history_chat(p->history, sv_http_key(r), chat, &bad) : NULL;
    if (o)
        tell(r, p, "chat", "changed", o);
    json_decref(o);
}

/* Reply with `o` (taken over), or the refusal. */
static void answer(sv_exchange *r, int status, json_t *o, const sv_bad *bad, json_t *current)
{
    if (o)
        sv_http_reply_json(r, status, o);
    else
        sv_page_refuse(r, bad, current);
}

/* ---- chats ---- */

static void list_chats(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    const char *limit = sv_http_query(r, "limit"), *pinned = sv_http_query(r, "pinned");
    sv_bad bad = {0};
    const long n = limit ? strtol(limit, NULL, 10) : 50;
    const sv_history_query q = {.text = sv_http_query(r, "q"),
                                .folder = sv_http_query(r, "folder"),
                                .kind = sv_http_query(r, "kind"),
                                .pinned = pinned && (strcmp(pinned, "true") == 0 || strcmp(pinned, "1") == 0),
                                .limit = n < 1     ? 1
                                         : n > 200 ? 200
                                                   : n,
                                .after = sv_http_query(r, "after")};
    json_t *o = sv_history_list(p->history, sv_http_key(r), &q, &bad);
    answer(r, 200, o, &bad, NULL);
}

static void make_chat(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    const json_t *o = body_of(r, chat_fields);
    sv_bad bad = {0};
    int fresh = 0;
    if (!o)
        return;
    json_t *chat = sv_history_chat_add(p->history, sv_http_key(r), o, &fresh, &bad);
    if (chat && fresh)
        tell(r, p, "chat", "created", chat);
    answer(r, fresh ? 201 : 200, chat, &bad, NULL);
}

static void get_chat(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    sv_bad bad = {0};
    json_t *o = sv_history_tree(p->history, sv_http_key(r), sv_http_arg(r), &bad);
    if (o)
        sv_answers_update(p->answers, json_object_get(o, "nodes"));
    answer(r, 200, o, &bad, NULL);
}

static void change_chat(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    const json_t *o = body_of(r, chat_fields);
    sv_bad bad = {0};
    json_t *current = NULL;
    if (!o)
        return;
    json_t *chat = sv_history_chat_set(p->history, sv_http_key(r), sv_http_arg(r), o, &current, &bad);
    if (chat)
        tell(r, p, "chat", "changed", chat);
    answer(r, 200, chat, &bad, current);
}

static void drop(sv_exchange *r, const sv_page *p, const char *id)
{
    sv_bad bad = {0};
    sv_answers_stop_chat(p->answers, sv_http_key(r), id);
    json_t *ids = sv_history_chat_drop(p->history, sv_http_key(r), id, &bad);
    for (size_t i = 0; i < json_array_size(ids); i++)
        tell_gone(r, p, "chat", json_string_value(json_array_get(ids, i)));
    json_t *o = ids ? json_pack("{s:b,s:I}", "deleted", 1, "count", (json_int_t)json_array_size(ids)) : NULL;
    json_decref(ids);
    answer(r, 200, o, &bad, NULL);
}

static void drop_chat(sv_exchange *r, void *app)
{
    drop(r, sv_page_of(app), sv_http_arg(r));
}

static void drop_all(sv_exchange *r, void *app)
{
    const char *confirm = sv_http_query(r, "confirm");
    if (confirm && strcmp(confirm, "all") == 0)
        drop(r, sv_page_of(app), NULL);
    else
        sv_http_error(r, 400, NULL, "confirm", "missing_required_parameter", "confirm: wanted \"all\"");
}

/* ---- files ---- */

/* A title as a file's name: letters and digits of ASCII. */
static void file_name(char out[80], const json_t *chat, const char *kind)
{
    const char *title = json_string_value(json_object_get(chat, "title"));
    size_t n = 0;
    for (; title && *title && n < 48; title++) {
        const char c = *title;
        const int plain = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
        if (plain)
            out[n++] = c;
        else if (n && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n && out[n - 1] == '-')
        n--;
    snprintf(out + n, 80 - n, "%s.%s", n ? "" : "chat", kind);
}

static void send_file(sv_exchange *r, json_t *o, const char *name)
{
    char *text = json_dumps(o, JSON_INDENT(1));
    json_decref(o);
    sv_page_download(r, name);
    if (text)
        sv_http_reply(r, 200, "application/json", text, strlen(text));
    else
        sv_http_error(r, 503, NULL, NULL, NULL, "no memory for the file");
    free(text);
}

static void export_chat(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    const char *format = sv_http_query(r, "format"), *id = sv_http_arg(r);
    sv_bad bad = {0};
    char name[80];
    json_t *chat = sv_history_chat(p->history, sv_http_key(r), id, &bad);
    const int markdown = format && strcmp(format, "markdown") == 0;
    if (chat)
        file_name(name, chat, markdown ? "md" : "json");
    json_decref(chat);
    if (chat && markdown) {
        char *text = sv_history_markdown(p->history, sv_http_key(r), id, sv_http_query(r, "leaf"), &bad);
        if (text) {
            sv_page_download(r, name);
            sv_http_reply(r, 200, "text/markdown; charset=utf-8", text, strlen(text));
            free(text);
            return;
        }
    } else if (chat) {
        json_t *o = sv_history_export(p->history, sv_http_key(r), id, &bad);
        if (o) {
            send_file(r, o, name);
            return;
        }
    }
    sv_page_refuse(r, &bad, NULL);
}

static void export_all(sv_exchange *r, void *app)
{
    sv_bad bad = {0};
    json_t *o = sv_history_export(sv_page_of(app)->history, sv_http_key(r), NULL, &bad);
    if (o)
        send_file(r, o, "zamba-chats.json");
    else
        sv_page_refuse(r, &bad, NULL);
}

static void import(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    sv_bad bad = {0};
    json_t *o = sv_history_import(p->history, sv_http_key(r), sv_http_json(r), &bad);
    const json_t *chats = json_object_get(o, "chats");
    for (size_t i = 0; i < json_array_size(chats); i++)
        tell(r, p, "chat", "created", json_array_get(chats, i));
    answer(r, 201, o, &bad, NULL);
}

/* ---- folders and presets ---- */

static const char *kind_of(const sv_exchange *r)
{
    return strncmp(sv_http_path(r), "/page/v1/folders", 16) == 0 ? "folder" : "preset";
}

static void list_things(sv_exchange *r, void *app)
{
    const char *kind = kind_of(r);
    sv_bad bad = {0};
    json_t *list = sv_history_things(sv_page_of(app)->history, sv_http_key(r), kind, &bad);
    answer(r, 200, list ? json_pack("{s:o}", *kind == 'f' ? "folders" : "presets", list) : NULL, &bad, NULL);
}

static void make_thing(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    const json_t *o = body_of(r, thing_fields);
    sv_bad bad = {0};
    json_t *thing = o ? sv_history_thing_add(p->history, sv_http_key(r), kind_of(r), o, &bad) : NULL;
    if (thing)
        tell(r, p, kind_of(r), "created", thing);
    if (o)
        answer(r, 201, thing, &bad, NULL);
}

static void change_thing(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    const json_t *o = body_of(r, thing_changes);
    sv_bad bad = {0};
    json_t *current = NULL;
    if (!o)
        return;
    json_t *thing = sv_history_thing_set(p->history, sv_http_key(r), kind_of(r), sv_http_arg(r), o, &current, &bad);
    if (thing)
        tell(r, p, kind_of(r), "changed", thing);
    answer(r, 200, thing, &bad, current);
}

static void drop_thing(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    sv_bad bad = {0};
    const int ok = sv_history_thing_drop(p->history, sv_http_key(r), kind_of(r), sv_http_arg(r), &bad);
    if (ok)
        tell_gone(r, p, kind_of(r), sv_http_arg(r));
    answer(r, 200, ok ? json_pack("{s:b}", "deleted", 1) : NULL, &bad, NULL);
}

/* ---- nodes ---- */

static void make_node(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    const json_t *o = body_of(r, node_fields);
    sv_bad bad = {0};
    int fresh = 0;
    if (!o)
        return;
    json_t *node = sv_history_node_add(p->history, sv_http_key(r), sv_http_arg(r), o, &fresh, &bad);
    if (node && fresh) {
        tell(r, p, "node", "created", node);
        tell_chat_of(r, p, sv_http_arg(r));
    }
    answer(r, fresh ? 201 : 200, node, &bad, NULL);
}

static void get_node(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    sv_bad bad = {0};
    json_t *node = sv_history_node(p->history, sv_http_key(r), sv_http_arg(r), &bad);
    json_t *now = node ? sv_answers_node(p->answers, sv_http_arg(r)) : NULL;
    if (now) {
        json_decref(node);
        node = now;
    }
    answer(r, 200, node, &bad, NULL);
}

static void change_node(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    const json_t *o = body_of(r, node_changes);
    sv_bad bad = {0};
    json_t *current = NULL;
    if (!o)
        return;
    json_t *node = sv_history_node_set(p->history, sv_http_key(r), sv_http_arg(r), o, &current, &bad);
    if (node)
        tell(r, p, "node", "changed", node);
    answer(r, 200, node, &bad, current);
}

static void drop_node(sv_exchange *r, void *app)
{
    const sv_page *p = sv_page_of(app);
    sv_bad bad = {0};
    json_t *o = sv_history_node_drop(p->history, sv_http_key(r), sv_http_arg(r), &bad);
    const json_t *ids = json_object_get(o, "deleted"), *chat = json_object_get(o, "chat");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const char *id = json_string_value(json_array_get(ids, i));
        sv_answers_stop(p->answers, sv_http_key(r), id);
        json_t *gone =
            json_pack("{s:s,s:s,s:s,s:O,s:n}", "tab", sv_page_tab(r), "op", "deleted", "id", id, "chat", chat, "node");
        sv_feed_tell(p->feed, sv_http_key(r), "node", gone);
    }
    if (o)
        tell_chat_of(r, p, json_string_value(chat));
    answer(r, 200, o, &bad, NULL);
}

static void get_tokens(sv_exchange *r, void *app)
{
    sv_bad bad = {0};
    json_t *list = sv_history_tokens(sv_page_of(app)->history, sv_http_key(r), sv_http_arg(r), &bad);
    answer(r, 200, list ? json_pack("{s:o}", "tokens", list) : NULL, &bad, NULL);
}

/* ---- the table ---- */

#define JSON  SV_ROUTE_JSON
#define CHEAP SV_ROUTE_CHEAP

const sv_route sv_talk_routes[] = {
    {"GET", "/page/v1/chats", list_chats, CHEAP, 0},
    {"POST", "/page/v1/chats", make_chat, JSON, 0},
    {"DELETE", "/page/v1/chats", drop_all, 0, 0},
    {"GET", "/page/v1/chats/{id}", get_chat, CHEAP, 0},
    {"PATCH", "/page/v1/chats/{id}", change_chat, JSON, 0},
    {"DELETE", "/page/v1/chats/{id}", drop_chat, 0, 0},
    {"GET", "/page/v1/chats/{id}/export", export_chat, CHEAP, 0},
    {"GET", "/page/v1/chats/{id}/states", sv_talk_states, CHEAP, 0},
    {"POST", "/page/v1/chats/{id}/nodes", make_node, JSON, 0},
    {"POST", "/page/v1/chats/{id}/answers", sv_talk_answer, JSON, 0},
    {"GET", "/page/v1/export", export_all, CHEAP, 0},
    {"POST", "/page/v1/import", import, JSON, (size_t)256 << 20},
    {"GET", "/page/v1/folders", list_things, CHEAP, 0},
    {"POST", "/page/v1/folders", make_thing, JSON, 0},
    {"PATCH", "/page/v1/folders/{id}", change_thing, JSON, 0},
    {"DELETE", "/page/v1/folders/{id}", drop_thing, 0, 0},
    {"GET", "/page/v1/presets", list_things, CHEAP, 0},
    {"POST", "/page/v1/presets", make_thing, JSON, 0},
    {"PATCH", "/page/v1/presets/{id}", change_thing, JSON, 0},
    {"DELETE", "/page/v1/presets/{id}", drop_thing, 0, 0},
    {"GET", "/page/v1/nodes/{id}", get_node, CHEAP, 0},
    {"PATCH", "/page/v1/nodes/{id}", change_node, JSON, 0},
    {"DELETE", "/page/v1/nodes/{id}", drop_node, 0, 0},
    {"GET", "/page/v1/nodes/{id}/tokens", get_tokens, CHEAP, 0},
    {"GET", "/page/v1/nodes/{id}/prompt", sv_talk_prompt, 0, 0},
    {"POST", "/page/v1/nodes/{id}/state", sv_talk_state, 0, 0},
    {"GET", "/page/v1/answers", sv_talk_answers, CHEAP, 0},
    {"POST", "/page/v1/answers/{id}/continue", sv_talk_continue, JSON, 0},
    {"POST", "/page/v1/answers/{id}/stop", sv_talk_stop, CHEAP, 0},
    {"GET", "/page/v1/answers/{id}/events", sv_talk_watch, CHEAP, 0},
};
const size_t sv_n_talk_routes = sizeof sv_talk_routes / sizeof *sv_talk_routes;
