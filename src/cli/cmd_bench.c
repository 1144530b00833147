/* cmd_bench.c — `zamba bench`: tokens per second for reading and for writing, beside the memory bandwidth that a plain
 * read loop reaches in the same run. A written token reads every weight it uses once and the sequence's state twice (in
 * and out), so bytes per token divided by the bandwidth bounds its time from below. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "commands.h"
#include "progress.h"

enum { MOST_TESTS = 64, LONGEST = 1 << 20 };

typedef struct test {
    bool writes; /* one token at a time; else a prompt at once */
    size_t n;
    double *rates, mean, deviation; /* tokens per second */
    double bytes;                   /* that one written token moves: weights, state in and out, KV in */
} test;

typedef struct bench {
    const cli_args *args;
    zamba_model *model;
    zamba_model_info info;
    zamba_memory_info memory;
    zamba_sequence *sequence;
    float *logits;
    int32_t *ids;
    test tests[MOST_TESTS];
    size_t n_tests, longest;
    double load_s, bandwidth; /* bytes per second, best of all probes */
    progress bar;
} bench;

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

static int add_tests(bench *b, const char *option, const char *list, bool writes)
{
    size_t *sizes = NULL, n;
    int code = cli_parse_sizes(option, list, true, &sizes, &n);
    for (size_t i = 0; code == 0 && i < n; i++) {
        if (sizes[i] == 0)
            continue;
        if (sizes[i] > LONGEST || b->n_tests == MOST_TESTS) {
            cli_error("%s: wanted at most %d numbers up to %d", option, MOST_TESTS, LONGEST);
            code = cli_hint(b->args->command);
            break;
        }
        test *t = &b->tests[b->n_tests++];
        *t = (test){.writes = writes, .n = sizes[i]};
        t->rates = calloc((size_t)b->args->repetitions, sizeof *t->rates);
        if (!t->rates)
            code = cli_error("out of memory");
        b->longest = sizes[i] > b->longest ? sizes[i] : b->longest;
    }
    free(sizes);
    return code;
}

static zamba_status probe(bench *b, zamba_error *err)
{
    /* as much as the model's weights, but more than any cache and not so much that it disturbs */
    const uint64_t low = 64u << 20, high = 256u << 20, weights = b->info.weight_bytes;
    double found = 0;
    const zamba_status st = zamba_probe_read((size_t)(weights < low    ? low
                                                      : weights > high ? high
                                                                       : weights),
                                             b->info.n_threads, 3, &found, err);
    b->bandwidth = found > b->bandwidth ? found : b->bandwidth;
    return st;
}

/* One pass of a test; its seconds in *took. */
static zamba_status pass(bench *b, const test *t, double *took, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    zamba_batch_item item = {b->sequence, b->ids, t->n, ZAMBA_LOGITS_LAST, b->logits};
    zamba_sequence_reset(b->sequence);
    if (t->writes) { /* the first token only opens the sequence */
        item.n_tokens = 1;
        st = zamba_forward(b->model, &item, 1, NULL, err);
    }
    const double start = cli_now();
    for (size_t i = 0; i < (t->writes ? t->n : 1) && st == ZAMBA_OK; i++) {
        if (t->writes)
            item.tokens = b->ids + 1 + i;
        st = zamba_forward(b->model, &item, 1, NULL, err);
    }
    *took = cli_now() - start;
    return st;
}

static zamba_status run_test(bench *b, test *t, size_t *steps, zamba_error *err)
{
    double took;
    zamba_status st = pass(b, t, &took, err); /* warms up: pages of the files, KV pages, caches */
    for (size_t i = 0; i < (size_t)b->args->repetitions && st == ZAMBA_OK; i++) {
        st = pass(b, t, &took, err);
        t->rates[i] = (double)t->n / (took > 1e-9 ? took : 1e-9);
        progress_update(&b->bar, ++*steps);
    }
    bench_statistics(t->rates, (size_t)b->args->repetitions, &t->mean, &t->deviation);
    t->bytes = (double)b->info.bytes_per_token + 2.0 * (double)b->memory.state_per_sequence +
               (double)b->memory.kv_per_token * (double)(t->n + 1) / 2;
    return st;
}

