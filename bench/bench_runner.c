/* bench_runner.c — zamba as one of the programs that rivals.py measures: requests come as JSON lines on standard input,
 * each is answered by one JSON line, as rival_lines.py describes. Owns no judgement: it opens, feeds, times, probes.
 *
 *   open path threads context kv compute | close | memory | reset_peak | probe threads megabytes repeats
 *   prompt n | fill depth | save path | load path depth | decode n batch keep | profile prompt or n | quit
 *   init config path | open_trainer path threads bf16 batch length | train n
 *
 * `fill` reads a context once; `decode` goes on from forks of it, as often as wanted; with keep it goes on from the
 * context itself. Times are lists: `walls`, and `cpus` of the calling thread, which one thread is measured with. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "zamba_train.h"

enum { LONGEST_LINE = 65536, PIECE = 512, MOST_OPS = 64, WIDEST = 64 };

typedef struct runner {
    zamba_model *model;
    zamba_model_info info;
    zamba_memory_info memory;
    zamba_sequence *bases[WIDEST];
    int32_t *ids;
    float *logits; /* [WIDEST, vocab] */
    size_t context;
    zamba_trainer *trainer;
    zamba_example *examples; /* [batch] */
    zamba_data_batch batch;
    zamba_error err;
    const char *problem; /* what is wrong with a request; else err speaks */
} runner;

static double clock_of(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct stopwatch {
    json_t *walls, *cpus;
    double wall, cpu;
} stopwatch;

static stopwatch start(void)
{
    return (stopwatch){json_array(), json_array(), clock_of(CLOCK_MONOTONIC), clock_of(CLOCK_THREAD_CPUTIME_ID)};
}

static void lap(stopwatch *w)
{
    json_array_append_new(w->walls, json_real(clock_of(CLOCK_MONOTONIC) - w->wall));
    json_array_append_new(w->cpus, json_real(clock_of(CLOCK_THREAD_CPUTIME_ID) - w->cpu));
    w->wall = clock_of(CLOCK_MONOTONIC);
    w->cpu = clock_of(CLOCK_THREAD_CPUTIME_ID);
}

static void say(json_t *answer)
{
    char *text = json_dumps(answer, JSON_ENSURE_ASCII);
    json_decref(answer);
    puts(text ? text : "{\"error\": \"out of memory\"}");
    fflush(stdout);
    free(text);
}

static size_t number(const json_t *request, const char *key, size_t otherwise)
{
    const json_t *v = json_object_get(request, key);
    const json_int_t x = json_integer_value(v);
    return json_is_integer(v) && x >= 0 && x < (json_int_t)1 << 30 ? (size_t)x : otherwise;
}

static const char *word(const json_t *request, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(request, key));
    return text ? text : otherwise;
}

static const char *some(const char *text)
{
    return text ? text : "";
}

static json_t *wrong(runner *r, const char *problem)
{
    r->problem = problem;
    return NULL;
}

static void close_bases(runner *r)
{
    for (size_t k = 0; k < WIDEST; k++) {
        zamba_sequence_close(r->bases[k]);
        r->bases[k] = NULL;
    }
}

static json_t *do_close(runner *r, const json_t *request)
{
    (void)request;
    close_bases(r);
    zamba_model_close(r->model);
    zamba_trainer_close(r->trainer);
    free(r->examples);
    r->trainer = NULL;
    r->examples = NULL;
    free(r->ids);
    free(r->logits);
    r->model = NULL;
    r->ids = NULL;
    r->logits = NULL;
    return json_object();
}

