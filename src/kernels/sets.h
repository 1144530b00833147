/* sets.h — the kernel tables beside ref, for dispatch.c and the tests. isa.cmake defines ZB_HAVE_* for the sets that
 * this build has; a table may be called only on a CPU that has what it was compiled for. A table may leave entries
 * NULL: dispatch.c lays each over the set it builds on. */
#ifndef ZB_KERNELS_SETS_H
#define ZB_KERNELS_SETS_H

#include "kernels/kernels.h"

extern const zb_kernels zb_kernels_generic;
extern const zb_kernels zb_kernels_avx2;
extern const zb_kernels zb_kernels_avx512;     /* over avx2 */
extern const zb_kernels zb_kernels_avx512vnni; /* over avx512 */
extern const zb_kernels zb_kernels_avx512bf16; /* over avx512vnni */
extern const zb_kernels zb_kernels_neon;
extern const zb_kernels zb_kernels_neondot;  /* over neon */
extern const zb_kernels zb_kernels_neonbf16; /* over neondot */

/* What zb_kernels_get() chooses with ZAMBA_CPU = `cap` (NULL: not set) on a CPU with the ZB_CPU_* bits `cpu`. */
const zb_kernels *zb_kernels_choose(const char *cap, unsigned cpu);

#endif
