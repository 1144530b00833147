/* eval_needle.c — `zamba eval needle`: a sentence is put into a long text at many depths and lengths, and the model is
 * asked for it. No part of the text is read twice that need not be: one sequence walks through the bare text and is
 * forked at each place of the needle; each fork walks on and is forked again at each length, where the question comes.
 * What is asked without the needle is the control. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "eval.h"
#include "eval_score.h"
#include "progress.h"
#include "svg_heatmap.h"

enum {
    TEXT_BYTES = 256 << 20,
    MOST_LENGTHS = 64,
    MOST_DEPTHS = 101,
    MORE_WRITTEN = 8, /* tokens that are written beyond the answer's own number */
    PIECE = 512       /* tokens read between two signs of progress              */
};

#define NEEDLE "One of the special magic numbers for long-context is: 7418529."
#define QUESTION                                                                                                       \
    "What is the special magic number for long-context mentioned in the provided text? The special magic number for "  \
    "long-context mentioned in the provided text is"
#define ANSWER "7418529"

typedef struct cell {
    size_t length, depth; /* indices; depth == n_depths: without the needle */
    size_t at, n_hay;     /* ids of the text before the needle; of the text in all */
    double ln_p;          /* of the answer */
    size_t n_best;        /* ids of the answer that were the likeliest, the earlier ones given */
    bool found;           /* what was written greedily holds the key */
    char *written;
} cell;

typedef struct needle_run {
    const cli_args *args;
    zamba_model *model;
    zamba_model_info info;
    const zamba_tokenizer *tokenizer;
    const char *needle, *question, *answer, *key;
    int32_t *hay, *needle_ids;
    size_t n_hay, n_needle;
    eval_request ask; /* question and answer */
    size_t n_question;
    size_t *lengths, *depths, n_lengths, n_depths;
    cell *cells;     /* [n_lengths, n_depths + 1] */
    cell **by_place; /* the cells in the order in which they are done */
    size_t n_cells, capacity, most_written;
    float *logits;    /* [n_last, vocab] */
    int32_t *written; /* [most_written] */
    progress bar;
    size_t done, n_read; /* tokens so far; read by the model */
} needle_run;

/* ---- Preparing ---- */

static int tokens_of(const needle_run *r, const char *text, size_t n, int32_t **ids, size_t *n_ids)
{
    zamba_error err = {0};
    if (zamba_tokenize(r->tokenizer, text, n, 0, ids, n_ids, &err) != ZAMBA_OK)
        return cli_fail(&err);
    return 0;
}

static int read_texts(needle_run *r)
{
    const cli_args *args = r->args;
    char *text = NULL, why[640];
    size_t n;
    r->needle = args->needle ? args->needle : NEEDLE;
    r->question = args->question ? args->question : QUESTION;
    r->answer = args->answer ? args->answer : ANSWER;
    r->key = args->key ? args->key : r->answer;
    if (!*r->answer || !*r->key || !*r->needle || !*r->question)
        return cli_error("--needle, --question, --answer and --key must not be empty");
    int code = cli_read_file(args->haystack, TEXT_BYTES, &text, &n);
    if (code)
        return code;
    if (n >= 6 && memcmp(text, "\3757zXZ", 6) == 0)
        code = cli_error("%s: is compressed; unpack it first: xz -dk %s", args->haystack, args->haystack);
    if (code == 0)
        code = tokens_of(r, text, n, &r->hay, &r->n_hay);
    free(text);
    if (code == 0)
        code = tokens_of(r, r->needle, strlen(r->needle), &r->needle_ids, &r->n_needle);
    if (code)
        return code;
    const size_t n_question = strlen(r->question) + 2, n_answer = strlen(r->answer) + 1;
    char *question = malloc(n_question + 1), *answer = malloc(n_answer + 1);
    if (question && answer) {
        snprintf(question, n_question + 1, "\n\n%s", r->question);
        snprintf(answer, n_answer + 1, " %s", r->answer);
        if (!eval_encode(&r->ask, r->tokenizer, question, n_question, answer, n_answer, 1 << 20, why, sizeof why))
            code = cli_error("question and answer: %s", why);
    } else {
        code = cli_error("out of memory");
    }
    free(question);
    free(answer);
    if (code == 0 && r->ask.ids[0] == zamba_tokenizer_bos(r->tokenizer) && r->ask.n > r->ask.n_last + 1) {
        r->ask.n--; /* the beginning of text stands before the haystack */
        memmove(r->ask.ids, r->ask.ids + 1, r->ask.n * sizeof *r->ask.ids);
    }
    r->n_question = r->ask.n - r->ask.n_last;
    return code;
}

