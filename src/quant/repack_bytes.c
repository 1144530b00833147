/* repack_bytes.c — bitsandbytes: 4-bit numbers of NF4 (or any table) with their doubly quantized factors, and the
 * signed bytes of LLM.int8(). What is multiplied and added is rounded each time, as there: no fused multiply-adds. */
#include "quant/repack.h"

void zb_absmax_unnest(float *absmax, const uint8_t *q, size_t n, const float nested_map[256],
                      const float *nested_absmax, size_t nested_blocksize, float offset)
{
    for (size_t i = 0; i < n; i++) {
        const float product = nested_map[q[i]] * nested_absmax[i / nested_blocksize];
        absmax[i] = product + offset;
    }
}

void zb_nf4_to_blocks(zb_block_nf4 *to, const uint8_t *packed, size_t n, const float *absmax, size_t blocksize)
{
    const size_t per_factor = blocksize / 64;
    for (size_t b = 0; b < n / 64; b++) {
        const uint8_t *from = packed + 32 * b;
        zb_block_nf4 *block = &to[b];
        block->d = absmax[b / per_factor];
        for (size_t j = 0; j < 16; j++) { /* numbers 2j, 2j + 1 and the two 32 after them */
            block->q[2 * j] = (uint8_t)(from[j] >> 4 | (from[j + 16] & 0xF0));
            block->q[2 * j + 1] = (uint8_t)((from[j] & 15) | from[j + 16] << 4);
        }
    }
}

void zb_nibbles_to_f32(float *to, const uint8_t *packed, size_t n, const float table[16], const float *absmax,
                       size_t blocksize)
{
    for (size_t i = 0; i < n; i++)
        to[i] = table[packed[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15] * absmax[i / blocksize];
}

void zb_int8_to_blocks(zb_block_q8_0 *to, const int8_t *q, size_t rows, size_t cols, const float *greatest)
{
    for (size_t r = 0; r < rows; r++) {
        const uint16_t d = zb_f32_f16(greatest[r] * ZB_INT8_STEP);
        for (size_t b = 0; b < cols / ZB_QK; b++, to++) {
            to->d = d;
            memcpy(to->q, q + r * cols + b * ZB_QK, ZB_QK);
        }
    }
}

void zb_int8_to_f32(float *to, const int8_t *q, size_t rows, size_t cols, const float *greatest)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < cols; k++) {
            const float product = (float)q[r * cols + k] * greatest[r];
            to[r * cols + k] = product * ZB_INT8_STEP;
        }
}
