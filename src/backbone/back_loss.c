/* back_loss.c — what is learned: losses of a sequence's rows and the gradients by the output vector, straight or
 * through the heads. Targets were checked; NaN, and class -1, are not looked at. */
#include <math.h>
#include <string.h>

#include "backbone/back.h"

/* ---- one row of one head: logits become the gradient times `by` ---- */

typedef struct judged {
    double loss, right;
} judged;

static judged judge_classes(const zb_kernels *k, float *z, size_t n, float target, float by)
{
    judged j = {0, 0};
    float lse;
    if (!(target >= 0)) {
        memset(z, 0, n * sizeof *z);
        return j;
    }
    size_t most = 0;
    for (size_t i = 1; i < n; i++)
        most = z[i] > z[most] ? i : most;
    j.right = most == (size_t)target;
    j.loss = -(double)k->cross_entropy(z, n, (size_t)target, by, 0, &lse);
    if (by == 0)
        memset(z, 0, n * sizeof *z);
    return j;
}

static judged judge_binary(float *z, size_t n, const float *target, float by)
{
    judged j = {0, 0};
    for (size_t i = 0; i < n; i++) {
        const double x = (double)z[i], t = (double)target[i];
        if (isnan(target[i])) {
            z[i] = 0;
            continue;
        }
        j.loss += (x > 0 ? x : 0) - x * t + log1p(exp(-fabs(x))); /* -t log s(x) - (1 - t) log s(-x) */
        j.right += (x > 0) == (t > 0.5);
        z[i] = (float)((double)by * (1 / (1 + exp(-x)) - t) / (double)n);
    }
    j.loss /= (double)n;
    j.right /= (double)n;
    return j;
}

static judged judge_values(float *z, size_t n, const float *target, float by)
{
    judged j = {0, 0};
    for (size_t i = 0; i < n; i++) {
        const double d = isnan(target[i]) ? 0 : (double)z[i] - (double)target[i];
        j.loss += d * d;
        z[i] = (float)((double)by * 2 * d / (double)n);
    }
    j.loss /= (double)n;
    return j;
}

/* ---- rows of a sequence ---- */

/* Rows of the loss that belong to the sequence: its positions, or its last. */
typedef struct out_rows {
    size_t first, n;
} out_rows;

static out_rows rows_of(const zb_bb_run *r, const zb_bb_learn *l)
{
    return l->all ? (out_rows){r->row0, r->n} : (out_rows){r->index, 1};
}

static float weight_of(const zb_bb_learn *l, size_t row)
{
    return l->row_weights ? l->row_weights[row] : 1;
}

static void squares(const zb_bb_run *r, const zb_bb_learn *l, out_rows rows)
{
    zb_bb_tape *t = r->t;
    const size_t H = r->b->plan.H;
    for (size_t i = rows.first; i < rows.first + rows.n; i++) {
        const float *y = t->outputs + i * H, *target = l->targets + i * H;
        float *dy = t->dy + (l->all ? i : r->row0 + r->n - 1) * H;
        const double w = (double)weight_of(l, i), by = 2 * w * l->by[0] / (double)H;
        double sum = 0;
        for (size_t c = 0; c < H; c++) {
            const double d = (double)y[c] - (double)target[c];
            sum += d * d;
            dy[c] = (float)(by * d);
        }
        t->losses[i] = w > 0 ? (float)(w * sum / (double)H) : 0;
        t->right[i] = 0;
    }
}

static void judge(const zb_bb_run *r, const zb_bb_learn *l, size_t row)
{
    zb_bb_tape *t = r->t;
    const zb_bb_plan *p = &r->b->plan;
    const size_t width = (size_t)zamba_backbone_target_size(&p->o, l->loss);
    const float w = weight_of(l, row);
    for (size_t i = 0; i < p->o.n_heads; i++) {
        const zamba_backbone_head *h = &p->o.heads[i];
        const float *target = l->targets + row * width + p->bb_heads[i].target, by = (float)(l->by[i] * (double)w);
        float *z = t->dlogits + row * p->logits + p->bb_heads[i].logit;
        const size_t n = (size_t)h->n;
        const judged j = h->kind == ZAMBA_BACKBONE_HEAD_CLASSES  ? judge_classes(r->k, z, n, *target, by)
                         : h->kind == ZAMBA_BACKBONE_HEAD_BINARY ? judge_binary(z, n, target, by)
                                                                 : judge_values(z, n, target, by);
        t->losses[row * p->o.n_heads + i] = w > 0 ? (float)((double)w * j.loss) : 0;
        t->right[row * p->o.n_heads + i] = (float)((double)w * j.right);
    }
}

/* Columns of one head of all logits' gradients, without gaps: sums over rows read them so. */
static void back_heads(const zb_bb_run *r, out_rows rows, float *dy)
{
    zb_bb_tape *t = r->t;
    const zb_bb_plan *p = &r->b->plan;
    memset(dy, 0, rows.n * p->H * sizeof *dy);
    for (size_t i = 0; i < p->o.n_heads; i++) {
        const zb_bb_head *h = &p->bb_heads[i];
        const size_t n = h->out.out, in = h->out.in;
        const float *dz = t->dlogits + rows.first * p->logits + h->logit;
        if (h->hidden.w == ZB_BB_NONE) {
            r->k->outer(dy, p->H, rows.n, p->H, dz, p->logits, 1, r->b->params + h->out.w, in, n, 1);
            continue;
        }
        float *dh = t->dhidden[i] + rows.first * in;
        const float *hidden = t->hidden[i] + rows.first * in;
        r->k->outer(dh, in, rows.n, in, dz, p->logits, 1, r->b->params + h->out.w, in, n, 0);
        for (size_t k = 0; k < rows.n * in; k++)
            dh[k] = hidden[k] > 0 ? dh[k] : 0;
        zb_bb_back_product(r, &h->hidden, dy, dh, rows.n, 1);
    }
}

void zb_bb_back_loss(const zb_bb_run *r, const zb_bb_learn *l)
{
    zb_bb_tape *t = r->t;
    const zb_bb_plan *p = &r->b->plan;
    const out_rows rows = rows_of(r, l);
    float *dy = t->dy + (l->all ? r->row0 : r->row0 + r->n - 1) * p->H;
    if (!l->all) {
        memcpy(t->outputs + r->index * p->H, t->y + (r->row0 + r->n - 1) * p->H, p->H * sizeof(float));
        memset(t->dy + r->row0 * p->H, 0, (r->n - 1) * p->H * sizeof(float));
    }
    if (l->loss == ZAMBA_BACKBONE_LOSS_SQUARES) {
        squares(r, l, rows);
        return;
    }
    float *hidden[ZB_BB_MOST_HEADS];
    for (size_t i = 0; i < p->o.n_heads; i++)
        hidden[i] = t->hidden[i] ? t->hidden[i] + rows.first * p->bb_heads[i].out.in : NULL;
    float *logits = t->logits + rows.first * p->logits;
    zb_bb_heads_forward(r->b, t->outputs + rows.first * p->H, rows.n, logits, hidden);
    memcpy(t->dlogits + rows.first * p->logits, logits, rows.n * p->logits * sizeof *logits);
    for (size_t i = rows.first; i < rows.first + rows.n; i++)
        judge(r, l, i);
    if (l->backward)
        back_heads(r, rows, dy);
}
