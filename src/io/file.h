/* file.h — files as bytes: map, read whole, write beside and rename. */
#ifndef ZB_FILE_H
#define ZB_FILE_H

#include "core/mem.h"

typedef struct zb_file {
    const unsigned char *data;
    size_t size;
    char *path; /* owned copy, for messages */
} zb_file;

/* Map a regular file read-only. An empty file maps to data NULL, size 0. Anything but a regular file is refused. */
zamba_status zb_file_map(zb_file *f, const char *path, zamba_error *err);
void zb_file_unmap(zb_file *f); /* safe on a file that never mapped */

/* A hint that all of a mapped file will be read, again and again: where the file system can, it is read and mapped in
 * pages of 2 MB. Before anything of it is looked at: what is in memory in small pages stays so. */
void zb_file_expect_all(const zb_file *f);

/* A hint that n bytes at `data` will not be looked at again soon: if they lie in this mapping, its pages go back to the
 * system's cache of the file. Returns whether they lie there. */
int zb_file_forget(const zb_file *f, const void *data, size_t n);

/* Whole file into *out (appended). Refuses more than max_bytes and anything but a regular file. */
zamba_status zb_file_read(zb_buf *out, const char *path, size_t max_bytes, zamba_error *err);

/* Its first n_bytes, or as many as it has. */
zamba_status zb_file_read_start(zb_buf *out, const char *path, size_t n_bytes, zamba_error *err);

/* Open a regular file to read from it; the caller closes it. */
zamba_status zb_file_open(int *fd, size_t *size, const char *path, zamba_error *err);

/* A new file without a name, below TMPDIR (else /tmp), to write and read; it is gone when it is closed. */
zamba_status zb_file_temporary(int *fd, zamba_error *err);

/* 1 if a regular file that begins with these bytes (up to 16) is there. */
int zb_file_begins(const char *path, const void *bytes, size_t n);

/* Replace a file as a whole: written to a temporary beside it, synced, renamed. On an error the old one stays. The mode
 * of an old file stays, and so does a link to it. Pipes and devices are written straight. */
typedef struct zb_file_part {
    const void *data;
    size_t n;
} zb_file_part;
zamba_status zb_file_write(const char *path, const zb_file_part *parts, size_t n_parts, zamba_error *err);

/* The same for bytes that come one after the other: open, write any number of times, then commit, or discard (which is
 * safe after both, and on a zeroed one). */
typedef struct zb_file_out {
    char *path, *target, *tmp; /* as given; what is replaced; where it grows (NULL: written straight) */
    int fd;                    /* -1: closed                                                          */
} zb_file_out;
zamba_status zb_file_out_open(zb_file_out *f, const char *path, zamba_error *err);
zamba_status zb_file_out_write(zb_file_out *f, const void *data, size_t n, zamba_error *err);
zamba_status zb_file_out_commit(zb_file_out *f, zamba_error *err);
void zb_file_out_discard(zb_file_out *f);

/* E_IO that names both numbers if the disk that holds (or will hold) `path` has no room for n_bytes more. */
zamba_status zb_file_room(const char *path, uint64_t n_bytes, zamba_error *err);

/* 1 if a regular file (following links) is there. */
int zb_file_exists(const char *path);

/* "folder/name" into buf; E_ARG if it does not fit. */
zamba_status zb_path_join(char *buf, size_t n, const char *folder, const char *name, zamba_error *err);

#endif
