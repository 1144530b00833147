/* test_backbone_training.c — the trainer of the frame model: it learns in every form at usual rates, the same bits
 * whatever the threads and after a resume, clips, warms up, leaves out, evaluates what the model answers, and refuses
 * what is wrong without changing anything. Gradients are in test_backbone_grads.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backbone/backbone.h"
#include "support/scratch.h"
#include "zamba_train.h"

#define DENSE 3
#define FRAME (DENSE + 1)
#define BATCH 6
#define SEQ   10
#define ROWS  (BATCH * SEQ)

static const zamba_backbone_embedding actions = {"action", 6, 4, 1};
static const zamba_backbone_head heads[] = {{"stick", ZAMBA_BACKBONE_HEAD_CLASSES, 6, 12, 1},
                                            {"buttons", ZAMBA_BACKBONE_HEAD_BINARY, 2, 0, 2}};
#define TARGET 3

static zamba_backbone_options small_options(void)
{
    zamba_backbone_options o = zamba_backbone_defaults();
    o.embed_dim = DENSE + 4;
    o.hidden_size = 16;
    o.num_layers = 2;
    o.attention_every = 2;
    o.state_size = 4;
    o.num_heads = 2;
    o.head_dim = 8;
    o.window_size = 6;
    o.embeddings = &actions;
    o.n_embeddings = 1;
    o.heads = heads;
    o.n_heads = 2;
    return o;
}

static zamba_backbone *fresh(const zamba_backbone_options *o)
{
    zamba_error err;
    zamba_backbone *b = NULL;
    const zamba_backbone_run run = {.size = sizeof run, .n_threads = 1};
    CHECK_OK(zamba_backbone_create(&b, o, &run, 3, &err), err);
    return b;
}

static zamba_backbone_train_options plain_options(void)
{
    zamba_backbone_train_options o = zamba_backbone_train_defaults();
    o.loss = ZAMBA_BACKBONE_LOSS_HEADS;
    o.rows = ZAMBA_BACKBONE_ALL;
    o.n_threads = 1;
    return o;
}

static zamba_backbone_trainer *trainer_of(zamba_backbone *b, const zamba_backbone_train_options *o)
{
    zamba_error err;
    zamba_backbone_trainer *t = NULL;
    CHECK_OK(zamba_backbone_trainer_open(&t, b, o, &err), err);
    return t;
}

/* A game of its own: the stick goes where the action of the frame before was, buttons tell the signs of numbers. */
typedef struct game {
    float frames[ROWS * FRAME], targets[ROWS * TARGET], weights[ROWS];
} game;

static void play(game *g, unsigned seed)
{
    for (unsigned i = 0; i < ROWS; i++) {
        float *f = g->frames + i * FRAME, *t = g->targets + i * TARGET;
        for (unsigned k = 0; k < DENSE; k++)
            f[k] = (float)sin((double)((seed * 131 + i) * 7 + k * 3) * 1.3);
        f[DENSE] = (float)((seed * 5 + i * i * 3 + i / 4) % 6);
        t[0] = i % SEQ == 0 ? -1 : f[DENSE - FRAME];
        t[1] = f[0] > 0;
        t[2] = f[1] > 0;
        g->weights[i] = i % SEQ < 2 ? 0 : 1;
    }
}

static zamba_backbone_batch batch_of(const game *g)
{
    return (zamba_backbone_batch){
        .size = sizeof(zamba_backbone_batch), .frames = g->frames, .batch = BATCH, .seq = SEQ, .targets = g->targets};
}

static zamba_backbone_metrics one_step(zamba_backbone_trainer *t, unsigned seed)
{
    zamba_error err;
    static game g;
    play(&g, seed);
    const zamba_backbone_batch batch = batch_of(&g);
    zamba_backbone_metrics m = {.size = sizeof m};
    CHECK_OK(zamba_backbone_trainer_step(t, &batch, &m, &err), err);
    return m;
}

/* ---- it learns ---- */

