/* quant_fixtures.h — what the tests of blocks share: the arrays of a fixture (made by
 * reference/make_quant_fixtures.py), memory of exact size, random rows. */
#ifndef ZB_TEST_QUANT_FIXTURES_H
#define ZB_TEST_QUANT_FIXTURES_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "io/safetensors.h"
#include "quant/quant.h"
#include "support/check.h"

static inline void fixture_open(zb_tensors *ts, const char *name)
{
    zamba_error err;
    char path[128];
    snprintf(path, sizeof path, "tests/quant/fixtures/%s.safetensors", name);
    memset(ts, 0, sizeof *ts);
    ts->files = calloc(1, sizeof *ts->files);
    assert_non_null(ts->files);
    ts->n_files = 1;
    CHECK_OK(zb_file_map(ts->files, path, &err), err);
    CHECK_OK(zb_safetensors_parse(ts, ts->files->data, ts->files->size, path, &err), err);
}

static inline const zb_tensor *fixture_find(const zb_tensors *ts, const char *type, const char *array)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", type, *type ? "." : "", array);
    for (size_t i = 0; i < ts->n; i++)
        if (strcmp(ts->items[i].name, name) == 0)
            return &ts->items[i];
    return NULL;
}

static inline void *exact(size_t n_bytes)
{
    void *p = malloc(n_bytes ? n_bytes : 1);
    assert_non_null(p);
    return p;
}

/* Nearly normal: the sum of twelve uniform numbers, the same on every machine. */
static inline float normal(zb_rng *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += zb_rng_f64(r);
    return (float)sum;
}

#endif
