/* history_nodes.c — the nodes of chats: a tree of messages, and the answers that are being written into it. */
#include <stdlib.h>
#include <string.h>

#include "history_impl.h"
#include "utf16.h"

/* ---- rows ---- */

json_t *sv_row_node(sqlite3_stmt *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "id", sv_db_text(s, 0));
    json_object_set_new(o, "chat", sv_db_text(s, 1));
    json_object_set_new(o, "parent", sv_db_text(s, 2));
    json_object_set_new(o, "role", sv_db_text(s, 3));
    json_object_set_new(o, "content", sv_db_text(s, 4));
    json_object_set_new(o, "created", json_integer(sqlite3_column_int64(s, 5)));
    json_object_set_new(o, "updated", json_integer(sqlite3_column_int64(s, 6)));
    json_object_set_new(o, "revision", json_integer(sqlite3_column_int64(s, 7)));
    json_object_set_new(o, "status", sv_db_text(s, 8));
    json_object_set_new(o, "finish", sv_db_text(s, 9));
    json_object_set_new(o, "error", sv_db_json(s, 10));
    json_object_set_new(o, "model", sv_db_text(s, 11));
    json_object_set_new(o, "settings", sv_db_json(s, 12));
    json_object_set_new(o, "usage", sv_db_json(s, 13));
    json_object_set_new(o, "has_tokens", json_boolean(sqlite3_column_int(s, 14)));
    const int saved = sqlite3_column_type(s, 15) != SQLITE_NULL;
    json_object_set_new(o, "state", saved ? json_pack("{s:o}", "id", sv_db_text(s, 15)) : json_null());
    json_object_set_new(o, "meta", sv_db_json(s, 16));
    return o;
}

int sv_no_node(sv_bad *bad, const char *param)
{
    return sv_refuse(bad, 404, "node_not_found", param, "no such message (was it deleted elsewhere?)");
}

json_t *sv_node_row(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    sqlite3_stmt *s = sv_db_ask(h, bad,
                                "SELECT " SV_NODE_COLUMNS " FROM nodes n JOIN chats c ON c.id = n.chat WHERE n.id = ?1"
                                " AND (?2 IS NULL OR c.owner = ?2)",
                                "ss", id, owner);
    json_t *o = sv_db_one(h, s, sv_row_node, bad);
    if (!o && !bad->status)
        sv_no_node(bad, "id");
    return o;
}

int sv_chat_nodes(sv_history *h, const char *chat, json_t *list, sv_bad *bad)
{
    sqlite3_stmt *s =
        sv_db_ask(h, bad, "SELECT " SV_NODE_COLUMNS " FROM nodes n WHERE n.chat = ? ORDER BY n.seq", "s", chat);
    return sv_db_all(h, s, sv_row_node, list, bad);
}

json_t *sv_history_node(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    return sv_db_look(h, sv_node_row, owner, id, bad);
}

static json_t *row_tokens(sqlite3_stmt *s)
{
    json_t *list = sv_db_json(s, 0);
    if (json_is_array(list))
        return list;
    json_decref(list);
    return json_array();
}

static json_t *find_tokens(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    sqlite3_stmt *s =
        sv_db_ask(h, bad, "SELECT n.tokens FROM nodes n JOIN chats c ON c.id = n.chat WHERE n.id = ? AND c.owner = ?",
                  "ss", id, owner);
    json_t *list = sv_db_one(h, s, row_tokens, bad);
    if (!list && !bad->status)
        sv_no_node(bad, "id");
    return list;
}

json_t *sv_history_tokens(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    return sv_db_look(h, find_tokens, owner, id, bad);
}

