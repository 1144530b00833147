/* history.h — chats as the page knows them, kept in SQLite: trees of nodes, folders, presets, search, export.
 * Everything goes in and out as the JSON of docs/PAGE.md. Knows no HTTP and no engine; any thread. Built with SQLite
 * only.
 *
 * `owner` is the name of the key that asks ("" without keys): others' chats are not found. Functions that return JSON
 * (a new reference) return NULL and fill `bad` where it cannot be. What changes something is one transaction: all or
 * nothing, and it survives the program's end at any moment. */
#ifndef SV_HISTORY_H
#define SV_HISTORY_H

#include "api_fields.h"

typedef struct sv_history sv_history;

typedef struct sv_history_news {
    const char *state;     /* "on", "off" (in memory), "read_only"                                */
    const char *reason;    /* NULL, "disabled", "locked", "newer", "failed"                       */
    char message[700];     /* in plain words; "": nothing to say                                  */
    char moved_aside[300]; /* name of a damaged database that was kept; "": none                  */
    char folder[600];
    char url[300]; /* locked: what the other server wrote with sv_history_sign; "": not known     */
} sv_history_news;

/* folder NULL: in memory. A folder that cannot be used is told in the news, and memory takes its place. NULL: no
 * memory.
 */
sv_history *sv_history_open(const char *folder);
void sv_history_close(sv_history *h);
const sv_history_news *sv_history_told(const sv_history *h);
/* Where this server is, for others that find the folder locked. */
void sv_history_sign(sv_history *h, const char *url);
/* Who has the folder: nonzero and its signature, if it is locked. */
int sv_history_holder(const char *folder, char *url, size_t n_url);

/* ---- chats ---- */

typedef struct sv_history_query {
    const char *text;   /* or NULL */
    const char *folder; /* id, "none", or NULL */
    const char *kind;   /* or NULL */
    int pinned;         /* these only */
    int64_t limit;
    const char *after; /* cursor, or NULL */
} sv_history_query;

json_t *sv_history_list(sv_history *h, const char *owner, const sv_history_query *q, sv_bad *bad);
json_t *sv_history_chat(sv_history *h, const char *owner, const char *id, sv_bad *bad);
json_t *sv_history_tree(sv_history *h, const char *owner, const char *id, sv_bad *bad);
/* *fresh 0: there is one of that id. */
json_t *sv_history_chat_add(sv_history *h, const char *owner, const json_t *o, int *fresh, sv_bad *bad);
/* With 409 *current is the newer one. */
json_t *sv_history_chat_set(sv_history *h, const char *owner, const char *id, const json_t *o, json_t **current,
                            sv_bad *bad);
/* For good; id NULL: all of this owner's. The ids of what went. */
json_t *sv_history_chat_drop(sv_history *h, const char *owner, const char *id, sv_bad *bad);

/* ---- folders and presets ---- */

json_t *sv_history_things(sv_history *h, const char *owner, const char *kind, sv_bad *bad);
json_t *sv_history_thing_add(sv_history *h, const char *owner, const char *kind, const json_t *o, sv_bad *bad);
json_t *sv_history_thing_set(sv_history *h, const char *owner, const char *kind, const char *id, const json_t *o,
                             json_t **current, sv_bad *bad);
int sv_history_thing_drop(sv_history *h, const char *owner, const char *kind, const char *id, sv_bad *bad);

/* ---- nodes ---- */

json_t *sv_history_node(sv_history *h, const char *owner, const char *id, sv_bad *bad);
json_t *sv_history_node_add(sv_history *h, const char *owner, const char *chat, const json_t *o, int *fresh,
                            sv_bad *bad);
json_t *sv_history_node_set(sv_history *h, const char *owner, const char *id, const json_t *o, json_t **current,
                            sv_bad *bad);
/* {"deleted": ids, "parent", "chat"} */
json_t *sv_history_node_drop(sv_history *h, const char *owner, const char *id, sv_bad *bad);
json_t *sv_history_tokens(sv_history *h, const char *owner, const char *id, sv_bad *bad);
/* {"chat", "nodes": from the root to the node}; leaf NULL: the chat alone. */
json_t *sv_history_path(sv_history *h, const char *owner, const char *chat, const char *leaf, sv_bad *bad);

/* ---- answers ---- */

/* {"message": Node or null, "node": Node}: o is the request's {parent, message?, id?}. */
json_t *sv_history_answer_begin(sv_history *h, const char *owner, const char *chat, const json_t *o,
                                const json_t *settings, const char *model, int *fresh, sv_bad *bad);
/* The node goes on: it is streaming again. */
json_t *sv_history_answer_again(sv_history *h, const char *owner, const char *id, const json_t *settings,
                                const char *model, int64_t revision, json_t **current, sv_bad *bad);
/* The ids that the model wrote, as they were kept with the node; *ids is released with free. 0: none. */
size_t sv_history_ids(sv_history *h, const char *id, int32_t **ids);
int sv_history_answer_text(sv_history *h, const char *id, const char *text, size_t n, sv_bad *bad);

typedef struct sv_history_end {
    const char *status, *finish; /* finish: or NULL */
    const json_t *error, *usage, *tokens, *kept;
    const int32_t *ids; /* [n_ids], or NULL */
    size_t n_ids;
    const char *state; /* saved, or NULL */
} sv_history_end;

json_t *sv_history_answer_end(sv_history *h, const char *id, const char *text, size_t n, const sv_history_end *end,
                              sv_bad *bad);
/* What going on from behind a node costs to keep: {"model", "key", "tokens", "bytes"}. */
int sv_history_node_keep(sv_history *h, const char *id, const json_t *kept);
int sv_history_node_state(sv_history *h, const char *owner, const char *id, const char *state, sv_bad *bad);
/* [{"id", "state", "kept"}] of a chat's nodes that have one of both. */
json_t *sv_history_kept(sv_history *h, const char *owner, const char *chat, sv_bad *bad);

/* ---- files ---- */

/* chat NULL: all, with folders and presets. */
json_t *sv_history_export(sv_history *h, const char *owner, const char *chat, sv_bad *bad);
/* One branch; leaf NULL: where the chat was left. Released with free. */
char *sv_history_markdown(sv_history *h, const char *owner, const char *chat, const char *leaf, sv_bad *bad);
json_t *sv_history_import(sv_history *h, const char *owner, const json_t *o, sv_bad *bad);

#endif
