/* kernel_sets.h — what the kernel tests share: random arrays, blocks of exact size (so that a sanitizer sees one step
 * too far), and the sets this CPU runs. */
#ifndef ZB_TEST_KERNEL_SETS_H
#define ZB_TEST_KERNEL_SETS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "support/check.h"

#define MAX_SETS 8

/* All sets; fails unless the first is "ref". Asked once: a virtual machine answers cpuid slowly. */
static inline size_t sets_of_this_cpu(const zb_kernels *sets[MAX_SETS])
{
    static const zb_kernels *all[MAX_SETS];
    static size_t n;
    if (n == 0)
        n = zb_kernels_all(all, MAX_SETS);
    memcpy(sets, all, sizeof all);
    assert_true(n >= 1);
    assert_string_equal(sets[0]->name, "ref");
    return n;
}

static inline const zb_kernels *ref_set(void)
{
    const zb_kernels *sets[MAX_SETS];
    sets_of_this_cpu(sets);
    return sets[0];
}

/* A plain generator: numbers in [lo, hi). */
static inline float random_float(uint64_t *seed, float lo, float hi)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return lo + (hi - lo) * (float)(*seed >> 40) * 0x1p-24f;
}

static inline void *block(size_t n_bytes)
{
    void *p = malloc(n_bytes ? n_bytes : 1);
    assert_non_null(p);
    return p;
}

static inline float *random_block(size_t n, uint64_t seed, float lo, float hi)
{
    float *p = block(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        p[i] = random_float(&seed, lo, hi);
    return p;
}

static inline float *filled_block(size_t n, float value)
{
    float *p = block(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        p[i] = value;
    return p;
}

static inline float *copy_block(const float *from, size_t n)
{
    float *p = block(n * sizeof(float));
    memcpy(p, from, n * sizeof(float));
    return p;
}

/* f32 numbers as stored weights of type t. */
static inline void *stored_block(const float *from, size_t n, zb_dtype t)
{
    if (t == ZB_F32)
        return copy_block(from, n);
    uint16_t *p = block(n * 2);
    for (size_t i = 0; i < n; i++)
        p[i] = t == ZB_BF16 ? zb_f32_bf16(from[i]) : zb_f32_f16(from[i]);
    return p;
}

/* Attention over one piece, divided by its total: the whole softmax if the piece holds every key. */
static inline void attention_whole(const zb_kernels *k, const zb_attn_args *args)
{
    zb_attn_args a = *args;
    a.greatest = block(a.n_rows * sizeof(float));
    a.total = block(a.n_rows * sizeof(float));
    k->attention(&a);
    for (size_t r = 0; r < a.n_rows; r++)
        for (size_t i = 0; i < a.head_dim; i++)
            a.out[r * a.ld_out + i] *= 1.0f / a.total[r];
    free(a.greatest);
    free(a.total);
}

#endif