json_t *sv_history_path(sv_history *h, const char *owner, const char *chat, const char *leaf, sv_bad *bad)
{
    if (!sv_db_enter(h, 0, bad))
        return NULL;
    json_t *c = sv_chat_row(h, owner, chat, bad), *nodes = json_array();
    sqlite3_stmt *s = c && leaf ? sv_db_ask(h, bad,
                                            "WITH RECURSIVE up(id, depth) AS (SELECT ?1, 0 UNION ALL SELECT n.parent,"
                                            " up.depth + 1 FROM nodes n JOIN up ON n.id = up.id WHERE n.parent IS NOT"
                                            " NULL AND up.depth < 100000) SELECT " SV_NODE_COLUMNS
                                            " FROM up JOIN nodes n ON n.id = up.id WHERE n.chat = ?2"
                                            " ORDER BY up.depth DESC",
                                            "ss", leaf, chat)
                                : NULL;
    if (s && sv_db_all(h, s, sv_row_node, nodes, bad) && !json_array_size(nodes))
        sv_no_node(bad, "parent");
    sv_db_leave(h, 0, 1, bad);
    if (!bad->status)
        return json_pack("{s:o,s:o}", "chat", c, "nodes", nodes);
    json_decref(c);
    json_decref(nodes);
    return NULL;
}

/* ---- made ---- */

static int check_parent(sv_history *h, const char *chat, const char *parent, sv_bad *bad)
{
    if (!parent)
        return 1;
    sqlite3_stmt *s = sv_db_ask(h, bad, "SELECT 1 FROM nodes WHERE id = ? AND chat = ?", "ss", parent, chat);
    const int got = sv_db_has(h, s, bad);
    return got > 0   ? 1
           : got < 0 ? 0
                     : sv_refuse(bad, 404, "node_not_found", "parent",
                                 "parent: no such message in this chat (was it deleted elsewhere?)");
}

int sv_node_insert(sv_history *h, const char *id, const char *chat, const json_t *o, const char *status,
                   const char *model, const json_t *settings, sv_bad *bad)
{
    const char *parent = sv_get_str(o, "parent", NULL);
    const json_t *content = sv_field_get(o, "content"), *meta = sv_field_get(o, "meta");
    json_t *none = json_object();
    const int64_t now = sv_db_now();
    const int ok =
        check_parent(h, chat, parent, bad) &&
        sv_db_do(h, bad, NULL,
                 "INSERT INTO nodes(id, chat, parent, role, text, created, updated, revision, status, model, settings,"
                 " meta, tokens) VALUES(?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)",
                 "sssstiissjjj", id, chat, parent, sv_get_str(o, "role", "user"), json_string_value(content),
                 json_string_length(content), now, now, status, model, settings, meta ? meta : none,
                 sv_field_get(o, "tokens"));
    json_decref(none);
    return ok;
}

static json_t *find_node(sv_history *h, const char *owner, const char *id)
{
    sv_bad none = {0};
    return sv_node_row(h, owner, id, &none);
}

/* Model and settings of another node, and those of its tokens that are still before the end of the new text. */
static json_t *copied(sv_history *h, const char *owner, const json_t *o, const char **model, json_t **settings,
                      json_t **from, sv_bad *bad)
{
    const char *id = sv_get_str(o, "copy", NULL);
    *model = NULL;
    *settings = *from = NULL;
    if (!id)
        return json_incref((json_t *)o);
    *from = sv_node_row(h, owner, id, bad);
    if (!*from)
        return NULL;
    *model = json_string_value(json_object_get(*from, "model"));
    *settings = json_object_get(*from, "settings");
    json_t *with = json_copy((json_t *)o), *kept = json_array();
    sqlite3_stmt *s = sv_db_ask(h, bad, "SELECT tokens FROM nodes WHERE id = ?", "s", id);
    json_t *tokens = sv_db_one(h, s, row_tokens, bad);
    const char *text = json_string_value(sv_field_get(o, "content"));
    const char *old = json_string_value(json_object_get(*from, "content"));
    size_t same = 0; /* bytes of both texts, whole characters */
    while (text && old && text[same] && text[same] == old[same])
        same++;
    while (same && ((unsigned char)text[same] & 0xc0) == 0x80)
        same--;
    const size_t units = sv_utf16_units(text, same);
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        json_t *t = json_array_get(tokens, i);
        if ((uint64_t)(sv_get_int(t, "at", 0) + sv_get_int(t, "n", 0)) <= units)
            json_array_append(kept, t);
    }
    if (json_array_size(kept) && !sv_field_get(o, "tokens"))
        json_object_set(with, "tokens", kept);
    json_decref(kept);
    json_decref(tokens);
    return with;
}

