/* unroll.h — what the vector kernels ask of the compiler. */
#ifndef ZB_UNROLL_H
#define ZB_UNROLL_H

#define INLINE static inline __attribute__((always_inline))

/* Loops over the vectors or rows of a register tile: fully unrolled, or the accumulators live in memory. Not in builds
 * with a sanitizer, whose checks would make such functions too long to compile. */
#if defined(__clang__)
#if __has_feature(address_sanitizer) || __has_feature(undefined_behavior_sanitizer) || __has_feature(thread_sanitizer)
#define UNROLL
#define FOR_EACH_TYPE static __attribute__((noinline))
#else
#define UNROLL _Pragma("clang loop unroll(full)")
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL
#define FOR_EACH_TYPE static __attribute__((noinline))
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* Functions that are compiled anew for each type and tile that they are given as a constant; with a sanitizer once. */
#ifndef FOR_EACH_TYPE
#define FOR_EACH_TYPE INLINE
#endif

#endif
