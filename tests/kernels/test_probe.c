/* test_probe.c — the probes of the machine give believable numbers and refuse nonsense. */
#include "support/check.h"

static void test_reads(void **state)
{
    zamba_error err = {0};
    (void)state;
    for (int32_t n_threads = 0; n_threads <= 3; n_threads++) {
        double rate = 0;
        CHECK_OK(zamba_probe_read((size_t)8 << 20, n_threads, 3, &rate, &err), err);
        assert_true(rate > 1e7 && rate < 1e13);
    }
}

static void test_products(void **state)
{
    zamba_error err = {0};
    (void)state;
    for (int compute = ZAMBA_COMPUTE_F32; compute <= ZAMBA_COMPUTE_BF16; compute++) {
        double rate = 0;
        CHECK_OK(zamba_probe_products((zamba_compute)compute, 1, 1, &rate, &err), err);
        assert_true(rate > 1e7 && rate < 1e14);
    }
}

static void test_refuses(void **state)
{
    zamba_error err = {0};
    double rate = 1;
    (void)state;
    assert_int_equal(zamba_probe_read(0, 1, 1, &rate, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_probe_read(1 << 20, -1, 1, &rate, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_probe_read(1 << 20, 1, 0, &rate, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_probe_read(SIZE_MAX, 1, 1, &rate, &err), ZAMBA_E_MEMORY);
    assert_true(rate <= 0);
    assert_int_equal(zamba_probe_products(ZAMBA_COMPUTE_AUTO, 1, 1, &rate, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_probe_products(ZAMBA_COMPUTE_F32, 2000, 1, &rate, &err), ZAMBA_E_ARG);
    assert_int_equal(zamba_probe_products(ZAMBA_COMPUTE_F32, 1, 0, &rate, &err), ZAMBA_E_ARG);
    assert_true(rate <= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reads), cmocka_unit_test(test_products),
                                       cmocka_unit_test(test_refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
