/* history_chats.c — chats themselves, folders and presets: made, changed with revisions, deleted for good. */
#include <stdlib.h>
#include <string.h>

#include "history_impl.h"

/* ---- rows ---- */

json_t *sv_row_chat(sqlite3_stmt *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "id", sv_db_text(s, 0));
    json_object_set_new(o, "kind", sv_db_text(s, 1));
    json_object_set_new(o, "title", sv_db_text(s, 2));
    json_object_set_new(o, "folder", sv_db_text(s, 3));
    json_object_set_new(o, "pinned", json_boolean(sqlite3_column_int(s, 4)));
    json_object_set_new(o, "model", sv_db_text(s, 5));
    json_object_set_new(o, "system", sv_db_text(s, 6));
    json_object_set_new(o, "settings", sv_db_json(s, 7));
    json_object_set_new(o, "leaf", sv_db_text(s, 8));
    json_object_set_new(o, "state", sv_db_text(s, 9));
    json_object_set_new(o, "created", json_integer(sqlite3_column_int64(s, 10)));
    json_object_set_new(o, "updated", json_integer(sqlite3_column_int64(s, 11)));
    json_object_set_new(o, "revision", json_integer(sqlite3_column_int64(s, 12)));
    json_object_set_new(o, "nodes", json_integer(sqlite3_column_int64(s, 13)));
    const int none = sqlite3_column_type(s, 14) == SQLITE_NULL;
    json_object_set_new(o, "preview", none ? json_string("") : sv_db_text(s, 14));
    return o;
}

int sv_no_chat(sv_bad *bad)
{
    return sv_refuse(bad, 404, "chat_not_found", "id", "no such chat (was it deleted elsewhere?)");
}

json_t *sv_chat_row(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    sqlite3_stmt *s =
        sv_db_ask(h, bad, "SELECT " SV_CHAT_COLUMNS " FROM chats c WHERE c.id = ? AND c.owner = ?", "ss", id, owner);
    json_t *o = sv_db_one(h, s, sv_row_chat, bad);
    if (!o && !bad->status)
        sv_no_chat(bad);
    return o;
}

int sv_chat_touch(sv_history *h, const char *chat, const char *leaf, sv_bad *bad)
{
    return sv_db_do(h, bad, NULL, "UPDATE chats SET updated = ?, leaf = COALESCE(?, leaf) WHERE id = ?", "iss",
                    sv_db_now(), leaf, chat);
}

json_t *sv_history_chat(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    return sv_db_look(h, sv_chat_row, owner, id, bad);
}

static json_t *tree_of(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    json_t *chat = sv_chat_row(h, owner, id, bad), *nodes = json_array();
    if (chat && sv_chat_nodes(h, id, nodes, bad))
        return json_pack("{s:o,s:o}", "chat", chat, "nodes", nodes);
    json_decref(chat);
    json_decref(nodes);
    return NULL;
}

json_t *sv_history_tree(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    return sv_db_look(h, tree_of, owner, id, bad);
}

/* ---- made and changed ---- */

/* The request's value where it says one (null too), else what is there. */
static const json_t *either(const json_t *o, const char *name, const json_t *otherwise)
{
    const json_t *v = json_object_get(o, name);
    return v ? v : otherwise;
}

/* Is there a folder of this owner's? NULL and "" are none. */
static int check_folder(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    if (!id)
        return 1;
    sqlite3_stmt *s =
        sv_db_ask(h, bad, "SELECT 1 FROM things WHERE id = ? AND owner = ? AND kind = 'folder'", "ss", id, owner);
    const int got = sv_db_has(h, s, bad);
    return got > 0 ? 1 : got < 0 ? 0 : sv_refuse(bad, 404, "not_found", "folder", "folder: no such folder");
}

/* Write what a chat is: `now` with the request's fields over it. */
static int write_chat(sv_history *h, const char *owner, const char *id, const json_t *now, const json_t *o,
                      int64_t revision, sv_bad *bad)
{
    const char *folder = json_string_value(either(o, "folder", json_object_get(now, "folder")));
    const json_t *title = either(o, "title", json_object_get(now, "title"));
    const json_t *system = either(o, "system", json_object_get(now, "system"));
    const json_t *settings = either(o, "settings", json_object_get(now, "settings"));
    json_t *none = json_object();
    const int ok =
        check_folder(h, owner, folder, bad) &&
        sv_db_do(h, bad, NULL,
                 "UPDATE chats SET title = ?, folder = ?, pinned = ?, model = ?, system = ?, settings = ?, leaf = ?,"
                 " state = ?, revision = ? WHERE id = ?",
                 "tsistjssis", json_string_value(title), json_string_length(title), folder,
                 (int64_t)json_is_true(either(o, "pinned", json_object_get(now, "pinned"))),
                 json_string_value(either(o, "model", json_object_get(now, "model"))), json_string_value(system),
                 json_string_length(system), json_is_object(settings) ? settings : none,
                 json_string_value(either(o, "leaf", json_object_get(now, "leaf"))),
                 json_string_value(either(o, "state", json_object_get(now, "state"))), revision, id);
    json_decref(none);
    return ok;
}

