/* test_fixmath.c — exp and log against libm within 2 units in the last place, their edges, and exact bits that every
 * machine must reproduce. */
#include "support/check.h"

#include <math.h>
#include <string.h>

#include "core/fixmath.h"
#include "core/rng.h"
#include "core/dtype.h"

static uint64_t bits(double x)
{
    uint64_t u;
    memcpy(&u, &x, 8);
    return u;
}

static void check_ulp(double got, double want, const char *what, double at)
{
    const double unit = nextafter(fabs(want), INFINITY) - fabs(want);
    if (!(fabs(got - want) <= 2 * unit))
        fail_msg("%s(%.17g): %.17g, wanted %.17g", what, at, got, want);
}

static void test_accuracy(void **state)
{
    (void)state;
    static const double ranges[] = {708, 30, 1, 1e-3, 1e-9};
    zb_rng r;
    zb_rng_seed(&r, 1);
    for (int i = 0; i < 500000; i++) {
        const double x = (2 * zb_rng_f64(&r) - 1) * ranges[i % 5];
        check_ulp(zb_fix_exp(x), exp(x), "exp", x);
        const double y = i % 2 ? exp(x) : 1 + x / 709;
        check_ulp(zb_fix_log(y), log(y), "log", y);
    }
    for (int k = -1022; k <= 1023; k++) {
        check_ulp(zb_fix_log(ldexp(1, k)), log(ldexp(1, k)), "log", ldexp(1, k));
        check_ulp(zb_fix_log(ldexp(1.9999999, k)), log(ldexp(1.9999999, k)), "log", ldexp(1.9999999, k));
    }
}

static void test_edges(void **state)
{
    (void)state;
    assert_true(zb_fix_exp(0) == 1 && zb_fix_exp(-0.0) == 1);
    assert_true(zb_fix_exp(-INFINITY) == 0 && zb_fix_exp(-709) == 0 && zb_fix_exp(-708) > 0);
    assert_true(zb_fix_exp(INFINITY) == INFINITY && zb_fix_exp(710) == INFINITY && zb_fix_exp(709) < INFINITY);
    assert_true(isnan(zb_fix_exp(NAN)) && isnan(zb_fix_log(NAN)));
    assert_true(zb_fix_log(1) == 0 && zb_fix_log(INFINITY) == INFINITY);
    assert_true(zb_fix_log(0) == -INFINITY && zb_fix_log(-1) == -INFINITY && zb_fix_log(-INFINITY) == -INFINITY);
    assert_true(zb_fix_log(0x1p-1022) < -708 && zb_fix_log(0x1p-1023) == -INFINITY);
}

static void test_exp_sum(void **state)
{
    (void)state;
    float x[1003];
    zb_rng r;
    zb_rng_seed(&r, 3);
    for (size_t n = 1; n <= 1003; n += n < 40 ? 1 : 321) {
        float max = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            x[i] = (float)(40 * zb_rng_f64(&r) - 20);
            if (i % 17 == 16)
                x[i] = i % 2 ? -INFINITY : -3e38f;
            max = x[i] > max ? x[i] : max;
        }
        double want = 0;
        for (size_t i = 0; i < n; i++)
            want += exp((double)x[i] - max);
        const double got = zb_fix_exp_sum(x, n, max);
        assert_true(fabs(got - want) <= 1e-12 * want);
    }
    x[0] = x[1] = x[900] = INFINITY;
    assert_true(zb_fix_exp_sum(x, 1003, INFINITY) == 3);
    assert_true(zb_fix_exp_sum(x, 0, 0) == 0);
}

/* If one of these fails while the test above passes, this compiler or machine does not do plain IEEE doubles (fused
 * multiply-add, excess precision): sampled texts will differ from everyone else's. */
static void test_bits(void **state)
{
    (void)state;
    zb_rng r;
    zb_rng_seed(&r, 42);
    float x[4096];
    uint64_t sum_exp = 0, sum_log = 0;
    for (int i = 0; i < 4096; i++) {
        const double u = zb_rng_f64(&r);
        sum_exp = sum_exp * 31 + bits(zb_fix_exp(-40 * u));
        sum_log = sum_log * 31 + bits(zb_fix_log((u + 1e-9) * 1e6));
        x[i] = (float)(-25 * u);
    }
    const uint64_t sum = bits(zb_fix_exp_sum(x, 4096, 0));
    if (sum_exp != UINT64_C(0x75f827d9601a662e) || sum_log != UINT64_C(0x7a758723ed5669d3) ||
        sum != UINT64_C(0x40648d439c80d29a))
        fail_msg("bits of exp 0x%016llx, log 0x%016llx, sum 0x%016llx", (unsigned long long)sum_exp,
                 (unsigned long long)sum_log, (unsigned long long)sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accuracy),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_exp_sum),
        cmocka_unit_test(test_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
