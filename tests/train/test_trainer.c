/* test_trainer.c — whole steps: ten of AdamW as PyTorch makes them, DPO, microbatches and accumulation, threads, steps
 * that are skipped, a teacher, held-out loss, what is refused. */
#include <math.h>

#include "trainer_fixture.h"

static const char *const models[] = {"zamba1-tiny", "zamba2-1.2b-tiny", "zamba2-2.7b-tiny", "zamba2-7b-tiny",
                                     "zamba2-untied-sharded-bf16-tiny"};

static const char *golden_path(const char *model)
{
    static char path[256];
    snprintf(path, sizeof path, GOLDEN_DIR "/%s", model);
    return path;
}

/* ---- PyTorch's runs ---- */

static double torch_rate(void *user, int64_t step)
{
    (void)user;
    if (step < 2)
        return 1e-3 * (double)step / 2;
    return step < 10 ? 1e-3 * 0.5 * (1 + cos(3.14159265358979323846 * (double)(step - 2) / 8)) : 0;
}

static void check_run(const char *model, const char *tag, int cosine)
{
    golden g;
    size_t n;
    char key[64];
    fixture_batch b;
    zamba_train_options o = fixture_options();
    o.learning_rate = 1e-3;
    o.decay_all = 1;
    o.max_grad_norm = cosine ? 1 : 0;
    o.rate = cosine ? torch_rate : NULL;
    zamba_trainer *t = fixture_trainer(golden_path(model), &o);
    assert_true(golden_open(&g, model, "train.safetensors"));
    const zb_tensor *input = golden_get(&g, "input_ids");
    int32_t *ids = golden_ids(input, &n);
    fixture_fill(&b, ids, ids, input->shape[0], input->shape[1]);
    const float *losses = golden_get(&g, "%s.losses", tag)->data, *norms = golden_get(&g, "%s.grad_norms", tag)->data,
                *lrs = golden_get(&g, "%s.lrs", tag)->data;
    snprintf(key, sizeof key, "%s_losses_abs", tag);
    const double tolerance = golden_tolerance(model, key);
    for (int step = 0; step < 11; step++) {
        const zamba_train_metrics m = fixture_step(t, &b);
        if (!(fabs(m.loss - (double)losses[step]) <= tolerance))
            fail_msg("%s, %s, step %d: loss %.7f, wanted %.7f within %g", model, tag, step, m.loss,
                     (double)losses[step], tolerance);
        if (step == 10)
            break;
        assert_int_equal(m.step, step + 1);
        assert_true(fabs(m.learning_rate - (double)lrs[step]) <= 1e-7 * 1e-3 + 1e-6 * (double)lrs[step]);
        if (!(fabs(m.grad_norm - (double)norms[step]) <= 5e-3 * (double)norms[step]))
            fail_msg("%s, %s, step %d: norm %.7f, wanted %.7f", model, tag, step, m.grad_norm, (double)norms[step]);
    }
    fixture_free(&b);
    free(ids);
    golden_close(&g);
    zamba_trainer_close(t);
}

static void test_ten_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        check_run(models[i], "adamw", 0);
        check_run(models[i], "adamw_clip_cosine", 1);
    }
}

typedef struct gradient_check {
    const golden *g;
    double tolerance;
    int seen;
} gradient_check;

static int check_gradient(void *user, const char *name, const float *data, const int64_t *shape, int32_t n_dims)
{
    gradient_check *c = user;
    char key[200];
    double error = 0, size = 0;
    snprintf(key, sizeof key, "grad.%s", name);
    for (size_t i = 0; i < c->g->tensors.n; i++) {
        const zb_tensor *want = &c->g->tensors.items[i];
        if (strcmp(want->name, key) != 0)
            continue;
        assert_int_equal(want->n_dims, n_dims);
        for (int32_t d = 0; d < n_dims; d++)
            assert_int_equal(want->shape[d], shape[d]);
        for (size_t k = 0; k < want->bytes / 4; k++) {
            const double w = (double)((const float *)want->data)[k], e = (double)data[k] - w;
            error += e * e;
            size += w * w;
        }
        if (!(sqrt(error) <= c->tolerance * sqrt(size)))
            fail_msg("%s: relative error %.3g, at most %.3g", name, sqrt(error / size), c->tolerance);
        c->seen++;
    }
    return 0;
}

