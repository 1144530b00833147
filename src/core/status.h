/* status.h — how a function reports failure: a status code and a message in the caller's zamba_error. */
#ifndef ZB_STATUS_H
#define ZB_STATUS_H

#include <stdarg.h>

#include "zamba.h"

#if defined(__GNUC__)
#define ZB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define ZB_PRINTF(fmt, args)
#endif

/* Fill *err (if not NULL) and return `code`, so that `return zb_fail(err, ...)` is one line. */
zamba_status zb_fail(zamba_error *err, zamba_status code, const char *fmt, ...) ZB_PRINTF(3, 4);

/* Put "prefix: " in front of a message that a callee wrote; returns err's code unchanged. */
zamba_status zb_fail_prefix(zamba_error *err, zamba_status code, const char *fmt, ...) ZB_PRINTF(3, 4);

/* Out of memory while making `what` of n bytes. */
zamba_status zb_fail_memory(zamba_error *err, const char *what, size_t n_bytes);

/* Send a message to the caller's log callback, if there is one. */
void zb_log(zamba_log_level level, const char *fmt, ...) ZB_PRINTF(2, 3);

#endif
