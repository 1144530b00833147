/* test_sets.c — every kernel of every set this CPU runs but attention against ref, on shapes with tails. ref sums in
 * double, so the differences are the set's own rounding.
 *
 * Tolerances: a sum of K products in f32 lanes is off by at most (K/lanes + log2 lanes) * 6e-8 of the sum of absolute
 * products, typically by its square root; TOL_SUM times that sum is the typical error with a factor of some ten to
 * spare at the lengths used here. TOL_UNIT is for results of size 1 made of a few operations and one exp (2e-7). */
#include "kernels/kernel_sets.h"

#define TOL_SUM  6e-7
#define TOL_UNIT 2e-6

static void each_set(void (*test)(const zb_kernels *k))
{
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t i = 1; i < n; i++)
        test(sets[i]);
}

/* ---- products ---- */

static void matmul_case(const zb_kernels *k, size_t m, size_t rows, size_t cols, zb_dtype t, int accumulate)
{
    const size_t ld_x = cols + 3, ld_y = rows + 5;
    float *x = random_block(m * ld_x, 1, -1, 1), *w = random_block(rows * cols, 2, -1, 1);
    void *stored = stored_block(w, rows * cols, t);
    const zb_mat mat = {stored, rows, cols, t, cols, NULL, 0};
    float *want = random_block(m * ld_y, 3, -1, 1), *got = copy_block(want, m * ld_y);
    const size_t row0 = rows > 4 ? 1 : 0, row1 = rows > 4 ? rows - 1 : rows;
    ref_set()->matmul(want, ld_y, x, ld_x, m, &mat, row0, row1, accumulate);
    k->matmul(got, ld_y, x, ld_x, m, &mat, row0, row1, accumulate);
    check_close(got, want, m * ld_y, TOL_SUM * (double)cols + 1e-6, "%s: matmul %zux%zux%zu %s", k->name, m, rows, cols,
                zb_dtype_name(t));
    free(x);
    free(w);
    free(stored);
    free(want);
    free(got);
}

static void matmul_of(const zb_kernels *k)
{
    static const size_t m[] = {1, 2, 3, 4, 5, 9}, rows[] = {1, 3, 7, 40}, cols[] = {1, 7, 16, 33, 64, 100, 515};
    for (size_t a = 0; a < 6; a++)
        for (size_t b = 0; b < 4; b++)
            for (size_t c = 0; c < 7; c++)
                for (zb_dtype t = 0; t < ZB_N_FLOATS; t++)
                    matmul_case(k, m[a], rows[b], cols[c], t, (int)(a + b + c) & 1);
    matmul_case(k, 6, 300, 2048, ZB_BF16, 0); /* several weight blocks */
    matmul_case(k, 6, 70, 2048, ZB_F32, 1);
}

static void test_matmul(void **state)
{
    (void)state;
    each_set(matmul_of);
}

/* Every f16 and bf16 number widens exactly: a product with a single 1. */
static void widen_of(const zb_kernels *k)
{
    for (zb_dtype t = ZB_F16; t <= ZB_BF16; t++) {
        uint16_t *w = block(65536 * 2);
        for (size_t i = 0; i < 65536; i++)
            w[i] = (uint16_t)i;
        const zb_mat mat = {w, 65536, 1, t, 1, NULL, 0};
        const float one = 1;
        float *got = block(65536 * 4);
        k->matmul(got, 65536, &one, 1, 1, &mat, 0, 65536, 0);
        for (size_t i = 0; i < 65536; i++) {
            const float want = t == ZB_F16 ? zb_f16_f32((uint16_t)i) : zb_bf16_f32((uint16_t)i);
            if (isnan(want) ? !isnan(got[i]) : got[i] != want)
                fail_msg("%s: %s %zx is %g, wanted %g", k->name, zb_dtype_name(t), i, (double)got[i], (double)want);
        }
        free(w);
        free(got);
    }
}

static void test_widening(void **state)
{
    (void)state;
    each_set(widen_of);
}

/* ---- rows ---- */

