/* bench_report.c — what `zamba bench` found, as tables to read (md), as rows (csv), or whole (json).
 *
 * The md report leaves out what means nothing: work that is far from being limited by memory has no share of the
 * bandwidth there, work that is far from being limited by arithmetic no share of the products' peak, and a model that
 * fits the caches no share of the memory's bandwidth at all. csv and json keep every number. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

/* ---- What the numbers mean ---- */

typedef struct use {
    double seconds, bytes, flops;
    double bandwidth, peak; /* of the machine; 0: not known */
} use;

static double share(double amount, double seconds, double limit)
{
    return seconds > 0 && limit > 0 ? amount / seconds / limit : 0;
}

/* Is the time that the memory (or the arithmetic) needs at least a quarter of what the other needs? */
static bool bytes_matter(const use *u)
{
    const double memory = u->bandwidth > 0 ? u->bytes / u->bandwidth : 0;
    return memory > 0 && (u->peak <= 0 || memory >= u->flops / u->peak / 4);
}

static bool flops_matter(const use *u)
{
    const double arithmetic = u->peak > 0 ? u->flops / u->peak : 0;
    return arithmetic > 0 && (u->bandwidth <= 0 || arithmetic >= u->bytes / u->bandwidth / 4);
}

static double largest_cache(void)
{
    double most = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
    static const int levels[] = {_SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL4_CACHE_SIZE};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        const long found = sysconf(levels[i]);
        most = (double)found > most ? (double)found : most;
    }
#endif
    return most > 0 ? most : 32 << 20;
}

static bool fits_caches(const bench *b)
{
    return (double)b->info.bytes_per_token < 2 * largest_cache();
}

static const bench_run *run_of(const bench *b, const bench_test *t)
{
    return &b->runs[t->run];
}

static double seconds_of(const bench_test *t) /* a pass */
{
    return t->mean > 0 ? (double)(t->writes ? t->batch : t->n) / t->mean : 0;
}

static double flops_of(const bench_test *t)
{
    double sum = 0;
    for (size_t i = 0; i < t->n_ops; i++)
        sum += t->ops[i].flops;
    return t->profiled_passes > 0 ? sum / t->profiled_passes : 0;
}

static use use_of(const bench *b, const bench_test *t)
{
    return (use){seconds_of(t), t->bytes, flops_of(t), run_of(b, t)->bandwidth, run_of(b, t)->peak};
}

/* All products with weights together, of one pass. */
static use products_of(const bench *b, const bench_test *t)
{
    use u = {.bandwidth = run_of(b, t)->bandwidth, .peak = run_of(b, t)->peak};
    for (size_t i = 0; i < t->n_ops; i++) {
        if (!t->ops[i].product)
            continue;
        u.seconds += t->ops[i].seconds / t->profiled_passes;
        u.bytes += t->ops[i].bytes / t->profiled_passes;
        u.flops += t->ops[i].flops / t->profiled_passes;
    }
    return u;
}

static use op_of(const bench *b, const bench_test *t, size_t i)
{
    const zamba_op_profile *o = &t->ops[i];
    const double n = t->profiled_passes > 0 ? t->profiled_passes : 1;
    return (use){o->seconds / n, o->bytes / n, o->flops / n, run_of(b, t)->bandwidth, run_of(b, t)->peak};
}

static const char *test_name(const bench_test *t, char *out, size_t n)
{
    int used = snprintf(out, n, "%s %zu", t->writes ? "write" : "prompt", t->n);
    if (t->depth && used > 0 && (size_t)used < n)
        used += snprintf(out + used, n - (size_t)used, " at %zu", t->depth);
    if (t->batch > 1 && used > 0 && (size_t)used < n)
        snprintf(out + used, n - (size_t)used, " x %zu", t->batch);
    return out;
}

/* "AMD EPYC 9654", or "" where the system does not say. */
static void cpu_name(char *out, size_t n)
{
    char line[512];
    *out = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && !*out && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10) != 0)
            continue;
        snprintf(out, n, "%s", colon + 1 + strspn(colon + 1, " \t"));
        out[strcspn(out, "\n")] = 0;
    }
    if (f)
        fclose(f);
}