json_t *sv_history_node_add(sv_history *h, const char *owner, const char *chat, const json_t *o, int *fresh,
                            sv_bad *bad)
{
    char id[SV_ID_CHARS + 1];
    if (!sv_pick_id(o, id, bad) || !sv_db_enter(h, 1, bad))
        return NULL;
    json_t *c = sv_chat_row(h, owner, chat, bad), *node = c ? find_node(h, owner, id) : NULL;
    *fresh = node == NULL;
    if (c && *fresh) {
        const char *model;
        json_t *settings, *from, *with = copied(h, owner, o, &model, &settings, &from, bad);
        if (with && sv_node_insert(h, id, chat, with, "done", model, settings, bad) && sv_chat_touch(h, chat, id, bad))
            node = sv_node_row(h, owner, id, bad);
        json_decref(with);
        json_decref(from);
    }
    json_decref(c);
    return sv_db_keep(h, node, bad);
}

/* ---- changed ---- */

static int stands_still(const json_t *now, sv_bad *bad)
{
    const char *status = json_string_value(json_object_get(now, "status"));
    return status && strcmp(status, "streaming") == 0
               ? sv_refuse(bad, 409, "answer_under_way", "id", "the answer is being written: stop it first")
               : 1;
}

json_t *sv_history_node_set(sv_history *h, const char *owner, const char *id, const json_t *o, json_t **current,
                            sv_bad *bad)
{
    if (!sv_db_enter(h, 1, bad))
        return NULL;
    json_t *now = sv_node_row(h, owner, id, bad), *after = NULL;
    const json_t *content = sv_field_get(o, "content"), *meta = sv_field_get(o, "meta");
    int ok = now && !sv_is_outdated(now, sv_get_int(o, "revision", -1), current, bad) &&
             (!content || stands_still(now, bad));
    if (ok && content) /* another text: what is known of the old one's tokens is not so any more */
        ok = sv_db_do(h, bad, NULL,
                      "UPDATE nodes SET text = ?1, tokens = NULL, ids = NULL, state = NULL, kept = NULL WHERE id = ?2 "
                      "AND text <> ?1",
                      "ts", json_string_value(content), json_string_length(content), id);
    if (ok && meta)
        ok = sv_db_do(h, bad, NULL, "UPDATE nodes SET meta = ? WHERE id = ?", "js", meta, id);
    ok = ok &&
         sv_db_do(h, bad, NULL, "UPDATE nodes SET updated = ?, revision = revision + 1 WHERE id = ?", "is", sv_db_now(),
                  id) &&
         sv_chat_touch(h, json_string_value(json_object_get(now, "chat")), NULL, bad);
    after = ok ? sv_node_row(h, owner, id, bad) : NULL;
    json_decref(now);
    return sv_db_keep(h, after, bad);
}

#define BELOW                                                                                                          \
    "WITH RECURSIVE below(id) AS (SELECT ?1 UNION SELECT n.id FROM nodes n JOIN below ON n.parent = below.id) "

