/* bench_measure.c — runs the tests of `zamba bench`. Between the tests, before and after them the machine itself is
 * probed: what a plain loop reads, and how many products the cores do in registers; the best of all probes counts.
 *
 * A context of some depth is filled once. Every repetition starts from a fork of it, so that the sequences of a batch
 * share no keys and values with each other: each reads its own from memory, as sequences of different users would. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

enum {
    PROMPT_STEP = 8,       /* tokens of a prompt that take about as long as one written token */
    PIECE = 256,           /* tokens of a context that is filled between two looks at the progress */
    PROMPT_PIECE = 1024,   /* the same while the clock runs */
    WARM_PROMPT = 1024,    /* longer prompts are warmed up with less */
    PROFILED_TOKENS = 16,  /* written tokens whose operations are measured one by one */
    PROFILED_PROMPT = 512, /* up to this the profile is a pass of its own */
};

/* ---- Memory of the process ---- */

/* Most bytes resident since the last bench_peak_reset, or 0. */
double bench_peak_rss(void)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtod(line + 6, NULL);
    if (f)
        fclose(f);
    return kib * 1024;
}

void bench_peak_reset(void)
{
    const int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "5", 1) != 1) {
        /* not allowed here: the probes' memory is counted as well */
    }
    close(fd);
}

static void peak_note(bench_run *run)
{
    const double found = bench_peak_rss();
    run->peak_rss = found > run->peak_rss ? found : run->peak_rss;
}

/* ---- Probes ---- */

static zamba_status probe(bench *b, bench_run *run, zamba_error *err)
{
    /* as much as the model's weights, but more than any cache and not so much that it disturbs */
    const uint64_t low = 64u << 20, high = 256u << 20, weights = b->info.weight_bytes;
    double found = 0;
    peak_note(run);
    zamba_status st = zamba_probe_read((size_t)(weights < low    ? low
                                                : weights > high ? high
                                                                 : weights),
                                       run->n_threads, 3, &found, err);
    run->bandwidth = found > run->bandwidth ? found : run->bandwidth;
    if (st == ZAMBA_OK)
        st = zamba_probe_products(b->compute, run->n_threads, 3, &found, err);
    if (st == ZAMBA_OK)
        run->peak = found > run->peak ? found : run->peak;
    bench_peak_reset();
    return st;
}

/* ---- Passes ---- */

size_t bench_steps(const bench *b, const bench_test *t)
{
    const size_t passes = (size_t)b->args->repetitions + 1;
    return passes * (t->writes ? t->n : t->n / PROMPT_STEP + 1);
}

size_t bench_fill_steps(size_t depth)
{
    return depth / PROMPT_STEP;
}

static void stepped(bench *b, size_t steps)
{
    b->steps = b->steps + steps < b->limit ? b->steps + steps : b->limit;
    progress_update(&b->bar, b->steps);
}

/* Feed ids [first, first + n) in pieces; only the last row's logits are wanted. */
static zamba_status feed(bench *b, zamba_sequence *s, size_t first, size_t n, size_t piece, bool count,
                         zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (size_t at = 0; at < n && st == ZAMBA_OK; at += piece) {
        const size_t here = n - at < piece ? n - at : piece;
        const bool last = at + here == n;
        zamba_batch_item item = {s, b->ids + first + at, here, last ? ZAMBA_LOGITS_LAST : ZAMBA_LOGITS_NONE,
                                 last ? b->logits : NULL};
        st = zamba_forward(b->model, &item, 1, NULL, err);
        if (count)
            stepped(b, here / PROMPT_STEP);
    }
    return st;
}

