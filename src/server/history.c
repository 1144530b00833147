/* history.c — turns with the history's database: statements with their values, errors in the words of docs/PAGE.md, ids
 * and columns. How it is opened is in history_open.c, what is kept in it in the other files of the history. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "history_impl.h"
#include "random_id.h"

/* ---- errors ---- */

/* The system's word for what failed last: SQLite's own, else that of the log's file, else of the database's. */
int sv_db_errno(sqlite3 *db)
{
    int why = db ? sqlite3_system_errno(db) : 0;
    sqlite3_file *log = NULL;
    if (db && !why && sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) == SQLITE_OK && log &&
        log->pMethods)
        log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &why);
    if (db && !why)
        sqlite3_file_control(db, "main", SQLITE_FCNTL_LAST_ERRNO, &why);
    return why;
}

int sv_db_is_full(sqlite3 *db)
{
    const int extended = sqlite3_errcode(db), code = extended & 0xff;
    if (code != SQLITE_IOERR && code != SQLITE_CANTOPEN)
        return code == SQLITE_FULL;
    const int why = sv_db_errno(db); /* quotas and limits are no "full" to SQLite */
    return extended == SQLITE_IOERR_SHMSIZE || why == ENOSPC || why == EDQUOT || why == EFBIG;
}

static int refuse(sv_history *h, sv_bad *bad)
{
    const int extended = sqlite3_errcode(h->db), code = extended & 0xff;
    const char *why = sqlite3_errmsg(h->db);
    if (sv_db_is_full(h->db))
        return sv_refuse(bad, 507, "history_full", NULL,
                         "the disk of %s is full: nothing was changed (free some room, then try again)",
                         *h->news.folder ? h->news.folder : "the history");
    if (extended == SQLITE_CORRUPT_VTAB) {
        h->words_damaged = 1;
        return sv_refuse(bad, 500, "history_failed", NULL,
                         "the history's index of words was damaged and is made anew: nothing was changed, try again");
    }
    if (code == SQLITE_READONLY)
        return sv_refuse(bad, 409, "history_read_only", NULL, "the history cannot be written: %s", why);
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        return sv_refuse(bad, 500, "history_failed", NULL,
                         "the history is damaged (%s): it is kept aside at the next start, and a new one begins", why);
    if (code == SQLITE_NOMEM)
        return sv_refuse(bad, 503, "unavailable", NULL, "no memory for the history");
    return sv_refuse(bad, 500, "history_failed", NULL, "the history failed: %s", why);
}

/* ---- turns and statements ---- */