static void test_learns(void **state)
{
    (void)state;
    zamba_backbone_options o = small_options();
    o.dropout = 0;
    zamba_backbone *b = fresh(&o);
    zamba_backbone_train_options how = plain_options();
    how.learning_rate = 1e-2;
    how.warmup_steps = 5;
    how.total_steps = 120;
    zamba_backbone_trainer *t = trainer_of(b, &how);
    zamba_backbone_metrics m = one_step(t, 0);
    assert_true(m.loss > 2.5 && fabs(m.loss - m.head_loss[0] - 2 * m.head_loss[1]) < 1e-9);
    for (unsigned i = 1; i < 120; i++)
        m = one_step(t, i);
    m = one_step(t, 1000); /* not seen before: the loss is that before the step */
    print_message("after 120 steps: loss %.3f, stick %.2f, buttons %.2f\n", m.loss, m.head_right[0], m.head_right[1]);
    assert_true(m.head_right[0] > 0.95 && m.head_right[1] > 0.9 && m.loss < 0.6);
    zamba_backbone_trainer_close(t);
    zamba_backbone_close(b);
}

/* Rates at which others end in NaN; every form, with dropout, looking at last positions only. */
static void test_stays_finite(void **state)
{
    (void)state;
    static const double rates[] = {1e-3, 1e-4};
    for (int form = 0; form < 10; form++) {
        zamba_backbone_options o = small_options();
        o.block = (zamba_backbone_block)(form % 5 % 4);
        o.ffn = form % 5 == 4 ? ZAMBA_BACKBONE_FFN_EVERY : ZAMBA_BACKBONE_FFN_SHARED;
        zamba_backbone *b = fresh(&o);
        zamba_backbone_train_options how = plain_options();
        how.rows = ZAMBA_BACKBONE_LAST;
        how.learning_rate = rates[form / 5];
        zamba_backbone_trainer *t = trainer_of(b, &how);
        double first = 0, last = 0;
        static game g;
        play(&g, 0);
        for (unsigned i = 0; i < 60; i++) {
            zamba_error err;
            zamba_backbone_batch batch = batch_of(&g);
            float targets[BATCH * TARGET];
            for (size_t s = 0; s < BATCH; s++)
                memcpy(targets + s * TARGET, g.targets + (s * SEQ + SEQ - 1) * TARGET, TARGET * sizeof(float));
            batch.targets = targets;
            zamba_backbone_metrics m = {.size = sizeof m};
            CHECK_OK(zamba_backbone_trainer_step(t, &batch, &m, &err), err);
            assert_true(isfinite(m.loss) && isfinite(m.grad_norm) && !m.skipped);
            first += i < 10 ? m.loss : 0;
            last += i >= 50 ? m.loss : 0;
        }
        if (!(last < first))
            fail_msg("form %d at %g: the loss went from %g to %g", form, how.learning_rate, first / 10, last / 10);
        zamba_backbone_trainer_close(t);
        zamba_backbone_close(b);
    }
}

/* ---- the same bits ---- */

static void test_threads_and_dropout(void **state)
{
    (void)state;
    const zamba_backbone_options o = small_options();
    zamba_backbone *b[3];
    for (int i = 0; i < 3; i++) {
        b[i] = fresh(&o);
        zamba_backbone_train_options how = plain_options();
        how.dropout = 0.3;
        how.n_threads = i == 1 ? 3 : 1;
        how.seed = i == 2;
        zamba_backbone_trainer *t = trainer_of(b[i], &how);
        for (unsigned k = 0; k < 4; k++)
            one_step(t, k);
        zamba_backbone_trainer_close(t);
    }
    const size_t bytes = b[0]->plan.n_floats * sizeof(float);
    assert_memory_equal(b[0]->params, b[1]->params, bytes);
    assert_true(memcmp(b[0]->params, b[2]->params, bytes) != 0);
    for (int i = 0; i < 3; i++)
        zamba_backbone_close(b[i]);
}

