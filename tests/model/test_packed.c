/* Matrices packed by GPTQ, AWQ and bitsandbytes: model/packing.c, model/packed.c and quant/repack_*.c. The fixtures are
 * made by reference/make_packed_fixtures.py: what each matrix is, bit for bit, stands in their expected.json, what
 * transformers computes with these in forward.safetensors. Damaged folders are copies with one thing changed. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "model/model.h"
#include "quant/quant.h"
#include "support/golden.h"
#include "support/scratch.h"

#include "support/alloc_hook.h" /* after what its checks need */

#define PACKED "../../model/fixtures/packed/" /* seen from GOLDEN_DIR */

#define TOL_LOGITS 5e-4 /* as the goldens that are made in the same way: two correct orders of summation in f32 */

/* Of the logits' size, where random layers amplify the rounding (to 0.06); a wrong order gives 1. */
#define TOL_BYTES 0.15

static const char *const fixtures[] = {"gptq-4",      "gptq-4-act", "gptq-4-v2", "gptq-8-act", "gptq-mixed",
                                       "gptq-zamba1", "awq",        "awq-sym",   "nf4",        "bnb-mixed"};
#define N_FIXTURES (sizeof fixtures / sizeof *fixtures)

/* As zlib's. */
static uint32_t crc32(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint32_t c = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (0xEDB88320u & -(c & 1));
    }
    return ~c;
}

static zamba_status open_model(zamba_model **m, const char *path, zamba_compute compute, zamba_error *err)
{
    zamba_model_options o = zamba_model_defaults();
    o.no_tokenizer = 1;
    o.n_threads = 1;
    o.compute = compute;
    return zamba_model_open(m, path, &o, err);
}

/* ---- what the matrices are ---- */

/* Numbers of a made matrix, columns as in the model. Caller frees. */
static float *numbers_of(const zb_packed *p)
{
    const zb_tensor *t = &p->tensor;
    const size_t rows = t->shape[0], cols = t->shape[1], row_bytes = zb_row_bytes(t->dtype, cols);
    float *out = malloc(rows * cols * sizeof *out), *row = malloc(cols * sizeof *row);
    assert_non_null(out);
    assert_non_null(row);
    for (size_t r = 0; r < rows; r++) {
        zb_row_to_f32(row, (const char *)t->data + r * row_bytes, t->dtype, cols);
        for (size_t k = 0; k < cols; k++)
            out[r * cols + (p->order != NULL ? p->order[k] : k)] = row[k];
    }
    free(row);
    return out;
}

static zamba_model *open_repacked(const char *path, int32_t repack)
{
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    o.no_tokenizer = 1;
    o.n_threads = 1;
    o.compute = ZAMBA_COMPUTE_F32;
    o.repack = repack;
    CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
    return m;
}

/* Each matrix that expected.json lists, and no other, was packed and is now what it says. */
static void check_matrices(const char *folder, const char *fixture)
{
    char path[256];
    zamba_model *m = open_repacked(folder, -1); /* whole */
    json_t *expected;
    zamba_error err;
    size_t found = 0, ordered = 0;
    snprintf(path, sizeof path, GOLDEN_DIR "/" PACKED "%s/expected.json", fixture);
    CHECK_OK(zb_json_read(&expected, path, zb_json_small, &err), err);
    for (size_t i = 0; i < m->plan.n_specs; i++) {
        const zb_packed *p = &m->weights.packed[i];
        const char *name = m->plan.specs[i].name, *suffix = strstr(name, ".shared_");
        if (p->n_pieces == 0)
            continue;
        const json_t *want = json_object_get(expected, name);
        char first[256];
        if (want == NULL && suffix != NULL) { /* it may have been moved to another layer */
            snprintf(first, sizeof first, "model.layers.0%s", suffix);
            want = json_object_get(expected, first);
        }
        if (want == NULL)
            fail_msg("%s: %s is not expected to be packed", fixture, name);
        zamba_tensor_info info = {.size = sizeof info};
        CHECK_OK(zamba_model_tensor(m, i, &info, &err), err);
        assert_string_equal(info.dtype, json_string_value(json_object_get(want, "kept")));
        assert_int_equal(info.bytes, p->tensor.shape[0] * zb_row_bytes(p->tensor.dtype, p->tensor.shape[1]));
        float *got = numbers_of(p);
        const uint32_t sum = crc32(got, p->tensor.shape[0] * p->tensor.shape[1] * sizeof *got);
        if (sum != (uint32_t)json_integer_value(json_object_get(want, "crc32")))
            fail_msg("%s: the numbers of %s (%s) are not those that were packed", fixture, name, info.dtype);
        free(got);
        ordered += p->order != NULL;
        found++;
    }
    assert_int_equal(found, json_object_size(expected));
    assert_int_equal(ordered > 0, strstr(fixture, "-act") != NULL || strcmp(fixture, "gptq-mixed") == 0);
    json_decref(expected);
    zamba_model_close(m);
}

