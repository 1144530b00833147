/* gguf.h — GGUF files, versions 2 and 3 (little-endian), as key-values and named tensors. Maps; trusts nothing it
 * reads: every length, count, offset, type and name is checked against the file before use, in time and memory that the
 * file's size bounds. Knows no model. Writing is in gguf_write.h. */
#ifndef ZB_GGUF_H
#define ZB_GGUF_H

#include "io/safetensors.h"

/* Types of values, numbered as in the file. */
typedef enum zb_gguf_type {
    ZB_GGUF_U8,
    ZB_GGUF_I8,
    ZB_GGUF_U16,
    ZB_GGUF_I16,
    ZB_GGUF_U32,
    ZB_GGUF_I32,
    ZB_GGUF_F32,
    ZB_GGUF_BOOL,
    ZB_GGUF_TEXT,
    ZB_GGUF_ARRAY,
    ZB_GGUF_U64,
    ZB_GGUF_I64,
    ZB_GGUF_F64,
    ZB_GGUF_N_TYPES
} zb_gguf_type;

/* A value, or an array of values of one type; arrays of arrays are refused when the file is opened. */
typedef struct zb_gguf_value {
    zb_gguf_type type; /* of the value, or of the elements                                                       */
    int is_array;
    size_t n;                  /* elements; 1 of a single value                                                  */
    const unsigned char *data; /* into the mapping, at any address; a text is its length (u64) and its bytes      */
    size_t bytes;              /* of all of it                                                                   */
} zb_gguf_value;

typedef struct zb_gguf_key {
    const char *name; /* into the mapping: n_name printable bytes, no NUL behind them */
    size_t n_name;
    zb_gguf_value value;
} zb_gguf_key;

typedef struct zb_gguf {
    zb_tensors tensors; /* owns the mappings; shapes are row-major: the reverse of the file's order of dimensions */
    zb_gguf_key *keys;  /* sorted by name                                                                         */
    size_t n_keys;
    unsigned version;
    size_t alignment;
} zb_gguf;

/* 1 if a regular file that begins as a GGUF file does (of any version) is there. */
int zb_gguf_is(const char *path);

/* One file, or the first of a set "...-00001-of-0000N.gguf" with all its others. */
zamba_status zb_gguf_open(zb_gguf *out, const char *path, zamba_error *err);
void zb_gguf_close(zb_gguf *g); /* safe on a zeroed one */

/* The same from memory that outlives it; `path` is kept for messages. */
zamba_status zb_gguf_parse(zb_gguf *out, const unsigned char *data, size_t size, const char *path, zamba_error *err);

/* Sort tensors by name, as zb_tensors_find wants them; a name that is there twice is an error. */
zamba_status zb_gguf_sort(zb_tensors *ts, zamba_error *err);

/* A key's value, or NULL. */
const zb_gguf_value *zb_gguf_find(const zb_gguf *g, const char *name);

/* The i-th element as a number: 0 if it is none, or (int) no whole one that fits; i < v->n. */
int zb_gguf_int(const zb_gguf_value *v, size_t i, int64_t *out);
int zb_gguf_real(const zb_gguf_value *v, size_t i, double *out);
/* A single text: NULL if it is something else (v may be NULL). Not NUL-terminated. */
const char *zb_gguf_text(const zb_gguf_value *v, size_t *n);

/* Walk over an array of texts: start with {.value = v}. Returns 0 at the end. */
typedef struct zb_gguf_texts {
    const zb_gguf_value *value;
    size_t i, at;
} zb_gguf_texts;
int zb_gguf_next_text(zb_gguf_texts *it, const char **text, size_t *n);

/* A tensor's type in the file's numbers: ours, or -1 of one that no file holds. */
int zb_gguf_type_of(zb_dtype t);

#endif
