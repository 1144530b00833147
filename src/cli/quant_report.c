/* quant_report.c — `zamba quantize --report`: the model as it is reads a text once and its predictions are kept; then
 * it is quantized to one type after another, in temporary files, and each reads the same text. A table, and a picture.
 * Divergence is measured between the models as they run: what rounding of activations costs is in it. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "commands.h"
#include "kl.h"
#include "kl_file.h"
#include "quantize_run.h"
#include "text_ids.h"
#include "text_score.h"

enum { MOST_TYPES = 64 };

typedef struct report {
    const cli_args *args;
    char *path; /* the model */
    const char *types[MOST_TYPES];
    size_t n_types;
    char folder[PATH_MAX - 64], base_path[PATH_MAX], file_path[PATH_MAX]; /* temporary */
    zamba_model_info info;
    char dtype[16];
    int32_t *ids;
    size_t n_ids, window, n_points;
    kl_file base;
    void *packed;
    kl_point *points;
    quant_point rows[MOST_TYPES];
    size_t n_rows;
    kl_mean base_ppl;
} report;

/* ---- types ---- */

static const char *known_type(const char *name, size_t n)
{
    const char *known;
    for (size_t i = 0; (known = zamba_quantize_type(i)) != NULL; i++)
        if (strlen(known) == n && strncasecmp(known, name, n) == 0)
            return known;
    return NULL;
}

static int take_types(report *r)
{
    const char *list = r->args->report_types;
    if (!list) { /* F32 is what is compared with, or more */
        const char *name;
        for (size_t i = 0; (name = zamba_quantize_type(i)) != NULL && r->n_types < MOST_TYPES; i++)
            if (strcmp(name, "F32") != 0)
                r->types[r->n_types++] = name;
        return 0;
    }
    for (const char *p = list; *p;) {
        const size_t n = strcspn(p, ",");
        const char *known = known_type(p, n);
        if (!known || r->n_types == MOST_TYPES) {
            cli_error("--types: found '%.*s', wanted names such as Q8_0,Q4_K_M (`zamba quantize --help` has all)",
                      (int)(n < 40 ? n : 40), p);
            return cli_hint(r->args->command);
        }
        r->types[r->n_types++] = known;
        p += n + (p[n] == ',');
    }
    if (r->n_types > 0)
        return 0;
    cli_error("--types: the list is empty");
    return cli_hint(r->args->command);
}

/* ---- the text, read by the model as it is ---- */

static int interrupted(void)
{
    return cli_signal ? 128 + cli_signal : 0;
}

static int row_failed(const report *r, kl_status st, size_t index)
{
    if (st == KL_DAMAGED)
        return cli_error("%s: row %zu is damaged", r->base_path, index);
    return st == KL_NOT_FINITE ? cli_error("%s: the logits are not finite", r->path) : 0;
}

static int keep_row(void *user, const text_row *row)
{
    report *r = user;
    const kl_status st = kl_row_pack(r->packed, row->logits, (size_t)r->info.vocab_size, row->next);
    int code = row_failed(r, st, row->index);
    if (code == 0)
        code = kl_file_put(&r->base, row->index, r->packed);
    return code ? code : interrupted();
}

static int compare_row(void *user, const text_row *row)
{
    report *r = user;
    int code = kl_file_get(&r->base, row->index, r->packed);
    if (code == 0)
        code = row_failed(
            r, kl_row_compare(r->packed, row->logits, (size_t)r->info.vocab_size, row->next, &r->points[row->index]),
            row->index);
    return code ? code : interrupted();
}

static int read_text(report *r, zamba_model *model, const char *task, int (*row)(void *, const text_row *))
{
    const text_score t = {.model = model,
                          .ids = r->ids,
                          .n_ids = r->n_ids,
                          .window = r->window,
                          .stride = r->window,
                          .task = task,
                          .progress = (int)r->args->progress,
                          .color = (int)r->args->color,
                          .row = row,
                          .user = r};
    return text_score_run(&t);
}