static int measure(bench *b)
{
    zamba_error err = {0};
    const size_t room = b->longest + 1, vocab = (size_t)b->info.vocab_size;
    size_t steps = 0;
    b->logits = malloc(vocab * sizeof *b->logits);
    b->ids = malloc(room * sizeof *b->ids);
    if (!b->logits || !b->ids)
        return cli_error("out of memory");
    uint32_t random = 1;
    for (size_t i = 0; i < room; i++) {
        random = random * 1664525u + 1013904223u;
        b->ids[i] = (int32_t)((random >> 8) % (uint32_t)vocab);
    }
    progress_begin(&b->bar, (int)b->args->progress, (int)b->args->color, "measuring", "passes",
                   b->n_tests * (size_t)b->args->repetitions);
    zamba_status st = zamba_sequence_open(&b->sequence, b->model, room, &err);
    if (st == ZAMBA_OK)
        st = probe(b, &err);
    for (size_t i = 0; i < b->n_tests && st == ZAMBA_OK; i++) {
        st = run_test(b, &b->tests[i], &steps, &err);
        if (st == ZAMBA_OK)
            st = probe(b, &err);
    }
    progress_end(&b->bar);
    return st == ZAMBA_OK ? 0 : cli_fail(&err);
}

/* ---- The report ---- */

static double bytes_per_second(const test *t)
{
    return t->bytes * t->mean;
}

static const char *test_name(const test *t, char *out, size_t n)
{
    snprintf(out, n, "%s %zu", t->writes ? "write" : "prompt", t->n);
    return out;
}

static void report_md(const bench *b)
{
    char a[32], c[32], name[48];
    const zamba_model_info *i = &b->info;
    out_format("%s: %s, %s parameters, %s of %s; %s kernels, %d threads; loaded in %.3f s\n\n", i->path, i->family,
               cli_count((double)i->n_params, a), cli_bytes((double)i->weight_bytes, c), i->dtype, i->kernels,
               i->n_threads, b->load_s);
    out_text("| test         |          tokens/s |       GB/s | of bandwidth |\n"
             "| :----------- | ----------------: | ---------: | -----------: |\n");
    for (size_t k = 0; k < b->n_tests; k++) {
        const test *t = &b->tests[k];
        out_format("| %-12s | %8.2f ± %6.2f | ", test_name(t, name, sizeof name), t->mean, t->deviation);
        if (t->writes)
            out_format("%10.2f | %11.1f%% |\n", bytes_per_second(t) / 1e9,
                       b->bandwidth > 0 ? 100 * bytes_per_second(t) / b->bandwidth : 0);
        else
            out_text("           |              |\n");
    }
    out_format("\nread bandwidth: %.2f GB/s by a plain loop on %d threads in the same run\n", b->bandwidth / 1e9,
               i->n_threads);
    out_format("GB/s: a written token reads %s of weights, and reads and writes %s of state\n",
               cli_bytes((double)i->bytes_per_token, a), cli_bytes((double)b->memory.state_per_sequence, c));
}

static void csv_text(const char *text)
{
    out_text("\"");
    for (; *text; text++) {
        out_bytes(text, 1);
        if (*text == '"')
            out_text("\"");
    }
    out_text("\"");
}

static void report_csv(const bench *b)
{
    out_text("model,family,dtype,kernels,threads,parameters,weight_bytes,load_s,test,n,repetitions,tokens_per_second,"
             "stddev,bytes_per_token,bytes_per_second,read_bandwidth,bandwidth_fraction\n");
    for (size_t k = 0; k < b->n_tests; k++) {
        const test *t = &b->tests[k];
        csv_text(b->info.path);
        out_format(",%s,%s,%s,%d,%llu,%llu,%.6f,%s,%zu,%lld,%.4f,%.4f,", b->info.family, b->info.dtype, b->info.kernels,
                   b->info.n_threads, (unsigned long long)b->info.n_params, (unsigned long long)b->info.weight_bytes,
                   b->load_s, t->writes ? "write" : "prompt", t->n, (long long)b->args->repetitions, t->mean,
                   t->deviation);
        if (t->writes)
            out_format("%.0f,%.0f,%.0f,%.4f\n", t->bytes, bytes_per_second(t), b->bandwidth,
                       b->bandwidth > 0 ? bytes_per_second(t) / b->bandwidth : 0);
        else
            out_format(",,%.0f,\n", b->bandwidth);
    }
}

