/* state_disk.h — the cache's second tier: a folder of states that had to leave memory, named by a hash of their tokens
 * and bound to the model. Bounded in bytes; the least used go first; a file that cannot be read is removed. Any thread.
 */
#ifndef SV_STATE_DISK_H
#define SV_STATE_DISK_H

#include "errands.h"
#include "zamba.h"

typedef struct sv_disk sv_disk;

/* Makes the folder if need be, and takes up what is in it. */
zamba_status sv_disk_open(sv_disk **out, const char *folder, uint64_t bytes, uint64_t fingerprint, sv_errands *errands,
                          zamba_error *err);
void sv_disk_close(sv_disk *d);

/* Write it, by an errand; takes it over. Nothing happens if too many are on their way. */
void sv_disk_put(sv_disk *d, zamba_sequence *s);
/* The same without delay, until the time is over. */
void sv_disk_put_now(sv_disk *d, zamba_sequence *s);
/* Tokens of the longest beginning of ids[n] that there is a file of, above `least` and below n; 0: none. */
size_t sv_disk_find(sv_disk *d, const int32_t *ids, size_t n, size_t least);
/* Read the file of ids[n] into s. On an error the file is gone. */
zamba_status sv_disk_get(sv_disk *d, const int32_t *ids, size_t n, zamba_sequence *s, zamba_error *err);

#endif
