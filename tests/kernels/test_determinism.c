/* test_determinism.c — the promise of kernels.h that an output does not depend on what is computed beside it: bit for
 * bit where the kernel gives that, else (the chunked form against the step by step recurrence) within a named
 * tolerance. */
#include "kernels/kernel_sets.h"

/* matmul on x in f32, or matmul_bf16 on x in bf16. */
static void multiply(const zb_kernels *k, float *y, size_t ld_y, const void *x, size_t ld_x, size_t row, size_t m,
                     const zb_mat *w, size_t row0, size_t row1, int in_bf16)
{
    if (in_bf16)
        k->matmul_bf16(y + row * ld_y, ld_y, (const uint16_t *)x + row * ld_x, ld_x, m, w, row0, row1, 1);
    else
        k->matmul(y + row * ld_y, ld_y, (const float *)x + row * ld_x, ld_x, m, w, row0, row1, 1);
}

/* y[m, rows] computed whole, then again in pieces of rows (a thread's share), in groups of rows of x, and row of x by
 * row of x. */
static void matmul_alone_and_split(const zb_kernels *k, size_t m, size_t rows, size_t cols, zb_dtype t, int in_bf16)
{
    float *numbers = random_block(m * cols, 1, -1, 1), *w = random_block(rows * cols, 2, -1, 1);
    void *x = stored_block(numbers, m * cols, in_bf16 ? ZB_BF16 : ZB_F32), *stored = stored_block(w, rows * cols, t);
    const zb_mat mat = {stored, rows, cols, t, cols, NULL, 0};
    float *whole = random_block(m * rows, 3, -1, 1);
    float *before = copy_block(whole, m * rows), *other = copy_block(whole, m * rows);
    multiply(k, whole, rows, x, cols, 0, m, &mat, 0, rows, in_bf16);

    static const size_t steps[] = {1, 5, 3, 13, 2, 64};
    for (size_t r = 0, i = 0; r < rows; i++) {
        const size_t to = r + steps[i % 6] < rows ? r + steps[i % 6] : rows;
        multiply(k, other, rows, x, cols, 0, m, &mat, r, to, in_bf16);
        r = to;
    }
    if (memcmp(whole, other, m * rows * 4) != 0)
        fail_msg("%s: %s, m %zu, %zux%zu: splitting the rows changed bits", k->name, zb_dtype_name(t), m, rows, cols);

    static const size_t groups[] = {1, 2, 7, 8, 17, 40};
    for (size_t g = 0; g < 6 && (g == 0 || groups[g] < m); g++) {
        memcpy(other, before, m * rows * 4);
        for (size_t i = 0; i < m; i += groups[g])
            multiply(k, other, rows, x, cols, i, i + groups[g] < m ? groups[g] : m - i, &mat, 0, rows, in_bf16);
        if (memcmp(whole, other, m * rows * 4) != 0)
            fail_msg("%s: %s, m %zu, %zux%zu: rows in groups of %zu differ", k->name, zb_dtype_name(t), m, rows, cols,
                     groups[g]);
    }
    free(numbers);
    free(x);
    free(w);
    free(stored);
    free(whole);
    free(before);
    free(other);
}

static void test_matmul(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    static const size_t m[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 100}, cols[] = {1, 31, 200, 259};
    for (size_t s = 0; s < n; s++)
        for (zb_dtype t = 0; t < ZB_N_FLOATS; t++) {
            for (size_t a = 0; a < 12; a++)
                for (size_t c = 0; c < 4; c++)
                    for (int in_bf16 = 0; in_bf16 <= (t == ZB_BF16); in_bf16++)
                        matmul_alone_and_split(sets[s], m[a], 53, cols[c], t, in_bf16);
            if (s > 0)
                matmul_alone_and_split(sets[s], 7, 200, 2049, t, 0); /* more than one block of weights */
        }
    for (size_t s = 1; s < n; s++) {
        matmul_alone_and_split(sets[s], 23, 150, 2500, ZB_BF16, 1); /* several chunks and passes */
        matmul_alone_and_split(sets[s], 16, 20, 9000, ZB_BF16, 1);
    }
}