static void test_masked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        golden g;
        size_t n;
        double loss;
        fixture_batch b;
        zamba_error err;
        const zamba_train_options o = fixture_options();
        zamba_trainer *t = fixture_trainer(golden_path(models[i]), &o);
        assert_true(golden_open(&g, models[i], "train_masked.safetensors"));
        const zb_tensor *input = golden_get(&g, "input_ids");
        int32_t *ids = golden_ids(input, &n), *labels = golden_ids(golden_get(&g, "labels"), &n);
        fixture_fill(&b, ids, labels, input->shape[0], input->shape[1]);
        gradient_check c = {&g, golden_tolerance(models[i], "grad_rel_l2"), 0};
        CHECK_OK(zamba_trainer_gradients(t, &b.batch, check_gradient, &c, &loss, &err), err);
        assert_true(fabs(loss - (double)*(const float *)golden_get(&g, "loss")->data) <=
                    golden_tolerance(models[i], "loss_abs"));
        assert_true(c.seen > 10);
        assert_int_equal(zamba_trainer_steps(t), 0);
        fixture_free(&b);
        free(ids);
        free(labels);
        golden_close(&g);
        zamba_trainer_close(t);
    }
}

/* ---- DPO ---- */

static void test_dpo(void **state)
{
    (void)state;
    static const char *const sides[] = {"chosen", "rejected"};
    const char *model = "zamba2-1.2b-tiny";
    char reference[256];
    golden g;
    size_t n;
    double loss;
    zamba_error err;
    zamba_train_options o = fixture_options();
    zamba_example examples[4];
    int32_t *ids[2], *targets[2];
    snprintf(reference, sizeof reference, GOLDEN_DIR "/%s/dpo-reference", model);
    assert_true(golden_open(&g, model, "dpo.safetensors"));
    o.objective = ZAMBA_OBJECTIVE_DPO;
    o.dpo_beta = (double)*(const float *)golden_get(&g, "beta")->data;
    o.reference = reference;
    zamba_trainer *t = fixture_trainer(golden_path(model), &o);
    for (int side = 0; side < 2; side++) {
        const zb_tensor *input = golden_get(&g, "%s.input_ids", sides[side]);
        const size_t rows = input->shape[0], len = input->shape[1];
        int32_t *mask = golden_ids(golden_get(&g, "%s.response_mask", sides[side]), &n);
        ids[side] = golden_ids(input, &n);
        targets[side] = malloc(n * sizeof **targets);
        assert_int_equal(rows, 2);
        for (size_t r = 0; r < rows; r++) {
            int32_t *x = ids[side] + r * len, *y = targets[side] + r * len;
            for (size_t i = 0; i < len; i++)
                y[i] = i + 1 < len && mask[r * len + i + 1] ? x[i + 1] : -1;
            examples[2 * r + (size_t)side] = (zamba_example){x, y, len, (int32_t)(2 * r) + side};
        }
        free(mask);
    }
    const zamba_data_batch b = {.examples = examples, .n_examples = 4, .n_rows = 2};
    gradient_check c = {&g, golden_tolerance(model, "grad_rel_l2"), 0};
    CHECK_OK(zamba_trainer_gradients(t, &b, check_gradient, &c, &loss, &err), err);
    assert_true(c.seen > 10);
    assert_true(fabs(loss - (double)*(const float *)golden_get(&g, "loss")->data) <=
                golden_tolerance(model, "loss_abs"));
    const float *want[] = {golden_get(&g, "logp.policy.chosen")->data, golden_get(&g, "logp.policy.rejected")->data,
                           golden_get(&g, "logp.reference.chosen")->data,
                           golden_get(&g, "logp.reference.rejected")->data, golden_get(&g, "logit")->data};
    for (size_t i = 0; i < 2; i++) {
        const double got[] = {t->pairs[i].chosen, t->pairs[i].rejected, t->pairs[i].chosen_ref,
                              t->pairs[i].rejected_ref, t->pairs[i].h};
        for (size_t k = 0; k < 5; k++)
            if (!(fabs(got[k] - (double)want[k][i]) <= 2e-3))
                fail_msg("pair %zu, number %zu: %.6f, wanted %.6f", i, k, got[k], (double)want[k][i]);
    }
    /* what the reference said is remembered; a step moves the margin the right way */
    assert_int_equal(t->reference.n_known, 4);
    zamba_train_metrics first, later;
    CHECK_OK(zamba_trainer_step(t, &b, &first, &err), err);
    assert_true(fabs(first.loss - loss) < 1e-6);
    assert_true(fabs(first.margin - (first.chosen_reward - first.rejected_reward)) < 1e-12);
    CHECK_OK(zamba_trainer_step(t, &b, &later, &err), err);
    assert_true(later.loss < first.loss && later.margin > first.margin);
    assert_int_equal(t->reference.n_known, 4);
    for (int side = 0; side < 2; side++) {
        free(ids[side]);
        free(targets[side]);
    }
    golden_close(&g);
    zamba_trainer_close(t);
}