static void check_logits(zamba_model *m, const char *fixture, double tolerance)
{
    golden g;
    char model[128];
    snprintf(model, sizeof model, PACKED "%s", fixture);
    assert_true(golden_open(&g, model, "forward.safetensors"));
    for (size_t i = 0; i < g.tensors.n; i++) {
        const char *name = g.tensors.items[i].name;
        size_t n;
        if (strncmp(name, "input_ids.", 10) != 0)
            continue;
        int32_t *ids = golden_ids(&g.tensors.items[i], &n);
        const zb_tensor *want = golden_get(&g, "logits.%s", name + 10);
        float *got = golden_logits(m, ids, n, NULL);
        check_close(got, want->data, n * m->plan.config.vocab_size, tolerance, "%s %s", fixture, name);
        free(got);
        free(ids);
    }
    golden_close(&g);
}

static void test_fixtures(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FIXTURES; i++) {
        char path[256];
        zamba_model *m;
        zamba_error err;
        snprintf(path, sizeof path, GOLDEN_DIR "/" PACKED "%s", fixtures[i]);
        CHECK_OK(open_model(&m, path, ZAMBA_COMPUTE_F32, &err), err);
        check_matrices(path, fixtures[i]);
        check_logits(m, fixtures[i], TOL_LOGITS);
        zamba_model_close(m);
    }
}

/* How far `got` is from `want`, as a part of its size. */
static double distance(const float *got, const float *want, size_t n)
{
    double error = 0, size = 0;
    for (size_t k = 0; k < n; k++) {
        error += ((double)got[k] - (double)want[k]) * ((double)got[k] - (double)want[k]);
        size += (double)want[k] * (double)want[k];
    }
    return sqrt(error / size);
}

/* Activations in 8 bits, gathered in the order of the columns where they have one: tokens together and alone. */
static void test_bytes(void **state)
{
    static const int32_t ids[] = {5, 9, 30, 7, 7, 3, 90, 41, 17, 23, 60};
    static const size_t whole[] = {sizeof ids / sizeof *ids, 0}, alone[] = {1, 0}, *const ways[] = {whole, alone};
    const size_t n = whole[0];
    (void)state;
    for (size_t i = 0; i < N_FIXTURES; i++) {
        char path[256];
        zamba_model *exact, *m;
        zamba_error err;
        snprintf(path, sizeof path, GOLDEN_DIR "/" PACKED "%s", fixtures[i]);
        CHECK_OK(open_model(&exact, path, ZAMBA_COMPUTE_F32, &err), err);
        CHECK_OK(open_model(&m, path, ZAMBA_COMPUTE_INT8, &err), err);
        float *want = golden_logits(exact, ids, n, NULL);
        for (size_t k = 0; k < 2; k++) {
            float *got = golden_logits(m, ids, n, ways[k]);
            const double far = distance(got, want, n * m->plan.config.vocab_size);
            if (!(far <= TOL_BYTES))
                fail_msg("%s, way %zu: logits on bytes are %.4f of their size away from those in f32", fixtures[i], k,
                         far);
            free(got);
        }
        free(want);
        zamba_model_close(exact);
        zamba_model_close(m);
    }
}

/* ---- bit work alone: every width, tails of tiles, any order, against one number at a time ---- */

static uint32_t dice(uint32_t *s)
{
    return *s = *s * 1664525u + 1013904223u, *s >> 8;
}

static uint32_t bits_at(const uint32_t *words, size_t stride, size_t bit, unsigned n)
{
    uint32_t x = 0;
    for (unsigned i = 0; i < n; i++)
        x |= (words[(bit + i) / 32 * stride] >> (bit + i) % 32 & 1) << i;
    return x;
}

static uint32_t awq_at(const uint32_t *line, size_t r)
{
    static const unsigned place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return line[r / 8] >> 4 * place[r % 8] & 15;
}

static void check_words(zb_words w, uint32_t seed)
{
    const size_t n_groups = w.group_size < w.cols ? w.cols / w.group_size : 1, n = w.cols * w.rows * w.bits / 32;
    const size_t n_zeros = n_groups * w.rows * w.bits / 32, row_bytes = zb_row_bytes(zb_words_block(&w), w.cols);
    uint32_t *q = malloc(4 * n + 1), *zeros = malloc(4 * n_zeros + 1), *order = malloc(4 * w.cols);
    uint32_t *group = malloc(4 * w.cols);
    uint16_t *scales = malloc(2 * n_groups * w.rows + 1);
    float *all = malloc(4 * w.rows * w.cols), *row = malloc(4 * w.cols);
    unsigned char *blocks = malloc(row_bytes * w.rows);
    for (size_t i = 0; i < n; i++)
        q[i] = dice(&seed) << 16 ^ dice(&seed);
    for (size_t i = 0; i < n_zeros; i++)
        zeros[i] = dice(&seed) << 16 ^ dice(&seed);
    for (size_t i = 0; i < n_groups * w.rows; i++)
        scales[i] = (uint16_t)(dice(&seed) % 0x7000 | (dice(&seed) & 1) << 15);
    for (size_t k = 0; k < w.cols; k++)
        order[k] = (uint32_t)k;
    for (size_t k = w.cols; k > 1; k--) {
        const size_t j = dice(&seed) % k;
        const uint32_t t = order[j];
        order[j] = order[k - 1];
        order[k - 1] = t;
    }
    for (size_t k = 0; k < w.cols; k++)
        group[order[k]] = (uint32_t)(k / w.group_size);
    w.q = q;
    w.zeros = zeros;
    w.scales = scales;
    w.group_of = group;
    zb_words_to_f32(all, &w);
    zb_words_to_blocks(blocks, &w, order);
    for (size_t r = 0; r < w.rows; r++) {
        zb_row_to_f32(row, blocks + r * row_bytes, zb_words_block(&w), w.cols);
        for (size_t k = 0; k < w.cols; k++) {
            const size_t g = k / w.group_size, c = order[k];
            const uint32_t number = w.layout == ZB_WORDS_AWQ ? awq_at(q + c * (w.rows / 8), r)
                                                             : bits_at(q + r, w.rows, c * w.bits, w.bits),
                           zero = w.layout == ZB_WORDS_AWQ
                                      ? awq_at(zeros + g * (w.rows / 8), r)
                                      : bits_at(zeros + g * (w.rows * w.bits / 32), 1, r * w.bits, w.bits);
            const float want = zb_f16_f32(scales[g * w.rows + r]) * (float)((int)number - (int)(zero + w.zero_offset));
            if (memcmp(&want, &row[k], 4) != 0 || memcmp(&want, &all[r * w.cols + c], 4) != 0)
                fail_msg("layout %d, %u bits, [%zu, %zu], row %zu, column %zu: %g and %g, wanted %g", (int)w.layout,
                         w.bits, w.rows, w.cols, r, k, (double)row[k], (double)all[r * w.cols + c], (double)want);
        }
    }
    free(q);
    free(zeros);
    free(order);
    free(group);
    free(scales);
    free(all);
    free(row);
    free(blocks);
}

