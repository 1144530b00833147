/* bb_heads.c — from the output vector to logits: each head out(relu(hidden(y))), or out(y). */
#include <string.h>

#include "backbone/backbone.h"

#define PIECE ((size_t)256) /* hidden numbers that are computed at once when nobody keeps them */

/* y[n] = (more ? y : b) + W x, columns [c0, c0 + cols) of W, on one row. */
static void part_of(const zamba_backbone *b, const zb_bb_linear *l, float *y, const float *x, size_t c0, size_t cols,
                    int more)
{
    const zb_mat w = {.data = b->params + l->w + c0, .rows = l->out, .cols = cols, .ld = l->in, .dtype = ZB_F32};
    if (!more)
        memcpy(y, b->params + l->b, l->out * sizeof(float));
    b->k->matmul(y, l->out, x, cols, 1, &w, 0, l->out, 1);
}

/* Numbers [r0, r0 + n) of a hidden layer. */
static void hidden_of(const zamba_backbone *b, const zb_bb_linear *l, float *h, const float *x, size_t r0, size_t n)
{
    const zb_mat w = {.data = b->params + l->w + r0 * l->in, .rows = n, .cols = l->in, .ld = l->in, .dtype = ZB_F32};
    memcpy(h, b->params + l->b + r0, n * sizeof(float));
    b->k->matmul(h, n, x, l->in, 1, &w, 0, n, 1);
    for (size_t i = 0; i < n; i++)
        h[i] = h[i] < 0 ? 0 : h[i];
}

void zb_bb_heads_forward(const zamba_backbone *b, const float *y, size_t rows, float *logits, float *const *hidden)
{
    const zb_bb_plan *p = &b->plan;
    float room[PIECE];
    for (size_t i = 0; i < p->o.n_heads; i++) {
        const zb_bb_head *h = &p->bb_heads[i];
        for (size_t r = 0; r < rows; r++) {
            const float *x = y + r * p->H;
            float *to = logits + r * p->logits + h->logit;
            if (h->hidden.w == ZB_BB_NONE) {
                part_of(b, &h->out, to, x, 0, p->H, 0);
                continue;
            }
            for (size_t c = 0; c < h->hidden.out; c += PIECE) {
                const size_t n = h->hidden.out - c < PIECE ? h->hidden.out - c : PIECE;
                float *at = hidden && hidden[i] ? hidden[i] + r * h->hidden.out + c : room;
                hidden_of(b, &h->hidden, at, x, c, n);
                part_of(b, &h->out, to, at, c, n, c > 0);
            }
        }
    }
}

zamba_status zamba_backbone_logits(const zamba_backbone *b, const float *y, size_t n, float *logits, zamba_error *err)
{
    if (b->plan.o.n_heads == 0)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "logits: this backbone has no heads (give its options some)");
    if (n > 0 && (y == NULL || logits == NULL))
        return zb_fail(err, ZAMBA_E_ARG, "logits: no vectors, or nowhere to put the logits");
    zb_bb_heads_forward(b, y, n, logits, NULL);
    return ZAMBA_OK;
}
