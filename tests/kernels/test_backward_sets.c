/* test_backward_sets.c — the way back in every set this CPU runs against ref, on shapes with tails, parts of wider
 * arrays, results that add to what is there, and steep decays. Differences are measured against the largest value of
 * the array: TOL_SUM for sums of up to some hundred products in f32 lanes, TOL_UNIT for a few operations, more where
 * such results are subtracted. What lies between the rows is compared too: both sets must leave it alone. */
#include "kernels/kernel_sets.h"

#define TOL_SUM  3e-6
#define TOL_UNIT 2e-6

/* Scores reach some 60 here, in f32 known to 4e-6: so are the weights, their exponentials. */
#define TOL_SCORE 1.5e-5

static void each_set(void (*test)(const zb_kernels *k))
{
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t i = 1; i < n; i++)
        test(sets[i]);
}

/* The largest value, but not less than a hundredth: a gradient that is 0 but for cancellation has no size of its own.
 */
static double greatest(const float *p, size_t n)
{
    double top = 1e-2;
    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)p[i]));
    return top;
}

/* Compares and frees both. */
static void check_pair(float *got, float *want, size_t n, double tol, const char *set, const char *what, size_t a,
                       size_t b)
{
    check_close(got, want, n, tol * greatest(want, n), "%s: %s (%zu, %zu)", set, what, a, b);
    free(got);
    free(want);
}

/* ---- matrices laid anew: exact ---- */

static void transpose_case(const zb_kernels *k, size_t rows, size_t cols, size_t more)
{
    const zb_kernels *ref = ref_set();
    const size_t ld_x = cols + more, ld_y = rows + more, n_x = (rows - 1) * ld_x + cols, n_y = (cols - 1) * ld_y + rows,
                 ld_p = cols + more, n_p = ((rows + 1) / 2 - 1) * ld_p + cols;
    float *x = random_block(n_x, 1, -3, 3);
    uint16_t *half = block(n_x * 2);
    uint32_t *want = block((n_y + n_p) * 4), *got = block((n_y + n_p) * 4);
    x[0] = NAN;
    x[n_x - 1] = zb_bits_f32(0x7F7FFFFFu); /* rounds to infinity */
    if (n_x > 3)
        x[1] = zb_bits_f32(0x00000123u); /* a denormal */
    for (size_t i = 0; i < n_x; i++)
        half[i] = (uint16_t)(i * 40503u);
    memset(want, 3, (n_y + n_p) * 4);
    memset(got, 3, (n_y + n_p) * 4);
    ref->transpose(want, ld_y, x, ld_x, rows, cols);
    k->transpose(got, ld_y, x, ld_x, rows, cols);
    assert_memory_equal(got, want, n_y * 4);
    ref->pair_rows(want, ld_p, x, ZB_F32, ld_x, rows, cols);
    k->pair_rows(got, ld_p, x, ZB_F32, ld_x, rows, cols);
    assert_memory_equal(got, want, (n_y + n_p) * 4);
    ref->pair_rows(want, ld_p, half, ZB_BF16, ld_x, rows, cols);
    k->pair_rows(got, ld_p, half, ZB_BF16, ld_x, rows, cols);
    assert_memory_equal(got, want, (n_y + n_p) * 4);
    free(x);
    free(half);
    free(want);
    free(got);
}

static void transpose_of(const zb_kernels *k)
{
    static const size_t sizes[] = {1, 2, 5, 15, 16, 17, 31, 32, 33, 64, 71};
    for (size_t i = 0; i < 11; i++)
        for (size_t j = 0; j < 11; j++)
            transpose_case(k, sizes[i], sizes[j], (i + j) % 3);
    transpose_case(k, 200, 130, 0);
}

/* ---- sums of outer products ---- */

static void outer_case(const zb_kernels *k, size_t rows, size_t cols, size_t n, zb_outer how, int turned)
{
    const size_t ld_y = cols + 3, ld_b = cols + 1, row_a = turned ? 1 : n + 2, step_a = turned ? rows + 4 : 1;
    float *a = random_block(turned ? n * step_a : rows * row_a, 60, -1, 1), *b = random_block(n * ld_b, 61, -1, 1);
    float *want = random_block(rows * ld_y, 62, -1, 1), *got = copy_block(want, rows * ld_y);
    ref_set()->outer(want, ld_y, rows, cols, a, row_a, step_a, b, ld_b, n, how);
    k->outer(got, ld_y, rows, cols, a, row_a, step_a, b, ld_b, n, how);
    check_pair(got, want, rows * ld_y, TOL_SUM, k->name, "outer", rows, cols);
    free(a);
    free(b);
}

