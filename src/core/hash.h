/* hash.h — a fast 64-bit hash for checksums and fingerprints; not for secrets. */
#ifndef ZB_HASH_H
#define ZB_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Hash of n bytes, continued from `seed` (any earlier hash). The same on every machine of the same byte order. */
uint64_t zb_hash(const void *data, size_t n, uint64_t seed);

#endif
