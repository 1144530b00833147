/* history_impl.h — what the files of the history share: the database behind its lock, statements with their values,
 * turns of the usual kinds, and rows as JSON. */
#ifndef SV_HISTORY_IMPL_H
#define SV_HISTORY_IMPL_H

#include <pthread.h>
#include <sqlite3.h>

#include "history.h"

enum { SV_HISTORY_VERSION = 1, SV_ID_CHARS = 24 };

struct sv_history {
    pthread_mutex_t lock;
    sqlite3 *db;
    int lock_fd; /* of the folder; -1: none */
    int read_only;
    int words_damaged; /* the index of words: made anew at the end of the turn */
    int to_mend;       /* the disk was full at the start: SV_HISTORY_MEND is to be done before anything is written */
    sv_history_news news;
};

/* Answers of a server that ended before they did. */
#define SV_HISTORY_MEND "UPDATE nodes SET status = 'interrupted' WHERE status = 'streaming'"

/* A call's turn with the database: for writing a transaction begins. 0 and `bad`: it cannot be; else sv_db_leave ends
 * it, with ok nonzero for good. Returns ok, or 0 if it could not be kept. */
int sv_db_enter(sv_history *h, int writes, sv_bad *bad);
int sv_db_leave(sv_history *h, int writes, int ok, sv_bad *bad);

/* Values by letters: s text or NULL, t text and its size_t, i int64_t, b bytes and their size_t, j JSON or NULL. They
 * are copied. NULL and `bad`: it cannot be. */
sqlite3_stmt *sv_db_ask(sv_history *h, sv_bad *bad, const char *sql, const char *values, ...);
/* 1: a row, 0: no more, -1 and `bad`. The statement is finished with sqlite3_finalize. */
int sv_db_next(sv_history *h, sqlite3_stmt *s, sv_bad *bad);
/* Without rows. *n (or NULL) is how many changed. */
int sv_db_do(sv_history *h, sv_bad *bad, int *n, const char *sql, const char *values, ...);

/* The same for whole results: the statement (NULL: `bad` is filled) is finished by them. */
typedef json_t *sv_make_row(sqlite3_stmt *s);
/* 1: it has a row; 0: none; -1: it failed. */
int sv_db_has(sv_history *h, sqlite3_stmt *s, sv_bad *bad);
/* The first row; NULL: none, or `bad`. */
json_t *sv_db_one(sv_history *h, sqlite3_stmt *s, sv_make_row *make, sv_bad *bad);
/* All rows, appended; 0 and `bad`: not all. */
int sv_db_all(sv_history *h, sqlite3_stmt *s, sv_make_row *make, json_t *list, sv_bad *bad);
/* One column as rows. */
json_t *sv_row_id(sqlite3_stmt *s);

/* A turn that only looks one thing up. */
typedef json_t *sv_find(sv_history *h, const char *owner, const char *id, sv_bad *bad);
json_t *sv_db_look(sv_history *h, sv_find *find, const char *owner, const char *id, sv_bad *bad);
/* The end of a turn that made `o` (taken over; NULL: it could not): what is kept, or NULL. */
json_t *sv_db_keep(sv_history *h, json_t *o, sv_bad *bad);
/* The disk or what one may have of it is used up. */
int sv_db_is_full(sqlite3 *db);
int sv_db_errno(sqlite3 *db); /* 0: not known */

/* Columns as JSON; NULL is null. */
json_t *sv_db_text(sqlite3_stmt *s, int column);
json_t *sv_db_json(sqlite3_stmt *s, int column);

int sv_db_is_id(const char *id);
int64_t sv_db_now(void);

/* ---- rows ---- */

#define SV_CHAT_COLUMNS                                                                                                \
    "c.id, c.kind, c.title, c.folder, c.pinned, c.model, c.system, c.settings, c.leaf, c.state, c.created, "           \
    "c.updated, "                                                                                                      \
    "c.revision, (SELECT COUNT(*) FROM nodes n WHERE n.chat = c.id), "                                                 \
    "(SELECT substr(n.text, 1, 160) FROM nodes n WHERE n.chat = c.id ORDER BY n.seq DESC LIMIT 1)"
#define SV_NODE_COLUMNS                                                                                                \
    "n.id, n.chat, n.parent, n.role, n.text, n.created, n.updated, n.revision, n.status, n.finish, n.error, n.model, " \
    "n.settings, n.usage, n.tokens IS NOT NULL, n.state, n.meta"

json_t *sv_row_chat(sqlite3_stmt *s);
json_t *sv_row_node(sqlite3_stmt *s);

/* Inside a turn; NULL and `bad`: there is none of this owner's. */
json_t *sv_chat_row(sv_history *h, const char *owner, const char *id, sv_bad *bad);
json_t *sv_node_row(sv_history *h, const char *owner, const char *id, sv_bad *bad);
/* 404; always 0. */
int sv_no_chat(sv_bad *bad);
int sv_no_node(sv_bad *bad, const char *param);
/* 409 if `now` has another revision than a request expects (below 0: any); *current is `now` then. */
int sv_is_outdated(const json_t *now, int64_t revision, json_t **current, sv_bad *bad);
/* Append the nodes of a chat, oldest first. */
int sv_chat_nodes(sv_history *h, const char *chat, json_t *list, sv_bad *bad);
/* A new node, ready to be used by others of this room; id: its own, filled in. */
int sv_node_insert(sv_history *h, const char *id, const char *chat, const json_t *o, const char *status,
                   const char *model, const json_t *settings, sv_bad *bad);
int sv_chat_touch(sv_history *h, const char *chat, const char *leaf, sv_bad *bad);
/* The id that a request chose, or a new one; 0 and `bad`: it chose none that is one, or there are no random bytes. */
int sv_pick_id(const json_t *o, char out[SV_ID_CHARS + 1], sv_bad *bad);

#endif
