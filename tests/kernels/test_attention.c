/* test_attention.c — attention over paged keys and values of every type: each set against ref, pieces against the
 * whole, a row alone against the row among others, what is stored, and what storing in fewer bits costs. */
#include <stdio.h>

#include "kernels/kernel_sets.h"

/* Results of size 1: sums of some hundred products, one exp (2e-7) a weight. */
#define TOL 5e-6

/* One head's keys and values in pages, each in a block of exactly its size. */
typedef struct store {
    size_t n_pages, page, dim, n;
    zb_kv_type k_type, v_type;
    void **k, **v;
} store;

static void **pages_of(const store *s, zb_kv_type t, uint64_t seed)
{
    void **pages = block(s->n_pages * sizeof *pages);
    for (size_t i = 0; i < s->n_pages; i++) {
        pages[i] = block(zb_kv_bytes(t, s->page, s->dim));
        memset(pages[i], 0xFF, zb_kv_bytes(t, s->page, s->dim)); /* NaN where nothing is stored */
    }
    for (size_t j = 0; j < s->n; j++) {
        float *x = random_block(s->dim, seed + j, -1, 1);
        ref_set()->kv_store(pages[j / s->page], t, s->page, s->dim, j % s->page, x);
        free(x);
    }
    return pages;
}

static store store_open(size_t dim, size_t page, size_t n, zb_kv_type k, zb_kv_type v)
{
    store s = {.n_pages = (n + page - 1) / page, .page = page, .dim = dim, .n = n, .k_type = k, .v_type = v};
    s.k = pages_of(&s, k, 1000);
    s.v = pages_of(&s, v, 5000);
    return s;
}

static void store_close(store *s)
{
    for (size_t i = 0; i < s->n_pages; i++) {
        free(s->k[i]);
        free(s->v[i]);
    }
    free(s->k);
    free(s->v);
}

static zb_attn_args args_of(const store *s, float *out, const float *q, size_t ld, size_t rows)
{
    return (zb_attn_args){.out = out,
                          .q = q,
                          .ld_out = ld,
                          .ld_q = ld,
                          .n_rows = rows,
                          .first_pos = s->n - rows,
                          .key1 = s->n,
                          .k_pages = (const void *const *)s->k,
                          .v_pages = (const void *const *)s->v,
                          .k_type = s->k_type,
                          .v_type = s->v_type,
                          .page_tokens = s->page,
                          .head_dim = s->dim,
                          .scale = 1.5f / sqrtf((float)s->dim)};
}

/* Pages are counted from key0 on. */
static void at_key0(zb_attn_args *a, const store *s)
{
    a->k_pages = (const void *const *)s->k + a->key0 / s->page;
    a->v_pages = (const void *const *)s->v + a->key0 / s->page;
}

static const char *types_of(const store *s)
{
    static char text[16];
    snprintf(text, sizeof text, "%s %s", zb_kv_name(s->k_type), zb_kv_name(s->v_type));
    return text;
}

static void each_set(void (*test)(const zb_kernels *k))
{
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t i = 1; i < n; i++)
        test(sets[i]);
}

/* ---- against ref ---- */

static void against_ref(size_t dim, size_t page, size_t first, size_t rows, zb_kv_type kt, zb_kv_type vt)
{
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    store s = store_open(dim, page, first + rows, kt, vt);
    const size_t ld = dim + 3;
    float *q = random_block(rows * ld, 39, -2, 2), *want = filled_block(rows * ld, 7);
    float *got = copy_block(want, rows * ld);
    zb_attn_args a = args_of(&s, want, q, ld, rows);
    attention_whole(sets[0], &a);
    a.out = got;
    for (size_t i = 1; i < n_sets; i++) {
        attention_whole(sets[i], &a);
        check_close(got, want, rows * ld, TOL, "%s: %s, head %zu, page %zu, rows %zu from %zu", sets[i]->name,
                    types_of(&s), dim, page, rows, first);
    }
    free(q);
    free(want);
    free(got);
    store_close(&s);
}

