/* quantize.h — what stands between zamba_quantize() and the tests: how the work is cut, so that tests can cut it small.
 */
#ifndef ZB_QUANTIZE_H
#define ZB_QUANTIZE_H

#include <stddef.h>

/* Numbers that are packed between two writes, and those of one task. The output does not depend on them. */
typedef struct zb_quantize_cut {
    size_t batch, task;
} zb_quantize_cut;
extern zb_quantize_cut zb_quantize_cuts;

#endif
