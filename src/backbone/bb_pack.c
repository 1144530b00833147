/* bb_pack.c — what products and the recurrence read: linear maps in panels of f32 or bf16, or in bytes, and the tables
 * that follow from A_log and the convolution. */
#include <math.h>
#include <string.h>

#include "backbone/backbone.h"
#include "quant/quant.h"

/* The type in which a map is held (heads are read as they stand). With INT8 those stay bf16 that steer the state, whose
 * errors would be remembered, and those that are narrower than a block. */
static zb_dtype type_of(const zamba_backbone *b, const zb_bb_linear *l, int steers)
{
    if (b->run.weights == ZAMBA_BACKBONE_F32)
        return ZB_F32;
    if (b->run.weights == ZAMBA_BACKBONE_BF16 || steers || l->in < ZB_QK)
        return ZB_BF16;
    return ZB_Q8_0;
}

typedef struct packer {
    zamba_backbone *b;
    char *data; /* NULL: only counts */
    size_t bytes;
    size_t only; /* NONE, or the offset of the one tensor that has changed */
    float *row;  /* [cols, padded] */
    char *rows;  /* 16 packed rows */
    zamba_status st;
    zamba_error *err;
} packer;

static void *take(packer *s, size_t n)
{
    void *at = s->data ? s->data + s->bytes : NULL;
    s->bytes += (n + ZB_ALIGN - 1) / ZB_ALIGN * ZB_ALIGN;
    return at;
}

static void pack_panels(packer *s, zb_bb_packed *p, const float *w, int again)
{
    void *to = take(s, zb_panels_bytes(&p->panels));
    p->panels.data = to;
    if (to && again)
        zb_panels_pack(to, &p->panels, w);
}

/* Rows in blocks, columns filled up with zeros; sixteen rows at a time are turned where the kernels want it. */
static void pack_q8(packer *s, zb_bb_packed *p, const float *w, int again)
{
    const zb_kernels *k = s->b->k;
    const size_t rows = p->panels.rows, cols = p->panels.cols;
    p->mat = (zb_mat){.rows = rows, .dtype = ZB_Q8_0};
    p->mat.cols = p->mat.ld = (cols + ZB_QK - 1) / ZB_QK * ZB_QK;
    const size_t row_bytes = zb_row_bytes(ZB_Q8_0, p->mat.cols);
    p->mat.group = k->turn ? zb_turned_bytes(ZB_Q8_0, p->mat.cols) : 0;
    const size_t groups = (rows + ZB_TURN_ROWS - 1) / ZB_TURN_ROWS;
    char *to = take(s, p->mat.group > 0 ? groups * p->mat.group : rows * row_bytes);
    p->mat.data = to;
    for (size_t r = 0; to && again && s->st == ZAMBA_OK && r < rows; r++) {
        char *at = p->mat.group > 0 ? s->rows + r % ZB_TURN_ROWS * row_bytes : to + r * row_bytes;
        memcpy(s->row, w + r * cols, cols * sizeof(float));
        memset(s->row + cols, 0, (p->mat.cols - cols) * sizeof(float));
        s->st = zb_row_from_f32(at, ZB_Q8_0, s->row, p->mat.cols, NULL, s->err);
        if (p->mat.group > 0 && (r + 1 == rows || r % ZB_TURN_ROWS == ZB_TURN_ROWS - 1))
            k->turn(to + r / ZB_TURN_ROWS * p->mat.group, s->rows, row_bytes, r % ZB_TURN_ROWS + 1, ZB_Q8_0,
                    p->mat.cols);
    }
}

static void pack(packer *s, const zb_bb_linear *l, int steers)
{
    if (l->w == ZB_BB_NONE || s->st != ZAMBA_OK)
        return;
    zb_bb_packed *p = &s->b->packed[l->index];
    const float *w = s->b->params + l->w;
    const zb_dtype type = type_of(s->b, l, steers);
    const int again = s->only == ZB_BB_NONE || s->only == l->w;
    *p = (zb_bb_packed){.panels = {.rows = l->out, .cols = l->in, .dtype = type}};
    if (type == ZB_Q8_0)
        pack_q8(s, p, w, again);
    else
        pack_panels(s, p, w, again);
}

