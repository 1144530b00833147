/* turn.h — the same blocks in another order: sixteen rows side by side, as products in vectors of sixteen lanes want
 * them, so that a matrix is one stream of whole vectors and nothing has to be shuffled when it is multiplied.
 *
 * A group is 16 rows. It consists of units, 64 columns of small blocks or one large block; a unit of pieces:
 *
 *   words   4w bytes of each row become w vectors of 64 bytes: bytes 4j to 4j + 3 of row r stand in lane r of vector j
 *   halves  an f16 of each row, 16 side by side
 *
 * Small blocks: the f16s of both blocks (halves, halves) or what stands with them in 4 bytes (words of each block); the
 * fifth bits of each block (words); the numbers of the first block, those of the second (words). Numbers of Q8_0 have
 * 128 added. Large blocks: everything in its order (words); of Q3_K, whose scales stand at odd places, the numbers and
 * then the last 16 bytes, two of which so stand twice; of Q6_K, in the order in which products ask for it, the scales,
 * the f16 (halves, alone in a vector), and for each 128 columns a vector of high bits and two of low ones in turn. A
 * unit is a whole number of vectors. Blocks behind the last row and the last column are of zeros; what fills up a
 * vector may be anything. */
#ifndef ZB_TURN_H
#define ZB_TURN_H

#include <stddef.h>

#include "core/dtype.h"

#define ZB_TURN_ROWS 16

/* Columns and bytes of a unit; 0: blocks of that type are not turned. */
static inline size_t zb_turn_cols(zb_dtype t)
{
    return t == ZB_Q2_K || t == ZB_Q3_K || t == ZB_Q4_K || t == ZB_Q5_K || t == ZB_Q6_K ? 256
           : t < ZB_N_FLOATS || t == ZB_NF4                                             ? 0
                                                                                        : 64;
}

static inline size_t zb_turn_bytes(zb_dtype t)
{
    return t == ZB_Q4_0 || t == ZB_IQ4_NL   ? 576
           : t == ZB_Q8_0                   ? 1088
           : t == ZB_Q4_1 || t == ZB_GROUP4 ? 640
           : t == ZB_GROUP8                 ? 1152
           : t == ZB_Q5_0                   ? 704
           : t == ZB_Q4_K                   ? 2304
           : t == ZB_Q5_K                   ? 2816
           : t == ZB_Q6_K                   ? 3392
           : t == ZB_Q3_K                   ? 1792
           : t == ZB_Q2_K                   ? 1344
                                            : 0;
}

/* Bytes of a group with so many columns; 0 as above. */
size_t zb_turned_bytes(zb_dtype t, size_t cols);

/* n_rows (up to 16) rows of so many columns, `stride` bytes from row to row, to a group. */
void zb_turn(void *group, const void *rows, size_t stride, size_t n_rows, zb_dtype t, size_t cols);

/* A row of a group as it was. */
void zb_turn_back(void *row, const void *group, size_t r, zb_dtype t, size_t cols);

#endif
