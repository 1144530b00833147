/* cmd_bench_train.c — `zamba bench train`: whole training steps (forward, backward, AdamW) on random tokens, in f32 and
 * with products in bf16, beside the peak of the machine's products probed in the same run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "commands.h"
#include "zamba_train.h"

enum { ROWS = 8, LENGTH = 256, MOST_STEPS = 1000, MOST_RESULTS = 64 };

/* What is trained where no model is named. */
static const char small[] = "{\"model_type\": \"zamba2\", \"vocab_size\": 4096, \"hidden_size\": 256, "
                            "\"num_hidden_layers\": 8, \"hybrid_layer_ids\": [2, 5], \"num_mem_blocks\": 2, "
                            "\"mamba_d_state\": 64, \"mamba_expand\": 2, \"n_mamba_heads\": 8, \"mamba_ngroups\": 1, "
                            "\"num_attention_heads\": 4, \"intermediate_size\": 1024, \"adapter_rank\": 16, "
                            "\"use_shared_attention_adapter\": false, \"use_mem_rope\": true, \"chunk_size\": 64, "
                            "\"pad_token_id\": 0, \"bos_token_id\": 1, \"eos_token_id\": 2}";

typedef struct result {
    int32_t threads, bf16;
    size_t n;
    double rates[MOST_STEPS], best, mean, deviation, flops, peak, bytes, rss; /* flops, peak: a second */
} result;

/* "folder/name", or NULL. */
static char *join(const char *folder, const char *name)
{
    const size_t n = strlen(folder) + strlen(name) + 2;
    char *path = malloc(n);
    if (path)
        snprintf(path, n, "%s/%s", folder, name);
    return path;
}

/* A folder with the small model in it, to be removed again. */
static int make_model(char **folder)
{
    const char *tmp = getenv("TMPDIR");
    char *config = NULL;
    zamba_error err = {0};
    zamba_status st = ZAMBA_OK;
    char *base = join(tmp && *tmp ? tmp : "/tmp", "zamba-bench-XXXXXX");
    int code = base && mkdtemp(base) ? 0 : cli_error("no folder for the model that is trained: TMPDIR");
    if (code == 0) {
        config = join(base, "shape.json");
        *folder = join(base, "model");
        FILE *f = config ? fopen(config, "we") : NULL;
        if (!f || !*folder || fputs(small, f) < 0 || fclose(f) != 0)
            code = cli_error("%s: cannot be written", base);
    }
    if (code == 0)
        st = zamba_model_init(config, NULL, *folder, NULL, &err);
    if (st != ZAMBA_OK)
        code = cli_fail(&err);
    if (config)
        unlink(config);
    if (code != 0 && base)
        rmdir(base);
    free(config);
    free(base);
    return code;
}

static void remove_model(const char *folder)
{
    static const char *const files[] = {"config.json", "model.safetensors", "generation_config.json"};
    char *base = strdup(folder);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = join(folder, files[i]);
        if (path)
            unlink(path);
        free(path);
    }
    rmdir(folder);
    if (base && strrchr(base, '/')) {
        *strrchr(base, '/') = '\0';
        rmdir(base);
    }
    free(base);
}

static zamba_status probe(result *r, zamba_error *err)
{
    double found = 0;
    zamba_status st =
        zamba_probe_products(r->bf16 ? ZAMBA_COMPUTE_BF16 : ZAMBA_COMPUTE_F32, r->threads, 3, &found, err);
    r->peak = st == ZAMBA_OK && found > r->peak ? found : r->peak;
    return st;
}

static zamba_status steps(const cli_args *args, zamba_trainer *t, result *r, progress *bar, size_t *done,
                          zamba_error *err)
{
    zamba_model_info info = {.size = sizeof info};
    zamba_status st = zamba_model_info_get(zamba_trainer_model(t), &info, err);
    static int32_t ids[ROWS * LENGTH + 1];
    zamba_example examples[ROWS];
    uint32_t seed = 1;
    for (size_t i = 0; i <= ROWS * LENGTH && st == ZAMBA_OK; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((seed >> 8) % (uint32_t)info.vocab_size);
    }
    for (size_t i = 0; i < ROWS; i++)
        examples[i] = (zamba_example){ids + i * LENGTH, ids + i * LENGTH + 1, LENGTH, (int32_t)i};
    const zamba_data_batch batch = {.examples = examples,
                                    .n_examples = ROWS,
                                    .n_tokens = ROWS * LENGTH,
                                    .n_targets = ROWS * LENGTH,
                                    .total_targets = ROWS * LENGTH};
    double clock[MOST_STEPS];
    for (size_t i = 0; i <= (size_t)args->repetitions && st == ZAMBA_OK; i++) {
        zamba_train_metrics m = {0};
        const double wall = cli_now(), cpu = cli_cpu();
        st = zamba_trainer_step(t, &batch, &m, err);
        const double took = r->threads == 1 ? cli_cpu() - cpu : cli_now() - wall;
        if (i > 0) /* the first one touches memory for the first time */
            clock[r->n++] = took;
        progress_update(bar, ++*done);
    }
    for (size_t i = 0; i < r->n; i++) {
        r->rates[i] = ROWS * LENGTH / clock[i];
        r->best = fmax(r->best, r->rates[i]);
    }
    bench_statistics(r->rates, r->n, &r->mean, &r->deviation);
    r->flops = 6 * (double)info.n_params_used * r->best;
    r->bytes = (double)zamba_trainer_bytes(t);
    return st;
}

