/* golden.h — goldens as named arrays: safetensors files beside a model, read with the library's own reader. */
#ifndef ZB_GOLDEN_H
#define ZB_GOLDEN_H

#include "io/safetensors.h"
#include "support/check.h"

typedef struct golden {
    zb_tensors tensors;
    zb_file file;
} golden;

#define GOLDEN_DIR "tests/golden/fixtures"

/* Open fixtures/<model>/<file>; returns 0 if it is not there, fails the test if it is damaged. */
int golden_open(golden *g, const char *model, const char *file);
void golden_close(golden *g);

/* The tensor, or a failed test. */
const zb_tensor *golden_get(const golden *g, const char *fmt, ...);

/* I64 tensor as ids; returns how many. Caller frees. */
int32_t *golden_ids(const zb_tensor *t, size_t *n);

/* A number of goldens.json's "tolerance" object. */
double golden_tolerance(const char *model, const char *key);

/* Model opened with options; fails the test on an error. */
zamba_model *golden_model(const char *model, zamba_dt_floor floor, int n_threads);

/* All logits [n, vocab] of ids fed to a fresh sequence in pieces (0-terminated list; the rest one by one; NULL: whole).
 * Caller frees. */
float *golden_logits(zamba_model *m, const int32_t *ids, size_t n, const size_t *pieces);

#endif
