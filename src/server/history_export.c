/* history_export.c — chats as files: the whole as JSON, one branch as Markdown, and JSON of either this server or
 * another taken in. What is taken in is trusted no more than any request. */
#include <stdlib.h>
#include <string.h>

#include "history_impl.h"

#define FORMAT "zamba-chats"

/* ---- out ---- */

/* The ids that answers were written in: by them a saved state knows its text again. */
static int add_ids(sv_history *h, const char *chat, json_t *nodes, sv_bad *bad)
{
    sqlite3_stmt *s = sv_db_ask(h, bad, "SELECT id, ids FROM nodes WHERE chat = ? ORDER BY seq", "s", chat);
    int got;
    for (size_t i = 0; (got = sv_db_next(h, s, bad)) > 0 && i < json_array_size(nodes); i++) {
        const void *data = sqlite3_column_blob(s, 1);
        const size_t n = data ? (size_t)sqlite3_column_bytes(s, 1) / sizeof(int32_t) : 0;
        json_t *list = n ? json_array() : NULL;
        for (size_t k = 0; k < n; k++) {
            int32_t id;
            memcpy(&id, (const char *)data + k * sizeof id, sizeof id);
            json_array_append_new(list, json_integer(id));
        }
        if (list)
            json_object_set_new(json_array_get(nodes, i), "ids", list);
    }
    sqlite3_finalize(s);
    return got == 0;
}

static int add_chat(sv_history *h, json_t *chats, json_t *chat, sv_bad *bad)
{
    json_t *nodes = json_array();
    const char *id = json_string_value(json_object_get(chat, "id"));
    const int ok = sv_chat_nodes(h, id, nodes, bad) && add_ids(h, id, nodes, bad);
    json_object_set_new(chat, "tree", nodes);
    json_object_del(chat, "preview");
    json_object_del(chat, "nodes");
    json_array_append(chats, chat);
    return ok;
}

static int add_things(sv_history *h, const char *owner, json_t *o, const char *kind, const char *name, sv_bad *bad)
{
    json_t *list = sv_history_things(h, owner, kind, bad);
    if (list)
        json_object_set_new(o, name, list);
    return list != NULL;
}

json_t *sv_history_export(sv_history *h, const char *owner, const char *chat, sv_bad *bad)
{
    json_t *chats = json_array();
    json_t *o = json_pack("{s:s,s:i,s:s,s:I,s:o}", "format", FORMAT, "version", (int)SV_HISTORY_VERSION, "program",
                          zamba_version(), "exported", (json_int_t)sv_db_now(), "chats", chats);
    int ok =
        chat ? 1
             : add_things(h, owner, o, "folder", "folders", bad) && add_things(h, owner, o, "preset", "presets", bad);
    ok = ok && sv_db_enter(h, 0, bad);
    if (ok) {
        sqlite3_stmt *s = sv_db_ask(h, bad,
                                    "SELECT " SV_CHAT_COLUMNS " FROM chats c WHERE c.owner = ?1 AND (?2 IS NULL OR"
                                    " c.id = ?2) ORDER BY c.created, c.id",
                                    "ss", owner, chat);
        int got = 0;
        while (ok && (got = sv_db_next(h, s, bad)) > 0) {
            json_t *row = sv_row_chat(s);
            ok = add_chat(h, chats, row, bad);
            json_decref(row);
        }
        sqlite3_finalize(s);
        sv_db_leave(h, 0, 1, bad);
        ok = ok && got == 0;
    }
    if (ok && chat && !json_array_size(chats))
        ok = sv_no_chat(bad);
    if (ok)
        return o;
    json_decref(o);
    return NULL;
}

typedef struct text {
    char *data;
    size_t n, room;
    int failed;
} text;

static void put(text *t, const char *data, size_t n)
{
    if (t->n + n + 1 > t->room) {
        const size_t room = 2 * (t->n + n) + 256;
        char *more = realloc(t->data, room);
        if (!more) {
            t->failed = 1;
            return;
        }
        t->data = more;
        t->room = room;
    }
    memcpy(t->data + t->n, data, n);
    t->n += n;
    t->data[t->n] = 0;
}

static void put_string(text *t, const char *data)
{
    put(t, data, strlen(data));
}

