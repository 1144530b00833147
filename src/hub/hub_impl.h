/* hub_impl.h — what the files of src/hub/ share: checked names, places in the cache, choosing files, sums. */
#ifndef HUB_IMPL_H
#define HUB_IMPL_H

#include <jansson.h>
#include <limits.h>

#include "core/status.h"
#include "hub.h"

/* ---- hub_name.c ---- */
/* May this be the name of a file inside of a repository: relative, without "..", without odd bytes? */
bool hub_file_name_is_safe(const char *name);
bool hub_revision_is_safe(const char *revision);
/* A commit: 40 (or 64) digits of lower-case hex. */
bool hub_is_commit(const char *text);
bool hub_ends_with(const char *text, const char *end);
/* "Q4_K_M" of "Zamba2-1.2B-Q4_K_M.gguf", "" if there is none. */
void hub_quant_of_file(char out[32], const char *file);
/* "x-00002-of-00003.gguf": writes "x" and 2, 3. False for a file that is whole. */
bool hub_split_file(const char *file, char *stem, size_t n_stem, unsigned *part, unsigned *parts);

/* ---- hub_places.c ---- */
typedef struct hub_store {
    char cache[PATH_MAX];  /* the cache's folder */
    char folder[PATH_MAX]; /* cache/models--Org--Name */
    char locks[PATH_MAX];  /* cache/.locks/models--Org--Name */
} hub_store;

zamba_status hub_store_of(hub_store *out, const char *repo, zamba_error *err);
/* The token of HF_TOKEN or of the token file, "" if there is none; E_ARG if it cannot be one. */
zamba_status hub_token(char *out, size_t n_out, zamba_error *err);
zamba_status hub_make_folders(const char *path, zamba_error *err);
/* Join with slashes; E_ARG if it does not fit. NULL ends the parts. */
zamba_status hub_path(char out[PATH_MAX], zamba_error *err, ...) __attribute__((sentinel));

/* ---- hub_cache.c ---- */
/* The commit that a revision is in this cache: refs/REVISION, a commit itself, or the beginning of one (7 digits).
 * False if it is not known. */
bool hub_commit_of(const hub_store *store, const char *revision, char out[72]);
zamba_status hub_write_ref(const hub_store *store, const char *revision, const char *commit, zamba_error *err);
/* The path of a name in a snapshot, or E_NOT_FOUND and what is missing. */
zamba_status hub_find_in(char *path, size_t n_path, const char *snapshot, const hub_name *name, zamba_error *err);
/* snapshots/COMMIT/FILE becomes a link to blobs/ETAG. */
zamba_status hub_link(const hub_store *store, const char *commit, const char *file, const char *etag, zamba_error *err);
/* An exclusive lock of a blob, as other programs take it. *fd is -1 where locks do not work. False: somebody has it. */
bool hub_lock(const hub_store *store, const char *etag, int *fd);
void hub_unlock(int fd);

/* ---- hub_choose.c ---- */
typedef struct hub_remote_file {
    char *name;
    char etag[132]; /* the blob's name: sha256 of LFS files, git's sha1 of others; "" not known */
    uint64_t size;
    bool size_known, chosen;
} hub_remote_file;

typedef struct hub_remote {
    char commit[72];
    hub_remote_file *files;
    size_t n_files;
} hub_remote;

/* What /api/models/REPO/revision/REVISION?blobs=true says. */
zamba_status hub_remote_read(hub_remote *out, const char *json, size_t n, const char *repo, zamba_error *err);
void hub_remote_free(hub_remote *r);
/* Mark the files that this name needs. *name gets the quantization that was taken where there is a choice. */
zamba_status hub_choose(hub_remote *r, hub_name *name, zamba_error *err);
/* Of GGUF files (names, [n]) that a quantization stands for: the index, or -1. "" takes the usual ones. */
long hub_choose_gguf(const char *const *names, size_t n, const char *quant);
/* An ETag header's value without its quotes, if it can be a file's name; else "". */
void hub_etag_clean(char out[132], const char *value);

/* ---- hub_sum.c ---- */
typedef struct hub_sum hub_sum;
/* For a blob of this name and size; NULL if out of memory. A name that is no sum makes a sum that agrees with all. */
hub_sum *hub_sum_open(const char *etag, uint64_t size);
bool hub_sum_add(hub_sum *s, const void *data, size_t n);
/* Ends the sum: 1 equal, 0 not, -1 cannot be told. `got` [132] is the sum in hex. */
int hub_sum_agrees(hub_sum *s, char *got);
bool hub_sum_can_tell(const char *etag);
void hub_sum_close(hub_sum *s);

#endif
