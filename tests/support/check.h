/* check.h — what every test program includes: cmocka and the comparison of float arrays. Tests run with the project
 * folder as working directory: fixtures are named "tests/...". */
#ifndef ZB_CHECK_H
#define ZB_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "zamba.h"

/* Greatest absolute difference; NaN anywhere gives infinity. */
double check_max_abs(const float *got, const float *want, size_t n);

/* Fail with name, place and values if any element differs by more than `tol` absolutely. */
void check_close(const float *got, const float *want, size_t n, double tol, const char *fmt, ...);

/* Fail with the library's message unless the status is OK. */
#define CHECK_OK(status, err)                                                                                          \
    do {                                                                                                               \
        if ((status) != ZAMBA_OK)                                                                                      \
            fail_msg("%s: %s", zamba_status_name((err).code), (err).message);                                          \
    } while (0)

#endif
