/* quantize.c — a checkpoint in, one GGUF file with quantized matrices out, tensor by tensor. The input is mapped, read
 * from front to back and let go of; a batch of rows is packed by all threads while one of them writes the batch before,
 * so memory does not grow with the model. Which tensor gets which type is known to quant_types.c, how a row is packed
 * to src/quant, what stands in the file to gguf_names.c. */
#include "model/quantize.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/mem.h"
#include "core/pool.h"
#include "model/gguf_names.h"
#include "model/imatrix.h"
#include "model/quant_types.h"
#include "model/weights.h"
#include "quant/quant.h"

enum { NAME_BYTES = 160, MOST_TASKS = 256, CHECK_EVERY = 16 };

zb_quantize_cut zb_quantize_cuts = {(size_t)8 << 20, (size_t)64 << 10};

typedef struct quantizer {
    const char *in, *out;
    const zamba_quantize_options *o;
    const zb_quant_preset *preset;
    zb_checkpoint checkpoint;
    zb_plan plan;
    zb_weights weights;
    char **names; /* [n_specs], in the file */
    zb_dtype *types, *from;
    zb_importances importances;
    const zb_importance **of; /* [n_specs], or NULL */
    zb_gguf_writer *writer;
    zb_pool *pool;
    float *rows;   /* two rows for each thread */
    size_t widest; /* numbers in one           */
    unsigned char *batches[2];
    size_t batch_bytes, n_waiting; /* of them; bytes of the other batch that are not written yet */
    int which;                     /* batch that is being filled */
    uint64_t done, total;          /* bytes of input             */
    zamba_error *err;
} quantizer;

/* ---- a tensor as rows ---- */

/* Small tensors are one row: no blocks bound them. */
static size_t row_length(const zb_spec *s)
{
    return s->quantizable ? s->shape[s->n_dims - 1] : zb_spec_elements(s);
}

static size_t row_count(const zb_spec *s)
{
    return zb_spec_elements(s) / row_length(s);
}

static uint64_t bytes_per_token(const quantizer *q, size_t i)
{
    const zb_spec *s = &q->plan.specs[i];
    const zb_config *c = &q->plan.config;
    const zb_dtype t = q->types[i];
    const uint64_t bytes = zb_row_bytes(t, zb_spec_elements(s));
    if (s->role == ZB_EMBED && !c->tied_head)
        return bytes / c->vocab_size;
    const int divisible = c->hidden_size % zb_dtype_block(t) == 0 && (t < ZB_N_FLOATS || c->hidden_size % 64 == 0);
    if ((s->role == ZB_Q || s->role == ZB_K || s->role == ZB_V) && !divisible)
        return bytes * (uint64_t)s->n_uses;
    return zb_spec_bytes_read(s, bytes);
}

static void tell(const quantizer *q, size_t i, double error, zamba_quantize_result *sum)
{
    const zb_spec *s = &q->plan.specs[i];
    zamba_quantized t = {.size = sizeof t,
                         .name = q->names[i],
                         .checkpoint = s->name,
                         .kind = zb_quant_kind_name(zb_quant_kind_of(s)),
                         .from = zb_tensor_type(q->weights.bound[i]),
                         .to = zb_dtype_name(q->types[i]),
                         .n_dims = s->n_dims,
                         .n_uses = s->n_uses,
                         .n_params = zb_spec_elements(s),
                         .bytes_in = q->weights.bound[i]->bytes,
                         .bytes_out = zb_row_bytes(q->types[i], zb_spec_elements(s)),
                         .bytes_per_token = bytes_per_token(q, i),
                         .error = error};
    for (int d = 0; d < s->n_dims; d++)
        t.shape[d] = (int64_t)s->shape[d];
    sum->n_tensors++;
    sum->n_params += t.n_params;
    sum->bytes_in += t.bytes_in;
    sum->bytes_out += t.bytes_out;
    sum->bytes_per_token += t.bytes_per_token;
    if (q->o->on_tensor != NULL)
        q->o->on_tensor(q->o->user, &t);
}

/* ---- packing ---- */

typedef struct batch {
    const quantizer *q;
    size_t spec, row0, row1, rows_per_task;
    const unsigned char *from;
    unsigned char *to;
    size_t from_row, to_row; /* bytes of a row */
    /* the batch before, which one task writes meanwhile */
    const unsigned char *waiting;
    size_t n_waiting;
    double wrong[MOST_TASKS], all[MOST_TASKS]; /* squares, of the rows that were looked at */
    pthread_mutex_t lock;
    size_t failed; /* the first task that failed; SIZE_MAX: none */
    zamba_error err;
} batch;

