/* test_model_init.c — new models: the distributions of their weights, the same for a seed, files, refusals. */
#include <math.h>

#include "trainer_fixture.h"

typedef struct spread {
    double mean, deviation, least, greatest;
} spread;

static spread spread_of(const zamba_model *m, zb_role role)
{
    double sum = 0, squares = 0, n = 0;
    spread s = {.least = 1e30, .greatest = -1e30};
    for (size_t i = 0; i < m->plan.n_specs; i++)
        for (size_t k = 0; m->plan.specs[i].role == role && k < zb_spec_elements(&m->plan.specs[i]); k++) {
            const double x = (double)((const float *)m->weights.bound[i]->data)[k];
            sum += x;
            squares += x * x;
            n++;
            s.least = x < s.least ? x : s.least;
            s.greatest = x > s.greatest ? x : s.greatest;
        }
    assert_true(n > 0);
    s.mean = sum / n;
    s.deviation = sqrt(squares / n - s.mean * s.mean);
    return s;
}

static void near(double got, double want, double within, const char *what)
{
    if (!(fabs(got - want) <= within))
        fail_msg("%s: %g, wanted %g", what, got, want);
}

static zamba_model *make(const scratch *s, const char *name, const char *config, zamba_init_scheme scheme,
                         uint64_t seed)
{
    zamba_error err;
    zamba_model *m = NULL;
    zamba_init_options o = zamba_init_defaults();
    zamba_model_options mo = zamba_model_defaults();
    o.scheme = scheme;
    o.seed = seed;
    mo.n_threads = 1;
    scratch_text(s, "config.json", config);
    CHECK_OK(zamba_model_init(scratch_path(s, "config.json"), NULL, scratch_path(s, name), &o, &err), err);
    CHECK_OK(zamba_model_open(&m, scratch_path(s, name), &mo, &err), err);
    return m;
}

static void check_fixed(const zamba_model *m)
{
    const zb_role ones[] = {ZB_FINAL_NORM, ZB_INPUT_NORM, ZB_ATTN_NORM, ZB_FFN_NORM, ZB_D};
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++) {
        const spread s = spread_of(m, ones[i]);
        assert_true(s.least == 1 && s.greatest == 1);
    }
    const spread bias = spread_of(m, ZB_CONV_BIAS), dt = spread_of(m, ZB_DT_BIAS), a = spread_of(m, ZB_A_LOG);
    assert_true(bias.least == 0 && bias.greatest == 0);
    /* softplus(bias) from 0.001 to 0.1 */
    assert_true(log1p(exp(dt.least)) >= 0.999e-3 && log1p(exp(dt.greatest)) <= 0.1001 && dt.deviation > 0.5);
    assert_true(a.least == 0 && a.greatest > 1);
}

static void test_scaled(void **state)
{
    (void)state;
    scratch s;
    scratch_open(&s);
    zamba_model *m = make(&s, "a", fixture_config, ZAMBA_INIT_SCALED, 1);
    check_fixed(m);
    near(spread_of(m, ZB_EMBED).deviation, 0.04, 0.002, "embedding");
    near(spread_of(m, ZB_IN_PROJ).deviation, 1 / sqrt(32.0), 0.005, "in_proj");
    near(spread_of(m, ZB_OUT_PROJ).deviation, 1 / sqrt(64.0) / sqrt(8.0), 0.003, "out_proj");
    near(spread_of(m, ZB_LINEAR).deviation, 1 / sqrt(32.0) / sqrt(8.0), 0.005, "linear");
    near(spread_of(m, ZB_DOWN).deviation, 1 / sqrt(48.0) / sqrt(8.0), 0.005, "down");
    const spread conv = spread_of(m, ZB_CONV);
    assert_true(conv.least > -0.5 && conv.greatest < 0.5 && conv.deviation > 0.27 && conv.deviation < 0.31);
    near(spread_of(m, ZB_A_LOG).greatest, log(4), 1e-6, "A_log of the last head");
    zamba_model_close(m);
    m = make(&s, "b", tiny_odd1, ZAMBA_INIT_SCALED, 1); /* Mamba-1 */
    check_fixed(m);
    near(spread_of(m, ZB_A_LOG).greatest, log(3), 1e-6, "A_log of the last state");
    zamba_model_close(m);
    scratch_close(&s);
}

