/* cmd_bench_serve.c — `zamba bench serve`: what clients of `zamba serve` get when 1, 2, 4, ... of them ask at the same
 * time. The server is the program itself in a process of its own, asked over HTTP on loopback, so that everything
 * counts: queue, scheduler, sampling, JSON, sockets, and the client that takes its share of the cores, too. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "bench.h"
#include "bench_client.h"
#include "commands.h"

enum { MOST_LEVELS = 32, PROMPT = 16, ANSWER = 32 };

typedef struct level {
    size_t batch;
    double *rates, mean, deviation; /* [repetitions] tokens per second of all answers while all are written */
    double whole;                   /* best of the same with the prompts and the unequal ends               */
    double *gaps, *firsts;          /* seconds between two tokens while all write; to the first token       */
    size_t n_gaps, n_firsts;
} level;

typedef struct serving_bench {
    const cli_args *args;
    pid_t pid;
    int port;
    json_t *props; /* of the server: what its model is */
    size_t n_prompt, n_answer, vocab, seed;
    level levels[MOST_LEVELS];
    size_t n_levels, widest;
    progress bar;
    size_t done;
} serving_bench;

/* ---- the server ---- */

/* The server's process: its first line goes into the pipe. */
static void serve(const serving_bench *b, const cli_args *args, int to)
{
    cli_args mine = *args;
#if defined(__linux__)
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    mine.json = true;
    mine.verbose = false;
    mine.serving.port = 0;
    mine.serving.no_history = true;
    mine.serving.slots = (int64_t)b->widest;
    const int code = dup2(to, STDOUT_FILENO) >= 0 ? cmd_serve(&mine) : 1;
    _exit(out_flush() ? code : 1);
}

