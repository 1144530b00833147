/* Models with weights in blocks: products of activations in 8 bits stay near those of f32, and those of f32 are what
 * the unpacked weights give; neither threads, passes, neighbours nor copies of weights change a bit. The sizes are such
 * that every type finds rows that it divides, and rows that only blocks of 32 divide with heads that end inside a run
 * of activations. model/{products,attend,shared_block,workspace,weights}.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/sequence.h"
#include "support/golden.h"
#include "support/tiny.h"

static const char wide[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 256, \"num_hidden_layers\": 5,"
                           " \"hybrid_layer_ids\": [1, 3, 4], \"num_mem_blocks\": 2, \"num_attention_heads\": 4,"
                           " \"intermediate_size\": 512, \"mamba_expand\": 2, \"mamba_headdim\": 32,"
                           " \"mamba_ngroups\": 2, \"mamba_d_state\": 16, \"adapter_rank\": 32,"
                           " \"use_shared_attention_adapter\": true, \"use_mem_rope\": true, \"vocab_size\": 96}";
static const char odd_heads[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 96, \"num_hidden_layers\": 4,"
                                " \"hybrid_layer_ids\": [1, 2, 3], \"num_mem_blocks\": 1, \"num_attention_heads\": 6,"
                                " \"intermediate_size\": 160, \"mamba_expand\": 2, \"mamba_headdim\": 32,"
                                " \"mamba_ngroups\": 1, \"mamba_d_state\": 16, \"adapter_rank\": 64,"
                                " \"use_mem_rope\": false, \"vocab_size\": 64}";

enum { LENGTH = 150 };

/* A quantized model in one file, and the numbers of its blocks in a folder of f32. */
typedef struct pair {
    scratch s;
    char file[SCRATCH_PATH + 32], folder[SCRATCH_PATH + 32];
} pair;

static void make_pair(pair *p, const char *config, const char *type)
{
    zamba_error err;
    zamba_quantize_options q = zamba_quantize_defaults();
    zamba_quantize_result quantized = {.size = sizeof quantized};
    zamba_convert_options c = zamba_convert_defaults();
    scratch_open(&p->s);
    tiny_write_tame(&p->s, config);
    snprintf(p->file, sizeof p->file, "%s/quantized.gguf", p->s.path);
    snprintf(p->folder, sizeof p->folder, "%s/unpacked", p->s.path);
    q.type = type;
    q.pure = 1;
    q.n_threads = 1;
    CHECK_OK(zamba_quantize(p->s.path, p->file, &q, &quantized, &err), err);
    c.type = ZAMBA_CONVERT_F32;
    CHECK_OK(zamba_convert(p->file, p->folder, &c, NULL, &err), err);
}

typedef struct setup {
    zamba_compute compute;
    int n_threads, n_batch, repack;
} setup;

static zamba_model *open_as(const char *path, setup s)
{
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    o.n_threads = s.n_threads > 0 ? s.n_threads : 1;
    o.n_batch = s.n_batch;
    o.compute = s.compute;
    o.repack = s.repack;
    o.no_tokenizer = 1;
    o.kv_k = o.kv_v = ZAMBA_KV_F32; /* so that only the products differ */
    CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
    return m;
}

static float *logits_of(const char *path, setup s, const size_t *pieces, size_t *count)
{
    zamba_model *m = open_as(path, s);
    int32_t ids[LENGTH];
    tiny_ids(ids, LENGTH, m->plan.config.vocab_size, 5);
    float *out = golden_logits(m, ids, LENGTH, pieces);
    *count = LENGTH * m->plan.config.vocab_size;
    zamba_model_close(m);
    return out;
}

/* Root mean square of the difference over that of y. */
static double apart(const float *x, const float *y, size_t n)
{
    double square = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        square += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        size += (double)y[i] * (double)y[i];
    }
    return sqrt(square / size);
}