static void test_transformers(void **state)
{
    (void)state;
    scratch s;
    scratch_open(&s);
    char config[2048];
    snprintf(config, sizeof config, "{\"pad_token_id\": 0, %s", fixture_config + 1);
    zamba_model *m = make(&s, "a", config, ZAMBA_INIT_TRANSFORMERS, 1);
    check_fixed(m);
    const zb_role alike[] = {ZB_EMBED, ZB_IN_PROJ, ZB_OUT_PROJ, ZB_LINEAR, ZB_DOWN, ZB_Q, ZB_CONV};
    for (size_t i = 0; i < sizeof alike / sizeof *alike; i++)
        near(spread_of(m, alike[i]).deviation, 0.02, 0.002, "a matrix");
    const float *pad = m->weights.embed.data;
    for (size_t i = 0; i < 32; i++)
        assert_true(pad[i] == 0);
    zamba_model_close(m);
    scratch_close(&s);
}

static void test_seeds(void **state)
{
    (void)state;
    scratch s;
    size_t n, other;
    scratch_open(&s);
    zamba_model_close(make(&s, "a", fixture_config, ZAMBA_INIT_SCALED, 5));
    zamba_model_close(make(&s, "b", fixture_config, ZAMBA_INIT_SCALED, 5));
    zamba_model_close(make(&s, "c", fixture_config, ZAMBA_INIT_SCALED, 6));
    char *a = scratch_read(scratch_path(&s, "a/model.safetensors"), &n),
         *b = scratch_read(scratch_path(&s, "b/model.safetensors"), &other);
    assert_int_equal(n, other);
    assert_memory_equal(a, b, n);
    free(b);
    b = scratch_read(scratch_path(&s, "c/model.safetensors"), &other);
    assert_int_equal(n, other);
    assert_memory_not_equal(a, b, n);
    free(a);
    free(b);
    scratch_close(&s);
}

static void test_refused(void **state)
{
    (void)state;
    scratch s;
    zamba_error err;
    scratch_open(&s);
    scratch_text(&s, "config.json", fixture_config);
    char config[SCRATCH_PATH];
    snprintf(config, sizeof config, "%.400s/config.json", s.path);
    check_refused(zamba_model_init(config, "models/starter-zamba2", scratch_path(&s, "a"), NULL, &err), &err,
                  ZAMBA_E_MISMATCH, "4096", "61", NULL);
    assert_int_equal(zb_file_exists(scratch_path(&s, "a/config.json")), 0);
    CHECK_OK(zamba_model_init(config, NULL, scratch_path(&s, "a"), NULL, &err), err);
    check_refused(zamba_model_init(config, NULL, scratch_path(&s, "a"), NULL, &err), &err, ZAMBA_E_IO, "files in it",
                  NULL);
    check_refused(zamba_model_init(scratch_path(&s, "none.json"), NULL, scratch_path(&s, "b"), NULL, &err), &err,
                  ZAMBA_E_NOT_FOUND, "none.json", NULL);
    check_refused(zamba_model_init(config, scratch_path(&s, "nowhere"), scratch_path(&s, "b"), NULL, &err), &err,
                  ZAMBA_E_NOT_FOUND, "nowhere", NULL);
    check_refused(zamba_model_init(config, NULL, NULL, NULL, &err), &err, ZAMBA_E_ARG, "new model", NULL);
    const zamba_init_options wrong = {.size = 1};
    check_refused(zamba_model_init(config, NULL, scratch_path(&s, "b"), &wrong, &err), &err, ZAMBA_E_ARG, "size", NULL);
    scratch_text(&s, "config.json", "{\"model_type\": \"zamba2\", \"time_step_min\": 3, \"hidden_size\": 32}");
    zamba_status st = zamba_model_init(config, NULL, scratch_path(&s, "b"), NULL, &err);
    assert_true(st != ZAMBA_OK && strstr(err.message, "config.json") != NULL);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scaled), cmocka_unit_test(test_transformers),
                                       cmocka_unit_test(test_seeds), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