static int index_of(const char *name, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

static json_t *do_open(runner *r, const json_t *request)
{
    static const char *const kv_names[] = {"auto", "f32", "f16", "bf16", "q8_0"};
    static const char *const compute_names[] = {"auto", "f32", "bf16", "int8"};
    zamba_model_options o = zamba_model_defaults();
    const int kv = index_of(word(request, "kv", "auto"), kv_names, 5);
    const int compute = index_of(word(request, "compute", "auto"), compute_names, 4);
    json_decref(do_close(r, NULL));
    if (kv < 0 || compute < 0)
        return wrong(r, "no such kv or compute");
    o.n_threads = (int32_t)number(request, "threads", 1);
    o.kv_k = o.kv_v = (zamba_kv_type)kv;
    o.compute = (zamba_compute)compute;
    o.no_tokenizer = 1;
    r->context = number(request, "context", 4096);
    const double begin = clock_of(CLOCK_MONOTONIC);
    if (zamba_model_open(&r->model, word(request, "path", ""), &o, &r->err) != ZAMBA_OK)
        return NULL;
    const double took = clock_of(CLOCK_MONOTONIC) - begin;
    r->info = (zamba_model_info){.size = sizeof r->info};
    r->memory = (zamba_memory_info){.size = sizeof r->memory};
    if (zamba_model_info_get(r->model, &r->info, &r->err) != ZAMBA_OK ||
        zamba_model_memory(r->model, &r->memory, &r->err) != ZAMBA_OK)
        return NULL;
    const size_t vocab = (size_t)r->info.vocab_size;
    r->ids = malloc((r->context + WIDEST + 1) * sizeof *r->ids);
    r->logits = malloc(WIDEST * vocab * sizeof *r->logits);
    if (!r->ids || !r->logits)
        return wrong(r, "out of memory");
    uint32_t x = 1;
    for (size_t i = 0; i < r->context + WIDEST + 1; i++) {
        x = x * 1664525u + 1013904223u;
        r->ids[i] = (int32_t)((x >> 8) % (uint32_t)vocab);
    }
    return json_pack("{s:f, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:i}", "load_s", took, "weight_bytes",
                     (json_int_t)r->info.weight_bytes, "weight_bytes_per_token", (json_int_t)r->info.bytes_per_token,
                     "state_bytes", (json_int_t)r->memory.state_per_sequence, "kv_bytes_per_token",
                     (json_int_t)r->memory.kv_per_token, "copies", (json_int_t)r->memory.copies, "kernels",
                     some(r->info.kernels), "compute", some(r->info.compute), "kv_k", some(r->info.kv_k), "kv_v",
                     some(r->info.kv_v), "threads", (int)r->info.n_threads);
}

/* Ids [first, first + n) into s; in pieces with progress lines if `piece` is less. */
static zamba_status feed(runner *r, zamba_sequence *s, size_t first, size_t n, size_t piece)
{
    zamba_status st = ZAMBA_OK;
    for (size_t at = 0; at < n && st == ZAMBA_OK; at += piece) {
        const size_t here = n - at < piece ? n - at : piece;
        const int last = at + here == n;
        zamba_batch_item item = {s, r->ids + first + at, here, last ? ZAMBA_LOGITS_LAST : ZAMBA_LOGITS_NONE,
                                 last ? r->logits : NULL};
        st = zamba_forward(r->model, &item, 1, NULL, &r->err);
        if (piece < n && st == ZAMBA_OK)
            say(json_pack("{s:[I, I]}", "progress", (json_int_t)(at + here), (json_int_t)n));
    }
    return st;
}

static json_t *do_prompt(runner *r, const json_t *request)
{
    const size_t n = number(request, "n", 0);
    zamba_sequence *s = NULL;
    if (!r->model || n < 1 || n > r->context)
        return wrong(r, "prompt: no model, or no such length");
    zamba_status st = zamba_sequence_open(&s, r->model, n, &r->err);
    stopwatch w = start();
    if (st == ZAMBA_OK)
        st = feed(r, s, 0, n, n);
    lap(&w);
    zamba_sequence_close(s);
    json_t *answer = json_pack("{s:o, s:o}", "walls", w.walls, "cpus", w.cpus);
    if (st == ZAMBA_OK)
        return answer;
    json_decref(answer);
    return NULL;
}

static json_t *do_fill(runner *r, const json_t *request)
{
    const size_t depth = number(request, "depth", 0), want = depth ? depth : 1;
    if (!r->model || want + 1 > r->context)
        return wrong(r, "fill: no model, or deeper than the context it was opened with");
    close_bases(r);
    if (zamba_sequence_open(&r->bases[0], r->model, r->context, &r->err) != ZAMBA_OK ||
        feed(r, r->bases[0], 0, want, PIECE) != ZAMBA_OK)
        return NULL;
    return json_pack("{s:I, s:I}", "depth", (json_int_t)want, "sequence_bytes",
                     (json_int_t)zamba_sequence_bytes(r->bases[0]));
}

static json_t *do_save(runner *r, const json_t *request)
{
    if (!r->bases[0])
        return wrong(r, "save: nothing was filled");
    return zamba_sequence_save_file(r->bases[0], word(request, "path", ""), &r->err) == ZAMBA_OK ? json_object() : NULL;
}

static json_t *do_load(runner *r, const json_t *request)
{
    if (!r->model)
        return wrong(r, "load: no model");
    close_bases(r);
    if (zamba_sequence_open(&r->bases[0], r->model, r->context, &r->err) != ZAMBA_OK ||
        zamba_sequence_load_file(r->bases[0], word(request, "path", ""), &r->err) != ZAMBA_OK)
        return NULL;
    return json_pack("{s:I}", "depth", (json_int_t)zamba_sequence_length(r->bases[0]));
}

/* bases[1..batch): the same context with keys and values of their own. */
static zamba_status widen(runner *r, size_t batch)
{
    void *saved = NULL;
    size_t n = 0;
    zamba_status st = ZAMBA_OK;
    for (size_t k = 1; k < batch && st == ZAMBA_OK; k++) {
        if (r->bases[k])
            continue;
        if (!saved)
            st = zamba_sequence_save(r->bases[0], &saved, &n, &r->err);
        if (st == ZAMBA_OK)
            st = zamba_sequence_open(&r->bases[k], r->model, r->context, &r->err);
        if (st == ZAMBA_OK)
            st = zamba_sequence_load(r->bases[k], saved, n, &r->err);
    }
    zamba_free(saved);
    return st;
}

/* What one step of `batch` sequences moves: weights, state in and out, keys and values in and the new ones out. */
static double step_bytes(const runner *r, size_t batch, double length)
{
    return (double)r->info.bytes_per_token +
           (double)batch * (2.0 * (double)r->memory.state_per_sequence + (double)r->memory.kv_per_token * (length + 1));
}

static json_t *do_decode(runner *r, const json_t *request)
{
    const size_t n = number(request, "n", 1), batch = number(request, "batch", 1);
    const int keep = json_is_true(json_object_get(request, "keep"));
    zamba_sequence *s[WIDEST] = {NULL};
    zamba_batch_item items[WIDEST];
    if (!r->bases[0] || batch < 1 || batch > WIDEST)
        return wrong(r, "decode: nothing was filled, or no such batch");
    const size_t first = zamba_sequence_length(r->bases[0]), vocab = (size_t)r->info.vocab_size;
    if (first + n > r->context)
        return wrong(r, "decode: more tokens than the context it was opened with");
    zamba_status st = widen(r, batch);
    for (size_t k = 0; k < batch && st == ZAMBA_OK; k++) {
        if (keep)
            s[k] = r->bases[k];
        else
            st = zamba_sequence_fork(&s[k], r->bases[k], &r->err);
    }
    const uint64_t barriers = r->model ? zamba_model_barriers(r->model) : 0;
    stopwatch w = start();
    for (size_t i = 0; i < n && st == ZAMBA_OK; i++) {
        for (size_t k = 0; k < batch; k++)
            items[k] = (zamba_batch_item){s[k], r->ids + first + i + k, 1, ZAMBA_LOGITS_LAST, r->logits + k * vocab};
        st = zamba_forward(r->model, items, batch, NULL, &r->err);
        lap(&w);
    }
    json_t *answer = json_pack("{s:o, s:o, s:f, s:f}", "walls", w.walls, "cpus", w.cpus, "bytes",
                               step_bytes(r, batch, (double)first + ((double)n - 1) / 2), "barriers",
                               (double)(zamba_model_barriers(r->model) - barriers) / (double)(n ? n : 1));
    for (size_t k = 0; k < batch && !keep; k++)
        zamba_sequence_close(s[k]);
    if (st == ZAMBA_OK)
        return answer;
    json_decref(answer);
    return NULL;
}

/* The operations of one prompt ("prompt": n), or of n decoded tokens. */
static json_t *do_profile(runner *r, const json_t *request)
{
    zamba_op_profile ops[MOST_OPS];
    if (!r->model)
        return wrong(r, "profile: no model");
    const size_t prompt = number(request, "prompt", 0);
    json_t *sub = json_pack("{s:I, s:I}", "n", (json_int_t)(prompt ? prompt : number(request, "n", 1)), "batch",
                            (json_int_t)number(request, "batch", 1));
    zamba_model_profile(r->model, 1);
    json_t *answer = prompt ? do_prompt(r, sub) : do_decode(r, sub);
    const size_t n = zamba_model_profile_get(r->model, ops, MOST_OPS);
    zamba_model_profile(r->model, 0);
    json_decref(sub);
    json_t *list = json_array();
    for (size_t i = 0; i < n && i < MOST_OPS; i++)
        json_array_append_new(list, json_pack("{s:s, s:b, s:I, s:f, s:f, s:f}", "operation", ops[i].name, "product",
                                              ops[i].product, "calls", (json_int_t)ops[i].calls, "seconds",
                                              ops[i].seconds, "bytes", ops[i].bytes, "flops", ops[i].flops));
    if (answer)
        json_object_set_new(answer, "operations", list);
    else
        json_decref(list);
    return answer;
}

static json_t *do_probe(runner *r, const json_t *request)
{
    const int32_t threads = (int32_t)number(request, "threads", 1), repeats = (int32_t)number(request, "repeats", 5);
    double read = 0, f32 = 0, bf16 = 0, int8 = 0;
    if (zamba_probe_read(number(request, "megabytes", 256) << 20, threads, repeats, &read, &r->err) != ZAMBA_OK ||
        zamba_probe_products(ZAMBA_COMPUTE_F32, threads, repeats, &f32, &r->err) != ZAMBA_OK ||
        zamba_probe_products(ZAMBA_COMPUTE_BF16, threads, repeats, &bf16, &r->err) != ZAMBA_OK ||
        zamba_probe_products(ZAMBA_COMPUTE_INT8, threads, repeats, &int8, &r->err) != ZAMBA_OK)
        return NULL;
    return json_pack("{s:f, s:f, s:f, s:f}", "read", read, "f32", f32, "bf16", bf16, "int8", int8);
}

static json_t *do_memory(runner *r, const json_t *request)
{
    char line[256];
    double rss = 0, peak = 0;
    FILE *f = fopen("/proc/self/status", "r");
    (void)r;
    (void)request;
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "VmRSS:", 6) == 0)
            rss = strtod(line + 6, NULL) * 1024;
        if (strncmp(line, "VmHWM:", 6) == 0)
            peak = strtod(line + 6, NULL) * 1024;
    }
    if (f)
        fclose(f);
    return json_pack("{s:f, s:f}", "rss", rss, "peak", peak);
}

