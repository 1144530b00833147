/* test_backbone_grads.c — the way back through the frame model: gradients of every parameter and of the frames, and ten
 * losses of Adam, against the plain-torch reference; finite differences for what it has no case of: heads, embeddings,
 * row weights, dropout, other mixtures of the forms. More cases are taken from the folder that ZAMBA_BACKBONE_CASES
 * names. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/back.h"
#include "support/backbone_case.h"

/* ---- against the reference ---- */

static zamba_backbone_train_options plain_options(int threads)
{
    zamba_backbone_train_options o = zamba_backbone_train_defaults();
    o.max_grad_norm = 0;
    o.dropout = 0;
    o.n_threads = threads;
    return o;
}

static double tolerance(const bb_case *c, const char *name)
{
    return json_number_value(json_object_get(json_object_get(c->json, "tolerance"), name));
}

static void check_gradients(const bb_case *c, zamba_backbone_trainer *t, const zamba_backbone_batch *batch)
{
    zamba_error err;
    double loss, worst = 0;
    const double tol = tolerance(c, "grads"), want_loss = json_number_value(json_object_get(c->json, "loss_value"));
    CHECK_OK(zamba_backbone_trainer_backward(t, batch, &loss, &err), err);
    assert_true(fabs(loss - want_loss) < 1e-5 * want_loss);
    for (size_t i = 0; i < c->grads.n; i++) {
        const zb_tensor *want = &c->grads.items[i];
        const float *got;
        size_t n;
        float most = 1e-3F;
        CHECK_OK(zamba_backbone_trainer_gradient(t, want->name, &got, &n, &err), err);
        assert_int_equal(n * sizeof(float), want->bytes);
        for (size_t k = 0; k < n; k++)
            most = fmaxf(most, fabsf(((const float *)want->data)[k]));
        const double off = check_max_abs(got, want->data, n) / (double)most;
        if (!(off <= tol))
            fail_msg("%s: gradient of %s is off by %g of its greatest, allowed %g", c->name, want->name, off, tol);
        worst = fmax(worst, off);
    }
    print_message("%-14s gradients: worst %.1e of %.0e\n", c->name, worst, tol);
}

static void check_losses(const bb_case *c, zamba_backbone_trainer *t, const zamba_backbone_batch *batch)
{
    zamba_error err;
    const json_t *want = json_object_get(json_object_get(c->json, "adam"), "losses_before_each_step");
    const double tol = tolerance(c, "adam_losses");
    double worst = 0;
    assert_int_equal(json_array_size(want), 10);
    for (size_t i = 0; i < 10; i++) {
        zamba_backbone_metrics m = {.size = sizeof m};
        CHECK_OK(zamba_backbone_trainer_step(t, batch, &m, &err), err);
        const double w = json_number_value(json_array_get(want, i)), off = fabs(m.loss - w) / w;
        if (!(off <= tol))
            fail_msg("%s: loss before step %zu is %.9g, wanted %.9g", c->name, i + 1, m.loss, w);
        worst = fmax(worst, off);
    }
    assert_int_equal(zamba_backbone_trainer_steps(t), 10);
    print_message("%-14s ten losses: worst %.1e of %.0e\n", c->name, worst, tol);
}

static void check_case(const char *folder, const char *name)
{
    zamba_error err;
    bb_case c;
    bb_case_load(&c, folder, name);
    zamba_backbone *b[2];
    const int threads[2] = {1, 3};
    for (int i = 0; i < 2; i++) {
        b[i] = bb_case_open(&c, ZAMBA_BACKBONE_F32, 1);
        const zamba_backbone_train_options o = plain_options(threads[i]);
        const zamba_backbone_batch batch = {
            .size = sizeof batch, .frames = c.frames, .batch = c.batch, .seq = c.seq, .targets = c.target};
        zamba_backbone_trainer *t = NULL;
        CHECK_OK(zamba_backbone_trainer_open(&t, b[i], &o, &err), err);
        if (i == 0)
            check_gradients(&c, t, &batch);
        check_losses(&c, t, &batch);
        zamba_backbone_trainer_close(t);
    }
    assert_memory_equal(b[0]->params, b[1]->params, b[0]->plan.n_floats * sizeof(float)); /* whatever the threads */
    zamba_backbone_close(b[0]);
    zamba_backbone_close(b[1]);
    bb_case_free(&c);
}

