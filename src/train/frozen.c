/* frozen.c — see frozen.h. */
#include "train/frozen.h"

#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/mem.h"

#define PIECE ((size_t)64) /* rows of logits that are held at once */

zamba_status zb_frozen_open(zb_frozen *f, const char *path, const char *what, size_t vocab,
                            const zamba_train_options *o, zamba_error *err)
{
    zamba_model_options mo = zamba_model_defaults();
    *f = (zb_frozen){.vocab = vocab};
    mo.n_threads = o->n_threads;
    mo.dt_floor = o->dt_floor;
    mo.compute = o->bf16 ? ZAMBA_COMPUTE_AUTO : ZAMBA_COMPUTE_F32;
    mo.no_tokenizer = 1;
    zamba_status st = zamba_model_open(&f->m, path, &mo, err);
    if (st != ZAMBA_OK)
        return zb_fail_prefix(err, st, "%s", what);
    if (f->m->plan.config.vocab_size != vocab)
        st =
            zb_fail(err, ZAMBA_E_MISMATCH,
                    "%s: the %s has a vocabulary of %zu, the model that is trained one of %zu (both must know the same "
                    "ids)",
                    path, what, f->m->plan.config.vocab_size, vocab);
    if (st == ZAMBA_OK) {
        f->logits = zb_alloc_aligned(PIECE * vocab * sizeof *f->logits);
        if (f->logits == NULL)
            st = zb_fail_memory(err, what, PIECE * vocab * sizeof *f->logits);
    }
    if (st != ZAMBA_OK)
        zb_frozen_close(f);
    return st;
}

void zb_frozen_close(zb_frozen *f)
{
    zamba_model_close(f->m);
    zb_free_aligned(f->logits);
    free(f->keys);
    free(f->known);
    *f = (zb_frozen){0};
}

zamba_status zb_frozen_logits(zb_frozen *f, const int32_t *ids, size_t n, float *logits, zamba_error *err)
{
    zamba_sequence *s = NULL;
    zamba_status st = zamba_sequence_open(&s, f->m, n, err);
    if (st == ZAMBA_OK) {
        zamba_batch_item item = {s, ids, n, ZAMBA_LOGITS_ALL, logits};
        st = zamba_forward(f->m, &item, 1, NULL, err);
    }
    zamba_sequence_close(s);
    return st;
}

/* ---- what is known ---- */

static size_t place_of(const zb_frozen *f, uint64_t key)
{
    size_t at = (size_t)key & (f->room - 1);
    while (f->keys[at] != 0 && f->keys[at] != key)
        at = (at + 1) & (f->room - 1);
    return at;
}

static zamba_status make_room(zb_frozen *f, zamba_error *err)
{
    if (2 * f->n_known < f->room)
        return ZAMBA_OK;
    zb_frozen larger = {.room = f->room > 0 ? 2 * f->room : 1024};
    larger.keys = calloc(larger.room, sizeof *larger.keys);
    larger.known = calloc(larger.room, sizeof *larger.known);
    if (larger.keys == NULL || larger.known == NULL) {
        free(larger.keys);
        free(larger.known);
        return zb_fail_memory(err, "log-probabilities of the reference", larger.room * 16);
    }
    for (size_t i = 0; i < f->room; i++)
        if (f->keys[i] != 0) {
            const size_t at = place_of(&larger, f->keys[i]);
            larger.keys[at] = f->keys[i];
            larger.known[at] = f->known[i];
        }
    free(f->keys);
    free(f->known);
    f->keys = larger.keys;
    f->known = larger.known;
    f->room = larger.room;
    return ZAMBA_OK;
}

static zamba_status compute(zb_frozen *f, const int32_t *ids, const int32_t *targets, size_t n, double *logp,
                            zamba_error *err)
{
    zamba_sequence *s = NULL;
    zamba_status st = zamba_sequence_open(&s, f->m, n, err);
    *logp = 0;
    for (size_t at = 0; at < n && st == ZAMBA_OK; at += PIECE) {
        const size_t rows = n - at < PIECE ? n - at : PIECE;
        zamba_batch_item item = {s, ids + at, rows, ZAMBA_LOGITS_ALL, f->logits};
        float lse;
        st = zamba_forward(f->m, &item, 1, NULL, err);
        for (size_t r = 0; r < rows && st == ZAMBA_OK; r++)
            if (targets[at + r] >= 0)
                *logp += (double)f->m->kernels->cross_entropy(f->logits + r * f->vocab, f->vocab,
                                                              (size_t)targets[at + r], 0, 0, &lse);
    }
    zamba_sequence_close(s);
    return st;
}

zamba_status zb_frozen_logp(zb_frozen *f, const int32_t *ids, const int32_t *targets, size_t n, double *logp,
                            zamba_error *err)
{
    uint64_t key = zb_hash(targets, n * sizeof *targets, zb_hash(ids, n * sizeof *ids, n));
    key += key == 0;
    zamba_status st = make_room(f, err);
    if (st != ZAMBA_OK)
        return st;
    const size_t at = place_of(f, key);
    if (f->keys[at] == key) {
        *logp = f->known[at];
        return ZAMBA_OK;
    }
    st = compute(f, ids, targets, n, logp, err);
    if (st == ZAMBA_OK) {
        f->keys[at] = key;
        f->known[at] = *logp;
        f->n_known++;
    }
    return st;
}
