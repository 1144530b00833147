/* test_loss.c — losses of a row and of a pair: their gradients against finite differences of values computed in
 * double. */
#include <math.h>

#include "support/check.h"
#include "train/loss.h"

#define VOCAB 13

static const float temperature = 2.5f, alpha = 0.3f;

/* Of what gradient there should be: weight times all of it but for z. */
static double value(const double *x, const float *teacher, size_t target, double weight, double z)
{
    double top = x[0], sum = 0, sum_q = 0, sum_p = 0, divergence = 0;
    for (size_t i = 1; i < VOCAB; i++)
        top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < VOCAB; i++) {
        sum += exp(x[i] - top);
        sum_q += exp((x[i] - top) / (double)temperature);
        sum_p += teacher != NULL ? exp((double)teacher[i] / (double)temperature) : 0;
    }
    const double lse = top + log(sum), hard = -(x[target] - lse) + z * lse * lse;
    if (teacher == NULL)
        return weight * hard;
    for (size_t i = 0; i < VOCAB; i++) {
        const double lp = (double)teacher[i] / (double)temperature - log(sum_p),
                     lq = (x[i] - top) / (double)temperature - log(sum_q);
        divergence += exp(lp) * (lp - lq);
    }
    const double t2 = (double)temperature * (double)temperature;
    return weight * ((1 - (double)alpha) * hard + (double)alpha * t2 * divergence);
}

static void check_row(const float *teacher, float weight, float z)
{
    const size_t target = 4;
    const int32_t targets[] = {-1, (int32_t)target};
    const float weights[] = {1, weight};
    float logits[VOCAB], used[2 * VOCAB], logp[2], divergence[2];
    double x[VOCAB];
    for (size_t i = 0; i < VOCAB; i++) {
        logits[i] = (float)sin(1.3 * (double)i) * 3;
        x[i] = (double)logits[i];
        used[VOCAB + i] = teacher != NULL ? teacher[i] : 0;
    }
    zb_row_loss l = {.kernels = zb_kernels_get(),
                     .gradient = 1,
                     .targets = targets,
                     .weights = weights,
                     .z = z,
                     .logp = logp,
                     .teacher = teacher != NULL ? used : NULL,
                     .alpha = alpha,
                     .temperature = temperature,
                     .divergence = teacher != NULL ? divergence : NULL};
    zb_row_loss_fn(&l, 1, logits, VOCAB);
    for (size_t i = 0; i < VOCAB; i++) {
        const double h = 1e-5, at = x[i];
        x[i] = at + h;
        const double above = value(x, teacher, target, (double)weight, (double)z);
        x[i] = at - h;
        const double below = value(x, teacher, target, (double)weight, (double)z);
        x[i] = at;
        const double want = (above - below) / (2 * h);
        if (!(fabs((double)logits[i] - want) < 2e-5 * (1 + fabs(want))))
            fail_msg("logit %zu: gradient %.8g, wanted %.8g", i, (double)logits[i], want);
    }
    assert_true(fabs((double)logp[1] + value(x, NULL, target, 1, 0)) < 1e-5);
    if (teacher != NULL)
        assert_true(divergence[1] > 0);
    /* a row that is not learned */
    logits[0] = 7;
    zb_row_loss_fn(&l, 0, logits, VOCAB);
    for (size_t i = 0; i < VOCAB; i++)
        assert_true(logits[i] == 0);
    assert_true(logp[0] == 0);
}

static void test_rows(void **state)
{
    (void)state;
    float teacher[VOCAB];
    for (size_t i = 0; i < VOCAB; i++)
        teacher[i] = (float)cos(0.7 * (double)i) * 2;
    check_row(NULL, 1, 0);
    check_row(NULL, 0.25f, 0);
    check_row(NULL, -0.5f, 0);
    check_row(NULL, 1, 0.01f);
    check_row(NULL, 0, 0);
    check_row(teacher, 1, 0);
    check_row(teacher, 2, 0.02f);
}

/* Looking only leaves the value and no need for a gradient. */
static void test_look(void **state)
{
    (void)state;
    const int32_t targets[] = {2};
    float logits[VOCAB] = {0}, logp[1];
    zb_row_loss l = {.kernels = zb_kernels_get(), .targets = targets, .logp = logp};
    zb_row_loss_fn(&l, 0, logits, VOCAB);
    assert_true(fabs((double)logp[0] + log(VOCAB)) < 1e-6);
}

static double pair_value(double chosen, double rejected, double smoothing)
{
    zb_pair p = {.chosen = chosen, .rejected = rejected, .chosen_ref = -12, .rejected_ref = -10.5};
    zb_pair_loss(&p, 0.3, smoothing);
    return p.loss;
}

static void test_pairs(void **state)
{
    (void)state;
    for (int s = 0; s < 2; s++) {
        const double smoothing = s * 0.1, h = 1e-6;
        zb_pair p = {.chosen = -11, .rejected = -14, .chosen_ref = -12, .rejected_ref = -10.5};
        zb_pair_loss(&p, 0.3, smoothing);
        assert_true(fabs(p.h - 0.3 * 4.5) < 1e-12);
        assert_true(fabs(p.chosen_reward - 0.3) < 1e-12 && fabs(p.rejected_reward + 1.05) < 1e-12);
        /* the gradient by log p of the chosen is -weight, by that of the rejected +weight */
        const double c = (pair_value(-11 + h, -14, smoothing) - pair_value(-11 - h, -14, smoothing)) / (2 * h),
                     r = (pair_value(-11, -14 + h, smoothing) - pair_value(-11, -14 - h, smoothing)) / (2 * h);
        assert_true(fabs(c + p.weight) < 1e-8 && fabs(r - p.weight) < 1e-8);
    }
    zb_pair same = {0};
    zb_pair_loss(&same, 0.1, 0);
    assert_true(fabs(same.loss - log(2)) < 1e-12 && fabs(same.weight - 0.05) < 1e-12);
    zb_pair far = {.chosen = -1e5}; /* neither overflow nor NaN */
    zb_pair_loss(&far, 1, 0);
    assert_true(fabs(far.loss - 1e5) < 1e-6 && fabs(far.weight - 1) < 1e-12);
    far.chosen = 1e5;
    zb_pair_loss(&far, 1, 0);
    assert_true(far.loss == 0 && far.weight == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_look),
                                       cmocka_unit_test(test_pairs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
