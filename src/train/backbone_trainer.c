/* backbone_trainer.c — training of the frame model: batches are checked, the way there and back is that of
 * backbone/back.h, updates are those of optimizer.h, rates those of schedule.h. */
#include "train/backbone_trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "model/dropout.h"
#include "train/schedule.h"

/* ---- options ---- */

zamba_backbone_train_options zamba_backbone_train_defaults(void)
{
    return (zamba_backbone_train_options){.size = sizeof(zamba_backbone_train_options),
                                          .learning_rate = 1e-3,
                                          .beta1 = 0.9,
                                          .beta2 = 0.999,
                                          .epsilon = 1e-8,
                                          .max_grad_norm = 1,
                                          .dropout = -1};
}

/* As the schedules of language models know them. */
static zamba_train_options schedule_of(const zamba_backbone_train_options *o)
{
    return (zamba_train_options){.schedule = o->total_steps > 0 ? ZAMBA_SCHEDULE_COSINE : ZAMBA_SCHEDULE_CONSTANT,
                                 .total_steps = o->total_steps > 0 ? o->total_steps : INT64_MAX,
                                 .warmup_steps = o->warmup_steps,
                                 .learning_rate = o->learning_rate,
                                 .min_learning_rate = o->min_learning_rate};
}

static zamba_status check_options(const zamba_backbone_train_options *o, const zamba_backbone *b, zamba_error *err)
{
    if (o->size != sizeof *o)
        return zb_fail(err, ZAMBA_E_ARG,
                       "backbone training options of %zu bytes, this library's have %zu (begin with "
                       "zamba_backbone_train_defaults())",
                       o->size, sizeof *o);
    if ((unsigned)o->loss > ZAMBA_BACKBONE_LOSS_HEADS || (unsigned)o->rows > ZAMBA_BACKBONE_ALL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone training: loss %d or rows %d is none of the choices", (int)o->loss,
                       (int)o->rows);
    if (o->loss == ZAMBA_BACKBONE_LOSS_HEADS && b->plan.o.n_heads == 0)
        return zb_fail(err, ZAMBA_E_ARG,
                       "backbone training: the loss is that of heads, and this backbone has none "
                       "(zamba_backbone_controller_heads() are some)");
    if (b->plan.o.n_heads > ZB_BB_MOST_HEADS)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "backbone training: %zu heads, at most %d", b->plan.o.n_heads,
                       ZB_BB_MOST_HEADS);
    if (o->n_threads < 0 || o->n_threads > 1024)
        return zb_fail(err, ZAMBA_E_ARG, "backbone training: n_threads %d (0 to 1024)", o->n_threads);
    if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1 && o->epsilon > 0 && o->epsilon <= 1 &&
          o->weight_decay >= 0 && o->weight_decay <= 1 && o->max_grad_norm >= 0 && isfinite(o->max_grad_norm)))
        return zb_fail(err, ZAMBA_E_ARG,
                       "AdamW: betas %g, %g (0 to below 1), epsilon %g (above 0), decay %g (0 to 1), greatest gradient "
                       "%g (0: not limited)",
                       o->beta1, o->beta2, o->epsilon, o->weight_decay, o->max_grad_norm);
    if (!(o->dropout < 1))
        return zb_fail(err, ZAMBA_E_ARG, "dropout: %g, wanted below 1 (negative: as the model's options say)",
                       o->dropout);
    if (o->total_steps < 0 || !(o->min_learning_rate >= 0))
        return zb_fail(err, ZAMBA_E_ARG, "schedule: %lld steps down to %g, wanted neither below 0",
                       (long long)o->total_steps, o->min_learning_rate);
    const zamba_train_options schedule = schedule_of(o);
    return zb_schedule_check(&schedule, err);
}

/* ---- opening ---- */

/* The backbone's table of parameters as the optimizer reads one. */
static zamba_status bind(zamba_backbone_trainer *t, zamba_error *err)
{
    const zb_bb_plan *p = &t->b->plan;
    t->specs = calloc(p->n_params, sizeof *t->specs);
    t->at = calloc(p->n_params + 1, sizeof *t->at);
    if (t->specs == NULL || t->at == NULL)
        return zb_fail_memory(err, "list of parameters", p->n_params * sizeof *t->specs);
    for (size_t i = 0; i < p->n_params; i++) {
        t->specs[i] = (zb_spec){.name = p->params[i].name,
                                .n_dims = p->params[i].n_dims,
                                .shape = {p->params[i].shape[0], p->params[i].shape[1]},
                                .decay = p->params[i].fresh == ZB_BB_GLOROT};
        t->at[i] = p->params[i].offset;
    }
    t->at[p->n_params] = p->n_floats;
    t->params = (zb_params){.pool = t->pool,
                            .n_threads = t->tape.threads,
                            .kernels = t->b->k,
                            .n = p->n_params,
                            .specs = t->specs,
                            .at = t->at,
                            .floats = p->n_floats,
                            .value = t->b->params,
                            .grad = t->tape.grad};
    zamba_status st = zb_optimizer_open(&t->optimizer, &t->params, 0, p->n_floats, err);
    return st == ZAMBA_OK ? zb_optimizer_reserve(&t->optimizer, err) : st;
}