static void test_words(void **state)
{
    static const unsigned widths[] = {2, 3, 4, 8};
    static const size_t rows[] = {32, 64, 96, 160};
    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t k = 0; k < 4; k++) {
            check_words((zb_words){.layout = ZB_WORDS_GPTQ,
                                   .bits = widths[i],
                                   .rows = rows[k],
                                   .cols = 128,
                                   .zero_offset = k % 2,
                                   .group_size = 32u << k,
                                   .scale_type = ZB_F16},
                        17 * i + k);
            check_words((zb_words){.layout = ZB_WORDS_AWQ,
                                   .bits = 4,
                                   .rows = rows[k] - 24 + 8 * i,
                                   .cols = 96,
                                   .group_size = i % 2 == 0 ? 32 : 96,
                                   .scale_type = ZB_F16},
                        100 + 17 * i + k);
        }
    check_words((zb_words){ZB_WORDS_GPTQ, 4, 72, 64, .zero_offset = 1, .group_size = 64, .scale_type = ZB_F16}, 1);
    check_words((zb_words){ZB_WORDS_GPTQ, 8, 4, 32, .group_size = 32, .scale_type = ZB_F16}, 2);
}

/* What no block can hold exactly differs from it by no more than the f16 of a row's factor does. */
static void test_int8(void **state)
{
    enum { ROWS = 5, COLS = 64 };
    int8_t q[ROWS * COLS];
    float greatest[ROWS] = {1.0f, 0.1f, 3.3e-2f, 77.0f, 0.0f}, exact[ROWS * COLS], row[COLS];
    zb_block_q8_0 blocks[ROWS * COLS / ZB_QK];
    uint32_t seed = 5;
    (void)state;
    for (size_t i = 0; i < ROWS * COLS; i++)
        q[i] = (int8_t)((int)(dice(&seed) % 255) - 127);
    zb_int8_to_f32(exact, q, ROWS, COLS, greatest);
    zb_int8_to_blocks(blocks, q, ROWS, COLS, greatest);
    for (size_t r = 0; r < ROWS; r++) {
        zb_row_to_f32(row, &blocks[r * COLS / ZB_QK], ZB_Q8_0, COLS);
        for (size_t k = 0; k < COLS; k++)
            assert_true(fabsf(row[k] - exact[r * COLS + k]) <= 0x1p-11f * fabsf(exact[r * COLS + k]));
        assert_true(fabsf(exact[r * COLS] - (float)q[r * COLS] * greatest[r] / 127) <= 1e-6f * greatest[r]);
    }
}

/* ---- copies of fixtures, changed ---- */

#define SPARE 400

typedef struct copy {
    zb_tensors from;
    zb_tensor *items;
    size_t n, skew;
    void *owned[SPARE];
    size_t n_owned;
    scratch s;
} copy;

static void copy_open(copy *c, const char *fixture)
{
    char path[256];
    zamba_error err;
    *c = (copy){0};
    snprintf(path, sizeof path, GOLDEN_DIR "/" PACKED "%s", fixture);
    CHECK_OK(zb_tensors_open(&c->from, path, &err), err);
    c->n = c->from.n;
    c->items = calloc(c->n + SPARE, sizeof *c->items);
    memcpy(c->items, c->from.items, c->n * sizeof *c->items);
    scratch_open(&c->s);
    snprintf(path, sizeof path, GOLDEN_DIR "/" PACKED "%s/config.json", fixture);
    scratch_copy(&c->s, "config.json", path);
}

static void *own(copy *c, void *p)
{
    assert_non_null(p);
    assert_true(c->n_owned < SPARE);
    return c->owned[c->n_owned++] = p;
}

static void copy_close(copy *c)
{
    for (size_t i = 0; i < c->n_owned; i++)
        free(c->owned[i]);
    free(c->items);
    zb_tensors_close(&c->from);
    scratch_close(&c->s);
}