int sv_db_enter(sv_history *h, int writes, sv_bad *bad)
{
    pthread_mutex_lock(&h->lock);
    int ok = 1;
    if (writes && h->to_mend)
        h->to_mend = sqlite3_exec(h->db, SV_HISTORY_MEND, NULL, NULL, NULL) != SQLITE_OK;
    if (writes && h->read_only)
        ok = sv_refuse(bad, 409, "history_read_only", NULL, "%s", h->news.message);
    else if ((writes && h->to_mend) ||
             sqlite3_exec(h->db, writes ? "BEGIN IMMEDIATE" : "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        ok = refuse(h, bad);
    if (!ok)
        pthread_mutex_unlock(&h->lock);
    return ok;
}

int sv_db_leave(sv_history *h, int writes, int ok, sv_bad *bad)
{
    if (ok && sqlite3_exec(h->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        ok = writes ? refuse(h, bad) : 1;
    if (!sqlite3_get_autocommit(h->db))
        sqlite3_exec(h->db, "ROLLBACK", NULL, NULL, NULL);
    if (h->words_damaged && !h->read_only)
        sqlite3_exec(h->db, "INSERT INTO words(words) VALUES('rebuild')", NULL, NULL, NULL);
    h->words_damaged = 0;
    pthread_mutex_unlock(&h->lock);
    return ok;
}

static int bind_one(sqlite3_stmt *s, int at, char letter, va_list *list)
{
    const void *data;
    size_t n;
    switch (letter) {
    case 'i':
        return sqlite3_bind_int64(s, at, va_arg(*list, int64_t));
    case 's':
        data = va_arg(*list, const char *);
        return data ? sqlite3_bind_text64(s, at, data, strlen(data), SQLITE_TRANSIENT, SQLITE_UTF8)
                    : sqlite3_bind_null(s, at);
    case 't':
        data = va_arg(*list, const char *);
        n = va_arg(*list, size_t);
        return sqlite3_bind_text64(s, at, data ? data : "", n, SQLITE_TRANSIENT, SQLITE_UTF8);
    case 'b':
        data = va_arg(*list, const void *);
        n = va_arg(*list, size_t);
        return data ? sqlite3_bind_blob64(s, at, data, n, SQLITE_TRANSIENT) : sqlite3_bind_null(s, at);
    default: { /* 'j' */
        const json_t *o = va_arg(*list, const json_t *);
        if (!o || json_is_null(o))
            return sqlite3_bind_null(s, at);
        char *text = json_dumps(o, JSON_COMPACT | JSON_ENCODE_ANY);
        return text ? sqlite3_bind_text64(s, at, text, strlen(text), free, SQLITE_UTF8) : SQLITE_NOMEM;
    }
    }
}

static sqlite3_stmt *ask(sv_history *h, sv_bad *bad, const char *sql, const char *values, va_list *list)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(h->db, sql, -1, &s, NULL);
    for (int i = 0; code == SQLITE_OK && values[i]; i++)
        code = bind_one(s, i + 1, values[i], list);
    if (code == SQLITE_OK)
        return s;
    refuse(h, bad);
    sqlite3_finalize(s);
    return NULL;
}

sqlite3_stmt *sv_db_ask(sv_history *h, sv_bad *bad, const char *sql, const char *values, ...)
{
    va_list list;
    va_start(list, values);
    sqlite3_stmt *s = ask(h, bad, sql, values, &list);
    va_end(list);
    return s;
}

int sv_db_next(sv_history *h, sqlite3_stmt *s, sv_bad *bad)
{
    if (!s)
        return -1;
    const int code = sqlite3_step(s);
    if (code == SQLITE_ROW)
        return 1;
    if (code == SQLITE_DONE)
        return 0;
    refuse(h, bad);
    return -1;
}

int sv_db_do(sv_history *h, sv_bad *bad, int *n, const char *sql, const char *values, ...)
{
    va_list list;
    va_start(list, values);
    sqlite3_stmt *s = ask(h, bad, sql, values, &list);
    va_end(list);
    int got = sv_db_next(h, s, bad);
    while (got > 0)
        got = sv_db_next(h, s, bad);
    if (n)
        *n = got == 0 ? sqlite3_changes(h->db) : 0;
    sqlite3_finalize(s);
    return got == 0;
}

/* ---- whole results, turns of the usual kinds ---- */

int sv_db_has(sv_history *h, sqlite3_stmt *s, sv_bad *bad)
{
    const int got = sv_db_next(h, s, bad);
    sqlite3_finalize(s);
    return got;
}

json_t *sv_db_one(sv_history *h, sqlite3_stmt *s, sv_make_row *make, sv_bad *bad)
{
    json_t *o = sv_db_next(h, s, bad) > 0 ? make(s) : NULL;
    sqlite3_finalize(s);
    return o;
}

int sv_db_all(sv_history *h, sqlite3_stmt *s, sv_make_row *make, json_t *list, sv_bad *bad)
{
    int got;
    while ((got = sv_db_next(h, s, bad)) > 0)
        json_array_append_new(list, make(s));
    sqlite3_finalize(s);
    return got == 0;
}

json_t *sv_db_look(sv_history *h, sv_find *find, const char *owner, const char *id, sv_bad *bad)
{
    if (!sv_db_enter(h, 0, bad))
        return NULL;
    json_t *o = find(h, owner, id, bad);
    sv_db_leave(h, 0, 1, bad);
    return o;
}

json_t *sv_db_keep(sv_history *h, json_t *o, sv_bad *bad)
{
    if (sv_db_leave(h, 1, o != NULL, bad))
        return o;
    json_decref(o);
    return NULL;
}

/* ---- columns, ids, time ---- */

json_t *sv_db_text(sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);
    return text ? sv_json_text(text, (size_t)sqlite3_column_bytes(s, column)) : json_null();
}

json_t *sv_db_json(sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);
    json_t *o =
        text ? json_loadb(text, (size_t)sqlite3_column_bytes(s, column), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    return o ? o : json_null();
}

json_t *sv_row_id(sqlite3_stmt *s)
{
    return sv_db_text(s, 0);
}

int sv_db_is_id(const char *id)
{
    return strlen(id) == SV_ID_CHARS && strspn(id, "0123456789abcdef") == SV_ID_CHARS;
}

int64_t sv_db_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int sv_pick_id(const json_t *o, char out[SV_ID_CHARS + 1], sv_bad *bad)
{
    const char *id = sv_get_str(o, "id", NULL);
    if (!id)
        return sv_random_id(out, SV_ID_CHARS / 2) ||
               sv_refuse(bad, 503, "unavailable", NULL, "the system has no random bytes");
    if (!sv_db_is_id(id))
        return sv_refuse(bad, 400, "invalid_value", "id", "id: wanted 24 characters 0-9a-f");
    memcpy(out, id, SV_ID_CHARS + 1);
    return 1;
}
