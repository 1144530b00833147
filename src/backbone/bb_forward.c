/* bb_forward.c — whole sequences, pieces of the model by themselves, and the window that is encoded anew at each frame:
 * passes of many rows from an empty state. */
#include <stdlib.h>
#include <string.h>

#include "backbone/bb_work.h"

#define ROWS   ((size_t)64) /* most rows of a pass                          */
#define GROUPS ((size_t)16) /* most sequences of a pass: each has its state */

static size_t up(size_t n)
{
    return (n + ZB_ALIGN - 1) / ZB_ALIGN * ZB_ALIGN;
}

size_t zb_bb_work_place(zb_bb_work *w, const zb_bb_plan *p, size_t rows, void *base)
{
    const size_t layers = (size_t)p->o.num_layers;
    zb_bb_acts one;
    char *at = base;
    size_t n = up(layers * sizeof *w->acts);
    w->acts = base;
    w->x = base ? (float *)(void *)(at + n) : NULL;
    n += up(rows * p->H * sizeof(float));
    w->embedded = base ? (float *)(void *)(at + n) : NULL;
    n += p->o.n_embeddings > 0 ? up(rows * p->E * sizeof(float)) : 0;
    w->scratch = base ? (float *)(void *)(at + n) : NULL;
    n += up(zb_bb_scratch_floats(p, rows) * sizeof(float));
    n += up(zb_bb_acts_place(&one, p, rows, 0, base ? (float *)(void *)(at + n) : NULL) * sizeof(float));
    for (size_t i = 0; base && i < layers; i++)
        w->acts[i] = one;
    return n;
}

/* What is computed of a sequence. */
typedef enum part { WHOLE, MAMBA, ATTENTION } part;

typedef struct run {
    const zamba_backbone *b;
    part part;
    size_t layer;
    size_t batch, seq;
    const float *in;
    size_t width; /* of a row of `in` */
    float *out;
    int all;
    /* memory */
    void *memory;
    zb_bb_work work;
    zb_bb_segment segments[GROUPS];
    float *outputs; /* [ROWS, H] */
    size_t groups;  /* sequences of a pass */
} run;

static zamba_status run_open(run *r, zamba_error *err)
{
    const zb_bb_plan *p = &r->b->plan;
    r->groups = r->seq < ROWS ? ROWS / r->seq : 1;
    r->groups = r->groups > GROUPS ? GROUPS : r->groups;
    r->groups = r->groups > r->batch ? r->batch : r->groups;
    const size_t rows = r->seq < ROWS ? r->groups * r->seq : ROWS;
    const size_t work = zb_bb_work_place(&r->work, p, rows, NULL), outputs = up(rows * p->H * sizeof(float));
    const size_t state = up(p->state_floats * sizeof(float));
    r->memory = zb_alloc_aligned(work + outputs + state * r->groups + 1);
    if (r->memory == NULL)
        return zb_fail_memory(err, "backbone forward", work + outputs + state * r->groups);
    zb_bb_work_place(&r->work, p, rows, r->memory);
    char *at = (char *)r->memory + work;
    r->outputs = (float *)(void *)at;
    for (size_t i = 0; i < r->groups; i++)
        r->segments[i].state = (float *)(void *)(at + outputs + i * state);
    return ZAMBA_OK;
}

static void run_part(const run *r, const zb_bb_pass *pass, const float *in, float *out)
{
    if (r->part == WHOLE) {
        zb_bb_pass_run(pass, in, out);
        return;
    }
    const size_t bytes = pass->rows * r->b->plan.H * sizeof(float);
    memcpy(pass->x, in, bytes);
    if (r->part == MAMBA) {
        zb_bb_pass_mamba(pass, r->layer);
    } else {
        zb_bb_pass_attention(pass, r->layer);
        if (r->b->plan.o.ffn == ZAMBA_BACKBONE_FFN_SHARED)
            zb_bb_pass_ffn(pass, r->layer);
    }
    memcpy(out, pass->x, bytes);
}

