/* data.c — a data set that was loaded: the order of its pieces, the turns of its sources, rows and batches. Everything
 * here follows from seed, epoch and counters, so where it stands is a handful of numbers (data_position.c). */
#include "train/data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/rng.h"

#define MAX_SEQUENCE ((size_t)1 << 24)
#define MAX_BATCH    ((size_t)1 << 20)

zamba_data_options zamba_data_defaults(zamba_data_kind kind)
{
    return (zamba_data_options){
        .size = sizeof(zamba_data_options),
        .kind = kind,
        .sequence_length = 1024,
        .batch_size = 8,
        .n_ranks = 1,
    };
}

/* ---- Opening ---- */

static zamba_status check_options(const zamba_data_options *o, zamba_error *err)
{
    if (o->size != sizeof *o)
        return zb_fail(err, ZAMBA_E_ARG, "data options: size is %zu, wanted %zu (zamba_data_defaults fills it)",
                       o->size, sizeof *o);
    if ((int)o->kind < ZAMBA_DATA_TEXT || o->kind > ZAMBA_DATA_PAIRS)
        return zb_fail(err, ZAMBA_E_ARG, "data options: kind is %d, wanted text, chat or pairs", (int)o->kind);
    if (o->n_sources == 0 || o->sources == NULL || o->n_sources > 65536)
        return zb_fail(err, ZAMBA_E_ARG, "data options: %zu sources, wanted at least one", o->n_sources);
    for (size_t i = 0; i < o->n_sources; i++) {
        if (o->sources[i].path == NULL)
            return zb_fail(err, ZAMBA_E_ARG, "data options: source %zu has no path", i);
        if (!isfinite(o->sources[i].weight) || o->sources[i].weight <= 0)
            return zb_fail(err, ZAMBA_E_ARG, "%s: its weight is %g, wanted a number above 0", o->sources[i].path,
                           o->sources[i].weight);
    }
    if (o->sequence_length < 1 || o->sequence_length > MAX_SEQUENCE)
        return zb_fail(err, ZAMBA_E_ARG, "data options: rows of %zu tokens, wanted 1 to %zu", o->sequence_length,
                       MAX_SEQUENCE);
    if (o->batch_size < 1 || o->batch_size > MAX_BATCH)
        return zb_fail(err, ZAMBA_E_ARG, "data options: batches of %zu rows, wanted 1 to %zu", o->batch_size,
                       MAX_BATCH);
    if (o->n_ranks < 1 || o->rank < 0 || o->rank >= o->n_ranks)
        return zb_fail(err, ZAMBA_E_ARG, "data options: rank %d of %d", o->rank, o->n_ranks);
    if ((int)o->too_long < ZAMBA_LONG_ERROR || o->too_long > ZAMBA_LONG_DROP)
        return zb_fail(err, ZAMBA_E_ARG, "data options: too_long is %d", (int)o->too_long);
    if (o->n_vocab < 0)
        return zb_fail(err, ZAMBA_E_ARG, "data options: a vocabulary of %d ids", o->n_vocab);
    return ZAMBA_OK;
}

static uint64_t size_of(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && sb.st_size > 0 ? (uint64_t)sb.st_size : 0;
}

static zamba_status load_all(zamba_dataset *d, const zamba_data_options *o, zamba_error *err)
{
    const char *separator = o->separator != NULL ? o->separator : "<|endoftext|>";
    uint64_t before = 0, total = 0;
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < d->n_sources; i++)
        total += size_of(o->sources[i].path);
    for (size_t i = 0; i < d->n_sources && st == ZAMBA_OK; i++) {
        zb_source *s = &d->sources[i];
        s->weight = o->sources[i].weight;
        s->path = strdup(o->sources[i].path);
        if (s->path == NULL)
            return zb_fail_memory(err, o->sources[i].path, strlen(o->sources[i].path));
        st = zb_data_load(d, i, separator, before, total, err);
        before += size_of(s->path);
        if (st == ZAMBA_OK)
            st = zb_data_shuffle(d, i, err);
    }
    return st;
}

