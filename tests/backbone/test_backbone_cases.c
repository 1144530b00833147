/* test_backbone_cases.c — the frame model against its plain-torch reference: every form's outputs at every position,
 * streamed outputs, the state after the last frame, counts; the same in bf16 and in bytes, with wider bounds. More
 * cases are taken from the folder that ZAMBA_BACKBONE_CASES names. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/backbone.h"
#include "io/json.h"
#include "support/backbone_case.h"

static void check_counts(const bb_case *c)
{
    zamba_error err;
    int64_t n;
    zamba_backbone_comparison jamba = {.size = sizeof jamba};
    CHECK_OK(zamba_backbone_param_count(&c->o, &n, &err), err);
    assert_int_equal(n, json_integer_value(json_object_get(c->json, "documented_param_count")));
    CHECK_OK(zamba_backbone_exact_count(&c->o, &n, &err), err);
    assert_int_equal(n, json_integer_value(json_object_get(c->json, "exact_param_count")));
    CHECK_OK(zamba_backbone_compare_to_jamba(&c->o, &jamba, &err), err);
    const json_t *want = json_object_get(c->json, "compare_to_jamba");
    assert_int_equal(jamba.zamba_params, json_integer_value(json_object_get(want, "zamba_params")));
    assert_int_equal(jamba.jamba_params, json_integer_value(json_object_get(want, "jamba_params")));
    assert_int_equal(jamba.savings, json_integer_value(json_object_get(want, "savings")));
    assert_true(jamba.savings_percent == json_number_value(json_object_get(want, "savings_percent")));
    assert_int_equal(zamba_backbone_output_size(&c->o), json_integer_value(json_object_get(c->json, "output_size")));
    assert_int_equal(zamba_backbone_state_bytes(&c->o), json_integer_value(json_object_get(c->json, "state_bytes")));
    zamba_backbone_layer layers[64];
    CHECK_OK(zamba_backbone_layer_pattern(&c->o, layers, 64, &err), err);
    const json_t *pattern = json_object_get(c->json, "layer_pattern");
    assert_int_equal(json_array_size(pattern), c->o.num_layers);
    for (size_t i = 0; i < json_array_size(pattern); i++)
        assert_string_equal(zamba_backbone_layer_name(layers[i]), json_string_value(json_array_get(pattern, i)));
}

/* Outputs of forward and of a batch stream within tol; both the same bits. */
static void check_outputs(const bb_case *c, zamba_backbone_weights weights, int threads, double tol, double mean_tol)
{
    zamba_error err;
    const size_t B = c->batch, L = c->seq, H = (size_t)c->o.hidden_size, E = (size_t)c->o.embed_dim;
    zamba_backbone *b = bb_case_open(c, weights, threads);
    float *all = calloc(B * L * H, sizeof *all), *last = calloc(B * H, sizeof *last);
    const zb_tensor *want = bb_case_get(&c->outputs, "every");
    CHECK_OK(zamba_backbone_forward(b, c->frames, B, L, ZAMBA_BACKBONE_ALL, all, &err), err);
    CHECK_OK(zamba_backbone_forward(b, c->frames, B, L, ZAMBA_BACKBONE_LAST, last, &err), err);
    double most = 1, worst = 0, sum = 0;
    for (size_t i = 0; i < B * L * H; i++) {
        const float w = ((const float *)want->data)[i];
        const double d = fabs((double)all[i] - (double)w);
        most = fmax(most, fabs((double)w));
        worst = fmax(worst, d);
        sum += d;
    }
    print_message("%-14s weights %d: worst %.2e, mean %.2e, of %.2f\n", c->name, (int)weights, worst,
                  sum / (double)(B * L * H), most);
    if (!(worst <= tol * most) || !(sum / (double)(B * L * H) <= mean_tol * most))
        fail_msg("%s: outputs differ by %g (mean %g), allowed %g (%g)", c->name, worst, sum / (double)(B * L * H),
                 tol * most, mean_tol * most);
    for (size_t i = 0; i < B; i++)
        assert_memory_equal(last + i * H, all + ((i + 1) * L - 1) * H, H * sizeof(float));
    zamba_backbone_stream *s = NULL;
    const zamba_status st = zamba_backbone_stream_open(&s, b, B, &err);
    if (c->o.block == ZAMBA_BACKBONE_GATED) {
        assert_int_equal(st, ZAMBA_E_UNSUPPORTED);
        assert_non_null(strstr(err.message, "cannot stream"));
        assert_int_equal(zamba_backbone_stream_bytes(b, B), 0);
        assert_int_equal(zamba_backbone_snapshot_bytes(b), 0);
    } else {
        CHECK_OK(st, err);
        float *frames = calloc(B * E, sizeof *frames), *out = calloc(B * H, sizeof *out);
        for (size_t t = 0; t < L; t++) {
            for (size_t i = 0; i < B; i++)
                memcpy(frames + i * E, c->frames + (i * L + t) * E, E * sizeof(float));
            CHECK_OK(zamba_backbone_step(s, frames, out, &err), err);
            for (size_t i = 0; i < B; i++)
                assert_memory_equal(out + i * H, all + (i * L + t) * H, H * sizeof(float));
        }
        if (weights == ZAMBA_BACKBONE_F32)
            bb_case_check_state(c, b, s, tol);
        free(frames);
        free(out);
    }
    zamba_backbone_stream_close(s);
    zamba_backbone_close(b);
    free(all);
    free(last);
}