static void test_against_ref(void **state)
{
    (void)state;
    static const size_t dims[] = {1, 7, 24, 64, 160}, pages[] = {1, 7, 32, 100, 256};
    for (size_t d = 0; d < 5; d++)
        for (size_t p = 0; p < 5; p++)
            for (int t = 0; t < ZB_N_KV_TYPES; t++) {
                const zb_kv_type kt = (zb_kv_type)t, vt = (zb_kv_type)((t + (int)p) % ZB_N_KV_TYPES);
                against_ref(dims[d], pages[p], 0, 1, kt, vt);
                against_ref(dims[d], pages[p], 0, 21, kt, kt);
                against_ref(dims[d], pages[p], 150, 1, kt, vt);
                if (d < 4)
                    against_ref(dims[d], pages[p], 63, 37, vt, kt);
            }
    for (int t = 0; t < ZB_N_KV_TYPES; t++) {
        const zb_kv_type kt = (zb_kv_type)t, vt = (zb_kv_type)((t + 1) % ZB_N_KV_TYPES);
        against_ref(464, 32, 200, 1, kt, vt); /* Zamba-7B's head */
        against_ref(464, 32, 50, 37, kt, kt);
        against_ref(512, 256, 20, 5, kt, vt); /* the longest head */
        against_ref(515, 32, 10, 5, kt, vt);  /* and one past it  */
    }
}

/* ---- pieces ---- */

/* Pieces [0, 64), [64, 96), ... joined in order, against ref on the whole. */
static void pieces_of(const zb_kernels *k)
{
    enum { PAGE = 32, N = 300, ROWS = 41, DIM = 40 };
    static const size_t borders[] = {0, 64, 96, 256, 288, 320};
    for (int t = 0; t < ZB_N_KV_TYPES; t++) {
        store s = store_open(DIM, PAGE, N, (zb_kv_type)t, (zb_kv_type)t);
        float *q = random_block(ROWS * DIM, 39, -4, 4), *want = block(ROWS * DIM * 4),
              *got = filled_block(ROWS * DIM, 0), *piece = block(ROWS * DIM * 4);
        float greatest[ROWS], total[ROWS], greatest2[ROWS], total2[ROWS];
        zb_attn_args a = args_of(&s, want, q, DIM, ROWS);
        attention_whole(ref_set(), &a);
        for (size_t r = 0; r < ROWS; r++)
            greatest[r] = -INFINITY, total[r] = 0;
        a.out = piece;
        a.greatest = greatest2;
        a.total = total2;
        for (size_t i = 0; i + 1 < sizeof borders / sizeof *borders; i++) {
            a.key0 = borders[i];
            a.key1 = borders[i + 1] < N ? borders[i + 1] : N;
            at_key0(&a, &s);
            k->attention(&a);
            for (size_t r = 0; r < ROWS; r++) {
                if (a.first_pos + r < a.key0) { /* sees nothing of it */
                    assert_true(greatest2[r] == -INFINITY && total2[r] == 0);
                    for (size_t e = 0; e < DIM; e++)
                        assert_true(piece[r * DIM + e] == 0);
                }
                k->attention_join(got + r * DIM, &greatest[r], &total[r], piece + r * DIM, greatest2[r], total2[r],
                                  DIM);
            }
        }
        for (size_t r = 0; r < ROWS; r++)
            k->scale(got + r * DIM, got + r * DIM, 1.0f / total[r], DIM);
        check_close(got, want, ROWS * DIM, TOL, "%s: %s in pieces", k->name, types_of(&s));
        free(q);
        free(want);
        free(got);
        free(piece);
        store_close(&s);
    }
}

static void test_pieces(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t i = 0; i < n; i++)
        pieces_of(sets[i]);
}

