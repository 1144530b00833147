/* scratch.h — what tests of hostile and damaged input need: a temporary folder, files in it, safetensors files written
 * from a list of tensors, checks of refusals, and limits on time and memory. */
#ifndef ZB_SCRATCH_H
#define ZB_SCRATCH_H

#include "io/safetensors.h"
#include "support/check.h"

/* Sanitizers multiply time and memory: limits are not checked there, and allocation counters do not work. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define SCRATCH_PATH 512

typedef struct scratch {
    char path[SCRATCH_PATH]; /* the folder */
} scratch;

void scratch_open(scratch *s);
void scratch_close(scratch *s); /* removes everything in it */

/* "folder/name"; one of a few static buffers, used in turn. */
const char *scratch_path(const scratch *s, const char *name);

void scratch_write(const scratch *s, const char *name, const void *data, size_t n);
void scratch_text(const scratch *s, const char *name, const char *text);
void scratch_copy(const scratch *s, const char *name, const char *from);
void scratch_remove(const scratch *s, const char *name);

/* Files and folders in it, hidden ones too. */
size_t scratch_count(const scratch *s);

/* Whole file, NUL-terminated; caller frees. */
char *scratch_read(const char *path, size_t *n);

/* A safetensors file from its parts. header_bytes is what the length field says. */
void scratch_raw_safetensors(const scratch *s, const char *name, uint64_t header_bytes, const char *header,
                             const void *data, size_t n_data);

/* A good safetensors file: name, dtype_name, shape, data and bytes of each item count. The header is filled up with
 * spaces to a multiple of 8 plus `skew` bytes. */
void scratch_safetensors(const scratch *s, const char *name, const zb_tensor *items, size_t n, size_t skew);

/* The call was refused with this code and all these words (ends with NULL) stand in the message, which is not cut. */
void check_refused(zamba_status st, const zamba_error *err, zamba_status code, ...);

/* Run fn(arg) in a child of its own: it must end by itself, within `seconds` of CPU time (the machine may be
 * busy), and never hold more than `megabytes`. The limits do not count under sanitizers. fn says that something is
 * wrong by _exit(not 0): cmocka's checks would go on with the other tests in the child. Returns the greatest resident
 * size in bytes. */
size_t check_limits(void (*fn)(void *arg), void *arg, double seconds, size_t megabytes, const char *name);

/* Seconds of processor time of this process: the machine may be busy. */
double seconds_now(void);

#endif
