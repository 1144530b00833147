/* random_id.h — ids that nobody guesses: the system's random bytes in lowercase hex. */
#ifndef SV_RANDOM_ID_H
#define SV_RANDOM_ID_H

#include <stddef.h>

/* 2 * n_bytes characters and a NUL, of at most 64 bytes. 0 and "": the system has none. */
int sv_random_id(char *out, size_t n_bytes);

#endif