/* ---- the same step in other pieces ---- */

typedef struct small {
    scratch s;
    const char *model;
} small;

static void open_small(small *u)
{
    zamba_error err;
    scratch_open(&u->s);
    scratch_text(&u->s, "config.json", fixture_config);
    u->model = scratch_path(&u->s, "model");
    CHECK_OK(zamba_model_init(scratch_path(&u->s, "config.json"), NULL, scratch_path(&u->s, "model"), NULL, &err), err);
}

static zamba_trainer *small_trainer(const small *u, const zamba_train_options *o)
{
    return fixture_trainer(scratch_path(&u->s, "model"), o);
}

static void test_pieces(void **state)
{
    (void)state;
    small u;
    fixture_batch all, parts[3];
    zamba_error err;
    zamba_train_metrics m;
    open_small(&u);
    zamba_train_options o = fixture_options();
    fixture_random(&all, 6, 30, 61, 3);
    for (size_t i = 0; i < 3; i++)
        fixture_fill(&parts[i], all.ids + i * 60, all.ids + i * 60, 2, 30);
    zamba_trainer *whole = small_trainer(&u, &o);
    o.micro_tokens = 64; /* two rows at a time */
    zamba_trainer *pieces = small_trainer(&u, &o);
    o.accumulate = 3;
    zamba_trainer *added = small_trainer(&u, &o);
    for (int step = 0; step < 3; step++) {
        const zamba_train_metrics a = fixture_step(whole, &all), b = fixture_step(pieces, &all);
        for (size_t i = 0; i < 3; i++) {
            CHECK_OK(zamba_trainer_step(added, &parts[i].batch, &m, &err), err);
            assert_int_equal(m.step, i < 2 ? 0 : step + 1);
        }
        assert_true(fabs(a.loss - b.loss) < 2e-5 && fabs(a.grad_norm - b.grad_norm) < 1e-4 * a.grad_norm);
        assert_true(fabs(a.loss - m.loss) < 2e-5 && a.tokens == m.tokens && a.tokens == (uint64_t)(step + 1) * 180);
    }
    /* the same pieces in the same order are the same bits */
    assert_memory_equal(pieces->params.value, added->params.value, added->params.floats * sizeof(float));
    check_close(whole->params.value, added->params.value, added->params.floats, 2e-3, "weights");
    CHECK_OK(zamba_trainer_step(added, &parts[0].batch, &m, &err), err);
    check_refused(zamba_trainer_save(added, u.s.path, ZAMBA_SAVE_AUTO, 0, NULL, NULL, &err), &err, ZAMBA_E_ARG, "half",
                  NULL);
    fixture_free(&all);
    for (size_t i = 0; i < 3; i++)
        fixture_free(&parts[i]);
    zamba_trainer_close(whole);
    zamba_trainer_close(pieces);
    zamba_trainer_close(added);
    scratch_close(&u.s);
}