static void test_resume(void **state)
{
    (void)state;
    zamba_error err;
    scratch s;
    scratch_open(&s);
    const zamba_backbone_options o = small_options();
    zamba_backbone_train_options how = plain_options();
    how.warmup_steps = 6;
    zamba_backbone *a = fresh(&o), *b = fresh(&o), *loaded = NULL;
    zamba_backbone_trainer *t = trainer_of(a, &how);
    for (unsigned i = 0; i < 3; i++) {
        one_step(t, i);
        CHECK_OK(zamba_backbone_trainer_save(t, s.path, &err), err); /* over what was there */
    }
    CHECK_OK(zamba_backbone_load(&loaded, s.path, NULL, &err), err);
    assert_memory_equal(loaded->params, a->params, a->plan.n_floats * sizeof(float));
    zamba_backbone_close(loaded);
    zamba_backbone_trainer *u = trainer_of(b, &how);
    CHECK_OK(zamba_backbone_trainer_resume(u, s.path, &err), err);
    assert_int_equal(zamba_backbone_trainer_steps(u), 3);
    for (unsigned i = 3; i < 6; i++) {
        const zamba_backbone_metrics x = one_step(t, i), y = one_step(u, i);
        assert_true(x.loss == y.loss && x.learning_rate == y.learning_rate && x.step == y.step);
    }
    assert_memory_equal(a->params, b->params, a->plan.n_floats * sizeof(float));

    /* what is damaged, missing or another model's changes nothing */
    size_t n;
    char *file = scratch_read(scratch_path(&s, "optimizer.safetensors"), &n);
    float *kept = malloc(b->plan.n_floats * sizeof(float));
    memcpy(kept, b->params, b->plan.n_floats * sizeof(float));
    const float bad = NAN;
    memcpy(file + n - sizeof bad, &bad, sizeof bad);
    scratch_write(&s, "optimizer.safetensors", file, n);
    check_refused(zamba_backbone_trainer_resume(u, s.path, &err), &err, ZAMBA_E_FORMAT, "not finite", NULL);
    scratch_write(&s, "optimizer.safetensors", file, n / 2);
    assert_int_not_equal(zamba_backbone_trainer_resume(u, s.path, &err), ZAMBA_OK);
    scratch_remove(&s, "optimizer.safetensors");
    assert_int_not_equal(zamba_backbone_trainer_resume(u, s.path, &err), ZAMBA_OK);
    zamba_backbone_options other = o;
    other.state_size = 5;
    zamba_backbone *c = fresh(&other);
    zamba_backbone_trainer *v = trainer_of(c, &how);
    CHECK_OK(zamba_backbone_trainer_save(v, s.path, &err), err);
    check_refused(zamba_backbone_trainer_resume(u, s.path, &err), &err, ZAMBA_E_MISMATCH, "another model", NULL);
    assert_memory_equal(kept, b->params, b->plan.n_floats * sizeof(float));
    assert_int_equal(zamba_backbone_trainer_steps(u), 6);
    free(file);
    free(kept);
    zamba_backbone_trainer_close(t);
    zamba_backbone_trainer_close(u);
    zamba_backbone_trainer_close(v);
    zamba_backbone_close(a);
    zamba_backbone_close(b);
    zamba_backbone_close(c);
    scratch_close(&s);
}

static int is_there(const scratch *s, const char *name)
{
    struct stat sb;
    return stat(scratch_path(s, name), &sb) == 0;
}

