/* test_backward.c — the way back of every kernel, in ref and in every other set, against PyTorch's gradients
 * (fixtures/backward.safetensors, made by reference/make_backward_fixtures.py in fp64 and stored as f32). Tolerances
 * are relative to the largest value of the array: TOL covers f32 rounding of a few operations and, for sums, of the
 * some hundred terms that occur here. Arrays that a kernel writes are filled with NaN before, those that it adds to
 * with zeros (that it does add is seen in test_backward_sets.c), scratch with NaN. */
#define FIXTURE "tests/kernels/fixtures/backward.safetensors"
#define TOL     1.5e-6
#include "kernels/fixture_arrays.h"

#define MAX_ARRAYS 24

/* The arrays of one case: those named are read, others made; all are freed together. */
typedef struct arrays {
    const char *kernel, *of_case;
    float *all[MAX_ARRAYS];
    size_t n;
} arrays;

static float *keep(arrays *a, float *p)
{
    assert_true(a->n < MAX_ARRAYS);
    return a->all[a->n++] = p;
}

static float *in(arrays *a, const char *name)
{
    return keep(a, copy_of(a->kernel, a->of_case, name));
}

static float *made(arrays *a, size_t n, float value)
{
    return keep(a, filled_block(n, value));
}

/* As large as the array of that name. */
static float *like(arrays *a, const char *name, float value)
{
    return made(a, find(a->kernel, a->of_case, name)->bytes / 4, value);
}

static size_t extent(const arrays *a, const char *name, int i)
{
    return dim(a->kernel, a->of_case, name, i);
}

static void check(const zb_kernels *k, const arrays *a, const float *got, const char *name)
{
    check_array(k, got, a->kernel, a->of_case, name);
}

static void done(arrays *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->all[i]);
    a->n = 0;
}

static void norms_of(const zb_kernels *k)
{
    arrays a = {.kernel = "rmsnorm", .of_case = "plain"};
    const size_t m = extent(&a, "x", 0), n = extent(&a, "x", 1);
    float *x = in(&a, "x"), *w = in(&a, "w"), *d = in(&a, "dy"), *dw = made(&a, n, 0);
    for (size_t i = 0; i < m; i++)
        k->rmsnorm_backward(d + i * n, dw, d + i * n, x + i * n, w, n, 1e-5f);
    check(k, &a, d, "dx");
    check(k, &a, dw, "dw");
    done(&a);
    static const struct {
        const char *name;
        size_t n;
    } groups[] = {{"1", 1}, {"2", 2}, {"5", 5}};
    for (int i = 0; i < 3; i++) {
        arrays g = {.kernel = "rmsnorm_gated", .of_case = groups[i].name};
        const size_t size = extent(&g, "y", 0);
        float *dy = in(&g, "dout"), *dz = made(&g, size, NAN), *dweight = made(&g, size, 0);
        k->rmsnorm_gated_backward(dy, dz, dweight, dy, in(&g, "y"), in(&g, "z"), in(&g, "w"), size, groups[i].n, 1e-5f);
        check(k, &g, dy, "dy");
        check(k, &g, dz, "dz");
        check(k, &g, dweight, "dw");
        done(&g);
    }
}

static void conv_of(const zb_kernels *k)
{
    static const char *const cases[] = {"plain", "short"};
    for (int i = 0; i < 2; i++) {
        arrays a = {.kernel = "conv1d_silu", .of_case = cases[i]};
        const size_t n = extent(&a, "x", 0), C = extent(&a, "x", 1), K = extent(&a, "w", 0), half = C / 2;
        float *x = in(&a, "x"), *w = in(&a, "w"), *b = in(&a, "b"), *dout = in(&a, "dout");
        float *dx = like(&a, "x", NAN), *dw = like(&a, "w", 0), *db = like(&a, "b", 0);
        k->conv1d_silu_backward(dx, C, dw, db, dout, C, x, C, 1, n, w, b, C, K, 0, half);
        k->conv1d_silu_backward(dx, C, dw, db, dout, C, x, C, 1, n, w, b, C, K, half, C);
        check(k, &a, dx, "dx");
        check(k, &a, dw, "dw");
        check(k, &a, db, "db");

        /* the same with another number between any two of a row */
        float *wide = made(&a, n * C * 2, 7), *dwide = made(&a, n * C * 2, 7);
        for (size_t j = 0; j < n * C; j++)
            wide[j * 2] = x[j];
        memset(dw, 0, K * C * 4);
        k->conv1d_silu_backward(dwide, 2 * C, dw, NULL, dout, C, wide, 2 * C, 2, n, w, b, C, K, 0, C);
        for (size_t j = 0; j < n * C; j++) {
            dx[j] = dwide[j * 2];
            assert_true(dwide[j * 2 + 1] == 7);
        }
        check(k, &a, dx, "dx");
        check(k, &a, dw, "dw");
        done(&a);
    }
}

