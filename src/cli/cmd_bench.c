/* cmd_bench.c — `zamba bench`: reads the lists of the command line and lays out the tests. They are run in
 * bench_measure.c and told about in bench_report.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "commands.h"

enum { MOST = 256, LONGEST = 1 << 20 };

typedef struct sizes {
    size_t *items, n;
} sizes;

void bench_statistics(const double *x, size_t n, double *mean, double *deviation)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    *mean = n ? sum / (double)n : 0;
    for (size_t i = 0; i < n; i++)
        square += (x[i] - *mean) * (x[i] - *mean);
    *deviation = n > 1 ? sqrt(square / (double)(n - 1)) : 0;
}

static int read_list(const bench *b, sizes *out, const char *option, const char *text, size_t least, size_t most)
{
    int code = cli_parse_sizes(option, text, true, &out->items, &out->n);
    for (size_t i = 0; code == 0 && i < out->n; i++) {
        if (out->items[i] < least || out->items[i] > most || i == MOST) {
            cli_error("%s: found '%s', wanted at most %d numbers from %zu to %zu", option, text, MOST, least, most);
            code = cli_hint(b->args->command);
        }
    }
    return code;
}

static int by_size(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

static void add_test(bench *b, bench_test t)
{
    if (t.n == 0)
        return;
    b->longest = t.n > b->longest ? t.n : b->longest;
    b->deepest = t.depth > b->deepest ? t.depth : b->deepest;
    b->widest = t.batch > b->widest ? t.batch : b->widest;
    b->tests[b->n_tests++] = t;
}

/* All tests, in the order in which they run: by threads, by depth, prompts first. */
static int lay_out(bench *b)
{
    const cli_args *a = b->args;
    sizes prompts = {0}, gens = {0}, depths = {0}, batches = {0}, threads = {0};
    int code = read_list(b, &prompts, "--n-prompt", a->bench_prompt ? a->bench_prompt : "128,512", 0, LONGEST);
    if (code == 0)
        code = read_list(b, &gens, "--n-gen", a->bench_gen ? a->bench_gen : "32", 0, LONGEST);
    if (code == 0)
        code = read_list(b, &depths, "--depth", a->bench_depth ? a->bench_depth : "0", 0, LONGEST);
    if (code == 0)
        code = read_list(b, &batches, "--batch", a->bench_batch ? a->bench_batch : "1", 1, BENCH_WIDEST);
    if (code == 0)
        code = a->bench_threads ? read_list(b, &threads, "--threads", a->bench_threads, 0, SIZE_MAX) : 0;
    for (size_t i = 0; code == 0 && i < threads.n; i++) {
        char text[32];
        int64_t fits;
        snprintf(text, sizeof text, "%zu", threads.items[i]);
        code = cli_threads(a->command, "--threads", text, &fits);
    }
    const size_t n_runs = threads.n ? threads.n : 1;
    if (code == 0) {
        qsort(depths.items, depths.n, sizeof *depths.items, by_size); /* a deeper context goes on from the one before */
        b->tests = calloc(n_runs * depths.n * (prompts.n + gens.n * batches.n) + 1, sizeof *b->tests);
        b->runs = calloc(n_runs, sizeof *b->runs);
        b->widest = 1;
        if (!b->tests || !b->runs)
            code = cli_error("out of memory");
    }
    for (size_t r = 0; code == 0 && r < n_runs; r++) {
        b->runs[b->n_runs++].threads = threads.n ? threads.items[r] : 0;
        for (size_t d = 0; d < depths.n; d++) {
            for (size_t i = 0; i < prompts.n; i++)
                add_test(b, (bench_test){.n = prompts.items[i], .depth = depths.items[d], .batch = 1, .run = r});
            for (size_t k = 0; k < batches.n; k++)
                for (size_t i = 0; i < gens.n; i++)
                    add_test(b, (bench_test){.writes = true,
                                             .n = gens.items[i],
                                             .depth = depths.items[d],
                                             .batch = batches.items[k],
                                             .run = r});
        }
    }
    if (code == 0 && b->n_tests == 0) {
        cli_error("nothing to measure: --n-prompt and --n-gen are both 0");
        code = cli_hint(a->command);
    }
    for (size_t i = 0; code == 0 && i < b->n_tests; i++) {
        b->tests[i].rates = calloc((size_t)a->repetitions, sizeof *b->tests[i].rates);
        if (!b->tests[i].rates)
            code = cli_error("out of memory");
    }
    free(prompts.items);
    free(gens.items);
    free(depths.items);
    free(batches.items);
    free(threads.items);
    return code;
}

static size_t all_steps(const bench *b)
{
    size_t steps = 0, deepest = 0;
    for (size_t i = 0; i < b->n_tests; i++) {
        steps += bench_steps(b, &b->tests[i]);
        deepest = b->tests[i].depth > deepest ? b->tests[i].depth : deepest;
    }
    return steps + b->n_runs * bench_fill_steps(deepest);
}

int cmd_bench(const cli_args *args)
{
    bench b = {.args = args, .info = {.size = sizeof b.info}, .memory = {.size = sizeof b.memory}};
    size_t used = 0;
    static const struct {
        const char *name;
        int (*run)(const cli_args *args);
    } others[] = {{"tokenizer", bench_tokenizer}, {"train", bench_train}, {"serve", bench_serve}};
    for (size_t i = 0; args->words.n > 0 && i < sizeof others / sizeof *others; i++) {
        cli_args rest = *args;
        if (strcmp(args->words.items[0], others[i].name) != 0)
            continue;
        rest.words.items++;
        rest.words.n--;
        return others[i].run(&rest);
    }
    int code = lay_out(&b);
    char *path = code == 0 ? cli_model_path(args, &used) : NULL;
    if (code == 0)
        code = path ? cli_no_more_words(args, used) : 1;
    if (code == 0) {
        b.bases = calloc(b.widest, sizeof(zamba_sequence *));
        if (!b.bases)
            code = cli_error("out of memory");
        progress_begin(&b.bar, (int)args->progress, (int)args->color, "measuring", "steps", all_steps(&b));
    }
    for (size_t r = 0; code == 0 && r < b.n_runs; r++)
        code = bench_measure(&b, r, path);
    progress_end(&b.bar);
    if (code == 0)
        code = bench_report(&b);
    for (size_t i = 0; i < b.n_tests; i++)
        free(b.tests[i].rates);
    zamba_model_close(b.model);
    free(b.bases);
    free(b.tests);
    free(b.runs);
    free(b.logits);
    free(b.ids);
    free(path);
    return code;
}
