/* cmd_perplexity.c — `zamba perplexity`: how well a model predicts a text, and with --kl-base how far its predictions
 * are from those of another model that were kept in a file. Reads the text; text_score.c reads it to the model. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "kl.h"
#include "kl_file.h"
#include "text_ids.h"
#include "text_score.h"

enum { CONTEXT_IDS = 16 };

typedef struct window_sum {
    double nll;
    size_t n_predictions;
} window_sum;

typedef struct perplexity {
    const cli_args *args;
    zamba_model *model;
    zamba_model_info info;
    int32_t *ids;
    size_t n_ids, window, stride;
    window_sum *windows;
    size_t n_windows;
    kl_file base;     /* --kl-base                                               */
    void *packed;     /* one row of it                                           */
    kl_point *points; /* [predictions], when comparing                           */
    size_t n_points;
} perplexity;

static int prepare(perplexity *p)
{
    const cli_args *args = p->args;
    p->window = (size_t)args->window;
    p->stride = args->stride ? (size_t)args->stride : p->window;
    if (p->stride > p->window)
        return cli_error("--stride: found %zu, wanted at most the window, %zu", p->stride, p->window);
    p->n_windows = text_windows(p->n_ids, p->window, p->stride);
    p->n_points = text_predictions(p->n_ids, p->window, p->stride);
    p->windows = calloc(p->n_windows, sizeof *p->windows);
    if (!p->windows)
        return cli_error("out of memory");
    if (!args->kl_base)
        return 0;
    const kl_head head = kl_head_of(&p->info, p->ids, p->n_ids, p->window, p->stride);
    p->packed = malloc(kl_row_bytes(head.vocab));
    if (!p->packed)
        return cli_error("out of memory");
    if (args->save_kl_base)
        return kl_file_create(&p->base, args->kl_base, &head, p->ids);
    int code = kl_file_open(&p->base, args->kl_base);
    if (code == 0)
        code = kl_file_match(&p->base, &head, p->ids);
    if (code == 0 && !(p->points = malloc(p->n_points * sizeof *p->points)))
        code = cli_error("out of memory");
    if (code == 0 && p->base.head.model == head.model)
        cli_note("%s was made by this same model", args->kl_base);
    return code;
}

static int on_row(void *user, const text_row *row)
{
    perplexity *p = user;
    const size_t vocab = (size_t)p->info.vocab_size;
    window_sum *w = &p->windows[row->window];
    kl_status st = KL_OK;
    int code = 0;
    w->nll += text_surprise(row->logits, vocab, row->next);
    w->n_predictions++;
    if (!p->args->kl_base)
        return 0;
    if (p->args->save_kl_base) {
        st = kl_row_pack(p->packed, row->logits, vocab, row->next);
        code = st == KL_OK ? kl_file_put(&p->base, row->index, p->packed) : 0;
    } else {
        code = kl_file_get(&p->base, row->index, p->packed);
        if (code == 0)
            st = kl_row_compare(p->packed, row->logits, vocab, row->next, &p->points[row->index]);
    }
    if (code == 0 && st == KL_DAMAGED)
        code = cli_error("%s: row %zu is damaged", p->args->kl_base, row->index);
    else if (code == 0 && st == KL_NOT_FINITE)
        code = cli_error("%s: the logits are not finite", p->info.path);
    return code;
}

static int score_all(perplexity *p)
{
    const cli_args *args = p->args;
    const text_score t = {.model = p->model,
                          .ids = p->ids,
                          .n_ids = p->n_ids,
                          .window = p->window,
                          .stride = p->stride,
                          .task = "perplexity",
                          .progress = (int)args->progress,
                          .color = (int)args->color,
                          .row = on_row,
                          .user = p};
    int code = text_score_run(&t);
    if (code == 0 && args->kl_base && args->save_kl_base)
        code = kl_file_finish(&p->base);
    return code;
}

/* ---- Worst tokens ---- */