static void rows_of(const zb_kernels *k)
{
    const zb_kernels *ref = ref_set();
    static const size_t sizes[] = {1, 3, 16, 17, 63, 64, 65, 130, 1000};
    for (size_t i = 0; i < 9; i++) {
        const size_t n = sizes[i];
        float *x = random_block(n, 4, -3, 3), *w = random_block(n, 5, 0.5f, 1.5f), *z = random_block(n, 6, -8, 8);
        float *want = block(n * 4), *got = copy_block(x, n);
        ref->rmsnorm(want, x, w, n, 1e-5f);
        k->rmsnorm(got, got, w, n, 1e-5f);
        check_close(got, want, n, TOL_UNIT, "%s: rmsnorm of %zu", k->name, n);

        for (size_t groups = 1; groups <= 5; groups += 2)
            if (n % groups == 0) {
                memcpy(want, x, n * 4);
                memcpy(got, x, n * 4);
                ref->rmsnorm_gated(want, z, w, n, groups, 1e-5f);
                k->rmsnorm_gated(got, z, w, n, groups, 1e-5f);
                check_close(got, want, n, 2 * TOL_UNIT, "%s: gated norm of %zu in %zu groups", k->name, n, groups);
            }

        ref->dt_softplus(want, z, x, n, 0.001f, 9.0f);
        k->dt_softplus(got, z, x, n, 0.001f, 9.0f);
        check_close(got, want, n, 2 * TOL_UNIT, "%s: softplus of %zu", k->name, n);
        ref->dt_softplus(want, z, NULL, n, 0, INFINITY);
        memcpy(got, z, n * 4);
        k->dt_softplus(got, got, NULL, n, 0, INFINITY);
        check_close(got, want, n, 2 * TOL_UNIT, "%s: softplus of %zu, in place", k->name, n);

        for (zb_act act = ZB_ACT_GELU; act <= ZB_ACT_RELU; act++) {
            ref->glu(want, z, x, n, act);
            memcpy(got, z, n * 4);
            k->glu(got, got, x, n, act);
            check_close(got, want, n, 3 * TOL_UNIT, "%s: glu %d of %zu", k->name, (int)act, n);
        }

        memcpy(want, x, n * 4);
        memcpy(got, x, n * 4);
        ref->add(want, z, n);
        k->add(got, z, n);
        assert_memory_equal(got, want, n * 4);
        assert_true(k->read_sum(x, n * 4) == ref->read_sum(x, n * 4));
        free(x);
        free(w);
        free(z);
        free(want);
        free(got);
    }
    for (size_t d = 2; d <= 464; d = d * 3 + 2) {
        float *c = random_block(d / 2, 7, -1, 1), *s = random_block(d / 2, 8, -1, 1), *want = random_block(d, 9, -1, 1);
        float *got = copy_block(want, d);
        ref->rope(want, c, s, d);
        k->rope(got, c, s, d);
        check_close(got, want, d, 3e-7, "%s: rope of %zu", k->name, d);
        free(c);
        free(s);
        free(want);
        free(got);
    }
    unsigned char bytes[1003];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37);
    for (size_t from = 0; from < 3; from++)
        for (size_t n = 0; n + from <= sizeof bytes; n += 13)
            assert_true(k->read_sum(bytes + from, n) == ref->read_sum(bytes + from, n));
}

static void test_rows(void **state)
{
    (void)state;
    each_set(rows_of);
}

/* ---- mixers ---- */

static void conv_case(const zb_kernels *k, size_t n, size_t C, size_t K, size_t stride, int with_bias)
{
    const size_t ld_x = C * stride + 2, ld_out = C + 1, c0 = C > 5 ? 2 : 0, c1 = C > 5 ? C - 1 : C;
    float *x = random_block(n * ld_x, 10, -2, 2), *w = random_block(K * C, 11, -1, 1), *b = random_block(C, 12, -1, 1);
    float *s_want = random_block((K - 1) * C, 13, -2, 2), *s_got = copy_block(s_want, (K - 1) * C);
    float *want = filled_block(n * ld_out, 7), *got = copy_block(want, n * ld_out);
    ref_set()->conv1d_silu(want, ld_out, x, ld_x, stride, n, s_want, w, with_bias ? b : NULL, C, K, c0, c1);
    k->conv1d_silu(got, ld_out, x, ld_x, stride, n, s_got, w, with_bias ? b : NULL, C, K, c0, c1);
    check_close(got, want, n * ld_out, 2 * TOL_UNIT, "%s: conv of %zu rows, %zu channels, kernel %zu, stride %zu",
                k->name, n, C, K, stride);
    assert_memory_equal(s_got, s_want, (K - 1) * C * 4);
    free(x);
    free(w);
    free(b);
    free(s_want);
    free(s_got);
    free(want);
    free(got);
}

