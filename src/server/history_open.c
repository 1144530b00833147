/* history_open.c — opening the history: its folder and the folder's lock, its schema, and what becomes of a database
 * that is damaged, another program's, of a newer version, or that cannot be written. Statements are in history.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
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

/* ---- the database ---- */

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

typedef enum found {
    FOUND_GOOD,
    FOUND_NEWER,
    FOUND_DAMAGED,
    FOUND_FOREIGN,
    FOUND_READ_ONLY,
    FOUND_FULL,
    FOUND_FAILED
} found;

static void close_db(sv_history *h)
{
    sqlite3_close(h->db);
    h->db = NULL;
}

static int has_tables(sqlite3 *db, int *code)
{
    return number_of(db, "SELECT COUNT(*) FROM sqlite_schema", code) > 0;
}

static int make_schema(sqlite3 *db)
{
    char marks[96];
    int code = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(db, schema, NULL, NULL, NULL);
    snprintf(marks, sizeof marks, "PRAGMA user_version = %d; PRAGMA application_id = %d; COMMIT",
             (int)SV_HISTORY_VERSION, APPLICATION_ID);
    return code == SQLITE_OK ? sqlite3_exec(db, marks, NULL, NULL, NULL) : code;
}

/* What was found where `code` is no success: closed again, why in words. */
static found give_up(sv_history *h, int whole, char *why, size_t n_why)
{
    const int code = sqlite3_errcode(h->db) & 0xff, system = sv_db_errno(h->db);
    const int io = code == SQLITE_IOERR || code == SQLITE_CANTOPEN;
    const int damaged = !whole || code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR;
    const int full = whole && h->db && sv_db_is_full(h->db);
    snprintf(why, n_why, "%s%s%s", whole ? sqlite3_errmsg(h->db) : "its pages do not fit together",
             io && system ? ": " : "", io && system ? strerror(system) : "");
    close_db(h);
    return full ? FOUND_FULL : damaged ? FOUND_DAMAGED : FOUND_FAILED;
}

/* Open the file, or make it. alone: nobody else can open it meanwhile, and the index of the log is kept in memory
 * instead of beside it. The database is left open where it is good, newer or not to be written. */
