/* alloc_hook.h — this program's malloc and its kin, in front of glibc's: they count, and can be told to fail. Include
 * in one source file of a program. Without glibc, and under sanitizers, which have a malloc of their own, ALLOC_HOOK is
 * 0 and the counts stay 0: skip such a test then. One thread counts at a time: the one that called alloc_hook_start. */
#ifndef ZB_ALLOC_HOOK_H
#define ZB_ALLOC_HOOK_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define ALLOC_HOOK 0
#endif
#endif
#if !defined(ALLOC_HOOK) && (!defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__))
#define ALLOC_HOOK 0
#endif
#ifndef ALLOC_HOOK
#define ALLOC_HOOK 1
#endif

static _Thread_local struct {
    int on;
    long calls;   /* since alloc_hook_start                                         */
    long fail_at; /* calls with this number and above fail (-1: none); counts from 0 */
} alloc_hook;

/* Count from 0; with fail_at >= 0 that call and all after it fail. */
static inline void alloc_hook_start(long fail_at)
{
    alloc_hook.calls = 0;
    alloc_hook.fail_at = fail_at;
    alloc_hook.on = 1;
}

/* Stop counting; returns how many calls there were. */
static inline long alloc_hook_stop(void)
{
    alloc_hook.on = 0;
    return alloc_hook.calls;
}

#if ALLOC_HOOK

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

/* 1 if this call is to fail. */
static inline int alloc_hook_fails(void)
{
    if (!alloc_hook.on)
        return 0;
    const long call = alloc_hook.calls++;
    if (alloc_hook.fail_at < 0 || call < alloc_hook.fail_at)
        return 0;
    errno = ENOMEM;
    return 1;
}

/* The declarations of stdlib.h carry hints that make compilers assume they know these functions. */
#define ALLOC_HOOK_EXPORT __attribute__((visibility("default"), used))

ALLOC_HOOK_EXPORT void *malloc(size_t n)
{
    return alloc_hook_fails() ? NULL : __libc_malloc(n);
}

ALLOC_HOOK_EXPORT void *calloc(size_t n, size_t size)
{
    return alloc_hook_fails() ? NULL : __libc_calloc(n, size);
}

ALLOC_HOOK_EXPORT void *realloc(void *p, size_t n)
{
    return alloc_hook_fails() ? NULL : __libc_realloc(p, n);
}

ALLOC_HOOK_EXPORT void *aligned_alloc(size_t align, size_t n)
{
    return alloc_hook_fails() ? NULL : __libc_memalign(align, n);
}

ALLOC_HOOK_EXPORT int posix_memalign(void **out, size_t align, size_t n)
{
    *out = alloc_hook_fails() ? NULL : __libc_memalign(align, n);
    return *out == NULL ? ENOMEM : 0;
}

#endif
#endif
