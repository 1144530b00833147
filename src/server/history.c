/* history.c — opening the history's database (its folder's lock, its schema, what is done with a damaged or a newer
 * one) and statements. What is kept in it is in the other files of the history. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "history_impl.h"

#define APPLICATION_ID 0x7a6d6263 /* "zmbc" */

/* Words are indexed when a node's text stands still, so that an answer under way is not indexed every second. */
static const char schema[] =
    "CREATE TABLE chats(id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL, folder TEXT,"
    " pinned INTEGER NOT NULL, model TEXT, system TEXT NOT NULL, settings TEXT NOT NULL, leaf TEXT, state TEXT,"
    " created INTEGER NOT NULL, updated INTEGER NOT NULL, revision INTEGER NOT NULL);"
    "CREATE INDEX chats_order ON chats(owner, pinned, updated, id);"
    "CREATE TABLE nodes(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, chat TEXT NOT NULL REFERENCES chats(id),"
    " parent TEXT, role TEXT NOT NULL, text TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,"
    " revision INTEGER NOT NULL, status TEXT NOT NULL, finish TEXT, error TEXT, model TEXT, settings TEXT, usage TEXT,"
    " meta TEXT NOT NULL, tokens TEXT, ids BLOB, state TEXT, kept TEXT);"
    "CREATE INDEX nodes_chat ON nodes(chat, seq);"
    "CREATE INDEX nodes_parent ON nodes(parent);"
    "CREATE INDEX nodes_streaming ON nodes(status) WHERE status = 'streaming';"
    "CREATE TABLE things(id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,"
    " position INTEGER NOT NULL, body TEXT NOT NULL, revision INTEGER NOT NULL);"
    "CREATE INDEX things_order ON things(owner, kind, position, name);"
    "CREATE VIRTUAL TABLE words USING fts5(text, content='nodes', content_rowid='seq',"
    " tokenize='unicode61 remove_diacritics 2', prefix='2 3');"
    "CREATE TRIGGER nodes_in AFTER INSERT ON nodes WHEN new.status <> 'streaming' BEGIN"
    " INSERT INTO words(rowid, text) VALUES(new.seq, new.text); END;"
    "CREATE TRIGGER nodes_out AFTER DELETE ON nodes WHEN old.status <> 'streaming' BEGIN"
    " INSERT INTO words(words, rowid, text) VALUES('delete', old.seq, old.text); END;"
    "CREATE TRIGGER nodes_changed AFTER UPDATE OF text, status ON nodes"
    " WHEN old.status <> 'streaming' OR new.status <> 'streaming' BEGIN"
    " INSERT INTO words(words, rowid, text) SELECT 'delete', old.seq, old.text WHERE old.status <> 'streaming';"
    " INSERT INTO words(rowid, text) SELECT new.seq, new.text WHERE new.status <> 'streaming'; END;";

/* ---- errors ---- */

