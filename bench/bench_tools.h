/* bench_tools.h — what the kernel benchmarks share: the thread's own clock and filled arrays. */
#ifndef ZB_BENCH_TOOLS_H
#define ZB_BENCH_TOOLS_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/mem.h"

/* Seconds of processor time of this thread. */
static inline double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline float *floats(size_t n)
{
    float *p = zb_alloc_aligned(n * sizeof *p);
    if (p == NULL) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    for (size_t i = 0; i < n; i++)
        p[i] = (float)((i * 2654435761u) % 2001) * 1e-3f - 1.0f;
    return p;
}

#endif
