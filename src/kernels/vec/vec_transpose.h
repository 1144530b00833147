/* vec_transpose.h — turning matrices: tiles of VW x VW lanes of 32 bits in registers; and rows of bf16 laid in pairs,
 * two in a lane. The specification stands in ref/transpose.c. */
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

static void transpose_32(void *y, size_t ld_y, const void *x, size_t ld_x, size_t rows, size_t cols)
{
    transpose(y, ld_y, x, ld_x, rows, cols);
}

/* ---- pairs of bf16 ---- */

/* n numbers (VW, if the compiler knows), rounded if they are f32, in the upper halves of the lanes. */
INLINE vu load_upper(const char *x, const size_t n, const zb_dtype t)
{
    if (t == ZB_F32)
        return v_round_bf16(v_load_upto((const float *)(const void *)x, n)) & 0xFFFF0000u;
    return (vu)(n == VW ? v_from_bf16(x) : v_load_weight_n((const unsigned char *)x, t, n));
}

INLINE void pair_vectors(uint32_t *y, const char *x, size_t ld_x, int both, const size_t n, const zb_dtype t)
{
    vu pair = load_upper(x, n, t) >> 16;
    if (both)
        pair |= load_upper(x + ld_x * ELEMENT(t), n, t);
    memcpy(y, &pair, n * sizeof *y);
}

INLINE void pair_rows_as(uint32_t *y, size_t ld_y, const char *x, size_t ld_x, size_t rows, size_t cols,
                         const zb_dtype t)
{
    for (size_t r = 0; r < rows; r += 2, y += ld_y) {
        const char *from = x + r * ld_x * ELEMENT(t);
        size_t c = 0;
        for (; c + VW <= cols; c += VW)
            pair_vectors(y + c, from + c * ELEMENT(t), ld_x, r + 1 < rows, VW, t);
        if (c < cols)
            pair_vectors(y + c, from + c * ELEMENT(t), ld_x, r + 1 < rows, cols - c, t);
    }
}

static void pair_rows(uint32_t *y, size_t ld_y, const void *x, zb_dtype t, size_t ld_x, size_t rows, size_t cols)
{
    if (t == ZB_F32)
        pair_rows_as(y, ld_y, x, ld_x, rows, cols, ZB_F32);
    else
        pair_rows_as(y, ld_y, x, ld_x, rows, cols, ZB_BF16);
}

#endif
