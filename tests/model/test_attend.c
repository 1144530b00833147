/* Attention of a pass over the pages of its sequences: against one softmax over the whole context, and the same bits
 * however many threads there are, however rows are grouped, and whatever else is in the batch; with every type of keys
 * and values. Then whole models: fewer bits for keys and values stay near. model/attend.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "model/pass.h"
#include "support/golden.h"
#include "support/tiny.h"

#define N_THREADS 8 /* more than heads: contexts of several pieces are split */

static scratch folder;

static const char two_heads[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 24, \"num_hidden_layers\": 2,"
                                " \"hybrid_layer_ids\": [0, 1], \"num_attention_heads\": 2, \"mamba_headdim\": 4,"
                                " \"mamba_ngroups\": 2, \"mamba_d_state\": 4, \"adapter_rank\": 2, \"vocab_size\": 37}";

static zamba_model *open_model(const char *config, zb_kv_type k, zb_kv_type v, int n_threads, int recurrent)
{
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    o.no_tokenizer = 1;
    o.n_threads = o.n_threads_batch = n_threads;
    o.recurrent = recurrent;
    o.kv_k = (zamba_kv_type)(ZAMBA_KV_F32 + (int)k);
    o.kv_v = (zamba_kv_type)(ZAMBA_KV_F32 + (int)v);
    tiny_write(&folder, config);
    CHECK_OK(zamba_model_open(&m, folder.path, &o, &err), err);
    return m;
}

static float number(uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t key[3] = {a, b, c};
    return (float)(zb_hash(key, sizeof key, 1) >> 40) / (float)(1 << 23) - 1.0f;
}

/* A sequence whose pages hold made-up keys and values for n positions; they depend on `seed` and the place alone. */
static zamba_sequence *context(zamba_model *m, size_t n, uint64_t seed)
{
    const zb_config *c = &m->plan.config;
    zamba_sequence *s;
    zamba_error err;
    float x[64];
    CHECK_OK(zamba_sequence_open(&s, m, n, &err), err);
    CHECK_OK(zb_sequence_reserve(s, n, &err), err);
    for (size_t pos = 0; pos < n; pos++)
        for (size_t use = 0; use < m->plan.n_uses; use++)
            for (size_t head = 0; head < c->n_kv_heads; head++)
                for (int values = 0; values < 2; values++) {
                    for (size_t i = 0; i < c->head_dim; i++)
                        x[i] = number(seed + (uint64_t)values, pos * 8 + use, head * 100 + i);
                    m->kernels->kv_store(zb_page_rows(m, s->pages[pos / ZB_PAGE_TOKENS], use, values, head),
                                         values ? m->kv_v : m->kv_k, ZB_PAGE_TOKENS, c->head_dim, pos % ZB_PAGE_TOKENS,
                                         x);
                }
    return s;
}

typedef struct query {
    zamba_sequence *s;
    size_t first, n; /* positions of the rows */
} query;

/* The attention of the queries' rows as one pass; [rows, heads, head_dim], caller frees. */
static float *attend(zamba_model *m, const query *q, size_t n_queries, int n_threads, size_t use)
{
    const zb_config *c = &m->plan.config;
    const size_t width = c->n_heads * c->head_dim, ld = zb_row_length(width);
    size_t rows = 0, pages = 1;
    zb_workspace *ws;
    zamba_error err;
    for (size_t i = 0; i < n_queries; i++) {
        rows += q[i].n;
        pages = q[i].s->max_pages > pages ? q[i].s->max_pages : pages;
    }
    CHECK_OK(zb_workspace_take(m, rows, n_queries, pages, &ws, &err), err);
    rows = 0;
    for (size_t i = 0; i < n_queries; i++) {
        ws->spans[i] = (zb_span){.seq = q[i].s, .item = i, .row = rows, .n = q[i].n, .done = q[i].first};
        for (size_t r = 0; r < q[i].n; r++)
            for (size_t e = 0; e < width; e++)
                ws->q[(rows + r) * ld + e] = 3 * number(77, q[i].first + r, e);
        rows += q[i].n;
    }
    const pass p = {
        .m = m, .c = c, .k = m->kernels, .ws = ws, .rows = rows, .n_spans = n_queries, .n_threads = n_threads};
    zb_attend(&p, use);
    float *out = malloc(rows * width * sizeof *out);
    assert_non_null(out);
    for (size_t r = 0; r < rows; r++)
        memcpy(out + r * width, ws->attn + r * ld, width * sizeof *out);
    zb_workspace_give(m, ws);
    return out;
}

/* One softmax over the whole context, by the scalar kernel on the same pages. */
static float *attend_plainly(const zamba_model *m, const query *q, size_t use)
{
    const zb_config *c = &m->plan.config;
    const size_t d = c->head_dim, width = c->n_heads * d, n_pages = q->s->n_pages;
    const zb_kernels *ref;
    const void **k = malloc(n_pages * sizeof *k), **v = malloc(n_pages * sizeof *v);
    float *out = malloc(q->n * width * sizeof *out), *in = malloc(q->n * width * sizeof *in),
          *sums = malloc(2 * q->n * sizeof *sums);
    assert_true(zb_kernels_all(&ref, 1) == 1 && k && v && out && in && sums);
    for (size_t r = 0; r < q->n; r++)
        for (size_t e = 0; e < width; e++)
            in[r * width + e] = 3 * number(77, q->first + r, e);
    for (size_t h = 0; h < c->n_heads; h++) {
        for (size_t i = 0; i < n_pages; i++) {
            k[i] = zb_page_rows(m, q->s->pages[i], use, 0, h / (c->n_heads / c->n_kv_heads));
            v[i] = zb_page_rows(m, q->s->pages[i], use, 1, h / (c->n_heads / c->n_kv_heads));
        }
        const zb_attn_args a = {.out = out + h * d,
                                .q = in + h * d,
                                .ld_out = width,
                                .ld_q = width,
                                .greatest = sums,
                                .total = sums + q->n,
                                .n_rows = q->n,
                                .first_pos = q->first,
                                .key1 = q->first + q->n,
                                .k_pages = k,
                                .v_pages = v,
                                .k_type = m->kv_k,
                                .v_type = m->kv_v,
                                .page_tokens = ZB_PAGE_TOKENS,
                                .head_dim = d,
                                .scale = 1.0f / sqrtf((float)d / 2.0f)};
        ref->attention(&a);
        for (size_t r = 0; r < q->n; r++)
            ref->scale(out + r * width + h * d, out + r * width + h * d, 1.0f / sums[q->n + r], d);
    }
    free(k);
    free(v);
    free(in);
    free(sums);
    return out;
}

static void check_context(zamba_model *m, zamba_sequence *s, size_t first, size_t n)
{
    const zb_config *c = &m->plan.config;
    const size_t width = c->n_heads * c->head_dim;
    const query all = {s, first, n};
    for (size_t use = 0; use<m->plan.n_uses; use += m->plan.n_uses> 1 ? m->plan.n_uses - 1 : 1) {
        float *want = attend_plainly(m, &all, use), *got = attend(m, &all, 1, 1, use);
        check_close(got, want, n * width, 3e-6, "%s %s, head %zu: rows %zu from %zu", zb_kv_name(m->kv_k),
                    zb_kv_name(m->kv_v), c->head_dim, n, first);
        for (int threads = 2; threads <= N_THREADS; threads *= 4) {
            float *other = attend(m, &all, 1, threads, use);
            if (memcmp(other, got, n * width * sizeof *got) != 0)
                fail_msg("%s %s, rows %zu from %zu: %d threads change bits", zb_kv_name(m->kv_k), zb_kv_name(m->kv_v),
                         n, first, threads);
            free(other);
        }
        for (size_t at = 0, by = 1; at < n; at += by, by = by == 1 ? 5 : by == 5 ? 20 : 1) { /* few and many */
            const query some = {s, first + at, by < n - at ? by : n - at};
            float *other = attend(m, &some, 1, by == 5 ? N_THREADS : 2, use);
            if (memcmp(other, got + at * width, some.n * width * sizeof *got) != 0)
                fail_msg("%s %s, rows %zu from %zu among others: bits differ", zb_kv_name(m->kv_k), zb_kv_name(m->kv_v),
                         some.n, some.first);
            free(other);
        }
        free(want);
        free(got);
    }
}

/* Contexts within a piece, at its borders (2048), and over several. */
static void test_contexts(void **state)
{
    (void)state;
    static const struct {
        size_t first, n;
    } cases[] = {{0, 1}, {0, 70}, {31, 3}, {500, 8}, {2047, 1}, {2048, 1}, {2040, 30}, {4500, 1}, {6100, 100}};
    for (int t = 0; t < ZB_N_KV_TYPES; t++) {
        const char *const configs[] = {two_heads, tiny_odd1, tiny_odd2}; /* heads of 24, 5, 10; odd1 shares its one */
        zamba_model *m =
            open_model(configs[t % 3], (zb_kv_type)t, (zb_kv_type)((t * 3 + 1) % ZB_N_KV_TYPES), N_THREADS, 0);
        zamba_sequence *s = context(m, 6200, 5);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            check_context(m, s, cases[i].first, cases[i].n);
        zamba_sequence_close(s);
        zamba_model_close(m);
    }
}

/* Sequences of different lengths beside each other, few rows and many. */
static void test_batches(void **state)
{
    (void)state;
    for (int t = 0; t < ZB_N_KV_TYPES; t++) {
        zamba_model *m = open_model(two_heads, (zb_kv_type)t, (zb_kv_type)t, N_THREADS, 0);
        zamba_sequence *s[4];
        static const size_t lengths[4] = {10, 2100, 4200, 70};
        const size_t width = m->plan.config.n_heads * m->plan.config.head_dim;
        for (size_t i = 0; i < 4; i++)
            s[i] = context(m, lengths[i], i * 10);
        const query few[] = {{s[0], 9, 1}, {s[1], 2097, 3}, {s[2], 4199, 1}, {s[3], 68, 2}},
                    mixed[] = {{s[2], 4100, 100}, {s[0], 9, 1}, {s[1], 2060, 40}, {s[3], 65, 5}};
        for (int which = 0; which < 2; which++)
            for (int threads = 1; threads <= N_THREADS; threads += 3) {
                const query *q = which ? mixed : few;
                float *together = attend(m, q, 4, threads, 1);
                size_t row = 0;
                for (size_t i = 0; i < 4; i++) {
                    float *alone = attend(m, &q[i], 1, 1, 1);
                    if (memcmp(alone, together + row * width, q[i].n * width * sizeof *alone) != 0)
                        fail_msg("%s, %d threads: sequence %zu has other bits among others", zb_kv_name(m->kv_k),
                                 threads, i);
                    row += q[i].n;
                    free(alone);
                }
                free(together);
            }
        for (size_t i = 0; i < 4; i++)
            zamba_sequence_close(s[i]);
        zamba_model_close(m);
    }
}

/* ---- whole models ---- */

static float *logits_of(const char *config, zb_kv_type k, zb_kv_type v, int threads, size_t n, const size_t *pieces)
{
    zamba_model *m = open_model(config, k, v, threads, 1);
    int32_t *ids = malloc(n * sizeof *ids);
    assert_non_null(ids);
    tiny_ids(ids, n, m->plan.config.vocab_size, 3);
    float *out = golden_logits(m, ids, n, pieces);
    free(ids);
    zamba_model_close(m);
    return out;
}

/* Bounds are some three times what is measured, relative to the root mean square of the logits. These models are
 * random and rougher than trained ones. */
static void test_types_stay_near(void **state)
{
    (void)state;
    enum { N = 200 };
    static const double bounds[ZB_N_KV_TYPES] = {0, 1.5e-3, 1.2e-2, 4e-2};
    static const char *const models[] = {"zamba2-2.7b-tiny", "zamba2-1.2b-tiny", "extra-zamba1-heads4-gqa"};
    for (size_t c = 0; c < 3; c++) {
        float *want = NULL;
        for (int t = 0; t < ZB_N_KV_TYPES; t++) {
            char path[256];
            int32_t ids[N];
            zamba_model *m;
            zamba_error err;
            zamba_model_options o = zamba_model_defaults();
            o.n_threads = 1;
            o.compute = ZAMBA_COMPUTE_F32;
            o.kv_k = o.kv_v = (zamba_kv_type)(ZAMBA_KV_F32 + t);
            snprintf(path, sizeof path, GOLDEN_DIR "/%s", models[c]);
            CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
            const size_t vocab = m->plan.config.vocab_size;
            tiny_ids(ids, N, vocab, 3);
            float *got = golden_logits(m, ids, N, NULL);
            zamba_model_close(m);
            if (t == 0) {
                want = got;
                continue;
            }
            double wrong = 0, size = 0;
            for (size_t i = 0; i < N * vocab; i++) {
                const double d = (double)got[i] - (double)want[i];
                wrong += d * d;
                size += (double)want[i] * (double)want[i];
            }
            print_message("%s, %-4s: logits off by %.2e of their size\n", models[c], zb_kv_name((zb_kv_type)t),
                          sqrt(wrong / size));
            assert_true(wrong > 0);
            assert_true(sqrt(wrong / size) < bounds[t]);
            free(got);
        }
        free(want);
    }
}

/* Prefill over the border of a piece against prefill and then single tokens, one thread and many. */
static void test_models_over_pieces(void **state)
{
    (void)state;
    enum { N = 2070, VOCAB = 37 };
    static const size_t pieces[] = {2030, 3, 10, 0};
    static const char *const configs[] = {tiny_odd1, two_heads};
    for (size_t c = 0; c < 2; c++) {
        float *want = logits_of(configs[c], ZB_KV_F16, ZB_KV_Q8_0, 1, N, NULL);
        for (int threads = 1; threads <= N_THREADS; threads += 7) {
            float *got = logits_of(configs[c], ZB_KV_F16, ZB_KV_Q8_0, threads, N, pieces);
            for (size_t i = 0; i < N; i++)
                if (memcmp(got + i * VOCAB, want + i * VOCAB, VOCAB * sizeof *got) != 0)
                    fail_msg("model %zu, %d threads: token %zu has other logits", c, threads, i);
            free(got);
        }
        free(want);
    }
}

static int make_folder(void **state)
{
    (void)state;
    scratch_open(&folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    scratch_close(&folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contexts),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_types_stay_near),
        cmocka_unit_test(test_models_over_pieces),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