static int make_folder(report *r)
{
    const char *place = getenv("TMPDIR");
    place = place && *place ? place : "/tmp";
    if ((size_t)snprintf(r->folder, sizeof r->folder, "%s/zamba-report-XXXXXX", place) >= sizeof r->folder)
        return cli_error("TMPDIR: the name is too long");
    if (!mkdtemp(r->folder)) {
        const int code = cli_error("%s: cannot make a folder: %s", place, strerror(errno));
        r->folder[0] = 0;
        return code;
    }
    snprintf(r->base_path, sizeof r->base_path, "%s/base", r->folder);
    snprintf(r->file_path, sizeof r->file_path, "%s/model.gguf", r->folder);
    return 0;
}

static int read_base(report *r)
{
    zamba_error err = {0};
    zamba_model *model = NULL;
    int code = cli_model_open(r->args, r->path, &model, NULL);
    if (code == 0 && zamba_model_info_get(model, &r->info, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0)
        code = text_ids_read(r->args, model, r->args->file, &r->ids, &r->n_ids);
    if (code == 0) {
        snprintf(r->dtype, sizeof r->dtype, "%s", r->info.dtype);
        r->window = (size_t)r->args->window;
        r->n_points = text_predictions(r->n_ids, r->window, r->window);
        r->packed = malloc(kl_row_bytes((size_t)r->info.vocab_size));
        r->points = malloc((r->n_points + 1) * sizeof *r->points);
        code = r->packed && r->points ? make_folder(r) : cli_error("out of memory");
    }
    if (code == 0) {
        const kl_head head = kl_head_of(&r->info, r->ids, r->n_ids, r->window, r->window);
        code = kl_file_create(&r->base, r->base_path, &head, r->ids);
    }
    if (code == 0)
        code = read_text(r, model, "the model as it is", keep_row);
    if (code == 0)
        code = kl_file_finish(&r->base);
    kl_file_close(&r->base);
    zamba_model_close(model);
    r->info.path = r->path; /* the model's own is gone */
    if (code == 0)
        code = kl_file_open(&r->base, r->base_path);
    return code;
}

/* ---- one type ---- */

static int measure(report *r, const char *type)
{
    zamba_error err = {0};
    zamba_quantize_result result = {.size = sizeof result};
    quantize_run run = {.args = r->args, .task = type};
    zamba_quantize_options o = quantize_options(&run, type);
    zamba_model *model = NULL;
    kl_summary s;
    const zamba_status st = zamba_quantize(r->path, r->file_path, &o, &result, &err);
    quantize_run_end(&run);
    if (st != ZAMBA_OK)
        return quantize_failed(&err);
    int code = cli_model_open(r->args, r->file_path, &model, NULL);
    if (code == 0)
        code = read_text(r, model, type, compare_row);
    zamba_model_close(model);
    unlink(r->file_path);
    if (code == 0 && !kl_summarize(&s, r->points, r->n_points))
        code = cli_error("out of memory");
    if (code)
        return code;
    r->base_ppl = s.ppl_base;
    r->rows[r->n_rows++] = (quant_point){.name = type,
                                         .bytes = result.file_bytes,
                                         .bytes_per_token = result.bytes_per_token,
                                         .bits = result.bits_per_weight,
                                         .ppl = s.ppl.mean,
                                         .ppl_error = s.ppl.error,
                                         .ln_ratio = s.ln_ratio.mean,
                                         .kld = s.kld.mean,
                                         .kld_error = s.kld.error,
                                         .kld_99 = s.kld_at[2],
                                         .same_top = s.same_top.mean};
    return 0;
}

/* ---- what is said ---- */

static void print_markdown(const report *r)
{
    char number[32];
    out_format("%s, %s, %s tokens in windows of %zu; as it is (%s, %.3f GB): perplexity %.4f ± %.4f\n\n", r->path,
               r->args->file, cli_number(r->n_ids, number), r->window, r->dtype, (double)r->info.weight_bytes / 1e9,
               r->base_ppl.mean, r->base_ppl.error);
    out_text(
        "| type | file, MB | bits a weight | read a token, MB | perplexity | ln(ppl / as is) | mean KL | 99 % KL | "
        "same top |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < r->n_rows; i++) {
        const quant_point *p = &r->rows[i];
        out_format("| %s | %.1f | %.3f | %.1f | %.4f | %+.5f | %.6f ± %.6f | %.5f | %.2f %% |\n", p->name,
                   (double)p->bytes / 1e6, p->bits, (double)p->bytes_per_token / 1e6, p->ppl, p->ln_ratio, p->kld,
                   p->kld_error, p->kld_99, 100 * p->same_top);
    }
}

static void print_csv(const report *r)
{
    out_text(
        "type,file_bytes,bits_per_weight,bytes_per_token,perplexity,perplexity_error,ln_ratio,kld,kld_error,kld_99,"
        "same_top\n");
    for (size_t i = 0; i < r->n_rows; i++) {
        const quant_point *p = &r->rows[i];
        out_format("%s,%llu,%.6f,%llu,%.6f,%.6f,%.7f,%.8f,%.8f,%.7f,%.6f\n", p->name, (unsigned long long)p->bytes,
                   p->bits, (unsigned long long)p->bytes_per_token, p->ppl, p->ppl_error, p->ln_ratio, p->kld,
                   p->kld_error, p->kld_99, p->same_top);
    }
}

static int print_json(const report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_rows; i++) {
        const quant_point *p = &r->rows[i];
        json_array_append_new(list, json_pack("{s:s, s:I, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "type",
                                              p->name, "file_bytes", (json_int_t)p->bytes, "bits_per_weight", p->bits,
                                              "bytes_per_token", (json_int_t)p->bytes_per_token, "perplexity", p->ppl,
                                              "perplexity_error", p->ppl_error, "ln_ratio", p->ln_ratio, "kld", p->kld,
                                              "kld_error", p->kld_error, "kld_99", p->kld_99, "same_top", p->same_top));
    }
    return out_json(json_pack("{s:o, s:s, s:o, s:I, s:I, s:I, s:f, s:f, s:o}", "model",
                              cli_json_text(r->path, strlen(r->path)), "dtype", r->dtype, "text",
                              cli_json_text(r->args->file, strlen(r->args->file)), "ids", (json_int_t)r->n_ids,
                              "window", (json_int_t)r->window, "weight_bytes", (json_int_t)r->info.weight_bytes,
                              "perplexity", r->base_ppl.mean, "perplexity_error", r->base_ppl.error, "types", list),
                    0)
               ? 0
               : 1;
}

