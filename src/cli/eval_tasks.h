/* eval_tasks.h — multiple-choice tasks as lm-evaluation-harness asks them: from a row of a data file to what stands
 * before and what follows, for each choice. Owns prompts and the forms of rows; knows nothing of tokens and models. */
#ifndef CLI_EVAL_TASKS_H
#define CLI_EVAL_TASKS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct eval_task {
    const char *name;
    bool norm; /* lm-evaluation-harness reports acc_norm too */
    int form;
} eval_task;

/* One choice: its context, and its continuation with the space that stands between. NUL-terminated, with lengths. */
typedef struct eval_choice {
    char *context, *continuation;
    size_t n_context, n_continuation;
    size_t n_chars; /* characters (not bytes) of the choice as the data has it: what acc_norm divides by */
} eval_choice;

typedef struct eval_doc {
    eval_choice *choices;
    size_t n_choices, gold;
    bool no_passage; /* a boolq row without its passage */
} eval_doc;

extern const eval_task eval_tasks[];
extern const size_t eval_n_tasks;

const eval_task *eval_task_find(const char *name, size_t n);

/* From a row as the dataset has it on the hub, or in instruction form ({"instruction", "answer"}). On false `why` says
 * what is wrong, and nothing is to be freed. */
bool eval_doc_read(eval_doc *out, const eval_task *task, const json_t *row, char *why, size_t n_why);
void eval_doc_free(eval_doc *d);

/* ---- Text as Python has it ---- */
/* Characters in n bytes of UTF-8. */
size_t eval_characters(const char *text, size_t n);
/* Bytes at the end that str.rstrip() would take away. */
size_t eval_trailing_space(const char *text, size_t n);

#endif