zamba_status zamba_dataset_open(zamba_dataset **out, const zamba_data_options *options,
                                const zamba_tokenizer *tokenizer, const zamba_chat *chat, zamba_error *err)
{
    if (out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_dataset_open: no place for the result");
    *out = NULL;
    if (options == NULL || tokenizer == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_dataset_open: no %s", options == NULL ? "options" : "tokenizer");
    zamba_status st = check_options(options, err);
    if (st != ZAMBA_OK)
        return st;
    zamba_dataset *d = calloc(1, sizeof *d);
    if (d == NULL)
        return zb_fail_memory(err, "data set", sizeof *d);
    d->o = *options;
    d->o.n_vocab = options->n_vocab > 0 ? options->n_vocab : zamba_tokenizer_n_vocab(tokenizer);
    d->tokenizer = tokenizer;
    d->chat = chat;
    d->sources = calloc(options->n_sources, sizeof *d->sources);
    d->raw = malloc((options->sequence_length + 1) * sizeof *d->raw);
    if (d->sources == NULL || d->raw == NULL)
        st = zb_fail_memory(err, "data set", options->n_sources * sizeof *d->sources);
    d->n_sources = d->sources != NULL ? options->n_sources : 0;
    for (size_t i = 0; i < d->n_sources; i++)
        d->sources[i].ids.fd = -1;
    if (st == ZAMBA_OK)
        st = load_all(d, options, err);
    d->o.sources = NULL;
    d->o.separator = NULL;
    if (st == ZAMBA_OK)
        *out = d;
    else
        zamba_dataset_close(d);
    return st;
}

void zamba_dataset_close(zamba_dataset *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < d->n_sources; i++) {
        zb_ids_close(&d->sources[i].ids);
        free(d->sources[i].path);
        free(d->sources[i].pieces);
        free(d->sources[i].order);
    }
    free(d->sources);
    free(d->open.at);
    free(d->row.at);
    free(d->examples);
    free(d->ids);
    free(d->targets);
    free(d->raw);
    free(d);
}

/* ---- Order ---- */

zamba_status zb_data_shuffle(zamba_dataset *d, size_t i, zamba_error *err)
{
    zb_source *s = &d->sources[i];
    const size_t n = zb_source_items(d, s);
    uint64_t seed = d->o.seed;
    zb_rng rng;
    if (d->o.once)
        return ZAMBA_OK;
    if (s->order == NULL && (s->order = malloc(n * sizeof *s->order)) == NULL)
        return zb_fail_memory(err, s->path, n * sizeof *s->order);
    seed = zb_splitmix64(&seed) ^ i; /* three numbers into one, each step stirred */
    seed = zb_splitmix64(&seed) ^ (uint64_t)s->epoch;
    zb_rng_seed(&rng, zb_splitmix64(&seed));
    for (size_t k = 0; k < n; k++)
        s->order[k] = (uint32_t)k;
    for (size_t k = n; k > 1; k--) {
        const size_t other = (size_t)zb_rng_below(&rng, k);
        const uint32_t kept = s->order[k - 1];
        s->order[k - 1] = s->order[other];
        s->order[other] = kept;
    }
    return ZAMBA_OK;
}

/* The source whose turn it is: that which is furthest behind its share. NULL: all have ended. */
static zb_source *turn(zamba_dataset *d)
{
    zb_source *best = NULL;
    for (size_t i = 0; i < d->n_sources; i++) {
        zb_source *s = &d->sources[i];
        if (d->o.once) {
            if (s->next < zb_source_items(d, s))
                return s;
        } else if (best == NULL || (double)s->taken / s->weight < (double)best->taken / best->weight) {
            best = s;
        }
    }
    return best;
}

/* The next item of a source; an epoch begins where one has ended. */
static zamba_status next_item(zamba_dataset *d, zb_source *s, size_t *item, zamba_error *err)
{
    if (s->next == zb_source_items(d, s)) {
        s->epoch++;
        s->next = 0;
        const zamba_status st = zb_data_shuffle(d, (size_t)(s - d->sources), err);
        if (st != ZAMBA_OK)
            return st;
    }
    *item = s->order != NULL ? s->order[s->next] : s->next;
    s->next++;
    return ZAMBA_OK;
}

/* ---- Rows ---- */

zamba_status zb_segments_add(zb_segments *s, zb_segment one, zamba_error *err)
{
    if (s->n == s->room) {
        const size_t room = s->room > 0 ? 2 * s->room : 16;
        zb_segment *larger = realloc(s->at, room * sizeof *larger);
        if (larger == NULL)
            return zb_fail_memory(err, "a row", room * sizeof *larger);
        s->at = larger;
        s->room = room;
    }
    s->at[s->n++] = one;
    s->tokens += one.piece.n;
    return ZAMBA_OK;
}

static void clear(zb_segments *s)
{
    s->n = s->tokens = 0;
}

/* The open row is complete. */
static void emit(zamba_dataset *d)
{
    const zb_segments done = d->open;
    d->open = d->row;
    d->row = done;
    clear(&d->open);
}

/* Put a piece into the open row. *ready: d->row is a row. What fills a row alone is one, whatever is open: so cutting
 * falls on the short pieces only, and long documents keep all the context that a row has. */
static zamba_status place(zamba_dataset *d, zb_segment one, int *ready, zamba_error *err)
{
    const size_t most = d->o.sequence_length, room = most - d->open.tokens;
    zamba_status st = ZAMBA_OK;
    *ready = 1;
    if (one.piece.n == most || (d->o.unpacked && d->o.kind == ZAMBA_DATA_CHAT)) {
        clear(&d->row);
        return zb_segments_add(&d->row, one, err);
    }
    if (one.piece.n < room) {
        *ready = 0;
        return zb_segments_add(&d->open, one, err);
    }
    if (d->o.kind == ZAMBA_DATA_CHAT && one.piece.n > room) { /* conversations stay whole */
        emit(d);
        return zb_segments_add(&d->open, one, err);
    }
    zb_segment rest = one;
    if (d->o.kind == ZAMBA_DATA_TEXT)
        one.piece.n = one.piece.targets = (uint32_t)room;
    st = zb_segments_add(&d->open, one, err);
    if (st != ZAMBA_OK)
        return st;
    emit(d);
    rest.piece.start += one.piece.n;
    rest.piece.n -= one.piece.n;
    rest.piece.targets = rest.piece.n;
    return rest.piece.n > 0 ? zb_segments_add(&d->open, rest, err) : ZAMBA_OK;
}

/* The next row in d->row; without segments at the end. Pairs: both sides are one row here. */
static zamba_status next_row(zamba_dataset *d, zamba_error *err)
{
    for (int ready = 0; !ready;) {
        zb_source *s = turn(d);
        size_t item = 0;
        if (s == NULL) {
            emit(d);
            return ZAMBA_OK;
        }
        zamba_status st = next_item(d, s, &item, err);
        if (st != ZAMBA_OK)
            return st;
        const uint32_t source = (uint32_t)(s - d->sources);
        if (d->o.kind == ZAMBA_DATA_PAIRS) {
            clear(&d->row);
            s->taken++;
            st = zb_segments_add(&d->row, (zb_segment){s->pieces[2 * item], source}, err);
            return st == ZAMBA_OK ? zb_segments_add(&d->row, (zb_segment){s->pieces[2 * item + 1], source}, err) : st;
        }
        const zb_piece piece = s->pieces[item];
        s->taken += d->o.kind == ZAMBA_DATA_TEXT ? piece.n : 1;
        st = place(d, (zb_segment){piece, source}, &ready, err);
        if (st != ZAMBA_OK)
            return st;
    }
    return ZAMBA_OK;
}

/* ---- Batches ---- */

static zamba_status grow(void **block, size_t *room, size_t n, size_t size, zamba_error *err)
{
    size_t bytes;
    if (n <= *room)
        return ZAMBA_OK;
    void *larger = zb_mul(2 * n, size, &bytes) ? realloc(*block, bytes) : NULL;
    if (larger == NULL)
        return zb_fail_memory(err, "a batch", n * size);
    *block = larger;
    *room = 2 * n;
    return ZAMBA_OK;
}

static zamba_status reserve(zamba_dataset *d, size_t n, zamba_error *err)
{
    size_t room = d->room_ids;
    zamba_status st = grow((void **)&d->examples, &d->room_examples, d->n_examples + 1, sizeof *d->examples, err);
    if (st == ZAMBA_OK)
        st = grow((void **)&d->ids, &room, d->n_ids + n, sizeof *d->ids, err);
    if (st == ZAMBA_OK)
        st = grow((void **)&d->targets, &d->room_ids, d->n_ids + n, sizeof *d->targets, err);
    return st;
}

static zamba_status add_example(zamba_dataset *d, const zb_segment *one, int32_t row, zamba_error *err)
{
    const zb_source *s = &d->sources[one->source];
    const size_t n = one->piece.n, at = d->n_ids;
    const int all = d->o.kind == ZAMBA_DATA_TEXT;
    zamba_status st = zb_ids_read(&s->ids, one->piece.start, n + 1, d->raw, s->path, err);
    if (st == ZAMBA_OK)
        st = reserve(d, n, err);
    for (size_t i = 0; i <= n && st == ZAMBA_OK; i++) {
        const uint32_t id = all ? d->raw[i] : d->raw[i] & ~ZB_ID_LEARNED;
        if (id >= (uint32_t)d->o.n_vocab)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: found id %u, wanted 0 to %d (it must not change while it is used)",
                           s->path, id, d->o.n_vocab - 1);
        if (i < n)
            d->ids[at + i] = (int32_t)id;
        if (i > 0)
            d->targets[at + i - 1] = all || d->raw[i] & ZB_ID_LEARNED ? (int32_t)id : -1;
    }
    if (st == ZAMBA_OK) {
        d->examples[d->n_examples++] = (zamba_example){.n = n, .row = row};
        d->n_ids += n;
    }
    return st;
}