static int refuse(sv_history *h, sv_bad *bad)
{
    const int code = sqlite3_errcode(h->db) & 0xff;
    const char *why = sqlite3_errmsg(h->db);
    if (code == SQLITE_FULL)
        return sv_refuse(bad, 507, "history_full", NULL,
                         "the disk of %s is full: nothing was changed (free some room, then try again)",
                         *h->news.folder ? h->news.folder : "the history");
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
    if (writes && h->read_only)
        ok = sv_refuse(bad, 409, "history_read_only", NULL, "%s", h->news.message);
    else if (sqlite3_exec(h->db, writes ? "BEGIN IMMEDIATE" : "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
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

void sv_db_id(char out[SV_ID_CHARS + 1])
{
    unsigned char random[SV_ID_CHARS / 2];
    while (getrandom(random, sizeof random, 0) < 0 && errno == EINTR)
        ;
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(out + 2 * i, 3, "%02x", random[i]);
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
    if (!id) {
        sv_db_id(out);
        return 1;
    }
    if (!sv_db_is_id(id))
        return sv_refuse(bad, 400, "invalid_value", "id", "id: wanted 24 characters 0-9a-f");
    memcpy(out, id, SV_ID_CHARS + 1);
    return 1;
}

/* ---- opening ---- */

static int number_of(sqlite3 *db, const char *sql, int *code)
{
    sqlite3_stmt *s = NULL;
    int value = 0;
    *code = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (*code == SQLITE_OK) {
        *code = sqlite3_step(s);
        value = *code == SQLITE_ROW ? sqlite3_column_int(s, 0) : 0;
        *code = *code == SQLITE_ROW || *code == SQLITE_DONE ? SQLITE_OK : *code;
    }
    sqlite3_finalize(s);
    return value;
}

static int is_whole(sqlite3 *db, int *code)
{
    sqlite3_stmt *s = NULL;
    int whole = 0;
    *code = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &s, NULL);
    if (*code == SQLITE_OK) {
        *code = sqlite3_step(s);
        const char *said = *code == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
        whole = said && strcmp(said, "ok") == 0;
        *code = *code == SQLITE_ROW ? SQLITE_OK : *code;
    }
    sqlite3_finalize(s);
    return whole;
}

typedef enum found { FOUND_GOOD, FOUND_NEWER, FOUND_DAMAGED, FOUND_FAILED } found;

/* Open the file, or make it. What it was not used for is closed again. */
static found open_file(sv_history *h, const char *path, char *why, size_t n_why)
{
    int code = sqlite3_open_v2(path, &h->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    int version = 0, id = 0;
    if (code == SQLITE_OK) {
        sqlite3_extended_result_codes(h->db, 1);
        sqlite3_busy_timeout(h->db, 5000);
        sqlite3_db_config(h->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        version = number_of(h->db, "PRAGMA user_version", &code);
    }
    if (code == SQLITE_OK)
        id = number_of(h->db, "PRAGMA application_id", &code);
    if (code == SQLITE_OK && version > SV_HISTORY_VERSION && id == APPLICATION_ID)
        return FOUND_NEWER;
    int whole = code != SQLITE_OK || is_whole(h->db, &code);
    if (code == SQLITE_OK && whole && id != APPLICATION_ID) { /* new, or somebody else's */
        const int tables = number_of(h->db, "SELECT COUNT(*) FROM sqlite_schema", &code);
        whole = code != SQLITE_OK || tables == 0;
    }
    if (code == SQLITE_OK && whole)
        code = sqlite3_exec(h->db,
                            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"
                            "PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 500;",
                            NULL, NULL, NULL);
    if (code == SQLITE_OK && whole && version == 0) {
        code = sqlite3_exec(h->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
        if (code == SQLITE_OK)
            code = sqlite3_exec(h->db, schema, NULL, NULL, NULL);
        char marks[96];
        snprintf(marks, sizeof marks, "PRAGMA user_version = %d; PRAGMA application_id = %d; COMMIT",
                 (int)SV_HISTORY_VERSION, APPLICATION_ID);
        if (code == SQLITE_OK)
            code = sqlite3_exec(h->db, marks, NULL, NULL, NULL);
    }
    /* an answer of a server that ended before it */
    if (code == SQLITE_OK && whole)
        code =
            sqlite3_exec(h->db, "UPDATE nodes SET status = 'interrupted' WHERE status = 'streaming'", NULL, NULL, NULL);
    if (code == SQLITE_OK && whole)
        return FOUND_GOOD;
    code &= 0xff;
    const int damaged = !whole || code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR;
    snprintf(why, n_why, "%s", !h->db || whole ? sqlite3_errmsg(h->db) : "its pages do not fit together");
    sqlite3_close(h->db);
    h->db = NULL;
    return damaged ? FOUND_DAMAGED : FOUND_FAILED;
}

/* Newer: what can be read is read. */
static int open_for_reading(sv_history *h, const char *path)
{
    sqlite3_close(h->db);
    h->db = NULL;
    if (sqlite3_open_v2(path, &h->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return 0;
    sqlite3_extended_result_codes(h->db, 1);
    h->read_only = 1;
    h->news.state = "read_only";
    h->news.reason = "newer";
    snprintf(h->news.message, sizeof h->news.message,
             "the history in %.500s was written by a newer version of zamba: it can be read here, not changed",
             h->news.folder);
    return 1;
}

/* The file and what SQLite has beside it get another name. */
static int move_aside(sv_history *h, const char *path)
{
    static const char *const parts[] = {"", "-wal", "-shm"};
    char from[900], to[1000], when[32];
    const time_t now = time(NULL);
    struct tm tm;
    strftime(when, sizeof when, "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
    int ok = 1;
    for (size_t i = 0; i < 3; i++) {
        snprintf(from, sizeof from, "%.800s%s", path, parts[i]);
        snprintf(to, sizeof to, "%.800s.damaged-%s%s", path, when, parts[i]);
        ok &= rename(from, to) == 0 || (i > 0 && errno == ENOENT);
    }
    snprintf(h->news.moved_aside, sizeof h->news.moved_aside, "history.db.damaged-%s", when);
    return ok;
}

/* Each folder above it, too. */
static int make_folder(const char *path)
{
    char part[900];
    const size_t n = strlen(path);
    if (n >= sizeof part)
        return 0;
    for (size_t i = 1; i <= n; i++)
        if (path[i] == '/' || !path[i]) {
            memcpy(part, path, i);
            part[i] = 0;
            if (mkdir(part, 0700) != 0 && errno != EEXIST)
                return 0;
        }
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void read_line(int fd, char *out, size_t n)
{
    const ssize_t got = pread(fd, out, n - 1, 0);
    out[got > 0 ? got : 0] = 0;
    out[strcspn(out, "\n")] = 0;
}

/* 1: it is ours; 0: another's; -1: it cannot be. */
static int lock_folder(sv_history *h, const char *folder)
{
    char path[900];
    snprintf(path, sizeof path, "%.800s/history.lock", folder);
    h->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (h->lock_fd < 0)
        return -1;
    if (flock(h->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return ftruncate(h->lock_fd, 0) == 0 ? 1 : -1;
    const int other = errno == EWOULDBLOCK;
    read_line(h->lock_fd, h->news.url, sizeof h->news.url);
    close(h->lock_fd);
    h->lock_fd = -1;
    return other ? 0 : -1;
}

int sv_history_holder(const char *folder, char *url, size_t n_url)
{
    char path[900];
    *url = 0;
    snprintf(path, sizeof path, "%.800s/history.lock", folder);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const int held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    if (held)
        read_line(fd, url, n_url);
    close(fd);
    return held;
}

void sv_history_sign(sv_history *h, const char *url)
{
    char line[320];
    const int n = snprintf(line, sizeof line, "%.300s\n", url);
    if (h && h->lock_fd >= 0 && pwrite(h->lock_fd, line, (size_t)n, 0) == n && ftruncate(h->lock_fd, n) != 0)
        h->news.url[0] = 0; /* nobody finds it by the file; nothing else depends on it */
}

static int off(sv_history *h, const char *reason, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int off(sv_history *h, const char *reason, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    vsnprintf(h->news.message, sizeof h->news.message, fmt, list);
    va_end(list);
    h->news.state = "off";
    h->news.reason = reason;
    return 0;
}

static int open_folder(sv_history *h, const char *folder)
{
    char path[900], why[300];
    snprintf(h->news.folder, sizeof h->news.folder, "%s", folder);
    if (strlen(folder) >= sizeof h->news.folder || !make_folder(folder))
        return off(h, "failed", "%.300s: no folder can be made there (%s): chats end with the server", folder,
                   strerror(errno));
    snprintf(path, sizeof path, "%.800s/history.db", folder);
    const int mine = lock_folder(h, folder);
    if (mine == 0)
        return off(h, "locked", "another server has %.300s: chats end with this one (another folder with --data?)",
                   folder);
    if (mine < 0)
        return off(h, "failed", "%.300s: %s: chats end with the server", folder, strerror(errno));
    h->news.state = "on";
    const int fd =
        open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* nobody else's to read; so is what stands beside it */
    if (fd >= 0)
        close(fd);
    found what = open_file(h, path, why, sizeof why);
    if (what == FOUND_DAMAGED) {
        if (!move_aside(h, path))
            return off(h, "failed", "%.300s is damaged (%.200s) and cannot be moved aside: chats end with the server",
                       path, why);
        snprintf(h->news.message, sizeof h->news.message,
                 "the history was damaged (%.200s): it is kept as %.200s, a new one begins", why, h->news.moved_aside);
        what = open_file(h, path, why, sizeof why);
    }
    if (what == FOUND_NEWER)
        return open_for_reading(h, path) ? 1 : off(h, "failed", "%.300s cannot be read", path);
    return what == FOUND_GOOD ? 1 : off(h, "failed", "%.300s: %.200s: chats end with the server", path, why);
}

sv_history *sv_history_open(const char *folder)
{
    sv_history *h = calloc(1, sizeof *h);
    char why[300];
    if (!h)
        return NULL;
    h->lock_fd = -1;
    pthread_mutex_init(&h->lock, NULL);
    const int ok = folder ? open_folder(h, folder) : off(h, "disabled", "chats are not kept (--no-history)");
    if (!ok) {
        sqlite3_close(h->db);
        h->db = NULL;
        if (h->lock_fd >= 0)
            close(h->lock_fd);
        h->lock_fd = -1;
        if (open_file(h, ":memory:", why, sizeof why) != FOUND_GOOD) {
            sv_history_close(h);
            return NULL;
        }
    }
    return h;
}

void sv_history_close(sv_history *h)
{
    if (!h)
        return;
    if (h->db && !h->read_only && strcmp(h->news.state, "on") == 0)
        sqlite3_wal_checkpoint_v2(h->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_close(h->db);
    if (h->lock_fd >= 0)
        close(h->lock_fd);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

const sv_history_news *sv_history_told(const sv_history *h)
{
    return &h->news;
}