json_t *sv_history_node_drop(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    json_t *ids = json_array();
    if (!sv_db_enter(h, 1, bad)) {
        json_decref(ids);
        return NULL;
    }
    json_t *now = sv_node_row(h, owner, id, bad);
    const char *chat = json_string_value(json_object_get(now, "chat"));
    const char *parent = json_string_value(json_object_get(now, "parent"));
    int ok = now && sv_db_all(h, sv_db_ask(h, bad, BELOW "SELECT id FROM below", "s", id), sv_row_id, ids, bad) &&
             sv_db_do(h, bad, NULL, BELOW "UPDATE chats SET leaf = ?2 WHERE id = ?3 AND leaf IN (SELECT id FROM below)",
                      "sss", id, parent, chat) &&
             sv_db_do(h, bad, NULL, BELOW "DELETE FROM nodes WHERE id IN (SELECT id FROM below)", "s", id) &&
             sv_chat_touch(h, chat, NULL, bad);
    ok = sv_db_leave(h, 1, ok, bad);
    json_t *o = ok ? json_pack("{s:O,s:s?,s:s}", "deleted", ids, "parent", parent, "chat", chat) : NULL;
    json_decref(ids);
    json_decref(now);
    return o;
}

/* ---- answers ---- */

json_t *sv_history_answer_begin(sv_history *h, const char *owner, const char *chat, const json_t *o,
                                const json_t *settings, const char *model, int *fresh, sv_bad *bad)
{
    char id[SV_ID_CHARS + 1], asked[SV_ID_CHARS + 1];
    const json_t *message = sv_field_get(o, "message");
    if (!sv_pick_id(o, id, bad) || !sv_pick_id(message, asked, bad) || !sv_db_enter(h, 1, bad))
        return NULL;
    json_t *c = sv_chat_row(h, owner, chat, bad), *node = c ? find_node(h, owner, id) : NULL, *question = NULL;
    int ok = c != NULL;
    *fresh = node == NULL;
    if (ok && *fresh) {
        const char *parent = sv_get_str(o, "parent", NULL);
        if (message) {
            json_t *with = json_copy((json_t *)message);
            if (parent)
                json_object_set_new(with, "parent", json_string(parent));
            ok = sv_node_insert(h, asked, chat, with, "done", NULL, NULL, bad);
            json_decref(with);
            parent = asked;
        }
        json_t *answer = json_pack("{s:s?,s:s,s:s}", "parent", parent, "role", "assistant", "content", "");
        ok = ok && sv_node_insert(h, id, chat, answer, "streaming", model, settings, bad) &&
             sv_chat_touch(h, chat, id, bad);
        json_decref(answer);
        node = ok ? sv_node_row(h, owner, id, bad) : NULL;
        question = ok && message ? sv_node_row(h, owner, asked, bad) : NULL;
    }
    ok = sv_db_leave(h, 1, ok && node && (!message || question || !*fresh), bad);
    json_decref(c);
    if (ok)
        return json_pack("{s:o,s:o}", "message", question ? question : json_null(), "node", node);
    json_decref(node);
    json_decref(question);
    return NULL;
}

json_t *sv_history_answer_again(sv_history *h, const char *owner, const char *id, const json_t *settings,
                                const char *model, int64_t revision, json_t **current, sv_bad *bad)
{
    if (!sv_db_enter(h, 1, bad))
        return NULL;
    json_t *now = sv_node_row(h, owner, id, bad), *after = NULL;
    int ok =
        now && !sv_is_outdated(now, revision, current, bad) && stands_still(now, bad) &&
        sv_db_do(
            h, bad, NULL,
            "UPDATE nodes SET status = 'streaming', finish = NULL, error = NULL, state = NULL, settings = ?, model = ?,"
            " updated = ? WHERE id = ?",
            "jsis", settings, model, sv_db_now(), id) &&
        sv_chat_touch(h, json_string_value(json_object_get(now, "chat")), id, bad);
    after = ok ? sv_node_row(h, owner, id, bad) : NULL;
    json_decref(now);
    return sv_db_keep(h, after, bad);
}