/* n pairs. a and b are random bits of bf16 that are numbers of ordinary size. */
static void outer_bf16_case(const zb_kernels *k, size_t rows, size_t cols, size_t n, zb_outer how, int turned,
                            size_t ld_b)
{
    const size_t ld_y = cols + 3, row_a = turned ? 1 : n + 2, step_a = turned ? rows + 4 : 1,
                 n_a = turned ? n * step_a : rows * row_a, n_b = n * ld_b;
    float *numbers = random_block(2 * (n_a + n_b), 63, -1, 1);
    uint16_t *a = block(n_a * 4), *b = block(n_b * 4);
    float *want = random_block(rows * ld_y, 64, -1, 1), *got = copy_block(want, rows * ld_y);
    ref_set()->to_bf16(a, numbers, 2 * n_a);
    ref_set()->to_bf16(b, numbers + 2 * n_a, 2 * n_b);
    ref_set()->outer_bf16(want, ld_y, rows, cols, a, row_a, step_a, b, ld_b, n, how);
    k->outer_bf16(got, ld_y, rows, cols, a, row_a, step_a, b, ld_b, n, how);
    check_pair(got, want, rows * ld_y, TOL_SUM, k->name, "outer_bf16", rows, cols);
    free(numbers);
    free(a);
    free(b);
}

static void outer_of(const zb_kernels *k)
{
    static const size_t sizes[] = {1, 3, 4, 16, 31, 70};
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < 6; j++)
            for (size_t l = 0; l < 6; l++) {
                outer_case(k, sizes[i], sizes[j], sizes[l] * 2 - 1, (i + j) % 4, (i + l) & 1);
                outer_bf16_case(k, sizes[i], sizes[j], sizes[l] * 2 - 1, (i + j) % 4, (i + l) & 1, sizes[j] + 1);
            }
    outer_case(k, 5, 200, 300, 1, 1);
    for (zb_outer how = 0; how < 4; how++)
        outer_case(k, 20, 200, 300, how, 1); /* whole tiles, some, in several pieces */
    outer_case(k, 20, 200, 300, ZB_OUTER_SET_SUMS, 0);
    for (zb_outer how = 0; how < 4; how++)
        outer_bf16_case(k, 20, 200, 300, how, 1, 203);
    outer_bf16_case(k, 20, 64, 300, 0, 0, 64); /* strips that lie together */
    outer_bf16_case(k, 9, 60, 300, ZB_OUTER_ADD_SUMS, 0, 64);
}

/* ---- rows ---- */

