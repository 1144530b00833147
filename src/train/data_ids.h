/* data_ids.h — the ids of a source as they stand in a file: a token file itself, or a nameless one that is written
 * once and then read anywhere. Knows nothing of documents. */
#ifndef ZB_DATA_IDS_H
#define ZB_DATA_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Set in an id of 4 bytes: it is learned where it is a target. */
#define ZB_ID_LEARNED 0x80000000u

typedef struct zb_ids {
    int fd;        /* -1: none                                    */
    int width;     /* bytes of an id, little endian: 2 or 4       */
    uint64_t n;    /* ids                                         */
    uint64_t hash; /* of all of them                              */
    unsigned char *buffer;
    size_t n_buffer; /* bytes that are not written or hashed yet  */
} zb_ids;

/* To be written: a nameless file. */
zamba_status zb_ids_create(zb_ids *f, int width, zamba_error *err);
/* An existing file in its place: what is added must be what stands there, it is counted and hashed only. */
zamba_status zb_ids_adopt(zb_ids *f, const char *path, int width, zamba_error *err);
void zb_ids_close(zb_ids *f); /* safe on what was never opened and fd is -1 */

/* One more id. */
zamba_status zb_ids_add(zb_ids *f, uint32_t id, zamba_error *err);
/* After the last. */
zamba_status zb_ids_finish(zb_ids *f, zamba_error *err);

/* n ids from `start` on, which must be there; `path` for messages. */
zamba_status zb_ids_read(const zb_ids *f, uint64_t start, size_t n, uint32_t *out, const char *path, zamba_error *err);

#endif
