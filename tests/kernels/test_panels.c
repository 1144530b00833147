/* test_panels.c — products with matrices in panels: every set against plain sums over the matrix itself, and the same
 * bits whatever rows stand beside one and however the outputs are split. */
#include "core/mem.h"
#include "kernels/kernel_sets.h"

static void check_shape(const zb_kernels *k, size_t m, size_t rows, size_t cols, zb_dtype t)
{
    float *x = random_block(m * cols, 1, -1, 1), *w = random_block(rows * cols, 2, -1, 1),
          *bias = random_block(rows, 3, -1, 1);
    zb_panels p = {.rows = rows, .cols = cols, .dtype = t};
    void *data = zb_alloc_aligned(zb_panels_bytes(&p));
    zb_panels_pack(data, &p, w);
    p.data = data;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            const float want = t == ZB_F32 ? w[r * cols + c] : zb_bf16_f32(zb_f32_bf16(w[r * cols + c]));
            assert_true(zb_panel_number(&p, r, c) == want);
        }
    float *y = filled_block(m * rows, NAN), *other = filled_block(m * rows, NAN);
    k->panels(y, rows, x, cols, m, &p, bias, 0, rows);
    for (size_t i = 0; i < m; i++)
        for (size_t r = 0; r < rows; r++) {
            double sum = (double)bias[r], most = 1;
            for (size_t c = 0; c < cols; c++) {
                sum += (double)x[i * cols + c] * (double)zb_panel_number(&p, r, c);
                most += fabs((double)x[i * cols + c] * (double)zb_panel_number(&p, r, c));
            }
            if (!(fabs(sum - (double)y[i * rows + r]) <= 6e-8 * (double)(cols + 1) * most)) /* a rounding a term */
                fail_msg("%s: %s, m %zu, %zux%zu: y[%zu, %zu] is %g, not %g", k->name, zb_dtype_name(t), m, rows, cols,
                         i, r, (double)y[i * rows + r], sum);
        }
    for (size_t i = 0; i < m; i++) /* one row at a time, one panel at a time */
        for (size_t r = 0; r < rows; r += ZB_PANEL)
            k->panels(other + i * rows, rows, x + i * cols, cols, 1, &p, bias, r,
                      r + ZB_PANEL < rows ? r + ZB_PANEL : rows);
    if (memcmp(y, other, m * rows * sizeof(float)) != 0)
        fail_msg("%s: %s, m %zu, %zux%zu: rows by themselves have other bits", k->name, zb_dtype_name(t), m, rows,
                 cols);
    k->panels(y, rows, x, cols, m, &p, NULL, 0, rows);
    memset(bias, 0, rows * sizeof(float));
    k->panels(other, rows, x, cols, m, &p, bias, 0, rows);
    assert_memory_equal(y, other, m * rows * sizeof(float));
    free(x);
    free(w);
    free(bias);
    free(y);
    free(other);
    zb_free_aligned(data);
}

static void test_panels(void **state)
{
    (void)state;
    static const size_t ms[] = {1, 2, 5, 9}, rows[] = {1, 15, 16, 33, 64, 65, 200}, cols[] = {1, 2, 7, 64, 131};
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < 4; i++)
            for (size_t j = 0; j < 7; j++)
                for (size_t l = 0; l < 5; l++) {
                    check_shape(sets[s], ms[i], rows[j], cols[l], ZB_F32);
                    check_shape(sets[s], ms[i], rows[j], cols[l], ZB_BF16);
                }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_panels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