/* A row that goes on piece by piece: the bits of one piece. */
static void goes_on_of(const zb_kernels *k)
{
    enum { PAGE = 32, N = 300, ROWS = 41 };
    static const size_t borders[] = {0, 32, 64, 224, 288, 320}, dims[] = {24, 160};
    for (int t = 0; t < ZB_N_KV_TYPES; t++)
        for (size_t d = 0; d < 2; d++)
            for (size_t rows = 1; rows <= ROWS; rows += ROWS - 1) {
                const size_t dim = dims[d];
                store s = store_open(dim, PAGE, N, (zb_kv_type)t, (zb_kv_type)((t + (int)d) % ZB_N_KV_TYPES));
                float *q = random_block(rows * dim, 39, -4, 4), *want = block(rows * dim * 4),
                      *got = filled_block(rows * dim, 5);
                float greatest[2][ROWS], total[2][ROWS];
                zb_attn_args a = args_of(&s, want, q, dim, rows);
                a.greatest = greatest[0], a.total = total[0];
                k->attention(&a);
                a.out = got, a.greatest = greatest[1], a.total = total[1];
                for (size_t i = 0; i + 1 < sizeof borders / sizeof *borders; i++) {
                    a.key0 = borders[i];
                    a.key1 = borders[i + 1] < N ? borders[i + 1] : N;
                    a.goes_on = i > 0;
                    at_key0(&a, &s);
                    k->attention(&a);
                }
                assert_memory_equal(got, want, rows * dim * 4);
                assert_memory_equal(greatest[1], greatest[0], rows * 4);
                assert_memory_equal(total[1], total[0], rows * 4);
                free(q);
                free(want);
                free(got);
                store_close(&s);
            }
}

static void test_goes_on(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t i = 0; i < n; i++)
        goes_on_of(sets[i]);
}

static void join_of(const zb_kernels *k)
{
    enum { N = 37 };
    static const float tops[][2] = {{3, -2}, {-2, 3}, {1, 1}, {-INFINITY, 5}, {100, -100}, {-100, 100}};
    for (size_t i = 0; i < sizeof tops / sizeof *tops; i++) {
        const int empty = tops[i][0] == -INFINITY;
        float *want = random_block(N, 1, -1, 1), *other = random_block(N, 2, -1, 1);
        float top[2] = {tops[i][0], tops[i][0]}, total[2] = {empty ? 0 : 3.5f, empty ? 0 : 3.5f};
        for (size_t e = 0; e < N && empty; e++)
            want[e] = 0;
        float *got = copy_block(want, N), *before = copy_block(want, N);
        ref_set()->attention_join(want, &top[0], &total[0], other, tops[i][1], 2.25f, N);
        k->attention_join(got, &top[1], &total[1], other, tops[i][1], 2.25f, N);
        check_close(got, want, N, 1e-6, "%s: join %zu", k->name, i);
        check_close(&total[1], &total[0], 1, 1e-6, "%s: join %zu, total", k->name, i);
        assert_true(top[0] == fmaxf(tops[i][0], tops[i][1]) && top[1] == top[0]);
        /* a piece without keys */
        top[1] = tops[i][0], total[1] = 7;
        memcpy(got, before, N * 4);
        k->attention_join(got, &top[1], &total[1], other, -INFINITY, 0, N);
        assert_memory_equal(got, before, N * 4);
        assert_true(top[1] == tops[i][0] && total[1] == 7);
        free(want);
        free(other);
        free(got);
        free(before);
    }
}

static void test_join(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t i = 0; i < n; i++)
        join_of(sets[i]);
}

static void test_scale(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    for (size_t s = 0; s < n_sets; s++)
        for (size_t n = 0; n < 70; n += 3) {
            float *x = random_block(n, 1, -1, 1), *y = filled_block(n, NAN);
            sets[s]->scale(y, x, 0.3f, n);
            sets[s]->scale(x, x, 0.3f, n);
            assert_memory_equal(x, y, n * 4);
            free(x);
            free(y);
        }
}

