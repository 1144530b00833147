/* repack.h — the words that GPTQ, AWQ and bitsandbytes pack numbers into, made into blocks of ours or into f32. Pure
 * bit work: sizes, types and finite scales were checked before (see model/packed.c). Nothing here allocates. */
#ifndef ZB_REPACK_H
#define ZB_REPACK_H

#include "quant/blocks.h"

/* ---- GPTQ and AWQ: integers in words of 32 bits, a scale and a zero for each row and group of columns ---- */

typedef enum zb_word_layout {
    ZB_WORDS_GPTQ, /* q [cols * bits / 32, rows]: the numbers of a row below one another, 32 of them in `bits` words,
                    * number k at bit k * bits of these; zeros [groups, rows * bits / 32] in the same way, along the
                    * rows */
    ZB_WORDS_AWQ   /* q [cols, rows / 8], 4 bits: 8 neighbouring rows in a word, in the order 0 2 4 6 1 3 5 7 from the
                    * low bits up; zeros [groups, rows / 8] likewise */
} zb_word_layout;

/* w[r, k] = scale[g(k), r] * (q[r, k] - zero[g(k), r]) for a matrix of [rows, cols] (out and in features). */
typedef struct zb_words {
    zb_word_layout layout;
    unsigned bits;        /* 2, 3, 4 or 8                                                                 */
    size_t rows, cols;    /* cols * bits and rows * bits are multiples of 32                              */
    const void *q;        /* any alignment, also those below                                              */
    const void *zeros;    /* NULL: 2^(bits - 1) everywhere                                                */
    uint32_t zero_carry;  /* added to each word of zeros, numbers carrying into one another               */
    uint32_t zero_offset; /* added to each zero; zero_wrap: of the sum, `bits` bits remain */
    int zero_wrap;
    const void *scales;       /* [groups, rows]                                                               */
    zb_dtype scale_type;      /* a plain one                                                                  */
    size_t group_size;        /* column k belongs to group k / group_size; or, if not NULL,                   */
    const uint32_t *group_of; /* [cols], to group group_of[k]                                             */
} zb_words;

/* The type of block for these: ZB_GROUP4 or ZB_GROUP8. */
zb_dtype zb_words_block(const zb_words *w);

/* Rows of blocks to `to` [rows, cols / 32]. Column k of the result is column order[k] of the words (NULL: k); each 32
 * columns of the result are of one group. All scales can be held by an f16. */
void zb_words_to_blocks(void *to, const zb_words *w, const uint32_t *order);

/* All numbers, [rows, cols], columns as they are. */
void zb_words_to_f32(float *to, const zb_words *w);

/* ---- bitsandbytes ---- */

/* absmax = nested_map[q[i]] * nested_absmax[i / nested_blocksize] + offset, product and sum rounded to f32. */
void zb_absmax_unnest(float *absmax, const uint8_t *q, size_t n, const float nested_map[256],
                      const float *nested_absmax, size_t nested_blocksize, float offset);

/* n numbers (a multiple of 64), two in a byte, the first in the high half, as NF4; blocks of `blocksize` (a multiple of
 * 64) share a factor of absmax. */
void zb_nf4_to_blocks(zb_block_nf4 *to, const uint8_t *packed, size_t n, const float *absmax, size_t blocksize);

/* The same for any n, block size and table, as f32. */
void zb_nibbles_to_f32(float *to, const uint8_t *packed, size_t n, const float table[16], const float *absmax,
                       size_t blocksize);

/* Rows of signed bytes, w = q * greatest[row] / 127, as Q8_0 with the f16 nearest to greatest / 127; cols is a multiple
 * of 32. */
#define ZB_INT8_STEP 7.874015718698502e-3f /* as bitsandbytes writes 1 / 127 */
void zb_int8_to_blocks(zb_block_q8_0 *to, const int8_t *q, size_t rows, size_t cols, const float *greatest);

void zb_int8_to_f32(float *to, const int8_t *q, size_t rows, size_t cols, const float *greatest);

#endif