/* Conv over n rows at once equals conv over pieces, states included. */
static void test_conv(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    enum { C = 37, K = 4, N = 19 };
    static const size_t pieces[] = {1, 2, 3, 1, 7, 5};
    for (size_t s = 0; s < n_sets; s++) {
        const zb_kernels *k = sets[s];
        float *x = random_block(N * C, 1, -2, 2), *w = random_block(K * C, 2, -1, 1), *b = random_block(C, 3, -1, 1);
        float *s_whole = random_block((K - 1) * C, 4, -1, 1), *s_split = copy_block(s_whole, (K - 1) * C);
        float *whole = block(N * C * 4), *split = block(N * C * 4);
        k->conv1d_silu(whole, C, x, C, 1, N, s_whole, w, b, C, K, 0, C);
        for (size_t t = 0, i = 0; t < N; t += pieces[i++]) {
            k->conv1d_silu(split + t * C, C, x + t * C, C, 1, pieces[i], s_split, w, b, C, K, 0, 11);
            k->conv1d_silu(split + t * C, C, x + t * C, C, 1, pieces[i], s_split, w, b, C, K, 11, C);
        }
        assert_memory_equal(whole, split, N * C * 4);
        assert_memory_equal(s_whole, s_split, (K - 1) * C * 4);
        float *const all[] = {x, w, b, s_whole, s_split, whole, split};
        for (size_t i = 0; i < 7; i++)
            free(all[i]);
    }
}

/* 64 rows in one chunk, in chunks of 20 + 13 + 31, and step by step. The forms sum in different orders: measured
 * against the largest result, some ten roundings (6e-8 each) of sums whose terms cancel. Heads split bit for bit. */
#define TOL_FORMS 2e-6

static void test_ssd(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    static const zb_ssm_dims shapes[] = {{4, 2, 64, 64}, {6, 3, 5, 7}, {2, 1, 33, 20}};
    static const size_t pieces[] = {20, 13, 31};
    enum { N = 64 };
    for (size_t s = 0; s < n_sets; s++)
        for (size_t i = 0; i < 3; i++) {
            const zb_kernels *k = sets[s];
            const zb_ssm_dims d = shapes[i];
            const size_t ld = d.heads * d.head_dim, ld_bc = d.groups * d.d_state, n_h = ld * d.d_state;
            float *x = random_block(N * ld, 1, -1, 1), *dt = random_block(N * d.heads, 2, 0.001f, 0.5f);
            float *A = random_block(d.heads, 3, -4, -0.05f), *D = random_block(d.heads, 4, -1, 1);
            float *B = random_block(N * ld_bc, 5, -1, 1), *Cm = random_block(N * ld_bc, 6, -1, 1);
            float *h[4], *y[4], *scratch = filled_block(zb_ssd_scratch(d), NAN);
            for (int v = 0; v < 4; v++) {
                h[v] = random_block(n_h, 7, -1, 1);
                y[v] = filled_block(N * ld, NAN);
            }
            k->ssd_chunk(y[0], ld, h[0], x, ld, dt, d.heads, A, B, Cm, ld_bc, D, N, d, 0, d.heads, scratch);
            for (size_t t = 0, p = 0; t < N; t += pieces[p++])
                k->ssd_chunk(y[1] + t * ld, ld, h[1], x + t * ld, ld, dt + t * d.heads, d.heads, A, B + t * ld_bc,
                             Cm + t * ld_bc, ld_bc, D, pieces[p], d, 0, d.heads, scratch);
            for (size_t t = 0; t < N; t++)
                k->ssm_step(y[2] + t * ld, h[2], x + t * ld, dt + t * d.heads, A, B + t * ld_bc, Cm + t * ld_bc, D, d,
                            0, d.heads);
            for (size_t j = 0; j < d.heads; j++)
                k->ssd_chunk(y[3], ld, h[3], x, ld, dt, d.heads, A, B, Cm, ld_bc, D, N, d, j, j + 1, scratch);
            double top_y = 1, top_h = 1;
            for (size_t e = 0; e < N * ld; e++)
                top_y = fmax(top_y, fabs((double)y[2][e]));
            for (size_t e = 0; e < n_h; e++)
                top_h = fmax(top_h, fabs((double)h[2][e]));
            check_close(y[0], y[2], N * ld, TOL_FORMS * top_y, "%s, shape %zu: chunk against steps", k->name, i);
            check_close(h[0], h[2], n_h, TOL_FORMS * top_h, "%s, shape %zu: state against steps", k->name, i);
            check_close(y[1], y[2], N * ld, TOL_FORMS * top_y, "%s, shape %zu: 20+13+31 against steps", k->name, i);
            check_close(h[1], h[2], n_h, TOL_FORMS * top_h, "%s, shape %zu: state of 20+13+31", k->name, i);
            assert_memory_equal(y[0], y[3], N * ld * 4);
            assert_memory_equal(h[0], h[3], n_h * 4);
            /* the rows of a chunk do not depend on how many rows follow */
            assert_memory_equal(y[0], y[1], 20 * ld * 4);
            for (int v = 0; v < 4; v++) {
                free(h[v]);
                free(y[v]);
            }
            float *const all[] = {x, dt, A, D, B, Cm, scratch};
            for (size_t e = 0; e < 7; e++)
                free(all[e]);
        }
}