static void put_json(text *t, const json_t *v)
{
    put(t, json_string_length(v) ? json_string_value(v) : "", json_string_length(v));
}

char *sv_history_markdown(sv_history *h, const char *owner, const char *id, const char *leaf, sv_bad *bad)
{
    json_t *chat = sv_history_chat(h, owner, id, bad);
    if (!chat)
        return NULL;
    if (!leaf)
        leaf = json_string_value(json_object_get(chat, "leaf"));
    json_t *path = sv_history_path(h, owner, id, leaf, bad);
    json_decref(chat);
    if (!path)
        return NULL;
    chat = json_object_get(path, "chat");
    const json_t *title = json_object_get(chat, "title"), *system = json_object_get(chat, "system");
    const int notebook = strcmp(json_string_value(json_object_get(chat, "kind")), "notebook") == 0;
    text t = {0};
    put_string(&t, "# ");
    put_json(&t, json_string_length(title) ? title : json_object_get(chat, "preview"));
    put_string(&t, "\n\n");
    if (json_string_length(system)) {
        put_string(&t, "## system\n\n");
        put_json(&t, system);
        put_string(&t, "\n\n");
    }
    const json_t *nodes = json_object_get(path, "nodes");
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        if (!notebook) {
            put_string(&t, "## ");
            put_json(&t, json_object_get(node, "role"));
            put_string(&t, "\n\n");
        }
        put_json(&t, json_object_get(node, "content"));
        if (!notebook)
            put_string(&t, "\n\n");
    }
    json_decref(path);
    if (!t.failed)
        return t.data;
    free(t.data);
    sv_refuse(bad, 503, "unavailable", NULL, "no memory for the file");
    return NULL;
}

/* ---- in ---- */

static int no_import(sv_bad *bad, const char *what)
{
    return sv_refuse(bad, 422, "invalid_import", NULL, "%s (wanted a file that this program exported)", what);
}

static const sv_field chat_fields[] = {{"kind", SV_ENUM, 0, 0, 0, "chat|notebook", NULL, ""},
                                       {"title", SV_STR, 0, 4096, 0, NULL, NULL, ""},
                                       {"pinned", SV_BOOL, 0, 0, 0, NULL, NULL, ""},
                                       {"model", SV_STR, 0, 512, SV_NO_NUL, NULL, NULL, ""},
                                       {"system", SV_STR, 0, 1 << 22, 0, NULL, NULL, ""},
                                       {"settings", SV_OBJ, 0, 0, 0, NULL, NULL, ""},
                                       {"leaf", SV_STR, 0, 64, SV_NO_NUL, NULL, NULL, ""},
                                       {"tree", SV_LIST, 0, 1e6, SV_REQUIRED, NULL, NULL, ""},
                                       {"state", SV_STR, 0, 64, SV_NO_NUL, NULL, NULL, ""},
                                       {"folder", SV_STR, 0, 64, SV_NO_NUL, NULL, NULL, ""},
                                       {NULL, SV_ANY, 0, 0, 0, NULL, NULL, NULL}};

static const sv_field node_fields[] = {
    {"id", SV_STR, 1, 64, SV_REQUIRED | SV_NO_NUL, NULL, NULL, ""},
    {"parent", SV_STR, 0, 64, SV_NO_NUL, NULL, NULL, ""},
    {"role", SV_ENUM, 0, 0, SV_REQUIRED, "system|user|assistant|tool|text", NULL, ""},
    {"content", SV_STR, 0, SV_MAX_TEXT, SV_REQUIRED, NULL, NULL, ""},
    {"model", SV_STR, 0, 512, SV_NO_NUL, NULL, NULL, ""},
    {"settings", SV_OBJ, 0, 0, 0, NULL, NULL, ""},
    {"usage", SV_OBJ, 0, 0, 0, NULL, NULL, ""},
    {"meta", SV_OBJ, 0, 0, 0, NULL, NULL, ""},
    {"status", SV_STR, 0, 32, SV_NO_NUL, NULL, NULL, ""},
    {"finish", SV_STR, 0, 32, SV_NO_NUL, NULL, NULL, ""},
    {"ids", SV_IDS, 0, 1e7, 0, NULL, NULL, ""},
    {NULL, SV_ANY, 0, 0, 0, NULL, NULL, NULL}};

