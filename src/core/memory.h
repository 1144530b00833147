/* memory.h — how much memory there still is for this process. */
#ifndef ZB_MEMORY_H
#define ZB_MEMORY_H

#include <stdint.h>

/* Bytes that can still be taken: the least of what the system has (MemAvailable: free, or held by file pages that can
 * go), of what the control groups of this process leave (versions 1 and 2, every level; their file pages can go too),
 * and of what RLIMIT_AS and RLIMIT_DATA leave. UINT64_MAX where nothing of it can be told. */
uint64_t zb_memory_available(void);

/* The part of it that stands in files, read below `root` ("" is the system). */
uint64_t zb_memory_available_in(const char *root);

#endif