/* Checkpoints of a run: the last ones stay, the newest is found, and going on from it is to the bit. */
static void test_checkpoints(void **state)
{
    (void)state;
    zamba_error err;
    scratch s;
    char *path = NULL, *last = NULL;
    scratch_open(&s);
    const zamba_backbone_options o = small_options();
    zamba_backbone_train_options how = plain_options();
    how.dropout = 0.3;
    zamba_backbone *a = fresh(&o), *b = fresh(&o);
    zamba_backbone_trainer *t = trainer_of(a, &how), *u = trainer_of(b, &how);
    check_refused(zamba_backbone_trainer_checkpoint(t, "", 2, NULL, &path, &err), &err, ZAMBA_E_ARG, "no folder", NULL);
    check_refused(zamba_backbone_trainer_checkpoint(t, s.path, -1, NULL, &path, &err), &err, ZAMBA_E_ARG, "-1 to keep",
                  NULL);
    assert_int_not_equal(zamba_backbone_trainer_checkpoint(t, s.path, 2, "{\"at\":", &path, &err), ZAMBA_OK);
    assert_null(path);
    for (unsigned i = 0; i < 3; i++) {
        one_step(t, i);
        CHECK_OK(zamba_backbone_trainer_checkpoint(t, s.path, 2, "{\"at\": [3, 4]}", &path, &err), err);
        CHECK_OK(zamba_train_latest(s.path, &last, &err), err);
        assert_string_equal(path, last);
        zamba_free(path);
        if (i < 2)
            zamba_free(last);
    }
    assert_true(!is_there(&s, "checkpoint-000001") && is_there(&s, "checkpoint-000002"));
    assert_null(zamba_backbone_trainer_data(u));
    CHECK_OK(zamba_backbone_trainer_resume(u, last, &err), err);
    assert_string_equal(zamba_backbone_trainer_data(u), "{\"at\":[3,4]}");
    for (unsigned i = 3; i < 6; i++) {
        const zamba_backbone_metrics x = one_step(t, i), y = one_step(u, i);
        assert_true(x.loss == y.loss && x.grad_norm == y.grad_norm && x.step == y.step);
    }
    assert_memory_equal(a->params, b->params, a->plan.n_floats * sizeof(float));
    zamba_backbone_trainer_close(u);

    /* the same tensors, but another function; and a state that is another trainer's */
    zamba_backbone_options other = o;
    other.window_size = o.window_size + 1;
    zamba_backbone *c = fresh(&other);
    u = trainer_of(c, &how);
    check_refused(zamba_backbone_trainer_resume(u, last, &err), &err, ZAMBA_E_MISMATCH, "window_size", "another model",
                  NULL);
    zamba_backbone_trainer_close(u);
    zamba_backbone_close(c);
    other = o;
    other.dropout = 0.7; /* is no part of the function */
    c = fresh(&other);
    u = trainer_of(c, &how);
    CHECK_OK(zamba_backbone_trainer_resume(u, last, &err), err);
    zamba_backbone_trainer_close(u);
    zamba_backbone_close(c);
    u = trainer_of(b, &how);
    scratch_text(&s, "checkpoint-000003/trainer_state.json", "{\"format\": \"zamba trainer\"}");
    check_refused(zamba_backbone_trainer_resume(u, last, &err), &err, ZAMBA_E_MISMATCH, "\"zamba trainer\"",
                  "another command", NULL);
    scratch_text(&s, "checkpoint-000003/trainer_state.json", "[");
    assert_int_equal(zamba_backbone_trainer_resume(u, last, &err), ZAMBA_E_FORMAT);
    assert_int_equal(zamba_backbone_trainer_steps(u), 0);
    zamba_free(last);
    zamba_backbone_trainer_close(t);
    zamba_backbone_trainer_close(u);
    zamba_backbone_close(a);
    zamba_backbone_close(b);
    scratch_close(&s);
}

/* ---- a step ---- */

/* With an epsilon far above the gradients AdamW is a step along them, so its length shows the clipping. */
static void test_clip_and_rate(void **state)
{
    (void)state;
    const zamba_backbone_options o = small_options();
    zamba_backbone *b = fresh(&o);
    zamba_backbone_train_options how = plain_options();
    how.dropout = 0;
    how.epsilon = 1;
    how.learning_rate = 0.5;
    how.warmup_steps = 10;
    how.max_grad_norm = 1e-3;
    zamba_backbone_trainer *t = trainer_of(b, &how);
    const size_t n = b->plan.n_floats;
    float *before = malloc(n * sizeof *before);
    memcpy(before, b->params, n * sizeof *before);
    const zamba_backbone_metrics m = one_step(t, 0);
    double moved = 0;
    for (size_t i = 0; i < n; i++)
        moved += ((double)b->params[i] - (double)before[i]) * ((double)b->params[i] - (double)before[i]);
    assert_true(m.grad_norm > 0.1 && fabs(m.learning_rate - 0.05) < 1e-12);
    assert_true(fabs(sqrt(moved) / (0.05 * 1e-3) - 1) < 0.01);
    free(before);
    zamba_backbone_trainer_close(t);
    zamba_backbone_close(b);
}

