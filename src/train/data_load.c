/* data_load.c — one pass over a source: from text, JSON lines or ids to ids in a file and the pieces that the order is
 * made of. Whatever is wrong in the file comes to light here, with its line. */
#include "train/data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/stream.h"
#include "train/data_row.h"

#define MAX_DOCUMENT ((size_t)1 << 30) /* bytes of text */
#define MAX_LINE     ((size_t)64 << 20)
#define BLOCK        ((size_t)64 << 10)
#define TELL         ((uint64_t)1 << 20) /* bytes between two calls of on_progress */

static const zb_json_limits line_limits = {MAX_LINE, 1000000};

typedef enum format { TEXT, JSON_LINES, IDS_16, IDS_32 } format;

typedef struct loader {
    zamba_dataset *d;
    zb_source *s;
    zb_stream *in;
    zb_row_maker maker;
    zb_tokens tokens, other;
    uint64_t bytes_before, bytes_total, told;
    zamba_error *err;
} loader;

static int ends_in(const char *path, size_t n, const char *end)
{
    const size_t n_end = strlen(end);
    return n > n_end && memcmp(path + n - n_end, end, n_end) == 0;
}

static format format_of(const char *path)
{
    size_t n = strlen(path);
    n -= ends_in(path, n, ".zst") ? 4 : 0;
    return ends_in(path, n, ".u16")                                                                 ? IDS_16
           : ends_in(path, n, ".u32")                                                               ? IDS_32
           : ends_in(path, n, ".jsonl") || ends_in(path, n, ".ndjson") || ends_in(path, n, ".json") ? JSON_LINES
                                                                                                    : TEXT;
}

/* ---- Pieces ---- */

static zamba_status add_piece(loader *l, uint64_t start, uint32_t n, uint32_t targets)
{
    zb_source *s = l->s;
    if (s->n_pieces == s->room) {
        size_t bytes;
        const size_t room = s->room > 0 ? 2 * s->room : 1024;
        zb_piece *larger = room < UINT32_MAX && zb_mul(room, sizeof *larger, &bytes) ? realloc(s->pieces, bytes) : NULL;
        if (larger == NULL)
            return zb_fail_memory(l->err, s->path, room * sizeof *larger);
        s->pieces = larger;
        s->room = room;
    }
    s->pieces[s->n_pieces++] = (zb_piece){start, n, targets};
    s->info.n_tokens += n;
    s->info.n_targets += targets;
    return ZAMBA_OK;
}

static void count_length(loader *l, uint64_t n)
{
    int i = 0;
    while (n > 1 && i < 31) {
        n >>= 1;
        i++;
    }
    l->s->info.lengths[i]++;
}

/* A document of n ids from `start` on: of a text, every id but the first is a target. */
static zamba_status add_document(loader *l, uint64_t start, uint64_t n)
{
    const uint64_t most = l->d->o.sequence_length;
    zamba_status st = ZAMBA_OK;
    if (n < 2) {
        l->s->info.n_empty++;
        return ZAMBA_OK;
    }
    l->s->info.n_documents++;
    count_length(l, n);
    for (uint64_t at = 0; at < n - 1 && st == ZAMBA_OK; at += most) {
        const uint32_t part = (uint32_t)(n - 1 - at < most ? n - 1 - at : most);
        st = add_piece(l, start + at, part, part);
    }
    return st;
}

static zamba_status write_tokens(loader *l, const zb_tokens *t)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < t->n && st == ZAMBA_OK; i++)
        st = zb_ids_add(&l->s->ids, t->ids[i], l->err);
    return st;
}

static zamba_status tell(loader *l)
{
    const zamba_data_options *o = &l->d->o;
    const uint64_t done = zb_stream_done(l->in);
    if (o->on_progress == NULL || (done < l->told + TELL && done < zb_stream_size(l->in)))
        return ZAMBA_OK;
    l->told = done;
    return o->on_progress(o->user, l->bytes_before + done, l->bytes_total) == 0
               ? ZAMBA_OK
               : zb_fail(l->err, ZAMBA_E_CANCELLED, "%s: stopped", l->s->path);
}

/* ---- Text ---- */