static zb_tensor *item(copy *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->items[i].name, name) == 0)
            return &c->items[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Its bytes, to be written to. */
static void *bytes_of(copy *c, zb_tensor *t)
{
    void *p = own(c, malloc(t->bytes + 1));
    memcpy(p, t->data, t->bytes);
    t->data = p;
    return p;
}

static zamba_status load(const copy *c, zamba_model **m, zamba_error *err)
{
    scratch_safetensors(&c->s, "model.safetensors", c->items, c->n, c->skew);
    return open_model(m, c->s.path, ZAMBA_COMPUTE_F32, err);
}

static void refused(const copy *c, zamba_status code, const char *word, const char *other, const char *third)
{
    zamba_model *m;
    zamba_error err;
    const zamba_status st = load(c, &m, &err);
    assert_null(m);
    check_refused(st, &err, code, word, other, third, NULL);
}

static void accepted(const copy *c, const char *fixture)
{
    zamba_model *m;
    zamba_error err;
    CHECK_OK(load(c, &m, &err), err);
    check_matrices(c->s.path, fixture);
    zamba_model_close(m);
}

/* Data at odd addresses. */
static void test_skewed(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FIXTURES; i++) {
        copy c;
        copy_open(&c, fixtures[i]);
        c.skew = 1 + i % 3;
        accepted(&c, fixtures[i]);
        copy_close(&c);
    }
}

/* Shared tensors under the other layer of their block, under both, and under both but not the same. */
static void test_other_layers(void **state)
{
    static const char *const ones[] = {"gptq-4-act", "awq", "nf4"};
    static const char from[] = "model.layers.0.shared_", to[] = "model.layers.2.shared_";
    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (int both = 0; both < 3; both++) {
            copy c;
            size_t last = 0;
            copy_open(&c, ones[i]);
            for (size_t k = 0; k < c.from.n; k++) {
                if (strncmp(c.items[k].name, from, sizeof from - 1) != 0)
                    continue;
                char *name = own(&c, malloc(strlen(c.items[k].name) + 1));
                strcpy(name, c.items[k].name);
                memcpy(name, to, sizeof to - 1);
                const size_t at = both ? c.n++ : k;
                c.items[at] = c.items[k];
                c.items[at].name = name;
                last = strstr(name, i == 2 ? "v_proj.weight.absmax" : "v_proj.scales") != NULL ? at : last;
            }
            assert_true(last > 0);
            if (both < 2)
                accepted(&c, ones[i]);
            else {
                ((unsigned char *)bytes_of(&c, &c.items[last]))[3] ^= 1;
                refused(&c, ZAMBA_E_MISMATCH, c.items[last].name, "tied but differ", "");
            }
            copy_close(&c);
        }
}

/* Packers give a bias to matrices that had none: zeros are nothing. */
static void test_idle_bias(void **state)
{
    copy c;
    (void)state;
    copy_open(&c, "gptq-4");
    unsigned char *zeros = own(&c, calloc(64, 2));
    c.items[c.n++] = (zb_tensor){.name = own(&c, strdup("model.layers.1.mamba.out_proj.bias")),
                                 .data = zeros,
                                 .bytes = 128,
                                 .shape = {64},
                                 .n_dims = 1,
                                 .dtype_name = "F16"};
    accepted(&c, "gptq-4");
    zeros[77] = 1;
    refused(&c, ZAMBA_E_FORMAT, "model.layers.1.mamba.out_proj.bias", "not part of this model", "");
    zeros[77] = 0;
    c.items[c.n - 1].name = own(&c, strdup("model.layers.1.mamba.other.bias"));
    refused(&c, ZAMBA_E_FORMAT, "model.layers.1.mamba.other.bias", "not part of this model", "");
    copy_close(&c);
}

/* Every tensor missing, of another type and of another shape, each in turn. */
static void test_each_piece(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FIXTURES; i++) {
        copy c;
        copy_open(&c, fixtures[i]);
        const size_t n = c.n;
        for (size_t k = 0; k < n; k++) {
            const zb_tensor good = c.items[k];
            zamba_model *m;
            zamba_error err;
            c.items[k] = c.items[--c.n]; /* missing */
            const int spare = strstr(good.name, ".g_idx") != NULL || strstr(good.name, ".weight_format") != NULL;
            zamba_status st = load(&c, &m, &err);
            if (!spare && st == ZAMBA_OK)
                fail_msg("%s: %s is missing, and nobody says so", fixtures[i], good.name);
            if (st != ZAMBA_OK)
                check_refused(st, &err, err.code, c.s.path, NULL);
            zamba_model_close(m);
            c.items[k] = good;
            c.n = n;
            c.items[n - 1] = k == n - 1 ? good : c.from.items[n - 1];
            if (strcmp(good.dtype_name, "F32") == 0 || strcmp(good.dtype_name, "I32") == 0) { /* another type */
                snprintf(c.items[k].dtype_name, sizeof c.items[k].dtype_name, "U32");
                st = load(&c, &m, &err);
                if (st == ZAMBA_OK) /* storage of packed bytes may be of any type */
                    assert_true(strcmp(fixtures[i], "bnb-mixed") == 0 && strstr(good.name, ".weight") != NULL);
                else
                    check_refused(st, &err, ZAMBA_E_UNSUPPORTED, good.name, "is U32", NULL);
                zamba_model_close(m);
                c.items[k] = good;
            }
            if (good.n_dims > 0 && good.bytes > 0) { /* another shape */
                zb_tensor *t = &c.items[k];
                t->shape[t->n_dims++] = 1;
                t->shape[0]++;
                t->bytes += t->bytes / good.shape[0];
                t->data = own(&c, calloc(1, t->bytes));
                if (strstr(good.name, "quant_state") == NULL)
                    memset((void *)(uintptr_t)t->data, 0, t->bytes);
                st = load(&c, &m, &err);
                if (st == ZAMBA_OK)
                    fail_msg("%s: %s has another shape, and nobody says so", fixtures[i], good.name);
                check_refused(st, &err, err.code, good.name, NULL);
                free(c.owned[--c.n_owned]);
                c.items[k] = good;
            }
        }
        copy_close(&c);
    }
}