/* bases[0] has at least one token; further ones, if the tests need them, are copies with KV pages of their own. */
static zamba_status fill(bench *b, size_t depth, size_t width, zamba_error *err)
{
    const size_t want = depth ? depth : 1, room = b->deepest + b->longest + 2;
    void *saved = NULL;
    size_t n_saved = 0;
    zamba_status st = ZAMBA_OK;
    if (!b->bases[0])
        st = zamba_sequence_open(&b->bases[0], b->model, room, err);
    if (st != ZAMBA_OK)
        return st;
    const size_t have = zamba_sequence_length(b->bases[0]);
    if (have < want)
        st = feed(b, b->bases[0], have, want - have, PIECE, true, err);
    if (st == ZAMBA_OK && width > 1 && want > 1)
        st = zamba_sequence_save(b->bases[0], &saved, &n_saved, err);
    for (size_t k = 1; k < width && st == ZAMBA_OK; k++) {
        if (!b->bases[k])
            st = zamba_sequence_open(&b->bases[k], b->model, room, err);
        if (st != ZAMBA_OK || zamba_sequence_length(b->bases[k]) == want)
            continue;
        st = saved ? zamba_sequence_load(b->bases[k], saved, n_saved, err) : feed(b, b->bases[k], 0, 1, 1, false, err);
    }
    zamba_free(saved);
    return st;
}

typedef struct timing {
    double wall, cpu;
    size_t passes;
    uint64_t barriers;
} timing;

/* One pass of a prompt, or `n` passes that write. */
static zamba_status pass(bench *b, const bench_test *t, size_t n, size_t piece, timing *took, zamba_error *err)
{
    zamba_sequence *s[BENCH_WIDEST] = {NULL};
    zamba_batch_item items[BENCH_WIDEST];
    zamba_status st = ZAMBA_OK;
    const size_t vocab = (size_t)b->info.vocab_size;
    for (size_t k = 0; k < t->batch && st == ZAMBA_OK; k++)
        st = t->writes || t->depth ? zamba_sequence_fork(&s[k], b->bases[k], err)
                                   : zamba_sequence_open(&s[k], b->model, n, err);
    const size_t first = st == ZAMBA_OK ? zamba_sequence_length(s[0]) : 0;
    const uint64_t barriers = zamba_model_barriers(b->model);
    const double wall = cli_now(), cpu = cli_cpu();
    if (!t->writes && st == ZAMBA_OK)
        st = feed(b, s[0], first, n, piece, piece < n, err);
    for (size_t i = 0; t->writes && i < n && st == ZAMBA_OK; i++) {
        for (size_t k = 0; k < t->batch; k++)
            items[k] = (zamba_batch_item){s[k], b->ids + first + i + k, 1, ZAMBA_LOGITS_LAST, b->logits + k * vocab};
        st = zamba_forward(b->model, items, t->batch, NULL, err);
        stepped(b, 1);
    }
    *took = (timing){cli_now() - wall, cli_cpu() - cpu, t->writes ? n : (n + piece - 1) / piece,
                     zamba_model_barriers(b->model) - barriers};
    took->wall = took->wall > 1e-9 ? took->wall : 1e-9;
    for (size_t k = 0; k < t->batch; k++)
        zamba_sequence_close(s[k]);
    return st;
}

static void take_profile(bench *b, bench_test *t, const timing *took)
{
    const size_t n = zamba_model_profile_get(b->model, t->ops, BENCH_MOST_OPS);
    t->n_ops = n < BENCH_MOST_OPS ? n : BENCH_MOST_OPS;
    t->profiled_s = took->wall;
    t->profiled_passes = t->writes ? (double)took->passes : 1;
    zamba_model_profile(b->model, 0);
}