static const char *const types[] = {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"};

/* In f32 the same numbers are multiplied, only summed in other pieces. Rounding activations to 8 bits moves each by up
 * to 1/254 of the greatest of its 64, some 0.6 % of what is summed; thirty products one behind the other and random
 * gains make 3 to 8 % of that, where bf16 leaves 2 (test_compute.c). What is summed wrongly is off by 50 % and more. */
#define NEAR 0.12

static void test_near(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int k = 0; k < 2; k++) {
            pair p;
            size_t count;
            make_pair(&p, k ? odd_heads : wide, types[i]);
            float *plain = logits_of(p.folder, (setup){.compute = ZAMBA_COMPUTE_F32}, NULL, &count),
                  *f32 = logits_of(p.file, (setup){.compute = ZAMBA_COMPUTE_F32}, NULL, &count),
                  *int8 = logits_of(p.file, (setup){.compute = ZAMBA_COMPUTE_AUTO}, NULL, &count);
            const double same = apart(f32, plain, count), near = apart(int8, f32, count);
            print_message("%-6s %s: unpacked %.1e, 8 bits %.2e\n", types[i], k ? "odd heads" : "wide", same, near);
            assert_true(same < 2e-5);
            assert_true(near > 0 && near < NEAR);
            free(plain);
            free(f32);
            free(int8);
            scratch_close(&p.s);
        }
}

static void check_same(const pair *p, setup a, setup b, const size_t *pieces, const char *what)
{
    size_t count;
    float *x = logits_of(p->file, a, pieces, &count), *y = logits_of(p->file, b, pieces, &count);
    if (memcmp(x, y, count * sizeof *x) != 0)
        fail_msg("%s, compute %d: %s changes bits", p->file, (int)a.compute, what);
    free(x);
    free(y);
}

static void test_bits(void **state)
{
    static const char *const some[] = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"};
    const size_t pieces[] = {37, 100, 0}, singly[] = {64, 0};
    (void)state;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        for (int k = 0; k < 2; k++) {
            pair p;
            make_pair(&p, k ? odd_heads : wide, some[i]);
            for (int c = ZAMBA_COMPUTE_AUTO; c <= ZAMBA_COMPUTE_F32; c++) {
                const setup plain = {(zamba_compute)c, 1, 1024, 0};
                check_same(&p, plain, (setup){plain.compute, 3, 1024, 0}, NULL, "the number of threads");
                check_same(&p, plain, (setup){plain.compute, 1, 64, 0}, NULL, "the size of a pass");
                check_same(&p, plain, (setup){plain.compute, 3, 64, 0}, pieces, "threads and passes, in pieces,");
                check_same(&p, (setup){plain.compute, 1, 1024, -1}, (setup){plain.compute, 2, 1024, 1}, singly,
                           "repacking");
            }
            scratch_close(&p.s);
        }
}

/* A sequence alone, and among others of other lengths: one row computed alone or among many. */
static void test_neighbours(void **state)
{
    enum { N = 5 };
    static const size_t lengths[N] = {1, 3, 40, 2, 7};
    (void)state;
    pair p;
    make_pair(&p, wide, "Q4_K");
    zamba_model *m = open_as(p.file, (setup){.compute = ZAMBA_COMPUTE_AUTO});
    const size_t vocab = m->plan.config.vocab_size;
    zamba_batch_item items[N];
    int32_t ids[N][LENGTH];
    float *logits[N];
    zamba_error err;
    for (size_t i = 0; i < N; i++) {
        zamba_sequence *s;
        tiny_ids(ids[i], lengths[i], vocab, 11 + i);
        logits[i] = malloc(lengths[i] * vocab * sizeof(float));
        assert_non_null(logits[i]);
        CHECK_OK(zamba_sequence_open(&s, m, 64, &err), err);
        items[i] = (zamba_batch_item){s, ids[i], lengths[i], ZAMBA_LOGITS_ALL, logits[i]};
    }
    CHECK_OK(zamba_forward(m, items, N, NULL, &err), err);
    for (size_t i = 0; i < N; i++) {
        const size_t whole[] = {lengths[i], 0};
        float *alone = golden_logits(m, ids[i], lengths[i], whole);
        assert_memory_equal(alone, logits[i], lengths[i] * vocab * sizeof *alone);
        free(alone);
        free(logits[i]);
        zamba_sequence_close(items[i].sequence);
    }
    zamba_model_close(m);
    scratch_close(&p.s);
}