static int check_import(const json_t *o, sv_bad *bad)
{
    const json_t *chats = json_object_get(o, "chats");
    sv_bad why = {0};
    const char *format = json_string_value(json_object_get(o, "format"));
    if (!format || strcmp(format, FORMAT) != 0 || !json_is_array(chats))
        return no_import(bad, "not a file of chats");
    if (json_integer_value(json_object_get(o, "version")) > SV_HISTORY_VERSION)
        return no_import(bad, "a file of a newer version");
    for (size_t i = 0; i < json_array_size(chats); i++) {
        const json_t *chat = json_array_get(chats, i), *tree = json_object_get(chat, "tree");
        if (!json_is_object(chat) || !sv_fields_check(chat, chat_fields, &why))
            return no_import(bad, why.status ? why.message : "a chat is no object");
        for (size_t k = 0; k < json_array_size(tree); k++)
            if (!sv_fields_check(json_array_get(tree, k), node_fields, &why))
                return no_import(bad, why.message);
    }
    return 1;
}

/* An id that is free; *renamed counts those that were not. */
static int free_id(sv_history *h, const char *table, const char *wanted, char out[SV_ID_CHARS + 1], int *renamed,
                   sv_bad *bad)
{
    int taken = 1;
    if (wanted && sv_db_is_id(wanted)) {
        sqlite3_stmt *s =
            sv_db_ask(h, bad, *table == 'c' ? "SELECT 1 FROM chats WHERE id = ?" : "SELECT 1 FROM nodes WHERE id = ?",
                      "s", wanted);
        taken = sv_db_has(h, s, bad);
    }
    *renamed += taken == 1 && *table == 'c';
    if (taken == 1)
        return sv_pick_id(NULL, out, bad);
    if (taken == 0)
        memcpy(out, wanted, SV_ID_CHARS + 1);
    return taken == 0;
}

/* What a status of a file may be here. */
static const char *status_of(const json_t *node)
{
    static const char *const known[] = {"done", "stopped", "interrupted", "error"};
    const char *status = sv_get_str(node, "status", "done");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(status, known[i]) == 0)
            return known[i];
    return "interrupted";
}

static int take_node(sv_history *h, const char *chat, json_t *ids, const json_t *node, sv_bad *bad)
{
    char id[SV_ID_CHARS + 1];
    int renamed = 0;
    const char *was = sv_get_str(node, "id", ""), *parent = sv_get_str(node, "parent", NULL);
    const char *now = parent ? json_string_value(json_object_get(ids, parent)) : NULL;
    if (parent && !now)
        return no_import(bad, "a message whose parent does not stand before it");
    if (json_object_get(ids, was))
        return no_import(bad, "two messages of one id");
    if (!free_id(h, "nodes", was, id, &renamed, bad))
        return 0;
    json_object_set_new(ids, was, json_string(id));
    json_t *row = json_pack("{s:s?,s:O,s:O}", "parent", now, "role", json_object_get(node, "role"), "content",
                            json_object_get(node, "content"));
    const json_t *meta = sv_field_get(node, "meta"), *usage = sv_field_get(node, "usage"),
                 *list = sv_field_get(node, "ids");
    const size_t n_ids = json_array_size(list);
    int32_t *written = n_ids ? malloc(n_ids * sizeof *written) : NULL;
    for (size_t i = 0; written && i < n_ids; i++)
        written[i] = (int32_t)json_number_value(json_array_get(list, i));
    if (meta)
        json_object_set(row, "meta", (json_t *)meta);
    const int ok = sv_node_insert(h, id, chat, row, status_of(node), sv_get_str(node, "model", NULL),
                                  sv_field_get(node, "settings"), bad) &&
                   sv_db_do(h, bad, NULL, "UPDATE nodes SET usage = ?, finish = ?, created = ?, ids = ? WHERE id = ?",
                            "jsibs", usage, sv_get_str(node, "finish", NULL),
                            json_is_integer(json_object_get(node, "created"))
                                ? (int64_t)json_integer_value(json_object_get(node, "created"))
                                : sv_db_now(),
                            written, n_ids * sizeof *written, id);
    json_decref(row);
    free(written);
    return ok;
}

