/* test_torch.c — ref, and every other set, against what PyTorch computes (fixtures/torch.safetensors, made by
 * reference/make_kernel_fixtures.py in fp64 and stored as f32). Tolerances are relative to the largest value of the
 * array: TOL covers f32 rounding of a few operations and, for sums, of the some hundred terms that occur here. */
#define FIXTURE "tests/kernels/fixtures/torch.safetensors"
#define TOL     1e-6
#include "kernels/fixture_arrays.h"

static void matmul_of(const zb_kernels *k)
{
    static const char *const cases[] = {"f32", "f16", "bf16"};
    for (int i = 0; i < 3; i++) {
        const zb_tensor *w = find("matmul", cases[i], "w");
        const size_t rows = w->shape[0], cols = w->shape[1], m = dim("matmul", cases[i], "x", 0);
        float *x = copy_of("matmul", cases[i], "x"), *y = block(m * rows * 4);
        void *data = block(w->bytes);
        memcpy(data, w->data, w->bytes);
        const zb_mat mat = {data, rows, cols, w->dtype, cols, NULL, 0};
        k->matmul(y, rows, x, cols, m, &mat, 0, rows, 0);
        check_array(k, y, "matmul", cases[i], "y");
        free(x);
        free(y);
        free(data);
    }
}

static void norms_of(const zb_kernels *k)
{
    const size_t m = dim("rmsnorm", "plain", "x", 0), n = dim("rmsnorm", "plain", "x", 1);
    float *x = copy_of("rmsnorm", "plain", "x"), *w = copy_of("rmsnorm", "plain", "w");
    for (size_t i = 0; i < m; i++)
        k->rmsnorm(x + i * n, x + i * n, w, n, 1e-5f);
    check_array(k, x, "rmsnorm", "plain", "y");
    static const struct {
        const char *name;
        size_t n;
    } groups[] = {{"1", 1}, {"2", 2}, {"5", 5}};
    for (int i = 0; i < 3; i++) {
        float *y = copy_of("rmsnorm_gated", groups[i].name, "y"), *z = copy_of("rmsnorm_gated", groups[i].name, "z");
        k->rmsnorm_gated(y, z, w, n, groups[i].n, 1e-5f);
        check_array(k, y, "rmsnorm_gated", groups[i].name, "out");
        free(y);
        free(z);
    }
    free(x);
    free(w);
}

static void conv_of(const zb_kernels *k)
{
    const size_t n = dim("conv1d_silu", "plain", "x", 0), C = dim("conv1d_silu", "plain", "x", 1);
    const size_t K = dim("conv1d_silu", "plain", "w", 0);
    float *x = copy_of("conv1d_silu", "plain", "x"), *w = copy_of("conv1d_silu", "plain", "w");
    float *b = copy_of("conv1d_silu", "plain", "b"), *state = copy_of("conv1d_silu", "plain", "state"),
          *y = block(n * C * 4);
    k->conv1d_silu(y, C, x, C, 1, n, state, w, b, C, K, 0, C);
    check_array(k, y, "conv1d_silu", "plain", "y");
    check_array(k, state, "conv1d_silu", "plain", "state_after");
    float *const all[] = {x, w, b, state, y};
    for (int i = 0; i < 5; i++)
        free(all[i]);
}

static void softplus_of(const zb_kernels *k)
{
    const size_t n = dim("dt_softplus", "plain", "raw", 0);
    float *raw = copy_of("dt_softplus", "plain", "raw"), *bias = copy_of("dt_softplus", "plain", "bias");
    float *dt = block(n * 4);
    k->dt_softplus(dt, raw, bias, n, 0, INFINITY);
    check_array(k, dt, "dt_softplus", "plain", "y");
    k->dt_softplus(dt, raw, bias, n, 0.01f, 5);
    check_array(k, dt, "dt_softplus", "limited", "y");
    free(raw);
    free(bias);
    free(dt);
}

/* Both forms of the recurrence: a chunk, and row by row. */
static void ssm_of(const zb_kernels *k)
{
    static const char *const cases[] = {"groups", "tails", "steep"};
    for (int i = 0; i < 3; i++) {
        const char *const c = cases[i];
        const zb_ssm_dims d = {dim("ssd_chunk", c, "x", 1), dim("ssd_chunk", c, "B", 1), dim("ssd_chunk", c, "x", 2),
                               dim("ssd_chunk", c, "B", 2)};
        const size_t n = dim("ssd_chunk", c, "x", 0), ld = d.heads * d.head_dim, ld_bc = d.groups * d.d_state;
        static const char *const names[] = {"x", "dt", "A", "B", "C", "D"};
        float *in[6], *y = block(n * ld * 4), *scratch = block(zb_ssd_scratch(d) * 4);
        for (int a = 0; a < 6; a++)
            in[a] = copy_of("ssd_chunk", c, names[a]);
        float *h = copy_of("ssd_chunk", c, "h");
        k->ssd_chunk(y, ld, h, in[0], ld, in[1], d.heads, in[2], in[3], in[4], ld_bc, in[5], n, d, 0, d.heads, scratch);
        check_array(k, y, "ssd_chunk", c, "y");
        check_array(k, h, "ssd_chunk", c, "h_after");
        free(h);
        h = copy_of("ssd_chunk", c, "h");
        for (size_t t = 0; t < n; t++)
            k->ssm_step(y + t * ld, h, in[0] + t * ld, in[1] + t * d.heads, in[2], in[3] + t * ld_bc, in[4] + t * ld_bc,
                        in[5], d, 0, d.heads);
        check_array(k, y, "ssd_chunk", c, "y");
        check_array(k, h, "ssd_chunk", c, "h_after");
        free(h);
        free(y);
        free(scratch);
        for (int a = 0; a < 6; a++)
            free(in[a]);
    }
}

