/* test_kl.c — rows of log-probabilities in 16 bits and what is said about many: packing against the same in double,
 * rows that lie, statistics of small numbers. The program's own file is compiled in, with nothing around it. */
#include "cli/kl.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

void out_format(const char *format, ...)
{
    (void)format;
}

static uint32_t seed = 1;

static float random_normal(void)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        seed = seed * 1664525u + 1013904223u;
        sum += (float)(seed >> 8) / 16777216.0f;
    }
    return sum - 6;
}

static double ln_sum_exp(const float *x, size_t n)
{
    double most = (double)x[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        most = (double)x[i] > most ? (double)x[i] : most;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - most);
    return most + log(sum);
}

static void test_divergence(void **state)
{
    (void)state;
    static const size_t vocabs[] = {1, 2, 3, 17, 1000, 4096};
    static const float spreads[] = {0, 0.01f, 1, 4, 12}; /* the last has ids far below the floor */
    float base[4096], now[4096];
    for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++) {
        for (size_t s = 0; s < sizeof spreads / sizeof *spreads; s++) {
            const size_t n = vocabs[v];
            const int32_t next = (int32_t)(n / 2);
            void *row = malloc(kl_row_bytes(n)), *again = malloc(kl_row_bytes(n));
            kl_point p;
            for (size_t i = 0; i < n; i++) {
                base[i] = 3 + spreads[s] * random_normal();
                now[i] = base[i] + 0.1f * random_normal();
            }
            assert_int_equal(kl_row_pack(row, base, n, next), KL_OK);
            assert_int_equal(kl_row_pack(again, base, n, next), KL_OK);
            assert_memory_equal(row, again, kl_row_bytes(n));
            assert_int_equal(kl_row_compare(row, now, n, next, &p), KL_OK);
            const double zb = ln_sum_exp(base, n), zn = ln_sum_exp(now, n);
            double kld = 0;
            size_t top = 0, top_base = 0;
            for (size_t i = 0; i < n; i++) {
                kld += exp((double)base[i] - zb) * ((double)base[i] - zb - (double)now[i] + zn);
                top = now[i] > now[top] ? i : top;
                top_base = base[i] > base[top_base] ? i : top_base;
            }
            /* rounded by at most half a step, 1.83e-4, each id its own way; that counts by how far ln(p_base / p), here
             * some 0.1, stands from its mean */
            assert_true(fabs((double)p.kld - kld) < 3e-5);
            assert_true(fabs((double)p.nll - (zn - (double)now[next])) < 1e-5);
            assert_true(fabs((double)p.nll_base - (zb - (double)base[next])) < 1e-5);
            assert_int_equal(p.top, top);
            if (spreads[s] >= 1)
                assert_int_equal(p.top_base, top_base);
            assert_int_equal(kl_row_compare(row, base, n, next, &p), KL_OK);
            assert_true(p.kld < 1e-7f);
            free(row);
            free(again);
        }
    }
}

static void test_what_is_not_finite(void **state)
{
    (void)state;
    float logits[5] = {1, 2, 3, 4, 5};
    unsigned char row[KL_ROW_HEAD + 12] __attribute__((aligned(4)));
    kl_point p;
    assert_int_equal(sizeof row, kl_row_bytes(5));
    for (size_t i = 0; i < 5; i++) {
        const float bad[] = {NAN, INFINITY};
        for (size_t k = 0; k < 2; k++) {
            float x[5];
            memcpy(x, logits, sizeof x);
            x[i] = bad[k];
            assert_int_equal(kl_row_pack(row, x, 5, 0), KL_NOT_FINITE);
            assert_int_equal(kl_row_pack(row, logits, 5, 0), KL_OK);
            assert_int_equal(kl_row_compare(row, x, 5, 0, &p), KL_NOT_FINITE);
        }
    }
    logits[0] = -INFINITY; /* an id that cannot come is allowed */
    assert_int_equal(kl_row_pack(row, logits, 5, 0), KL_OK);
    assert_int_equal(kl_row_compare(row, logits, 5, 0, &p), KL_OK);
    assert_true(p.kld < 1e-6f && p.nll > 1e29f && p.nll_base > 1e29f);
}

