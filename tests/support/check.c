/* check.c — comparison of float arrays for the tests. */
#include "support/check.h"

#include <math.h>
#include <stdio.h>

double check_max_abs(const float *got, const float *want, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        if (isnan(d))
            return INFINITY;
        if (d > worst)
            worst = d;
    }
    return worst;
}

void check_close(const float *got, const float *want, size_t n, double tol, const char *fmt, ...)
{
    char name[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= tol))
            fail_msg("%s: element %zu of %zu is %.9g, wanted %.9g (off by %.3g, allowed %.3g)", name, i, n,
                     (double)got[i], (double)want[i], d, tol);
    }
}