static zamba_status add_text(loader *l, const char *text, size_t n)
{
    while (n > 0 && (text[0] == '\n' || text[0] == '\r'))
        text++, n--;
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    if (n == 0) {
        l->s->info.n_empty++;
        return ZAMBA_OK;
    }
    const uint64_t start = l->s->ids.n;
    zamba_status st = zb_row_document(&l->maker, text, n, &l->tokens, l->err);
    if (st == ZAMBA_OK)
        st = write_tokens(l, &l->tokens);
    return st == ZAMBA_OK ? add_document(l, start, l->tokens.n) : st;
}

static int is_separator(const char *line, size_t n, const char *separator)
{
    while (n > 0 && strchr("\r\n \t", line[n - 1]) != NULL && line[n - 1] != '\0')
        n--;
    return n == strlen(separator) && memcmp(line, separator, n) == 0;
}

static zamba_status load_text(loader *l, const char *separator)
{
    zb_buf text = {0};
    const char *line = NULL;
    size_t n = 0;
    int any = 0; /* a document has begun: an empty file has none, not even an empty one */
    zamba_status st = ZAMBA_OK;
    for (;;) {
        st = zb_stream_line(l->in, &line, &n, MAX_DOCUMENT, l->err);
        if (st != ZAMBA_OK || line == NULL)
            break;
        if (is_separator(line, n, separator)) {
            st = add_text(l, text.data != NULL ? text.data : "", text.n);
            text.n = 0;
            any = 0;
        } else if (text.n + n > MAX_DOCUMENT) {
            st = zb_fail(l->err, ZAMBA_E_FORMAT,
                         "%s, line %llu: a document of more than %zu bytes (are documents parted by a line \"%s\"?)",
                         l->s->path, (unsigned long long)zb_stream_lines(l->in), MAX_DOCUMENT, separator);
        } else {
            st = zb_buf_append(&text, line, n, l->err);
            any = 1;
        }
        if (st == ZAMBA_OK)
            st = tell(l);
        if (st != ZAMBA_OK)
            break;
    }
    if (st == ZAMBA_OK && any)
        st = add_text(l, text.data, text.n);
    zb_buf_free(&text);
    return st;
}

/* ---- JSON lines ---- */

/* What is longer than a row; *drop: it is not taken. */
static zamba_status fit(loader *l, zb_tokens *a, zb_tokens *b, int *drop)
{
    const size_t most = l->d->o.sequence_length + 1, longest = b != NULL && b->n > a->n ? b->n : a->n;
    const zamba_data_long what = l->d->o.too_long;
    *drop = 0;
    if (a->n == 0 || (b != NULL && b->n == 0)) { /* nothing is learned */
        l->s->info.n_empty++;
        *drop = 1;
    } else if (longest > most && what == ZAMBA_LONG_ERROR) {
        return zb_fail(l->err, ZAMBA_E_CONTEXT,
                       "%zu tokens, a row has room for %zu (take longer rows, or have long ones cut or dropped)",
                       longest - 1, most - 1);
    } else if (longest > most) {
        zb_tokens_cut(a, most);
        if (b != NULL)
            zb_tokens_cut(b, most);
        *drop = what == ZAMBA_LONG_DROP || a->n == 0 || (b != NULL && b->n == 0);
        *(*drop ? &l->s->info.n_dropped : &l->s->info.n_cut) += 1;
    }
    return ZAMBA_OK;
}

static zamba_status add_learned(loader *l, const zb_tokens *t)
{
    uint32_t targets = 0;
    const uint64_t start = l->s->ids.n;
    for (size_t i = 1; i < t->n; i++)
        targets += t->ids[i] >> 31;
    const zamba_status st = write_tokens(l, t);
    return st == ZAMBA_OK ? add_piece(l, start, (uint32_t)(t->n - 1), targets) : st;
}

