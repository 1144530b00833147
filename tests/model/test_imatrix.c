/* Importance matrices: what is collected, what the files hold, what is refused: model/imatrix.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/gguf_write.h"
#include "model/gguf_names.h"
#include "model/imatrix.h"
#include "model/model.h"
#include "support/tiny.h"

enum { N_IDS = 23 };

/* Two blocks, used three and two times; widths that let q, k and v be cut in halves. */
static const char halves[] = "{\"model_type\": \"zamba2\", \"hidden_size\": 64, \"num_hidden_layers\": 7,"
                             " \"hybrid_layer_ids\": [0, 2, 3, 5, 6], \"num_mem_blocks\": 2,"
                             " \"num_attention_heads\": 4, \"intermediate_size\": 96, \"mamba_expand\": 2,"
                             " \"mamba_headdim\": 32, \"mamba_d_state\": 8, \"adapter_rank\": 5,"
                             " \"use_shared_attention_adapter\": true, \"use_mem_rope\": true, \"vocab_size\": 61}";

static zamba_model *open_with(const char *path, int32_t repack, zamba_compute compute)
{
    zamba_model *m;
    zamba_error err;
    zamba_model_options o = zamba_model_defaults();
    o.no_tokenizer = 1;
    o.n_threads = 1;
    o.repack = repack;
    o.compute = compute;
    CHECK_OK(zamba_model_open(&m, path, &o, &err), err);
    return m;
}

/* The residual stream, all rows. */
typedef struct stream {
    float *embedded, *final; /* [N_IDS, hidden] */
    size_t hidden;
    int32_t n_layers;
} stream;

static void on_hidden(void *user, size_t item, int32_t layer, size_t first_row, size_t n_rows, const float *rows)
{
    const stream *s = user;
    (void)item;
    float *to = layer == -1 ? s->embedded : layer == s->n_layers ? s->final : NULL;
    if (to != NULL)
        memcpy(to + first_row * s->hidden, rows, n_rows * s->hidden * sizeof *to);
}

static stream stream_new(const zamba_model *m)
{
    const size_t h = m->plan.config.hidden_size;
    stream s = {calloc(N_IDS * h, sizeof(float)), calloc(N_IDS * h, sizeof(float)), h,
                (int32_t)m->plan.config.n_layers};
    assert_non_null(s.embedded);
    assert_non_null(s.final);
    return s;
}

static void stream_free(stream *s)
{
    free(s->embedded);
    free(s->final);
}

/* N_IDS ids in pieces of these sizes. */
static void feed(zamba_model *m, const size_t *pieces, stream *out)
{
    zamba_error err;
    zamba_sequence *seq;
    int32_t ids[N_IDS];
    const size_t vocab = m->plan.config.vocab_size;
    float *logits = malloc(N_IDS * vocab * sizeof *logits);
    assert_non_null(logits);
    tiny_ids(ids, N_IDS, vocab, 5);
    CHECK_OK(zamba_sequence_open(&seq, m, N_IDS, &err), err);
    for (size_t at = 0, i = 0; at < N_IDS; i++) {
        zamba_forward_options o = {.size = sizeof o};
        stream here = {0};
        if (out != NULL) {
            here = *out;
            here.embedded += at * out->hidden;
            here.final += at * out->hidden;
            o.on_hidden = on_hidden;
            o.user = &here;
        }
        CHECK_OK(zamba_forward(m, &(zamba_batch_item){seq, ids + at, pieces[i], ZAMBA_LOGITS_ALL, logits}, 1, &o, &err),
                 err);
        at += pieces[i];
    }
    zamba_sequence_close(seq);
    free(logits);
}

static const size_t whole[] = {N_IDS}, parts[] = {7, 1, 1, 14};

/* Collect over the ids, save, read back. */
static zb_importances collect(zamba_model *m, const size_t *pieces, const char *path, stream *out)
{
    zamba_error err;
    zamba_imatrix *c;
    zb_importances im;
    CHECK_OK(zamba_imatrix_open(&c, m, &err), err);
    feed(m, pieces, out);
    CHECK_OK(zamba_imatrix_save(c, path, "some text", 3, 23, &err), err);
    zamba_imatrix_close(c);
    CHECK_OK(zb_importances_read(&im, path, &err), err);
    assert_string_equal(im.dataset, "some text");
    assert_int_equal(im.n_chunks, 3);
    return im;
}

static const zb_importance *get(const zb_importances *im, const char *name)
{
    for (size_t i = 0; i < im->n; i++)
        if (strcmp(im->items[i].name, name) == 0)
            return &im->items[i];
    fail_msg("nothing about %s", name);
    return NULL;
}