/* What evaluate says is what the model answers, and the mean over the rows that count. */
static void test_evaluate(void **state)
{
    (void)state;
    zamba_error err;
    static game g;
    play(&g, 4);
    const zamba_backbone_options o = small_options();
    zamba_backbone *b = fresh(&o);
    const zamba_backbone_train_options how = plain_options();
    zamba_backbone_trainer *t = trainer_of(b, &how);
    one_step(t, 1);
    zamba_backbone_batch batch = batch_of(&g);
    batch.row_weights = g.weights;
    zamba_backbone_metrics m = {.size = sizeof m};
    static float got[ROWS * 8], want[ROWS * 8], y[ROWS * 16];
    assert_int_equal(zamba_backbone_logit_size(&o), 8);
    CHECK_OK(zamba_backbone_trainer_evaluate(t, &batch, &m, got, &err), err);
    CHECK_OK(zamba_backbone_forward(b, g.frames, BATCH, SEQ, ZAMBA_BACKBONE_ALL, y, &err), err);
    CHECK_OK(zamba_backbone_logits(b, y, ROWS, want, &err), err);
    check_close(got, want, ROWS * 8, 1e-5,
                "logits"); /* products of other order: training reads the weights as they lie */
    double loss = 0, right = 0, rows = 0;
    for (size_t i = 0; i < ROWS; i++) {
        const float *z = want + i * 8;
        double sum = 0;
        size_t most = 0;
        if (g.weights[i] == 0)
            continue;
        for (size_t k = 0; k < 6; k++) {
            sum += exp((double)z[k]);
            most = z[k] > z[most] ? k : most;
        }
        loss += log(sum) - (double)z[(size_t)g.targets[i * TARGET]];
        right += most == (size_t)g.targets[i * TARGET];
        rows++;
    }
    assert_true(fabs(m.head_loss[0] - loss / rows) < 1e-5 && fabs(m.head_right[0] - right / rows) < 1e-9);
    zamba_backbone_trainer_close(t);
    zamba_backbone_close(b);
}

/* The controller's 81 logits, from the last position. */
static void test_controller(void **state)
{
    (void)state;
    zamba_error err;
    zamba_backbone_options o = small_options();
    o.heads = zamba_backbone_controller_heads();
    o.n_heads = ZAMBA_BACKBONE_CONTROLLER_HEADS;
    assert_int_equal(zamba_backbone_logit_size(&o), 81);
    assert_int_equal(zamba_backbone_target_size(&o, ZAMBA_BACKBONE_LOSS_HEADS), 8 + 5);
    zamba_backbone *b = fresh(&o);
    zamba_backbone_train_options how = plain_options();
    how.rows = ZAMBA_BACKBONE_LAST;
    how.dropout = 0;
    zamba_backbone_trainer *t = trainer_of(b, &how);
    static game g;
    play(&g, 9);
    static float targets[BATCH * 13];
    for (size_t i = 0; i < BATCH; i++) {
        for (size_t k = 0; k < 8; k++)
            targets[i * 13 + k] = (float)((i + k) % 2);
        for (size_t k = 8; k < 13; k++)
            targets[i * 13 + k] = (float)((i * 3 + k) % 5);
    }
    zamba_backbone_batch batch = batch_of(&g);
    batch.targets = targets;
    zamba_backbone_metrics m = {.size = sizeof m};
    double first = 0;
    for (int i = 0; i < 150; i++) {
        CHECK_OK(zamba_backbone_trainer_step(t, &batch, &m, &err), err);
        first = i == 0 ? m.loss : first;
    }
    for (size_t i = 0; i < 6; i++)
        assert_true(m.head_right[i] > 0.9);
    assert_true(m.loss < 0.1 * first);
    zamba_backbone_trainer_close(t);
    zamba_backbone_close(b);
}

/* ---- what is refused ---- */

static void test_refused_options(void **state)
{
    (void)state;
    zamba_error err;
    zamba_backbone_options o = small_options();
    zamba_backbone *b = fresh(&o);
    zamba_backbone_trainer *t = NULL;
    const double wrong[] = {0, -1, 2, NAN};
    for (size_t i = 0; i < 4; i++) {
        zamba_backbone_train_options how = plain_options();
        how.learning_rate = wrong[i];
        assert_int_equal(zamba_backbone_trainer_open(&t, b, &how, &err), ZAMBA_E_ARG);
        how = plain_options();
        how.beta2 = wrong[i] == 0 ? 1 : wrong[i];
        assert_int_equal(zamba_backbone_trainer_open(&t, b, &how, &err), ZAMBA_E_ARG);
        how = plain_options();
        how.dropout = wrong[i] <= 0 ? 1 : wrong[i];
        assert_int_equal(zamba_backbone_trainer_open(&t, b, &how, &err), ZAMBA_E_ARG);
    }
    zamba_backbone_train_options how = plain_options();
    how.warmup_steps = 20;
    how.total_steps = 10;
    check_refused(zamba_backbone_trainer_open(&t, b, &how, &err), &err, ZAMBA_E_ARG, "20 steps of warm-up", NULL);
    how = plain_options();
    how.size--;
    assert_int_equal(zamba_backbone_trainer_open(&t, b, &how, &err), ZAMBA_E_ARG);
    zamba_backbone_close(b);
    o.n_heads = 0;
    b = fresh(&o);
    how = plain_options();
    check_refused(zamba_backbone_trainer_open(&t, b, &how, &err), &err, ZAMBA_E_ARG, "has none", NULL);
    assert_null(t);
    zamba_backbone_close(b);
}

