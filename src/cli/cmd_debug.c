/* cmd_debug.c — `zamba debug logits|hidden|grads`: what the model computes, as a safetensors file, for comparison with
 * other programs. All sequences of the ids file advance together as one ragged batch. Gradients: debug_grads.c. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "debug_grads.h"
#include "out_safetensors.h"
#include "progress.h"

enum { IDS_BYTES = 6 << 20 }; /* of the ids file: bounds what its JSON takes in memory */

typedef struct debug_sequence {
    int32_t *ids;
    size_t n_ids, fed;
    zamba_sequence *sequence;
    float *logits; /* [largest piece, vocab] */
} debug_sequence;

typedef struct debug {
    const cli_args *args;
    bool hidden;
    zamba_model *model;
    zamba_model_info info;
    debug_sequence *sequences;
    size_t n_sequences;
    size_t *pieces, n_pieces; /* --split */
    zamba_batch_item *items;
    size_t *item_sequence; /* which sequence an item of the present batch is */
    st_writer out;
    int code; /* of the first failure in on_hidden */
} debug;

static int read_sequences(debug *d)
{
    char *text = NULL, why[256] = "";
    size_t n;
    const char *path = d->args->ids;
    int code = cli_read_file(path, IDS_BYTES, &text, &n);
    if (code)
        return code;
    json_t *root = cli_json_parse(text, n, why, sizeof why);
    free(text);
    if (!root)
        return cli_error("%s: %s", path, why);
    json_t *list = json_is_object(root) ? json_object_get(root, "ids") : root;
    const bool flat = json_is_integer(json_array_get(list, 0));
    const size_t count = flat ? 1 : json_array_size(list);
    if (count == 0)
        code = cli_error("%s: wanted a list of id lists, such as [[1, 2, 3], [4, 5]]", path);
    else if (!(d->sequences = calloc(count, sizeof *d->sequences)))
        code = cli_error("out of memory");
    for (size_t i = 0; code == 0 && i < count; i++) {
        debug_sequence *s = &d->sequences[i];
        d->n_sequences = i + 1;
        if (!cli_ids_of_json(flat ? list : json_array_get(list, i), &s->ids, &s->n_ids, why, sizeof why))
            code = cli_error("%s: sequence %zu: %s", path, i, why);
        else if (s->n_ids == 0)
            code = cli_error("%s: sequence %zu is empty, wanted at least one id", path, i);
        for (size_t k = 0; code == 0 && k < s->n_ids; k++)
            if (s->ids[k] < 0 || s->ids[k] >= d->info.vocab_size)
                code = cli_error("%s: sequence %zu, position %zu: found id %d, wanted 0 to %d", path, i, k, s->ids[k],
                                 d->info.vocab_size - 1);
    }
    json_decref(root);
    return code;
}

/* How many tokens of a sequence come in step k. */
static size_t piece(const debug *d, const debug_sequence *s, size_t k)
{
    const size_t left = s->n_ids - s->fed;
    const size_t size = d->n_pieces == 0 ? left : k < d->n_pieces ? d->pieces[k] : 1;
    return size < left ? size : left;
}

static size_t tensors_per_sequence(const debug *d)
{
    return d->hidden ? (size_t)d->info.n_layers + 2 : 1;
}

static int describe(debug *d)
{
    char name[64];
    for (size_t i = 0; i < d->n_sequences; i++) {
        const size_t rows = d->sequences[i].n_ids;
        for (size_t k = 0; k < tensors_per_sequence(d); k++) {
            if (!d->hidden)
                snprintf(name, sizeof name, "logits.%zu", i);
            else if (k == 0)
                snprintf(name, sizeof name, "hidden.%zu.embed", i);
            else if (k == (size_t)d->info.n_layers + 1)
                snprintf(name, sizeof name, "hidden.%zu.final_norm", i);
            else
                snprintf(name, sizeof name, "hidden.%zu.%zu", i, k - 1);
            if (st_add(&d->out, name, rows, (size_t)(d->hidden ? d->info.hidden_size : d->info.vocab_size)) != 0)
                return 1;
        }
    }
    return 0;
}

static void on_hidden(void *user, size_t item, int32_t layer, size_t first_row, size_t n_rows, const float *rows)
{
    debug *d = user;
    const size_t index = d->item_sequence[item];
    if (d->code == 0)
        d->code = st_put(&d->out, index * tensors_per_sequence(d) + (size_t)(layer + 1),
                         d->sequences[index].fed + first_row, n_rows, rows);
}