static void check_case(const char *folder, const char *name)
{
    bb_case c;
    bb_case_load(&c, folder, name);
    const double tol = json_number_value(json_object_get(json_object_get(c.json, "tolerance"), "outputs"));
    check_counts(&c);
    check_outputs(&c, ZAMBA_BACKBONE_F32, 1, tol, tol);
    check_outputs(&c, ZAMBA_BACKBONE_F32, 3, tol, tol);
    /* rounded weights: bounds that a wrong scale or a shifted row exceeds at once */
    check_outputs(&c, ZAMBA_BACKBONE_BF16, 1, 0.02, 0.003);
    check_outputs(&c, ZAMBA_BACKBONE_INT8, 1, 0.05, 0.006);
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
    check_folder("tests/backbone/fixtures", 8);
    if (getenv("ZAMBA_BACKBONE_CASES"))
        check_folder(getenv("ZAMBA_BACKBONE_CASES"), 1);
}

/* The pieces, one after the other, are the whole. */
static void test_pieces(void **state)
{
    (void)state;
    zamba_error err;
    bb_case c;
    bb_case_load(&c, "tests/backbone/fixtures", "one_head"); /* E = H and positions off: x begins as the frames */
    c.o.pos_encoding = ZAMBA_BACKBONE_POS_NONE;
    zamba_backbone *b = bb_case_open(&c, ZAMBA_BACKBONE_F32, 1);
    const size_t n = c.seq * (size_t)c.o.hidden_size;
    float *x = malloc(n * sizeof *x), *want = malloc(n * sizeof *want);
    memcpy(x, c.frames, n * sizeof *x);
    for (int i = 0; i < c.o.num_layers; i++) {
        CHECK_OK(zamba_backbone_build_mamba_layer(b, i, x, 1, c.seq, x, &err), err);
        CHECK_OK(zamba_backbone_apply_shared_attention(b, i, x, 1, c.seq, x, &err), err);
    }
    const zb_bb_norm *last = &b->plan.final_norm;
    zb_bb_norm_rows(x, x, c.seq, b->plan.H, b->params + last->w, b->params + last->b);
    CHECK_OK(zamba_backbone_forward(b, c.frames, 1, c.seq, ZAMBA_BACKBONE_ALL, want, &err), err);
    assert_memory_equal(x, want, n * sizeof *x);
    assert_int_equal(zamba_backbone_build_mamba_layer(b, 3, x, 1, c.seq, x, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_backbone_build_mamba_layer(b, -1, x, 1, c.seq, x, &err), ZAMBA_E_ARG);
    free(x);
    free(want);
    zamba_backbone_close(b);
    bb_case_free(&c);

    bb_case_load(&c, "tests/backbone/fixtures", "nexus_ffn");
    b = bb_case_open(&c, ZAMBA_BACKBONE_F32, 1);
    float y[16] = {0};
    assert_int_equal(zamba_backbone_build_mamba_layer(b, 2, y, 1, 1, y, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_backbone_apply_shared_attention(b, 1, y, 1, 1, y, &err), ZAMBA_E_ARG);
    CHECK_OK(zamba_backbone_apply_shared_attention(b, 2, y, 1, 1, y, &err), err);
    zamba_backbone_close(b);
    bb_case_free(&c);
}

/* The numbers that the specification states. */
static void test_stated_numbers(void **state)
{
    (void)state;
    zamba_error err;
    int64_t n;
    zamba_backbone_options o = zamba_backbone_recommended_defaults();
    zamba_backbone_comparison jamba = {.size = sizeof jamba};
    o.embed_dim = 287;
    CHECK_OK(zamba_backbone_param_count(&o, &n, &err), err);
    assert_int_equal(n, 3428096);
    CHECK_OK(zamba_backbone_exact_count(&o, &n, &err), err);
    assert_int_equal(n, 3435808);
    assert_int_equal(zamba_backbone_state_bytes(&o), 479232);
    CHECK_OK(zamba_backbone_compare_to_jamba(&o, &jamba, &err), err);
    assert_int_equal(jamba.jamba_params, 4214528);
    assert_int_equal(jamba.savings, 786432);
    assert_true(jamba.savings_percent == 18.7);
    assert_int_equal(jamba.clamped, 0);
    o.num_layers = 12;
    o.attention_every = 6;
    CHECK_OK(zamba_backbone_compare_to_jamba(&o, &jamba, &err), err);
    assert_int_equal(jamba.zamba_params, 5996288);
    assert_int_equal(jamba.jamba_params, 6782720);
    assert_true(jamba.savings_percent == 11.6);
    o.attention_every = 13; /* none at all: the formula would be negative */
    CHECK_OK(zamba_backbone_compare_to_jamba(&o, &jamba, &err), err);
    assert_int_equal(jamba.savings, 0);
    assert_int_equal(jamba.clamped, 1);
    assert_true(jamba.savings_percent == 0);
    o.heads = zamba_backbone_controller_heads();
    o.n_heads = ZAMBA_BACKBONE_CONTROLLER_HEADS;
    assert_int_equal(zamba_backbone_logit_size(&o), 81);
    assert_int_equal(zamba_backbone_target_size(&o, ZAMBA_BACKBONE_LOSS_HEADS), 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_pieces),
                                       cmocka_unit_test(test_stated_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