static void softplus_of(const zb_kernels *k)
{
    arrays a = {.kernel = "dt_softplus", .of_case = "plain"};
    const size_t n = extent(&a, "raw", 0);
    float *d = in(&a, "ddt"), *out = made(&a, n, NAN);
    k->dt_softplus_backward(out, d, in(&a, "raw"), in(&a, "bias"), n, 0, INFINITY);
    check(k, &a, out, "draw");
    a.of_case = "limited";
    k->dt_softplus_backward(d, d, in(&a, "raw"), in(&a, "bias"), n, 0.01f, 5);
    check(k, &a, d, "draw");
    done(&a);
}

static void ssd_of(const zb_kernels *k)
{
    static const char *const cases[] = {"groups", "whole", "tails", "steep"};
    for (int i = 0; i < 4; i++) {
        arrays a = {.kernel = "ssd_chunk", .of_case = cases[i]};
        const zb_ssm_dims d = {extent(&a, "x", 1), extent(&a, "B", 1), extent(&a, "x", 2), extent(&a, "B", 2)};
        const size_t n = extent(&a, "x", 0), ld = d.heads * d.head_dim, ld_bc = d.groups * d.d_state;
        const size_t in_group = d.heads / d.groups;
        float *x = in(&a, "x"), *dt = in(&a, "dt"), *A = in(&a, "A"), *B = in(&a, "B"), *C = in(&a, "C");
        float *D = in(&a, "D"), *h = in(&a, "h"), *dy = in(&a, "dy"), *dh = in(&a, "dh_end");
        float *dx = like(&a, "x", NAN), *ddt = like(&a, "dt", NAN), *dA = like(&a, "A", 0), *dB = like(&a, "B", 0);
        float *dC = like(&a, "C", 0), *dD = like(&a, "D", 0), *scratch = made(&a, zb_ssd_backward_scratch(d), NAN);
        for (size_t j = 0; j < d.heads; j += in_group)
            k->ssd_chunk_backward(dx, ld, ddt, d.heads, dB, dC, ld_bc, dA, dD, dh, dy, ld, h, x, ld, dt, d.heads, A, B,
                                  C, ld_bc, D, n, d, j, j + in_group, scratch);
        check(k, &a, dx, "dx");
        check(k, &a, ddt, "ddt");
        check(k, &a, dA, "dA");
        check(k, &a, dB, "dB");
        check(k, &a, dC, "dC");
        check(k, &a, dD, "dD");
        check(k, &a, dh, "dh");
        k->ssd_state(h, x, ld, dt, d.heads, A, B, ld_bc, n, d, 0, d.heads, scratch);
        check(k, &a, h, "h_after");
        done(&a);
    }
}

static void mamba1_of(const zb_kernels *k)
{
    static const char *const cases[] = {"plain", "tails"};
    for (int i = 0; i < 2; i++) {
        arrays a = {.kernel = "mamba1_scan", .of_case = cases[i]};
        const size_t n = extent(&a, "x", 0), C = extent(&a, "x", 1), N = extent(&a, "A", 1);
        float *dx = like(&a, "x", NAN), *ddt = like(&a, "x", NAN), *dz = like(&a, "x", NAN), *dA = like(&a, "A", 0);
        float *dB = like(&a, "B", 0), *dC = like(&a, "C", 0), *dD = like(&a, "D", 0);
        float *scratch = made(&a, zb_scan_backward_scratch(n, N, C), NAN);
        k->mamba1_scan_backward(dx, C, ddt, C, dz, C, dB, dC, N, dA, dD, in(&a, "dy"), C, in(&a, "x"), C, in(&a, "dt"),
                                C, in(&a, "z"), C, 1, in(&a, "A"), in(&a, "B"), in(&a, "C"), N, in(&a, "D"), n, N, 0, C,
                                scratch);
        check(k, &a, dx, "dx");
        check(k, &a, ddt, "ddt");
        check(k, &a, dz, "dz");
        check(k, &a, dA, "dA");
        check(k, &a, dB, "dB");
        check(k, &a, dC, "dC");
        check(k, &a, dD, "dD");
        done(&a);
    }
}

static void rope_of(const zb_kernels *k)
{
    arrays a = {.kernel = "rope", .of_case = "plain"};
    const size_t n = extent(&a, "dy", 0), d = extent(&a, "dy", 1);
    float *dy = in(&a, "dy"), *c = in(&a, "cos"), *s = in(&a, "sin");
    for (size_t i = 0; i < n; i++)
        k->rope_backward(dy + i * d, c + i * d / 2, s + i * d / 2, d);
    check(k, &a, dy, "dx");
    done(&a);
}

