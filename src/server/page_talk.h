/* page_talk.h — answers that run for the page, whoever watches them (page_talk_answers.c), and the handlers of chats,
 * nodes, answers and states. */
#ifndef SV_PAGE_TALK_H
#define SV_PAGE_TALK_H

#include "api_ask.h"
#include "page_impl.h"

#define SV_PAGE_ID 25 /* characters of an id, and a NUL */

typedef struct sv_answer sv_answer;

/* What is asked: all but `node` is copied. */
typedef struct sv_answer_ask {
    const char *owner;
    const json_t *node;     /* as it is: streaming, with the text it goes on from */
    const json_t *path;     /* of the history, up to the node's parent            */
    const json_t *settings; /* merged                                             */
    const sv_served *served;
} sv_answer_ask;

/* 0 and `bad`: no memory, or too many of this owner's. */
int sv_answers_start(sv_answers *all, const sv_answer_ask *ask, sv_bad *bad);
/* Zero: it is not under way. */
int sv_answers_stop(sv_answers *all, const char *owner, const char *node);
/* Those of a chat; chat NULL: all of this owner's. */
void sv_answers_stop_chat(sv_answers *all, const char *owner, const char *chat);
/* [{"node", "chat", "phase"}] */
json_t *sv_answers_list(sv_answers *all, const char *owner);
/* The node as it is now, with the text so far; NULL: it is not under way. */
json_t *sv_answers_node(sv_answers *all, const char *node);
/* The same for all nodes of a list. */
void sv_answers_update(sv_answers *all, json_t *nodes);

/* ---- watching one ---- */

typedef struct sv_watcher {
    sv_exchange *r;
    sv_answer *answer;
    struct sv_watcher *next;
    int begun;
    size_t bytes, units, tokens; /* sent */
    unsigned long progress;      /* which was sent */
    double beat;                 /* when something was sent last */
} sv_watcher;

/* Zero: it is not under way. */
int sv_answers_watch(sv_answers *all, const char *owner, const char *node, sv_watcher *w);
void sv_answers_unwatch(sv_answers *all, sv_watcher *w);
/* Write what is new to the watcher's exchange. */
void sv_answers_tell(sv_answers *all, sv_watcher *w, size_t from);

/* ---- prompts ---- */

/* The messages of a path for the chat template. A new reference. */
json_t *sv_talk_messages(const json_t *path);
int sv_talk_is_notebook(const json_t *path);
/* All contents, joined: a notebook's text. */
json_t *sv_talk_text(const json_t *path);
/* Fill the ask from settings and path; partial (or NULL) is the text that the answer goes on from, with the ids of it
 * that were kept; *added of the prompt's last ids are that text. The ask's texts belong to *body (a new reference). */
int sv_talk_fill(sv_history *h, sv_ask *a, const sv_answer_ask *ask, const json_t *partial, const int32_t *ids,
                 size_t n_ids, size_t *added, json_t **body, sv_bad *bad);
/* The tokenizer may cut an answer's text in other ids than the model wrote it in, and its state would not be found: put
 * those of the history into the rendered prompt, where they spell the same. before: the id behind which answers begin.
 */
void sv_talk_as_written(sv_history *h, sv_ask *a, const json_t *path, int32_t before);

/* ---- handlers of page_talk_watch.c and page_talk_states.c ---- */

void sv_talk_answer(sv_exchange *r, void *app);
void sv_talk_continue(sv_exchange *r, void *app);
void sv_talk_stop(sv_exchange *r, void *app);
void sv_talk_watch(sv_exchange *r, void *app);
void sv_talk_answers(sv_exchange *r, void *app);
void sv_talk_states(sv_exchange *r, void *app);
void sv_talk_state(sv_exchange *r, void *app);
void sv_talk_prompt(sv_exchange *r, void *app);

#endif