static void test_threads(void **state)
{
    (void)state;
    small u;
    fixture_batch b;
    open_small(&u);
    fixture_random(&b, 5, 33, 61, 4);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        zamba_train_options o = fixture_options();
        o.bf16 = bf16;
        o.n_threads = 1;
        zamba_trainer *one = small_trainer(&u, &o);
        o.n_threads = 3;
        zamba_trainer *three = small_trainer(&u, &o);
        o.checkpoint_activations = 1;
        zamba_trainer *frugal = small_trainer(&u, &o);
        for (int step = 0; step < 3; step++) {
            const zamba_train_metrics a = fixture_step(one, &b), c = fixture_step(three, &b),
                                      d = fixture_step(frugal, &b);
            assert_true(a.loss == c.loss && a.grad_norm == c.grad_norm && a.loss == d.loss);
        }
        assert_memory_equal(one->params.value, three->params.value, one->params.floats * sizeof(float));
        assert_true(zamba_trainer_bytes(frugal) < zamba_trainer_bytes(three));
        zamba_trainer_close(one);
        zamba_trainer_close(three);
        zamba_trainer_close(frugal);
    }
    fixture_free(&b);
    scratch_close(&u.s);
}

/* A few rows are learned by heart, in f32 and in bf16. */
static void test_learns(void **state)
{
    (void)state;
    small u;
    fixture_batch b;
    open_small(&u);
    fixture_random(&b, 4, 24, 61, 5);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        zamba_train_metrics first = {0}, last = {0};
        zamba_train_options o = fixture_options();
        o.bf16 = bf16;
        o.learning_rate = 1e-2;
        o.warmup_steps = 5;
        o.z_loss = 1e-4;
        zamba_trainer *t = small_trainer(&u, &o);
        for (int step = 0; step < 60; step++) {
            last = fixture_step(t, &b);
            first = step == 0 ? last : first;
        }
        if (!(fabs(first.loss - log(61)) < 0.7 && last.loss < 0.3 * first.loss))
            fail_msg("bf16 %d: loss %.4f became %.4f", bf16, first.loss, last.loss);
        assert_true(isnan(last.accuracy) && isnan(last.divergence));
        zamba_trainer_close(t);
    }
    fixture_free(&b);
    scratch_close(&u.s);
}

/* ---- steps that are not made ---- */

static void test_skipped(void **state)
{
    (void)state;
    small u;
    fixture_batch b;
    zamba_error err;
    zamba_train_metrics m;
    open_small(&u);
    fixture_random(&b, 2, 20, 61, 6);
    zamba_train_options o = fixture_options();
    o.most_skipped = 2;
    o.spike_factor = 1.5;
    zamba_trainer *t = small_trainer(&u, &o);
    fixture_step(t, &b);
    const size_t n = t->params.floats * sizeof(float);
    float *weights = malloc(n);
    assert_non_null(weights);
    const float kept = t->params.value[0];
    t->params.value[0] = NAN; /* of the embedding: id 0 stands in a row, and in the head */
    zb_params_changed(&t->params);
    memcpy(weights, t->params.value, n);
    m = fixture_step(t, &b);
    assert_true(m.skipped && !isfinite(m.loss) && m.step == 2);
    assert_memory_equal(weights, t->params.value, n);
    assert_int_equal(t->optimizer.updates, 1);
    check_refused(zamba_trainer_step(t, &b.batch, &m, &err), &err, ZAMBA_E_ARG, "in a row", "learning rate", NULL);
    assert_true(m.skipped && m.step == 3);
    t->params.value[0] = kept;
    zb_params_changed(&t->params);
    m = fixture_step(t, &b);
    assert_true(!m.skipped && t->skipped == 0);
    /* a spike: nothing is said before the mean is known */
    t->mean_loss = 0.1 * m.loss;
    t->mean_weight = 1;
    m = fixture_step(t, &b);
    assert_true(!m.skipped);
    t->step = 50;
    t->mean_loss = 0.1 * m.loss;
    t->mean_weight = 1;
    m = fixture_step(t, &b);
    assert_true(m.skipped && isfinite(m.loss));
    free(weights);
    fixture_free(&b);
    zamba_trainer_close(t);
    scratch_close(&u.s);
}

/* ---- a teacher ---- */

