/* cmd_perplexity.c — `zamba perplexity`: how well a model predicts a text. The text's ids are cut into windows; each
 * starts from an empty state, nothing is put in front of it, and ids 1.. of it are predicted from those before them. */
#define _GNU_SOURCE /* memmem */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "progress.h"

#define DOCUMENT_END "<|endoftext|>"

enum { LOGIT_BYTES = 64 << 20, MOST_LANES = 8, TEXT_BYTES = 1 << 30 };

typedef struct window {
    size_t first, n; /* ids [first, first + n)                                        */
    size_t skip;     /* the first so many predictions were made by the window before */
    double nll;
    size_t n_predictions;
} window;

typedef struct perplexity {
    const cli_args *args;
    zamba_model *model;
    zamba_model_info info;
    int32_t *ids;
    size_t n_ids, room;
    window *windows;
    size_t n_windows;
} perplexity;

static int append_ids(perplexity *p, const int32_t *ids, size_t n)
{
    if (n > p->room - p->n_ids) {
        const size_t room = (p->n_ids + n) * 2;
        int32_t *larger = realloc(p->ids, room * sizeof *larger);
        if (!larger)
            return cli_error("out of memory");
        p->ids = larger;
        p->room = room;
    }
    memcpy(p->ids + p->n_ids, ids, n * sizeof *ids);
    p->n_ids += n;
    return 0;
}

static int append_text(perplexity *p, const char *text, size_t n)
{
    zamba_error err = {0};
    const zamba_tokenizer *tokenizer = zamba_model_tokenizer(p->model);
    const unsigned flags =
        (p->args->no_bos ? 0 : ZAMBA_TOKENIZE_BOS) | (p->args->no_parse_special ? 0 : ZAMBA_TOKENIZE_SPECIAL);
    int32_t *ids = NULL;
    size_t n_ids;
    if (!tokenizer)
        return cli_error("%s has no tokenizer.json: only --ids-u16 files can be read", p->info.path);
    if (zamba_tokenize(tokenizer, text, n, flags, &ids, &n_ids, &err) != ZAMBA_OK)
        return cli_fail(&err);
    const int code = append_ids(p, ids, n_ids);
    zamba_free(ids);
    return code;
}

/* Documents with their line breaks stripped at both ends; each is BOS, its ids, EOS; empty ones are dropped. */
static int append_documents(perplexity *p, const char *text, size_t n)
{
    const int32_t eos = p->info.eos_id;
    int code = 0;
    for (size_t at = 0; at <= n && code == 0;) {
        const char *end = memmem(text + at, n - at, DOCUMENT_END, strlen(DOCUMENT_END));
        const size_t stop = end ? (size_t)(end - text) : n;
        size_t first = at, last = stop;
        while (first < last && (text[first] == '\n' || text[first] == '\r'))
            first++;
        while (last > first && (text[last - 1] == '\n' || text[last - 1] == '\r'))
            last--;
        if (last > first)
            code = append_text(p, text + first, last - first);
        if (code == 0 && last > first && eos >= 0)
            code = append_ids(p, &eos, 1);
        at = stop + strlen(DOCUMENT_END);
        if (p->args->limit > 0 && p->n_ids >= (size_t)p->args->limit)
            break;
    }
    return code;
}

static int append_u16(perplexity *p, const char *path, const unsigned char *data, size_t n)
{
    if (n % 2)
        return cli_error("%s: %zu bytes, wanted 16-bit numbers (cut off?)", path, n);
    for (size_t i = 0; i < n; i += 2) {
        const int32_t id = data[i] | data[i + 1] << 8;
        if (id >= p->info.vocab_size)
            return cli_error("%s: position %zu: found id %d, wanted 0 to %d (ids of another model?)", path, i / 2, id,
                             p->info.vocab_size - 1);
        if (append_ids(p, &id, 1) != 0)
            return 1;
    }
    return 0;
}

static int read_ids(perplexity *p, const char *path)
{
    char *data = NULL;
    size_t n;
    const size_t len = strlen(path);
    const bool u16 = p->args->ids_u16 || (len > 4 && strcmp(path + len - 4, ".u16") == 0);
    int code = cli_read_file(path, TEXT_BYTES, &data, &n);
    if (code)
        return code;
    if (u16)
        code = append_u16(p, path, (const unsigned char *)data, n);
    else
        code = p->args->documents ? append_documents(p, data, n) : append_text(p, data, n);
    free(data);
    if (code == 0 && p->args->limit > 0 && p->n_ids > (size_t)p->args->limit)
        p->n_ids = (size_t)p->args->limit;
    if (code == 0 && p->n_ids < 2)
        code = cli_error("%s: %zu tokens, wanted at least 2", path, p->n_ids);
    return code;
}

static int cut_windows(perplexity *p)
{
    const size_t size = (size_t)p->args->window;
    const size_t stride = p->args->stride ? (size_t)p->args->stride : size;
    if (stride > size)
        return cli_error("--stride: found %zu, wanted at most the window, %zu", stride, size);
    p->windows = calloc(p->n_ids / stride + 2, sizeof *p->windows);
    if (!p->windows)
        return cli_error("out of memory");
    for (size_t first = 0, reached = 0; first < p->n_ids; first += stride) {
        const size_t n = p->n_ids - first < size ? p->n_ids - first : size;
        if (n < 2 || first + n <= reached)
            break; /* nothing in it to predict */
        /* id reached-1 was the last one predicted; here predictions are for ids first+1 .. first+n-1 */
        p->windows[p->n_windows++] =
            (window){.first = first, .n = n, .skip = reached > first ? reached - first - 1 : 0};
        reached = first + n;
    }
    return 0;
}