/* --lengths and --depths, or what fits the context: eight lengths up to it, eleven depths. */
static int read_grid(needle_run *r)
{
    const cli_args *args = r->args;
    const size_t context = args->ctx_size > 0 ? (size_t)args->ctx_size : (size_t)r->info.max_positions;
    int code = 0;
    if (args->lengths) {
        code = cli_parse_sizes("--lengths", args->lengths, false, &r->lengths, &r->n_lengths);
    } else {
        const size_t fixed = 1 + r->n_needle + r->ask.n;
        r->lengths = calloc(8, sizeof *r->lengths);
        for (size_t i = 1; r->lengths && i <= 8; i++)
            if (context * i / 8 > fixed)
                r->lengths[r->n_lengths++] = context * i / 8;
        if (!r->lengths)
            code = cli_error("out of memory");
    }
    if (code == 0 && args->depths) {
        code = cli_parse_sizes("--depths", args->depths, true, &r->depths, &r->n_depths);
    } else if (code == 0) {
        r->depths = calloc(11, sizeof *r->depths);
        for (size_t i = 0; r->depths && i <= 10; i++)
            r->depths[r->n_depths++] = i * 10;
        if (!r->depths)
            code = cli_error("out of memory");
    }
    if (code)
        return code;
    if (r->n_lengths < 1 || r->n_lengths > MOST_LENGTHS)
        return cli_error("--lengths: found %zu, wanted 1 to %d (a context of %zu holds the question?)", r->n_lengths,
                         MOST_LENGTHS, context);
    if (r->n_depths < 1 || r->n_depths > MOST_DEPTHS)
        return cli_error("--depths: found %zu, wanted 1 to %d", r->n_depths, MOST_DEPTHS);
    for (size_t i = 0; i < r->n_depths; i++)
        if (r->depths[i] > 100)
            return cli_error("--depths: found %zu, wanted percent from 0 to 100", r->depths[i]);
    for (size_t i = 0; i < r->n_lengths; i++) {
        const size_t fixed = 1 + r->n_needle + r->ask.n;
        if (r->lengths[i] > context)
            return cli_error("--lengths: found %zu, the context holds %zu (--ctx-size?)", r->lengths[i], context);
        if (r->lengths[i] <= fixed)
            return cli_error("--lengths: found %zu, but needle, question and answer alone have %zu tokens",
                             r->lengths[i], fixed);
        if (r->lengths[i] - fixed > r->n_hay)
            return cli_error("%s: %zu tokens, a length of %zu needs %zu (a longer text, or other --lengths?)",
                             args->haystack, r->n_hay, r->lengths[i], r->lengths[i] - fixed);
        r->capacity = r->lengths[i] > r->capacity ? r->lengths[i] : r->capacity;
    }
    r->most_written = r->ask.n_last + MORE_WRITTEN;
    r->capacity += r->most_written;
    return 0;
}

/* Does a sentence end with this token? */
static bool ends_sentence(const needle_run *r, int32_t id)
{
    size_t n = 0;
    const char *piece = zamba_tokenizer_piece(r->tokenizer, id, &n);
    return piece && n && (memchr(".!?\n", piece[n - 1], 4) || (n == 6 && memcmp(piece, "<0x0A>", 6) == 0));
}

static int by_place(const void *a, const void *b)
{
    const cell *x = *(cell *const *)a, *y = *(cell *const *)b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    if (x->n_hay != y->n_hay)
        return x->n_hay < y->n_hay ? -1 : 1;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return (x->depth > y->depth) - (x->depth < y->depth);
}