static int print_report(const report *r)
{
    const int64_t format = r->args->json ? 2 : r->args->report_format;
    if (format == 2)
        return print_json(r);
    if (format == 1)
        print_csv(r);
    else
        print_markdown(r);
    return 0;
}

static int draw(const report *r)
{
    char title[320], note[320], number[32];
    const char *name = strrchr(r->path, '/'), *text = strrchr(r->args->file, '/');
    snprintf(title, sizeof title, "%.160s: size against divergence", name && name[1] ? name + 1 : r->path);
    snprintf(note, sizeof note, "mean KL divergence from the %s model over %s tokens of %.160s, windows of %zu",
             r->dtype, cli_number(r->n_ids, number), text && text[1] ? text + 1 : r->args->file, r->window);
    return quant_svg_write(r->args->output, title, note, r->rows, r->n_rows);
}

static void release(report *r)
{
    kl_file_close(&r->base);
    if (r->folder[0]) {
        unlink(r->base_path);
        unlink(r->file_path);
        rmdir(r->folder);
    }
    free(r->packed);
    free(r->points);
    free(r->ids);
    free(r->path);
}

int quantize_report(const cli_args *args)
{
    report *r = calloc(1, sizeof *r);
    size_t used;
    if (!r)
        return cli_error("out of memory");
    *r = (report){.args = args, .info = {.size = sizeof r->info}, .base = {.fd = -1}};
    int code = 0;
    if (!args->file) {
        cli_error("--report needs a text to compare on: -f FILE");
        code = cli_hint(args->command);
    } else if (args->dry_run) {
        cli_error("--report and --dry-run do not go together");
        code = cli_hint(args->command);
    }
    if (code == 0)
        code = take_types(r);
    if (code == 0)
        code = (r->path = cli_model_path(args, &used)) ? cli_no_more_words(args, used) : 1;
    if (code == 0) {
        quantize_catch_signals();
        code = read_base(r);
    }
    for (size_t i = 0; i < r->n_types && code == 0; i++)
        code = measure(r, r->types[i]);
    if (code == 0)
        code = print_report(r);
    if (code == 0 && args->output)
        code = draw(r);
    release(r);
    free(r);
    return code;
}