static json_t *find_chat(sv_history *h, const char *owner, const char *id)
{
    sv_bad none = {0};
    return sv_chat_row(h, owner, id, &none);
}

json_t *sv_history_chat_add(sv_history *h, const char *owner, const json_t *o, int *fresh, sv_bad *bad)
{
    char id[SV_ID_CHARS + 1];
    if (!sv_pick_id(o, id, bad) || !sv_db_enter(h, 1, bad))
        return NULL;
    json_t *chat = find_chat(h, owner, id);
    *fresh = chat == NULL;
    const int64_t now = sv_db_now();
    if (*fresh &&
        sv_db_do(h, bad, NULL,
                 "INSERT INTO chats(id, owner, kind, title, pinned, system, settings, created, updated, revision)"
                 " VALUES(?, ?, ?, '', 0, '', '{}', ?, ?, 1)",
                 "sssii", id, owner, sv_get_str(o, "kind", "chat"), now, now) &&
        write_chat(h, owner, id, NULL, o, 1, bad))
        chat = sv_chat_row(h, owner, id, bad);
    return sv_db_keep(h, chat, bad);
}

int sv_is_outdated(const json_t *now, int64_t revision, json_t **current, sv_bad *bad)
{
    const int64_t newest = json_integer_value(json_object_get(now, "revision"));
    if (revision < 0 || revision == newest)
        return 0;
    *current = json_incref((json_t *)now);
    sv_refuse(bad, 409, "revision_conflict", "revision",
              "revision: %lld, the newest is %lld (it was changed elsewhere)", (long long)revision, (long long)newest);
    return 1;
}

/* Where it was left is nobody's quarrel. */
static int is_leaf_alone(const json_t *o)
{
    const size_t n = json_object_size(o);
    return json_object_get(o, "leaf") && (n == 1 || (n == 2 && json_object_get(o, "revision")));
}

json_t *sv_history_chat_set(sv_history *h, const char *owner, const char *id, const json_t *o, json_t **current,
                            sv_bad *bad)
{
    if (!sv_db_enter(h, 1, bad))
        return NULL;
    json_t *now = sv_chat_row(h, owner, id, bad), *after = NULL;
    const int64_t expected = is_leaf_alone(o) ? -1 : sv_get_int(o, "revision", -1);
    const int64_t revision = json_integer_value(json_object_get(now, "revision"));
    if (now && !sv_is_outdated(now, expected, current, bad) &&
        write_chat(h, owner, id, now, o, revision + !is_leaf_alone(o), bad))
        after = sv_chat_row(h, owner, id, bad);
    json_decref(now);
    return sv_db_keep(h, after, bad);
}

/* ---- deleted for good ---- */

/* Words of what went are in pages of the index until it is put together anew, and pages that changed are in the log
 * beside the database. */