static void check_folder(const char *folder, size_t at_least)
{
    DIR *d = opendir(folder);
    size_t n = 0;
    if (d == NULL)
        fail_msg("%s: no such folder", folder);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            check_case(folder, e->d_name);
            n++;
        }
    closedir(d);
    assert_true(n >= at_least);
}

static void test_cases(void **state)
{
    (void)state;
    check_folder("tests/backbone/fixtures", 7);
    if (getenv("ZAMBA_BACKBONE_CASES"))
        check_folder(getenv("ZAMBA_BACKBONE_CASES"), 1);
}

/* ---- finite differences ---- */

static const zamba_backbone_embedding embeddings[] = {{"action", 5, 3, 2}, {"kind", 3, 2, 1}};
static const zamba_backbone_head heads[] = {{"stick", ZAMBA_BACKBONE_HEAD_CLASSES, 4, 6, 1},
                                            {"buttons", ZAMBA_BACKBONE_HEAD_BINARY, 3, 0, 8},
                                            {"place", ZAMBA_BACKBONE_HEAD_VALUES, 2, 5, 0.5}};
#define DENSE   4
#define IDS     3
#define TARGETS (1 + 3 + 2)
#define BATCH   3
#define SEQ     9

static zamba_backbone_options small_options(void)
{
    zamba_backbone_options o = zamba_backbone_defaults();
    o.embed_dim = DENSE + 2 * 3 + 2;
    o.hidden_size = 8;
    o.num_layers = 4;
    o.attention_every = 2;
    o.state_size = 3;
    o.conv_size = 3;
    o.num_heads = 2;
    o.head_dim = 3;
    o.window_size = 5;
    o.embeddings = embeddings;
    o.n_embeddings = 2;
    o.heads = heads;
    o.n_heads = 3;
    return o;
}

static double wave(size_t i)
{
    return sin(1.7 * (double)i + 0.3 * (double)(i % 7));
}

typedef struct sample {
    float frames[BATCH * SEQ * (DENSE + IDS)], targets[BATCH * SEQ * TARGETS], weights[BATCH * SEQ];
} sample;

static void make_sample(sample *s)
{
    for (size_t r = 0; r < BATCH * SEQ; r++) {
        float *f = s->frames + r * (DENSE + IDS), *t = s->targets + r * TARGETS;
        for (size_t i = 0; i < DENSE; i++)
            f[i] = (float)wave(r * 11 + i);
        f[DENSE] = (float)(r % 5);
        f[DENSE + 1] = (float)(r * 3 % 5);
        f[DENSE + 2] = (float)(r % 3);
        t[0] = r % 6 == 5 ? -1 : (float)(r % 4);
        for (size_t i = 1; i < 4; i++)
            t[i] = (float)((r * i) % 2);
        t[4] = (float)wave(r);
        t[5] = r % 4 == 1 ? NAN : (float)wave(r + 50);
        s->weights[r] = r % 5 == 2 ? 0 : 0.5f + 0.25f * (float)(r % 3);
    }
}

/* Rougher than fresh weights, so that nothing is at a place where a mistake does not show. */
static void shake(zamba_backbone *b)
{
    zamba_error err;
    for (size_t i = 0; i < b->plan.n_params; i++) {
        const zb_bb_param *p = &b->plan.params[i];
        const float by = p->fresh == ZB_BB_GLOROT ? 0.3f : 0.1f;
        for (size_t k = 0; k < p->count; k++)
            b->params[p->offset + k] += by * (float)wave(31 * i + k);
    }
    CHECK_OK(zb_bb_changed(b, 1, &err), err);
}

static void half_left(void *ctx, float *to, size_t layer, zb_bb_branch branch, size_t row0, size_t n)
{
    const zamba_backbone *b = ctx;
    for (size_t i = 0; i < n * b->plan.H; i++)
        to[i] = ((row0 * b->plan.H + i) * 7 + 3 * layer + (size_t)branch) % 5 == 0 ? 0 : 1.25f;
}

/* What loss the tape makes of the sample. */
static double loss_of(zb_bb_tape *t, const zb_bb_learn *l)
{
    zamba_error err;
    CHECK_OK(zb_bb_changed((zamba_backbone *)(uintptr_t)t->b, 0, &err), err);
    zb_bb_tape_run(t, l);
    double sum = 0;
    for (size_t r = 0; r < t->outs; r++)
        for (size_t h = 0; h < 3; h++)
            sum += l->by[h] * (double)t->losses[r * 3 + h];
    return sum;
}