/* ---- the same bits ---- */

/* Rows one by one and in uneven groups, of the whole and of a piece, give the bits of all rows together: what they sum
 * up to, and their greatest score and total. */
static void bits_of(const zb_kernels *k, size_t dim, size_t page, zb_kv_type kt, zb_kv_type vt)
{
    enum { N = 300, ROWS = 70 };
    static const size_t groups[] = {1, 3, 4, 5, 33};
    store s = store_open(dim, page, N, kt, vt);
    float *q = random_block(ROWS * dim, 3, -3, 3), *together = block(ROWS * dim * 4), *other = block(ROWS * dim * 4);
    float greatest[2][ROWS], total[2][ROWS];
    for (size_t key0 = 0; key0 < N; key0 += 130 / page * page) {
        zb_attn_args a = args_of(&s, together, q, dim, ROWS);
        a.key0 = key0;
        a.key1 = key0 == 0 ? N : key0 + 130 / page * page;
        a.key1 = a.key1 < N ? a.key1 : N;
        at_key0(&a, &s);
        a.greatest = greatest[0], a.total = total[0];
        k->attention(&a);
        for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
            for (size_t r = 0; r < ROWS; r += groups[g]) {
                zb_attn_args b = a;
                b.out = other + r * dim;
                b.q = q + r * dim;
                b.greatest = greatest[1] + r, b.total = total[1] + r;
                b.n_rows = r + groups[g] < ROWS ? groups[g] : ROWS - r;
                b.first_pos = a.first_pos + r;
                k->attention(&b);
            }
            for (size_t r = 0; r < ROWS; r++)
                if (memcmp(other + r * dim, together + r * dim, dim * 4) != 0 || greatest[0][r] != greatest[1][r] ||
                    total[0][r] != total[1][r])
                    fail_msg("%s: %s, head %zu, page %zu, keys %zu to %zu: row %zu differs in groups of %zu", k->name,
                             types_of(&s), dim, page, a.key0, a.key1, r, groups[g]);
        }
        if (page > 130)
            break;
    }
    free(q);
    free(together);
    free(other);
    store_close(&s);
}

static void test_bits(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    static const size_t dims[] = {7, 40, 64, 160};
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < 4; d++)
            for (int t = 0; t < ZB_N_KV_TYPES && (i > 0 || d == 0); t++) {
                bits_of(sets[i], dims[d], 32, (zb_kv_type)t, (zb_kv_type)t);
                bits_of(sets[i], dims[d], d % 2 ? 48 : 200, (zb_kv_type)t, (zb_kv_type)((t + 1) % ZB_N_KV_TYPES));
            }
}

/* ---- what is stored ---- */

/* Rows whose blocks are ordinary, zero, tiny, huge, ties, or no numbers. */
static float stored_number(size_t row, size_t i, uint64_t *seed)
{
    const float x = random_float(seed, -3, 3);
    switch (row) {
    case 0:
        return x;
    case 1:
        return i < 40 ? 0 : -0.0f;
    case 2:
        return x * 1e-5f; /* denormal scales in f16 */
    case 3:
        return x * 1e-9f; /* below all of f16 */
    case 4:
        return x * 1e30f;
    case 5:
        return i % 32 == 3 ? 127 : (float)(int)(x * 40) + 0.5f; /* ties: scale 1 */
    case 6:
        return i == 5 ? INFINITY : x;
    case 7:
        return i == 37 ? NAN : x;
    case 8:
        return i == 0 ? 8e6f : x * 1e6f; /* near f16's greatest scale, and past its greatest number */
    default:
        return x * (float)row;
    }
}

