/* test_dropout.c — what training leaves out: which numbers, how many, and on what that depends; through the trainer:
 * threads, pieces and stops change nothing. That gradients fit is golden/test_gradients.c's. */
#include <math.h>

#include "model/dropout.h"
#include "trainer_fixture.h"

#define MODEL GOLDEN_DIR "/zamba2-7b-tiny"

/* ---- the choices ---- */

enum { ROWS = 50, COLS = 201 };

static void test_share(void **state)
{
    (void)state;
    static const float shares[] = {0.1f, 0.5f, 0.9f};
    for (size_t s = 0; s < 3; s++) {
        size_t gone = 0;
        for (uint64_t token = 0; token < ROWS; token++) {
            float x[COLS], y[COLS];
            for (size_t c = 0; c < COLS; c++)
                x[c] = (float)(c + 1);
            zb_drop(y, x, 0, COLS, zb_drop_row(1, ZB_DROP_MIXER, 3, token), shares[s]);
            for (size_t c = 0; c < COLS; c++) {
                gone += y[c] == 0;
                assert_true(y[c] == 0 || fabsf(y[c] * (1 - shares[s]) - x[c]) < 1e-4f * x[c]);
            }
        }
        const double n = ROWS * COLS, p = (double)shares[s];
        assert_true(fabs((double)gone - p * n) < 4 * sqrt(n * p * (1 - p))); /* 4 standard deviations */
    }
}

/* In place, in pieces: the same; of another seed, place, layer or token: others. */
static void test_what_it_depends_on(void **state)
{
    (void)state;
    float x[COLS], whole[COLS], parts[COLS];
    for (size_t c = 0; c < COLS; c++)
        x[c] = parts[c] = 1;
    const uint64_t row = zb_drop_row(1, ZB_DROP_BLOCK, 2, 77);
    zb_drop(whole, x, 0, COLS, row, 0.5f);
    zb_drop(parts, parts, 64, COLS, row, 0.5f);
    zb_drop(parts, parts, 0, 64, row, 0.5f);
    assert_memory_equal(whole, parts, sizeof whole);
    const uint64_t others[] = {zb_drop_row(2, ZB_DROP_BLOCK, 2, 77), zb_drop_row(1, ZB_DROP_MIXER, 2, 77),
                               zb_drop_row(1, ZB_DROP_BLOCK, 3, 77), zb_drop_row(1, ZB_DROP_BLOCK, 2, 78)};
    for (size_t i = 0; i < 4; i++) {
        size_t same = 0;
        zb_drop(parts, x, 0, COLS, others[i], 0.5f);
        for (size_t c = 0; c < COLS; c++)
            same += (whole[c] == 0) == (parts[c] == 0);
        assert_in_range(same, COLS / 2 - 32, COLS / 2 + 32);
    }
}

/* ---- through the trainer ---- */

static zamba_train_options options_of(double hidden, double attention)
{
    zamba_train_options o = fixture_options();
    o.hidden_dropout = hidden;
    o.attention_dropout = attention;
    o.seed = 3;
    return o;
}

static double first_loss(const zamba_train_options *o, const fixture_batch *b, size_t steps)
{
    zamba_trainer *t = fixture_trainer(MODEL, o);
    double loss = 0;
    for (size_t i = 0; i < steps; i++)
        loss = fixture_step(t, b).loss;
    zamba_trainer_close(t);
    return loss;
}

static void test_pieces(void **state)
{
    (void)state;
    fixture_batch b;
    fixture_random(&b, 4, 20, 256, 3);
    b.examples[1].row = 0; /* two examples of one row */
    zamba_train_options o = options_of(0.2, 0.3), more = o;
    const double want = first_loss(&o, &b, 2);
    more.n_threads = 1;
    more.checkpoint_activations = 1;
    assert_true(first_loss(&more, &b, 2) == want);
    more.micro_tokens = 40;
    assert_true(fabs(first_loss(&more, &b, 2) - want) < 1e-4); /* only the order of the sums */
    more = o;
    more.seed++;
    assert_true(fabs(first_loss(&more, &b, 2) - want) > 1e-3);
    const zamba_train_options none = options_of(0, 0);
    assert_true(fabs(first_loss(&none, &b, 2) - want) > 1e-3);
    /* batches of one step are not alike either */
    zamba_train_options twice = options_of(0.2, 0.3);
    twice.accumulate = 2;
    assert_true(fabs(first_loss(&twice, &b, 2) - first_loss(&o, &b, 1)) > 1e-4);
    fixture_free(&b);
}

/* The config's, unless told otherwise; preferences are measured without. */
static void test_config(void **state)
{
    (void)state;
    scratch s;
    zamba_error err;
    fixture_batch b;
    scratch_open(&s);
    fixture_random(&b, 2, 20, 61, 4);
    char *config = strdup(fixture_config), *end = strrchr(config, '}');
    assert_non_null(end);
    zb_buf text = {0};
    static const char more[] = ", \"attention_dropout\": 0.3, \"hidden_dropout\": 0.1}";
    CHECK_OK(zb_buf_append(&text, config, (size_t)(end - config), &err), err);
    CHECK_OK(zb_buf_append(&text, more, strlen(more), &err), err);
    scratch_text(&s, "config.json", text.data);
    zb_buf_free(&text);
    free(config);
    CHECK_OK(zamba_model_init(scratch_path(&s, "config.json"), NULL, scratch_path(&s, "m"), NULL, &err), err);
    double loss[3], of_pairs[2];
    static const double asked[][2] = {{-1, -1}, {0.1, 0.3}, {0, 0}};
    for (size_t i = 0; i < 3; i++) {
        const zamba_train_options o = options_of(asked[i][0], asked[i][1]);
        zamba_trainer *t = fixture_trainer(scratch_path(&s, "m"), &o);
        loss[i] = fixture_step(t, &b).loss;
        zamba_trainer_close(t);
    }
    assert_true(loss[0] == loss[1] && loss[0] != loss[2]);
    for (size_t i = 0; i < 2; i++) {
        zamba_train_options o = options_of(asked[2 * i][0], asked[2 * i][1]);
        o.objective = ZAMBA_OBJECTIVE_DPO;
        zamba_trainer *t = fixture_trainer(scratch_path(&s, "m"), &o);
        of_pairs[i] = fixture_step(t, &b).loss;
        zamba_trainer_close(t);
    }
    assert_true(of_pairs[0] == of_pairs[1]);
    zamba_train_options o = options_of(1, 0);
    zamba_trainer *t;
    check_refused(zamba_trainer_open(&t, scratch_path(&s, "m"), &o, &err), &err, ZAMBA_E_ARG, "dropout of 1", NULL);
    o = options_of(0, NAN);
    check_refused(zamba_trainer_open(&t, scratch_path(&s, "m"), &o, &err), &err, ZAMBA_E_ARG, "dropout", NULL);
    fixture_free(&b);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_what_it_depends_on),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
