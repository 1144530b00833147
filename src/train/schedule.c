/* schedule.c — see schedule.h. Warm-up is the same for all: the rate grows linearly and is whole at the last step of
 * it, so that no step is made with a rate of 0. */
#include "train/schedule.h"

#include <math.h>

#define PI 3.14159265358979323846

/* The floor in parts of the rate, where none was given. */
static double floor_of(const zamba_train_options *o)
{
    if (o->min_learning_rate >= 0)
        return o->min_learning_rate;
    switch (o->schedule) {
    case ZAMBA_SCHEDULE_COSINE:
        return 0.1 * o->learning_rate;
    case ZAMBA_SCHEDULE_ANNEAL:
        return 0.01 * o->learning_rate;
    case ZAMBA_SCHEDULE_CONSTANT:
    case ZAMBA_SCHEDULE_LINEAR:
    case ZAMBA_SCHEDULE_WSD:
        break;
    }
    return 0;
}

zamba_status zb_schedule_check(const zamba_train_options *o, zamba_error *err)
{
    if ((int)o->schedule < 0 || o->schedule > ZAMBA_SCHEDULE_ANNEAL)
        return zb_fail(err, ZAMBA_E_ARG, "schedule: %d is none of constant, linear, cosine, wsd, anneal",
                       (int)o->schedule);
    if (!(o->learning_rate > 0 && o->learning_rate <= 1))
        return zb_fail(err, ZAMBA_E_ARG,
                       "learning rate: %g, wanted more than 0 and at most 1 (1e-3 suits small models)",
                       o->learning_rate);
    if (!(o->min_learning_rate <= o->learning_rate))
        return zb_fail(err, ZAMBA_E_ARG, "least learning rate: %g, wanted at most the learning rate, %g",
                       o->min_learning_rate, o->learning_rate);
    if (o->total_steps < 1 || o->warmup_steps < 0 || o->warmup_steps > o->total_steps)
        return zb_fail(err, ZAMBA_E_ARG,
                       "%lld steps of warm-up in %lld steps: wanted at least 1 step, and no longer a "
                       "warm-up",
                       (long long)o->warmup_steps, (long long)o->total_steps);
    if (!(o->decay_share >= 0 && o->decay_share <= 1))
        return zb_fail(err, ZAMBA_E_ARG, "share of steps in which the rate falls: %g, wanted 0 to 1", o->decay_share);
    return ZAMBA_OK;
}

/* From 0 at step `from` to 1 at the end. */
static double progress(const zamba_train_options *o, double from, int64_t step)
{
    const double all = (double)o->total_steps - from, done = (double)step - from;
    return done <= 0 ? 0 : all <= 0 || done >= all ? 1 : done / all;
}

double zb_learning_rate(const zamba_train_options *o, int64_t step)
{
    if (o->rate != NULL)
        return o->rate(o->user, step);
    const double top = o->learning_rate, least = floor_of(o), warm = (double)o->warmup_steps;
    if (step < o->warmup_steps)
        return top * (double)(step + 1) / warm;
    switch (o->schedule) {
    case ZAMBA_SCHEDULE_LINEAR:
        return top + (least - top) * progress(o, warm, step);
    case ZAMBA_SCHEDULE_COSINE:
        return least + (top - least) * 0.5 * (1 + cos(PI * progress(o, warm, step)));
    case ZAMBA_SCHEDULE_WSD: {
        const double from = (double)o->total_steps * (1 - o->decay_share);
        return top + (least - top) * progress(o, from > warm ? from : warm, step);
    }
    case ZAMBA_SCHEDULE_ANNEAL: /* an exponential cannot reach 0 */
        return top * pow((least > 0 ? least : 1e-3 * top) / top, progress(o, warm, step));
    case ZAMBA_SCHEDULE_CONSTANT:
        break;
    }
    return top;
}