/* -ln p of one id, in double over f32 logits. */
static double surprise(const float *logits, size_t n, int32_t id)
{
    float best = logits[0];
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        best = logits[i] > best ? logits[i] : best;
    for (size_t i = 0; i < n; i++)
        sum += expf(logits[i] - best);
    return log(sum) + (double)best - (double)logits[id];
}

/* Score `n` windows side by side, in pieces of `rows` tokens in all. Returns a status with the message in `err`. */
static zamba_status score(perplexity *p, window *windows, size_t n, zamba_sequence **lanes, float *logits, size_t rows,
                          zamba_error *err)
{
    const size_t vocab = (size_t)p->info.vocab_size;
    const size_t piece = rows / n;
    size_t most = 0;
    for (size_t i = 0; i < n; i++)
        most = windows[i].n > most ? windows[i].n : most;
    for (size_t at = 0; at + 1 < most; at += piece) {
        zamba_batch_item items[MOST_LANES];
        size_t which[MOST_LANES], n_items = 0;
        for (size_t i = 0; i < n; i++) {
            const window *w = &windows[i];
            if (at + 1 >= w->n) /* the last id is predicted, never read */
                continue;
            const size_t count = w->n - 1 - at < piece ? w->n - 1 - at : piece;
            which[n_items] = i;
            items[n_items++] = (zamba_batch_item){lanes[i], p->ids + w->first + at, count, ZAMBA_LOGITS_ALL,
                                                  logits + i * piece * vocab};
        }
        const zamba_status st = zamba_forward(p->model, items, n_items, NULL, err);
        if (st != ZAMBA_OK)
            return st;
        for (size_t k = 0; k < n_items; k++) {
            window *w = &windows[which[k]];
            for (size_t r = 0; r < items[k].n_tokens; r++) {
                if (at + r < w->skip)
                    continue;
                w->nll += surprise(items[k].logits + r * vocab, vocab, p->ids[w->first + at + r + 1]);
                w->n_predictions++;
            }
        }
    }
    return ZAMBA_OK;
}

static int score_all(perplexity *p)
{
    zamba_error err = {0};
    zamba_sequence *lanes[MOST_LANES] = {NULL};
    const size_t vocab = (size_t)p->info.vocab_size, size = p->windows[0].n;
    size_t rows = LOGIT_BYTES / (vocab * sizeof(float)), done = 0;
    rows = rows < MOST_LANES ? MOST_LANES : rows;
    size_t n_lanes = rows / size < 1 ? 1 : rows / size > MOST_LANES ? MOST_LANES : rows / size;
    n_lanes = n_lanes < p->n_windows ? n_lanes : p->n_windows;
    rows = rows < n_lanes * size ? rows : n_lanes * size;
    float *logits = malloc(rows * vocab * sizeof *logits);
    int code = logits ? 0 : cli_error("out of memory");
    progress bar;
    progress_begin(&bar, (int)p->args->progress, (int)p->args->color, "perplexity", "tokens", p->n_ids);
    for (size_t i = 0; code == 0 && i < n_lanes; i++)
        if (zamba_sequence_open(&lanes[i], p->model, size, &err) != ZAMBA_OK)
            code = cli_fail(&err);
    for (size_t w = 0; code == 0 && w < p->n_windows; w += n_lanes) {
        const size_t n = p->n_windows - w < n_lanes ? p->n_windows - w : n_lanes;
        for (size_t i = 0; i < n; i++)
            zamba_sequence_reset(lanes[i]);
        if (score(p, &p->windows[w], n, lanes, logits, rows, &err) != ZAMBA_OK)
            code = cli_fail(&err);
        done = p->windows[w + n - 1].first + p->windows[w + n - 1].n;
        progress_update(&bar, done);
    }
    progress_end(&bar);
    for (size_t i = 0; i < n_lanes; i++)
        zamba_sequence_close(lanes[i]);
    free(logits);
    return code;
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
        return out_json(json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "model",
                                  cli_json_text(p->info.path, strlen(p->info.path)), "file",
                                  cli_json_text(file, strlen(file)), "ids", (json_int_t)p->n_ids, "window",
                                  (json_int_t)p->args->window, "stride",
                                  (json_int_t)(p->args->stride ? p->args->stride : p->args->window), "windows",
                                  (json_int_t)p->n_windows, "predictions", (json_int_t)n, "nll", nll, "mean_nll", mean,
                                  "mean_nll_error", error, "perplexity", exp(mean), "seconds", cli_round(seconds, 6),
                                  "tokens_per_second", cli_round((double)p->n_ids / seconds, 3), "window_nll", list),
                        0)
                   ? 0
                   : 1;
    }
    out_format("perplexity   %.5f ± %.5f\n", exp(mean), exp(mean) * error);
    out_format("mean nll     %.6f nats a token\n", mean);
    out_format("nll          %.4f over %s predictions\n", nll, cli_number(n, a));
    out_format("windows      %zu of %lld tokens, %s tokens in all\n", p->n_windows, (long long)p->args->window,
               cli_number(p->n_ids, b));
    cli_note("%.1f s, %.1f tokens/s", seconds, (double)p->n_ids / seconds);
    return 0;
}

int cmd_perplexity(const cli_args *args)
{
    perplexity p = {.args = args, .info = {.size = sizeof p.info}};
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
        code = read_ids(&p, file);
    if (code == 0)
        code = cut_windows(&p);
    const double start = cli_now();
    if (code == 0)
        code = score_all(&p);
    if (code == 0)
        code = report(&p, file, cli_now() - start);
    zamba_model_close(p.model);
    free(p.ids);
    free(p.windows);
    free(path);
    return code;
}