static json_t *do_reset_peak(runner *r, const json_t *request)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    (void)r;
    (void)request;
    if (f) {
        fputs("5", f);
        fclose(f);
    }
    return json_object();
}

static json_t *do_hello(runner *r, const json_t *request)
{
    (void)r;
    (void)request;
    return json_pack("{s:s, s:s, s:i}", "name", "zamba", "version", zamba_version(), "cores", (int)zamba_cores());
}

/* A new model with random weights. */
static json_t *do_init(runner *r, const json_t *request)
{
    if (zamba_model_init(word(request, "config", ""), NULL, word(request, "path", ""), NULL, &r->err) != ZAMBA_OK)
        return NULL;
    return json_object();
}

/* Training of `batch` rows of `length` random tokens, always the same. */
static json_t *do_open_trainer(runner *r, const json_t *request)
{
    const size_t rows = (size_t)number(request, "batch", 8), length = (size_t)number(request, "length", 256);
    json_decref(do_close(r, NULL));
    zamba_train_options o = zamba_train_defaults();
    o.n_threads = (int32_t)number(request, "threads", 0);
    o.bf16 = (int32_t)number(request, "bf16", 0);
    o.sequence_length = length;
    o.micro_tokens = rows * length;
    o.schedule = ZAMBA_SCHEDULE_CONSTANT;
    o.total_steps = 1 << 20;
    if (zamba_trainer_open(&r->trainer, word(request, "path", ""), &o, &r->err) != ZAMBA_OK)
        return NULL;
    zamba_model_info info = {.size = sizeof info};
    r->ids = calloc(rows * length + 1, sizeof *r->ids);
    r->examples = calloc(rows, sizeof *r->examples);
    if (r->ids == NULL || r->examples == NULL ||
        zamba_model_info_get(zamba_trainer_model(r->trainer), &info, &r->err) != ZAMBA_OK) {
        r->problem = "out of memory";
        return NULL;
    }
    uint32_t x = 1;
    for (size_t i = 0; i <= rows * length; i++) {
        x = x * 1664525u + 1013904223u;
        r->ids[i] = (int32_t)((x >> 8) % (uint32_t)info.vocab_size);
    }
    for (size_t i = 0; i < rows; i++)
        r->examples[i] = (zamba_example){r->ids + i * length, r->ids + i * length + 1, length, (int32_t)i};
    r->batch = (zamba_data_batch){.examples = r->examples,
                                  .n_examples = rows,
                                  .n_tokens = rows * length,
                                  .n_targets = rows * length,
                                  .total_targets = rows * length};
    return json_pack("{s:I}", "tokens", (json_int_t)(rows * length));
}