static found open_file(sv_history *h, const char *path, int alone, char *why, size_t n_why)
{
    int code = sqlite3_open_v2(path, &h->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    int version = 0, id = 0;
    if (code == SQLITE_OK) {
        sqlite3_extended_result_codes(h->db, 1);
        sqlite3_busy_timeout(h->db, 5000);
        sqlite3_db_config(h->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        if (alone)
            sqlite3_exec(h->db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
        version = number_of(h->db, "PRAGMA user_version", &code);
    }
    if (code == SQLITE_OK)
        id = number_of(h->db, "PRAGMA application_id", &code);
    if (code == SQLITE_OK && id != APPLICATION_ID && has_tables(h->db, &code)) {
        close_db(h);
        return FOUND_FOREIGN;
    }
    if (code == SQLITE_OK && version > SV_HISTORY_VERSION)
        return FOUND_NEWER;
    if (code != SQLITE_OK || !is_whole(h->db, &code))
        return give_up(h, code != SQLITE_OK, why, n_why);
    if (sqlite3_db_readonly(h->db, "main") == 1)
        return FOUND_READ_ONLY;
    code = sqlite3_exec(h->db,
                        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"
                        "PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 500;",
                        NULL, NULL, NULL);
    if (code == SQLITE_OK && version == 0)
        code = make_schema(h->db);
    if (code == SQLITE_OK && sqlite3_exec(h->db, SV_HISTORY_MEND, NULL, NULL, NULL) != SQLITE_OK) {
        h->to_mend = alone && sv_db_is_full(h->db);
        code = h->to_mend ? SQLITE_OK : SQLITE_ERROR;
    }
    return code == SQLITE_OK ? FOUND_GOOD : give_up(h, 1, why, n_why);
}

static void say(sv_history *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(sv_history *h, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    vsnprintf(h->news.message, sizeof h->news.message, fmt, list);
    va_end(list);
}

/* What can be read is read. */
static int open_for_reading(sv_history *h, const char *path, const char *reason)
{
    close_db(h);
    if (sqlite3_open_v2(path, &h->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return 0;
    sqlite3_extended_result_codes(h->db, 1);
    h->read_only = 1;
    h->news.state = "read_only";
    h->news.reason = reason;
    return 1;
}

/* The file and what SQLite has beside it get another name, one that is free. */
static int move_aside(sv_history *h, const char *path)
{
    static const char *const parts[] = {"", "-wal", "-shm"};
    char from[900], to[1000], name[64], when[32];
    const time_t now = time(NULL);
    struct tm tm;
    strftime(when, sizeof when, "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
    for (unsigned i = 1; i < 100; i++) {
        snprintf(name, sizeof name, i > 1 ? "damaged-%s-%u" : "damaged-%s", when, i);
        snprintf(to, sizeof to, "%.800s.%s", path, name);
        if (access(to, F_OK) != 0)
            break;
    }
    int ok = 1;
    for (size_t i = 0; i < 3; i++) {
        snprintf(from, sizeof from, "%.800s%s", path, parts[i]);
        snprintf(to, sizeof to, "%.800s.%s%s", path, name, parts[i]);
        ok &= rename(from, to) == 0 || (i > 0 && errno == ENOENT);
    }
    snprintf(h->news.moved_aside, sizeof h->news.moved_aside, "history.db.%s", name);
    return ok;
}

/* ---- the folder ---- */

/* Each folder above it, too. 0 and errno: it cannot be. */
static int make_folder(const char *path)
{
    char part[900];
    const size_t n = strlen(path);
    errno = ENAMETOOLONG;
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
    if (stat(path, &st) != 0)
        return 0;
    errno = ENOTDIR;
    return S_ISDIR(st.st_mode);
}

static void read_line(int fd, char *out, size_t n)
{
    const ssize_t got = pread(fd, out, n - 1, 0);
    out[got > 0 ? got : 0] = 0;
    out[strcspn(out, "\n")] = 0;
}

/* 1: it is ours; 0: another's; -1 and errno: it cannot be. */
static int lock_folder(sv_history *h, const char *folder)
{
    char path[900];
    snprintf(path, sizeof path, "%.800s/history.lock", folder);
    h->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (h->lock_fd < 0)
        return -1;
    if (flock(h->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return ftruncate(h->lock_fd, 0) == 0 ? 1 : -1;
    const int why = errno;
    read_line(h->lock_fd, h->news.url, sizeof h->news.url);
    close(h->lock_fd);
    h->lock_fd = -1;
    errno = why;
    return why == EWOULDBLOCK ? 0 : -1;
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

static int off(sv_history *h, const char *reason)
{
    h->news.state = "off";
    h->news.reason = reason;
    return 0;
}

/* Nobody else's to read, as what SQLite makes beside it. 0: what stands there is no file. */
static int make_file(sv_history *h, const char *path)
{
    static const char *const parts[] = {"-wal", "-shm"};
    struct stat st;
    char part[900];
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd >= 0)
        close(fd);
    for (size_t i = 0; fd >= 0 && i < 2; i++) { /* of a time when the database could only be read, they could, too */
        snprintf(part, sizeof part, "%.800s%s", path, parts[i]);
        if (chmod(part, 0600) != 0)
            errno = 0; /* there is none, or SQLite says why not */
    }
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode))
        return 1; /* or SQLite says why not */
    say(h, "%.300s: %s, wanted a file (rename it, or another folder with --data)", path,
        S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    return 0;
}

static int use_found(sv_history *h, const char *path, found what, const char *why)
{
    switch (what) {
    case FOUND_GOOD:
        return 1;
    case FOUND_NEWER:
        say(h, "the history in %.300s was written by a newer version of zamba: it can be read here, not changed",
            h->news.folder);
        break;
    case FOUND_READ_ONLY:
        say(h, "%.300s cannot be written (whose is it?): it can be read, not changed", path);
        break;
    case FOUND_FOREIGN:
        say(h, "%.300s: another program's database, left alone (rename it, or another folder with --data)", path);
        break;
    case FOUND_FULL:
        say(h, "%.300s: no room for the history (free some, then start the server again)", path);
        break;
    default:
        say(h, "%.300s: %.200s (another folder with --data?)", path, why);
    }
    if (what != FOUND_NEWER && what != FOUND_READ_ONLY)
        return off(h, "failed");
    if (open_for_reading(h, path, what == FOUND_NEWER ? "newer" : "failed"))
        return 1;
    say(h, "%.300s: it can be neither written nor read here", path);
    return off(h, "failed");
}

static int open_folder(sv_history *h, const char *folder)
{
    char path[900], why[300] = "";
    snprintf(h->news.folder, sizeof h->news.folder, "%s", folder);
    if (strlen(folder) >= sizeof h->news.folder || !make_folder(folder)) {
        say(h, "%.300s: %s (wanted a folder that can be made or written: another one with --data?)", folder,
            strerror(errno));
        return off(h, "failed");
    }
    const int mine = lock_folder(h, folder);
    if (mine == 0) {
        say(h, "another server has %.300s (another folder with --data?)", folder);
        return off(h, "locked");
    }
    if (mine < 0) {
        say(h, "%.300s/history.lock: %s (a folder that can be written, with --data?)", folder, strerror(errno));
        return off(h, "failed");
    }
    h->news.state = "on";
    snprintf(path, sizeof path, "%.800s/history.db", folder);
    if (!make_file(h, path))
        return off(h, "failed");
    found what = open_file(h, path, 0, why, sizeof why);
    if (what == FOUND_FULL) { /* it can be read, and written again when there is room */
        what = open_file(h, path, 1, why, sizeof why);
        say(h, "the disk of %.300s is full: chats can be read, and written when there is room again", folder);
    }
    if (what == FOUND_DAMAGED) {
        if (!move_aside(h, path)) {
            say(h, "%.300s: damaged (%.200s), and it cannot be moved aside: %s", path, why, strerror(errno));
            return off(h, "failed");
        }
        say(h, "the history was damaged (%.200s): it is kept as %.200s, a new one begins", why, h->news.moved_aside);
        what = open_file(h, path, 0, why, sizeof why);
    }
    return use_found(h, path, what, why);
}

sv_history *sv_history_open(const char *folder)
{
    sv_history *h = calloc(1, sizeof *h);
    char why[300];
    if (!h)
        return NULL;
    h->lock_fd = -1;
    pthread_mutex_init(&h->lock, NULL);
    if (!folder)
        say(h, "the server runs with --no-history");
    if (!(folder ? open_folder(h, folder) : off(h, "disabled"))) {
        close_db(h);
        if (h->lock_fd >= 0)
            close(h->lock_fd);
        h->lock_fd = -1;
        if (open_file(h, ":memory:", 0, why, sizeof why) != FOUND_GOOD) {
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
