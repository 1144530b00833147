/* data_position.c — where a data set stands, as JSON: for each source its epoch, place in the order and share taken,
 * and the row that is not full yet. Which data it belongs to is written beside it and compared. */
#include "train/data.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1 };

static const char *const kinds[] = {"text", "chat", "pairs"};

/* ---- Out ---- */

static json_t *source_json(const zb_source *s)
{
    char hash[20];
    snprintf(hash, sizeof hash, "%016" PRIx64, s->ids.hash);
    return json_pack("{s:s, s:s, s:I, s:I, s:f, s:i, s:I, s:I}", "path", s->path, "hash", hash, "ids",
                     (json_int_t)s->ids.n, "pieces", (json_int_t)s->n_pieces, "weight", s->weight, "epoch", s->epoch,
                     "next", (json_int_t)s->next, "taken", (json_int_t)s->taken);
}

zamba_status zamba_dataset_position(const zamba_dataset *d, char **json, zamba_error *err)
{
    char seed[20];
    if (d == NULL || json == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_dataset_position: no %s",
                       d == NULL ? "data set" : "place for the text");
    *json = NULL;
    snprintf(seed, sizeof seed, "%016" PRIx64, d->o.seed);
    json_t *root = json_pack("{s:i, s:s, s:I, s:s, s:b, s:b, s:[], s:[]}", "version", (int)VERSION, "kind",
                             kinds[d->o.kind], "sequence_length", (json_int_t)d->o.sequence_length, "seed", seed,
                             "unpacked", d->o.unpacked != 0, "once", d->o.once != 0, "sources", "open");
    int bad = root == NULL;
    for (size_t i = 0; i < d->n_sources && !bad; i++) { /* a path that is not UTF-8 makes no JSON, and is only a note */
        json_t *one = source_json(&d->sources[i]);
        if (one == NULL) {
            zb_source nameless = d->sources[i];
            nameless.path = "";
            one = source_json(&nameless);
        }
        bad = json_array_append_new(json_object_get(root, "sources"), one);
    }
    for (size_t i = 0; i < d->open.n && !bad; i++) {
        const zb_segment *s = &d->open.at[i];
        bad = json_array_append_new(json_object_get(root, "open"),
                                    json_pack("[I, I, I, I]", (json_int_t)s->source, (json_int_t)s->piece.start,
                                              (json_int_t)s->piece.n, (json_int_t)s->piece.targets));
    }
    *json = bad ? NULL : json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(root);
    return *json != NULL ? ZAMBA_OK : zb_fail_memory(err, "a position", 4096);
}

/* ---- In ---- */

typedef struct reading {
    zamba_dataset *d;
    zb_segments open;
    struct standing {
        int32_t epoch;
        uint64_t next, taken;
    } * sources;
    zamba_error *err;
} reading;

/* A number from 0 to most. */
static int number(const json_t *v, uint64_t most, uint64_t *out)
{
    const json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < 0 || (uint64_t)n > most)
        return 0;
    *out = (uint64_t)n;
    return 1;
}

static zamba_status damaged(const reading *r, const char *what)
{
    return zb_fail(r->err, ZAMBA_E_FORMAT, "position in the data: %s is wrong or missing (a damaged checkpoint?)",
                   what);
}

static zamba_status differs(const reading *r, const char *what, const char *was, const char *is)
{
    return zb_fail(r->err, ZAMBA_E_MISMATCH,
                   "position in the data: it belongs to other data: %s was %s, is %s (resume with the same data and "
                   "settings)",
                   what, was, is);
}

static zamba_status check_text(const reading *r, const json_t *root, const char *name, const char *is)
{
    const char *was = json_string_value(json_object_get(root, name));
    if (was == NULL)
        return damaged(r, name);
    return strcmp(was, is) == 0 ? ZAMBA_OK : differs(r, name, was, is);
}

static zamba_status check_flag(const reading *r, const json_t *root, const char *name, int is)
{
    const json_t *v = json_object_get(root, name);
    if (!json_is_boolean(v))
        return damaged(r, name);
    return json_is_true(v) == (is != 0) ? ZAMBA_OK
                                        : differs(r, name, json_is_true(v) ? "set" : "not set", is ? "set" : "not set");
}

static zamba_status check_number(const reading *r, const json_t *root, const char *name, const char *where, uint64_t is)
{
    char was_text[32], is_text[32], what[300];
    uint64_t was;
    if (!number(json_object_get(root, name), INT64_MAX, &was))
        return damaged(r, name);
    if (was == is)
        return ZAMBA_OK;
    snprintf(was_text, sizeof was_text, "%" PRIu64, was);
    snprintf(is_text, sizeof is_text, "%" PRIu64, is);
    snprintf(what, sizeof what, "%s%s%.200s", name, where[0] != '\0' ? " of " : "", where);
    return differs(r, what, was_text, is_text);
}