static void rows_case(const zb_kernels *k, size_t n)
{
    const zb_kernels *ref = ref_set();
    float *x = random_block(n, 4, -3, 3), *w = random_block(n, 5, 0.5f, 1.5f), *z = random_block(n, 6, -8, 8);
    float *d = random_block(n, 7, -1, 1), *want = block(n * 4), *got = copy_block(d, n);
    float *w_want = random_block(n, 8, -1, 1), *w_got = copy_block(w_want, n);
    ref->rmsnorm_backward(want, w_want, d, x, w, n, 1e-5f);
    k->rmsnorm_backward(got, w_got, got, x, w, n, 1e-5f);
    check_pair(got, want, n, TOL_UNIT, k->name, "norm, dx", n, 0);
    check_pair(w_got, w_want, n, TOL_UNIT, k->name, "norm, dweight", n, 0);

    for (size_t groups = 1; groups <= 5; groups += 2)
        if (n % groups == 0) {
            float *z_want = block(n * 4), *z_got = block(n * 4);
            want = block(n * 4);
            got = copy_block(d, n);
            w_want = random_block(n, 8, -1, 1);
            w_got = copy_block(w_want, n);
            ref->rmsnorm_gated_backward(want, z_want, w_want, d, x, z, w, n, groups, 1e-5f);
            k->rmsnorm_gated_backward(got, z_got, w_got, got, x, z, w, n, groups, 1e-5f);
            check_pair(got, want, n, 4 * TOL_UNIT, k->name, "gated norm, dy", n, groups);
            check_pair(z_got, z_want, n, 4 * TOL_UNIT, k->name, "gated norm, dz", n, groups);
            check_pair(w_got, w_want, n, 4 * TOL_UNIT, k->name, "gated norm, dweight", n, groups);
        }

    want = block(n * 4);
    got = copy_block(d, n);
    ref->dt_softplus_backward(want, d, z, x, n, 0.01f, 6.0f);
    k->dt_softplus_backward(got, got, z, x, n, 0.01f, 6.0f);
    check_pair(got, want, n, TOL_UNIT, k->name, "softplus", n, 0);
    want = block(n * 4);
    got = block(n * 4);
    ref->dt_softplus_backward(want, d, z, NULL, n, 0, INFINITY);
    k->dt_softplus_backward(got, d, z, NULL, n, 0, INFINITY);
    check_pair(got, want, n, TOL_UNIT, k->name, "softplus without bias", n, 0);

    for (zb_act act = ZB_ACT_GELU; act <= ZB_ACT_RELU; act++) {
        float *up_want = block(n * 4), *up_got = copy_block(x, n);
        want = block(n * 4);
        got = copy_block(z, n);
        ref->glu_backward(want, up_want, d, z, x, n, act);
        k->glu_backward(got, up_got, d, got, up_got, n, act);
        check_pair(got, want, n, 2 * TOL_UNIT, k->name, "glu, dgate", n, (size_t)act);
        check_pair(up_got, up_want, n, 2 * TOL_UNIT, k->name, "glu, dup", n, (size_t)act);
    }

    const double sum = ref->sum_squares(x, n);
    assert_true(fabs(k->sum_squares(x, n) - sum) <= 1e-13 * sum);

    const zb_adamw o = {3e-3f, 0.9f, 0.99f, 1e-6f, 0.2f, 0.3f, 0.02f, 1.5f};
    float *m_want = random_block(n, 9, -1, 1), *v_want = random_block(n, 10, 0, 1);
    float *m_got = copy_block(m_want, n), *v_got = copy_block(v_want, n);
    want = copy_block(x, n);
    got = copy_block(x, n);
    ref->adamw(want, m_want, v_want, d, n, &o);
    k->adamw(got, m_got, v_got, d, n, &o);
    check_pair(got, want, n, 2e-7, k->name, "adamw, p", n, 0);
    check_pair(m_got, m_want, n, 2e-7, k->name, "adamw, m", n, 0);
    check_pair(v_got, v_want, n, 2e-7, k->name, "adamw, v", n, 0);

    for (size_t target = 0; target < n; target += n / 3 + 1) {
        float lse, lse_want;
        want = copy_block(z, n);
        got = copy_block(z, n);
        const float p_want = ref->cross_entropy(want, n, target, 0.3f, 0.01f, &lse_want);
        const float p = k->cross_entropy(got, n, target, 0.3f, 0.01f, &lse);
        check_close(&p, &p_want, 1, TOL_UNIT * 8, "%s: log p of %zu", k->name, n);
        check_close(&lse, &lse_want, 1, TOL_UNIT * 8, "%s: log-sum of %zu", k->name, n);
        check_pair(got, want, n, TOL_UNIT, k->name, "cross entropy", n, target);
    }
    free(x);
    free(w);
    free(z);
    free(d);
}

static void rows_of(const zb_kernels *k)
{
    static const size_t sizes[] = {1, 2, 3, 15, 16, 17, 45, 63, 64, 65, 130, 1000};
    for (size_t i = 0; i < 12; i++)
        rows_case(k, sizes[i]);
    for (size_t d = 2; d <= 464; d = d * 3 + 2) {
        float *c = random_block(d / 2, 7, -1, 1), *s = random_block(d / 2, 8, -1, 1), *want = random_block(d, 9, -1, 1);
        float *got = copy_block(want, d);
        ref_set()->rope_backward(want, c, s, d);
        k->rope_backward(got, c, s, d);
        check_pair(got, want, d, 3e-7, k->name, "rope", d, 0);
        free(c);
        free(s);
    }
}

/* Logits far apart, and a row that holds a NaN: its loss is NaN, not an error elsewhere. */
static void odd_logits_of(const zb_kernels *k)
{
    enum { N = 37 };
    float logits[N], lse;
    for (size_t i = 0; i < N; i++)
        logits[i] = i == 30 ? 1000.0f : -1000.0f - (float)i;
    assert_true(k->cross_entropy(logits, N, 30, 2, 0, &lse) == 0);
    assert_true(lse == 1000.0f);
    for (size_t i = 0; i < N; i++)
        assert_true(logits[i] == 0);
    logits[20] = NAN;
    assert_true(isnan(k->cross_entropy(logits, N, 3, 1, 0, &lse)));
}

