/* data.h — what a data set is made of: ids in a file, pieces of them, sources in some order. The public face is in
 * zamba_train.h; data_load.c fills this once, data.c makes batches of it, data_position.c saves where it stands. */
#ifndef ZB_DATA_H
#define ZB_DATA_H

#include "core/mem.h"
#include "io/json.h"
#include "train/data_ids.h"
#include "zamba_train.h"

/* What stands in an example, and its targets one id further. Of text every target is learned. */
typedef struct zb_piece {
    uint64_t start;   /* ids[start .. start + n] of the source: n are read, the last is only a target */
    uint32_t n;       /* 1 .. sequence_length                                                         */
    uint32_t targets; /* learned ones                                                                 */
} zb_piece;

typedef struct zb_segment {
    zb_piece piece;
    uint32_t source;
} zb_segment;

/* Growable; zeroed is empty. */
typedef struct zb_segments {
    zb_segment *at;
    size_t n, room;
    size_t tokens; /* of all of them */
} zb_segments;

typedef struct zb_source {
    char *path;
    double weight;
    zb_ids ids;
    zb_piece *pieces; /* pairs: chosen, rejected, chosen, ... */
    size_t n_pieces, room;
    zamba_data_info info;

    uint32_t *order; /* [pieces, or pairs] of this epoch; NULL: the file's */
    size_t next;     /* index into order                                   */
    int32_t epoch;
    uint64_t taken; /* tokens or rows, for the turns                       */
} zb_source;

struct zamba_dataset {
    zamba_data_options o; /* its pointers are the caller's and gone after the opening */
    const zamba_tokenizer *tokenizer;
    const zamba_chat *chat;
    zb_source *sources;
    size_t n_sources;

    zb_segments open; /* a row that is not full                */
    zb_segments row;  /* the last that was                     */

    zamba_example *examples; /* of the last batch              */
    size_t n_examples, room_examples;
    int32_t *ids, *targets; /* of all its examples             */
    size_t n_ids, room_ids;
    uint32_t *raw; /* [sequence_length + 1] */
};

/* What is taken together in the order: a piece, or the two of a pair. */
static inline size_t zb_source_items(const zamba_dataset *d, const zb_source *s)
{
    return d->o.kind == ZAMBA_DATA_PAIRS ? s->n_pieces / 2 : s->n_pieces;
}

/* data_load.c: read source i. Its path is set. */
zamba_status zb_data_load(zamba_dataset *d, size_t i, const char *separator, uint64_t bytes_before,
                          uint64_t bytes_total, zamba_error *err);

/* data.c: begin source i's epoch (its order). */
zamba_status zb_data_shuffle(zamba_dataset *d, size_t i, zamba_error *err);
zamba_status zb_segments_add(zb_segments *s, zb_segment one, zamba_error *err);

#endif