static void date_text(char *out, size_t n)
{
    const time_t now = time(NULL);
    struct tm utc;
    *out = 0;
    if (gmtime_r(&now, &utc))
        strftime(out, n, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

/* ---- md ---- */

enum { MOST_COLUMNS = 10, CELL = 64 };

/* A table whose columns are as wide as what stands in them. */
typedef struct table {
    const char *titles[MOST_COLUMNS];
    bool left[MOST_COLUMNS];
    size_t n_columns, n_rows, room;
    char (*cells)[MOST_COLUMNS][CELL];
} table;

/* The next row, its cells empty; NULL if out of memory. */
static char (*table_row(table *t))[CELL]
{
    if (t->n_rows == t->room) {
        const size_t room = t->room ? t->room * 2 : 16;
        void *larger = realloc(t->cells, room * sizeof *t->cells);
        if (!larger)
            return NULL;
        t->cells = larger;
        t->room = room;
    }
    memset(t->cells[t->n_rows], 0, sizeof *t->cells);
    return t->cells[t->n_rows++];
}

static void table_put(const char *text, size_t width, bool left)
{
    const size_t n = strlen(text);
    size_t columns = 0;
    for (size_t i = 0; i < n; i++)
        columns += ((unsigned char)text[i] & 0xC0) != 0x80;
    const int gap = (int)(width > columns ? width - columns : 0);
    if (left)
        out_format(" %s%*s |", text, gap, "");
    else
        out_format(" %*s%s |", gap, "", text);
}

static void table_write(table *t)
{
    size_t width[MOST_COLUMNS], columns;
    bool used[MOST_COLUMNS];
    for (size_t c = 0; c < t->n_columns; c++) {
        width[c] = strlen(t->titles[c]);
        used[c] = false;
        for (size_t r = 0; r < t->n_rows; r++) {
            const char *text = t->cells[r][c];
            columns = 0;
            for (size_t i = 0; text[i]; i++)
                columns += ((unsigned char)text[i] & 0xC0) != 0x80;
            width[c] = columns > width[c] ? columns : width[c];
            used[c] = used[c] || *text;
        }
    }
    for (size_t line = 0; line < t->n_rows + 2; line++) {
        out_text("|");
        for (size_t c = 0; c < t->n_columns; c++) {
            if (!used[c]) /* nothing to say in any row */
                continue;
            if (line == 0)
                table_put(t->titles[c], width[c], t->left[c]);
            else if (line == 1)
                out_format(t->left[c] ? " :%.*s |" : " %.*s: |", (int)width[c] - 1,
                           "--------------------------------------------------------------------------");
            else
                table_put(t->cells[line - 2][c], width[c], t->left[c]);
        }
        out_text("\n");
    }
    free(t->cells);
    t->cells = NULL;
    t->n_rows = t->room = 0;
}

static void seconds_cell(char *cell, double s)
{
    if (s <= 0)
        return;
    if (s >= 10)
        snprintf(cell, CELL, "%.1f s", s);
    else if (s >= 1)
        snprintf(cell, CELL, "%.2f s", s);
    else if (s >= 1e-3)
        snprintf(cell, CELL, s >= 0.1 ? "%.0f ms" : s >= 0.01 ? "%.1f ms" : "%.2f ms", s * 1e3);
    else
        snprintf(cell, CELL, s >= 1e-5 ? "%.0f us" : "%.1f us", s * 1e6);
}

static void percent_cell(char *cell, double x)
{
    if (x >= 0.0005)
        snprintf(cell, CELL, x >= 0.0995 ? "%.0f%%" : "%.1f%%", 100 * x);
}

/* GB/s, of read, GFLOP/s, of peak: each pair only where that is near the limit. */
static void limit_cells(char (*cells)[CELL], const use *u, bool cached)
{
    if (!cached && bytes_matter(u)) {
        snprintf(cells[0], CELL, "%.1f", u->bytes / u->seconds / 1e9);
        percent_cell(cells[1], share(u->bytes, u->seconds, u->bandwidth));
    }
    if (flops_matter(u)) {
        snprintf(cells[2], CELL, "%.1f", u->flops / u->seconds / 1e9);
        percent_cell(cells[3], share(u->flops, u->seconds, u->peak));
    }
}

static bool md_tests(const bench *b)
{
    table t = {{"threads", "test", "tokens/s", "time", "GB/s", "of read", "GFLOP/s", "of peak", "barriers"},
               {false, true},
               9,
               0,
               0,
               NULL};
    for (size_t i = 0; i < b->n_tests; i++) {
        const bench_test *test = &b->tests[i];
        char(*row)[CELL] = table_row(&t);
        if (!row) {
            free(t.cells);
            return false;
        }
        snprintf(row[0], CELL, "%d", run_of(b, test)->n_threads);
        test_name(test, row[1], CELL);
        snprintf(row[2], CELL, "%.2f ± %.2f", test->mean, test->deviation);
        seconds_cell(row[3], seconds_of(test));
        const use u = use_of(b, test);
        limit_cells(&row[4], &u, fits_caches(b));
        if (test->barriers > 0)
            snprintf(row[8], CELL, "%.0f", test->barriers);
    }
    table_write(&t);
    return true;
}

static bool md_runs(const bench *b)
{
    table t = {{"threads", "opened in", "read", "peak of products", "most memory"}, {false}, 5, 0, 0, NULL};
    for (size_t i = 0; i < b->n_runs; i++) {
        const bench_run *run = &b->runs[i];
        char(*row)[CELL] = table_row(&t), text[32];
        if (!row) {
            free(t.cells);
            return false;
        }
        snprintf(row[0], CELL, "%d", run->n_threads);
        seconds_cell(row[1], run->load_s);
        snprintf(row[2], CELL, "%.1f GB/s", run->bandwidth / 1e9);
        if (run->peak > 0)
            snprintf(row[3], CELL, "%.1f GFLOP/s", run->peak / 1e9);
        if (run->peak_rss > 0)
            snprintf(row[4], CELL, "%s", cli_bytes(run->peak_rss, text));
    }
    table_write(&t);
    return true;
}

static bool md_profile(const bench *b, const bench_test *test)
{
    table t = {{"operation", "time", "share", "bytes", "GB/s", "of read", "GFLOP/s", "of peak"}, {true}, 8, 0, 0, NULL};
    const use products = products_of(b, test);
    const double total = test->profiled_s / test->profiled_passes;
    double left = total;
    char name[CELL], text[32];
    for (size_t i = 0; i <= test->n_ops + 1; i++) {
        const bool op = i < test->n_ops;
        use u = {0};
        if (op) {
            u = op_of(b, test, i);
            left -= u.seconds;
            if (test->ops[i].calls == 0)
                continue;
        } else if (i == test->n_ops) {
            u.seconds = left;
        } else {
            u = products;
        }
        if (u.seconds <= 0)
            continue;
        char(*row)[CELL] = table_row(&t);
        if (!row) {
            free(t.cells);
            return false;
        }
        snprintf(row[0], CELL, "%s", op ? test->ops[i].name : i == test->n_ops ? "between them" : "all products");
        seconds_cell(row[1], u.seconds);
        if (total > 0)
            snprintf(row[2], CELL, "%.1f%%", 100 * u.seconds / total);
        if (u.bytes > 0)
            snprintf(row[3], CELL, "%s", cli_bytes(u.bytes, text));
        limit_cells(&row[4], &u, fits_caches(b));
    }
    out_format("\n%s, %d %s: %s\n\n", test_name(test, name, sizeof name), run_of(b, test)->n_threads,
               run_of(b, test)->n_threads == 1 ? "thread" : "threads",
               test->writes ? "where the time of a token goes" : "where the time goes");
    table_write(&t);
    return true;
}

static int report_md(const bench *b)
{
    char a[32], c[32], cpu[128], date[32];
    const zamba_model_info *i = &b->info;
    const long cores = (long)zamba_cores();
    bool writes = false, fine;
    cpu_name(cpu, sizeof cpu);
    date_text(date, sizeof date);
    for (size_t k = 0; k < b->n_tests; k++)
        writes = writes || b->tests[k].writes;
    out_format("%s: %s, %s parameters, %s of %s\n", i->path, i->family, cli_count((double)i->n_params, a),
               cli_bytes((double)i->weight_bytes, c), i->dtype);
    out_format("%s kernels, products in %s, keys in %s, values in %s; zamba %s\n", i->kernels, i->compute, i->kv_k,
               i->kv_v, zamba_version());
    out_format("%s%s%ld %s, %s\n\n", cpu, *cpu ? ", " : "", cores, cores == 1 ? "core" : "cores", date);
    fine = md_tests(b);
    out_text("\n");
    fine = fine && md_runs(b);
    out_text(
        "\ntime: of a whole prompt, or of one step of writing. of read, of peak: against a loop that only reads and "
        "one that only\nmultiplies, on as many threads in the same run; barriers: how often a step waits for all "
        "threads.\n");
    if (writes)
        out_format("A written token reads %s of weights, reads and writes %s of state, and reads %s of keys and values "
                   "for\neach token before it.\n",
                   cli_bytes((double)i->bytes_per_token, a), cli_bytes((double)b->memory.state_per_sequence, c),
                   cli_bytes((double)b->memory.kv_per_token, date));
    if (fits_caches(b))
        out_text("The model fits the caches: shares of the memory's bandwidth are left out.\n");
    for (size_t k = 0; fine && k < b->n_tests; k++)
        if (b->tests[k].n_ops)
            fine = md_profile(b, &b->tests[k]);
    return fine ? 0 : cli_error("out of memory");
}

/* ---- csv: one row a test; behind it one row for each of its operations, named in the column `operation` ---- */

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

static void csv_row(const bench *b, const bench_test *t, const char *operation, const use *u)
{
    const bench_run *run = run_of(b, t);
    const zamba_model_info *i = &b->info;
    csv_text(i->path);
    out_format(",%s,%s,%s,%s,%s,%s,%d,%llu,%llu,%.6f,%s,%zu,%zu,%zu,%s,%lld,", i->family, i->dtype, i->kernels,
               i->compute, i->kv_k, i->kv_v, run->n_threads, (unsigned long long)i->n_params,
               (unsigned long long)i->weight_bytes, run->load_s, t->writes ? "write" : "prompt", t->n, t->depth,
               t->batch, operation, (long long)b->args->repetitions);
    if (*operation)
        out_text(",,,");
    else
        out_format("%.4f,%.4f,%.1f,", t->mean, t->deviation, t->barriers);
    out_format("%.9f,%.0f,%.0f,%.0f,%.4f,%.0f,%.4f,%.0f\n", u->seconds, u->bytes, u->flops, run->bandwidth,
               share(u->bytes, u->seconds, u->bandwidth), run->peak, share(u->flops, u->seconds, u->peak),
               run->peak_rss);
}

static int report_csv(const bench *b)
{
    out_text("model,family,dtype,kernels,compute,kv_k,kv_v,threads,parameters,weight_bytes,load_s,test,n,depth,batch,"
             "operation,repetitions,tokens_per_second,stddev,barriers,seconds,bytes,flops,read_bandwidth,"
             "bandwidth_fraction,products_peak,peak_fraction,peak_rss\n");
    for (size_t k = 0; k < b->n_tests; k++) {
        const bench_test *t = &b->tests[k];
        const use whole = use_of(b, t);
        csv_row(b, t, "", &whole);
        for (size_t i = 0; i < t->n_ops; i++) {
            const use u = op_of(b, t, i);
            csv_row(b, t, t->ops[i].name, &u);
        }
    }
    return 0;
}

/* ---- json ---- */

static void put(json_t *o, const char *key, double x, int digits)
{
    json_object_set_new(o, key, json_real(cli_round(x, digits)));
}

static void put_count(json_t *o, const char *key, uint64_t x)
{
    json_object_set_new(o, key, json_integer((json_int_t)x));
}

static void put_text(json_t *o, const char *key, const char *text)
{
    json_object_set_new(o, key, cli_json_text(text ? text : "", text ? strlen(text) : 0));
}

static void put_use(json_t *o, const use *u)
{
    put(o, "bytes", u->bytes, 0);
    put(o, "flops", u->flops, 0);
    put(o, "bandwidth_fraction", share(u->bytes, u->seconds, u->bandwidth), 5);
    put(o, "peak_fraction", share(u->flops, u->seconds, u->peak), 5);
}

static json_t *json_test(const bench *b, const bench_test *t)
{
    json_t *o = json_object(), *rates = json_array(), *ops = json_array();
    const bench_run *run = run_of(b, t);
    const use whole = use_of(b, t), products = products_of(b, t);
    put_text(o, "test", t->writes ? "write" : "prompt");
    put_count(o, "n", t->n);
    put_count(o, "depth", t->depth);
    put_count(o, "batch", t->batch);
    put_count(o, "threads", (uint64_t)run->n_threads);
    put(o, "tokens_per_second", t->mean, 4);
    put(o, "stddev", t->deviation, 4);
    put(o, "seconds", seconds_of(t), 9);
    if (t->cpu_rate > 0)
        put(o, "tokens_per_cpu_second", t->cpu_rate, 4);
    put(o, "barriers", t->barriers, 1);
    for (size_t i = 0; i < (size_t)b->args->repetitions; i++)
        json_array_append_new(rates, json_real(cli_round(t->rates[i], 4)));
    json_object_set_new(o, "samples", rates);
    if (t->writes) {
        put(o, "bytes_per_token", t->bytes / (double)t->batch, 0);
        put(o, "bytes_per_second", whole.seconds > 0 ? t->bytes / whole.seconds : 0, 0);
        put(o, "bandwidth_fraction", share(t->bytes, whole.seconds, run->bandwidth), 5);
        put(o, "bandwidth_fraction_weights_only", share((double)b->info.bytes_per_token, whole.seconds, run->bandwidth),
            5);
    }
    if (t->n_ops) {
        put(o, "flops", whole.flops, 0);
        put(o, "peak_fraction", share(whole.flops, whole.seconds, whole.peak), 5);
        json_t *p = json_object();
        put(p, "seconds", products.seconds, 9);
        put_use(p, &products);
        json_object_set_new(o, "products", p);
        put(o, "profiled_seconds", t->profiled_s / t->profiled_passes, 9);
    }
    for (size_t i = 0; i < t->n_ops; i++) {
        const use u = op_of(b, t, i);
        json_t *entry = json_object();
        put_text(entry, "operation", t->ops[i].name);
        json_object_set_new(entry, "product", json_boolean(t->ops[i].product));
        put(entry, "calls", (double)t->ops[i].calls / t->profiled_passes, 2);
        put(entry, "seconds", u.seconds, 9);
        put_use(entry, &u);
        json_array_append_new(ops, entry);
    }
    json_object_set_new(o, "operations", ops);
    return o;
}

static int report_json(const bench *b)
{
    char cpu[128], date[32];
    const zamba_model_info *i = &b->info;
    json_t *o = json_object(), *runs = json_array(), *tests = json_array();
    cpu_name(cpu, sizeof cpu);
    date_text(date, sizeof date);
    put_text(o, "model", i->path);
    put_text(o, "family", i->family);
    put_text(o, "dtype", i->dtype);
    put_text(o, "kernels", i->kernels);
    put_text(o, "compute", i->compute);
    put_text(o, "kv_k", i->kv_k);
    put_text(o, "kv_v", i->kv_v);
    put_text(o, "cpu", cpu);
    put_count(o, "cores", (uint64_t)zamba_cores());
    put_text(o, "date", date);
    put_count(o, "threads", (uint64_t)b->runs[0].n_threads);
    put_count(o, "parameters", i->n_params);
    put_count(o, "weight_bytes", i->weight_bytes);
    put_count(o, "weight_bytes_per_token", i->bytes_per_token);
    put_count(o, "state_bytes", b->memory.state_per_sequence);
    put_count(o, "kv_bytes_per_token", b->memory.kv_per_token);
    put(o, "load_s", b->runs[0].load_s, 6);
    put(o, "read_bandwidth", b->runs[0].bandwidth, 0);
    put(o, "products_peak", b->runs[0].peak, 0);
    put_count(o, "repetitions", (uint64_t)b->args->repetitions);
    put_text(o, "version", zamba_version());
    for (size_t r = 0; r < b->n_runs; r++) {
        json_t *run = json_object();
        put_count(run, "threads", (uint64_t)b->runs[r].n_threads);
        put(run, "load_s", b->runs[r].load_s, 6);
        put(run, "read_bandwidth", b->runs[r].bandwidth, 0);
        put(run, "products_peak", b->runs[r].peak, 0);
        put(run, "peak_rss", b->runs[r].peak_rss, 0);
        json_array_append_new(runs, run);
    }
    json_object_set_new(o, "runs", runs);
    for (size_t k = 0; k < b->n_tests; k++)
        json_array_append_new(tests, json_test(b, &b->tests[k]));
    json_object_set_new(o, "tests", tests);
    return out_json(o, 2) ? 0 : 1;
}

int bench_report(const bench *b)
{
    switch (b->args->bench_format) {
    case BENCH_JSON:
        return report_json(b);
    case BENCH_CSV:
        return report_csv(b);
    default:
        return report_md(b);
    }
}
