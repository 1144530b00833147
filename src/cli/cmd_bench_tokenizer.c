/* cmd_bench_tokenizer.c — `zamba bench tokenizer`: megabytes of text per second of processor time, and the time to
 * load. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "commands.h"
#include "progress.h"

enum { MOST_RUNS = 1000 };

typedef struct result {
    double load_s, encode[MOST_RUNS], decode[MOST_RUNS];
    size_t n_runs, n_bytes, n_tokens;
} result;

/* Encode and decode the text until both a second of processor time and the repetitions are over. */
static zamba_status measure(const cli_args *args, const char *path, const char *text, size_t n, result *r,
                            zamba_error *err)
{
    zamba_tokenizer *t = NULL;
    zamba_status st = ZAMBA_OK;
    const size_t least = (size_t)args->repetitions;
    double spent = 0;
    r->load_s = 1e9;
    for (int i = 0; i < 3 && st == ZAMBA_OK; i++) {
        const double start = cli_cpu();
        zamba_tokenizer_close(t);
        st = zamba_tokenizer_open(&t, path, err);
        const double took = cli_cpu() - start;
        r->load_s = took < r->load_s ? took : r->load_s;
    }
    while (st == ZAMBA_OK && r->n_runs < MOST_RUNS && (r->n_runs < least || spent < 1)) {
        int32_t *ids = NULL;
        char *back = NULL;
        size_t n_ids = 0, n_back;
        const double start = cli_cpu();
        st = zamba_tokenize(t, text, n, ZAMBA_TOKENIZE_BOS | ZAMBA_TOKENIZE_SPECIAL, &ids, &n_ids, err);
        const double middle = cli_cpu();
        if (st == ZAMBA_OK)
            st = zamba_detokenize(t, ids, n_ids, 0, &back, &n_back, err);
        const double end = cli_cpu();
        zamba_free(ids);
        zamba_free(back);
        spent += end - start;
        r->encode[r->n_runs] = (double)n / 1e6 / (middle - start > 1e-9 ? middle - start : 1e-9);
        r->decode[r->n_runs++] = (double)n / 1e6 / (end - middle > 1e-9 ? end - middle : 1e-9);
        r->n_tokens = n_ids;
    }
    r->n_bytes = n;
    zamba_tokenizer_close(t);
    return st;
}

static int report(const cli_args *args, const char *path, const char *file, const result *r)
{
    double encode, encode_sd, decode, decode_sd;
    char a[32], b[32];
    bench_statistics(r->encode, r->n_runs, &encode, &encode_sd);
    bench_statistics(r->decode, r->n_runs, &decode, &decode_sd);
    switch (args->bench_format) {
    case BENCH_JSON:
        return out_json(json_pack("{s:o, s:o, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "model",
                                  cli_json_text(path, strlen(path)), "file", cli_json_text(file, strlen(file)), "bytes",
                                  (json_int_t)r->n_bytes, "tokens", (json_int_t)r->n_tokens, "runs",
                                  (json_int_t)r->n_runs, "load_ms", cli_round(r->load_s * 1e3, 4),
                                  "tokenize_mb_per_cpu_second", cli_round(encode, 3), "tokenize_stddev",
                                  cli_round(encode_sd, 3), "detokenize_mb_per_cpu_second", cli_round(decode, 3),
                                  "detokenize_stddev", cli_round(decode_sd, 3)),
                        2)
                   ? 0
                   : 1;
    case BENCH_CSV:
        out_text("model,file,bytes,tokens,runs,load_ms,tokenize_mb_per_cpu_second,tokenize_stddev,"
                 "detokenize_mb_per_cpu_second,detokenize_stddev\n");
        out_format("%s,%s,%zu,%zu,%zu,%.3f,%.3f,%.3f,%.3f,%.3f\n", path, file, r->n_bytes, r->n_tokens, r->n_runs,
                   r->load_s * 1e3, encode, encode_sd, decode, decode_sd);
        return 0;
    default:
        out_format("tokenizer of %s, %s: %s bytes, %s tokens, %zu runs\n\n", path, file, cli_number(r->n_bytes, a),
                   cli_number(r->n_tokens, b), r->n_runs);
        out_text("| test       |   MB/s of CPU time |\n| ---------- | -----------------: |\n");
        out_format("| tokenize   | %9.2f ± %6.2f |\n| detokenize | %9.2f ± %6.2f |\n\n", encode, encode_sd, decode,
                   decode_sd);
        out_format("loaded in %.1f ms\n", r->load_s * 1e3);
        return 0;
    }
}

int bench_tokenizer(const cli_args *args)
{
    zamba_error err = {0};
    char *text = NULL;
    size_t n, used;
    result *r = calloc(1, sizeof *r);
    cli_args rest = *args;
    if (args->words.n == 0) {
        free(r);
        cli_error("bench tokenizer needs a FILE of text");
        return cli_hint(args->command);
    }
    const char *file = args->words.items[args->words.n - 1];
    rest.words.n--;
    char *path = cli_model_path(&rest, &used);
    int code = path ? cli_no_more_words(&rest, used) : 1;
    if (code == 0 && !r)
        code = cli_error("out of memory");
    if (code == 0)
        code = cli_read_file(file, (size_t)1 << 30, &text, &n);
    if (code == 0 && n == 0)
        code = cli_error("%s: is empty", file);
    if (code == 0 && measure(args, path, text, n, r, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0)
        code = report(args, path, file, r);
    free(text);
    free(path);
    free(r);
    return code;
}
