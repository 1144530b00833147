/* repack_words.c — GPTQ's and AWQ's words into blocks of 32. In both, neighbouring rows of the matrix are neighbours in
 * memory and columns are far apart, so it is a transposition: TILE rows at a time, whose blocks are few enough to stay
 * in the cache until their lines are full. No branches for single numbers. */
#include "quant/repack.h"

#define TILE 64 /* rows; a multiple of 8 */

/* One column of a tile, a byte for each row. */
typedef struct tile {
    const zb_words *w;
    size_t row, n; /* rows [row, row + n)                   */
    size_t group;  /* whose scales and zeros stand below    */
    uint32_t word[TILE], more[TILE];
    uint8_t number[TILE];
    uint16_t zero[TILE], half[TILE];
    float scale[TILE];
} tile;

/* ---- numbers of one column, or zeros of one group ---- */

/* number[i] = `bits` bits of word[i] from bit `at`, the upper ones from more[i] if they go beyond. */
static void cut_bits(tile *t, unsigned at, unsigned bits)
{
    const uint32_t mask = (1u << bits) - 1;
    if (at + bits <= 32)
        for (size_t i = 0; i < TILE; i++)
            t->number[i] = (uint8_t)(t->word[i] >> at & mask);
    else
        for (size_t i = 0; i < TILE; i++)
            t->number[i] = (uint8_t)((t->word[i] >> at | t->more[i] << (32 - at)) & mask);
}

/* Words [row, row + n) of line `line`, the rest of `to` being what it was. */
static void load_words(uint32_t *to, const void *from, size_t line, size_t line_words, size_t first, size_t n)
{
    memcpy(to, (const char *)from + 4 * (line * line_words + first), 4 * n);
}

/* Halves of bytes to 8 bytes: bits 4i.. to byte i. */
static uint64_t spread(uint32_t word)
{
    uint64_t x = word;
    x = (x | x << 16) & 0x0000FFFF0000FFFFull;
    x = (x | x << 8) & 0x00FF00FF00FF00FFull;
    return (x | x << 4) & 0x0F0F0F0F0F0F0F0Full;
}

/* Bytes 0 1 2 3 4 5 6 7 to 0 4 1 5 2 6 3 7. */
static uint64_t interleave(uint64_t x)
{
    uint64_t low = x & 0xFFFFFFFFu, high = x >> 32;
    low = (low | low << 16) & 0x0000FFFF0000FFFFull;
    low = (low | low << 8) & 0x00FF00FF00FF00FFull;
    high = (high | high << 16) & 0x0000FFFF0000FFFFull;
    high = (high | high << 8) & 0x00FF00FF00FF00FFull;
    return low | high << 8;
}

/* A line of AWQ's words, 8 rows in each. */
static void load_awq(tile *t, const void *from, size_t line, uint8_t *to)
{
    const size_t n_words = t->n / 8;
    load_words(t->word, from, line, t->w->rows / 8, t->row / 8, n_words);
    for (size_t i = 0; i < n_words; i++) {
        const uint64_t eight = interleave(spread(t->word[i]));
        memcpy(to + 8 * i, &eight, 8);
    }
}

/* The numbers of column k. */
static void load_column(tile *t, size_t k)
{
    const zb_words *w = t->w;
    if (w->layout == ZB_WORDS_AWQ) {
        load_awq(t, w->q, k, t->number);
        return;
    }
    const size_t bit = k * w->bits;
    load_words(t->word, w->q, bit / 32, w->rows, t->row, t->n);
    if (bit % 32 + w->bits > 32)
        load_words(t->more, w->q, bit / 32 + 1, w->rows, t->row, t->n);
    cut_bits(t, (unsigned)(bit % 32), w->bits);
}

static uint32_t zero_word(const zb_words *w, size_t at)
{
    uint32_t x;
    memcpy(&x, (const char *)w->zeros + 4 * at, 4);
    return x + w->zero_carry;
}

static void load_gptq_zeros(tile *t, size_t group)
{
    const zb_words *w = t->w;
    const size_t line = group * (w->rows * w->bits / 32);
    const uint32_t mask = (1u << w->bits) - 1, kept = w->zero_wrap ? mask : UINT32_MAX;
    for (size_t i = 0; i < t->n; i++) {
        const size_t bit = (t->row + i) * w->bits, at = line + bit / 32;
        uint64_t word = zero_word(w, at);
        if (bit % 32 + w->bits > 32)
            word |= (uint64_t)zero_word(w, at + 1) << 32;
        t->zero[i] = (uint16_t)((((uint32_t)(word >> bit % 32) & mask) + w->zero_offset) & kept);
    }
}