static int measure(const cli_args *args, const char *path, result *r, progress *bar, size_t *done)
{
    zamba_error err = {0};
    zamba_trainer *t = NULL;
    zamba_train_options o = zamba_train_defaults();
    o.n_threads = r->threads;
    o.bf16 = r->bf16;
    o.sequence_length = LENGTH;
    o.micro_tokens = ROWS * LENGTH;
    o.total_steps = args->repetitions + 1;
    o.schedule = ZAMBA_SCHEDULE_CONSTANT;
    zamba_status st = probe(r, &err);
    bench_peak_reset();
    if (st == ZAMBA_OK)
        st = zamba_trainer_open(&t, path, &o, &err);
    if (st == ZAMBA_OK)
        st = steps(args, t, r, bar, done, &err);
    r->rss = bench_peak_rss();
    zamba_trainer_close(t);
    if (st == ZAMBA_OK)
        st = probe(r, &err);
    return st == ZAMBA_OK ? 0 : cli_fail(&err);
}

static const char *products(const result *r)
{
    return r->bf16 ? "bf16" : "f32";
}

static int report(const cli_args *args, const char *name, const result *r, size_t n)
{
    json_t *list = args->bench_format == BENCH_JSON ? json_array() : NULL;
    if (args->bench_format == BENCH_CSV)
        out_text("model,threads,products,tokens_per_second,mean,stddev,flops,peak_flops,trainer_bytes,peak_rss\n");
    else if (!list)
        out_format("training of %s: forward, backward and AdamW, %d x %d tokens\n\n"
                   "| threads | products | tokens/s (best) |    tokens/s (mean) | GFLOP/s | of the peak |   trainer | "
                   "resident |\n"
                   "| ------: | -------- | --------------: | -----------------: | ------: | ----------: | --------: | "
                   "-------: |\n",
                   name, ROWS, LENGTH);
    for (size_t i = 0; i < n; i++) {
        const double share = r[i].peak > 0 ? r[i].flops / r[i].peak : 0;
        if (list)
            json_array_append_new(list, json_pack("{s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "threads",
                                                  (int)r[i].threads, "products", products(&r[i]), "tokens_per_second",
                                                  cli_round(r[i].best, 2), "mean", cli_round(r[i].mean, 2), "stddev",
                                                  cli_round(r[i].deviation, 2), "flops", cli_round(r[i].flops, 0),
                                                  "peak_flops", cli_round(r[i].peak, 0), "trainer_bytes",
                                                  cli_round(r[i].bytes, 0), "peak_rss", cli_round(r[i].rss, 0)));
        else if (args->bench_format == BENCH_CSV)
            out_format("%s,%d,%s,%.2f,%.2f,%.2f,%.0f,%.0f,%.0f,%.0f\n", name, (int)r[i].threads, products(&r[i]),
                       r[i].best, r[i].mean, r[i].deviation, r[i].flops, r[i].peak, r[i].bytes, r[i].rss);
        else
            out_format("| %7d | %-8s | %15.0f | %9.0f ± %6.0f | %7.1f | %9.0f %% | %6.0f MB | %5.0f MB |\n",
                       (int)r[i].threads, products(&r[i]), r[i].best, r[i].mean, r[i].deviation, r[i].flops / 1e9,
                       100 * share, r[i].bytes / 1e6, r[i].rss / 1e6);
    }
    if (!list)
        return 0;
    return out_json(json_pack("{s:o, s:i, s:i, s:o}", "model", cli_json_text(name, strlen(name)), "batch_size", ROWS,
                              "sequence_length", LENGTH, "results", list),
                    2)
               ? 0
               : 1;
}

int bench_train(const cli_args *args)
{
    size_t *threads = NULL, n_threads = 0, n = 0, done = 0, used = 0;
    char *path = NULL;
    progress bar = {0};
    int code = 0;
    const int given = args->words.n > 0 || (args->model && *args->model);
    result *r = calloc(MOST_RESULTS, sizeof *r);
    if (!r)
        return cli_error("out of memory");
    if (args->repetitions >= MOST_STEPS)
        code = cli_error("--repetitions: %lld, wanted less than %d", (long long)args->repetitions, MOST_STEPS);
    if (code == 0 && args->compute == ZAMBA_COMPUTE_INT8)
        code = cli_error("--compute: training computes in f32 or bf16");
    if (code == 0 && args->bench_threads)
        code = cli_parse_sizes("--threads", args->bench_threads, true, &threads, &n_threads);
    for (size_t i = 0; code == 0 && i < (n_threads ? n_threads : 1); i++)
        for (int bf16 = 0; bf16 < 2 && code == 0; bf16++) {
            if (args->compute > ZAMBA_COMPUTE_AUTO && bf16 != (args->compute == ZAMBA_COMPUTE_BF16)) /* else both */
                continue;
            int64_t fits = zamba_cores();
            char text[32];
            snprintf(text, sizeof text, "%zu", n_threads ? threads[i] : 0);
            if (n_threads)
                code = cli_threads(args->command, "--threads", text, &fits);
            if (code == 0 && n == MOST_RESULTS)
                code = cli_error("--threads: at most %d numbers", MOST_RESULTS / 2);
            if (code == 0)
                r[n++] = (result){.threads = (int32_t)fits, .bf16 = bf16};
        }
    if (code == 0 && given)
        path = cli_model_path(args, &used);
    else if (code == 0)
        code = make_model(&path);
    if (code == 0)
        code = !path ? 1 : given ? cli_no_more_words(args, used) : 0;
    if (code == 0) {
        progress_begin(&bar, (int)args->progress, (int)args->color, "measuring", "steps",
                       n * ((size_t)args->repetitions + 1));
        for (size_t i = 0; i < n && code == 0; i++)
            code = measure(args, path, &r[i], &bar, &done);
        progress_end(&bar);
    }
    if (code == 0)
        code = report(args, given ? path : "a Zamba2 of 8 layers of 256", r, n);
    if (path && !given)
        remove_model(path);
    free(path);
    free(threads);
    free(r);
    return code;
}