static int lay_out(needle_run *r)
{
    const size_t rows = r->n_depths + 1;
    r->n_cells = r->n_lengths * rows;
    r->cells = calloc(r->n_cells, sizeof *r->cells);
    r->by_place = calloc(r->n_cells, sizeof *r->by_place);
    r->logits = malloc(r->ask.n_last * (size_t)r->info.vocab_size * sizeof *r->logits);
    r->written = malloc(r->most_written * sizeof *r->written);
    if (!r->cells || !r->by_place || !r->logits || !r->written)
        return cli_error("out of memory");
    for (size_t l = 0; l < r->n_lengths; l++) {
        const size_t bare = r->lengths[l] - 1 - r->ask.n;
        for (size_t d = 0; d < rows; d++) {
            cell *c = &r->cells[l * rows + d];
            *c = (cell){.length = l, .depth = d, .n_hay = bare - r->n_needle};
            if (d == r->n_depths) { /* the control is as long as the others if the text is */
                c->n_hay = bare < r->n_hay ? bare : r->n_hay;
                c->at = c->n_hay;
            } else {
                c->at = c->n_hay * r->depths[d] / 100;
                while (c->at > 0 && r->depths[d] < 100 && !ends_sentence(r, r->hay[c->at - 1]))
                    c->at--;
            }
            r->by_place[l * rows + d] = c;
        }
    }
    qsort(r->by_place, r->n_cells, sizeof *r->by_place, by_place);
    return 0;
}

/* ---- Reading ---- */

static int walk(needle_run *r, zamba_sequence *s, const int32_t *ids, size_t n)
{
    zamba_error err = {0};
    for (size_t at = 0; at < n; at += PIECE) {
        zamba_batch_item item = {
            .sequence = s, .tokens = ids + at, .n_tokens = n - at < PIECE ? n - at : PIECE, .want = ZAMBA_LOGITS_NONE};
        if (zamba_forward(r->model, &item, 1, NULL, &err) != ZAMBA_OK)
            return cli_fail(&err);
        r->done += item.n_tokens;
        r->n_read += item.n_tokens;
        progress_update(&r->bar, r->done);
    }
    return 0;
}

static int logits_after(needle_run *r, zamba_sequence *s, const int32_t *ids, size_t n, zamba_logits want)
{
    zamba_error err = {0};
    zamba_batch_item item = {.sequence = s, .tokens = ids, .n_tokens = n, .want = want, .logits = r->logits};
    r->n_read += n;
    return zamba_forward(r->model, &item, 1, NULL, &err) == ZAMBA_OK ? 0 : cli_fail(&err);
}

static int32_t likeliest(const float *logits, size_t vocab)
{
    size_t best = 0;
    for (size_t i = 1; i < vocab; i++)
        best = logits[i] > logits[best] ? i : best;
    return (int32_t)best;
}

/* ln p of the answer's ids from the second on, each after the right ones before it. */
static int rest_of_answer(needle_run *r, const zamba_sequence *s, cell *c, bool *finite)
{
    zamba_error err = {0};
    zamba_sequence *fork = NULL;
    const int32_t *answer = r->ask.ids + r->n_question;
    const size_t vocab = (size_t)r->info.vocab_size, n = r->ask.n_last - 1;
    if (n == 0)
        return 0;
    if (zamba_sequence_fork(&fork, s, &err) != ZAMBA_OK)
        return cli_fail(&err);
    const int code = logits_after(r, fork, answer, n, ZAMBA_LOGITS_ALL);
    for (size_t i = 0; code == 0 && i < n; i++) {
        bool best;
        c->ln_p += eval_ln_p(r->logits + i * vocab, vocab, answer[i + 1], &best, finite);
        c->n_best += best;
    }
    zamba_sequence_close(fork);
    return code;
}

static bool holds(const char *text, size_t n, const char *key)
{
    const size_t len = strlen(key);
    for (size_t i = 0; len <= n && i <= n - len; i++)
        if (memcmp(text + i, key, len) == 0)
            return true;
    return false;
}