static int take_chat(sv_history *h, const char *owner, const json_t *chat, json_t *made, int *renamed, sv_bad *bad)
{
    char id[SV_ID_CHARS + 1];
    const json_t *tree = json_object_get(chat, "tree"), *title = sv_field_get(chat, "title"),
                 *system = sv_field_get(chat, "system"), *settings = sv_field_get(chat, "settings");
    const int64_t now = sv_db_now();
    const json_t *updated = json_object_get(chat, "updated"), *created = json_object_get(chat, "created");
    json_t *ids = json_object(), *none = json_object();
    int ok =
        free_id(h, "chats", sv_get_str(chat, "id", NULL), id, renamed, bad) &&
        sv_db_do(h, bad, NULL,
                 "INSERT INTO chats(id, owner, kind, title, folder, pinned, model, system, settings, created,"
                 " updated, revision) VALUES(?1, ?2, ?3, ?4, (SELECT id FROM things WHERE id = ?5 AND owner = ?2"
                 " AND kind = 'folder'), ?6, ?7, ?8, ?9, ?10, ?11, 1)",
                 "ssstsistjii", id, owner, sv_get_str(chat, "kind", "chat"), json_string_value(title),
                 json_string_length(title), sv_get_str(chat, "folder", NULL), (int64_t)sv_get_bool(chat, "pinned", 0),
                 sv_get_str(chat, "model", NULL), json_string_value(system), json_string_length(system),
                 settings ? settings : none, json_is_integer(created) ? (int64_t)json_integer_value(created) : now,
                 json_is_integer(updated) ? (int64_t)json_integer_value(updated) : now);
    for (size_t i = 0; ok && i < json_array_size(tree); i++)
        ok = take_node(h, id, ids, json_array_get(tree, i), bad);
    const char *leaf = sv_get_str(chat, "leaf", NULL);
    leaf = leaf ? json_string_value(json_object_get(ids, leaf)) : NULL;
    ok = ok && sv_db_do(h, bad, NULL, "UPDATE chats SET leaf = ? WHERE id = ?", "ss", leaf, id);
    json_t *row = ok ? sv_chat_row(h, owner, id, bad) : NULL;
    if (row)
        json_array_append_new(made, row);
    json_decref(ids);
    json_decref(none);
    return row != NULL;
}

/* Folders and presets come with their ids if those are free, else they are there already. */
static int take_things(sv_history *h, const char *owner, const json_t *o, const char *name, const char *kind,
                       sv_bad *bad)
{
    const json_t *list = json_object_get(o, name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *thing = json_array_get(list, i), *called = json_object_get(thing, "name");
        const char *id = json_string_value(json_object_get(thing, "id"));
        if (!id || !sv_db_is_id(id) || !json_is_string(called))
            return no_import(bad, "a folder or preset without id and name");
        json_t *body = json_object();
        const json_t *system = json_object_get(thing, "system"), *settings = json_object_get(thing, "settings");
        if (json_is_string(system))
            json_object_set(body, "system", (json_t *)system);
        if (json_is_object(settings))
            json_object_set(body, "settings", (json_t *)settings);
        const int ok = sv_db_do(h, bad, NULL,
                                "INSERT INTO things(id, owner, kind, name, position, body, revision)"
                                " VALUES(?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO NOTHING",
                                "ssstij", id, owner, kind, json_string_value(called), json_string_length(called),
                                json_is_integer(json_object_get(thing, "position"))
                                    ? (int64_t)json_integer_value(json_object_get(thing, "position"))
                                    : (int64_t)0,
                                body);
        json_decref(body);
        if (!ok)
            return 0;
    }
    return 1;
}

json_t *sv_history_import(sv_history *h, const char *owner, const json_t *o, sv_bad *bad)
{
    if (!check_import(o, bad) || !sv_db_enter(h, 1, bad))
        return NULL;
    const json_t *chats = json_object_get(o, "chats");
    json_t *made = json_array();
    int renamed = 0;
    int ok = take_things(h, owner, o, "folders", "folder", bad) && take_things(h, owner, o, "presets", "preset", bad);
    for (size_t i = 0; ok && i < json_array_size(chats); i++)
        ok = take_chat(h, owner, json_array_get(chats, i), made, &renamed, bad);
    if (sv_db_leave(h, 1, ok, bad))
        return json_pack("{s:o,s:i}", "chats", made, "renamed", renamed);
    json_decref(made);
    return NULL;
}