static void test_teacher(void **state)
{
    (void)state;
    small u;
    fixture_batch b;
    zamba_error err;
    open_small(&u);
    fixture_random(&b, 3, 20, 61, 7);
    /* who is his own teacher diverges by nothing, and learns less from the targets */
    zamba_train_options o = fixture_options();
    zamba_trainer *plain = small_trainer(&u, &o);
    o.teacher = scratch_path(&u.s, "model");
    o.distill_alpha = 0.25;
    zamba_trainer *taught = small_trainer(&u, &o);
    const zamba_train_metrics a = fixture_step(plain, &b), c = fixture_step(taught, &b);
    assert_true(fabs(a.loss - c.loss) < 1e-5);
    assert_true(fabs(c.divergence) < 1e-6);
    assert_true(fabs(c.grad_norm - 0.75 * a.grad_norm) < 1e-3 * a.grad_norm);
    zamba_trainer_close(plain);
    zamba_trainer_close(taught);
    /* another one is followed */
    zamba_init_options io = zamba_init_defaults();
    io.seed = 99;
    CHECK_OK(zamba_model_init(scratch_path(&u.s, "config.json"), NULL, scratch_path(&u.s, "other"), &io, &err), err);
    o.teacher = scratch_path(&u.s, "other");
    o.distill_alpha = 1;
    o.learning_rate = 5e-3;
    taught = small_trainer(&u, &o);
    zamba_train_metrics first = {0}, last = {0};
    for (int step = 0; step < 30; step++) {
        last = fixture_step(taught, &b);
        first = step == 0 ? last : first;
    }
    assert_true(first.divergence > 0 && last.divergence < 0.5 * first.divergence);
    zamba_trainer_close(taught);
    zamba_trainer *none = NULL;
    o.teacher = GOLDEN_DIR "/zamba1-tiny";
    check_refused(zamba_trainer_open(&none, scratch_path(&u.s, "model"), &o, &err), &err, ZAMBA_E_MISMATCH,
                  "vocabulary", "288", "61", NULL);
    fixture_free(&b);
    scratch_close(&u.s);
}

/* ---- held-out data ---- */

static void test_evaluate(void **state)
{
    (void)state;
    small u;
    zamba_error err;
    uint16_t ids[400];
    open_small(&u);
    for (size_t i = 0; i < 400; i++)
        ids[i] = (uint16_t)(3 + (i * i + 7 * i) % 57);
    scratch_write(&u.s, "valid.u16", ids, sizeof ids);
    const zamba_data_source source = {scratch_path(&u.s, "valid.u16"), 1};
    zamba_data_options d = zamba_data_defaults(ZAMBA_DATA_TEXT);
    d.sources = &source;
    d.n_sources = 1;
    d.sequence_length = 40;
    d.batch_size = 3;
    d.once = 1;
    d.n_vocab = 61;
    zamba_tokenizer *tokenizer = NULL;
    zamba_dataset *valid = NULL;
    CHECK_OK(zamba_tokenizer_open(&tokenizer, "models/starter-zamba2", &err), err);
    CHECK_OK(zamba_dataset_open(&valid, &d, tokenizer, NULL, &err), err);
    zamba_train_options o = fixture_options();
    zamba_trainer *t = small_trainer(&u, &o);
    zamba_train_evaluation a = {.size = sizeof a}, b = {.size = sizeof b}, part = {.size = sizeof part};
    CHECK_OK(zamba_trainer_evaluate(t, valid, 0, &a, &err), err);
    CHECK_OK(zamba_trainer_evaluate(t, valid, 0, &b, &err), err);
    CHECK_OK(zamba_trainer_evaluate(t, valid, 100, &part, &err), err);
    assert_true(a.loss == b.loss && a.targets == b.targets && a.targets == 399);
    assert_true(part.targets < a.targets && part.targets > 50);
    assert_true(fabs(a.loss - log(61)) < 0.7 && a.bytes_per_token == 0 && isnan(a.accuracy));
    for (size_t i = 0; i < t->params.floats; i++)
        assert_true(t->params.grad[i] == 0);
    a.size = 3;
    check_refused(zamba_trainer_evaluate(t, valid, 0, &a, &err), &err, ZAMBA_E_ARG, "size", NULL);
    zamba_trainer_close(t);
    zamba_dataset_close(valid);
    zamba_tokenizer_close(tokenizer);
    scratch_close(&u.s);
}

