/* test_optimizer.c — AdamW over arenas: against its formula in double, decay where the tensor list says so, shares of
 * an arena together equal the whole, the norm whatever the threads. */
#include <math.h>
#include <stdlib.h>

#include "train/optimizer.h"
#include "trainer_fixture.h"

#define STEPS 3

typedef struct setup {
    scratch s;
    zamba_model *m;
    zb_params p;
} setup;

static void open_setup(setup *u)
{
    zamba_error err;
    scratch_open(&u->s);
    u->m = tiny_model(&u->s, tiny_odd2);
    CHECK_OK(zb_params_open(&u->p, u->m, 0, &err), err);
}

static void close_setup(setup *u)
{
    zb_params_close(&u->p);
    zamba_model_close(u->m);
    scratch_close(&u->s);
}

/* Where tensors stand; padding stays 0. */
static void fill_gradients(const zb_params *p, int step)
{
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < zb_spec_elements(&p->m->plan.specs[i]); k++) {
            const size_t at = p->at[i] + k;
            p->grad[at] = (float)sin((double)at * 0.37 + step) * (at % 5 == 0 ? 1e-4f : 2.0f);
        }
}

static zb_update update_of(int decay_all)
{
    return (zb_update){.rate = 1e-2,
                       .beta1 = 0.9,
                       .beta2 = 0.95,
                       .epsilon = 1e-8,
                       .decay = 0.1,
                       .decay_all = decay_all,
                       .gradient = 0.25};
}

static void check_formula(int decay_all)
{
    setup u;
    zb_optimizer o;
    zamba_error err;
    open_setup(&u);
    const size_t n = u.p.floats;
    double *want = calloc(3 * n, sizeof *want), *m = want + n, *v = m + n;
    assert_non_null(want);
    for (size_t i = 0; i < n; i++)
        want[i] = (double)u.p.value[i];
    CHECK_OK(zb_optimizer_open(&o, &u.p, 0, n, &err), err);
    CHECK_OK(zb_optimizer_reserve(&o, &err), err);
    const zb_update how = update_of(decay_all);
    for (int step = 1; step <= STEPS; step++) {
        fill_gradients(&u.p, step);
        zb_optimizer_update(&o, &how);
        for (size_t i = 0; i < u.p.n; i++)
            for (size_t at = u.p.at[i]; at < u.p.at[i + 1]; at++) {
                const double g = (double)u.p.grad[at] * how.gradient;
                if (decay_all || u.m->plan.specs[i].decay)
                    want[at] *= 1 - how.rate * how.decay;
                m[at] = how.beta1 * m[at] + (1 - how.beta1) * g;
                v[at] = how.beta2 * v[at] + (1 - how.beta2) * g * g;
                const double c1 = 1 - pow(how.beta1, step), c2 = 1 - pow(how.beta2, step);
                want[at] -= how.rate / c1 * m[at] / (sqrt(v[at] / c2) + how.epsilon);
            }
    }
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)u.p.value[i] - want[i]) < 1e-6))
            fail_msg("float %zu: %.9g, wanted %.9g", i, (double)u.p.value[i], want[i]);
    for (size_t i = 0; i < u.p.n; i++)
        for (size_t at = u.p.at[i] + zb_spec_elements(&u.m->plan.specs[i]); at < u.p.at[i + 1]; at++)
            assert_true(u.p.value[at] == 0 && o.m[at] == 0 && o.v[at] == 0);
    assert_int_equal(o.updates, STEPS);
    zb_optimizer_close(&o);
    free(want);
    close_setup(&u);
}

static void test_formula(void **state)
{
    (void)state;
    check_formula(0);
    check_formula(1);
}

/* Two optimizers that hold a share each do what one does. */
static void test_shares(void **state)
{
    (void)state;
    setup whole, parts;
    zb_optimizer all, low, high;
    zamba_error err;
    open_setup(&whole);
    open_setup(&parts);
    const size_t n = whole.p.floats, cut = n / 3 / 16 * 16;
    const zb_update how = update_of(0);
    CHECK_OK(zb_optimizer_open(&all, &whole.p, 0, n, &err), err);
    CHECK_OK(zb_optimizer_open(&low, &parts.p, 0, cut, &err), err);
    CHECK_OK(zb_optimizer_open(&high, &parts.p, cut, n, &err), err);
    CHECK_OK(zb_optimizer_reserve(&all, &err), err);
    CHECK_OK(zb_optimizer_reserve(&low, &err), err);
    CHECK_OK(zb_optimizer_reserve(&high, &err), err);
    for (int step = 0; step < STEPS; step++) {
        fill_gradients(&whole.p, step);
        fill_gradients(&parts.p, step);
        const double a = zb_optimizer_sum_squares(&all),
                     b = zb_optimizer_sum_squares(&low) + zb_optimizer_sum_squares(&high);
        assert_true(fabs(a - b) <= 1e-12 * a);
        zb_optimizer_update(&all, &how);
        zb_optimizer_update(&low, &how);
        zb_optimizer_update(&high, &how);
    }
    assert_memory_equal(whole.p.value, parts.p.value, n * sizeof(float));
    assert_memory_equal(all.m, low.m, cut * sizeof(float));
    assert_memory_equal(all.v + cut, high.v, (n - cut) * sizeof(float));
    zb_optimizer_close(&all);
    zb_optimizer_close(&low);
    zb_optimizer_close(&high);
    close_setup(&whole);
    close_setup(&parts);
}

static void test_gradients(void **state)
{
    (void)state;
    setup u;
    zb_optimizer o;
    zamba_error err;
    double sum = 0;
    open_setup(&u);
    CHECK_OK(zb_optimizer_open(&o, &u.p, 0, u.p.floats, &err), err);
    fill_gradients(&u.p, 1);
    for (size_t i = 0; i < u.p.floats; i++)
        sum += (double)u.p.grad[i] * (double)u.p.grad[i];
    assert_true(fabs(zb_optimizer_sum_squares(&o) - sum) <= 1e-10 * sum);
    zb_gradients_scale(&u.p, 0.5f);
    assert_true(fabs(zb_optimizer_sum_squares(&o) - 0.25 * sum) <= 1e-10 * sum);
    u.p.grad[3] = NAN;
    assert_true(isnan(zb_optimizer_sum_squares(&o)));
    zb_gradients_clear(&u.p);
    assert_true(zb_optimizer_sum_squares(&o) == 0);
    zb_optimizer_close(&o);
    close_setup(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