/* Ids as text on one line, or NULL without a tokenizer. Released with free(). */
static char *shown_text(const perplexity *p, const int32_t *ids, size_t n, size_t *n_shown)
{
    const zamba_tokenizer *tokenizer = zamba_model_tokenizer(p->model);
    char *text = NULL;
    size_t n_text = 0, at = 0;
    if (!tokenizer || zamba_detokenize(tokenizer, ids, n, ZAMBA_DETOKENIZE_SPECIAL | ZAMBA_DETOKENIZE_KEEP_SPACE, &text,
                                       &n_text, NULL) != ZAMBA_OK)
        return NULL;
    char *line = malloc(n_text * 2 + 1);
    for (size_t i = 0; line && i < n_text; i++) {
        const char c = text[i];
        if (c == '\n' || c == '\t' || c == '\r') {
            line[at++] = '\\';
            line[at++] = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
        } else {
            line[at++] = (unsigned char)c < ' ' || c == 127 ? '?' : c;
        }
    }
    zamba_free(text);
    *n_shown = at;
    return line;
}

static json_t *token_json(const perplexity *p, int32_t id, double probability)
{
    size_t n = 0;
    char *text = shown_text(p, &id, 1, &n);
    json_t *object =
        json_pack("{s:i, s:o?, s:f}", "id", id, "text", text ? cli_json_text(text, n) : NULL, "p", probability);
    free(text);
    return object;
}

static json_t *worst_json(const perplexity *p, size_t index, size_t position)
{
    const kl_point *k = &p->points[index];
    const size_t first = position > CONTEXT_IDS ? position - CONTEXT_IDS : 0;
    size_t n = 0;
    char *text = shown_text(p, p->ids + first, position - first, &n);
    json_t *next = token_json(p, p->ids[position], exp(-(double)k->nll));
    json_object_set_new(next, "p_base", json_real(exp(-(double)k->nll_base)));
    json_t *object = json_pack("{s:I, s:o?, s:f, s:o, s:o, s:o}", "position", (json_int_t)position, "context",
                               text ? cli_json_text(text, n) : NULL, "kld", (double)k->kld, "next", next, "top",
                               token_json(p, k->top, (double)k->p_top), "top_base",
                               token_json(p, k->top_base, (double)k->p_top_base));
    free(text);
    return object;
}

static void print_token(const perplexity *p, const char *what, int32_t id)
{
    size_t n = 0;
    char *text = shown_text(p, &id, 1, &n);
    if (text)
        out_format("%s \"%.*s\"", what, (int)n, text);
    else
        out_format("%s %d", what, id);
    free(text);
}

static void print_worst(const perplexity *p, size_t index, size_t position)
{
    const kl_point *k = &p->points[index];
    const size_t first = position > CONTEXT_IDS ? position - CONTEXT_IDS : 0;
    size_t n = 0;
    char *text = shown_text(p, p->ids + first, position - first, &n);
    out_format("\n%10.6f  at %zu", (double)k->kld, position);
    if (text)
        out_format(": ...%.*s", (int)n, text);
    print_token(p, "\n            next", p->ids[position]);
    out_format(": p %.4f -> %.4f", exp(-(double)k->nll_base), exp(-(double)k->nll));
    print_token(p, "; likeliest", k->top_base);
    out_format(" %.4f ->", (double)k->p_top_base);
    print_token(p, "", k->top);
    out_format(" %.4f\n", (double)k->p_top);
    free(text);
}

static int report_kl(const perplexity *p, json_t *into)
{
    const size_t most = (size_t)p->args->worst < p->n_points ? (size_t)p->args->worst : p->n_points;
    kl_summary summary;
    size_t *worst = malloc((most + 1) * sizeof *worst);
    if (!worst || !kl_summarize(&summary, p->points, p->n_points)) {
        free(worst);
        return cli_error("out of memory");
    }
    const size_t n = kl_worst(p->points, p->n_points, most, worst);
    if (into) {
        json_t *kl = kl_summary_json(&summary), *list = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list,
                                  worst_json(p, worst[i], text_position(p->n_ids, p->window, p->stride, worst[i])));
        json_object_set_new(kl, "base", cli_json_text(p->args->kl_base, strlen(p->args->kl_base)));
        json_object_set_new(kl, "worst", list);
        json_object_set_new(into, "kl", kl);
    } else {
        out_text("\n");
        kl_summary_print(&summary);
        if (n)
            out_text("\nLargest KL, nats: where, what stood before, what followed; p by the base -> p now\n");
        for (size_t i = 0; i < n; i++)
            print_worst(p, worst[i], text_position(p->n_ids, p->window, p->stride, worst[i]));
    }
    free(worst);
    return 0;
}