static void test_refused_batches(void **state)
{
    (void)state;
    zamba_error err;
    static game g;
    const zamba_backbone_options o = small_options();
    zamba_backbone *b = fresh(&o);
    const zamba_backbone_train_options how = plain_options();
    zamba_backbone_trainer *t = trainer_of(b, &how);
    const float *data;
    size_t n;
    one_step(t, 0);
    const size_t bytes = b->plan.n_floats * sizeof(float);
    float *kept = malloc(bytes);
    memcpy(kept, b->params, bytes);
    const struct {
        float *at, value;
        const char *says;
    } wrong[] = {{&g.frames[5], INFINITY, "infinite"},      {&g.frames[DENSE], 6, "no id"},
                 {&g.frames[DENSE], 0.5f, "no id"},         {&g.targets[9], 6, "class 6"},
                 {&g.targets[9], -2, "class -2"},           {&g.targets[9], 1.5f, "class 1.5"},
                 {&g.targets[10], 1.5f, "head buttons"},    {&g.targets[10], INFINITY, "head buttons"},
                 {&g.weights[7], -1, "row_weights: row 7"}, {&g.weights[7], NAN, "row_weights: row 7"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        play(&g, 1);
        *wrong[i].at = wrong[i].value;
        zamba_backbone_batch batch = batch_of(&g);
        batch.row_weights = g.weights;
        check_refused(zamba_backbone_trainer_step(t, &batch, NULL, &err), &err, ZAMBA_E_ARG, wrong[i].says, NULL);
        assert_int_equal(zamba_backbone_trainer_evaluate(t, &batch, NULL, NULL, &err), ZAMBA_E_ARG);
    }
    play(&g, 1);
    zamba_backbone_batch batch = batch_of(&g);
    batch.seq = 0;
    assert_int_equal(zamba_backbone_trainer_step(t, &batch, NULL, &err), ZAMBA_E_ARG);
    batch.seq = SIZE_MAX / 4;
    assert_int_equal(zamba_backbone_trainer_step(t, &batch, NULL, &err), ZAMBA_E_ARG);
    batch = batch_of(&g);
    memset(g.weights, 0, sizeof g.weights);
    batch.row_weights = g.weights;
    check_refused(zamba_backbone_trainer_step(t, &batch, NULL, &err), &err, ZAMBA_E_ARG, "no row", NULL);
    assert_int_equal(zamba_backbone_trainer_gradient(t, "frames", &data, &n, &err), ZAMBA_E_ARG);
    assert_memory_equal(kept, b->params, bytes);

    /* numbers that are there but beyond what f32 can hold: the step is not made */
    play(&g, 1);
    for (size_t i = 0; i < DENSE; i++)
        g.frames[i] = 3e38f;
    batch.row_weights = NULL;
    zamba_backbone_metrics m = {.size = sizeof m};
    CHECK_OK(zamba_backbone_trainer_step(t, &batch, &m, &err), err);
    assert_true(m.skipped && m.step == 2);
    assert_memory_equal(kept, b->params, bytes);
    assert_false(one_step(t, 2).skipped);
    free(kept);
    zamba_backbone_trainer_close(t);
    zamba_backbone_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_learns),
                                       cmocka_unit_test(test_stays_finite),
                                       cmocka_unit_test(test_threads_and_dropout),
                                       cmocka_unit_test(test_resume),
                                       cmocka_unit_test(test_checkpoints),
                                       cmocka_unit_test(test_clip_and_rate),
                                       cmocka_unit_test(test_evaluate),
                                       cmocka_unit_test(test_controller),
                                       cmocka_unit_test(test_refused_options),
                                       cmocka_unit_test(test_refused_batches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