static int report_json(const bench *b)
{
    json_t *list = json_array();
    for (size_t k = 0; k < b->n_tests; k++) {
        const test *t = &b->tests[k];
        json_t *rates = json_array();
        for (size_t i = 0; i < (size_t)b->args->repetitions; i++)
            json_array_append_new(rates, json_real(cli_round(t->rates[i], 4)));
        json_t *entry = json_pack("{s:s, s:I, s:f, s:f, s:o}", "test", t->writes ? "write" : "prompt", "n",
                                  (json_int_t)t->n, "tokens_per_second", cli_round(t->mean, 4), "stddev",
                                  cli_round(t->deviation, 4), "samples", rates);
        if (entry && t->writes) {
            json_object_set_new(entry, "bytes_per_token", json_real(t->bytes));
            json_object_set_new(entry, "bytes_per_second", json_real(cli_round(bytes_per_second(t), 0)));
            json_object_set_new(entry, "bandwidth_fraction",
                                json_real(cli_round(b->bandwidth > 0 ? bytes_per_second(t) / b->bandwidth : 0, 5)));
            json_object_set_new(
                entry, "bandwidth_fraction_weights_only",
                json_real(
                    cli_round(b->bandwidth > 0 ? (double)b->info.bytes_per_token * t->mean / b->bandwidth : 0, 5)));
        }
        json_array_append_new(list, entry);
    }
    return out_json(json_pack("{s:o, s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:s, s:o}", "model",
                              cli_json_text(b->info.path, strlen(b->info.path)), "family", b->info.family, "dtype",
                              b->info.dtype, "kernels", b->info.kernels, "threads", (int)b->info.n_threads,
                              "parameters", (json_int_t)b->info.n_params, "weight_bytes",
                              (json_int_t)b->info.weight_bytes, "weight_bytes_per_token",
                              (json_int_t)b->info.bytes_per_token, "state_bytes",
                              (json_int_t)b->memory.state_per_sequence, "load_s", cli_round(b->load_s, 6),
                              "read_bandwidth", cli_round(b->bandwidth, 0), "repetitions",
                              (json_int_t)b->args->repetitions, "version", zamba_version(), "tests", list),
                    2)
               ? 0
               : 1;
}

int cmd_bench(const cli_args *args)
{
    bench b = {.args = args, .info = {.size = sizeof b.info}, .memory = {.size = sizeof b.memory}};
    zamba_error err = {0};
    size_t used = 0;
    if (args->words.n > 0 && strcmp(args->words.items[0], "tokenizer") == 0) {
        cli_args rest = *args;
        rest.words.items++;
        rest.words.n--;
        return bench_tokenizer(&rest);
    }
    int code = add_tests(&b, "--n-prompt", args->bench_prompt ? args->bench_prompt : "128", false);
    if (code == 0)
        code = add_tests(&b, "--n-gen", args->bench_gen ? args->bench_gen : "32", true);
    if (code == 0 && b.n_tests == 0) {
        cli_error("nothing to measure: --n-prompt and --n-gen are both 0");
        code = cli_hint(args->command);
    }
    char *path = code == 0 ? cli_model_path(args, &used) : NULL;
    if (code == 0)
        code = path ? cli_no_more_words(args, used) : 1;
    if (code == 0)
        code = cli_model_open(args, path, &b.model, &b.load_s);
    if (code == 0 && (zamba_model_info_get(b.model, &b.info, &err) != ZAMBA_OK ||
                      zamba_model_memory(b.model, &b.memory, &err) != ZAMBA_OK))
        code = cli_fail(&err);
    if (code == 0)
        code = measure(&b);
    if (code == 0 && args->bench_format == BENCH_JSON)
        code = report_json(&b);
    else if (code == 0 && args->bench_format == BENCH_CSV)
        report_csv(&b);
    else if (code == 0)
        report_md(&b);
    for (size_t i = 0; i < b.n_tests; i++)
        free(b.tests[i].rates);
    zamba_sequence_close(b.sequence);
    zamba_model_close(b.model);
    free(b.logits);
    free(b.ids);
    free(path);
    return code;
}