static float counted(const char *path, const char *name)
{
    zb_gguf g;
    zamba_error err;
    char full[200];
    float count;
    CHECK_OK(zb_gguf_open(&g, path, &err), err);
    snprintf(full, sizeof full, "%s.counts", name);
    const zb_tensor *t = zb_tensors_find(&g.tensors, full);
    assert_non_null(t);
    memcpy(&count, t->data, sizeof count);
    zb_gguf_close(&g);
    return count;
}

/* Mean squares of columns against those of rows that were computed here. Sums are double over f32 rows that the kernels
 * computed; these rows here are made in another order of sums. */
#define TOLERANCE 1e-4

static void check_columns(const zb_importance *e, const float *rows, size_t n_rows)
{
    assert_int_equal(e->parts, 1);
    for (size_t k = 0; k < e->cols; k++) {
        double sum = 0;
        for (size_t r = 0; r < n_rows; r++)
            sum += (double)rows[r * e->cols + k] * (double)rows[r * e->cols + k];
        const double want = sum / (double)n_rows, got = (double)e->mean[k];
        if (!(fabs(got - want) <= TOLERANCE * (want + 1e-3)))
            fail_msg("%s, column %zu: %.9g, wanted %.9g", e->name, k, got, want);
    }
}

/* What meets the head and the first layer's in_proj is known from outside. */
static void test_columns(void **state)
{
    scratch s;
    (void)state;
    scratch_open(&s);
    tiny_write(&s, tiny_odd2);
    for (int i = 0; i < 2; i++) {
        const char *path = scratch_path(&s, "im.gguf");
        zamba_model *m = open_with(s.path, 0, ZAMBA_COMPUTE_F32);
        stream x = stream_new(m);
        zb_importances im = collect(m, i ? parts : whole, path, &x);
        check_columns(get(&im, "token_embd.weight"), x.final, N_IDS);
        const float *norm = m->weights.layers[0].norm;
        for (size_t r = 0; r < N_IDS; r++) {
            float *row = x.embedded + r * x.hidden;
            double square = 0;
            for (size_t k = 0; k < x.hidden; k++)
                square += (double)row[k] * (double)row[k];
            const double factor = 1 / sqrt(square / (double)x.hidden + (double)m->plan.config.norm_eps);
            for (size_t k = 0; k < x.hidden; k++)
                row[k] = (float)((double)row[k] * factor * (double)norm[k]);
        }
        check_columns(get(&im, "blk.0.ssm_in.weight"), x.embedded, N_IDS);
        zb_importances_free(&im);
        stream_free(&x);
        zamba_model_close(m);
    }
    scratch_close(&s);
}

/* Every matrix is there, and counted once for each use, however it is cut, copied or rounded. */
static void test_counts(void **state)
{
    static const char *const texts[] = {halves, tiny_odd2, tiny_odd1, NULL};
    (void)state;
    for (size_t t = 0; t < 4; t++) {
        scratch s;
        scratch_open(&s);
        if (texts[t] != NULL)
            tiny_write(&s, texts[t]);
        const char *folder = texts[t] != NULL ? s.path : "tests/model/fixtures/packed/gptq-4";
        const char *path = scratch_path(&s, "im.gguf"), *other = scratch_path(&s, "other.gguf");
        zb_importances first = {0};
        for (int32_t repack = -1; repack <= 1; repack += 2) {
            zamba_model *m = open_with(folder, repack, ZAMBA_COMPUTE_F32);
            zb_importances im = collect(m, parts, repack < 0 ? path : other, NULL);
            size_t n = 0;
            for (size_t i = 0; i < m->plan.n_specs; i++) {
                const zb_spec *spec = &m->plan.specs[i];
                char name[160];
                if (!spec->quantizable)
                    continue;
                zb_gguf_name(name, sizeof name, &m->plan, spec);
                const zb_importance *e = get(&im, name);
                assert_int_equal(e->cols, spec->shape[spec->n_dims - 1]);
                assert_int_equal(e->parts, zb_spec_parts(spec));
                const float count = counted(repack < 0 ? path : other, name);
                if (count != (float)(N_IDS * spec->n_uses))
                    fail_msg("%s: counted %g times, wanted %d", name, (double)count, N_IDS * spec->n_uses);
                n++;
            }
            assert_int_equal(im.n, n);
            if (repack < 0)
                first = im;
            else { /* copies of the halves change nothing */
                assert_int_equal(first.n, im.n);
                for (size_t i = 0; i < im.n; i++)
                    assert_memory_equal(first.items[i].mean, im.items[i].mean,
                                        im.items[i].parts * im.items[i].cols * sizeof(float));
                zb_importances_free(&im);
            }
            zamba_model_close(m);
        }
        zb_importances_free(&first);
        scratch_close(&s);
    }
}