/* Columns of a matrix in another order, with the note of where each belongs, change nothing but the order of sums. */
static void test_order(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        pair p;
        size_t count;
        make_pair(&p, wide, k ? "Q8_0" : "Q4_0");
        const setup s = {.compute = k ? ZAMBA_COMPUTE_F32 : ZAMBA_COMPUTE_AUTO, .n_batch = 64, .repack = -1};
        float *want = logits_of(p.file, s, NULL, &count);
        zamba_model *m = open_as(p.file, s);
        int32_t ids[LENGTH];
        uint32_t order[512];
        zb_mat *const w = &m->weights.layers[0].out_proj; /* [256, 512], blocks of 32 columns change places */
        assert_int_equal(w->cols, 512);
        const size_t block = zb_dtype_bytes(w->dtype), row = zb_row_bytes(w->dtype, w->cols);
        char *moved = malloc(w->rows * row);
        assert_non_null(moved);
        for (size_t b = 0; b < 16; b++) {
            const size_t from = (b * 5 + 3) % 16;
            for (size_t j = 0; j < 32; j++)
                order[b * 32 + j] = (uint32_t)(from * 32 + j);
            for (size_t r = 0; r < w->rows; r++)
                memcpy(moved + r * row + b * block, (const char *)zb_mat_row(w, r) + from * block, block);
        }
        w->data = moved;
        w->order = order;
        m->weights.ordered = 1;
        tiny_ids(ids, LENGTH, m->plan.config.vocab_size, 5);
        float *got = golden_logits(m, ids, LENGTH, NULL);
        const double off = apart(got, want, count);
        print_message("order of columns, %s: %.1e\n", k ? "unpacked" : "8 bits", off);
        assert_true(off < (k ? 2e-5 : NEAR)); /* runs of 64 activations hold other ones, so scales differ */
        free(got);
        free(want);
        zamba_model_close(m);
        free(moved);
        scratch_close(&p.s);
    }
}

/* An adapter may be wider than anything else in the model, and have an order too: there is room for its rows. */
static void test_wide_adapter(void **state)
{
    static const char config[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 32, \"num_hidden_layers\": 3,"
                                 " \"hybrid_layer_ids\": [1, 2], \"num_mem_blocks\": 1, \"num_attention_heads\": 2,"
                                 " \"intermediate_size\": 64, \"mamba_expand\": 1, \"mamba_headdim\": 16,"
                                 " \"mamba_ngroups\": 1, \"mamba_d_state\": 4, \"adapter_rank\": 4096,"
                                 " \"vocab_size\": 64}";
    static uint32_t order[4096];
    (void)state;
    pair p;
    make_pair(&p, config, "Q8_0");
    zamba_model *m = open_as(p.file, (setup){.compute = ZAMBA_COMPUTE_AUTO, .n_batch = 64});
    int32_t ids[LENGTH];
    tiny_ids(ids, LENGTH, m->plan.config.vocab_size, 5);
    float *want = golden_logits(m, ids, LENGTH, NULL);
    zamba_model_close(m);
    m = open_as(p.file, (setup){.compute = ZAMBA_COMPUTE_AUTO, .n_batch = 64});
    zb_mat *const w = &m->weights.uses[0].gate_up_adapter[1];
    assert_int_equal(w->cols, 4096);
    for (uint32_t k = 0; k < 4096; k++)
        order[k] = k; /* the order that it has already */
    w->order = order;
    m->weights.ordered = 1;
    float *got = golden_logits(m, ids, LENGTH, NULL);
    assert_memory_equal(got, want, LENGTH * m->plan.config.vocab_size * sizeof *got);
    free(got);
    free(want);
    zamba_model_close(m);
    scratch_close(&p.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near),  cmocka_unit_test(test_bits),         cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_order), cmocka_unit_test(test_wide_adapter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