static zamba_status read_source(reading *r, size_t i, const json_t *one)
{
    const zb_source *s = &r->d->sources[i];
    struct standing *to = &r->sources[i];
    char hash[20], was[40], is[40];
    uint64_t epoch;
    zamba_status st = check_number(r, one, "ids", s->path, s->ids.n);
    if (st == ZAMBA_OK)
        st = check_number(r, one, "pieces", s->path, s->n_pieces);
    snprintf(hash, sizeof hash, "%016" PRIx64, s->ids.hash);
    const char *had = json_string_value(json_object_get(one, "hash"));
    if (st == ZAMBA_OK && had == NULL)
        st = damaged(r, "a source's hash");
    if (st == ZAMBA_OK && strcmp(had, hash) != 0)
        st = differs(r, s->path, had, hash);
    const json_t *weight = json_object_get(one, "weight");
    if (st == ZAMBA_OK && json_number_value(weight) != s->weight) {
        snprintf(was, sizeof was, "%g", json_number_value(weight));
        snprintf(is, sizeof is, "%g", s->weight);
        st = differs(r, "a weight", was, is);
    }
    if (st != ZAMBA_OK)
        return st;
    if (!number(json_object_get(one, "epoch"), INT32_MAX - 1, &epoch) ||
        !number(json_object_get(one, "next"), zb_source_items(r->d, s), &to->next) ||
        !number(json_object_get(one, "taken"), INT64_MAX, &to->taken))
        return damaged(r, "a source's place");
    to->epoch = (int32_t)epoch;
    return ZAMBA_OK;
}

static zamba_status read_segment(reading *r, const json_t *one)
{
    uint64_t source, start, n, targets;
    const uint64_t most = r->d->o.sequence_length;
    if (!number(json_array_get(one, 0), r->d->n_sources - 1, &source) ||
        !number(json_array_get(one, 1), r->d->sources[source].ids.n, &start) ||
        !number(json_array_get(one, 2), most, &n) || !number(json_array_get(one, 3), n, &targets) || n == 0 ||
        start + n >= r->d->sources[source].ids.n || r->open.tokens + n >= most)
        return damaged(r, "the open row");
    const zb_piece piece = {start, (uint32_t)n, (uint32_t)targets};
    return zb_segments_add(&r->open, (zb_segment){piece, (uint32_t)source}, r->err);
}

static zamba_status read_all(reading *r, const json_t *root)
{
    char seed[20];
    const json_t *sources = json_object_get(root, "sources"), *open = json_object_get(root, "open");
    snprintf(seed, sizeof seed, "%016" PRIx64, r->d->o.seed);
    if (!json_is_object(root) || json_integer_value(json_object_get(root, "version")) != VERSION)
        return damaged(r, "version");
    if (!json_is_array(sources) || !json_is_array(open))
        return damaged(r, "the list of sources");
    zamba_status st = check_text(r, root, "kind", kinds[r->d->o.kind]);
    if (st == ZAMBA_OK)
        st = check_number(r, root, "sequence_length", "", r->d->o.sequence_length);
    if (st == ZAMBA_OK)
        st = check_text(r, root, "seed", seed);
    if (st == ZAMBA_OK)
        st = check_flag(r, root, "unpacked", r->d->o.unpacked);
    if (st == ZAMBA_OK)
        st = check_flag(r, root, "once", r->d->o.once);
    if (st == ZAMBA_OK && json_array_size(sources) != r->d->n_sources) {
        char was[24], is[24];
        snprintf(was, sizeof was, "%zu", json_array_size(sources));
        snprintf(is, sizeof is, "%zu", r->d->n_sources);
        st = differs(r, "the number of sources", was, is);
    }
    for (size_t i = 0; i < r->d->n_sources && st == ZAMBA_OK; i++)
        st = read_source(r, i, json_array_get(sources, i));
    for (size_t i = 0; i < json_array_size(open) && st == ZAMBA_OK; i++)
        st = read_segment(r, json_array_get(open, i));
    return st;
}

/* Everything is checked: only now the data set moves. */
static zamba_status move(reading *r)
{
    zamba_dataset *d = r->d;
    free(d->open.at);
    d->open = r->open;
    r->open = (zb_segments){0};
    for (size_t i = 0; i < d->n_sources; i++) {
        zb_source *s = &d->sources[i];
        s->epoch = r->sources[i].epoch;
        s->next = (size_t)r->sources[i].next;
        s->taken = r->sources[i].taken;
        const zamba_status st = zb_data_shuffle(d, i, r->err); /* its memory is there already */
        if (st != ZAMBA_OK)
            return st;
    }
    return ZAMBA_OK;
}

zamba_status zamba_dataset_seek(zamba_dataset *d, const char *json, zamba_error *err)
{
    if (d == NULL || json == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "zamba_dataset_seek: no %s", d == NULL ? "data set" : "position");
    reading r = {.d = d, .err = err, .sources = calloc(d->n_sources, sizeof *r.sources)};
    json_t *root = NULL;
    zamba_status st =
        r.sources != NULL ? ZAMBA_OK : zb_fail_memory(err, "a position", d->n_sources * sizeof *r.sources);
    if (st == ZAMBA_OK)
        st = zb_json_parse(&root, json, strlen(json), "position in the data", zb_json_large, err);
    if (st == ZAMBA_OK)
        st = read_all(&r, root);
    if (st == ZAMBA_OK)
        st = move(&r);
    json_decref(root);
    free(r.open.at);
    free(r.sources);
    return st;
}