static void mamba1_of(const zb_kernels *k)
{
    const size_t n = dim("mamba1_scan", "plain", "x", 0), C = dim("mamba1_scan", "plain", "x", 1);
    const size_t N = dim("mamba1_scan", "plain", "A", 1);
    static const char *const names[] = {"x", "dt", "z", "A", "B", "C", "D", "S"};
    float *in[8], *y = block(n * C * 4);
    for (int a = 0; a < 8; a++)
        in[a] = copy_of("mamba1_scan", "plain", names[a]);
    k->mamba1_scan(y, C, in[7], in[0], C, in[1], C, in[2], C, 1, in[3], in[4], in[5], N, in[6], n, N, 0, C);
    check_array(k, y, "mamba1_scan", "plain", "y");
    check_array(k, in[7], "mamba1_scan", "plain", "S_after");
    for (int a = 0; a < 8; a++)
        free(in[a]);
    free(y);
}

static void rope_of(const zb_kernels *k)
{
    const size_t n = dim("rope", "plain", "x", 0), d = dim("rope", "plain", "x", 1);
    float *x = copy_of("rope", "plain", "x"), *c = copy_of("rope", "plain", "cos"),
          *s = copy_of("rope", "plain", "sin");
    for (size_t i = 0; i < n; i++)
        k->rope(x + i * d, c + i * d / 2, s + i * d / 2, d);
    check_array(k, x, "rope", "plain", "y");
    free(x);
    free(c);
    free(s);
}

static void attention_of(const zb_kernels *k)
{
    static const char *const cases[] = {"prefill", "decode", "middle"};
    enum { PAGE = 32 };
    for (int i = 0; i < 3; i++) {
        const char *const c = cases[i];
        const size_t rows = dim("attention", c, "q", 0), d = dim("attention", c, "q", 1),
                     keys = dim("attention", c, "k", 0);
        float *q = copy_of("attention", c, "q"), *kk = copy_of("attention", c, "k"), *v = copy_of("attention", c, "v");
        float *scale = copy_of("attention", c, "scale"), *y = block(rows * d * 4);
        const void *kp[8], *vp[8];
        for (size_t p = 0; p * PAGE < keys; p++) {
            kp[p] = kk + p * PAGE * d;
            vp[p] = v + p * PAGE * d;
        }
        const zb_attn_args a = {.out = y,
                                .q = q,
                                .ld_out = d,
                                .ld_q = d,
                                .n_rows = rows,
                                .first_pos = keys - rows,
                                .key1 = keys,
                                .k_pages = kp,
                                .v_pages = vp,
                                .page_tokens = PAGE,
                                .head_dim = d,
                                .scale = *scale};
        attention_whole(k, &a);
        check_array(k, y, "attention", c, "y");
        float *const all[] = {q, kk, v, scale, y};
        for (int e = 0; e < 5; e++)
            free(all[e]);
    }
}

static void glu_of(const zb_kernels *k)
{
    static const struct {
        const char *name;
        zb_act act;
    } cases[] = {{"gelu", ZB_ACT_GELU}, {"silu", ZB_ACT_SILU}, {"gelu_tanh", ZB_ACT_GELU_TANH}, {"relu", ZB_ACT_RELU}};
    for (int i = 0; i < 4; i++) {
        float *gate = copy_of("glu", cases[i].name, "gate"), *up = copy_of("glu", cases[i].name, "up");
        k->glu(gate, gate, up, dim("glu", cases[i].name, "up", 0), cases[i].act);
        check_array(k, gate, "glu", cases[i].name, "y");
        free(gate);
        free(up);
    }
}

TEST(matmul)
TEST(norms)
TEST(conv)
TEST(softplus)
TEST(ssm)
TEST(mamba1)
TEST(rope)
TEST(attention)
TEST(glu)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul),   cmocka_unit_test(test_norms),     cmocka_unit_test(test_conv),
        cmocka_unit_test(test_softplus), cmocka_unit_test(test_ssm),       cmocka_unit_test(test_mamba1),
        cmocka_unit_test(test_rope),     cmocka_unit_test(test_attention), cmocka_unit_test(test_glu),
    };
    if (!fixture_open())
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fixture_close();
    return failed;
}