static int32_t epoch_of(const zamba_dataset *d)
{
    int32_t least = INT32_MAX;
    for (size_t i = 0; i < d->n_sources; i++) {
        const zb_source *s = &d->sources[i];
        const int32_t epoch = s->epoch + (s->next == zb_source_items(d, s) && !d->o.once);
        least = epoch < least ? epoch : least;
    }
    return least;
}

zamba_status zamba_dataset_next(zamba_dataset *d, zamba_data_batch *out, zamba_error *err)
{
    if (d == NULL || out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_dataset_next: no %s", d == NULL ? "data set" : "place for the batch");
    *out = (zamba_data_batch){.epoch = epoch_of(d)};
    const int pairs = d->o.kind == ZAMBA_DATA_PAIRS;
    d->n_examples = d->n_ids = 0;
    for (size_t r = 0; r < d->o.batch_size; r++) {
        zamba_status st = next_row(d, err);
        if (st != ZAMBA_OK)
            return st;
        if (d->row.n == 0)
            break;
        const int mine = r % (size_t)d->o.n_ranks == (size_t)d->o.rank;
        out->n_rows++;
        for (size_t k = 0; k < d->row.n && st == ZAMBA_OK; k++) {
            const zb_piece *piece = &d->row.at[k].piece;
            out->total_tokens += piece->n;
            out->total_targets += piece->targets;
            out->n_tokens += mine ? piece->n : 0;
            out->n_targets += mine ? piece->targets : 0;
            if (mine)
                st = add_example(d, &d->row.at[k], (int32_t)(pairs ? 2 * r + k : r), err);
        }
        if (st != ZAMBA_OK)
            return st;
    }
    for (size_t i = 0, at = 0; i < d->n_examples; at += d->examples[i++].n) {
        d->examples[i].ids = d->ids + at;
        d->examples[i].targets = d->targets + at;
    }
    out->examples = d->examples;
    out->n_examples = d->n_examples;
    return ZAMBA_OK;
}

/* ---- What is in it ---- */

/* Rows that a source makes by itself in the file's order. */
static uint64_t rows_of(const zamba_dataset *d, const zb_source *s)
{
    const size_t most = d->o.sequence_length;
    uint64_t rows = 0, fill = 0;
    if (d->o.kind == ZAMBA_DATA_PAIRS || (d->o.kind == ZAMBA_DATA_CHAT && d->o.unpacked))
        return zb_source_items(d, s);
    if (d->o.kind == ZAMBA_DATA_TEXT)
        return (s->info.n_tokens + most - 1) / most;
    for (size_t i = 0; i < s->n_pieces; i++) {
        const uint64_t n = s->pieces[i].n;
        if (n == most) {
            rows++;
        } else if (fill + n > most) {
            rows++;
            fill = n;
        } else {
            fill += n;
        }
    }
    return rows + (fill > 0);
}

zamba_status zamba_dataset_info(const zamba_dataset *d, int32_t source, zamba_data_info *info, zamba_error *err)
{
    if (d == NULL || info == NULL || info->size != sizeof *info)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_dataset_info: no %s",
                       d == NULL      ? "data set"
                       : info == NULL ? "place for the result"
                                      : "size in the place for the result");
    if (source < -1 || (source >= 0 && (size_t)source >= d->n_sources))
        return zb_fail(err, ZAMBA_E_ARG, "zamba_dataset_info: source %d of %zu", source, d->n_sources);
    *info = (zamba_data_info){.size = sizeof *info};
    for (size_t i = 0; i < d->n_sources; i++) {
        const zamba_data_info *one = &d->sources[i].info;
        if (source >= 0 && (size_t)source != i)
            continue;
        info->n_documents += one->n_documents;
        info->n_tokens += one->n_tokens;
        info->n_targets += one->n_targets;
        info->n_rows += rows_of(d, &d->sources[i]);
        info->n_empty += one->n_empty;
        info->n_cut += one->n_cut;
        info->n_dropped += one->n_dropped;
        for (size_t k = 0; k < 32; k++)
            info->lengths[k] += one->lengths[k];
    }
    return ZAMBA_OK;
}