/* ---- mixers ---- */

static void conv_case(const zb_kernels *k, size_t n, size_t C, size_t K, size_t stride, int with_bias)
{
    const size_t ld = C * stride + 2, ld_out = C + 1, c0 = C > 5 ? 2 : 0, c1 = C > 5 ? C - 1 : C;
    float *x = random_block(n * ld, 10, -2, 2), *w = random_block(K * C, 11, -1, 1), *b = random_block(C, 12, -1, 1);
    float *d = random_block(n * ld_out, 13, -1, 1), *want = filled_block(n * ld, 0.5f), *got = copy_block(want, n * ld);
    float *w_want = random_block(K * C, 14, -1, 1), *w_got = copy_block(w_want, K * C);
    float *b_want = random_block(C, 15, -1, 1), *b_got = copy_block(b_want, C);
    ref_set()->conv1d_silu_backward(want, ld, w_want, with_bias ? b_want : NULL, d, ld_out, x, ld, stride, n, w,
                                    with_bias ? b : NULL, C, K, c0, c1);
    k->conv1d_silu_backward(got, ld, w_got, with_bias ? b_got : NULL, d, ld_out, x, ld, stride, n, w,
                            with_bias ? b : NULL, C, K, c0, c1);
    check_pair(got, want, n * ld, TOL_UNIT, k->name, "conv, dx", n, K);
    check_pair(w_got, w_want, K * C, TOL_UNIT, k->name, "conv, dweight", n, K);
    check_pair(b_got, b_want, C, TOL_UNIT, k->name, "conv, dbias", n, K);
    free(x);
    free(w);
    free(b);
    free(d);
}

static void conv_of(const zb_kernels *k)
{
    for (size_t n = 1; n <= 6; n++)
        for (size_t K = 1; K <= 9; K++)
            for (size_t stride = 1; stride <= 2; stride++) {
                conv_case(k, n, 37, K, stride, 1);
                conv_case(k, n, 3, K, stride, 0);
            }
    conv_case(k, 40, 100, 4, 1, 1);
}