static void stored_of(const zb_kernels *k, size_t dim, size_t page)
{
    for (int t = 0; t < ZB_N_KV_TYPES; t++) {
        const size_t bytes = zb_kv_bytes((zb_kv_type)t, page, dim);
        unsigned char *want = block(bytes), *got = block(bytes);
        uint64_t seed = 5;
        assert_int_equal(bytes % 64, 0);
        memset(want, 0x55, bytes);
        memset(got, 0x55, bytes);
        for (size_t row = 0; row < page; row++) {
            float *x = block(dim * 4);
            for (size_t i = 0; i < dim; i++)
                x[i] = stored_number(row, i, &seed);
            ref_set()->kv_store(want, (zb_kv_type)t, page, dim, row, x);
            k->kv_store(got, (zb_kv_type)t, page, dim, row, x);
            free(x);
        }
        for (size_t i = 0; i < bytes; i++)
            if (got[i] != want[i])
                fail_msg("%s: %s, head %zu, page %zu: byte %zu is %02x, wanted %02x", k->name,
                         zb_kv_name((zb_kv_type)t), dim, page, i, got[i], want[i]);
        free(want);
        free(got);
    }
}

static void stores_of(const zb_kernels *k)
{
    static const size_t dims[] = {1, 7, 40, 64, 160, 464};
    for (size_t d = 0; d < 6; d++) {
        stored_of(k, dims[d], 32);
        stored_of(k, dims[d], 9);
    }
}

static void test_stored(void **state)
{
    (void)state;
    each_set(stores_of);
    /* what the specification says, spelled out */
    float x[33] = {127, -127, 0.5f, 1.5f, 2.5f, -0.5f, 126.6f, 63.49f, [32] = -254};
    unsigned char page[128];
    uint16_t scale;
    memset(page, 0x55, sizeof page);
    ref_set()->kv_store(page, ZB_KV_Q8_0, 2, 33, 1, x);
    static const signed char want[9] = {127, -127, 0, 2, 2, 0, 127, 63, 0};
    assert_memory_equal(page + 8 + 33, want, 9); /* scales of two rows and two blocks, bytes of row 0 */
    assert_int_equal((signed char)page[8 + 33 + 32], -127);
    memcpy(&scale, page + 2, 2);
    assert_true(zb_f16_f32(scale) == 1);
    memcpy(&scale, page + 6, 2);
    assert_true(zb_f16_f32(scale) == 2);
    assert_int_equal(page[1], 0x55); /* row 0 was not touched */
    assert_int_equal(page[5], 0x55);
    assert_int_equal(page[8], 0x55);
    assert_int_equal(page[8 + 32], 0x55);
    assert_int_equal(page[8 + 66], 0x55);
}

/* ---- what fewer bits cost ---- */

/* The error that a type brings into the result, relative to the root mean square of the result, on keys and values of
 * the size that norms leave (about 1): rounding to b bits of a value is b + 1.8 bits below it, and the softmax averages
 * over many. Bounds are about twice what is measured. */
static void test_errors(void **state)
{
    (void)state;
    enum { N = 640, DIM = 128, PAGE = 32, ROWS = 16 };
    static const double bounds[ZB_N_KV_TYPES] = {2e-6, 1e-3, 8e-3, 1.2e-2};
    const zb_kernels *sets[MAX_SETS];
    const size_t n_sets = sets_of_this_cpu(sets);
    store exact = store_open(DIM, PAGE, N, ZB_KV_F32, ZB_KV_F32);
    float *q = random_block(ROWS * DIM, 39, -2, 2), *want = block(ROWS * DIM * 4), *got = block(ROWS * DIM * 4);
    zb_attn_args a = args_of(&exact, want, q, DIM, ROWS);
    attention_whole(ref_set(), &a);
    double square = 0;
    for (size_t i = 0; i < ROWS * DIM; i++)
        square += (double)want[i] * (double)want[i];
    for (int t = 0; t < ZB_N_KV_TYPES; t++) {
        store s = store_open(DIM, PAGE, N, (zb_kv_type)t, (zb_kv_type)t);
        for (size_t i = 0; i < n_sets; i++) {
            double wrong = 0, worst = 0;
            a = args_of(&s, got, q, DIM, ROWS);
            attention_whole(sets[i], &a);
            for (size_t e = 0; e < ROWS * DIM; e++) {
                const double d = fabs((double)got[e] - (double)want[e]);
                wrong += d * d;
                worst = fmax(worst, d);
            }
            const double rms = sqrt(wrong / square), top = worst / sqrt(square / (ROWS * DIM));
            print_message("%-10s %-4s  error of the result: rms %.2e, greatest %.2e of its rms\n", sets[i]->name,
                          zb_kv_name((zb_kv_type)t), rms, top);
            assert_true(rms <= bounds[t]);
            assert_true(top <= 6 * bounds[t]);
        }
        store_close(&s);
    }
    free(q);
    free(want);
    free(got);
    store_close(&exact);
}