static void note_failure(batch *b, size_t task, const zamba_error *err)
{
    pthread_mutex_lock(&b->lock);
    if (task < b->failed) {
        b->failed = task;
        b->err = *err;
    }
    pthread_mutex_unlock(&b->lock);
}

static void compare(batch *b, size_t task, const float *x, const float *y, size_t n)
{
    double wrong = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)x[i] - (double)y[i];
        wrong += d * d;
        all += (double)x[i] * (double)x[i];
    }
    b->wrong[task] += wrong;
    b->all[task] += all;
}

static const float *importance_of(const quantizer *q, size_t spec, size_t row)
{
    const zb_importance *e = q->of == NULL ? NULL : q->of[spec];
    if (e == NULL)
        return NULL;
    const size_t part = row / (row_count(&q->plan.specs[spec]) / e->parts);
    return e->seen[part] ? e->mean + part * e->cols : NULL;
}

static void pack_task(batch *b, size_t task, int worker)
{
    const quantizer *q = b->q;
    const zb_spec *s = &q->plan.specs[b->spec];
    const zb_dtype from = q->from[b->spec], to = q->types[b->spec];
    const size_t n = row_length(s), first = b->row0 + task * b->rows_per_task,
                 last = first + b->rows_per_task < b->row1 ? first + b->rows_per_task : b->row1;
    const unsigned char *in = b->from + first * b->from_row;
    unsigned char *out = b->to + (first - b->row0) * b->to_row;
    float *x = q->rows + 2 * (size_t)worker * q->widest, *y = x + q->widest;
    zamba_error err = {0};
    if (from == to) {
        memcpy(out, in, (last - first) * b->to_row);
        return;
    }
    const uint32_t *order = q->weights.packed == NULL ? NULL : q->weights.packed[b->spec].order;
    for (size_t r = first; r < last; r++, in += b->from_row, out += b->to_row) {
        zb_row_to_f32(order == NULL ? x : y, in, from, n);
        for (size_t k = 0; order != NULL && k < n; k++)
            x[order[k]] = y[k];
        if (zb_row_from_f32(out, to, x, n, importance_of(q, b->spec, r), &err) != ZAMBA_OK) {
            zb_fail_prefix(&err, ZAMBA_E_FORMAT, "%s: tensor %s, row %zu", q->weights.bound[b->spec]->file, s->name, r);
            note_failure(b, task + 1, &err);
            return;
        }
        if (r % CHECK_EVERY == 0) {
            zb_row_to_f32(y, out, to, n);
            compare(b, task, x, y, n);
        }
    }
}

static void batch_task(void *ctx, size_t task, int worker)
{
    batch *b = ctx;
    zamba_error err = {0};
    if (task > 0)
        pack_task(b, task - 1, worker);
    else if (b->n_waiting > 0 && zb_gguf_append(b->q->writer, b->waiting, b->n_waiting, &err) != ZAMBA_OK)
        note_failure(b, 0, &err);
}

/* Rows that were packed are not looked at again, so they need not stay in memory. */
static void let_go(const quantizer *q, const unsigned char *data, size_t n)
{
    for (size_t i = 0; i < q->weights.tensors.n_files; i++)
        if (zb_file_forget(&q->weights.tensors.files[i], data, n))
            return;
}

