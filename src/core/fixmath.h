/* fixmath.h — exp and log in double whose every bit is the same on every machine: only + - * / and bit operations, and
 * a file that is compiled without contraction to fused multiply-add. Within 2 units in the last place of the truth.
 * libm is as good, but differs from one version and one processor to the next. */
#ifndef ZB_FIXMATH_H
#define ZB_FIXMATH_H

#include <stddef.h>

/* e^x. 0 below -708 (no denormals), infinity above 709; NaN stays NaN. */
double zb_fix_exp(double x);

/* ln x for x > 0 and normal; -infinity at and below 0 and for denormals; infinity and NaN stay. */
double zb_fix_log(double x);

/* Sum of e^(x[i] - max) over n floats, added up in eight interleaved sums. max is the greatest of x; may be infinite:
 * then it counts the infinite ones. No x may be NaN. */
double zb_fix_exp_sum(const float *x, size_t n, float max);

#endif