static int report(const perplexity *p, const char *file, double seconds)
{
    double nll = 0, square = 0;
    size_t n = 0;
    char a[32], b[32];
    for (size_t i = 0; i < p->n_windows; i++) {
        nll += p->windows[i].nll;
        n += p->windows[i].n_predictions;
    }
    const double mean = nll / (double)n;
    for (size_t i = 0; i < p->n_windows; i++) {
        const double d = p->windows[i].nll - mean * (double)p->windows[i].n_predictions;
        square += d * d;
    }
    const double error =
        p->n_windows > 1 ? sqrt(square) / (double)n : 0; /* of the mean, windows taken as independent */
    if (!isfinite(mean))
        return cli_error("%s: the logits are not finite", p->info.path);
    if (p->args->json) {
        json_t *list = json_array();
        for (size_t i = 0; i < p->n_windows; i++)
            json_array_append_new(list, json_real(p->windows[i].nll));
        json_t *object =
            json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "model",
                      cli_json_text(p->info.path, strlen(p->info.path)), "file", cli_json_text(file, strlen(file)),
                      "ids", (json_int_t)p->n_ids, "window", (json_int_t)p->window, "stride", (json_int_t)p->stride,
                      "windows", (json_int_t)p->n_windows, "predictions", (json_int_t)n, "nll", nll, "mean_nll", mean,
                      "mean_nll_error", error, "perplexity", exp(mean), "seconds", cli_round(seconds, 6),
                      "tokens_per_second", cli_round((double)p->n_ids / seconds, 3), "window_nll", list);
        const int code = object && p->points ? report_kl(p, object) : 0;
        return out_json(object, 0) ? code : 1;
    }
    out_format("perplexity   %.5f ± %.5f\n", exp(mean), exp(mean) * error);
    out_format("mean nll     %.6f nats a token\n", mean);
    out_format("nll          %.4f over %s predictions\n", nll, cli_number(n, a));
    out_format("windows      %zu of %lld tokens, %s tokens in all\n", p->n_windows, (long long)p->args->window,
               cli_number(p->n_ids, b));
    cli_note("%.1f s, %.1f tokens/s", seconds, (double)p->n_ids / seconds);
    return p->points ? report_kl(p, NULL) : 0;
}

int cmd_perplexity(const cli_args *args)
{
    perplexity p = {.args = args, .info = {.size = sizeof p.info}, .base = {.fd = -1}};
    zamba_error err = {0};
    cli_args rest = *args;
    if (args->words.n == 0) {
        cli_error("perplexity needs a FILE");
        return cli_hint(args->command);
    }
    const char *file = args->words.items[args->words.n - 1];
    rest.words.n--; /* FILE is the last word */
    size_t used;
    int code = 0;
    if (args->save_kl_base && !args->kl_base) {
        cli_error("--save-kl-base needs --kl-base FILE: the file to write");
        return cli_hint(args->command);
    }
    if (args->words.n == 1 && !args->model && cli_is_folder(file)) {
        cli_error("perplexity needs a FILE behind the model %s", file);
        return cli_hint(args->command);
    }
    char *path = cli_model_path(&rest, &used);
    code = path ? cli_no_more_words(&rest, used) : 1;
    if (code == 0)
        code = cli_model_open(args, path, &p.model, NULL);
    if (code == 0 && zamba_model_info_get(p.model, &p.info, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0)
        code = text_ids_read(args, p.model, file, &p.ids, &p.n_ids);
    if (code == 0)
        code = prepare(&p);
    const double start = cli_now();
    if (code == 0)
        code = score_all(&p);
    if (code == 0)
        code = report(&p, file, cli_now() - start);
    kl_file_close(&p.base);
    zamba_model_close(p.model);
    free(p.packed);
    free(p.points);
    free(p.ids);
    free(p.windows);
    free(path);
    return code;
}