/* ---- NaN ---- */

/* A value that is no number reaches the rows that see its key and no others; of q8_0 its whole block does. */
static void nan_of(const zb_kernels *k)
{
    enum { DIM = 70, N = 50, AT = 33, PAGE = 32 };
    for (int t = 0; t < ZB_N_KV_TYPES; t++)
        for (size_t rows = 1; rows <= N; rows += N - 1) {
            store s = store_open(DIM, PAGE, N, (zb_kv_type)t, (zb_kv_type)t);
            float *x = filled_block(DIM, 1), *q = random_block(N * DIM, 3, -1, 1), *out = block(N * DIM * 4);
            x[40] = NAN;
            k->kv_store(s.v[AT / PAGE], (zb_kv_type)t, PAGE, DIM, AT % PAGE, x);
            for (size_t r = 0; r < N; r += rows) {
                zb_attn_args a = args_of(&s, out + r * DIM, q, DIM, rows);
                a.first_pos = r;
                attention_whole(k, &a);
            }
            for (size_t r = 0; r < N; r++)
                for (size_t i = 0; i < DIM; i++) {
                    const int wanted = r >= AT && (t == ZB_KV_Q8_0 ? i / 32 == 1 : i == 40);
                    if ((isnan(out[r * DIM + i]) != 0) != wanted)
                        fail_msg("%s: %s, %zu rows: row %zu, element %zu is %g", k->name, zb_kv_name((zb_kv_type)t),
                                 rows, r, i, (double)out[r * DIM + i]);
                }
            free(x);
            free(q);
            free(out);
            store_close(&s);
        }
}

static void test_nan(void **state)
{
    (void)state;
    const zb_kernels *sets[MAX_SETS];
    const size_t n = sets_of_this_cpu(sets);
    for (size_t i = 0; i < n; i++)
        nan_of(sets[i]);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {"f32", "f16", "bf16", "q8_0"};
    for (int t = 0; t < ZB_N_KV_TYPES; t++)
        assert_string_equal(zb_kv_name((zb_kv_type)t), names[t]);
    assert_string_equal(zb_kv_name((zb_kv_type)99), "?");
    assert_int_equal(zb_kv_bytes(ZB_KV_F32, 32, 160), 32 * 160 * 4);
    assert_int_equal(zb_kv_bytes(ZB_KV_F16, 32, 160), 32 * 160 * 2);
    assert_int_equal(zb_kv_bytes(ZB_KV_BF16, 32, 224), 32 * 224 * 2);
    assert_int_equal(zb_kv_bytes(ZB_KV_Q8_0, 32, 160), 32 * 160 + 32 * 5 * 2);
    assert_int_equal(zb_kv_bytes(ZB_KV_Q8_0, 32, 33), 32 * 33 + 32 * 2 * 2 + 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_ref), cmocka_unit_test(test_pieces), cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_join),        cmocka_unit_test(test_scale),  cmocka_unit_test(test_bits),
        cmocka_unit_test(test_stored),      cmocka_unit_test(test_errors), cmocka_unit_test(test_nan),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