/* ---- numbers in them ---- */

static void test_hostile_groups(void **state)
{
    copy c;
    (void)state;
    copy_open(&c, "gptq-4-act");
    zb_tensor *t = item(&c, "model.layers.1.mamba.out_proj.g_idx");
    int32_t *g = bytes_of(&c, t);
    const int32_t good = g[5], bad[] = {2, -1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        char found[64];
        g[5] = bad[i];
        snprintf(found, sizeof found, "column 5 is of group %d", bad[i]);
        refused(&c, ZAMBA_E_FORMAT, t->name, found, "wanted 0 to 1");
    }
    /* groups of other sizes are no error: such a matrix is kept in f32 */
    zamba_model *m;
    zamba_error err;
    g[5] = 1 - good;
    CHECK_OK(load(&c, &m, &err), err);
    for (size_t i = 0; i < m->plan.n_specs; i++)
        if (strcmp(m->plan.specs[i].name, "model.layers.1.mamba.out_proj.weight") == 0) {
            assert_int_equal(m->weights.packed[i].tensor.dtype, ZB_F32);
            assert_null(m->weights.packed[i].order);
        }
    zamba_model_close(m);
    copy_close(&c);
}

/* An order that packers wrote although there was none: all zeros. */
static void test_zero_order(void **state)
{
    copy c;
    (void)state;
    copy_open(&c, "gptq-4");
    for (size_t i = 0; i < c.n; i++)
        if (strstr(c.items[i].name, ".g_idx") != NULL)
            memset(bytes_of(&c, &c.items[i]), 0, c.items[i].bytes);
    accepted(&c, "gptq-4");
    for (size_t i = 0; i < c.n; i++) /* and none at all */
        if (strstr(c.items[i].name, ".g_idx") != NULL)
            c.items[i--] = c.items[--c.n];
    accepted(&c, "gptq-4");
    copy_close(&c);
}

static void test_not_finite(void **state)
{
    static const char *const at[][2] = {
        {"gptq-4", "model.layers.1.mamba.in_proj.scales"},
        {"gptq-mixed", "model.layers.0.shared_transformer.feed_forward.gate_up_proj.scales"},
        {"gptq-zamba1", "model.layers.1.mamba.out_proj.scales"},
        {"awq", "model.layers.1.mamba.in_proj.scales"},
        {"nf4", "model.layers.1.mamba.in_proj.weight.nested_absmax"},
        {"nf4", "model.layers.1.mamba.in_proj.weight.nested_quant_map"},
        {"nf4", "model.layers.1.mamba.in_proj.weight.quant_map"},
        {"bnb-mixed", "model.layers.0.linear.weight.absmax"},
        {"bnb-mixed", "model.layers.1.mamba.in_proj.SCB"}};
    (void)state;
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        copy c;
        copy_open(&c, at[i][0]);
        zb_tensor *t = item(&c, at[i][1]);
        unsigned char *p = bytes_of(&c, t);
        const size_t size = strcmp(t->dtype_name, "F32") == 0 ? 4 : 2;
        static const unsigned char nan4[4] = {0, 0, 0xC0, 0x7F}, inf_f16[2] = {0, 0x7C}, inf_bf16[2] = {0x80, 0xFF};
        memcpy(p, size == 4 ? nan4 : strcmp(t->dtype_name, "F16") == 0 ? inf_f16 : inf_bf16, size);
        refused(&c, ZAMBA_E_FORMAT, t->name, "no finite number", "");
        copy_close(&c);
    }
}

/* Scales that no f16 holds, in a folder that has them in 32 bits. */
static void test_wide_scales(void **state)
{
    copy c;
    zamba_model *m;
    zamba_error err;
    (void)state;
    copy_open(&c, "gptq-4");
    zb_tensor *t = item(&c, "model.layers.1.mamba.in_proj.scales");
    const size_t n = t->shape[0] * t->shape[1];
    float *wide = own(&c, malloc(4 * n));
    zb_to_f32(wide, t->data, ZB_F16, n);
    t->data = wide;
    t->bytes = 4 * n;
    strcpy(t->dtype_name, "F32");
    accepted(&c, "gptq-4"); /* the same numbers, wider */
    wide[n - 1] = 1e9f;
    CHECK_OK(load(&c, &m, &err), err);
    for (size_t i = 0; i < m->plan.n_specs; i++)
        if (strcmp(m->plan.specs[i].name, "model.layers.1.mamba.in_proj.weight") == 0)
            assert_int_equal(m->weights.packed[i].tensor.dtype, ZB_F32);
    zamba_model_close(m);
    copy_close(&c);
}

