/* cmd_imatrix.c — `zamba imatrix`: a model reads a calibration text, and what its matrices multiply is added up for
 * `zamba quantize --imatrix`. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "text_ids.h"
#include "text_score.h"

#define DEFAULT_OUTPUT "imatrix.gguf"

typedef struct sum {
    double nll;
    size_t n, vocab;
} sum;

static int on_row(void *user, const text_row *row)
{
    sum *s = user;
    s->nll += text_surprise(row->logits, s->vocab, row->next);
    s->n++;
    return 0;
}

/* The name of the text, without the folders it lies in. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static int collect(const cli_args *args, zamba_model *model, const int32_t *ids, size_t n_ids)
{
    zamba_error err = {0};
    zamba_imatrix *matrix = NULL;
    zamba_model_info info = {.size = sizeof info};
    sum s = {0};
    const size_t window = (size_t)args->chunk;
    const char *out = args->output ? args->output : DEFAULT_OUTPUT;
    const text_score score = {.model = model,
                              .ids = ids,
                              .n_ids = n_ids,
                              .window = window,
                              .stride = window,
                              .task = "reading the text",
                              .progress = (int)args->progress,
                              .color = (int)args->color,
                              .row = on_row,
                              .user = &s};
    const size_t windows = text_windows(n_ids, window, window);
    if (zamba_model_info_get(model, &info, &err) != ZAMBA_OK || zamba_imatrix_open(&matrix, model, &err) != ZAMBA_OK)
        return cli_fail(&err);
    s.vocab = (size_t)info.vocab_size;
    const double start = cli_now();
    int code = text_score_run(&score);
    if (code == 0 &&
        zamba_imatrix_save(matrix, out, base_name(args->file), (uint32_t)windows, (uint32_t)window, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    zamba_imatrix_close(matrix);
    if (code)
        return code;
    const double seconds = cli_now() - start, ppl = exp(s.nll / (double)s.n);
    if (args->json)
        return out_json(json_pack("{s:o, s:o, s:I, s:I, s:I, s:f, s:f}", "file", cli_json_text(out, strlen(out)),
                                  "text", cli_json_text(args->file, strlen(args->file)), "tokens", (json_int_t)n_ids,
                                  "windows", (json_int_t)windows, "window", (json_int_t)window, "perplexity", ppl,
                                  "seconds", cli_round(seconds, 6)),
                        0)
                   ? 0
                   : 1;
    char number[32];
    out_format("%s: importance over %s tokens in %zu windows (perplexity %.4f)\n", out, cli_number(n_ids, number),
               windows, ppl);
    cli_note("%.1f s, %.1f tokens/s", seconds, (double)n_ids / seconds);
    return 0;
}

int cmd_imatrix(const cli_args *args)
{
    zamba_model *model = NULL;
    int32_t *ids = NULL;
    size_t n_ids, used;
    if (!args->file) {
        cli_error("imatrix needs a text to read: -f FILE");
        return cli_hint(args->command);
    }
    char *path = cli_model_path(args, &used);
    int code = path ? cli_no_more_words(args, used) : 1;
    if (code == 0)
        code = cli_model_open(args, path, &model, NULL);
    if (code == 0)
        code = text_ids_read(args, model, args->file, &ids, &n_ids);
    if (code == 0)
        code = collect(args, model, ids, n_ids);
    zamba_model_close(model);
    free(ids);
    free(path);
    return code;
}
