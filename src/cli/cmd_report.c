/* cmd_report.c — `zamba report`: what training runs came to, as a table, as JSON, or as one page with their curves over
 * each other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "run_report.h"
#include "terminal.h"

static json_t *real(double x, int digits)
{
    return isfinite(x) ? json_real(cli_round(x, digits)) : json_null();
}

static json_t *json_of(const run_data *d, const char *path)
{
    const run_summary s = run_summarize(d);
    return json_pack("{s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
                     cli_json_text(d->name, strlen(d->name)), "path", cli_json_text(path, strlen(path)), "finished",
                     d->finished, "step", (json_int_t)s.step, "total_steps", (json_int_t)s.total_steps, "tokens",
                     (json_int_t)s.tokens, "skipped", (json_int_t)s.n_skipped, "seconds", real(s.seconds, 3), "loss",
                     real(s.loss, 6), "learning_rate", real(s.learning_rate, 12), "grad_norm", real(s.grad_norm, 6),
                     "tokens_per_second", real(s.tokens_per_second, 1), "valid_loss", real(s.valid_loss, 6),
                     "perplexity", real(s.perplexity, 6), "bits_per_byte", real(s.bits_per_byte, 6), "best_valid_loss",
                     real(s.best_loss, 6), "best_step", s.best_step >= 0 ? json_integer(s.best_step) : json_null());
}

enum { N_COLUMNS = 10, CELL = 40 };

static void put(char *cell, const char *format, double x)
{
    if (isfinite(x))
        snprintf(cell, CELL, format, x);
    else
        snprintf(cell, CELL, "-");
}

static void row_of(const run_data *d, char cells[N_COLUMNS][CELL])
{
    const run_summary s = run_summarize(d);
    char text[32];
    if (s.total_steps > 0 && !d->finished)
        snprintf(cells[0], CELL, "%lld of %lld", (long long)s.step, (long long)s.total_steps);
    else
        snprintf(cells[0], CELL, "%lld", (long long)s.step);
    snprintf(cells[1], CELL, "%s", cli_count((double)s.tokens, text));
    put(cells[2], "%.4f", s.loss);
    put(cells[3], "%.4f", s.valid_loss);
    put(cells[4], "%.4g", s.perplexity);
    put(cells[5], "%.4f", s.bits_per_byte);
    put(cells[6], "%.4f", s.best_loss);
    put(cells[7], "%.0f", s.best_step >= 0 ? (double)s.best_step : NAN);
    put(cells[8], "%.0f", s.tokens_per_second);
    snprintf(cells[9], CELL, "%s", run_duration(s.seconds, text));
}

static int table(const run_data *runs, size_t n)
{
    static const char *const heads[N_COLUMNS] = {"step",      "tokens", "loss",    "held-out", "ppl",
                                                 "bits/byte", "best",   "at step", "tokens/s", "time"};
    char(*cells)[N_COLUMNS][CELL] = calloc(n + 1, sizeof *cells);
    int widths[N_COLUMNS], name = 3;
    if (!cells)
        return cli_error("out of memory");
    for (size_t r = 0; r < n; r++) {
        row_of(&runs[r], cells[r]);
        const int columns = (int)term_columns(runs[r].name, strlen(runs[r].name));
        name = columns > name ? columns : name;
    }
    for (size_t c = 0; c < N_COLUMNS; c++) {
        widths[c] = (int)strlen(heads[c]);
        for (size_t r = 0; r < n; r++)
            widths[c] = (int)strlen(cells[r][c]) > widths[c] ? (int)strlen(cells[r][c]) : widths[c];
    }
    out_format("%-*s", name, "run");
    for (size_t c = 0; c < N_COLUMNS; c++)
        out_format("  %*s", widths[c], heads[c]);
    out_text("\n");
    for (size_t r = 0; r < n; r++) {
        const int columns = (int)term_columns(runs[r].name, strlen(runs[r].name));
        out_shown(runs[r].name, strlen(runs[r].name));
        out_format("%*s", name - columns, "");
        for (size_t c = 0; c < N_COLUMNS; c++)
            out_format("  %*s", widths[c], cells[r][c]);
        out_text("\n");
    }
    free(cells);
    return 0;
}

int cmd_report(const cli_args *args)
{
    const size_t n = args->words.n;
    size_t n_read = 0, n_html = 0;
    int code = 0;
    if (n == 0) {
        cli_error("wanted the folder of a training run, or several: zamba report RUN...");
        return cli_hint(args->command);
    }
    run_data *runs = calloc(n, sizeof *runs);
    if (!runs)
        return cli_error("out of memory");
    while (n_read < n && code == 0) {
        code = run_data_load(&runs[n_read], args->words.items[n_read], INT64_MAX);
        n_read += code == 0;
    }
    if (code == 0 && args->output) {
        char *html = run_report_html(runs, n, false, &n_html);
        code = html ? cli_write_file(args->output, html, n_html) : cli_error("out of memory");
        free(html);
    }
    if (code == 0 && args->json) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, json_of(&runs[i], args->words.items[i]));
        code = out_json(json_pack("{s:o}", "runs", list), 2) ? 0 : 1;
    } else if (code == 0) {
        code = table(runs, n);
    }
    for (size_t i = 0; i < n_read; i++)
        run_data_free(&runs[i]);
    free(runs);
    return code;
}