/* Ask at the end of `s`, which is used up. */
static int ask(needle_run *r, zamba_sequence *s, cell *c)
{
    zamba_error err = {0};
    const size_t vocab = (size_t)r->info.vocab_size;
    const int32_t eos = zamba_tokenizer_eos(r->tokenizer);
    bool best, finite = true;
    size_t n = 0, n_text = 0;
    int code = logits_after(r, s, r->ask.ids, r->n_question, ZAMBA_LOGITS_LAST);
    if (code)
        return code;
    c->ln_p = eval_ln_p(r->logits, vocab, r->ask.ids[r->n_question], &best, &finite);
    c->n_best = best;
    int32_t next = likeliest(r->logits, vocab);
    code = rest_of_answer(r, s, c, &finite);
    while (code == 0 && next != eos && n < r->most_written) {
        r->written[n++] = next;
        if (n < r->most_written) {
            code = logits_after(r, s, &next, 1, ZAMBA_LOGITS_LAST);
            next = likeliest(r->logits, vocab);
        }
    }
    if (code == 0 && !finite)
        code = cli_error("%s: the logits are not finite", r->info.path);
    if (code == 0 &&
        zamba_detokenize(r->tokenizer, r->written, n, ZAMBA_DETOKENIZE_SPECIAL, &c->written, &n_text, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0)
        c->found = holds(c->written, n_text, r->key);
    r->done += r->ask.n + r->most_written;
    progress_update(&r->bar, r->done);
    return code;
}

/* All cells whose needle stands at the same place: `s` has read the text up to there. */
static int place(needle_run *r, const zamba_sequence *s, cell *const *cells, size_t n)
{
    zamba_error err = {0};
    zamba_sequence *with = NULL, *end = NULL;
    size_t at = cells[0]->at;
    int code = 0;
    for (size_t i = 0; code == 0 && i < n; i++) {
        cell *c = cells[i];
        const bool control = c->depth == r->n_depths;
        if (!control && !with) {
            if (zamba_sequence_fork(&with, s, &err) != ZAMBA_OK)
                return cli_fail(&err);
            code = walk(r, with, r->needle_ids, r->n_needle);
        }
        if (code == 0 && !control) {
            code = walk(r, with, r->hay + at, c->n_hay - at);
            at = c->n_hay;
        }
        if (code == 0 && zamba_sequence_fork(&end, control ? s : with, &err) != ZAMBA_OK)
            code = cli_fail(&err);
        if (code == 0)
            code = ask(r, end, c);
        zamba_sequence_close(end);
        end = NULL;
    }
    zamba_sequence_close(with);
    return code;
}

/* Tokens that `run` will count as done. */
static size_t total_work(const needle_run *r)
{
    size_t total = r->n_cells * (r->ask.n + r->most_written), reached = 0;
    for (size_t i = 0; i < r->n_cells;) {
        const size_t at = r->by_place[i]->at;
        size_t walked = at;
        bool needle = false;
        total += at - reached;
        reached = at;
        for (; i < r->n_cells && r->by_place[i]->at == at; i++) {
            if (r->by_place[i]->depth == r->n_depths)
                continue;
            total += r->by_place[i]->n_hay - walked + (needle ? 0 : r->n_needle);
            walked = r->by_place[i]->n_hay;
            needle = true;
        }
    }
    return total;
}

static int run(needle_run *r)
{
    zamba_error err = {0};
    zamba_sequence *s = NULL;
    const int32_t bos = zamba_tokenizer_bos(r->tokenizer);
    int code = 0;
    if (zamba_sequence_open(&s, r->model, r->capacity, &err) != ZAMBA_OK)
        return cli_fail(&err);
    progress_begin(&r->bar, (int)r->args->progress, (int)r->args->color, "needle", "tokens", total_work(r));
    if (bos >= 0) {
        zamba_batch_item item = {.sequence = s, .tokens = &bos, .n_tokens = 1, .want = ZAMBA_LOGITS_NONE};
        if (zamba_forward(r->model, &item, 1, NULL, &err) != ZAMBA_OK)
            code = cli_fail(&err);
    }
    for (size_t i = 0, reached = 0; code == 0 && i < r->n_cells;) {
        const size_t at = r->by_place[i]->at;
        size_t n = 1;
        while (i + n < r->n_cells && r->by_place[i + n]->at == at)
            n++;
        code = walk(r, s, r->hay + reached, at - reached);
        if (code == 0)
            code = place(r, s, r->by_place + i, n);
        reached = at;
        i += n;
    }
    progress_end(&r->bar);
    zamba_sequence_close(s);
    return code;
}

/* ---- Reports ---- */

static double per_token(const needle_run *r, const cell *c)
{
    return exp(c->ln_p / (double)r->ask.n_last);
}

static const cell *cell_at(const needle_run *r, size_t length, size_t depth)
{
    return &r->cells[length * (r->n_depths + 1) + depth];
}

static void csv_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', f);
        fputc(*text == '\n' || *text == '\r' ? ' ' : *text, f);
    }
    fputc('"', f);
}