static void conv_of(const zb_kernels *k)
{
    for (size_t n = 1; n <= 6; n++)
        for (size_t K = 1; K <= 5; K++)
            for (size_t stride = 1; stride <= 2; stride++) {
                conv_case(k, n, 37, K, stride, 1);
                conv_case(k, n, 3, K, stride, 0);
            }
    conv_case(k, 40, 100, 4, 1, 1);
}

static void test_conv(void **state)
{
    (void)state;
    each_set(conv_of);
}

/* dt from small to 12 and A down to -300: decays from nearly 1 to an underflow to zero. */
typedef struct ssm_inputs {
    float *x, *dt, *A, *B, *C, *D, *h;
    size_t n, ld_x, ld_dt, ld_bc, n_h;
    zb_ssm_dims d;
} ssm_inputs;

static ssm_inputs ssm_inputs_random(zb_ssm_dims d, size_t n, float a_lo, float dt_hi)
{
    ssm_inputs s = {.n = n, .d = d, .n_h = d.heads * d.head_dim * d.d_state};
    s.ld_x = d.heads * d.head_dim + 3;
    s.ld_dt = d.heads + 1;
    s.ld_bc = d.groups * d.d_state + 5;
    s.x = random_block(n * s.ld_x, 20, -1, 1);
    s.dt = random_block(n * s.ld_dt, 21, 0.001f, dt_hi);
    s.A = random_block(d.heads, 22, a_lo, -0.01f);
    s.B = random_block(n * s.ld_bc, 23, -1, 1);
    s.C = random_block(n * s.ld_bc, 24, -1, 1);
    s.D = random_block(d.heads, 25, -1, 1);
    s.h = random_block(s.n_h, 26, -1, 1);
    return s;
}

static void ssm_inputs_free(ssm_inputs *s)
{
    free(s->x);
    free(s->dt);
    free(s->A);
    free(s->B);
    free(s->C);
    free(s->D);
    free(s->h);
}

static const zb_ssm_dims shapes[] = {{4, 2, 64, 64},  {6, 3, 5, 7},   {1, 1, 1, 1},
                                     {8, 1, 64, 128}, {3, 3, 17, 33}, {2, 1, 8, 16}};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

static void ssm_step_of(const zb_kernels *k)
{
    for (size_t i = 0; i < N_SHAPES; i++) {
        ssm_inputs s = ssm_inputs_random(shapes[i], 1, -8, 1);
        float *h_want = copy_block(s.h, s.n_h), *want = filled_block(s.ld_x, 7), *got = copy_block(want, s.ld_x);
        ref_set()->ssm_step(want, h_want, s.x, s.dt, s.A, s.B, s.C, s.D, s.d, 0, s.d.heads);
        k->ssm_step(got, s.h, s.x, s.dt, s.A, s.B, s.C, s.D, s.d, 0, s.d.heads / 2);
        k->ssm_step(got, s.h, s.x, s.dt, s.A, s.B, s.C, s.D, s.d, s.d.heads / 2, s.d.heads);
        check_close(got, want, s.ld_x, 2e-5, "%s: ssm step, shape %zu: y", k->name, i);
        check_close(s.h, h_want, s.n_h, TOL_UNIT, "%s: ssm step, shape %zu: state", k->name, i);
        ssm_inputs_free(&s);
        free(h_want);
        free(want);
        free(got);
    }
}

static void test_ssm_step(void **state)
{
    (void)state;
    each_set(ssm_step_of);
}