static void test_mamba1(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    enum { CH = 45, NS = 16, N = 12 };
    for (size_t s = 0; s < n_sets; s++) {
        const zb_kernels *k = sets[s];
        float *x = random_block(N * CH, 1, -1, 1), *dt = random_block(N * CH, 2, 0.01f, 1),
              *z = random_block(N * CH, 3, -4, 4);
        float *A = random_block(CH * NS, 4, -8, -0.1f), *bc = random_block(N * 2 * NS, 5, -1, 1),
              *D = random_block(CH, 6, -1, 1);
        float *S[2], *y[2];
        for (int v = 0; v < 2; v++) {
            S[v] = random_block(CH * NS, 7, -1, 1);
            y[v] = block(N * CH * 4);
        }
        k->mamba1_scan(y[0], CH, S[0], x, CH, dt, CH, z, CH, 1, A, bc, bc + NS, 2 * NS, D, N, NS, 0, CH);
        for (size_t t = 0; t < N; t++)
            for (size_t c = 0; c < CH; c += 19)
                k->mamba1_scan(y[1] + t * CH, CH, S[1], x + t * CH, CH, dt + t * CH, CH, z + t * CH, CH, 1, A,
                               bc + t * 2 * NS, bc + NS + t * 2 * NS, 2 * NS, D, 1, NS, c, c + 19 < CH ? c + 19 : CH);
        assert_memory_equal(y[0], y[1], N * CH * 4);
        assert_memory_equal(S[0], S[1], CH * NS * 4);
        float *const all[] = {x, dt, z, A, bc, D, S[0], S[1], y[0], y[1]};
        for (size_t i = 0; i < 10; i++)
            free(all[i]);
    }
}

/* Where an element stands in its vector does not matter. */
static void test_elements(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    enum { N = 77 };
    for (size_t s = 0; s < n_sets; s++) {
        const zb_kernels *k = sets[s];
        float *g = random_block(N, 1, -9, 9), *u = random_block(N, 2, -1, 1), whole[N], alone[N];
        for (zb_act act = ZB_ACT_GELU; act <= ZB_ACT_RELU; act++) {
            k->glu(whole, g, u, N, act);
            for (size_t i = 0; i < N; i++)
                k->glu(alone + i, g + i, u + i, 1, act);
            assert_memory_equal(whole, alone, sizeof whole);
        }
        k->dt_softplus(whole, g, u, N, 0, INFINITY);
        for (size_t i = 0; i < N; i++)
            k->dt_softplus(alone + i, g + i, u + i, 1, 0, INFINITY);
        assert_memory_equal(whole, alone, sizeof whole);
        free(g);
        free(u);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul), cmocka_unit_test(test_conv),     cmocka_unit_test(test_ssd),
        cmocka_unit_test(test_mamba1), cmocka_unit_test(test_elements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