static zamba_status add_row(loader *l, const json_t *row)
{
    const int pairs = l->d->o.kind == ZAMBA_DATA_PAIRS;
    int drop = 0;
    zamba_status st = pairs ? zb_row_pair(&l->maker, row, &l->tokens, &l->other, l->err)
                            : zb_row_chat(&l->maker, row, &l->tokens, l->err);
    if (st == ZAMBA_OK) {
        st = fit(l, &l->tokens, pairs ? &l->other : NULL, &drop);
        if (st != ZAMBA_OK || drop)
            return st;
        l->s->info.n_documents++;
        count_length(l, l->tokens.n);
        st = add_learned(l, &l->tokens);
    }
    if (st == ZAMBA_OK && pairs) {
        count_length(l, l->other.n);
        st = add_learned(l, &l->other);
    }
    return st;
}

static zamba_status add_line(loader *l, const char *line, size_t n)
{
    json_t *row = NULL;
    const char *text;
    size_t n_text;
    const size_t number = (size_t)zb_stream_lines(l->in);
    zamba_status st = zb_json_parse_line(&row, line, n, l->s->path, number, line_limits, l->err);
    if (st != ZAMBA_OK)
        return st;
    if (l->d->o.kind == ZAMBA_DATA_TEXT) {
        st = zb_row_text(row, &text, &n_text, l->err);
        if (st == ZAMBA_OK)
            st = add_text(l, text, n_text);
    } else {
        st = add_row(l, row);
    }
    json_decref(row);
    return st == ZAMBA_OK ? st : zb_fail_prefix(l->err, st, "%s, line %zu", l->s->path, number);
}

/* The next line that is not blank, without its end: an error in it is one of this line, not of the next. */
static zamba_status next_line(zb_stream *in, const char **line, size_t *n, zamba_error *err)
{
    zamba_status st;
    do {
        st = zb_stream_line(in, line, n, MAX_LINE, err);
        while (st == ZAMBA_OK && *n > 0 && strchr(" \t\r\n", (*line)[*n - 1]) != NULL && (*line)[*n - 1] != '\0')
            --*n;
    } while (st == ZAMBA_OK && *line != NULL && *n == 0);
    return st;
}

static zamba_status load_lines(loader *l)
{
    const char *line = NULL;
    size_t n = 0;
    zamba_status st;
    do {
        st = next_line(l->in, &line, &n, l->err);
        if (st == ZAMBA_OK && line != NULL)
            st = add_line(l, line, n);
        if (st == ZAMBA_OK)
            st = tell(l);
    } while (st == ZAMBA_OK && line != NULL);
    return st;
}

/* ---- Ids ---- */

static zamba_status load_ids(loader *l, size_t width, uint32_t n_vocab)
{
    unsigned char *block = malloc(BLOCK);
    const int32_t eos = zamba_tokenizer_eos(l->maker.tokenizer);
    uint64_t start = 0;
    size_t got = BLOCK;
    zamba_status st = block != NULL ? ZAMBA_OK : zb_fail_memory(l->err, l->s->path, BLOCK);
    while (st == ZAMBA_OK && got == BLOCK) {
        st = zb_stream_read(l->in, block, BLOCK, &got, l->err);
        if (st == ZAMBA_OK && got % width != 0)
            st = zb_fail(l->err, ZAMBA_E_FORMAT, "%s: ends in the middle of a number of %zu bytes (cut off?)",
                         l->s->path, width);
        for (size_t i = 0; i < got && st == ZAMBA_OK; i += width) {
            uint32_t id = (uint32_t)block[i] | (uint32_t)block[i + 1] << 8;
            if (width == 4)
                id |= (uint32_t)block[i + 2] << 16 | (uint32_t)block[i + 3] << 24;
            if (id >= n_vocab) {
                st = zb_fail(l->err, ZAMBA_E_FORMAT,
                             "%s: position %llu: found id %u, wanted 0 to %u (ids of another tokenizer?)", l->s->path,
                             (unsigned long long)l->s->ids.n, id, n_vocab - 1);
                break;
            }
            st = zb_ids_add(&l->s->ids, id, l->err);
            if (st == ZAMBA_OK && eos >= 0 && id == (uint32_t)eos) {
                st = add_document(l, start, l->s->ids.n - start);
                start = l->s->ids.n;
            }
        }
        if (st == ZAMBA_OK)
            st = tell(l);
    }
    if (st == ZAMBA_OK && l->s->ids.n > start)
        st = add_document(l, start, l->s->ids.n - start);
    free(block);
    return st;
}

