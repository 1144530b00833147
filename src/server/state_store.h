/* state_store.h — states that callers asked to keep, by random ids. With a folder they are files and outlive the
 * program; until a file is written, and without a folder, they are held in memory. Any thread. */
#ifndef SV_STATE_STORE_H
#define SV_STATE_STORE_H

#include "engine.h"
#include "errands.h"

typedef struct sv_store sv_store;

/* folder NULL: memory only. */
zamba_status sv_store_open(sv_store **out, const char *folder, uint64_t bytes, uint64_t fingerprint,
                           sv_errands *errands, zamba_error *err);
/* After the errands are done. */
void sv_store_close(sv_store *x);

/* Is it an id as they are made here? */
int sv_store_is_id(const char *id);

/* Takes over s, whatever comes of it. id: NULL for a new one, which goes to out; else this one, replaced if it is
 * there. E_MEMORY: no room. */
zamba_status sv_store_put(sv_store *x, zamba_sequence *s, const char *id, char out[40], zamba_error *err);
/* Tokens of a state. */
zamba_status sv_store_find(sv_store *x, const char *id, size_t *n_tokens, zamba_error *err);
/* A sequence with that state: a fork of the one in memory; or *out is NULL, and sv_store_read has to be asked. */
zamba_status sv_store_get(sv_store *x, const char *id, zamba_sequence **out, zamba_error *err);
/* Read the file of a state into s. */
zamba_status sv_store_read(sv_store *x, const char *id, zamba_sequence *s, zamba_error *err);
zamba_status sv_store_drop(sv_store *x, const char *id, zamba_error *err);
zamba_status sv_store_list(sv_store *x, sv_state_info **list, size_t *n, zamba_error *err);
void sv_store_count(sv_store *x, uint64_t *n, uint64_t *bytes);

#endif
