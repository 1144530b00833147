/* reduction.c — see reduction.h. A piece goes from every rank to the one whose share it is in, under a tag that names
 * it, so ranks may complete pieces in any order; who owns it adds in the order of ranks, whenever they came. */
#include "train/reduction.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define PIECE ((size_t)1 << 18) /* floats of a message */
#define SENT  UINT32_MAX
#define RANGE ((size_t)1 << 15) /* floats of a task    */

/* The piece in which a float stands. */
static size_t piece_of(const zb_reduction *x, size_t at)
{
    return at / x->each * x->per_share + at % x->each / PIECE;
}

/* Its floats; empty behind the end of the last share. */
static void floats_of(const zb_reduction *x, size_t piece, size_t *begin, size_t *end)
{
    size_t last;
    zb_ranks_share(x->r, x->p->floats, (int32_t)(piece / x->per_share), begin, &last);
    *begin += piece % x->per_share * PIECE;
    *begin = *begin < last ? *begin : last;
    *end = last - *begin < PIECE ? last : *begin + PIECE;
}

static size_t n_pieces(const zb_reduction *x)
{
    return (size_t)zamba_ranks_size(x->r) * x->per_share;
}

zamba_status zb_reduction_open(zb_reduction *x, zamba_ranks *r, const zb_params *p, zamba_error *err)
{
    size_t first, each;
    *x = (zb_reduction){.r = r, .p = p};
    zb_ranks_share(r, p->floats, zamba_ranks_rank(r), &x->begin, &x->end);
    if (zamba_ranks_size(r) == 1)
        return ZAMBA_OK;
    zb_ranks_share(r, p->floats, 0, &first, &each);
    x->each = each;
    x->per_share = (each + PIECE - 1) / PIECE;
    const size_t others = (size_t)zamba_ranks_size(r) - 1, bytes = others * (x->end - x->begin) * sizeof(float);
    x->tensors = calloc(n_pieces(x), sizeof *x->tensors);
    x->waiting = calloc(n_pieces(x), sizeof *x->waiting);
    x->received = zb_alloc_aligned(bytes > 0 ? bytes : 1);
    if (x->tensors == NULL || x->waiting == NULL || x->received == NULL)
        return zb_fail_memory(err, "gradients of other processes", bytes);
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = piece_of(x, p->at[i]); p->at[i + 1] > p->at[i] && k <= piece_of(x, p->at[i + 1] - 1); k++)
            x->tensors[k]++;
    return ZAMBA_OK;
}

void zb_reduction_close(zb_reduction *x)
{
    free(x->tensors);
    free(x->waiting);
    zb_free_aligned(x->received);
    *x = (zb_reduction){0};
}

zamba_status zb_reduction_begin(zb_reduction *x, zamba_error *err)
{
    const int32_t rank = zamba_ranks_rank(x->r), size = zamba_ranks_size(x->r);
    zamba_status st = ZAMBA_OK;
    if (size == 1 || x->begun)
        return ZAMBA_OK;
    x->begun = 1;
    x->failed = ZAMBA_OK;
    memcpy(x->waiting, x->tensors, n_pieces(x) * sizeof *x->waiting);
    float *to = x->received;
    for (int32_t from = 0; from < size; from++) {
        if (from == rank)
            continue;
        for (size_t k = 0; k < x->per_share && st == ZAMBA_OK; k++) {
            size_t begin, end;
            floats_of(x, (size_t)rank * x->per_share + k, &begin, &end);
            if (end > begin)
                st = zb_ranks_post_receive(x->r, from, (int32_t)k, to + (begin - x->begin), end - begin, err);
        }
        to += x->end - x->begin;
    }
    return st;
}

static zamba_status send_piece(zb_reduction *x, size_t piece, zamba_error *err)
{
    size_t begin, end;
    const int32_t to = (int32_t)(piece / x->per_share);
    floats_of(x, piece, &begin, &end);
    x->waiting[piece] = SENT;
    if (end == begin || to == zamba_ranks_rank(x->r))
        return ZAMBA_OK;
    return zb_ranks_post_send(x->r, to, (int32_t)(piece % x->per_share), x->p->grad + begin, end - begin, err);
}

void zb_reduction_ready(void *ctx, size_t tensor)
{
    zb_reduction *x = ctx;
    const zb_params *p = x->p;
    if (p->at[tensor + 1] > p->at[tensor])
        for (size_t k = piece_of(x, p->at[tensor]); k <= piece_of(x, p->at[tensor + 1] - 1); k++)
            if (x->waiting[k] != SENT && --x->waiting[k] == 0 && x->failed == ZAMBA_OK)
                x->failed = send_piece(x, k, &x->why);
    zb_ranks_progress(x->r);
}

typedef struct sum_run {
    const zb_reduction *x;
    int32_t rank, size;
} sum_run;

static void sum_task(void *ctx, size_t task, int worker)
{
    const sum_run *s = ctx;
    const zb_reduction *x = s->x;
    const zb_kernels *k = x->p->m->kernels;
    const size_t at = task * RANGE, share = x->end - x->begin, n = share - at < RANGE ? share - at : RANGE;
    float *const ours = x->p->grad + x->begin + at, *others = x->received + at;
    float *const sum = s->rank == 0 ? ours : others;
    (void)worker;
    for (int32_t i = 1; i < s->size; i++)
        k->add(sum, i == s->rank ? ours : others + (size_t)(i < s->rank ? i : i - 1) * share, n);
    if (sum != ours)
        memcpy(ours, sum, n * sizeof *ours);
}

zamba_status zb_reduction_finish(zb_reduction *x, zamba_error *err)
{
    const sum_run s = {x, zamba_ranks_rank(x->r), zamba_ranks_size(x->r)};
    if (s.size == 1)
        return ZAMBA_OK;
    zamba_status st = zb_reduction_begin(x, err);
    if (st == ZAMBA_OK && x->failed != ZAMBA_OK) {
        st = x->failed;
        if (err != NULL)
            *err = x->why;
    }
    for (size_t k = 0; k < n_pieces(x) && st == ZAMBA_OK; k++)
        if (x->waiting[k] != SENT)
            st = send_piece(x, k, err);
    if (st == ZAMBA_OK)
        st = zb_ranks_wait(x->r, err);
    x->begun = 0;
    if (st == ZAMBA_OK)
        zb_pool_run_on(x->p->m->pool, x->p->m->n_threads_batch, (x->end - x->begin + RANGE - 1) / RANGE, sum_task,
                       (void *)(uintptr_t)&s);
    return st;
}
