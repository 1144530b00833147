/* alloc_count.c — counts calls of malloc and its kin, for `zamba backbone bench`. The linker leads those of this
 * program and of the library here (--wrap, see CMakeLists.txt); where it cannot, nothing is counted. Calls from inside
 * the C library and other libraries are not seen. */
#include "backbone_verbs.h"

#ifdef ZAMBA_WRAP_MALLOC

#include <stdatomic.h>
#include <stdlib.h>

static atomic_long calls;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **out, size_t align, size_t n);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __wrap_posix_memalign(void **out, size_t align, size_t n);

static void count(void)
{
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
}

void *__wrap_malloc(size_t n)
{
    count();
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    count();
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    count();
    return __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    count();
    return __real_aligned_alloc(align, n);
}

int __wrap_posix_memalign(void **out, size_t align, size_t n)
{
    count();
    return __real_posix_memalign(out, align, n);
}

void alloc_count_reset(void)
{
    atomic_store(&calls, 0);
}

long alloc_count(void)
{
    return atomic_load(&calls);
}

#else

void alloc_count_reset(void)
{
}

long alloc_count(void)
{
    return -1;
}

#endif