/* One batch of rows of a tensor, packed into the free buffer; what waits in the other one is written meanwhile. */
static zamba_status pack_batch(quantizer *q, size_t spec, size_t row0, size_t row1, double *wrong, double *all)
{
    const zb_spec *s = &q->plan.specs[spec];
    const size_t n = row_length(s), rows = row1 - row0;
    size_t rows_per_task = zb_quantize_cuts.task / n;
    const size_t least = (rows + MOST_TASKS - 1) / MOST_TASKS;
    rows_per_task = rows_per_task < least ? least : rows_per_task;
    batch b = {.q = q,
               .spec = spec,
               .row0 = row0,
               .row1 = row1,
               .rows_per_task = rows_per_task,
               .from = q->weights.bound[spec]->data,
               .to = q->batches[q->which],
               .from_row = zb_row_bytes(q->from[spec], n),
               .to_row = zb_row_bytes(q->types[spec], n),
               .waiting = q->batches[!q->which],
               .n_waiting = q->n_waiting,
               .failed = SIZE_MAX};
    const size_t tasks = (rows + rows_per_task - 1) / rows_per_task;
    pthread_mutex_init(&b.lock, NULL);
    zb_pool_run(q->pool, tasks + 1, batch_task, &b);
    pthread_mutex_destroy(&b.lock);
    if (b.failed != SIZE_MAX)
        return zb_fail(q->err, b.err.code, "%s", b.err.message);
    for (size_t i = 0; i < tasks; i++) { /* in their order, so that the sums are the same each time */
        *wrong += b.wrong[i];
        *all += b.all[i];
    }
    let_go(q, b.from + row0 * b.from_row, rows * b.from_row);
    q->n_waiting = rows * b.to_row;
    q->which = !q->which;
    q->done += rows * b.from_row;
    if (q->o->on_progress != NULL && q->o->on_progress(q->o->user, q->done, q->total) != 0)
        return zb_fail(q->err, ZAMBA_E_CANCELLED, "%s: cancelled; nothing was written", q->out);
    return ZAMBA_OK;
}

static size_t batch_rows(const zb_spec *s)
{
    const size_t rows = zb_quantize_cuts.batch / row_length(s);
    return rows == 0 ? 1 : rows > row_count(s) ? row_count(s) : rows;
}

static zamba_status pack_all(quantizer *q, zamba_quantize_result *sum)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < q->plan.n_specs && st == ZAMBA_OK; i++) {
        const zb_spec *s = &q->plan.specs[i];
        const size_t step = batch_rows(s), rows = row_count(s);
        double wrong = 0, all = 0;
        for (size_t r = 0; r < rows && st == ZAMBA_OK; r += step)
            st = pack_batch(q, i, r, r + step < rows ? r + step : rows, &wrong, &all);
        if (st == ZAMBA_OK)
            tell(q, i, all > 0 ? sqrt(wrong / all) : 0, sum);
    }
    if (st == ZAMBA_OK && q->n_waiting > 0)
        st = zb_gguf_append(q->writer, q->batches[!q->which], q->n_waiting, q->err);
    return st;
}

/* ---- before it ---- */

static int same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A mapped file that is written over would change under our hands. */
static zamba_status check_output(const quantizer *q)
{
    const zb_tensors *ts = &q->weights.tensors;
    if (q->out == NULL || q->out[0] == '\0')
        return zb_fail(q->err, ZAMBA_E_ARG, "quantize: the name of the output is empty");
    int same = same_file(q->out, q->in) || (q->o->imatrix != NULL && same_file(q->out, q->o->imatrix));
    for (size_t i = 0; i < ts->n_files; i++)
        same |= same_file(q->out, ts->files[i].path);
    if (same)
        return zb_fail(q->err, ZAMBA_E_ARG, "%s: is the input; wanted another name for the output", q->out);
    return ZAMBA_OK;
}

static zamba_status check_input(const quantizer *q)
{
    for (size_t i = 0; i < q->plan.n_specs; i++)
        if ((q->from[i] >= ZB_N_FLOATS || (q->weights.packed != NULL && q->weights.packed[i].n_pieces > 0)) &&
            !q->o->allow_requantize)
            return zb_fail(q->err, ZAMBA_E_UNSUPPORTED,
                           "%s: tensor %s is %s: quantized already, which would cost quality a second time (quantize "
                           "the original, or allow it with --allow-requantize)",
                           q->in, q->plan.specs[i].name, zb_tensor_type(q->weights.bound[i]));
    return ZAMBA_OK;
}

static zamba_status take_names(quantizer *q)
{
    const size_t n = q->plan.n_specs;
    char name[NAME_BYTES];
    q->names = calloc(n + 1, sizeof *q->names);
    q->types = calloc(n + 1, sizeof *q->types);
    q->from = calloc(n + 1, sizeof *q->from);
    if (q->names == NULL || q->types == NULL || q->from == NULL)
        return zb_fail_memory(q->err, q->in, n * sizeof *q->names);
    for (size_t i = 0; i < n; i++) {
        zb_gguf_name(name, sizeof name, &q->plan, &q->plan.specs[i]);
        q->names[i] = strdup(name);
        if (q->names[i] == NULL)
            return zb_fail_memory(q->err, q->in, strlen(name));
        q->from[i] = q->weights.bound[i]->dtype;
        q->total += q->weights.bound[i]->bytes;
    }
    return ZAMBA_OK;
}

