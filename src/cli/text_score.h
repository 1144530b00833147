/* text_score.h — a model reads a text window by window and shows its logits for every id it predicts. Each window
 * starts from an empty state, nothing is put in front of it, and ids 1.. of it are predicted from those before them;
 * what a window shares with the one before is read again but predicted once. Owns the windows and the batches; knows
 * nothing of what is done with the logits. */
#ifndef CLI_TEXT_SCORE_H
#define CLI_TEXT_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "zamba.h"

typedef struct text_row {
    size_t index;        /* of the prediction in the whole text: 0 .. text_predictions() - 1             */
    size_t window;       /* which window                                                                 */
    size_t position;     /* of `next` in ids                                                             */
    const float *logits; /* [vocab]                                                                      */
    int32_t next;        /* the id that follows                                                          */
} text_row;

typedef struct text_score {
    zamba_model *model;
    const int32_t *ids;
    size_t n_ids, window, stride; /* window >= 2, 1 <= stride <= window                                       */
    const char *task;             /* shown as progress; NULL: nothing is shown                                */
    int progress, color;          /* values of --progress and --color                                         */
    /* Called for every prediction; those of a window come in order, several windows may take turns. Nonzero stops. */
    int (*row)(void *user, const text_row *row);
    void *user;
} text_score;

size_t text_windows(size_t n_ids, size_t window, size_t stride);
size_t text_predictions(size_t n_ids, size_t window, size_t stride);
/* Where in ids the id of a prediction stands. */
size_t text_position(size_t n_ids, size_t window, size_t stride, size_t index);
/* Returns an exit code; a message was written where it is not 0 (by `row` itself if that stopped). */
int text_score_run(const text_score *t);

/* -ln p of one id, in double over f32 logits. */
double text_surprise(const float *logits, size_t n, int32_t id);

#endif