/* The exit code of the process. */
static int stop(serving_bench *b)
{
    int status = 0;
    if (b->pid > 0) {
        kill(b->pid, SIGTERM);
        waitpid(b->pid, &status, 0);
        b->pid = -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Start it and wait for its line. */
static int start(serving_bench *b, const cli_args *args)
{
    int ends[2];
    char line[1024], why[256];
    size_t n = 0;
    ssize_t got;
    if (pipe(ends) != 0)
        return cli_error("no pipe for the server");
    b->pid = fork();
    if (b->pid == 0) {
        close(ends[0]);
        serve(b, args, ends[1]);
    }
    close(ends[1]);
    while (b->pid > 0 && n + 1 < sizeof line && (got = read(ends[0], line + n, sizeof line - 1 - n)) > 0) {
        n += (size_t)got;
        if (memchr(line, '\n', n))
            break;
    }
    close(ends[0]);
    json_t *o = n > 0 ? cli_json_parse(line, n, why, sizeof why) : NULL;
    b->port = (int)json_integer_value(json_object_get(o, "port"));
    json_decref(o);
    if (b->pid < 0)
        return cli_error("no process for the server");
    if (b->port == 0) { /* it has said why */
        const int code = stop(b);
        return code ? code : 1;
    }
    b->props = bench_get(b->port, "/props");
    const json_t *model = json_array_get(json_object_get(b->props, "models"), 0);
    b->vocab = (size_t)json_integer_value(json_object_get(model, "n_vocab"));
    return b->vocab > 4 ? 0 : cli_error("the server does not say what its model is");
}

/* ---- requests ---- */

/* Random ids, another prompt for each request: nothing of it was read before. Released with free(). */
static char *request(serving_bench *b, size_t n_answer)
{
    json_t *ids = json_array();
    uint64_t x = ++b->seed * 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < b->n_prompt; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        json_array_append_new(ids, json_integer((json_int_t)(3 + (x >> 33) % (b->vocab - 3))));
    }
    json_t *o = json_pack("{s:o, s:I, s:I, s:b, s:b, s:i, s:{s:b}}", "prompt", ids, "max_tokens", (json_int_t)n_answer,
                          "seed", (json_int_t)b->seed, "stream", 1, "ignore_eos", 1, "logprobs", 0, "stream_options",
                          "include_usage", 1);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

/* The more requests, the later the last of them has read its prompt, with all others writing meanwhile. */
static size_t answer_of(const serving_bench *b, size_t batch)
{
    return b->n_answer * (batch > 8 ? batch / 8 : 1);
}

static int ask(serving_bench *b, size_t batch, size_t n_answer, bench_stream *streams)
{
    int code = 0;
    char **bodies = calloc(batch, sizeof *bodies);
    for (size_t i = 0; bodies && i < batch; i++)
        if (!(bodies[i] = request(b, n_answer)))
            code = 1;
    code = bodies && code == 0 ? bench_streams(b->port, bodies, batch, streams) : cli_error("out of memory");
    for (size_t i = 0; bodies && i < batch; i++)
        free(bodies[i]);
    free(bodies);
    b->done += n_answer;
    progress_update(&b->bar, b->done);
    return code;
}

/* ---- what they tell ---- */

/* Between the moment when every answer has its first token and the one when the first of them is whole, all are
 * written: that is the batch that was asked for. */
static int note(level *l, size_t repetition, const bench_stream *s)
{
    double from = 0, to = INFINITY, begun = INFINITY, over = 0;
    size_t all = 0, within = 0;
    for (size_t i = 0; i < l->batch; i++) {
        if (s[i].n_tokens < 2)
            return cli_error("an answer has %zu tokens, wanted two at least", s[i].n_tokens);
        const double last = s[i].came[s[i].n_tokens - 1];
        from = fmax(from, s[i].came[0]);
        to = fmin(to, last);
        begun = fmin(begun, s[i].sent);
        over = fmax(over, last);
        l->firsts[l->n_firsts++] = s[i].came[0] - s[i].sent;
    }
    for (size_t i = 0; i < l->batch; i++) {
        all += s[i].n_tokens;
        for (size_t k = 1; k < s[i].n_tokens; k++) {
            if (s[i].came[k] <= from || s[i].came[k] > to)
                continue;
            within++;
            if (s[i].came[k - 1] >= from)
                l->gaps[l->n_gaps++] = s[i].came[k] - s[i].came[k - 1];
        }
    }
    if (within < 4 * l->batch)
        return cli_error("%zu answers were never written at the same time for long enough: longer answers (-n), or "
                         "shorter prompts (-p)",
                         l->batch);
    l->rates[repetition] = (double)within / (to - from);
    l->whole = fmax(l->whole, (double)all / (over - begun));
    return 0;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Of a sorted list: the least value that at least the share of all does not exceed. */
static double quantile(const double *x, size_t n, double share)
{
    const size_t i = (size_t)ceil(share * (double)n);
    return n ? x[i > 0 ? i - 1 : 0] : 0;
}

static int measure(serving_bench *b, level *l)
{
    const size_t repetitions = (size_t)b->args->repetitions, n_answer = answer_of(b, l->batch);
    bench_stream *streams = calloc(l->batch, sizeof *streams);
    l->rates = calloc(repetitions, sizeof *l->rates);
    l->gaps = calloc(repetitions * l->batch * n_answer, sizeof *l->gaps);
    l->firsts = calloc(repetitions * l->batch, sizeof *l->firsts);
    int code = streams && l->rates && l->gaps && l->firsts ? 0 : cli_error("out of memory");
    for (size_t i = 0; i < repetitions && code == 0; i++) {
        code = ask(b, l->batch, n_answer, streams);
        if (code == 0)
            code = note(l, i, streams);
        for (size_t k = 0; k < l->batch; k++)
            free(streams[k].came);
    }
    if (code == 0) {
        bench_statistics(l->rates, repetitions, &l->mean, &l->deviation);
        qsort(l->gaps, l->n_gaps, sizeof *l->gaps, by_value);
        qsort(l->firsts, l->n_firsts, sizeof *l->firsts, by_value);
    }
    free(streams);
    return code;
}

/* ---- the report ---- */

typedef struct row {
    double batch, rate, deviation, best, each, ratio, whole, first, first_99, gap, gap_99;
} row;

static row row_of(const serving_bench *b, const level *l)
{
    const size_t n = (size_t)b->args->repetitions;
    const double one = b->levels[0].mean;
    row r = {.batch = (double)l->batch,
             .rate = l->mean,
             .deviation = l->deviation,
             .each = l->mean / (double)l->batch,
             .ratio = one > 0 ? l->mean / one : 0,
             .whole = l->whole,
             .first = quantile(l->firsts, l->n_firsts, 0.5),
             .first_99 = quantile(l->firsts, l->n_firsts, 0.99),
             .gap = quantile(l->gaps, l->n_gaps, 0.5),
             .gap_99 = quantile(l->gaps, l->n_gaps, 0.99)};
    for (size_t i = 0; i < n; i++)
        r.best = fmax(r.best, l->rates[i]);
    return r;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "?";
}

static int report_json(const serving_bench *b, json_t *model)
{
    json_t *list = json_array();
    for (size_t i = 0; i < b->n_levels; i++) {
        const row r = row_of(b, &b->levels[i]);
        json_t *samples = json_array();
        for (int64_t k = 0; k < b->args->repetitions; k++)
            json_array_append_new(samples, json_real(cli_round(b->levels[i].rates[k], 4)));
        json_array_append_new(
            list, json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "batch",
                            (json_int_t)b->levels[i].batch, "n_answer", (json_int_t)answer_of(b, b->levels[i].batch),
                            "tokens_per_second", cli_round(r.rate, 4), "stddev", cli_round(r.deviation, 4), "best",
                            cli_round(r.best, 4), "per_request", cli_round(r.each, 4), "ratio", cli_round(r.ratio, 4),
                            "with_prompts", cli_round(r.whole, 4), "first_token_p50_s", cli_round(r.first, 6),
                            "first_token_p99_s", cli_round(r.first_99, 6), "between_tokens_p50_s", cli_round(r.gap, 6),
                            "between_tokens_p99_s", cli_round(r.gap_99, 6), "samples", samples));
    }
    return out_json(json_pack("{s:O, s:I, s:I, s:I, s:s, s:o}", "model", model, "n_prompt", (json_int_t)b->n_prompt,
                              "n_answer", (json_int_t)b->n_answer, "repetitions", (json_int_t)b->args->repetitions,
                              "version", zamba_version(), "results", list),
                    2)
               ? 0
               : 1;
}

static int report(const serving_bench *b)
{
    json_t *model = json_array_get(json_object_get(b->props, "models"), 0);
    const char *name = text_of(model, "id");
    const int threads = (int)json_integer_value(json_object_get(model, "n_threads"));
    if (b->args->bench_format == BENCH_JSON)
        return report_json(b, model);
    const bool csv = b->args->bench_format == BENCH_CSV;
    if (csv)
        out_text("model,dtype,compute,threads,n_prompt,n_answer,repetitions,batch,tokens_per_second,stddev,best,per_"
                 "request,ratio,with_prompts,first_token_p50_s,first_token_p99_s,between_tokens_p50_s,between_tokens_"
                 "p99_s\n");
    else
        out_format(
            "%s over HTTP: %s, products in %s, %d %s; prompts of %zu tokens, answers of %zu (of more from 16 requests "
            "on); zamba %s\n\n"
            "| requests | tokens/s (mean) |  (best) | each | ratio | with prompts | first token: p50 |     p99 | "
            "between tokens: p50 |      p99 |\n"
            "| -------: | --------------: | ------: | ---: | ----: | -----------: | ---------------: | ------: | "
            "------------------: | -------: |\n",
            name, text_of(model, "dtype"), text_of(model, "compute"), threads, threads == 1 ? "thread" : "threads",
            b->n_prompt, b->n_answer, zamba_version());
    for (size_t i = 0; i < b->n_levels; i++) {
        const row r = row_of(b, &b->levels[i]);
        if (csv)
            out_format("\"%s\",%s,%s,%d,%zu,%zu,%d,%.0f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.6f,%.6f,%.6f,%.6f\n", name,
                       text_of(model, "dtype"), text_of(model, "compute"), threads, b->n_prompt,
                       answer_of(b, b->levels[i].batch), (int)b->args->repetitions, r.batch, r.rate, r.deviation,
                       r.best, r.each, r.ratio, r.whole, r.first, r.first_99, r.gap, r.gap_99);
        else
            out_format("| %8.0f | %7.1f ± %5.1f | %7.1f | %4.1f | %5.2f | %12.1f | %13.3f s | %5.3f s | %16.1f ms | "
                       "%5.1f ms |\n",
                       r.batch, r.rate, r.deviation, r.best, r.each, r.ratio, r.whole, r.first, r.first_99, 1e3 * r.gap,
                       1e3 * r.gap_99);
    }
    if (!csv)
        out_text(
            "\ntokens/s, between tokens: while all answers are being written; ratio: to the first row; with prompts: "
            "all tokens\nby all the time, from the first request to the last token.\n");
    return 0;
}

/* ---- the command line ---- */

static int read_number(const cli_args *args, const char *option, const char *text, size_t least, size_t *out)
{
    size_t *list = NULL, n = 0;
    int code = text ? cli_parse_sizes(option, text, true, &list, &n) : 0;
    if (code == 0 && text && (n != 1 || list[0] < least || list[0] > 1 << 20)) {
        cli_error("%s: found '%s', with bench serve wanted one number from %zu", option, text, least);
        code = cli_hint(args->command);
    }
    if (code == 0 && text)
        *out = list[0];
    free(list);
    return code;
}

static int read_levels(serving_bench *b)
{
    const char *text = b->args->bench_batch ? b->args->bench_batch : "1,2,4,8,16,32";
    size_t *list = NULL, n = 0;
    int code = cli_parse_sizes("--batch", text, false, &list, &n);
    for (size_t i = 0; i < n && code == 0; i++) {
        if (list[i] > BENCH_WIDEST || i == MOST_LEVELS) {
            cli_error("--batch: found '%s', wanted at most %d numbers from 1 to %d", text, MOST_LEVELS, BENCH_WIDEST);
            code = cli_hint(b->args->command);
            break;
        }
        b->levels[b->n_levels++].batch = list[i];
        b->widest = list[i] > b->widest ? list[i] : b->widest;
    }
    free(list);
    return code;
}

static int read_options(serving_bench *b, cli_args *args)
{
    int code = read_levels(b);
    if (code == 0)
        code = read_number(args, "--n-prompt", args->bench_prompt, 1, &b->n_prompt);
    if (code == 0)
        code = read_number(args, "--n-gen", args->bench_gen, 8, &b->n_answer);
    if (code == 0 && args->bench_threads)
        code = cli_threads(args->command, "--threads", args->bench_threads, &args->threads);
    if (code == 0 && args->bench_depth) {
        cli_error("--depth: not with bench serve; -p makes longer prompts");
        code = cli_hint(args->command);
    }
    if (code == 0)
        code = cli_no_more_words(args, args->model ? 0 : 1);
    return code;
}

int bench_serve(const cli_args *args)
{
    cli_args rest = *args;
    serving_bench b = {.args = args, .pid = -1, .n_prompt = PROMPT, .n_answer = ANSWER};
    int code = read_options(&b, &rest);
    if (code == 0)
        code = start(&b, &rest);
    if (code == 0) {
        bench_stream warm[1] = {{0}};
        size_t total = b.n_answer;
        for (size_t i = 0; i < b.n_levels; i++)
            total += (size_t)args->repetitions * answer_of(&b, b.levels[i].batch);
        progress_begin(&b.bar, (int)args->progress, (int)args->color, "measuring", "tokens", total);
        code = ask(&b, 1, b.n_answer, warm);
        free(warm[0].came);
        for (size_t i = 0; i < b.n_levels && code == 0; i++)
            code = measure(&b, &b.levels[i]);
        progress_end(&b.bar);
    }
    if (code == 0)
        code = report(&b);
    stop(&b);
    for (size_t i = 0; i < b.n_levels; i++) {
        free(b.levels[i].rates);
        free(b.levels[i].gaps);
        free(b.levels[i].firsts);
    }
    json_decref(b.props);
    return code;
}
