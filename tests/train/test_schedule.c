/* test_schedule.c — learning rates: ends, warm-up, shapes; and what is refused. */
#include <math.h>

#include "support/check.h"
#include "support/scratch.h"
#include "train/schedule.h"

static zamba_train_options base(zamba_schedule schedule)
{
    zamba_train_options o = zamba_train_defaults();
    o.schedule = schedule;
    o.learning_rate = 1e-3;
    o.min_learning_rate = 1e-4;
    o.warmup_steps = 10;
    o.total_steps = 110;
    return o;
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * fabs(want)))
        fail_msg("got %.12g, wanted %.12g", got, want);
}

static void test_warmup(void **state)
{
    (void)state;
    for (int s = 0; s <= ZAMBA_SCHEDULE_ANNEAL; s++) {
        zamba_train_options o = base((zamba_schedule)s);
        near(zb_learning_rate(&o, 0), 1e-4);
        near(zb_learning_rate(&o, 4), 5e-4);
        near(zb_learning_rate(&o, 9), 1e-3);
        near(zb_learning_rate(&o, 10), 1e-3);
        o.warmup_steps = 0;
        near(zb_learning_rate(&o, 0), 1e-3);
    }
}

static void test_shapes(void **state)
{
    (void)state;
    zamba_train_options o = base(ZAMBA_SCHEDULE_CONSTANT);
    near(zb_learning_rate(&o, 109), 1e-3);
    near(zb_learning_rate(&o, 5000), 1e-3);
    o = base(ZAMBA_SCHEDULE_LINEAR);
    near(zb_learning_rate(&o, 60), 5.5e-4);
    near(zb_learning_rate(&o, 110), 1e-4);
    near(zb_learning_rate(&o, 111), 1e-4);
    o = base(ZAMBA_SCHEDULE_COSINE);
    near(zb_learning_rate(&o, 60), 5.5e-4);
    near(zb_learning_rate(&o, 35), 1e-4 + 9e-4 * 0.5 * (1 + sqrt(0.5)));
    near(zb_learning_rate(&o, 1000), 1e-4);
    o = base(ZAMBA_SCHEDULE_WSD);
    o.decay_share = 0.5;
    near(zb_learning_rate(&o, 55), 1e-3);
    near(zb_learning_rate(&o, 82), 1e-3 - 9e-4 * 27 / 55);
    near(zb_learning_rate(&o, 110), 1e-4);
    o = base(ZAMBA_SCHEDULE_ANNEAL);
    near(zb_learning_rate(&o, 60), 1e-3 * sqrt(0.1));
    near(zb_learning_rate(&o, 110), 1e-4);
}

/* Floors that were not given; Zamba's own pretraining, 1.5e-4 to 7.5e-5. */
static void test_floors(void **state)
{
    (void)state;
    const double floors[] = {1e-3, 0, 1e-4, 0, 1e-5};
    for (int s = 0; s <= ZAMBA_SCHEDULE_ANNEAL; s++) {
        zamba_train_options o = base((zamba_schedule)s);
        o.min_learning_rate = -1;
        const double got = zb_learning_rate(&o, 110);
        assert_true(fabs(got - floors[s]) < 1e-12);
    }
    zamba_train_options o = base(ZAMBA_SCHEDULE_COSINE);
    o.learning_rate = 1.5e-4;
    o.min_learning_rate = 7.5e-5;
    near(zb_learning_rate(&o, 10), 1.5e-4);
    near(zb_learning_rate(&o, 110), 7.5e-5);
}

static double own_rate(void *user, int64_t step)
{
    return *(const double *)user * (double)step;
}

static void test_override(void **state)
{
    (void)state;
    double by = 3;
    zamba_train_options o = base(ZAMBA_SCHEDULE_COSINE);
    o.rate = own_rate;
    o.user = &by;
    near(zb_learning_rate(&o, 7), 21);
}

static void test_refused(void **state)
{
    (void)state;
    zamba_error err;
    zamba_train_options o = base(ZAMBA_SCHEDULE_COSINE);
    CHECK_OK(zb_schedule_check(&o, &err), err);
    o.learning_rate = NAN;
    check_refused(zb_schedule_check(&o, &err), &err, ZAMBA_E_ARG, "learning rate", "nan", NULL);
    o.learning_rate = 0;
    check_refused(zb_schedule_check(&o, &err), &err, ZAMBA_E_ARG, "learning rate", NULL);
    o.learning_rate = 1e-5;
    check_refused(zb_schedule_check(&o, &err), &err, ZAMBA_E_ARG, "least learning rate", NULL);
    o = base(ZAMBA_SCHEDULE_COSINE);
    o.min_learning_rate = NAN;
    check_refused(zb_schedule_check(&o, &err), &err, ZAMBA_E_ARG, "least learning rate", NULL);
    o = base(ZAMBA_SCHEDULE_COSINE);
    o.warmup_steps = 111;
    check_refused(zb_schedule_check(&o, &err), &err, ZAMBA_E_ARG, "111", "110", NULL);
    o = base((zamba_schedule)9);
    check_refused(zb_schedule_check(&o, &err), &err, ZAMBA_E_ARG, "schedule", NULL);
    o = base(ZAMBA_SCHEDULE_WSD);
    o.decay_share = 2;
    check_refused(zb_schedule_check(&o, &err), &err, ZAMBA_E_ARG, "share", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warmup),   cmocka_unit_test(test_shapes),  cmocka_unit_test(test_floors),
        cmocka_unit_test(test_override), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
