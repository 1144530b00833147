/* turn.c — blocks of sixteen rows side by side, and a row back; turn.h says how they lie. */
#include "quant/turn.h"

#include <string.h>

#include "quant/blocks.h"

enum { WORD = 4, VECTOR = 64, MOST_PIECES = 8 };

typedef struct piece {
    uint16_t from, bytes, to; /* in a row's unit, of a row, in the turned unit; 2 bytes: halves, else words */
    uint8_t flip;             /* what each byte is turned over with */
    uint8_t beside;           /* vectors of other pieces between two of words */
} piece;

/* Two small blocks of `size` bytes that begin with an f16, their numbers at `at`; two that begin with four bytes. */
#define HALVES(size, at, n, flipped)                                                                                   \
    {                                                                                                                  \
        {0, 2, 0, 0, 0}, {size, 2, 32, 0, 0}, {at, n, 64, flipped, 0},                                                 \
        {                                                                                                              \
            (size) + (at), n, 64 + 16 * (n), flipped, 0                                                                \
        }                                                                                                              \
    }
#define WORDS(size, n)                                                                                                 \
    {                                                                                                                  \
        {0, 4, 0, 0, 0}, {size, 4, 64, 0, 0}, {4, n, 128, 0, 0},                                                       \
        {                                                                                                              \
            (size) + 4, n, 128 + 16 * (n), 0, 0                                                                        \
        }                                                                                                              \
    }

static const piece pieces[ZB_N_DTYPES][MOST_PIECES] = {
    [ZB_Q4_0] = HALVES(18, 2, 16, 0),
    [ZB_IQ4_NL] = HALVES(18, 2, 16, 0),
    [ZB_Q8_0] = HALVES(34, 2, 32, 0x80),
    [ZB_Q4_1] = WORDS(20, 16),
    [ZB_GROUP4] = WORDS(20, 16),
    [ZB_GROUP8] = WORDS(36, 32),
    [ZB_Q5_0] = {{0, 2, 0, 0, 0},
                 {22, 2, 32, 0, 0},
                 {2, 4, 64, 0, 0},
                 {24, 4, 128, 0, 0},
                 {6, 16, 192, 0, 0},
                 {28, 16, 448, 0, 0}},
    [ZB_Q4_K] = {{0, 144, 0, 0, 0}},
    [ZB_Q5_K] = {{0, 176, 0, 0, 0}},
    [ZB_Q6_K] = {{192, 16, 0, 0, 0},
                 {208, 2, 256, 0, 0},
                 {128, 32, 320, 0, 2},
                 {0, 32, 384, 0, 2},
                 {32, 32, 448, 0, 2},
                 {160, 32, 1856, 0, 2},
                 {64, 32, 1920, 0, 2},
                 {96, 32, 1984, 0, 2}},
    [ZB_Q3_K] = {{0, 96, 0, 0, 0}, {94, 16, 1536, 0, 0}},
    [ZB_Q2_K] = {{0, 84, 0, 0, 0}},
};

size_t zb_turned_bytes(zb_dtype t, size_t cols)
{
    const size_t unit = zb_turn_cols(t);
    return unit == 0 ? 0 : (cols + unit - 1) / unit * zb_turn_bytes(t);
}

/* Where a byte of a piece of words stands for row r. */
static size_t place(const piece *p, size_t byte, size_t r)
{
    return p->to + byte / WORD * VECTOR * (1u + p->beside) + r * WORD + byte % WORD;
}

/* n rows' bytes to their lanes. */
static void turn_piece(uint8_t *unit, const uint8_t *rows, size_t stride, size_t n_rows, const piece *p)
{
    if (p->bytes == 2) {
        for (size_t r = 0; r < n_rows; r++)
            memcpy(unit + p->to + 2 * r, rows + r * stride, 2);
        return;
    }
    const uint32_t flip = p->flip * 0x01010101u;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t at = 0; at < p->bytes; at += WORD) {
            uint32_t word;
            memcpy(&word, rows + r * stride + at, WORD);
            word ^= flip;
            memcpy(unit + place(p, at, r), &word, WORD);
        }
}

void zb_turn(void *group, const void *rows, size_t stride, size_t n_rows, zb_dtype t, size_t cols)
{
    const size_t row_bytes = zb_row_bytes(t, cols), unit_bytes = zb_row_bytes(t, zb_turn_cols(t));
    uint8_t *to = group;
    for (size_t at = 0; at < row_bytes; at += unit_bytes, to += zb_turn_bytes(t)) {
        uint8_t padded[ZB_TURN_ROWS * 2 * sizeof(zb_block_group8)]; /* the last block of small ones may be alone */
        const uint8_t *from = (const uint8_t *)rows + at;
        size_t step = stride;
        if (at + unit_bytes > row_bytes) {
            memset(padded, 0, sizeof padded);
            for (size_t r = 0; r < n_rows; r++)
                memcpy(padded + r * unit_bytes, from + r * stride, row_bytes - at);
            from = padded;
            step = unit_bytes;
        }
        memset(to, 0, zb_turn_bytes(t));
        for (const piece *p = pieces[t]; p < pieces[t] + MOST_PIECES && p->bytes > 0; p++)
            turn_piece(to, from + p->from, step, n_rows, p);
    }
}

void zb_turn_back(void *row, const void *group, size_t r, zb_dtype t, size_t cols)
{
    const size_t row_bytes = zb_row_bytes(t, cols), unit_bytes = zb_row_bytes(t, zb_turn_cols(t));
    const uint8_t *from = group;
    for (size_t at = 0; at < row_bytes; at += unit_bytes, from += zb_turn_bytes(t)) {
        uint8_t whole[sizeof(zb_block_q6_k)];
        for (const piece *p = pieces[t]; p < pieces[t] + MOST_PIECES && p->bytes > 0; p++)
            for (size_t b = 0; b < p->bytes; b++)
                whole[p->from + b] = p->flip ^ from[p->bytes == 2 ? p->to + 2 * r + b : place(p, b, r)];
        memcpy((uint8_t *)row + at, whole, row_bytes - at < unit_bytes ? row_bytes - at : unit_bytes);
    }
}