static void ssd_case(const zb_kernels *k, zb_ssm_dims d, size_t n, float a_lo, float dt_hi)
{
    const zb_kernels *const sets[2] = {ref_set(), k};
    const size_t ld = d.heads * d.head_dim + 3, ld_dt = d.heads + 1, ld_bc = d.groups * d.d_state + 5;
    const size_t n_h = d.heads * d.head_dim * d.d_state, in_group = d.heads / d.groups;
    enum { DX, DDT, DB, DC, DA, DD, DH, H, N_OUT };
    static const char *const names[N_OUT] = {"ssd, dx", "ssd, ddt", "ssd, dB", "ssd, dC",
                                             "ssd, dA", "ssd, dD",  "ssd, dh", "ssd state"};
    const size_t sizes[N_OUT] = {n * ld, n * ld_dt, n * ld_bc, n * ld_bc, d.heads, d.heads, n_h, n_h};
    float *x = random_block(n * ld, 20, -1, 1), *dt = random_block(n * ld_dt, 21, 0.001f, dt_hi);
    float *A = random_block(d.heads, 22, a_lo, -0.01f), *B = random_block(n * ld_bc, 23, -1, 1);
    float *C = random_block(n * ld_bc, 24, -1, 1), *D = random_block(d.heads, 25, -1, 1);
    float *h = random_block(n_h, 26, -1, 1), *dy = random_block(n * ld, 27, -1, 1), *out[2][N_OUT];
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < N_OUT; i++)
            out[s][i] = random_block(sizes[i], 30 + (uint64_t)i, -1, 1);
        /* filled with NaN: nothing of the scratch may be used before it is written */
        float **o = out[s], *scratch = filled_block(zb_ssd_backward_scratch(d), NAN);
        for (size_t j = 0; j < d.heads; j += in_group) { /* a group in one call or two */
            const size_t half = n % 2 ? j + in_group / 2 : j;
            sets[s]->ssd_chunk_backward(o[DX], ld, o[DDT], ld_dt, o[DB], o[DC], ld_bc, o[DA], o[DD], o[DH], dy, ld, h,
                                        x, ld, dt, ld_dt, A, B, C, ld_bc, D, n, d, j, half, scratch);
            sets[s]->ssd_chunk_backward(o[DX], ld, o[DDT], ld_dt, o[DB], o[DC], ld_bc, o[DA], o[DD], o[DH], dy, ld, h,
                                        x, ld, dt, ld_dt, A, B, C, ld_bc, D, n, d, half, j + in_group, scratch);
        }
        sets[s]->ssd_state(o[H], x, ld, dt, ld_dt, A, B, ld_bc, n, d, 0, d.heads, scratch);
        free(scratch);

        /* bit for bit the states of ssd_chunk */
        float *state = random_block(n_h, 30 + H, -1, 1), *y = block(n * ld * 4), *room = block(zb_ssd_scratch(d) * 4);
        sets[s]->ssd_chunk(y, ld, state, x, ld, dt, ld_dt, A, B, C, ld_bc, D, n, d, 0, d.heads, room);
        assert_memory_equal(state, o[H], n_h * 4);
        free(state);
        free(y);
        free(room);
    }
    /* dA is the sum over the rows of a part of ddt times dt / A, of either sign: measured against such terms */
    const double terms =
        greatest(out[0][DDT], sizes[DDT]) * (double)dt_hi * (double)n / greatest(out[0][DA], sizes[DA]);
    for (int i = 0; i < N_OUT; i++)
        check_pair(out[1][i], out[0][i], sizes[i], TOL_SUM * (i == DA ? 1 + terms : 1), k->name, names[i], n,
                   d.head_dim);
    float *const all[] = {x, dt, A, B, C, D, h, dy};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void ssd_of(const zb_kernels *k)
{
    static const zb_ssm_dims shapes[] = {{4, 2, 16, 24}, {6, 3, 5, 7},   {1, 1, 1, 1},
                                         {2, 1, 17, 33}, {2, 1, 64, 64}, {2, 2, 24, 128}};
    for (size_t shape = 0; shape < 6; shape++)
        for (size_t n = shape; n <= ZB_SSD_CHUNK; n += shape < 4 ? 9 : 58) {
            ssd_case(k, shapes[shape], n, -20, 2); /* mixed */
            if (shape > 3)
                continue;
            ssd_case(k, shapes[shape], n, -1, 0.2f); /* slow decay: old rows count */
            ssd_case(k, shapes[shape], n, -300, 12); /* everything old underflows */
        }
    for (size_t shape = 0; shape < 6; shape++)
        ssd_case(k, shapes[shape], ZB_SSD_CHUNK, -1, 0.2f);
}

static void mamba1_case(const zb_kernels *k, size_t n, size_t channels, size_t N, size_t z_stride)
{
    const zb_kernels *const sets[2] = {ref_set(), k};
    const size_t ld = channels + 2, ld_z = channels * z_stride + 1, ld_bc = N + 3, c0 = channels > 4 ? 1 : 0;
    enum { DX, DDT, DZ, DB, DC, DA, DD, N_OUT };
    static const char *const names[N_OUT] = {"scan, dx", "scan, ddt", "scan, dz", "scan, dB",
                                             "scan, dC", "scan, dA",  "scan, dD"};
    const size_t sizes[N_OUT] = {n * ld, n * ld, n * ld_z, n * ld_bc, n * ld_bc, channels * N, channels};
    float *x = random_block(n * ld, 30, -1, 1), *dt = random_block(n * ld, 31, 0.001f, 2);
    float *z = random_block(n * ld_z, 32, -6, 6), *A = random_block(channels * N, 33, -20, -0.01f);
    float *B = random_block(n * ld_bc, 34, -1, 1), *C = random_block(n * ld_bc, 35, -1, 1);
    float *D = random_block(channels, 36, -1, 1), *dy = random_block(n * ld, 37, -1, 1), *out[2][N_OUT];
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < N_OUT; i++)
            out[s][i] = random_block(sizes[i], 40 + (uint64_t)i, -1, 1);
        float **o = out[s], *scratch = filled_block(zb_scan_backward_scratch(n, N, channels - c0), NAN);
        sets[s]->mamba1_scan_backward(o[DX], ld, o[DDT], ld, o[DZ], ld_z, o[DB], o[DC], ld_bc, o[DA], o[DD], dy, ld, x,
                                      ld, dt, ld, z, ld_z, z_stride, A, B, C, ld_bc, D, n, N, c0, channels, scratch);
        free(scratch);
    }
    for (int i = 0; i < N_OUT; i++)
        check_pair(out[1][i], out[0][i], sizes[i], TOL_SUM, k->name, names[i], n, channels);
    float *const all[] = {x, dt, z, A, B, C, D, dy};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void mamba1_of(const zb_kernels *k)
{
    for (size_t stride = 1; stride <= 2; stride++) {
        mamba1_case(k, 1, 40, 16, stride);
        mamba1_case(k, 130, 37, 16, stride);
        mamba1_case(k, 65, 3, 7, stride);
        mamba1_case(k, 4, 18, 33, stride);
        mamba1_case(k, 1, 1, 1, stride);
    }
}

