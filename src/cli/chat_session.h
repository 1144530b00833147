/* chat_session.h — a conversation and the state of the model that has read it. Messages are the truth; the state
 * follows: before an answer the whole conversation is rendered, and what the sequence has read already is not read
 * again. At the border of each turn a copy of the state is kept, so that undo, retry and fork only restore it. */
#ifndef CLI_CHAT_SESSION_H
#define CLI_CHAT_SESSION_H

#include <jansson.h>
#include <signal.h>

#include "common.h"

/* A copy of the state, shared by the branches that contain it. */
typedef struct chat_snapshot {
    zamba_sequence *sequence;
    size_t n_holders;
} chat_snapshot;

/* One question and its answer. */
typedef struct chat_turn {
    size_t n_messages;    /* before the question                                               */
    bool from_empty;      /* the state was empty then                                          */
    chat_snapshot *start; /* the state before the question; NULL: let go of to save memory     */
    chat_snapshot *asked; /* behind the question, but for its last token; NULL likewise        */
} chat_turn;

typedef struct chat_branch {
    char *name;
    json_t *messages; /* [{"role", "content"}] */
    zamba_sequence *sequence;
    chat_turn *turns;
    size_t n_turns;
} chat_branch;

typedef struct chat_session {
    cli_args *args; /* /set changes it */
    zamba_model *model;
    zamba_model_info info;
    const zamba_chat *chat;
    zamba_grammar *grammar; /* of every answer, or NULL */
    uint64_t seed;
    size_t n_answers;      /* each answer has a seed of its own: seed + number of the answer */
    size_t most_snapshots; /* kept in one branch */
    chat_branch *branches;
    size_t n_branches, current;
    /* of the last answer */
    size_t n_kept, n_read, n_written;
    double read_s, write_s;
} chat_session;

/* What happens to the answer while it is written; nonzero stops. */
typedef int (*chat_text_fn)(void *user, const char *text, size_t n);

extern volatile sig_atomic_t chat_interrupted; /* set by the handler of SIGINT, cleared by chat_ask and chat_retry */

/* All return exit codes (0 done, 1 after a message). */
int chat_session_open(chat_session *s, cli_args *args, const char *path);
void chat_session_close(chat_session *s);
chat_branch *chat_current(chat_session *s);

/* Ask and answer. If the question could not be read, the conversation is as before. */
int chat_ask(chat_session *s, const char *text, size_t n, chat_text_fn on_text, void *user);
/* Answer the last question again. */
int chat_retry(chat_session *s, chat_text_fn on_text, void *user);
/* Take back the last question and answer. */
int chat_undo(chat_session *s);
/* Go on in a copy; the present branch stays as it is. `name` NULL: a number. */
int chat_fork(chat_session *s, const char *name);
int chat_switch(chat_session *s, const char *name);
int chat_clear(chat_session *s);
/* Set (or with NULL take away) the system message. */
int chat_system(chat_session *s, const char *text);

/* The conversation as JSON in `path`, the state beside it in `path`.state. */
int chat_save(chat_session *s, const char *path);
int chat_load(chat_session *s, const char *path);

#endif