static void ssd_case(const zb_kernels *k, size_t shape, size_t n, float a_lo, float dt_hi)
{
    ssm_inputs s = ssm_inputs_random(shapes[shape], n, a_lo, dt_hi);
    float *h_want = copy_block(s.h, s.n_h), *want = filled_block(n * s.ld_x, 7), *got = copy_block(want, n * s.ld_x);
    /* filled with NaN: nothing of the scratch may be used before it is written */
    float *scratch = filled_block(zb_ssd_scratch(s.d), NAN);
    const size_t half = s.d.heads / 2;
    ref_set()->ssd_chunk(want, s.ld_x, h_want, s.x, s.ld_x, s.dt, s.ld_dt, s.A, s.B, s.C, s.ld_bc, s.D, n, s.d, 0,
                         s.d.heads, scratch);
    k->ssd_chunk(got, s.ld_x, s.h, s.x, s.ld_x, s.dt, s.ld_dt, s.A, s.B, s.C, s.ld_bc, s.D, n, s.d, 0, half, scratch);
    k->ssd_chunk(got, s.ld_x, s.h, s.x, s.ld_x, s.dt, s.ld_dt, s.A, s.B, s.C, s.ld_bc, s.D, n, s.d, half, s.d.heads,
                 scratch);
    double top = 1; /* states grow with dt: errors are measured against the largest result */
    for (size_t i = 0; i < n * s.ld_x; i++)
        top = fmax(top, fabs((double)want[i]));
    check_close(got, want, n * s.ld_x, 2e-6 * top, "%s: ssd of %zu rows, shape %zu, A %g: y", k->name, n, shape,
                (double)a_lo);
    top = 1;
    for (size_t i = 0; i < s.n_h; i++)
        top = fmax(top, fabs((double)h_want[i]));
    check_close(s.h, h_want, s.n_h, 2e-6 * top, "%s: ssd of %zu rows, shape %zu, A %g: state", k->name, n, shape,
                (double)a_lo);
    ssm_inputs_free(&s);
    free(h_want);
    free(want);
    free(got);
    free(scratch);
}

static void ssd_of(const zb_kernels *k)
{
    for (size_t shape = 0; shape < N_SHAPES; shape++)
        for (size_t n = 1; n <= ZB_SSD_CHUNK; n += shape == 0 || shape == 3 ? 9 : 1) {
            ssd_case(k, shape, n, -1, 0.2f); /* slow decay: old rows count */
            ssd_case(k, shape, n, -20, 2);   /* mixed */
            ssd_case(k, shape, n, -300, 12); /* everything old underflows */
        }
    for (size_t shape = 0; shape < N_SHAPES; shape++)
        ssd_case(k, shape, ZB_SSD_CHUNK, -1, 0.2f);
}

static void test_ssd(void **state)
{
    (void)state;
    each_set(ssd_of);
}

static void mamba1_case(const zb_kernels *k, size_t n, size_t channels, size_t N, size_t z_stride)
{
    const size_t ld = channels + 2, ld_z = channels * z_stride + 1, ld_bc = N + 3, c0 = channels > 4 ? 1 : 0;
    float *x = random_block(n * ld, 30, -1, 1), *dt = random_block(n * ld, 31, 0.001f, 2);
    float *z = random_block(n * ld_z, 32, -6, 6), *A = random_block(channels * N, 33, -20, -0.01f);
    float *B = random_block(n * ld_bc, 34, -1, 1), *C = random_block(n * ld_bc, 35, -1, 1),
          *D = random_block(channels, 36, -1, 1);
    float *S_want = random_block(channels * N, 37, -1, 1), *S_got = copy_block(S_want, channels * N);
    float *want = filled_block(n * ld, 7), *got = copy_block(want, n * ld);
    ref_set()->mamba1_scan(want, ld, S_want, x, ld, dt, ld, z, ld_z, z_stride, A, B, C, ld_bc, D, n, N, c0, channels);
    k->mamba1_scan(got, ld, S_got, x, ld, dt, ld, z, ld_z, z_stride, A, B, C, ld_bc, D, n, N, c0, channels);
    check_close(got, want, n * ld, 4e-5, "%s: scan of %zu rows, %zu channels, %zu states: y", k->name, n, channels, N);
    check_close(S_got, S_want, channels * N, 5e-6, "%s: scan of %zu rows, %zu channels, %zu states: S", k->name, n,
                channels, N);
    float *const all[] = {x, dt, z, A, B, C, D, S_want, S_got, want, got};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void mamba1_of(const zb_kernels *k)
{
    for (size_t stride = 1; stride <= 2; stride++) {
        mamba1_case(k, 1, 40, 16, stride);
        mamba1_case(k, 33, 37, 16, stride);
        mamba1_case(k, 5, 3, 7, stride);
        mamba1_case(k, 4, 18, 33, stride);
        mamba1_case(k, 1, 1, 1, stride);
    }
}

static void test_mamba1(void **state)
{
    (void)state;
    each_set(mamba1_of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul), cmocka_unit_test(test_widening), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_conv),   cmocka_unit_test(test_ssm_step), cmocka_unit_test(test_ssd),
        cmocka_unit_test(test_mamba1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
