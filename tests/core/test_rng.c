/* test_rng.c — the random generator against the numbers its authors published, and its derived draws. */
#include "support/check.h"

#include "core/rng.h"

static void test_splitmix64_reference(void **state)
{
    (void)state;
    static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                    4593380528125082431u, 16408922859458223821u};
    uint64_t s = 1234567;
    for (size_t i = 0; i < 5; i++)
        assert_true(zb_splitmix64(&s) == want[i]);
}

static void test_xoshiro_reference(void **state)
{
    (void)state;
    static const uint64_t want[] = {11520u,
                                    0u,
                                    1509978240u,
                                    1215971899390074240u,
                                    1216172134540287360u,
                                    607988272756665600u,
                                    16172922978634559625u,
                                    8476171486693032832u,
                                    10595114339597558777u,
                                    2904607092377533576u};
    zb_rng r = {{1, 2, 3, 4}};
    for (size_t i = 0; i < 10; i++)
        assert_true(zb_rng_u64(&r) == want[i]);
}

static void test_doubles(void **state)
{
    (void)state;
    zb_rng r;
    zb_rng_seed(&r, 0);
    double sum = 0, least = 1, most = 0;
    for (int i = 0; i < 100000; i++) {
        const double x = zb_rng_f64(&r);
        assert_true(x >= 0 && x < 1);
        sum += x;
        least = x < least ? x : least;
        most = x > most ? x : most;
    }
    assert_true(sum > 49500 && sum < 50500); /* 5 sigma is 456 */
    assert_true(least < 1e-3 && most > 1 - 1e-3);
}

static void test_below(void **state)
{
    (void)state;
    zb_rng r;
    zb_rng_seed(&r, 7);
    int counts[7] = {0};
    for (int i = 0; i < 70000; i++)
        counts[zb_rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 9500, 10500); /* 5 sigma is 463 */
    for (int i = 0; i < 100; i++)
        assert_true(zb_rng_below(&r, 1) == 0);
    /* a range just above 2^63: without rejection the lower half would come three times as often */
    const uint64_t n = ((uint64_t)1 << 63) + ((uint64_t)1 << 62);
    int low = 0;
    for (int i = 0; i < 30000; i++) {
        const uint64_t x = zb_rng_below(&r, n);
        assert_true(x < n);
        low += x < n / 3;
    }
    assert_in_range(low, 9500, 10500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splitmix64_reference),
        cmocka_unit_test(test_xoshiro_reference),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