static zamba_status run_test(bench *b, bench_test *t, zamba_error *err)
{
    const size_t repetitions = (size_t)b->args->repetitions;
    const bool own = t->writes || t->n <= PROFILED_PROMPT, profile = !b->args->no_profile;
    const double length = (double)(t->depth ? t->depth : 1), tokens = (double)t->batch;
    double barriers = 0, passes = 0;
    timing took;
    /* warm up: pages of the files, KV pages, caches */
    b->limit = SIZE_MAX;
    zamba_status st = fill(b, t->depth, t->batch, err);
    b->limit = b->steps + bench_steps(b, t);
    if (st == ZAMBA_OK)
        st = pass(b, t, t->writes ? (t->n + 3) / 4 : t->n > WARM_PROMPT ? WARM_PROMPT / 2 : t->n, PIECE, &took, err);
    for (size_t i = 0; i < repetitions && st == ZAMBA_OK; i++) {
        const bool last = i + 1 == repetitions;
        if (profile && !own && last)
            zamba_model_profile(b->model, 1);
        st = pass(b, t, t->n, PROMPT_PIECE, &took, err);
        if (profile && !own && last)
            take_profile(b, t, &took);
        t->rates[i] = (double)t->n * tokens / took.wall;
        if (b->runs[t->run].n_threads == 1 && took.cpu > 1e-9 && (double)t->n * tokens / took.cpu > t->cpu_rate)
            t->cpu_rate = (double)t->n * tokens / took.cpu;
        barriers += (double)took.barriers;
        passes += t->writes ? (double)took.passes : 1;
    }
    if (profile && own && st == ZAMBA_OK) {
        zamba_model_profile(b->model, 1);
        st = pass(b, t, t->writes && t->n > PROFILED_TOKENS ? PROFILED_TOKENS : t->n, PROMPT_PIECE, &took, err);
        take_profile(b, t, &took);
    }
    t->barriers = passes > 0 ? barriers / passes : 0;
    bench_statistics(t->rates, repetitions, &t->mean, &t->deviation);
    if (t->writes) /* the i-th token reads the keys and values of those before it and adds its own */
        t->bytes = (double)b->info.bytes_per_token +
                   tokens * (2.0 * (double)b->memory.state_per_sequence +
                             (double)b->memory.kv_per_token * (length + ((double)t->n - 1) / 2 + 1));
    b->steps = b->limit; /* what was estimated, whatever the passes counted */
    progress_update(&b->bar, b->steps);
    return st;
}

static int prepare(bench *b)
{
    const size_t room = b->deepest + b->longest + b->widest + 2, vocab = (size_t)b->info.vocab_size;
    uint32_t random = 1;
    b->logits = malloc(b->widest * vocab * sizeof *b->logits);
    b->ids = malloc(room * sizeof *b->ids);
    if (!b->logits || !b->ids)
        return cli_error("out of memory");
    for (size_t i = 0; i < room; i++) {
        random = random * 1664525u + 1013904223u;
        b->ids[i] = (int32_t)((random >> 8) % (uint32_t)vocab);
    }
    return 0;
}

int bench_measure(bench *b, size_t index, const char *path)
{
    bench_run *run = &b->runs[index];
    zamba_error err = {0};
    zamba_status st = ZAMBA_OK;
    cli_args args = *b->args;
    args.threads = (int64_t)run->threads;
    zamba_model_close(b->model);
    b->model = NULL;
    bench_peak_reset();
    int code = cli_model_open(&args, path, &b->model, &run->load_s);
    if (code == 0 && (zamba_model_info_get(b->model, &b->info, &err) != ZAMBA_OK ||
                      zamba_model_memory(b->model, &b->memory, &err) != ZAMBA_OK))
        code = cli_fail(&err);
    if (code == 0 && !b->ids)
        code = prepare(b);
    if (code)
        return code;
    run->n_threads = b->info.n_threads;
    static const char *const names[] = {"auto", "f32", "bf16", "int8"}; /* in the order of zamba_compute */
    b->compute = ZAMBA_COMPUTE_F32;
    for (int i = ZAMBA_COMPUTE_F32; i <= ZAMBA_COMPUTE_INT8; i++)
        if (b->info.compute && strcmp(b->info.compute, names[i]) == 0)
            b->compute = (zamba_compute)i;
    st = probe(b, run, &err);
    for (size_t i = 0; i < b->n_tests && st == ZAMBA_OK; i++) {
        if (b->tests[i].run != index)
            continue;
        st = run_test(b, &b->tests[i], &err);
        if (st == ZAMBA_OK)
            st = probe(b, run, &err);
    }
    for (size_t k = 0; k < b->widest; k++) {
        zamba_sequence_close(b->bases[k]);
        b->bases[k] = NULL;
    }
    return st == ZAMBA_OK ? 0 : cli_fail(&err);
}