static int write_csv(const needle_run *r)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return cli_error("out of memory");
    fputs("length,depth_percent,needle_at,ln_p,p_per_token,answer_tokens,likeliest_tokens,found,written\n", f);
    for (size_t l = 0; l < r->n_lengths; l++) {
        for (size_t d = 0; d <= r->n_depths; d++) {
            const cell *c = cell_at(r, l, d);
            fprintf(f, "%zu,", r->lengths[l]);
            if (d < r->n_depths)
                fprintf(f, "%zu,%zu,", r->depths[d], c->at);
            else
                fputs("none,,", f);
            fprintf(f, "%.6f,%.6f,%zu,%zu,%d,", c->ln_p, per_token(r, c), r->ask.n_last, c->n_best, c->found);
            csv_text(f, c->written);
            fputc('\n', f);
        }
    }
    const bool failed = ferror(f) != 0;
    const int code = fclose(f) != 0 || failed ? cli_error("out of memory") : cli_write_file(r->args->csv, text, n);
    free(text);
    return code;
}

static int write_svg(const needle_run *r)
{
    const size_t rows = r->n_depths + 1;
    char(*labels)[24] = calloc(r->n_lengths + rows, sizeof *labels);
    const char **names = calloc(r->n_lengths + rows, sizeof *names);
    heatmap_cell *cells = calloc(rows * r->n_lengths, sizeof *cells);
    char title[160], note[256];
    int code = labels && names && cells ? 0 : cli_error("out of memory");
    for (size_t i = 0; code == 0 && i < r->n_lengths + rows; i++) {
        const size_t d = i - r->n_lengths;
        if (i < r->n_lengths)
            snprintf(labels[i], sizeof labels[i], "%zu", r->lengths[i]);
        else if (d < r->n_depths)
            snprintf(labels[i], sizeof labels[i], "%zu %%", r->depths[d]);
        else
            snprintf(labels[i], sizeof labels[i], "no needle");
        names[i] = labels[i];
    }
    for (size_t d = 0; code == 0 && d < rows; d++)
        for (size_t l = 0; l < r->n_lengths; l++)
            cells[d * r->n_lengths + l] = (heatmap_cell){per_token(r, cell_at(r, l, d)), cell_at(r, l, d)->found};
    const char *slash = strrchr(r->info.path, '/');
    snprintf(title, sizeof title, "Needle in a haystack: %s", slash && slash[1] ? slash + 1 : r->info.path);
    snprintf(note, sizeof note, "Answer asked for: \"%.80s\"", r->answer);
    const heatmap h = {.title = title,
                       .note = note,
                       .x_title = "length of the whole prompt, tokens",
                       .y_title = "depth of the needle",
                       .value_title = "probability of the answer, per token",
                       .mark_title = "what the model wrote holds the key",
                       .x_labels = names,
                       .y_labels = names + r->n_lengths,
                       .nx = r->n_lengths,
                       .ny = rows,
                       .apart = r->n_depths,
                       .cells = cells};
    if (code == 0) {
        size_t n = 0;
        char *text = svg_heatmap(&h, &n);
        code = text ? cli_write_file(r->args->svg, text, n) : cli_error("out of memory");
        free(text);
    }
    free(labels);
    free(names);
    free(cells);
    return code;
}

static json_t *cell_json(const needle_run *r, const cell *c)
{
    json_t *object = json_pack("{s:I, s:f, s:f, s:I, s:b, s:o}", "length", (json_int_t)r->lengths[c->length], "ln_p",
                               c->ln_p, "p_per_token", per_token(r, c), "likeliest_tokens", (json_int_t)c->n_best,
                               "found", c->found, "written", cli_json_text(c->written, strlen(c->written)));
    if (c->depth < r->n_depths) {
        json_object_set_new(object, "depth", json_integer((json_int_t)r->depths[c->depth]));
        json_object_set_new(object, "needle_at", json_integer((json_int_t)c->at));
    }
    return object;
}