/* ---- quant_state ---- */

static void refuse_state(copy *c, const char *text, zamba_status code, const char *word)
{
    zb_tensor *t = item(c, "model.layers.1.mamba.in_proj.weight.quant_state.bitsandbytes__nf4");
    t->data = text;
    t->bytes = t->shape[0] = strlen(text);
    refused(c, code, "model.layers.1.mamba.in_proj.weight.quant_state.bitsandbytes__nf4", word, "");
}

#define STATE(more) "{\"quant_type\": \"nf4\", \"dtype\": \"bfloat16\", " more "}"
#define GOOD        "\"blocksize\": 64, \"shape\": [288, 64], "

static void test_states(void **state)
{
    const zamba_status F = ZAMBA_E_FORMAT, U = ZAMBA_E_UNSUPPORTED;
    copy c;
    (void)state;
    copy_open(&c, "nf4");
    refuse_state(&c, "", F, "");
    refuse_state(&c, "{", F, "");
    refuse_state(&c, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", F, "");
    refuse_state(&c, "[]", F, "no JSON object");
    refuse_state(&c, "{}", U, "quant_type");
    refuse_state(&c, "{\"quant_type\": \"fp4\"}", U, "quant_type");
    refuse_state(&c, "{\"quant_type\": 4}", U, "quant_type");
    refuse_state(&c, STATE("\"blocksize\": 64"), F, "[288, 64]");
    refuse_state(&c, STATE("\"blocksize\": 64, \"shape\": [288, 63]"), F, "[288, 64]");
    refuse_state(&c, STATE("\"blocksize\": 64, \"shape\": [18432]"), F, "[288, 64]");
    refuse_state(&c, STATE("\"blocksize\": 64, \"shape\": [288, 64, 1]"), F, "[288, 64]");
    refuse_state(&c, STATE("\"blocksize\": 64, \"shape\": [-288, -64]"), F, "[288, 64]");
    refuse_state(&c, STATE("\"blocksize\": 64, \"shape\": [\"288\", 64.0]"), F, "[288, 64]");
    refuse_state(&c, STATE("\"blocksize\": 0, \"shape\": [288, 64]"), F, "blocksize");
    refuse_state(&c, STATE("\"blocksize\": -64, \"shape\": [288, 64]"), F, "blocksize");
    refuse_state(&c, STATE("\"blocksize\": 1e9, \"shape\": [288, 64]"), F, "blocksize");
    refuse_state(&c, STATE("\"blocksize\": 9223372036854775807, \"shape\": [288, 64]"), F, "blocksize");
    refuse_state(&c, STATE("\"blocksize\": 63, \"shape\": [288, 64]"), U, "blocksize");
    refuse_state(&c, STATE(GOOD "\"nested_offset\": 1"), F, "nested_blocksize");
    refuse_state(&c, STATE(GOOD "\"nested_blocksize\": 0, \"nested_offset\": 1"), F, "nested_blocksize");
    refuse_state(&c, STATE(GOOD "\"nested_blocksize\": 256"), F, "nested_offset");
    refuse_state(&c, STATE(GOOD "\"nested_blocksize\": 256, \"nested_offset\": Infinity"), F, "nested_offset");
    refuse_state(&c, STATE(GOOD "\"nested_blocksize\": 256, \"nested_offset\": 1e300"), F, "nested_offset");
    refuse_state(&c, STATE(GOOD "\"nested_blocksize\": 256, \"nested_offset\": 0, \"nested_dtype\": \"int8\""), U,
                 "nested_dtype");
    copy_close(&c);
    copy_open(&c, "nf4"); /* counts that the state asks for otherwise than the file has them */
    zb_tensor *t = item(&c, "model.layers.1.mamba.in_proj.weight.quant_state.bitsandbytes__nf4");
    t->data = STATE("\"blocksize\": 128, \"shape\": [288, 64], \"nested_blocksize\": 256, \"nested_offset\": 0");
    t->bytes = t->shape[0] = strlen(t->data);
    refused(&c, ZAMBA_E_FORMAT, "model.layers.1.mamba.in_proj.weight.absmax", "288 numbers", "wanted 144");
    t->data = STATE(GOOD "\"nested_blocksize\": 7, \"nested_offset\": 0");
    t->bytes = t->shape[0] = strlen(t->data);
    refused(&c, ZAMBA_E_FORMAT, "model.layers.1.mamba.in_proj.weight.nested_absmax", "2 numbers", "wanted 42");
    copy_close(&c);
}

static void test_int8_format(void **state)
{
    copy c;
    (void)state;
    copy_open(&c, "bnb-mixed");
    *(unsigned char *)bytes_of(&c, item(&c, "model.layers.1.mamba.in_proj.weight_format")) = 2;
    refused(&c, ZAMBA_E_UNSUPPORTED, "model.layers.1.mamba.in_proj.weight_format", "is 2", "wanted 0");
    copy_close(&c);
}

/* ---- quantization_config ---- */

static zamba_status parse(const char *text, zb_packing *p, zamba_error *err)
{
    json_t *root = json_loads(text, JSON_DECODE_ANY, NULL);
    if (root == NULL)
        fail_msg("the test's own JSON: %s", text);
    *err = (zamba_error){0};
    const zamba_status st = zb_packing_parse(p, root, "here/config.json", err);
    json_decref(root);
    return st;
}

static void refuse_config(const char *text, zamba_status code, const char *word, const char *other)
{
    zb_packing p;
    zamba_error err;
    const zamba_status st = parse(text, &p, &err);
    check_refused(st, &err, code, "here/config.json", "quantization_config", word, other, NULL);
}

static zb_packing accept_config(const char *text)
{
    zb_packing p;
    zamba_error err;
    CHECK_OK(parse(text, &p, &err), err);
    return p;
}

#define GPTQ(more) "{\"quant_method\": \"gptq\", " more "}"
#define AWQ(more)  "{\"quant_method\": \"awq\", " more "}"

static void test_config(void **state)
{
    const zamba_status F = ZAMBA_E_FORMAT, U = ZAMBA_E_UNSUPPORTED;
    (void)state;
    refuse_config("[]", F, "no object", "");
    refuse_config("{}", F, "no quant_method", "");
    refuse_config("{\"quant_method\": \"aqlm\"}", U, "aqlm", "gptq, awq or bitsandbytes");
    refuse_config("{\"quant_method\": \"fp8\"}", U, "fp8", "gptq, awq or bitsandbytes");
    refuse_config("{\"quant_method\": \"compressed-tensors\"}", U, "compressed-tensors", "gptq, awq or bitsandbytes");
    refuse_config("{\"quant_method\": 3}", F, "quant_method is 3", "gptq, awq or bitsandbytes");
    refuse_config("{\"load_in_4bit\": 1}", F, "load_in_4bit is 1", "true or false");
    refuse_config(GPTQ("\"group_size\": 128"), F, "bits is missing", "2, 3, 4 or 8");
    static const char *const widths[] = {"0", "1", "5", "16", "-4", "4294967300", "4.0", "\"4\"", "true"};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        char text[128];
        snprintf(text, sizeof text, GPTQ("\"bits\": %s"), widths[i]);
        refuse_config(text, U, "bits is ", "2, 3, 4 or 8");
        snprintf(text, sizeof text, AWQ("\"bits\": %s"), widths[i]);
        refuse_config(text, U, "bits is ", "wanted 4");
    }
    refuse_config(AWQ("\"bits\": 8"), U, "bits is 8", "wanted 4");
    static const char *const sizes[] = {"0", "-2", "-128", "16777217", "9223372036854775807", "64.0", "\"128\""};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char text[128];
        snprintf(text, sizeof text, GPTQ("\"bits\": 4, \"group_size\": %s"), sizes[i]);
        refuse_config(text, F, "group_size is ", "a multiple of 32");
    }
    refuse_config(AWQ("\"bits\": 4, \"group_size\": 16"), U, "group_size is 16", "a multiple of 32");
    refuse_config(GPTQ("\"bits\": 4, \"checkpoint_format\": \"marlin\""), U, "checkpoint_format is \"marlin\"",
                  "gptq_v2");
    refuse_config(GPTQ("\"bits\": 4, \"checkpoint_format\": 2"), U, "checkpoint_format is 2", "gptq_v2");
    refuse_config(GPTQ("\"bits\": 4, \"is_marlin_format\": true"), U, "is_marlin_format is true", "false");
    refuse_config(GPTQ("\"bits\": 4, \"pack_dtype\": \"int8\""), U, "pack_dtype is \"int8\"", "int32");
    refuse_config(GPTQ("\"bits\": 4, \"dynamic\": [1]"), F, "dynamic is a list", "an object");
    refuse_config(GPTQ("\"bits\": 4, \"desc_act\": \"no\""), F, "desc_act is \"no\"", "true or false");
    refuse_config(AWQ("\"bits\": 4, \"version\": \"gemv\""), U, "version is \"gemv\"", "gemm");
    refuse_config(AWQ("\"bits\": 4, \"zero_point\": 1"), F, "zero_point is 1", "true or false");
    assert_int_equal(accept_config("null").method, ZB_PACK_NONE);
    assert_int_equal(accept_config("{\"load_in_8bit\": true}").method, ZB_PACK_BNB);
    assert_int_equal(accept_config("{\"quant_method\": \"bitsandbytes\"}").method, ZB_PACK_BNB);
    zb_packing p = accept_config(GPTQ("\"bits\": 3"));
    assert_int_equal(p.bits, 3);
    assert_int_equal(p.group_size, 128);
    assert_false(p.v2 || p.carry || p.dynamic);
    p = accept_config(GPTQ("\"bits\": 8, \"group_size\": -1, \"checkpoint_format\": \"GPTQ_V2\", \"dynamic\": {},"
                           " \"meta\": {\"quantizer\": [\"gptqmodel:1.4.0\"]}"));
    assert_int_equal(p.group_size, 0);
    assert_true(p.v2 && !p.carry && !p.dynamic);
    p = accept_config(GPTQ("\"bits\": 4, \"meta\": {\"quantizer\": \"gptqmodel:1.4.0\"}, \"dynamic\": {\"-:x\": {}}"));
    assert_true(p.carry && p.dynamic);
    p = accept_config(GPTQ("\"bits\": 4, \"meta\": {\"quantizer\": [\"optimum:1.2\", 7]}"));
    assert_false(p.carry);
    p = accept_config(AWQ("\"w_bit\": 4, \"q_group_size\": 64, \"version\": \"GEMM\", \"zero_point\": false"));
    assert_true(p.method == ZB_PACK_AWQ && p.bits == 4 && p.group_size == 64 && !p.zero_point);
}