static void attention_case(const zb_kernels *k, size_t n, size_t d, float range)
{
    const zb_kernels *const sets[2] = {ref_set(), k};
    const size_t ld_q = d + 1, ld_kv = d + 2, ld_out = d + 3, ld_dout = d, ld_dq = d + 4, ld_dkv = d + 5;
    float *q = random_block(n * ld_q, 50, -range, range), *kk = random_block(n * ld_kv, 51, -1, 1);
    float *v = random_block(n * ld_kv, 52, -1, 1), *dout = random_block(n * ld_dout, 53, -1, 1);
    float *o = block(n * ld_out * 4), *keys = block(n * d * 4), *values = block(n * d * 4), *out[2][3];
    for (size_t i = 0; i < n; i++) {
        memcpy(keys + i * d, kk + i * ld_kv, d * 4);
        memcpy(values + i * d, v + i * ld_kv, d * 4);
    }
    const void *k_page = keys, *v_page = values;
    const zb_attn_args forward = {.out = o,
                                  .q = q,
                                  .ld_out = ld_out,
                                  .ld_q = ld_q,
                                  .n_rows = n,
                                  .key1 = n,
                                  .k_pages = &k_page,
                                  .v_pages = &v_page,
                                  .page_tokens = n,
                                  .head_dim = d,
                                  .scale = 0.3f};
    attention_whole(ref_set(), &forward);
    for (int s = 0; s < 2; s++) {
        out[s][0] = random_block(n * ld_dq, 54, -1, 1);
        out[s][1] = random_block(n * ld_dkv, 55, -1, 1);
        out[s][2] = random_block(n * ld_dkv, 56, -1, 1);
        const zb_attn_backward a = {.dq = out[s][0],
                                    .dk = out[s][1],
                                    .dv = out[s][2],
                                    .ld_dq = ld_dq,
                                    .ld_dkv = ld_dkv,
                                    .q = q,
                                    .k = kk,
                                    .v = v,
                                    .out = o,
                                    .dout = dout,
                                    .ld_q = ld_q,
                                    .ld_kv = ld_kv,
                                    .ld_out = ld_out,
                                    .ld_dout = ld_dout,
                                    .n = n,
                                    .head_dim = d,
                                    .scale = 0.3f,
                                    .scratch = filled_block(zb_attn_backward_scratch(n, d), NAN)};
        sets[s]->attention_backward(&a);
        free(a.scratch);
    }
    static const char *const names[] = {"attention, dq", "attention, dk", "attention, dv"};
    for (int i = 0; i < 3; i++)
        check_pair(out[1][i], out[0][i], n * (i ? ld_dkv : ld_dq), TOL_SCORE, k->name, names[i], n, d);
    float *const all[] = {q, kk, v, dout, o, keys, values};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void attention_of(const zb_kernels *k)
{
    static const size_t rows[] = {1, 2, 17, 33, 63, 64, 65, 80, 130}, dims[] = {1, 7, 40, 64};
    for (size_t i = 0; i < 9; i++)
        for (size_t j = 0; j < 4; j++)
            attention_case(k, rows[i], dims[j], j % 2 ? 1 : 20); /* some weights underflow */
}

#define TEST(name)                                                                                                     \
    static void test_##name(void **state)                                                                              \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        each_set(name##_of);                                                                                           \
    }
TEST(transpose)
TEST(outer)
TEST(rows)
TEST(odd_logits)
TEST(conv)
TEST(ssd)
TEST(mamba1)
TEST(attention)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transpose),  cmocka_unit_test(test_outer),     cmocka_unit_test(test_rows),
        cmocka_unit_test(test_odd_logits), cmocka_unit_test(test_conv),      cmocka_unit_test(test_ssd),
        cmocka_unit_test(test_mamba1),     cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