/* Scales and zeros of a group, if they are not there already. */
static void load_group(tile *t, size_t group)
{
    const zb_words *w = t->w;
    uint8_t zero[TILE];
    if (t->group == group)
        return;
    t->group = group;
    zb_to_f32(t->scale, (const char *)w->scales + zb_row_bytes(w->scale_type, group * w->rows + t->row), w->scale_type,
              t->n);
    for (size_t i = 0; i < t->n; i++)
        t->half[i] = zb_f32_f16(t->scale[i]);
    if (w->zeros == NULL) {
        for (size_t i = 0; i < t->n; i++)
            t->zero[i] = (uint16_t)(1u << (w->bits - 1));
    } else if (w->layout == ZB_WORDS_AWQ) {
        load_awq(t, w->zeros, group, zero);
        for (size_t i = 0; i < t->n; i++)
            t->zero[i] = (uint16_t)(zero[i] + w->zero_offset);
    } else
        load_gptq_zeros(t, group);
}

static size_t group_of(const zb_words *w, size_t k)
{
    return w->group_of != NULL ? w->group_of[k] : k / w->group_size;
}

/* ---- blocks ---- */

zb_dtype zb_words_block(const zb_words *w)
{
    return w->bits == 8 ? ZB_GROUP8 : ZB_GROUP4;
}

/* 8 rows of 8 bytes, transposed. */
static void transpose(uint64_t x[8])
{
    for (int i = 0; i < 4; i++) {
        const uint64_t t = (x[i] >> 32 ^ x[i + 4]) & 0xFFFFFFFFu;
        x[i] ^= t << 32;
        x[i + 4] ^= t;
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = i; j < i + 2; j++) {
            const uint64_t t = (x[j] >> 16 ^ x[j + 2]) & 0x0000FFFF0000FFFFull;
            x[j] ^= t << 16;
            x[j + 2] ^= t;
        }
    for (int i = 0; i < 8; i += 2) {
        const uint64_t t = (x[i] >> 8 ^ x[i + 1]) & 0x00FF00FF00FF00FFull;
        x[i] ^= t << 8;
        x[i + 1] ^= t;
    }
}

/* bytes[n_bytes][TILE], one line for each byte of a block, to the blocks of t's rows: after their scale and zero. */
static void store_blocks(const tile *t, uint8_t (*bytes)[TILE], size_t n_bytes, unsigned char *to, size_t row_bytes)
{
    for (size_t i = 0; i < t->n; i += 8) {
        const size_t some = t->n - i < 8 ? t->n - i : 8;
        for (size_t j = 0; j < some; j++) {
            memcpy(to + (i + j) * row_bytes, &t->half[i + j], 2);
            memcpy(to + (i + j) * row_bytes + 2, &t->zero[i + j], 2);
        }
        for (size_t b = 0; b < n_bytes; b += 8) {
            uint64_t x[8];
            for (size_t j = 0; j < 8; j++)
                memcpy(&x[j], &bytes[b + j][i], 8);
            transpose(x);
            for (size_t j = 0; j < some; j++)
                memcpy(to + (i + j) * row_bytes + 4 + b, &x[j], 8);
        }
    }
}

void zb_words_to_blocks(void *to, const zb_words *w, const uint32_t *order)
{
    const zb_dtype type = zb_words_block(w);
    const size_t row_bytes = zb_row_bytes(type, w->cols), block_bytes = zb_dtype_bytes(type);
    uint8_t bytes[ZB_QK][TILE];
    tile t = {.w = w};
    for (t.row = 0; t.row < w->rows; t.row += TILE) {
        t.n = w->rows - t.row < TILE ? w->rows - t.row : TILE;
        t.group = SIZE_MAX;
        for (size_t k = 0; k < w->cols; k += ZB_QK) {
            load_group(&t, group_of(w, order != NULL ? order[k] : k));
            for (size_t j = 0; j < ZB_QK; j++) {
                load_column(&t, order != NULL ? order[k + j] : k + j);
                if (type == ZB_GROUP8 || j < ZB_QK / 2)
                    memcpy(bytes[j], t.number, TILE);
                else
                    for (size_t i = 0; i < TILE; i++)
                        bytes[j - ZB_QK / 2][i] |= (uint8_t)(t.number[i] << 4);
            }
            store_blocks(&t, bytes, type == ZB_GROUP8 ? ZB_QK : ZB_QK / 2,
                         (unsigned char *)to + t.row * row_bytes + k / ZB_QK * block_bytes, row_bytes);
        }
    }
}

void zb_words_to_f32(float *to, const zb_words *w)
{
    tile t = {.w = w};
    for (t.row = 0; t.row < w->rows; t.row += TILE) {
        t.n = w->rows - t.row < TILE ? w->rows - t.row : TILE;
        t.group = SIZE_MAX;
        for (size_t k = 0; k < w->cols; k++) {
            load_group(&t, group_of(w, k));
            load_column(&t, k);
            for (size_t i = 0; i < t.n; i++)
                to[(t.row + i) * w->cols + k] = t.scale[i] * (float)((int)t.number[i] - (int)t.zero[i]);
        }
    }
}
