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
    int on, once;
    long calls;   /* since alloc_hook_start                       */
    long fail_at; /* number of the call that fails, -1: none does */
    long live;    /* blocks taken and not released since then     */
} alloc_hook;

/* Count from 0; with fail_at >= 0 that call fails, and with `once` 0 all after it. */
static inline void alloc_hook_start(long fail_at, int once)
{
    alloc_hook.once = once;
    alloc_hook.calls = alloc_hook.live = 0;
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
void __libc_free(void *p);

/* 1 if this call is to fail. */
static inline int alloc_hook_fails(void)
{
    if (!alloc_hook.on)
        return 0;
    const long call = alloc_hook.calls++;
    if (alloc_hook.fail_at < 0 || call < alloc_hook.fail_at || (alloc_hook.once && call > alloc_hook.fail_at))
        return 0;
    errno = ENOMEM;
    return 1;
}

/* Libraries must see them too, whatever the visibility of the rest. */
#define ALLOC_HOOK_EXPORT __attribute__((visibility("default"), used))

static inline void *alloc_hook_taken(void *p)
{
    alloc_hook.live += alloc_hook.on && p != NULL;
    return p;
}

ALLOC_HOOK_EXPORT void *malloc(size_t n)
{
    return alloc_hook_fails() ? NULL : alloc_hook_taken(__libc_malloc(n));
}

ALLOC_HOOK_EXPORT void *calloc(size_t n, size_t size)
{
    return alloc_hook_fails() ? NULL : alloc_hook_taken(__libc_calloc(n, size));
}

ALLOC_HOOK_EXPORT void *realloc(void *p, size_t n)
{
    if (alloc_hook_fails())
        return NULL;
    return p == NULL ? alloc_hook_taken(__libc_realloc(p, n)) : __libc_realloc(p, n);
}

ALLOC_HOOK_EXPORT void *aligned_alloc(size_t align, size_t n)
{
    return alloc_hook_fails() ? NULL : alloc_hook_taken(__libc_memalign(align, n));
}

ALLOC_HOOK_EXPORT int posix_memalign(void **out, size_t align, size_t n)
{
    *out = alloc_hook_fails() ? NULL : alloc_hook_taken(__libc_memalign(align, n));
    return *out == NULL ? ENOMEM : 0;
}

ALLOC_HOOK_EXPORT void free(void *p)
{
    alloc_hook.live -= alloc_hook.on && p != NULL;
    __libc_free(p);
}

#endif

/* Run `run` with its k-th allocation failing, for k = 0, 1, ... until it gets by without so many (between the first and
 * the last `dense` calls only every step-th): with that call and all later ones, then with that call alone. It must not
 * crash, and say OK or E_MEMORY (or `also`) with a message, nothing else, and release all it took. Needs check.h. */
static inline void check_every_failure(const char *name, zamba_status (*run)(zamba_error *err), zamba_status also,
                                       long dense, long step)
{
    zamba_error err = {0};
    alloc_hook_start(-1, 0);
    const zamba_status st = run(&err);
    const long calls = alloc_hook_stop();
    if (st != ZAMBA_OK || calls == 0)
        fail_msg("%s: %s (%s) with %ld allocations and none failing", name, zamba_status_name(st), err.message, calls);
    for (int once = 0; once < 2; once++) {
        long k = 0;
        for (;;) {
            err = (zamba_error){0};
            alloc_hook_start(k, once);
            const zamba_status got = run(&err);
            if (alloc_hook_stop() <= k) /* so few that none failed */
                break;
            if (got != ZAMBA_OK &&
                ((got != ZAMBA_E_MEMORY && got != also) || err.code != got || err.message[0] == '\0'))
                fail_msg("%s: allocation %ld failing gave %s: %s", name, k, zamba_status_name(got), err.message);
            if (alloc_hook.live != 0)
                fail_msg("%s: allocation %ld failing left %ld blocks behind", name, k, alloc_hook.live);
            if (k < dense || k >= calls - dense)
                k++;
            else
                k = k + step < calls - dense ? k + step : calls - dense;
        }
    }
}

#endif
