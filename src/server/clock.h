/* clock.h — the time that the server measures by: monotonic seconds, and waiting on a condition until then. */
#ifndef SV_CLOCK_H
#define SV_CLOCK_H

#include <math.h>
#include <pthread.h>
#include <time.h>

#if defined(__APPLE__) /* its conditions know one clock only */
#define SV_CLOCK CLOCK_REALTIME
#else
#define SV_CLOCK CLOCK_MONOTONIC
#endif

static inline double sv_now(void)
{
    struct timespec t;
    clock_gettime(SV_CLOCK, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline int sv_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t a;
    if (pthread_condattr_init(&a) != 0)
        return 0;
#if !defined(__APPLE__)
    pthread_condattr_setclock(&a, SV_CLOCK);
#endif
    const int ok = pthread_cond_init(c, &a) == 0;
    pthread_condattr_destroy(&a);
    return ok;
}

/* Wait until `when` (of sv_now) at the latest. */
static inline void sv_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, double when)
{
    const double whole = floor(when);
    const struct timespec t = {.tv_sec = (time_t)whole, .tv_nsec = (long)((when - whole) * 1e9)};
    pthread_cond_timedwait(c, m, &t);
}

#endif