static int open_sequences(debug *d)
{
    zamba_error err = {0};
    d->items = calloc(d->n_sequences, sizeof *d->items);
    d->item_sequence = calloc(d->n_sequences, sizeof *d->item_sequence);
    if (!d->items || !d->item_sequence)
        return cli_error("out of memory");
    for (size_t i = 0; i < d->n_sequences; i++) {
        debug_sequence *s = &d->sequences[i];
        size_t largest = d->n_pieces ? 1 : s->n_ids, n_bytes;
        for (size_t k = 0; k < d->n_pieces; k++)
            largest = d->pieces[k] > largest ? d->pieces[k] : largest;
        largest = largest < s->n_ids ? largest : s->n_ids;
        if (zamba_sequence_open(&s->sequence, d->model, d->args->ctx_size ? (size_t)d->args->ctx_size : s->n_ids,
                                &err) != ZAMBA_OK)
            return cli_fail(&err);
        if (d->hidden)
            continue;
        if (__builtin_mul_overflow(largest, (size_t)d->info.vocab_size * sizeof(float), &n_bytes) ||
            !(s->logits = malloc(n_bytes)))
            return cli_error("logits of %zu tokens at once: out of memory (--split?)", largest);
    }
    return 0;
}

static int feed(debug *d)
{
    zamba_error err = {0};
    zamba_forward_options options = {sizeof options, d->hidden ? on_hidden : NULL, d};
    size_t total = 0, done = 0;
    int code = 0;
    progress bar;
    for (size_t i = 0; i < d->n_sequences; i++)
        total += d->sequences[i].n_ids;
    progress_begin(&bar, (int)d->args->progress, (int)d->args->color, "computing", "tokens", total);
    for (size_t k = 0; code == 0 && done < total; k++) {
        size_t n = 0;
        for (size_t i = 0; i < d->n_sequences; i++) {
            debug_sequence *s = &d->sequences[i];
            if (s->fed == s->n_ids)
                continue;
            d->item_sequence[n] = i;
            d->items[n++] = (zamba_batch_item){s->sequence, s->ids + s->fed, piece(d, s, k),
                                               d->hidden ? ZAMBA_LOGITS_NONE : ZAMBA_LOGITS_ALL, s->logits};
        }
        if (zamba_forward(d->model, d->items, n, &options, &err) != ZAMBA_OK)
            code = cli_fail(&err);
        for (size_t i = 0; code == 0 && i < n; i++) {
            debug_sequence *s = &d->sequences[d->item_sequence[i]];
            if (!d->hidden)
                code = st_put(&d->out, d->item_sequence[i], s->fed, d->items[i].n_tokens, s->logits);
            s->fed += d->items[i].n_tokens;
            done += d->items[i].n_tokens;
        }
        if (code == 0)
            code = d->code;
        progress_update(&bar, done);
    }
    progress_end(&bar);
    return code;
}

int cmd_debug(const cli_args *args)
{
    debug d = {.args = args, .info = {.size = sizeof d.info}, .out = {.fd = -1}};
    zamba_error err = {0};
    cli_args rest = *args; /* the words behind `logits` */
    const char *what = args->words.n ? args->words.items[0] : "";
    size_t used;
    const bool gradients = strcmp(what, "grads") == 0;
    if (strcmp(what, "logits") != 0 && strcmp(what, "hidden") != 0 && !gradients) {
        cli_error("debug: found '%s', wanted logits, hidden or grads", what);
        return cli_hint(args->command);
    }
    d.hidden = what[0] == 'h';
    if (!args->ids || !args->output) {
        cli_error("debug %s needs %s", what, args->ids ? "-o OUT" : "--ids FILE");
        return cli_hint(args->command);
    }
    rest.words.items++;
    rest.words.n--;
    int code = args->split ? cli_parse_sizes("--split", args->split, false, &d.pieces, &d.n_pieces) : 0;
    if (code == 0)
        code = cli_no_more_words(&rest, args->model ? 0 : 1);
    char *path = code == 0 ? cli_model_path(&rest, &used) : NULL;
    if (code == 0 && !path)
        code = 1;
    if (code == 0 && gradients) {
        code = debug_grads(args, path);
        free(path);
        free(d.pieces);
        return code;
    }
    if (code == 0)
        code = cli_model_open(args, path, &d.model, NULL);
    if (code == 0 && zamba_model_info_get(d.model, &d.info, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0)
        code = read_sequences(&d);
    if (code == 0)
        code = open_sequences(&d);
    if (code == 0)
        code = describe(&d);
    if (code == 0)
        code = st_start(&d.out, args->output);
    if (code == 0)
        code = feed(&d);
    code = st_close(&d.out, code);
    for (size_t i = 0; i < d.n_sequences; i++) {
        zamba_sequence_close(d.sequences[i].sequence);
        free(d.sequences[i].ids);
        free(d.sequences[i].logits);
    }
    zamba_model_close(d.model);
    free(d.sequences);
    free(d.items);
    free(d.item_sequence);
    free(d.pieces);
    free(path);
    return code;
}
