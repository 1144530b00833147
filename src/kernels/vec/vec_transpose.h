/* vec_transpose.h — turning matrices: tiles of VW x VW lanes of 32 bits in registers. 16 bits go two rows in a lane, so
 * that a row of the result is written in whole vectors. The specification stands in ref/transpose.c. */
#ifndef ZB_VEC_TRANSPOSE_H
#define ZB_VEC_TRANSPOSE_H

#define TURN_BLOCK 64 /* rows and columns that are turned together: their lines stay in the first-level cache */

/* One tile, rows and cols up to VW. */
INLINE void turn_tile(float *y, size_t ld_y, const float *x, size_t ld_x, size_t rows, size_t cols)
{
    vf t[VW];
    UNROLL
    for (size_t i = 0; i < VW; i++)
        t[i] = i < rows ? v_load_upto(x + i * ld_x, cols) : v_zero();
    v_transpose(t);
    UNROLL
    for (size_t i = 0; i < VW; i++)
        if (i < cols)
            v_store_upto(y + i * ld_y, t[i], rows);
}

/* One block, rows and cols up to TURN_BLOCK. */
static void turn_block(float *y, size_t ld_y, const float *x, size_t ld_x, size_t rows, size_t cols)
{
    for (size_t c = 0; c < cols; c += VW)
        for (size_t r = 0; r < rows; r += VW) {
            float *to = y + c * ld_y + r;
            const float *from = x + r * ld_x + c;
            if (rows - r >= VW && cols - c >= VW)
                turn_tile(to, ld_y, from, ld_x, VW, VW);
            else
                turn_tile(to, ld_y, from, ld_x, min_size(VW, rows - r), min_size(VW, cols - c));
        }
}

static void transpose(float *y, size_t ld_y, const float *x, size_t ld_x, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r += TURN_BLOCK)
        for (size_t c = 0; c < cols; c += TURN_BLOCK)
            turn_block(y + c * ld_y + r, ld_y, x + r * ld_x + c, ld_x, min_size(TURN_BLOCK, rows - r),
                       min_size(TURN_BLOCK, cols - c));
}

/* Up to VW numbers of 16 bits, or f32 rounded to them, in the upper halves of the lanes. */
INLINE vu load_upper(const void *x, size_t at, size_t n, const int rounds)
{
    if (rounds)
        return v_round_bf16(v_load_upto((const float *)x + at, n)) & 0xFFFF0000u;
    uint16_t lanes[VW] = {0};
    vh h;
    memcpy(lanes, (const uint16_t *)x + at, n * 2);
    memcpy(&h, lanes, sizeof h);
    return __builtin_convertvector(h, vu) << 16;
}

/* One tile of up to 2 VW rows and VW columns. */
INLINE void turn_pairs(uint16_t *y, size_t ld_y, const void *x, size_t ld_x, size_t rows, size_t cols, const int rounds)
{
    vf t[VW];
    UNROLL
    for (size_t i = 0; i < VW; i++) {
        const vu low = 2 * i < rows ? load_upper(x, 2 * i * ld_x, cols, rounds) : (vu){0};
        const vu high = 2 * i + 1 < rows ? load_upper(x, (2 * i + 1) * ld_x, cols, rounds) : (vu){0};
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        t[i] = (vf)(low >> 16 | high);
#else
        t[i] = (vf)(low | high >> 16);
#endif
    }
    v_transpose(t);
    UNROLL
    for (size_t i = 0; i < VW; i++)
        if (i < cols)
            memcpy(y + i * ld_y, &t[i], rows * 2);
}

INLINE void turn_16(uint16_t *y, size_t ld_y, const void *x, size_t ld_x, size_t rows, size_t cols, const int rounds)
{
    const size_t size = rounds ? sizeof(float) : sizeof(uint16_t);
    for (size_t r0 = 0; r0 < rows; r0 += TURN_BLOCK)
        for (size_t c = 0; c < cols; c += VW)
            for (size_t r = r0; r < min_size(rows, r0 + TURN_BLOCK); r += 2 * VW) {
                uint16_t *to = y + c * ld_y + r;
                const char *from = (const char *)x + (r * ld_x + c) * size;
                if (rows - r >= 2 * VW && cols - c >= VW)
                    turn_pairs(to, ld_y, from, ld_x, 2 * VW, VW, rounds);
                else
                    turn_pairs(to, ld_y, from, ld_x, min_size(2 * VW, rows - r), min_size(VW, cols - c), rounds);
            }
}

static void transpose_to_bf16(uint16_t *y, size_t ld_y, const float *x, size_t ld_x, size_t rows, size_t cols)
{
    turn_16(y, ld_y, x, ld_x, rows, cols, 1);
}

static void transpose_16(uint16_t *y, size_t ld_y, const uint16_t *x, size_t ld_x, size_t rows, size_t cols)
{
    turn_16(y, ld_y, x, ld_x, rows, cols, 0);
}

#endif