/* The folder's config and tensors do not fit together. */
static void test_other_config(void **state)
{
    static const struct {
        const char *fixture, *config, *name, *found, *wanted;
    } cases[] = {
        {"gptq-4", GPTQ("\"bits\": 8, \"group_size\": 32"), ".qweight", "has shape [", "wanted ["},
        {"gptq-4", GPTQ("\"bits\": 4, \"group_size\": 64"), ".scales", "has shape [", "wanted ["},
        {"gptq-4", GPTQ("\"bits\": 4, \"group_size\": -1"), ".scales", "has shape [", "wanted ["},
        {"gptq-4", AWQ("\"bits\": 4, \"group_size\": 32"), ".qweight", "has shape [", "wanted ["},
        {"awq", GPTQ("\"bits\": 4, \"group_size\": 32"), ".qweight", "has shape [", "wanted ["},
        {"awq-sym", AWQ("\"bits\": 4, \"group_size\": 64"), ".qzeros", "is missing", "qweight"},
        {"nf4", GPTQ("\"bits\": 4"), ".weight", "", ""},
        {"gptq-4", "{\"quant_method\": \"bitsandbytes\"}", ".weight", "is missing", ""},
        {"gptq-4", "null", ".weight", "is missing", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy c;
        zamba_error err;
        json_t *root;
        copy_open(&c, cases[i].fixture);
        CHECK_OK(zb_json_read(&root, scratch_path(&c.s, "config.json"), zb_json_small, &err), err);
        json_object_set_new(root, "quantization_config", json_loads(cases[i].config, JSON_DECODE_ANY, NULL));
        char *text = json_dumps(root, 0);
        scratch_text(&c.s, "config.json", text);
        zamba_model *m;
        const zamba_status st = load(&c, &m, &err);
        assert_null(m);
        check_refused(st, &err, err.code, cases[i].name, cases[i].found, cases[i].wanted, NULL);
        free(text);
        json_decref(root);
        copy_close(&c);
    }
}

/* ---- memory ---- */

static const char *failing;

static zamba_status open_and_close(zamba_error *err)
{
    zamba_model *m;
    const zamba_status st = open_model(&m, failing, ZAMBA_COMPUTE_F32, err);
    zamba_model_close(m);
    return st;
}

static void test_alloc_failure(void **state)
{
    static const char *const ones[] = {"gptq-mixed", "nf4", "bnb-mixed"};
    (void)state;
    if (!ALLOC_HOOK)
        skip();
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        snprintf(path, sizeof path, GOLDEN_DIR "/" PACKED "%s", ones[i]);
        failing = path;
        check_every_failure(ones[i], open_and_close, ZAMBA_E_FORMAT, 4, 13); /* of JSON: jansson cannot say it */
    }
}