static int report(const needle_run *r, double seconds)
{
    size_t n_found = 0, n_exact = 0, n = r->n_lengths * r->n_depths;
    double p = 0;
    for (size_t l = 0; l < r->n_lengths; l++) {
        for (size_t d = 0; d < r->n_depths; d++) {
            n_found += cell_at(r, l, d)->found;
            n_exact += cell_at(r, l, d)->n_best == r->ask.n_last;
            p += per_token(r, cell_at(r, l, d));
        }
    }
    if (r->args->json) {
        json_t *cells = json_array(), *controls = json_array();
        for (size_t i = 0; i < r->n_cells; i++)
            json_array_append_new(r->cells[i].depth < r->n_depths ? cells : controls, cell_json(r, &r->cells[i]));
        return out_json(json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:f, s:f, s:f, s:f, s:o, s:o}", "model",
                                  cli_json_text(r->info.path, strlen(r->info.path)), "haystack",
                                  cli_json_text(r->args->haystack, strlen(r->args->haystack)), "needle",
                                  cli_json_text(r->needle, strlen(r->needle)), "question",
                                  cli_json_text(r->question, strlen(r->question)), "answer",
                                  cli_json_text(r->answer, strlen(r->answer)), "key",
                                  cli_json_text(r->key, strlen(r->key)), "answer_tokens", (json_int_t)r->ask.n_last,
                                  "tokens_read", (json_int_t)r->n_read, "found", (double)n_found / (double)n, "exact",
                                  (double)n_exact / (double)n, "p_per_token", p / (double)n, "seconds",
                                  cli_round(seconds, 3), "cells", cells, "without", controls),
                        0)
                   ? 0
                   : 1;
    }
    out_text("probability of the answer, per token; * what was written holds the key\n\n   depth");
    for (size_t l = 0; l < r->n_lengths; l++)
        out_format("%9zu", r->lengths[l]);
    for (size_t d = 0; d <= r->n_depths; d++) {
        if (d < r->n_depths)
            out_format("\n%6zu %%", r->depths[d]);
        else
            out_text("\n    none");
        for (size_t l = 0; l < r->n_lengths; l++)
            out_format("  %6.3f%c", per_token(r, cell_at(r, l, d)), cell_at(r, l, d)->found ? '*' : ' ');
    }
    out_format("\n\nholds the key      %zu of %zu\nanswer likeliest   %zu of %zu\nmean probability   %.4f per token\n",
               n_found, n, n_exact, n, p / (double)n);
    cli_note("%.1f s, %zu tokens read", seconds, r->n_read);
    return 0;
}

int eval_needle(const cli_args *args)
{
    needle_run r = {.args = args, .info = {.size = sizeof r.info}};
    zamba_error err = {0};
    cli_args rest = *args;
    size_t used;
    if (!args->haystack) {
        cli_error("eval needle needs --haystack: a long text, in UTF-8");
        return cli_hint(args->command);
    }
    rest.words.items++; /* needle */
    rest.words.n--;
    char *path = cli_model_path(&rest, &used);
    int code = path ? cli_no_more_words(&rest, used) : 1;
    if (code == 0)
        code = cli_model_open(args, path, &r.model, NULL);
    free(path);
    if (code == 0 && zamba_model_info_get(r.model, &r.info, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0 && !(r.tokenizer = zamba_model_tokenizer(r.model)))
        code = cli_error("%s has no tokenizer.json: text cannot be read", r.info.path);
    if (code == 0)
        code = read_texts(&r);
    if (code == 0)
        code = read_grid(&r);
    if (code == 0)
        code = lay_out(&r);
    const double start = cli_now();
    if (code == 0)
        code = run(&r);
    if (code == 0 && args->csv)
        code = write_csv(&r);
    if (code == 0 && args->svg)
        code = write_svg(&r);
    if (code == 0)
        code = report(&r, cli_now() - start);
    for (size_t i = 0; r.cells && i < r.n_cells; i++)
        zamba_free(r.cells[i].written);
    free(r.cells);
    free(r.by_place);
    free(r.logits);
    free(r.written);
    free(r.lengths);
    free(r.depths);
    zamba_free(r.hay);
    zamba_free(r.needle_ids);
    eval_request_free(&r.ask);
    zamba_model_close(r.model);
    return code;
}