zamba_status zamba_backbone_trainer_open(zamba_backbone_trainer **out, zamba_backbone *b,
                                         const zamba_backbone_train_options *options, zamba_error *err)
{
    const zamba_backbone_train_options o = options ? *options : zamba_backbone_train_defaults();
    if (out == NULL || b == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone training: no backbone, or nowhere to put the trainer");
    *out = NULL;
    zamba_status st = check_options(&o, b, err);
    if (st != ZAMBA_OK)
        return st;
    zamba_backbone_trainer *t = calloc(1, sizeof *t);
    if (t == NULL)
        return zb_fail_memory(err, "trainer", sizeof *t);
    t->o = o;
    t->b = b;
    t->dropout = o.dropout < 0 ? b->plan.o.dropout : o.dropout;
    st = zb_pool_open(&t->pool, o.n_threads > 0 ? o.n_threads : zb_pool_cores(), err);
    if (st == ZAMBA_OK)
        st = zb_bb_tape_open(&t->tape, b, t->pool, err);
    if (st == ZAMBA_OK)
        st = bind(t, err);
    if (st != ZAMBA_OK) {
        zamba_backbone_trainer_close(t);
        return st;
    }
    *out = t;
    return ZAMBA_OK;
}

void zamba_backbone_trainer_close(zamba_backbone_trainer *t)
{
    if (t == NULL)
        return;
    zb_optimizer_close(&t->optimizer);
    zb_bb_tape_close(&t->tape);
    zb_pool_close(t->pool);
    free(t->specs);
    free(t->at);
    free(t->saved);
    free(t->data);
    free(t);
}

int64_t zamba_backbone_trainer_steps(const zamba_backbone_trainer *t)
{
    return t->step;
}

size_t zamba_backbone_trainer_bytes(const zamba_backbone_trainer *t)
{
    return sizeof *t + zb_bb_tape_bytes(&t->tape) + 2 * t->params.floats * sizeof(float) +
           t->params.n * (sizeof *t->specs + sizeof *t->at);
}

/* ---- what a batch says ---- */

/* What its losses are divided by: sums of the weights of the rows that count, of each head. */
typedef struct measured {
    double sums[ZB_BB_MOST_HEADS];
    size_t rows, width;
} measured;

static zamba_status wrong_target(zamba_error *err, size_t row, const zamba_backbone_head *h, float x)
{
    if (h->kind == ZAMBA_BACKBONE_HEAD_CLASSES)
        return zb_fail(err, ZAMBA_E_ARG, "targets: row %zu has class %g for head %s (0 to %d; -1: not learned)", row,
                       (double)x, h->name, h->n - 1);
    return zb_fail(err, ZAMBA_E_ARG, "targets: row %zu has %g for head %s (%s)", row, (double)x, h->name,
                   h->kind == ZAMBA_BACKBONE_HEAD_BINARY ? "0 to 1; NaN: not learned" : "a number; NaN: not learned");
}

/* Whether a row is learned by a head: a class, or any of its numbers. */
static zamba_status look_at(const zamba_backbone_head *h, const float *target, size_t row, int *learned,
                            zamba_error *err)
{
    *learned = 0;
    if (h->kind == ZAMBA_BACKBONE_HEAD_CLASSES) {
        const float x = *target;
        if (isnan(x) || x == -1)
            return ZAMBA_OK;
        if (!(x >= 0 && x < (float)h->n && x == (float)(int32_t)x))
            return wrong_target(err, row, h, x);
        *learned = 1;
        return ZAMBA_OK;
    }
    for (int32_t i = 0; i < h->n; i++) {
        const float x = target[i];
        if (isnan(x))
            continue;
        if (isinf(x) || (h->kind == ZAMBA_BACKBONE_HEAD_BINARY && !(x >= 0 && x <= 1)))
            return wrong_target(err, row, h, x);
        *learned = 1;
    }
    return ZAMBA_OK;
}

static zamba_status measure_row(const zamba_backbone_trainer *t, measured *m, const float *target, size_t row,
                                double weight, zamba_error *err)
{
    const zamba_backbone_options *o = &t->b->plan.o;
    if (t->o.loss == ZAMBA_BACKBONE_LOSS_SQUARES) {
        m->sums[0] += weight;
        return zb_bb_finite(target, m->width)
                   ? ZAMBA_OK
                   : zb_fail(err, ZAMBA_E_ARG, "targets: a number of row %zu is not finite", row);
    }
    for (size_t i = 0; i < o->n_heads; i++) {
        int learned;
        const zamba_status st = look_at(&o->heads[i], target + t->b->plan.bb_heads[i].target, row, &learned, err);
        if (st != ZAMBA_OK)
            return st;
        m->sums[i] += learned ? weight : 0;
    }
    return ZAMBA_OK;
}

static zamba_status measure(const zamba_backbone_trainer *t, const zamba_backbone_batch *b, measured *m,
                            zamba_error *err)
{
    *m = (measured){.rows = t->o.rows == ZAMBA_BACKBONE_ALL ? b->batch * b->seq : b->batch,
                    .width = (size_t)zamba_backbone_target_size(&t->b->plan.o, t->o.loss)};
    double all = 0;
    for (size_t i = 0; i < m->rows; i++) {
        const float w = b->row_weights ? b->row_weights[i] : 1;
        if (!(w >= 0) || isinf(w))
            return zb_fail(err, ZAMBA_E_ARG, "row_weights: row %zu has %g, wanted a number that is not below 0", i,
                           (double)w);
        const zamba_status st = measure_row(t, m, b->targets + i * m->width, i, (double)w, err);
        if (st != ZAMBA_OK)
            return st;
    }
    for (size_t i = 0; i < ZB_BB_MOST_HEADS; i++)
        all += m->sums[i];
    return all > 0 ? ZAMBA_OK : zb_fail(err, ZAMBA_E_ARG, "batch: no row of it is learned");
}

static zamba_status prepare(zamba_backbone_trainer *t, const zamba_backbone_batch *b, measured *m, zb_bb_learn *l,
                            zamba_error *err)
{
    if (b == NULL || b->size != sizeof *b)
        return zb_fail(err, ZAMBA_E_ARG, "batch: its size is %zu, this library's %zu", b ? b->size : 0, sizeof *b);
    if (b->batch < 1 || b->seq < 1 || b->frames == NULL || b->targets == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "batch: %zu sequences of %zu frames, or no frames or targets in it", b->batch,
                       b->seq);
    zamba_status st = zb_bb_tape_shape(&t->tape, b->batch, b->seq, t->o.rows == ZAMBA_BACKBONE_ALL, err);
    if (st == ZAMBA_OK)
        st = zb_bb_frames_check(t->b, b->frames, t->tape.rows, "batch", err);
    if (st == ZAMBA_OK)
        st = measure(t, b, m, err);
    if (st == ZAMBA_OK && t->b->stale)
        st = zb_bb_changed(t->b, 0, err);
    *l = (zb_bb_learn){.loss = t->o.loss,
                       .all = t->o.rows == ZAMBA_BACKBONE_ALL,
                       .frames = b->frames,
                       .targets = b->targets,
                       .row_weights = b->row_weights};
    return st;
}

static double head_weight(const zamba_backbone_trainer *t, size_t i)
{
    return t->o.loss == ZAMBA_BACKBONE_LOSS_SQUARES ? 1 : t->b->plan.o.heads[i].weight;
}

/* There, and back if it is wanted; losses of the batch into *out. */
static void run(zamba_backbone_trainer *t, zb_bb_learn *l, const measured *m, int backward, zamba_backbone_metrics *out)
{
    const size_t n = t->o.loss == ZAMBA_BACKBONE_LOSS_SQUARES ? 1 : t->b->plan.o.n_heads;
    l->backward = backward;
    for (size_t i = 0; i < n; i++)
        l->by[i] = backward && m->sums[i] > 0 ? head_weight(t, i) / m->sums[i] : 0;
    t->graded = 0;
    zb_bb_tape_run(&t->tape, l);
    *out = (zamba_backbone_metrics){.size = sizeof *out, .step = t->step};
    for (size_t i = 0; i < n; i++) {
        double loss = 0, right = 0;
        for (size_t row = 0; row < m->rows; row++) {
            loss += (double)t->tape.losses[row * n + i];
            right += (double)t->tape.right[row * n + i];
        }
        out->head_loss[i] = m->sums[i] > 0 ? loss / m->sums[i] : 0;
        out->head_right[i] = m->sums[i] > 0 ? right / m->sums[i] : 0;
        out->loss += head_weight(t, i) * out->head_loss[i];
    }
}

static zamba_status check_metrics(const zamba_backbone_metrics *m, zamba_error *err)
{
    return m == NULL || m->size == sizeof *m
               ? ZAMBA_OK
               : zb_fail(err, ZAMBA_E_ARG, "metrics: their size is %zu, this library's %zu", m->size, sizeof *m);
}

/* ---- steps ---- */

/* Places of dropout: each branch of each layer. */
static void leave_out(void *ctx, float *to, size_t layer, zb_bb_branch branch, size_t row0, size_t n)
{
    const zamba_backbone_trainer *t = ctx;
    const size_t H = t->b->plan.H;
    for (size_t i = 0; i < n * H; i++)
        to[i] = 1;
    for (size_t i = 0; i < n; i++)
        zb_drop(to + i * H, to + i * H, 0, H,
                zb_drop_row(t->chosen, ZB_DROP_MIXER, 4 * layer + (size_t)branch, row0 + i), (float)t->dropout);
}

zamba_status zamba_backbone_trainer_step(zamba_backbone_trainer *t, const zamba_backbone_batch *batch,
                                         zamba_backbone_metrics *metrics, zamba_error *err)
{
    measured m;
    zb_bb_learn l;
    zamba_backbone_metrics got;
    zamba_status st = check_metrics(metrics, err);
    if (st == ZAMBA_OK)
        st = prepare(t, batch, &m, &l, err);
    if (st != ZAMBA_OK)
        return st;
    if (t->dropout > 0) {
        uint64_t seed = t->o.seed + (uint64_t)t->step;
        t->chosen = zb_splitmix64(&seed);
        l.draw = leave_out;
        l.draw_ctx = t;
    }
    run(t, &l, &m, 1, &got);
    const zamba_train_options schedule = schedule_of(&t->o);
    got.grad_norm = sqrt(zb_optimizer_sum_squares(&t->optimizer));
    got.learning_rate = zb_learning_rate(&schedule, t->step);
    got.step = ++t->step;
    got.skipped = !isfinite(got.loss) || !isfinite(got.grad_norm);
    if (!got.skipped) {
        const double most = t->o.max_grad_norm, by = most > 0 ? most / (got.grad_norm + 1e-6) : 1;
        const zb_update u = {.rate = got.learning_rate,
                             .beta1 = t->o.beta1,
                             .beta2 = t->o.beta2,
                             .epsilon = t->o.epsilon,
                             .decay = t->o.weight_decay,
                             .gradient = by < 1 ? by : 1};
        zb_optimizer_update(&t->optimizer, &u);
        st = zb_bb_changed(t->b, 1, err);
    }
    if (metrics)
        *metrics = got;
    return st;
}

zamba_status zamba_backbone_trainer_evaluate(zamba_backbone_trainer *t, const zamba_backbone_batch *batch,
                                             zamba_backbone_metrics *metrics, float *logits, zamba_error *err)
{
    measured m;
    zb_bb_learn l;
    zamba_backbone_metrics got;
    zamba_status st = check_metrics(metrics, err);
    if (st == ZAMBA_OK)
        st = prepare(t, batch, &m, &l, err);
    if (st != ZAMBA_OK)
        return st;
    run(t, &l, &m, 0, &got);
    if (metrics)
        *metrics = got;
    if (logits && t->o.loss == ZAMBA_BACKBONE_LOSS_HEADS)
        memcpy(logits, t->tape.logits, m.rows * t->b->plan.logits * sizeof *logits);
    return ZAMBA_OK;
}

/* ---- gradients ---- */

zamba_status zamba_backbone_trainer_backward(zamba_backbone_trainer *t, const zamba_backbone_batch *batch, double *loss,
                                             zamba_error *err)
{
    measured m;
    zb_bb_learn l;
    zamba_backbone_metrics got;
    const zamba_status st = prepare(t, batch, &m, &l, err);
    if (st != ZAMBA_OK)
        return st;
    run(t, &l, &m, 1, &got);
    t->graded = 1;
    if (loss)
        *loss = got.loss;
    return ZAMBA_OK;
}

zamba_status zamba_backbone_trainer_gradient(const zamba_backbone_trainer *t, const char *name, const float **data,
                                             size_t *n, zamba_error *err)
{
    const zb_bb_plan *p = &t->b->plan;
    if (!t->graded || name == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "gradient: none were made (zamba_backbone_trainer_backward comes first)");
    if (strcmp(name, "frames") == 0) {
        *data = t->tape.dframes ? t->tape.dframes : t->tape.dx;
        *n = t->tape.rows * p->E;
        return ZAMBA_OK;
    }
    const size_t i = zb_bb_plan_find(p, name);
    if (i == ZB_BB_NONE)
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "gradient: the backbone has no parameter \"%.80s\"", name);
    *data = t->tape.grad + p->params[i].offset;
    *n = p->params[i].count;
    return ZAMBA_OK;
}
