/* fixture_arrays.h — arrays of a safetensors file by name, <kernel>.<case>.<array>, for tests against PyTorch. The
 * including file defines FIXTURE (the file) and TOL, the tolerance relative to the largest value of an array. */
#ifndef ZB_TEST_FIXTURE_ARRAYS_H
#define ZB_TEST_FIXTURE_ARRAYS_H

#include <stdio.h>

#include "io/safetensors.h"
#include "kernels/kernel_sets.h"

static zb_file fixture_file;
static zb_tensors tensors;

static inline const zb_tensor *find(const char *kernel, const char *of_case, const char *array)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s.%s", kernel, of_case, array);
    for (size_t i = 0; i < tensors.n; i++)
        if (strcmp(tensors.items[i].name, name) == 0)
            return &tensors.items[i];
    fail_msg("%s has no %s", FIXTURE, name);
    return NULL;
}

/* The test's own copy of an array. */
static inline float *copy_of(const char *kernel, const char *of_case, const char *array)
{
    const zb_tensor *t = find(kernel, of_case, array);
    float *p = block(t->bytes);
    assert_int_equal(t->dtype, ZB_F32);
    memcpy(p, t->data, t->bytes);
    return p;
}

static inline size_t dim(const char *kernel, const char *of_case, const char *array, int i)
{
    const zb_tensor *t = find(kernel, of_case, array);
    assert_true(i < t->n_dims);
    return t->shape[i];
}

static inline void check_array(const zb_kernels *k, const float *got, const char *kernel, const char *of_case,
                               const char *array)
{
    float *want = copy_of(kernel, of_case, array);
    const size_t n = find(kernel, of_case, array)->bytes / 4;
    double top = 1e-20; /* what f32 barely holds may be 0 in one of them */
    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)want[i]));
    check_close(got, want, n, TOL * top, "%s: %s.%s.%s", k->name, kernel, of_case, array);
    free(want);
}

/* The test for every set of this CPU. */
static inline void run_sets(void **state, void (*test)(const zb_kernels *k))
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t i = 0; i < n; i++)
        test(sets[i]);
}

/* A cmocka test test_NAME of NAME_of. */
#define TEST(name)                                                                                                     \
    static void test_##name(void **state)                                                                              \
    {                                                                                                                  \
        run_sets(state, name##_of);                                                                                    \
    }

/* 1 unless the file cannot be read. */
static inline int fixture_open(void)
{
    zamba_error err;
    zamba_status st = zb_file_map(&fixture_file, FIXTURE, &err);
    if (st == ZAMBA_OK)
        st = zb_safetensors_parse(&tensors, fixture_file.data, fixture_file.size, FIXTURE, &err);
    if (st != ZAMBA_OK)
        fprintf(stderr, "%s\n", err.message);
    return st == ZAMBA_OK;
}

static inline void fixture_close(void)
{
    zb_tensors_close(&tensors);
    zb_file_unmap(&fixture_file);
}

#endif