/* ---- A source ---- */

static zamba_status check_content(const loader *l)
{
    static const char *const things[] = {"document", "conversation", "pair"};
    const zamba_data_info *info = &l->s->info;
    const char *thing = things[l->d->o.kind];
    if (l->s->n_pieces > 0)
        return ZAMBA_OK;
    if (info->n_empty + info->n_dropped == 0)
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: empty: no %s in it", l->s->path, thing);
    return zb_fail(l->err, ZAMBA_E_FORMAT,
                   "%s: nothing to learn: of each %s nothing is left (%llu have nothing that is learned, %llu were "
                   "longer than a row)",
                   l->s->path, thing, (unsigned long long)info->n_empty, (unsigned long long)info->n_dropped);
}

zamba_status zb_data_load(zamba_dataset *d, size_t i, const char *separator, uint64_t bytes_before,
                          uint64_t bytes_total, zamba_error *err)
{
    zb_source *s = &d->sources[i];
    loader l = {.d = d, .s = s, .bytes_before = bytes_before, .bytes_total = bytes_total, .err = err};
    l.maker = (zb_row_maker){d->tokenizer, d->chat, d->o.plain};
    const format f = format_of(s->path);
    const int is_ids = f == IDS_16 || f == IDS_32;
    if (d->o.kind != ZAMBA_DATA_TEXT && f != JSON_LINES)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: %s are read from JSON lines (.jsonl, .jsonl.zst)", s->path,
                       d->o.kind == ZAMBA_DATA_CHAT ? "conversations" : "pairs");
    zamba_status st = zb_stream_open(&l.in, s->path, err);
    if (st == ZAMBA_OK) {
        const int packed = zb_stream_packed(l.in);
        const int width = is_ids                                                  ? (f == IDS_16 ? 2 : 4)
                          : d->o.kind == ZAMBA_DATA_TEXT && d->o.n_vocab <= 65536 ? 2
                                                                                  : 4;
        st = is_ids && !packed ? zb_ids_adopt(&s->ids, s->path, width, err) : zb_ids_create(&s->ids, width, err);
    }
    if (st == ZAMBA_OK)
        st = is_ids            ? load_ids(&l, f == IDS_16 ? 2 : 4, (uint32_t)d->o.n_vocab)
             : f == JSON_LINES ? load_lines(&l)
                               : load_text(&l, separator);
    if (st == ZAMBA_OK)
        st = zb_ids_finish(&s->ids, err);
    if (st == ZAMBA_OK)
        st = check_content(&l);
    zb_stream_close(l.in);
    zb_tokens_free(&l.tokens);
    zb_tokens_free(&l.other);
    return st;
}

/* ---- What kind of file ---- */

zamba_status zamba_data_guess(const char *path, zamba_data_kind *kind, zamba_error *err)
{
    zb_stream *in = NULL;
    const char *line = NULL;
    json_t *row = NULL;
    size_t n = 0;
    if (path == NULL || kind == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_data_guess: no %s", path == NULL ? "path" : "place for the result");
    *kind = ZAMBA_DATA_TEXT;
    zamba_status st = zb_stream_open(&in, path, err);
    if (st == ZAMBA_OK && format_of(path) == JSON_LINES) {
        st = next_line(in, &line, &n, err);
        if (st == ZAMBA_OK && line == NULL)
            st = zb_fail(err, ZAMBA_E_FORMAT, "%s: empty", path);
        if (st == ZAMBA_OK)
            st = zb_json_parse_line(&row, line, n, path, (size_t)zb_stream_lines(in), line_limits, err);
        if (st == ZAMBA_OK && !zb_row_kind(row, kind))
            st = zb_fail(
                err, ZAMBA_E_FORMAT,
                "%s, line %llu: no row of a known shape (wanted \"text\", \"messages\", \"conversations\", "
                "\"prompt\" and \"completion\", \"instruction\" and \"output\", or \"chosen\" and \"rejected\")",
                path, (unsigned long long)zb_stream_lines(in));
    }
    json_decref(row);
    zb_stream_close(in);
    return st;
}
