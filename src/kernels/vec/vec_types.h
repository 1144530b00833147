/* vec_types.h — vectors of VW lanes: in registers, and in memory at any address. See vec_ops.h. */
#ifndef ZB_VEC_TYPES_H
#define ZB_VEC_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/sets.h"

typedef float vf __attribute__((vector_size(VW * 4)));
typedef int32_t vi __attribute__((vector_size(VW * 4)));
typedef uint32_t vu __attribute__((vector_size(VW * 4)));
typedef uint16_t vh __attribute__((vector_size(VW * 2)));
typedef uint64_t vq __attribute__((vector_size(VW * 4)));
typedef float vf_memory __attribute__((vector_size(VW * 4), aligned(1), may_alias));
typedef uint64_t vq_memory __attribute__((vector_size(VW * 4), aligned(1), may_alias));

#endif