static zamba_status open_input(quantizer *q)
{
    zamba_status st = zb_checkpoint_open(&q->checkpoint, q->in, q->err);
    if (st == ZAMBA_OK)
        st = zb_checkpoint_plan(&q->checkpoint, &q->plan, ZAMBA_DT_FLOOR_AUTO, q->err);
    if (st == ZAMBA_OK)
        st = zb_weights_open(&q->weights, &q->plan, &q->checkpoint, q->err);
    for (size_t i = 0; i < q->weights.tensors.n_files && st == ZAMBA_OK; i++) { /* opening looked here and there */
        const zb_file *f = &q->weights.tensors.files[i];
        (void)zb_file_forget(f, f->data, f->size);
    }
    if (st == ZAMBA_OK)
        st = take_names(q);
    return st == ZAMBA_OK ? check_input(q) : st;
}

static zamba_status choose_types(quantizer *q)
{
    const zb_quant_request r = {q->o->type, q->o->pure, q->o->tensor_types, q->o->n_tensor_types};
    const zamba_status st = zb_quant_choose(q->types, &q->plan, q->from, (const char *const *)q->names, &r, q->err);
    if (st == ZAMBA_OK)
        q->preset = zb_quant_preset_find(q->o->type);
    return st;
}

static zamba_status open_importances(quantizer *q)
{
    size_t n_without = 0;
    if (q->o->imatrix == NULL)
        return ZAMBA_OK;
    q->of = calloc(q->plan.n_specs + 1, sizeof *q->of);
    if (q->of == NULL)
        return zb_fail_memory(q->err, q->in, q->plan.n_specs * sizeof *q->of);
    zamba_status st = zb_importances_read(&q->importances, q->o->imatrix, q->err);
    if (st == ZAMBA_OK)
        st = zb_importances_bind(&q->importances, &q->plan, (const char *const *)q->names, q->o->imatrix, q->of,
                                 &n_without, q->err);
    if (st == ZAMBA_OK && n_without > 0)
        zb_log(ZAMBA_LOG_WARN, "%s: says nothing about %zu of the model's matrices: they are quantized without it",
               q->o->imatrix, n_without);
    return st;
}

/* Everything of the file but the tensors' bytes. */
static zamba_status describe(quantizer *q)
{
    zamba_status st = zb_gguf_create(&q->writer, q->out != NULL ? q->out : "", q->err);
    if (st == ZAMBA_OK)
        st = zb_gguf_put_model(q->writer, &q->checkpoint, &q->plan, q->checkpoint.merged, q->preset->file_type, q->err);
    if (st != ZAMBA_OK)
        return st;
    if (q->of != NULL) { /* not the file's name, which says where it lay and changes nothing */
        zb_gguf_put_string(q->writer, "quantize.imatrix.dataset", q->importances.dataset);
        zb_gguf_put_u32(q->writer, "quantize.imatrix.entries_count", (uint32_t)q->importances.n);
        zb_gguf_put_u32(q->writer, "quantize.imatrix.chunks_count", q->importances.n_chunks);
    }
    for (size_t i = 0; i < q->plan.n_specs; i++) {
        size_t shape[4];
        const int n_dims = zb_gguf_shape(shape, &q->plan, &q->plan.specs[i]);
        zb_gguf_declare(q->writer, q->names[i], q->types[i], shape, n_dims);
    }
    return ZAMBA_OK;
}

static zamba_status take_memory(quantizer *q)
{
    const int n_threads = q->o->n_threads > 0 ? q->o->n_threads : zb_pool_cores();
    for (size_t i = 0; i < q->plan.n_specs; i++) {
        const zb_spec *s = &q->plan.specs[i];
        const size_t n = row_length(s), bytes = batch_rows(s) * zb_row_bytes(q->types[i], n);
        q->widest = n > q->widest ? n : q->widest;
        q->batch_bytes = bytes > q->batch_bytes ? bytes : q->batch_bytes;
    }
    q->widest = (q->widest + 15) / 16 * 16;
    const zamba_status st = zb_pool_open(&q->pool, n_threads, q->err);
    if (st != ZAMBA_OK)
        return st;
    const size_t rows = (size_t)n_threads * 2 * q->widest * sizeof *q->rows;
    q->rows = zb_alloc_aligned(rows);
    q->batches[0] = zb_alloc_aligned(q->batch_bytes);
    q->batches[1] = zb_alloc_aligned(q->batch_bytes);
    if (q->rows == NULL || q->batches[0] == NULL || q->batches[1] == NULL)
        return zb_fail_memory(q->err, q->in, rows + 2 * q->batch_bytes);
    return ZAMBA_OK;
}