/* The heads of Mamba-1 have inputs of their own. */
static void test_parts(void **state)
{
    scratch s;
    (void)state;
    scratch_open(&s);
    tiny_write(&s, tiny_odd1);
    zamba_model *m = open_with(s.path, 0, ZAMBA_COMPUTE_F32);
    zb_importances im = collect(m, whole, scratch_path(&s, "im.gguf"), NULL);
    const zb_importance *e = get(&im, "blk.0.ssm_x.weight");
    assert_int_equal(e->parts, m->plan.config.mamba_heads);
    assert_int_equal(e->cols, m->plan.config.mamba_head_dim);
    for (size_t k = 0; k < e->parts; k++)
        assert_true(e->seen[k]);
    assert_true(e->mean[0] != e->mean[e->cols]);
    zb_importances_free(&im);
    zamba_model_close(m);
    scratch_close(&s);
}

static void test_one_at_a_time(void **state)
{
    scratch s;
    zamba_error err;
    zamba_imatrix *a, *b;
    (void)state;
    scratch_open(&s);
    zamba_model *m = tiny_model(&s, tiny_odd2);
    CHECK_OK(zamba_imatrix_open(&a, m, &err), err);
    check_refused(zamba_imatrix_open(&b, m, &err), &err, ZAMBA_E_ARG, "already", NULL);
    check_refused(zamba_imatrix_save(a, scratch_path(&s, "im.gguf"), NULL, 0, 0, &err), &err, ZAMBA_E_ARG, "nothing",
                  NULL);
    zamba_imatrix_close(a);
    CHECK_OK(zamba_imatrix_open(&b, m, &err), err);
    zamba_imatrix_close(b);
    zamba_imatrix_close(NULL);
    zamba_model_close(m);
    scratch_close(&s);
}

/* ---- files ---- */

/* A file about one tensor. */
static void write_one(const char *path, const char *type, const char *name, size_t n_parts, size_t cols, size_t counts,
                      float value, float count)
{
    zamba_error err;
    zb_gguf_writer *w;
    char full[200];
    float *numbers = malloc((n_parts * cols + counts) * sizeof *numbers);
    assert_non_null(numbers);
    for (size_t i = 0; i < n_parts * cols + counts; i++)
        numbers[i] = i < n_parts * cols ? value : count;
    CHECK_OK(zb_gguf_create(&w, path, &err), err);
    zb_gguf_put_string(w, "general.type", type);
    zb_gguf_put_texts(w, "imatrix.datasets", 1);
    zb_gguf_add_text(w, "x", 1);
    zb_gguf_put_u32(w, "imatrix.chunk_count", 1);
    zb_gguf_put_u32(w, "imatrix.chunk_size", 8);
    snprintf(full, sizeof full, "%s.in_sum2", name);
    zb_gguf_declare(w, full, ZB_F32, (const size_t[]){n_parts, cols}, 2);
    snprintf(full, sizeof full, "%s.counts", name);
    if (counts > 0)
        zb_gguf_declare(w, full, ZB_F32, (const size_t[]){counts, 1}, 2);
    CHECK_OK(zb_gguf_begin(w, &err), err);
    CHECK_OK(zb_gguf_append(w, numbers, (n_parts * cols + counts) * sizeof *numbers, &err), err);
    CHECK_OK(zb_gguf_finish(w, &err), err);
    free(numbers);
}

static zamba_status quantize_with(const scratch *s, const char *im, zamba_error *err)
{
    zamba_quantize_options o = zamba_quantize_defaults();
    o.type = "Q4_0";
    o.imatrix = im;
    o.n_threads = 1;
    o.pure = 1;
    return zamba_quantize(s->path, scratch_path(s, "out.gguf"), &o, NULL, err);
}