/* Along the gradient of each tensor, where nothing cancels, the slope of the loss is its length. */
static void check_differences(const char *name, const zamba_backbone_options *o, int all, int drop)
{
    zamba_error err;
    zamba_backbone *b = NULL;
    zb_bb_tape t;
    static sample s;
    make_sample(&s);
    CHECK_OK(zamba_backbone_create(&b, o, NULL, 5, &err), err);
    shake(b);
    const size_t n = b->plan.n_floats;
    CHECK_OK(zb_bb_tape_open(&t, b, NULL, &err), err);
    CHECK_OK(zb_bb_tape_shape(&t, BATCH, SEQ, all, &err), err);
    zb_bb_learn l = {.loss = ZAMBA_BACKBONE_LOSS_HEADS,
                     .all = all,
                     .backward = 1,
                     .frames = s.frames,
                     .targets = s.targets,
                     .row_weights = s.weights,
                     .by = {0.09, 0.13, 0.07}};
    if (drop) {
        l.draw = half_left;
        l.draw_ctx = b;
    }
    float *grad = malloc(n * sizeof *grad), *kept = malloc(n * sizeof *kept);
    (void)loss_of(&t, &l);
    memcpy(grad, t.grad, n * sizeof *grad);
    memcpy(kept, b->params, n * sizeof *kept);
    l.backward = 0;
    double worst = 0;
    for (size_t i = 0; i < b->plan.n_params; i++) {
        const zb_bb_param *p = &b->plan.params[i];
        double along = 0, got = 0, off = INFINITY;
        for (size_t k = 0; k < p->count; k++)
            along += (double)grad[p->offset + k] * (double)grad[p->offset + k];
        along = sqrt(along);
        if (along < 1e-6) {
            if (strstr(p->name, "qkv.bias") == NULL)
                fail_msg("%s: gradient of %s is nearly 0 (%g)", name, p->name, along);
            continue;
        }
        for (double step = 2e-2; step > 2e-5 && off > 0.01; step /= 3) { /* long: curved; short: lost in rounding */
            double at[2];
            for (int side = 0; side < 2; side++) {
                for (size_t k = 0; k < p->count; k++)
                    b->params[p->offset + k] +=
                        (float)((side == 0 ? step : -step) * (double)grad[p->offset + k] / along);
                at[side] = loss_of(&t, &l);
                memcpy(b->params, kept, n * sizeof *kept);
            }
            const double slope = (at[0] - at[1]) / (2 * step), d = fabs(slope - along) / fmax(along, 0.05);
            got = d < off ? slope : got;
            off = fmin(d, off);
        }
        if (!(off < 0.015))
            fail_msg("%s: the loss along the gradient of %s rises by %g, the gradient says %g", name, p->name, got,
                     along);
        worst = fmax(worst, off);
    }
    print_message("%-28s differences: worst %.1e\n", name, worst);
    free(grad);
    free(kept);
    zb_bb_tape_close(&t);
    zamba_backbone_close(b);
}

static void test_differences(void **state)
{
    (void)state;
    zamba_backbone_options o = small_options();
    check_differences("mamba, last", &o, 0, 0);
    check_differences("mamba, all", &o, 1, 0);
    check_differences("mamba, dropout", &o, 1, 1);
    o.block = ZAMBA_BACKBONE_GATED_CAUSAL;
    check_differences("gated_causal", &o, 1, 1);
    o.proj_bias = 0;
    o.attn_out_proj = 1;
    o.head_dim = 4;
    check_differences("gated_causal, H = A", &o, 0, 0);
    o.block = ZAMBA_BACKBONE_GATED;
    o.qk_norm = 0;
    check_differences("gated", &o, 1, 0);
    o.block = ZAMBA_BACKBONE_MAMBA; /* mamba_fixed, whose limits are corners, has a case */
    o.conv_size = 1;
    check_differences("mamba, one tap", &o, 1, 0);
    o = small_options();
    o.ffn = ZAMBA_BACKBONE_FFN_EVERY;
    o.dt_rank = -1;
    check_differences("ffn every", &o, 1, 1);
    o.block = ZAMBA_BACKBONE_GATED_CAUSAL;
    check_differences("ffn every, gated_causal", &o, 1, 0);
    o.attention_every = 9; /* none at all; E = H: no input_proj */
    o.hidden_size = o.embed_dim;
    check_differences("ffn every, no attention", &o, 1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_differences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