/* Positions [t, t + n) of sequences [first, first + count). */
static void run_rows(run *r, size_t first, size_t count, size_t t, size_t n)
{
    const size_t H = r->b->plan.H, at = first * r->seq + t;
    for (size_t i = 0; i < count; i++) {
        zb_bb_segment *g = &r->segments[i];
        if (t == 0)
            memset(g->state, 0, r->b->plan.state_floats * sizeof(float));
        g->row0 = i * n;
        g->n = n;
        g->frame = t;
        g->length = r->seq;
    }
    float *out = r->all ? r->out + at * H : r->outputs;
    const zb_bb_pass pass = zb_bb_work_pass(&r->work, r->b, r->segments, count, count * n, r->b->pool);
    run_part(r, &pass, r->in + at * r->width, out);
    for (size_t i = 0; !r->all && t + n == r->seq && i < count; i++)
        memcpy(r->out + (first + i) * H, out + ((i + 1) * n - 1) * H, H * sizeof(float));
}

static zamba_status run_all(run *r, const char *what, zamba_error *err)
{
    zamba_status st = run_open(r, err);
    if (st != ZAMBA_OK)
        return st;
    for (size_t i = 0; i < r->batch; i += r->groups) {
        const size_t count = r->batch - i < r->groups ? r->batch - i : r->groups;
        for (size_t t = 0; t < r->seq; t += ROWS)
            run_rows(r, i, count, t, r->seq - t < ROWS ? r->seq - t : ROWS);
    }
    zb_free_aligned(r->memory);
    if (r->b->run.non_finite == ZAMBA_BACKBONE_NON_FINITE_REFUSE &&
        !zb_bb_finite(r->out, r->batch * (r->all ? r->seq : 1) * r->b->plan.H))
        st =
            zb_fail(err, ZAMBA_E_FORMAT, "%s: the output is not finite though the input is (numbers beyond f32)", what);
    return st;
}

/* batch x seq x width floats can be addressed, and there is something. */
static zamba_status check_sizes(const void *in, const void *out, size_t batch, size_t seq, size_t width,
                                const char *what, zamba_error *err)
{
    size_t n;
    if (in == NULL || out == NULL || batch == 0 || seq == 0)
        return zb_fail(err, ZAMBA_E_ARG, "%s: %zu sequences of %zu frames, or no memory for them", what, batch, seq);
    if (!zb_mul(batch, seq, &n) || !zb_mul(n, width, &n) || n > SIZE_MAX / 16)
        return zb_fail(err, ZAMBA_E_ARG, "%s: %zu sequences of %zu frames are more than memory has", what, batch, seq);
    return ZAMBA_OK;
}

zamba_status zamba_backbone_forward(const zamba_backbone *b, const float *frames, size_t batch, size_t seq,
                                    zamba_backbone_which which, float *out, zamba_error *err)
{
    const zb_bb_plan *p = &b->plan;
    zamba_status st = check_sizes(frames, out, batch, seq, p->F > p->H ? p->F : p->H, "forward", err);
    if (st == ZAMBA_OK)
        st = zb_bb_frames_check(b, frames, batch * seq, "forward", err);
    if (st != ZAMBA_OK)
        return st;
    run r = {.b = b,
             .batch = batch,
             .seq = seq,
             .in = frames,
             .width = p->F,
             .out = out,
             .all = which == ZAMBA_BACKBONE_ALL};
    return run_all(&r, "forward", err);
}

static zamba_status piece(const zamba_backbone *b, part what, int32_t layer, const float *x, size_t batch, size_t seq,
                          float *y, const char *name, zamba_error *err)
{
    const zb_bb_plan *p = &b->plan;
    zamba_status st = check_sizes(x, y, batch, seq, p->H, name, err);
    if (st != ZAMBA_OK)
        return st;
    if (layer < 0 || layer >= p->o.num_layers)
        return zb_fail(err, ZAMBA_E_ARG, "%s: layer %d of %d", name, layer, p->o.num_layers);
    const zb_bb_layer *l = &p->layers[layer];
    if (what == MAMBA ? l->kind == ZAMBA_BACKBONE_LAYER_ATTENTION : l->kind == ZAMBA_BACKBONE_LAYER_MAMBA)
        return zb_fail(err, ZAMBA_E_ARG, "%s: layer %d is %s", name, layer, zamba_backbone_layer_name(l->kind));
    if (b->run.non_finite == ZAMBA_BACKBONE_NON_FINITE_REFUSE && !zb_bb_finite(x, batch * seq * p->H))
        return zb_fail(err, ZAMBA_E_ARG, "%s: a number of the input is not finite", name);
    run r = {.b = b,
             .part = what,
             .layer = (size_t)layer,
             .batch = batch,
             .seq = seq,
             .in = x,
             .width = p->H,
             .out = y,
             .all = 1};
    return run_all(&r, name, err);
}