static void test_rows_that_lie(void **state)
{
    (void)state;
    enum { N = 33 };
    float logits[N];
    unsigned char row[KL_ROW_HEAD + 68] __attribute__((aligned(4))), good[sizeof row];
    kl_point p;
    for (size_t i = 0; i < N; i++)
        logits[i] = random_normal();
    assert_int_equal(sizeof row, kl_row_bytes(N));
    assert_int_equal(kl_row_pack(good, logits, N, 3), KL_OK);
    for (size_t i = 0; i < 8 * sizeof good; i++) { /* every bit is covered */
        memcpy(row, good, sizeof row);
        row[i / 8] ^= (unsigned char)(1 << i % 8);
        assert_int_equal(kl_row_compare(row, logits, N, 3, &p), KL_DAMAGED);
    }
    const float bad[][3] = {{NAN, -3, -3}, {-1, -3, -3},       {1, -3, -3},      {INFINITY, -3, -3}, {1e-4f, NAN, -3},
                            {1e-4f, 5, 0}, {1e-4f, -1e9f, -3}, {1e-4f, -3, NAN}, {1e-4f, -3, 1},     {0, -1, -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) { /* with a checksum that fits */
        row_head head;
        memcpy(row, good, sizeof row);
        memcpy(&head, row, sizeof head);
        head.step = bad[i][0];
        head.floor = bad[i][1];
        head.next = bad[i][2];
        memcpy(row, &head, sizeof head);
        head.check = row_check(row, N);
        memcpy(row, &head, sizeof head);
        assert_int_equal(kl_row_compare(row, logits, N, 3, &p), KL_DAMAGED);
    }
}

static void test_summary(void **state)
{
    (void)state;
    kl_point points[4] = {{.kld = 0.5f, .nll = 2, .nll_base = 1, .top = 1, .top_base = 1},
                          {.kld = 0.1f, .nll = 1, .nll_base = 1, .top = 2, .top_base = 3},
                          {.kld = 0.9f, .nll = 3, .nll_base = 4, .top = 5, .top_base = 5},
                          {.kld = 0.5f, .nll = 2, .nll_base = 2, .top = 7, .top_base = 7}};
    kl_summary s;
    size_t worst[4];
    assert_true(kl_summarize(&s, points, 4));
    assert_float_equal(s.kld.mean, 0.5, 1e-7);
    assert_float_equal(s.kld.error, sqrt(0.08 / 3), 1e-7);
    assert_float_equal(s.kld_at[0], 0.9, 1e-7);
    assert_float_equal(s.kld_at[5], 0.5, 1e-7);
    assert_float_equal(s.kld_at[9], 0.1, 1e-7);
    assert_float_equal(s.kld_at[4], 0.5 + 0.7 * 0.4, 1e-6); /* 0.9 * 3 = 2.7: between the third and the fourth */
    assert_float_equal(s.ppl.mean, exp(2), 1e-6);
    assert_float_equal(s.ln_ratio.mean, 0, 1e-9);
    assert_float_equal(s.same_top.mean, 0.75, 1e-12);
    assert_int_equal(kl_worst(points, 4, 3, worst), 3);
    assert_int_equal(worst[0], 2);
    assert_int_equal(worst[1], 0); /* the first of equals */
    assert_int_equal(worst[2], 3);
    assert_int_equal(kl_worst(points, 4, 9, worst), 4);
    assert_int_equal(worst[3], 1);
    assert_int_equal(kl_worst(points, 4, 0, worst), 0);
    assert_true(kl_summarize(&s, points, 1)); /* no spread, no error, no division by zero */
    assert_true(s.kld.error == 0 && s.ratio.error == 0 && s.same_top.error == 0 && isfinite(s.correlation));
    json_t *json = kl_summary_json(&s);
    assert_non_null(json);
    json_decref(json);
    kl_summary_print(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_what_is_not_finite),
        cmocka_unit_test(test_rows_that_lie),
        cmocka_unit_test(test_summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