static void forget(sv_history *h)
{
    pthread_mutex_lock(&h->lock);
    sqlite3_exec(h->db, "INSERT INTO words(words) VALUES('optimize')", NULL, NULL, NULL);
    sqlite3_wal_checkpoint_v2(h->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    pthread_mutex_unlock(&h->lock);
}

json_t *sv_history_chat_drop(sv_history *h, const char *owner, const char *id, sv_bad *bad)
{
    json_t *ids = json_array();
    if (!sv_db_enter(h, 1, bad)) {
        json_decref(ids);
        return NULL;
    }
    sqlite3_stmt *s =
        sv_db_ask(h, bad, "SELECT id FROM chats WHERE owner = ?1 AND (?2 IS NULL OR id = ?2)", "ss", owner, id);
    int ok = sv_db_all(h, s, sv_row_id, ids, bad);
    if (ok && id && !json_array_size(ids))
        ok = sv_no_chat(bad);
    ok = ok &&
         sv_db_do(h, bad, NULL,
                  "DELETE FROM nodes WHERE chat IN (SELECT id FROM chats WHERE owner = ?1 AND (?2 IS NULL OR id = ?2))",
                  "ss", owner, id) &&
         sv_db_do(h, bad, NULL, "DELETE FROM chats WHERE owner = ?1 AND (?2 IS NULL OR id = ?2)", "ss", owner, id);
    if (!sv_db_leave(h, 1, ok, bad)) {
        json_decref(ids);
        return NULL;
    }
    if (json_array_size(ids))
        forget(h);
    return ids;
}

/* ---- folders and presets ---- */

/* id, name, position, revision, body */
static json_t *row_folder(sqlite3_stmt *s)
{
    return json_pack("{s:o,s:o,s:I,s:I}", "id", sv_db_text(s, 0), "name", sv_db_text(s, 1), "position",
                     (json_int_t)sqlite3_column_int64(s, 2), "revision", (json_int_t)sqlite3_column_int64(s, 3));
}

static json_t *row_preset(sqlite3_stmt *s)
{
    json_t *body = sv_db_json(s, 4), *system = json_object_get(body, "system"),
           *settings = json_object_get(body, "settings");
    json_t *o =
        json_pack("{s:o,s:o,s:o,s:o,s:I}", "id", sv_db_text(s, 0), "name", sv_db_text(s, 1), "system",
                  system ? json_incref(system) : json_string(""), "settings",
                  settings ? json_incref(settings) : json_object(), "revision", (json_int_t)sqlite3_column_int64(s, 3));
    json_decref(body);
    return o;
}

static sv_make_row *row_of(const char *kind)
{
    return strcmp(kind, "folder") == 0 ? row_folder : row_preset;
}

static int no_thing(const char *kind, sv_bad *bad)
{
    return sv_refuse(bad, 404, "not_found", "id", "no such %s (was it deleted elsewhere?)", kind);
}

static json_t *find_thing(sv_history *h, const char *owner, const char *kind, const char *id, sv_bad *bad)
{
    sqlite3_stmt *s = sv_db_ask(
        h, bad, "SELECT id, name, position, revision, body FROM things WHERE id = ? AND owner = ? AND kind = ?", "sss",
        id, owner, kind);
    json_t *o = sv_db_one(h, s, row_of(kind), bad);
    if (!o && !bad->status)
        no_thing(kind, bad);
    return o;
}

json_t *sv_history_things(sv_history *h, const char *owner, const char *kind, sv_bad *bad)
{
    if (!sv_db_enter(h, 0, bad))
        return NULL;
    json_t *list = json_array();
    sqlite3_stmt *s = sv_db_ask(h, bad,
                                "SELECT id, name, position, revision, body FROM things WHERE owner = ? AND kind = ?"
                                " ORDER BY position, name, id",
                                "ss", owner, kind);
    const int ok = sv_db_all(h, s, row_of(kind), list, bad);
    sv_db_leave(h, 0, 1, bad);
    if (ok)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *body_of(const json_t *now, const json_t *o)
{
    static const char *const names[] = {"system", "settings"};
    json_t *body = json_object();
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = either(o, names[i], json_object_get(now, names[i]));
        if (v && !json_is_null(v))
            json_object_set(body, names[i], (json_t *)v);
    }
    return body;
}

json_t *sv_history_thing_add(sv_history *h, const char *owner, const char *kind, const json_t *o, sv_bad *bad)
{
    char id[SV_ID_CHARS + 1];
    if (!sv_pick_id(o, id, bad) || !sv_db_enter(h, 1, bad))
        return NULL;
    sv_bad none = {0};
    json_t *thing = find_thing(h, owner, kind, id, &none), *body = body_of(NULL, o);
    const json_t *name = json_object_get(o, "name");
    int ok = 1;
    if (!thing) {
        ok =
            sv_db_do(h, bad, NULL,
                     "INSERT INTO things(id, owner, kind, name, position, body, revision) VALUES(?, ?, ?, ?,"
                     " COALESCE(?, (SELECT COALESCE(MAX(position), 0) + 1 FROM things WHERE owner = ?2 AND kind = ?3)),"
                     " ?, 1)",
                     "ssstsj", id, owner, kind, json_string_value(name), json_string_length(name), NULL, body);
        if (ok && sv_field_get(o, "position"))
            ok = sv_db_do(h, bad, NULL, "UPDATE things SET position = ? WHERE id = ?", "is",
                          sv_get_int(o, "position", 0), id);
        thing = ok ? find_thing(h, owner, kind, id, bad) : NULL;
    }
    json_decref(body);
    return sv_db_keep(h, thing, bad);
}

json_t *sv_history_thing_set(sv_history *h, const char *owner, const char *kind, const char *id, const json_t *o,
                             json_t **current, sv_bad *bad)
{
    if (!sv_db_enter(h, 1, bad))
        return NULL;
    json_t *now = find_thing(h, owner, kind, id, bad), *after = NULL, *body = body_of(now, o);
    const json_t *name = either(o, "name", json_object_get(now, "name"));
    if (now && !sv_is_outdated(now, sv_get_int(o, "revision", -1), current, bad) &&
        sv_db_do(h, bad, NULL,
                 "UPDATE things SET name = ?, position = ?, body = ?, revision = revision + 1 WHERE id = ?", "tijs",
                 json_string_value(name), json_string_length(name),
                 sv_get_int(o, "position", json_integer_value(json_object_get(now, "position"))), body, id))
        after = find_thing(h, owner, kind, id, bad);
    json_decref(now);
    json_decref(body);
    return sv_db_keep(h, after, bad);
}

int sv_history_thing_drop(sv_history *h, const char *owner, const char *kind, const char *id, sv_bad *bad)
{
    int n = 0;
    if (!sv_db_enter(h, 1, bad))
        return 0;
    int ok = sv_db_do(h, bad, &n, "DELETE FROM things WHERE id = ? AND owner = ? AND kind = ?", "sss", id, owner, kind);
    if (ok && n == 0)
        ok = no_thing(kind, bad);
    if (ok && strcmp(kind, "folder") == 0)
        ok = sv_db_do(h, bad, NULL, "UPDATE chats SET folder = NULL WHERE folder = ? AND owner = ?", "ss", id, owner);
    return sv_db_leave(h, 1, ok, bad);
}