static json_t *do_train(runner *r, const json_t *request)
{
    const size_t n = (size_t)number(request, "n", 1);
    zamba_train_metrics m = {0};
    if (r->trainer == NULL) {
        r->problem = "no trainer is open";
        return NULL;
    }
    stopwatch w = start();
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < n && st == ZAMBA_OK; i++) {
        st = zamba_trainer_step(r->trainer, &r->batch, &m, &r->err);
        lap(&w);
    }
    if (st != ZAMBA_OK) {
        json_decref(w.walls);
        json_decref(w.cpus);
        return NULL;
    }
    return json_pack("{s:o, s:o, s:f}", "walls", w.walls, "cpus", w.cpus, "loss", m.loss);
}

static const struct {
    const char *name;
    json_t *(*run)(runner *r, const json_t *request);
} verbs[] = {
    {"hello", do_hello},     {"open", do_open},
    {"close", do_close},     {"prompt", do_prompt},
    {"fill", do_fill},       {"save", do_save},
    {"load", do_load},       {"decode", do_decode},
    {"probe", do_probe},     {"memory", do_memory},
    {"profile", do_profile}, {"reset_peak", do_reset_peak},
    {"init", do_init},       {"open_trainer", do_open_trainer},
    {"train", do_train},
};

int main(void)
{
    static char line[LONGEST_LINE];
    runner *r = calloc(1, sizeof *r);
    while (r && fgets(line, sizeof line, stdin)) {
        json_t *request = json_loads(line, 0, NULL), *answer = NULL;
        const char *verb = word(request, "do", "");
        if (strcmp(verb, "quit") == 0) {
            json_decref(request);
            break;
        }
        r->problem = "no such request";
        for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
            if (strcmp(verb, verbs[i].name) != 0)
                continue;
            r->problem = NULL;
            answer = verbs[i].run(r, request);
        }
        say(answer ? answer : json_pack("{s:s}", "error", r->problem ? r->problem : r->err.message));
        json_decref(request);
    }
    if (r)
        json_decref(do_close(r, NULL));
    free(r);
    return 0;
}