/* ---- the call ---- */

zamba_quantize_options zamba_quantize_defaults(void)
{
    return (zamba_quantize_options){.size = sizeof(zamba_quantize_options), .type = "Q4_K_M"};
}

const char *zamba_quantize_type(size_t i)
{
    const zb_quant_preset *p = zb_quant_preset_at(i);
    return p == NULL ? NULL : p->name;
}

static zamba_status check_arguments(const char *in, const zamba_quantize_options *o,
                                    const zamba_quantize_result *result, zamba_error *err)
{
    if (o->size != sizeof *o)
        return zb_fail(err, ZAMBA_E_ARG,
                       "quantize options: size is %zu, wanted %zu (fill them with zamba_quantize_defaults())", o->size,
                       sizeof *o);
    if (result != NULL && result->size != sizeof *result)
        return zb_fail(err, ZAMBA_E_ARG, "quantize result: size is %zu, wanted %zu (set it to sizeof the struct)",
                       result->size, sizeof *result);
    if (o->n_threads < 0 || o->n_threads > 1024)
        return zb_fail(err, ZAMBA_E_ARG, "threads: %d, wanted 1 to 1024, or 0 for all cores", o->n_threads);
    if (in == NULL || in[0] == '\0')
        return zb_fail(err, ZAMBA_E_ARG, "quantize: the path of the model is empty");
    return ZAMBA_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static zamba_status write_file(quantizer *q, zamba_quantize_result *sum)
{
    zamba_status st = take_memory(q);
    if (st == ZAMBA_OK)
        st = zb_gguf_begin(q->writer, q->err);
    if (st == ZAMBA_OK)
        st = pack_all(q, sum);
    if (st == ZAMBA_OK) {
        st = zb_gguf_finish(q->writer, q->err);
        q->writer = NULL;
    }
    return st;
}

static void release(quantizer *q)
{
    zb_gguf_cancel(q->writer);
    zb_pool_close(q->pool);
    zb_free_aligned(q->rows);
    zb_free_aligned(q->batches[0]);
    zb_free_aligned(q->batches[1]);
    for (size_t i = 0; q->names != NULL && i < q->plan.n_specs; i++)
        free(q->names[i]);
    free(q->names);
    free(q->types);
    free(q->from);
    free(q->of);
    zb_importances_free(&q->importances);
    zb_weights_close(&q->weights);
    zb_plan_free(&q->plan);
    zb_checkpoint_close(&q->checkpoint);
}

zamba_status zamba_quantize(const char *in, const char *out, const zamba_quantize_options *options,
                            zamba_quantize_result *result, zamba_error *err)
{
    const zamba_quantize_options defaults = zamba_quantize_defaults();
    zamba_error own;
    zamba_quantize_result sum = {.size = sizeof sum};
    quantizer q = {.in = in, .out = out, .o = options == NULL ? &defaults : options, .err = err == NULL ? &own : err};
    const double start = now();
    zamba_status st = check_arguments(in, q.o, result, q.err);
    if (st != ZAMBA_OK)
        return st;
    st = open_input(&q);
    if (st == ZAMBA_OK)
        st = choose_types(&q);
    if (st == ZAMBA_OK)
        st = open_importances(&q);
    if (st == ZAMBA_OK && !q.o->dry_run)
        st = check_output(&q);
    if (st == ZAMBA_OK)
        st = describe(&q);
    if (st == ZAMBA_OK) {
        sum.file_bytes = zb_gguf_bytes(q.writer);
        if (!q.o->dry_run)
            st = write_file(&q, &sum);
        else
            for (size_t i = 0; i < q.plan.n_specs; i++)
                tell(&q, i, -1, &sum);
    }
    sum.bits_per_weight = sum.n_params > 0 ? 8 * (double)sum.bytes_out / (double)sum.n_params : 0;
    sum.seconds = now() - start;
    if (st == ZAMBA_OK && result != NULL)
        *result = sum;
    release(&q);
    return st;
}
