/* text_score.c — see text_score.h. Several windows are read side by side where they are short: as many as fit in
 * LOGIT_BYTES of logits. */
#include "text_score.h"

#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "kl.h"
#include "progress.h"

enum { LOGIT_BYTES = 64 << 20, MOST_LANES = 8 };

typedef struct window {
    size_t first, n; /* ids [first, first + n)                                        */
    size_t skip;     /* the first so many predictions were made by the window before */
    size_t index;    /* of its first prediction                                       */
} window;

/* The next window behind `*w` (n 0: none yet). False: nothing is left to predict. */
static bool window_next(window *w, size_t n_ids, size_t size, size_t stride)
{
    const size_t reached = w->n ? w->first + w->n : 0; /* id reached-1 was the last one predicted */
    const size_t first = w->n ? w->first + stride : 0;
    if (first >= n_ids)
        return false;
    const size_t n = n_ids - first < size ? n_ids - first : size;
    if (n < 2 || first + n <= reached)
        return false;
    /* here predictions are for ids first+1 .. first+n-1 */
    *w = (window){.first = first,
                  .n = n,
                  .skip = reached > first ? reached - first - 1 : 0,
                  .index = w->n ? w->index + (w->n - 1 - w->skip) : 0};
    return true;
}

size_t text_windows(size_t n_ids, size_t size, size_t stride)
{
    window w = {0};
    size_t n = 0;
    while (window_next(&w, n_ids, size, stride))
        n++;
    return n;
}

size_t text_predictions(size_t n_ids, size_t size, size_t stride)
{
    window w = {0};
    while (window_next(&w, n_ids, size, stride))
        ;
    return w.n ? w.index + (w.n - 1 - w.skip) : 0;
}

size_t text_position(size_t n_ids, size_t size, size_t stride, size_t index)
{
    window w = {0};
    while (window_next(&w, n_ids, size, stride))
        if (index - w.index < w.n - 1 - w.skip)
            return w.first + w.skip + 1 + (index - w.index);
    return 0;
}

double text_surprise(const float *logits, size_t n, int32_t id)
{
    float most;
    double ln_sum;
    int32_t top;
    (void)kl_normalizer(logits, n, &most, &top, &ln_sum);
    return ln_sum + (double)most - (double)logits[id];
}

/* Read `n` windows side by side, in pieces of `rows` tokens in all. Returns an exit code. */
static int score(const text_score *t, size_t vocab, const window *windows, size_t number, size_t n,
                 zamba_sequence **lanes, float *logits, size_t rows)
{
    zamba_error err = {0};
    const size_t piece = rows / n;
    size_t most = 0;
    for (size_t i = 0; i < n; i++)
        most = windows[i].n > most ? windows[i].n : most;
    for (size_t at = 0; at + 1 < most; at += piece) {
        zamba_batch_item items[MOST_LANES];
        size_t which[MOST_LANES], n_items = 0;
        for (size_t i = 0; i < n; i++) {
            const window *w = &windows[i];
            if (at + 1 >= w->n) /* the last id is predicted, never read */
                continue;
            const size_t count = w->n - 1 - at < piece ? w->n - 1 - at : piece;
            which[n_items] = i;
            items[n_items++] = (zamba_batch_item){lanes[i], t->ids + w->first + at, count, ZAMBA_LOGITS_ALL,
                                                  logits + i * piece * vocab};
        }
        if (zamba_forward(t->model, items, n_items, NULL, &err) != ZAMBA_OK)
            return cli_fail(&err);
        for (size_t k = 0; k < n_items; k++) {
            const window *w = &windows[which[k]];
            for (size_t r = 0; r < items[k].n_tokens; r++) {
                if (at + r < w->skip)
                    continue;
                const size_t position = w->first + at + r + 1;
                const text_row row = {w->index + (at + r - w->skip), number + which[k], position,
                                      items[k].logits + r * vocab, t->ids[position]};
                const int code = t->row(t->user, &row);
                if (code)
                    return code;
            }
        }
    }
    return 0;
}

int text_score_run(const text_score *t)
{
    zamba_error err = {0};
    zamba_model_info info = {.size = sizeof info};
    zamba_sequence *lanes[MOST_LANES] = {NULL};
    window windows[MOST_LANES], next = {0};
    const size_t size = t->n_ids < t->window ? t->n_ids : t->window;
    if (zamba_model_info_get(t->model, &info, &err) != ZAMBA_OK)
        return cli_fail(&err);
    const size_t vocab = (size_t)info.vocab_size, n_windows = text_windows(t->n_ids, t->window, t->stride);
    if (n_windows == 0)
        return cli_error("%zu tokens, wanted at least 2", t->n_ids);
    size_t rows = LOGIT_BYTES / (vocab * sizeof(float));
    rows = rows < MOST_LANES ? MOST_LANES : rows;
    size_t n_lanes = rows / size < 1 ? 1 : rows / size > MOST_LANES ? MOST_LANES : rows / size;
    n_lanes = n_lanes < n_windows ? n_lanes : n_windows;
    rows = rows < n_lanes * size ? rows : n_lanes * size;
    float *logits = malloc(rows * vocab * sizeof *logits);
    int code = logits ? 0 : cli_error("out of memory");
    progress bar;
    progress_begin(&bar, t->task ? t->progress : CLI_PROGRESS_NONE, t->color, t->task ? t->task : "", "tokens",
                   t->n_ids);
    for (size_t i = 0; code == 0 && i < n_lanes; i++)
        if (zamba_sequence_open(&lanes[i], t->model, size, &err) != ZAMBA_OK)
            code = cli_fail(&err);
    for (size_t number = 0; code == 0 && number < n_windows;) {
        size_t n = 0;
        for (; n < n_lanes && window_next(&next, t->n_ids, t->window, t->stride); n++) {
            windows[n] = next;
            zamba_sequence_reset(lanes[n]);
        }
        code = score(t, vocab, windows, number, n, lanes, logits, rows);
        number += n;
        progress_update(&bar, next.first + next.n);
    }
    progress_end(&bar);
    for (size_t i = 0; i < n_lanes; i++)
        zamba_sequence_close(lanes[i]);
    free(logits);
    return code;
}