size_t sv_history_ids(sv_history *h, const char *id, int32_t **ids)
{
    sv_bad bad = {0};
    size_t n = 0;
    *ids = NULL;
    if (!sv_db_enter(h, 0, &bad))
        return 0;
    sqlite3_stmt *s = sv_db_ask(h, &bad, "SELECT ids FROM nodes WHERE id = ?", "s", id);
    if (sv_db_next(h, s, &bad) > 0) {
        const void *data = sqlite3_column_blob(s, 0);
        n = data ? (size_t)sqlite3_column_bytes(s, 0) / sizeof **ids : 0;
        *ids = n ? malloc(n * sizeof **ids) : NULL;
        if (*ids)
            memcpy(*ids, data, n * sizeof **ids);
        else
            n = 0;
    }
    sqlite3_finalize(s);
    sv_db_leave(h, 0, 1, &bad);
    return n;
}

int sv_history_answer_text(sv_history *h, const char *id, const char *text, size_t n, sv_bad *bad)
{
    if (!sv_db_enter(h, 1, bad))
        return 0;
    const int ok =
        sv_db_do(h, bad, NULL, "UPDATE nodes SET text = ?, updated = ? WHERE id = ?", "tis", text, n, sv_db_now(), id);
    return sv_db_leave(h, 1, ok, bad);
}

json_t *sv_history_answer_end(sv_history *h, const char *id, const char *text, size_t n, const sv_history_end *end,
                              sv_bad *bad)
{
    if (!sv_db_enter(h, 1, bad))
        return NULL;
    int ok = sv_db_do(h, bad, NULL,
                      "UPDATE nodes SET text = ?, updated = ?, revision = revision + 1, status = ?, finish = ?,"
                      " error = ?, usage = ?, tokens = ?, ids = ?, state = COALESCE(?, state), kept = ? WHERE id = ?",
                      "tissjjjbsjs", text, n, sv_db_now(), end->status, end->finish, end->error, end->usage,
                      json_array_size(end->tokens) ? end->tokens : NULL, end->ids, end->n_ids * sizeof *end->ids,
                      end->state, end->kept, id);
    json_t *node = ok ? sv_node_row(h, NULL, id, bad) : NULL;
    if (node && !sv_chat_touch(h, json_string_value(json_object_get(node, "chat")), NULL, bad)) {
        json_decref(node);
        node = NULL;
    }
    return sv_db_keep(h, node, bad);
}

int sv_history_node_keep(sv_history *h, const char *id, const json_t *kept)
{
    sv_bad bad = {0};
    if (!sv_db_enter(h, 1, &bad))
        return 0;
    const int ok = sv_db_do(h, &bad, NULL, "UPDATE nodes SET kept = ? WHERE id = ?", "js", kept, id);
    return sv_db_leave(h, 1, ok, &bad);
}

int sv_history_node_state(sv_history *h, const char *owner, const char *id, const char *state, sv_bad *bad)
{
    if (!sv_db_enter(h, 1, bad))
        return 0;
    json_t *now = sv_node_row(h, owner, id, bad);
    const int ok = now && sv_db_do(h, bad, NULL, "UPDATE nodes SET state = ?, revision = revision + 1 WHERE id = ?",
                                   "ss", state, id);
    json_decref(now);
    return sv_db_leave(h, 1, ok, bad);
}

static json_t *row_kept(sqlite3_stmt *s)
{
    return json_pack("{s:o,s:o,s:o}", "id", sv_db_text(s, 0), "state", sv_db_text(s, 1), "kept", sv_db_json(s, 2));
}

static json_t *find_kept(sv_history *h, const char *owner, const char *chat, sv_bad *bad)
{
    json_t *c = sv_chat_row(h, owner, chat, bad), *list = json_array();
    if (c && sv_db_all(h,
                       sv_db_ask(h, bad,
                                 "SELECT id, state, kept FROM nodes WHERE chat = ? AND (state IS NOT NULL OR kept IS"
                                 " NOT NULL)",
                                 "s", chat),
                       row_kept, list, bad)) {
        json_decref(c);
        return list;
    }
    json_decref(c);
    json_decref(list);
    return NULL;
}

json_t *sv_history_kept(sv_history *h, const char *owner, const char *chat, sv_bad *bad)
{
    return sv_db_look(h, find_kept, owner, chat, bad);
}