/* ---- refusals ---- */

static void refuse_options(const small *u, zamba_train_options o, const char *word)
{
    zamba_error err;
    zamba_trainer *t = NULL;
    check_refused(zamba_trainer_open(&t, scratch_path(&u->s, "model"), &o, &err), &err, ZAMBA_E_ARG, word, NULL);
    assert_null(t);
}

#define REFUSE(change, word)                                                                                           \
    do {                                                                                                               \
        zamba_train_options o = fixture_options();                                                                     \
        change;                                                                                                        \
        refuse_options(&u, o, word);                                                                                   \
    } while (0)

static void test_refused(void **state)
{
    (void)state;
    small u;
    zamba_error err;
    zamba_train_metrics m;
    fixture_batch b;
    open_small(&u);
    REFUSE(o.size = 1, "size");
    REFUSE(o.learning_rate = NAN, "learning rate");
    REFUSE(o.beta2 = 1, "betas");
    REFUSE(o.weight_decay = NAN, "weight decay");
    REFUSE(o.max_grad_norm = INFINITY, "gradient norm");
    REFUSE(o.accumulate = 0, "batches");
    REFUSE(o.sequence_length = 1, "sequences");
    REFUSE(o.sequence_length = 129, "max_position_embeddings");
    REFUSE(o.most_skipped = 0, "skipped");
    REFUSE(o.objective = (zamba_objective)7, "objective");
    REFUSE((o.objective = ZAMBA_OBJECTIVE_DPO, o.dpo_beta = 0), "beta");
    REFUSE((o.teacher = "x", o.distill_temperature = NAN), "temperature");
    REFUSE((o.teacher = "x", o.objective = ZAMBA_OBJECTIVE_DPO), "teacher");
    const zamba_train_options o = fixture_options();
    zamba_trainer *t = small_trainer(&u, &o);
    fixture_random(&b, 2, 41, 61, 8);
    check_refused(zamba_trainer_step(t, &b.batch, &m, &err), &err, ZAMBA_E_ARG, "41", "40", NULL);
    fixture_free(&b);
    fixture_random(&b, 2, 40, 61, 8);
    b.ids[5] = 61;
    check_refused(zamba_trainer_step(t, &b.batch, &m, &err), &err, ZAMBA_E_MISMATCH, "61", "tokenizer", NULL);
    b.ids[5] = -1;
    check_refused(zamba_trainer_step(t, &b.batch, &m, &err), &err, ZAMBA_E_MISMATCH, "-1", NULL);
    b.ids[5] = 1;
    for (size_t i = 0; i < 80; i++)
        b.targets[i] = -1;
    check_refused(zamba_trainer_step(t, &b.batch, &m, &err), &err, ZAMBA_E_ARG, "nothing to learn", NULL);
    assert_int_equal(zamba_trainer_steps(t), 0);
    fixture_free(&b);
    zamba_trainer_close(t);
    /* halves of no pair */
    zamba_train_options d = fixture_options();
    d.objective = ZAMBA_OBJECTIVE_DPO;
    t = small_trainer(&u, &d);
    fixture_random(&b, 3, 20, 61, 9);
    check_refused(zamba_trainer_step(t, &b.batch, &m, &err), &err, ZAMBA_E_ARG, "pair", NULL);
    fixture_free(&b);
    zamba_trainer_close(t);
    check_refused(zamba_trainer_open(&t, scratch_path(&u.s, "nowhere"), &o, &err), &err, ZAMBA_E_NOT_FOUND, "nowhere",
                  NULL);
    scratch_close(&u.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_steps), cmocka_unit_test(test_masked),  cmocka_unit_test(test_dpo),
        cmocka_unit_test(test_pieces),    cmocka_unit_test(test_threads), cmocka_unit_test(test_learns),
        cmocka_unit_test(test_skipped),   cmocka_unit_test(test_teacher), cmocka_unit_test(test_evaluate),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