/* In the order in which a frame needs them: a pass over the weights is a pass over memory. */
static void pack_all(packer *s)
{
    const zb_bb_plan *p = &s->b->plan;
    pack(s, &p->input_proj, 0);
    int shared = 0;
    for (size_t i = 0; i < (size_t)p->o.num_layers; i++) {
        const zb_bb_layer *l = &p->layers[i];
        pack(s, &l->in_proj, 0);
        pack(s, &l->conv_proj, 0);
        pack(s, &l->bc_proj, 1);
        pack(s, &l->dt_down, 1);
        pack(s, &l->dt_up, !p->full_dt);
        pack(s, &l->out_proj, 0);
        if (l->kind != ZAMBA_BACKBONE_LAYER_MAMBA && !shared) {
            pack(s, &p->proj_in, 0);
            pack(s, &p->qkv, 0);
            pack(s, &p->proj_out, 0);
        }
        if (p->o.ffn == ZAMBA_BACKBONE_FFN_EVERY || (l->kind != ZAMBA_BACKBONE_LAYER_MAMBA && !shared)) {
            pack(s, &l->ffn1, 0);
            pack(s, &l->ffn2, 0);
        }
        shared |= l->kind != ZAMBA_BACKBONE_LAYER_MAMBA;
    }
}

static size_t widest_input(const zb_bb_plan *p)
{
    size_t n = p->E;
    n = n < p->I ? p->I : n;
    n = n < p->A ? p->A : n;
    return (n < p->ffn ? p->ffn : n) + ZB_QK;
}

static zamba_status make_packed(zamba_backbone *b, size_t only, zamba_error *err)
{
    const size_t widest = widest_input(&b->plan);
    packer s = {.b = b, .err = err, .only = only};
    if (b->packed_data == NULL) {
        pack_all(&s);
        b->packed_data = zb_alloc_large(s.bytes);
        if (b->packed_data == NULL)
            return zb_fail_memory(err, "packed weights", s.bytes);
        b->packed_bytes = s.bytes;
    }
    s = (packer){.b = b, .err = err, .data = b->packed_data, .only = only};
    if (b->run.weights == ZAMBA_BACKBONE_INT8) {
        s.row = zb_alloc_aligned(widest * sizeof(float));
        s.rows = zb_alloc_aligned(ZB_TURN_ROWS * zb_row_bytes(ZB_Q8_0, widest / ZB_QK * ZB_QK));
        if (s.row == NULL || s.rows == NULL)
            s.st = zb_fail_memory(err, "packed weights", widest * sizeof(float));
    }
    pack_all(&s);
    zb_free_aligned(s.row);
    zb_free_aligned(s.rows);
    return s.st;
}

static void derive_layer(zamba_backbone *b, const zb_bb_layer *l)
{
    const zb_bb_plan *p = &b->plan;
    float *A = b->derived + l->derived, *turned = A + (p->I * p->N + 15) / 16 * 16;
    for (size_t i = 0; i < p->I * p->N; i++)
        A[i] = l->A_log != ZB_BB_NONE ? -expf(b->params[l->A_log + i]) : -(float)(i % p->N + 1);
    for (size_t c = 0; c < p->I; c++)
        for (size_t j = 0; j < p->K; j++)
            turned[j * p->I + c] = b->params[l->conv_w + c * p->K + j];
}

static void derive(zamba_backbone *b)
{
    for (size_t i = 0; i < (size_t)b->plan.o.num_layers; i++)
        if (b->plan.layers[i].derived != ZB_BB_NONE)
            derive_layer(b, &b->plan.layers[i]);
}

zamba_status zb_bb_changed(zamba_backbone *b, int pack_too, zamba_error *err)
{
    derive(b);
    b->stale = 1;
    if (!pack_too)
        return ZAMBA_OK;
    const zamba_status st = make_packed(b, ZB_BB_NONE, err);
    if (st == ZAMBA_OK)
        b->stale = 0;
    return st;
}

zamba_status zb_bb_changed_at(zamba_backbone *b, size_t offset, zamba_error *err)
{
    if (b->stale)
        return zb_bb_changed(b, 1, err);
    for (size_t i = 0; i < (size_t)b->plan.o.num_layers; i++) {
        const zb_bb_layer *l = &b->plan.layers[i];
        if (l->derived != ZB_BB_NONE && (l->A_log == offset || l->conv_w == offset))
            derive_layer(b, l);
    }
    return make_packed(b, offset, err);
}