static void test_files(void **state)
{
    static const char in[] = "blk.0.ssm_in.weight";
    scratch s;
    zamba_error err;
    zb_importances im;
    (void)state;
    scratch_open(&s);
    tiny_write(&s, halves);
    char path[SCRATCH_PATH + 32], out[SCRATCH_PATH + 32]; /* scratch_path's own places are used again and again */
    snprintf(path, sizeof path, "%s/im.gguf", s.path);
    snprintf(out, sizeof out, "%s/out.gguf", s.path);
    write_one(path, "imatrix", in, 1, 64, 1, 6.0f, 2.0f);
    CHECK_OK(zb_importances_read(&im, path, &err), err);
    assert_int_equal(im.n, 1);
    assert_true(im.items[0].mean[63] == 3.0f && im.items[0].seen[0] == 1);
    zb_importances_free(&im);
    CHECK_OK(quantize_with(&s, path, &err), err);
    assert_int_equal(remove(out), 0);
    write_one(path, "imatrix", in, 1, 64, 1, 0.0f, 0.0f); /* never used: as if nothing was said */
    CHECK_OK(quantize_with(&s, path, &err), err);
    assert_int_equal(remove(out), 0);

    static const struct {
        const char *type, *name;
        size_t parts, cols, counts;
        float value, count;
        zamba_status code;
        const char *word;
    } bad[] = {
        {"model", in, 1, 64, 1, 1, 1, ZAMBA_E_FORMAT, "no importance matrix"},
        {"imatrix", in, 1, 64, 0, 1, 1, ZAMBA_E_FORMAT, "counts"},
        {"imatrix", in, 2, 64, 1, 1, 1, ZAMBA_E_FORMAT, "wanted 2"},
        {"imatrix", in, 1, 64, 1, -1, 1, ZAMBA_E_FORMAT, "from 0 up"},
        {"imatrix", in, 1, 64, 1, INFINITY, 1, ZAMBA_E_FORMAT, "from 0 up"},
        {"imatrix", in, 1, 64, 1, 1, NAN, ZAMBA_E_FORMAT, "from 0 up"},
        {"imatrix", in, 1, 32, 1, 1, 1, ZAMBA_E_MISMATCH, "another model"},
        {"imatrix", in, 2, 64, 2, 1, 1, ZAMBA_E_MISMATCH, "another model"},
        {"imatrix", "blk.99.ssm_in.weight", 1, 64, 1, 1, 1, ZAMBA_E_MISMATCH, "blk.99.ssm_in.weight"},
        {"imatrix", "blk.0.attn_norm.weight", 1, 64, 1, 1, 1, ZAMBA_E_MISMATCH, "no matrix of this model"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_one(path, bad[i].type, bad[i].name, bad[i].parts, bad[i].cols, bad[i].counts, bad[i].value, bad[i].count);
        check_refused(quantize_with(&s, path, &err), &err, bad[i].code, path, bad[i].word, NULL);
        assert_false(zb_file_exists(out));
    }
    scratch_close(&s);
}

/* Columns that matter come out nearer; the file says what it was made with, and is the same each time. */
static void test_used(void **state)
{
    scratch s;
    zamba_error err;
    double wrong[2] = {0, 0};
    (void)state;
    scratch_open(&s);
    tiny_write(&s, halves);
    char path[SCRATCH_PATH + 32];
    snprintf(path, sizeof path, "%s/im.gguf", s.path);
    zamba_model *m = open_with(s.path, 0, ZAMBA_COMPUTE_F32);
    zb_importances im = collect(m, whole, path, NULL);
    const zb_importance *e = get(&im, "blk.1.ssm_out.weight");
    zb_tensors ts;
    CHECK_OK(zb_tensors_open(&ts, s.path, &err), err);
    const zb_tensor *original = zb_tensors_find(&ts, "model.layers.1.mamba.out_proj.weight");
    assert_non_null(original);
    const float *w = original->data;
    for (int with = 0; with < 2; with++) {
        zb_gguf g;
        CHECK_OK(quantize_with(&s, with ? path : NULL, &err), err);
        CHECK_OK(zb_gguf_open(&g, scratch_path(&s, "out.gguf"), &err), err);
        assert_int_equal(zb_gguf_find(&g, "quantize.imatrix.dataset") != NULL, with);
        const zb_tensor *t = zb_tensors_find(&g.tensors, "blk.1.ssm_out.weight");
        assert_non_null(t);
        assert_int_equal(t->dtype, ZB_Q4_0);
        const size_t n = original->bytes / sizeof(float);
        float *x = malloc(n * sizeof *x);
        assert_non_null(x);
        m->kernels->unpack(x, t->data, ZB_Q4_0, n);
        for (size_t i = 0; i < n; i++) {
            const double d = (double)x[i] - (double)w[i];
            wrong[with] += d * d * (double)e->mean[i % e->cols];
        }
        free(x);
        zb_gguf_close(&g);
    }
    if (!(wrong[1] < wrong[0]))
        fail_msg("weighed error %g with the importance matrix, %g without", wrong[1], wrong[0]);
    zb_tensors_close(&ts);
    zb_importances_free(&im);
    zamba_model_close(m);
    scratch_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns),       cmocka_unit_test(test_counts), cmocka_unit_test(test_parts),
        cmocka_unit_test(test_one_at_a_time), cmocka_unit_test(test_files),  cmocka_unit_test(test_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