/* The packed pages are not counted once the matrices are made, nor a matrix made once its halves are. */
static void test_memory(void **state)
{
    static const char *const all[] = {"gptq-4", "gptq-4-act", "awq", "nf4"};
    (void)state;
    for (size_t f = 0; f < sizeof all / sizeof *all; f++) {
        uint64_t copies[2];
        for (int k = 0; k < 2; k++) {
            char path[256];
            zamba_error err;
            zamba_memory_info info = {.size = sizeof info};
            snprintf(path, sizeof path, GOLDEN_DIR "/" PACKED "%s", all[f]);
            zamba_model *m = open_repacked(path, k == 0 ? -1 : 1);
            CHECK_OK(zamba_model_memory(m, &info, &err), err);
            uint64_t plain = 0, made = 0;
            for (size_t i = 0; i < m->plan.n_specs; i++)
                *(m->weights.packed[i].n_pieces > 0 ? &made : &plain) += m->weights.bound[i]->bytes;
            assert_int_equal(info.weights, plain);
            assert_true(info.copies >= made);
            copies[k] = info.copies;
            zamba_model_close(m);
        }
        if (copies[0] != copies[1])
            fail_msg("%s: copies of halves take %" PRIu64 " bytes more", all[f], copies[1] - copies[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),       cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_words),          cmocka_unit_test(test_int8),
        cmocka_unit_test(test_skewed),         cmocka_unit_test(test_other_layers),
        cmocka_unit_test(test_idle_bias),      cmocka_unit_test(test_each_piece),
        cmocka_unit_test(test_hostile_groups), cmocka_unit_test(test_zero_order),
        cmocka_unit_test(test_not_finite),     cmocka_unit_test(test_wide_scales),
        cmocka_unit_test(test_states),         cmocka_unit_test(test_int8_format),
        cmocka_unit_test(test_config),         cmocka_unit_test(test_other_config),
        cmocka_unit_test(test_alloc_failure),  cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