static void attention_of(const zb_kernels *k)
{
    static const char *const cases[] = {"plain", "shared"};
    for (int i = 0; i < 2; i++) {
        arrays a = {.kernel = "attention", .of_case = cases[i]};
        const size_t heads = extent(&a, "q", 0), n = extent(&a, "q", 1), d = extent(&a, "q", 2);
        float *q = in(&a, "q"), *dout = in(&a, "dout"), *out = in(&a, "out"), *dq = like(&a, "q", NAN);
        zb_attn_backward b = {.dk = like(&a, "k", 0),
                              .dv = like(&a, "v", 0),
                              .ld_dq = d,
                              .ld_dkv = d,
                              .k = in(&a, "k"),
                              .v = in(&a, "v"),
                              .ld_q = d,
                              .ld_kv = d,
                              .ld_out = d,
                              .ld_dout = d,
                              .n = n,
                              .head_dim = d,
                              .scale = *in(&a, "scale"),
                              .scratch = made(&a, zb_attn_backward_scratch(n, d), NAN)};
        for (size_t j = 0; j < heads; j++) {
            b.q = q + j * n * d;
            b.dout = dout + j * n * d;
            b.out = out + j * n * d;
            b.dq = dq + j * n * d;
            k->attention_backward(&b);
        }
        check(k, &a, dq, "dq");
        check(k, &a, b.dk, "dk");
        check(k, &a, b.dv, "dv");
        done(&a);
    }
}

static void glu_of(const zb_kernels *k)
{
    static const struct {
        const char *name;
        zb_act act;
    } cases[] = {{"gelu", ZB_ACT_GELU}, {"silu", ZB_ACT_SILU}, {"gelu_tanh", ZB_ACT_GELU_TANH}, {"relu", ZB_ACT_RELU}};
    for (int i = 0; i < 4; i++) {
        arrays a = {.kernel = "glu", .of_case = cases[i].name};
        float *gate = in(&a, "gate"), *up = in(&a, "up");
        k->glu_backward(gate, up, in(&a, "dout"), gate, up, extent(&a, "gate", 0), cases[i].act);
        check(k, &a, gate, "dgate");
        check(k, &a, up, "dup");
        done(&a);
    }
}

static void cross_entropy_of(const zb_kernels *k)
{
    static const char *const cases[] = {"plain", "z"};
    for (int i = 0; i < 2; i++) {
        arrays a = {.kernel = "cross_entropy", .of_case = cases[i]};
        const size_t n = extent(&a, "logits", 0), target = (size_t)*in(&a, "target");
        float *logits = in(&a, "logits"), *before = in(&a, "logits"), lse = NAN;
        float log_p = k->cross_entropy(logits, n, target, 0, 0.5f, &lse);
        assert_memory_equal(logits, before, n * 4);
        check(k, &a, &lse, "lse");
        check(k, &a, &log_p, "log_p");
        log_p = k->cross_entropy(logits, n, target, *in(&a, "weight"), *in(&a, "z"), &lse);
        check(k, &a, &lse, "lse");
        check(k, &a, &log_p, "log_p");
        check(k, &a, logits, "dlogits");
        done(&a);
    }
}

static void adamw_of(const zb_kernels *k)
{
    arrays a = {.kernel = "adamw", .of_case = "three_steps"};
    const size_t steps = extent(&a, "grads", 0), n = extent(&a, "p", 0);
    float *p = in(&a, "p"), *g = in(&a, "grads"), *m = made(&a, n, 0), *v = made(&a, n, 0);
    for (size_t i = 0; i < steps; i++) {
        const zb_adamw o = {.lr = 1e-2f,
                            .b1 = 0.9f,
                            .b2 = 0.95f,
                            .eps = 1e-8f,
                            .decay = 0.1f,
                            .c1 = (float)(1 - pow(0.9, (double)i + 1)),
                            .c2 = (float)(1 - pow(0.95, (double)i + 1)),
                            .g_scale = 0.5f};
        k->adamw(p, m, v, g + i * n, n, &o);
    }
    check(k, &a, p, "p_after");
    check(k, &a, m, "m_after");
    check(k, &a, v, "v_after");
    done(&a);
}

TEST(norms)
TEST(conv)
TEST(softplus)
TEST(ssd)
TEST(mamba1)
TEST(rope)
TEST(attention)
TEST(glu)
TEST(cross_entropy)
TEST(adamw)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms),     cmocka_unit_test(test_conv),   cmocka_unit_test(test_softplus),
        cmocka_unit_test(test_ssd),       cmocka_unit_test(test_mamba1), cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention), cmocka_unit_test(test_glu),    cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_adamw),
    };
    if (!fixture_open())
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fixture_close();
    return failed;
}