zamba_status zamba_backbone_build_mamba_layer(const zamba_backbone *b, int32_t layer, const float *x, size_t batch,
                                              size_t seq, float *y, zamba_error *err)
{
    return piece(b, MAMBA, layer, x, batch, seq, y, "build_mamba_layer", err);
}

zamba_status zamba_backbone_apply_shared_attention(const zamba_backbone *b, int32_t layer, const float *x, size_t batch,
                                                   size_t seq, float *y, zamba_error *err)
{
    return piece(b, ATTENTION, layer, x, batch, seq, y, "apply_shared_attention", err);
}

/* ---- the window ---- */

struct zamba_backbone_window {
    run run;
    size_t most, n; /* frames it holds at most, and now */
    float *frames;  /* [most, F], oldest first          */
    size_t bytes;
};

zamba_status zamba_backbone_window_open(zamba_backbone_window **out, const zamba_backbone *b, size_t n_frames,
                                        zamba_error *err)
{
    const zb_bb_plan *p = &b->plan;
    size_t bytes;
    if (out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone window: nowhere to put it");
    *out = NULL;
    if (n_frames == 0)
        n_frames = (size_t)(p->o.seq_len > 0 ? p->o.seq_len : p->o.window_size);
    if (n_frames > (size_t)1 << 24 || !zb_mul(n_frames, p->F * sizeof(float), &bytes))
        return zb_fail(err, ZAMBA_E_ARG, "a window of %zu frames (at most %d)", n_frames, 1 << 24);
    zamba_backbone_window *w = calloc(1, sizeof *w);
    float *frames = zb_calloc_aligned(bytes);
    zamba_status st = w == NULL || frames == NULL ? zb_fail_memory(err, "backbone window", bytes) : ZAMBA_OK;
    if (st == ZAMBA_OK) {
        w->run = (run){.b = b, .batch = 1, .seq = n_frames < ROWS ? n_frames : ROWS, .in = frames, .width = p->F};
        st = run_open(&w->run, err);
    }
    if (st != ZAMBA_OK) {
        zb_free_aligned(frames);
        free(w);
        return st;
    }
    const size_t rows = n_frames < ROWS ? n_frames : ROWS;
    w->frames = frames;
    w->most = n_frames;
    w->bytes = sizeof *w + bytes + zb_bb_work_place(&(zb_bb_work){0}, p, rows, NULL) + up(rows * p->H * sizeof(float)) +
               up(p->state_floats * sizeof(float));
    *out = w;
    return ZAMBA_OK;
}

void zamba_backbone_window_close(zamba_backbone_window *w)
{
    if (w == NULL)
        return;
    zb_free_aligned(w->run.memory);
    zb_free_aligned(w->frames);
    free(w);
}

size_t zamba_backbone_window_bytes(const zamba_backbone_window *w)
{
    return w->bytes;
}

void zamba_backbone_window_reset(zamba_backbone_window *w)
{
    w->n = 0;
}

zamba_status zamba_backbone_window_push(zamba_backbone_window *w, const float *frame, float *out, zamba_error *err)
{
    const zamba_backbone *b = w->run.b;
    const size_t F = b->plan.F;
    if (frame == NULL || out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "window: no frame, or nowhere to put the output");
    const zamba_status st = zb_bb_frames_check(b, frame, 1, "window", err);
    if (st != ZAMBA_OK)
        return st;
    if (w->n == w->most)
        memmove(w->frames, w->frames + F, (w->most - 1) * F * sizeof(float));
    else
        w->n++;
    memcpy(w->frames + (w->n - 1) * F, frame, F * sizeof(float));
    w->run.seq = w->n;
    w->run.out = out;
    for (size_t t = 0; t < w->n; t += ROWS)
        run_rows(&w->run, 0, 1, t, w->n - t < ROWS ? w->n - t : ROWS);
    if (b->run.non_finite == ZAMBA_BACKBONE_NON_FINITE_REFUSE && !zb_bb_finite(out, b->plan.H))
        return zb_fail(err, ZAMBA_E_FORMAT, "window: the output is not finite though its frames are");
    return ZAMBA_OK;
}
