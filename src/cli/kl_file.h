/* kl_file.h — the file of `zamba perplexity --kl-base`: what a model predicted over a text, to compare others with.
 *
 * Little-endian: "zambakl" and a NUL, u32 version, u32 bytes of this head, u64 fingerprint of the model, u64 ids, u64
 * rows, u64 hash of the ids, u32 vocabulary, u32 window, u32 stride, u32 zero, u64 hash of all before; then i32
 * ids[ids], then rows (kl.h), each with a checksum of its own. A file is trusted in nothing: sizes must add up to its
 * own, rows are checked when they are read. */
#ifndef CLI_KL_FILE_H
#define CLI_KL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "zamba.h"

enum { KL_VERSION = 1 };

typedef struct kl_head {
    uint64_t model; /* fingerprint */
    uint64_t n_ids, n_rows, ids_hash;
    uint32_t vocab, window, stride;
} kl_head;

typedef struct kl_file {
    kl_head head;
    const char *path;
    char *part; /* the file that is being written beside `path`; NULL while reading */
    int fd;     /* -1: closed */
    size_t row_bytes;
    uint64_t first_row; /* byte where rows begin */
} kl_file;

/* Of what a model predicts over a text that is read in such windows (text_score.h). */
kl_head kl_head_of(const zamba_model_info *model, const int32_t *ids, size_t n_ids, size_t window, size_t stride);
/* Bytes the file of such a head has; 0 if they are not countable in 63 bits. */
uint64_t kl_file_bytes(const kl_head *head);
/* All return exit codes after a message. A kl_file is set by create or open and always released by close. */
int kl_file_create(kl_file *f, const char *path, const kl_head *head, const int32_t *ids);
int kl_file_put(kl_file *f, uint64_t row, const void *packed);
/* Synced and renamed to its name. */
int kl_file_finish(kl_file *f);
int kl_file_open(kl_file *f, const char *path);
/* Refuse a file that was made from another text, with other windows or for another vocabulary; the model may differ. */
int kl_file_match(const kl_file *f, const kl_head *want, const int32_t *ids);
int kl_file_get(const kl_file *f, uint64_t row, void *packed);
/* What was not finished is removed. */
void kl_file_close(kl_file *f);

#endif
