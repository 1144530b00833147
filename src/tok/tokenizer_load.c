/* tokenizer_load.c — from tokenizer.json and tokenizer_config.json to a tokenizer: files, vocabulary, merges, added and
 * named tokens. The parts around the model are in tokenizer_pipeline.c. Trusts nothing it reads. */
#include "tok/tokenizer_load.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/gguf_vocab.h"
#include "core/utf8.h"

/* ---- Fields and messages ---------------------------------------------------------------------------------------- */

const char *zb_json_kind(const json_t *j)
{
    static const char *const kinds[] = {"an object", "an array", "a string", "an integer",
                                        "a number",  "true",     "false",    "null"};
    return j == NULL ? "missing" : kinds[json_typeof(j)];
}

const char *zb_tok_show(char *buf, const char *text, size_t n)
{
    size_t at = 0;
    for (size_t i = 0, len; i < n && at < 40; i += len) {
        len = zb_utf8_length(text + i, n - i);
        if (len < 2) {
            buf[at++] = len == 1 && (unsigned char)text[i] >= 0x20 && text[i] != 0x7F ? text[i] : '?';
            len = 1;
        } else {
            memcpy(buf + at, text + i, len);
            at += len;
        }
    }
    buf[at] = '\0';
    return buf;
}

zamba_status zb_tok_string(const zb_tok_loader *l, const json_t *object, const char *where, const char *key,
                           const char **text, size_t *n)
{
    const json_t *j = json_object_get(object, key);
    *text = "";
    *n = 0;
    if (!json_is_string(j))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: \"%s\" is %s, wanted a string", l->name, where, key,
                       zb_json_kind(j));
    *text = json_string_value(j);
    *n = json_string_length(j);
    return ZAMBA_OK;
}

zamba_status zb_tok_flag(const zb_tok_loader *l, const json_t *object, const char *where, const char *key,
                         int otherwise, int *out)
{
    const json_t *j = json_object_get(object, key);
    *out = otherwise;
    if (j == NULL || json_is_null(j))
        return ZAMBA_OK;
    if (!json_is_boolean(j))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: \"%s\" is %s, wanted true or false", l->name, where, key,
                       zb_json_kind(j));
    *out = json_is_true(j);
    return ZAMBA_OK;
}

zamba_status zb_tok_count(const zb_tok_loader *l, const json_t *object, const char *where, const char *key,
                          json_int_t max, json_int_t *out)
{
    const json_t *j = json_object_get(object, key);
    *out = 0;
    if (!json_is_integer(j))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: \"%s\" is %s, wanted an integer", l->name, where, key,
                       zb_json_kind(j));
    *out = json_integer_value(j);
    if (*out < 0 || *out > max)
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: \"%s\" is %lld, wanted 0 to %lld", l->name, where, key,
                       (long long)*out, (long long)max);
    return ZAMBA_OK;
}

zamba_status zb_tok_type(const zb_tok_loader *l, const json_t *part, const char *where, const char **type)
{
    size_t n;
    if (!json_is_object(part))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s is %s, wanted an object", l->name, where, zb_json_kind(part));
    return zb_tok_string(l, part, where, "type", type, &n);
}

zamba_status zb_tok_unsupported(const zb_tok_loader *l, const char *where, const char *what)
{
    char shown[64];
    const size_t n = strlen(what);
    return zb_fail(l->err, ZAMBA_E_UNSUPPORTED, "%s: %s: %s is not supported", l->name, where,
                   n > 40 && strchr(what, ' ') != NULL ? what : zb_tok_show(shown, what, n));
}

/* ---- Vocabulary ------------------------------------------------------------------------------------------------- */

static zamba_status check_id(const zb_tok_loader *l, const char *where, const char *piece, size_t n, const json_t *id)
{
    char shown[64];
    if (!json_is_integer(id))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: the id of \"%s\" is %s, wanted an integer", l->name, where,
                       zb_tok_show(shown, piece, n), zb_json_kind(id));
    if (json_integer_value(id) < 0 || json_integer_value(id) >= ZB_VOCAB_MAX_IDS)
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: \"%s\" has id %lld, wanted 0 to %d", l->name, where,
                       zb_tok_show(shown, piece, n), (long long)json_integer_value(id), (int)ZB_VOCAB_MAX_IDS - 1);
    return ZAMBA_OK;
}

static zamba_status read_added_token(zb_tok_loader *l, const json_t *j, size_t index)
{
    char where[40];
    const char *content;
    size_t n;
    int special, normalized, single_word, lstrip, rstrip;
    snprintf(where, sizeof where, "added_tokens[%zu]", index);
    if (!json_is_object(j))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s is %s, wanted an object", l->name, where, zb_json_kind(j));
    zamba_status st = zb_tok_string(l, j, where, "content", &content, &n);
    if (st == ZAMBA_OK)
        st = check_id(l, where, content, n, json_object_get(j, "id"));
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, j, where, "special", 0, &special);
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, j, where, "normalized", !special, &normalized);
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, j, where, "single_word", 0, &single_word);
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, j, where, "lstrip", 0, &lstrip);
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, j, where, "rstrip", 0, &rstrip);
    if (st == ZAMBA_OK && n == 0)
        st = zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: the content is empty", l->name, where);
    if (st == ZAMBA_OK && n > ZB_ADDED_MAX_BYTES)
        st = zb_tok_unsupported(l, where, "a content of more than 256 bytes");
    if (st == ZAMBA_OK && single_word)
        st = zb_tok_unsupported(l, where, "single_word true");
    if (st != ZAMBA_OK)
        return st;
    const zb_added flags = {.id = (int32_t)json_integer_value(json_object_get(j, "id")),
                            .special = (uint8_t)special,
                            .normalized = (uint8_t)normalized,
                            .lstrip = (uint8_t)lstrip,
                            .rstrip = (uint8_t)rstrip};
    return zb_added_set_add(&l->added, content, n, flags, l->err);
}

static zamba_status index_added(const zb_tok_loader *l, zb_added_set *set)
{
    const zamba_status st = zb_added_set_index(set, l->err);
    return st == ZAMBA_OK ? st : zb_fail_prefix(l->err, st, "%s", l->name);
}

static zamba_status read_added_tokens(zb_tok_loader *l)
{
    const json_t *list = json_object_get(l->root, "added_tokens");
    zamba_status st = ZAMBA_OK;
    if (list == NULL || json_is_null(list))
        return ZAMBA_OK;
    if (!json_is_array(list))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: added_tokens is %s, wanted an array", l->name, zb_json_kind(list));
    for (size_t i = 0; i < json_array_size(list) && st == ZAMBA_OK; i++)
        st = read_added_token(l, json_array_get(list, i), i);
    return st == ZAMBA_OK ? index_added(l, &l->added) : st;
}

/* An added token either names a piece of the model or stands on an id of its own. */
static zamba_status place_added(zb_tok_loader *l, const zb_added *a)
{
    zb_vocab *v = &l->t->bpe.vocab;
    char shown[64], other[64];
    size_t n;
    const int32_t found = zb_vocab_find(v, a->text, a->n);
    if (found >= 0 && found != a->id)
        return zb_fail(l->err, ZAMBA_E_MISMATCH, "%s: added_tokens: \"%s\" has id %d, model.vocab gives it %d", l->name,
                       zb_tok_show(shown, a->text, a->n), (int)a->id, (int)found);
    if (found < 0 && !zb_vocab_set(v, a->id, a->text, a->n)) {
        const char *piece = zb_vocab_piece(v, a->id, &n);
        return zb_fail(l->err, ZAMBA_E_MISMATCH, "%s: added_tokens: \"%s\" has id %d, which is \"%s\"", l->name,
                       zb_tok_show(shown, a->text, a->n), (int)a->id, zb_tok_show(other, piece, n));
    }
    return ZAMBA_OK;
}

static zamba_status load_vocab(zb_tok_loader *l, const json_t *vocab)
{
    zb_vocab *v = &l->t->bpe.vocab;
    zamba_status st = ZAMBA_OK;
    json_int_t highest = -1;
    size_t n_text = 0;
    const char *piece;
    json_t *id;
    char shown[64];
    if (!json_is_object(vocab))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.vocab is %s, wanted an object", l->name, zb_json_kind(vocab));
    json_object_foreach((json_t *)vocab, piece, id)
    {
        const size_t n = strlen(piece);
        if ((st = check_id(l, "model.vocab", piece, n, id)) != ZAMBA_OK)
            return st;
        if (n == 0)
            return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.vocab: id %lld has an empty piece", l->name,
                           (long long)json_integer_value(id));
        n_text += n;
        highest = json_integer_value(id) > highest ? json_integer_value(id) : highest;
    }
    if (highest < 0)
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.vocab is empty", l->name);
    for (size_t i = 0; i < l->added.n; i++) {
        n_text += l->added.list[i].n;
        highest = l->added.list[i].id > highest ? l->added.list[i].id : highest;
    }
    st = zb_vocab_init(v, (int32_t)highest + 1, n_text, l->err);
    if (st != ZAMBA_OK)
        return zb_fail_prefix(l->err, st, "%s", l->name);
    json_object_foreach((json_t *)vocab, piece, id)
    {
        const size_t n = strlen(piece);
        if (!zb_vocab_set(v, (int32_t)json_integer_value(id), piece, n))
            return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.vocab: \"%s\" and another piece both have id %lld",
                           l->name, zb_tok_show(shown, piece, n), (long long)json_integer_value(id));
    }
    st = zb_vocab_index(v, l->err);
    if (st != ZAMBA_OK)
        return zb_fail_prefix(l->err, st, "%s: model.vocab", l->name);
    for (size_t i = 0; i < l->added.n && st == ZAMBA_OK; i++)
        st = place_added(l, &l->added.list[i]);
    return st;
}

/* ---- Model ------------------------------------------------------------------------------------------------------ */

/* A merge is ["a", "b"] or, in older files, "a b". */
static int read_merge(const json_t *j, const char *part[2], size_t n[2])
{
    if (json_is_array(j) && json_array_size(j) == 2) {
        for (size_t k = 0; k < 2; k++) {
            const json_t *p = json_array_get(j, k);
            if (!json_is_string(p))
                return 0;
            part[k] = json_string_value(p);
            n[k] = json_string_length(p);
        }
        return 1;
    }
    if (!json_is_string(j))
        return 0;
    const size_t len = json_string_length(j);
    part[0] = json_string_value(j);
    const char *space = memchr(part[0], ' ', len);
    if (space == NULL)
        return 0;
    n[0] = (size_t)(space - part[0]);
    part[1] = space + 1;
    n[1] = len - n[0] - 1;
    return memchr(part[1], ' ', n[1]) == NULL;
}

/* What two parts make, in `joined`; NULL if it is longer than any piece. */
static const char *join(const zb_vocab *v, char *joined, const char *const part[2], const size_t n[2])
{
    if (n[0] > v->max_len || n[1] > v->max_len - n[0])
        return NULL;
    memcpy(joined, part[0], n[0]);
    memcpy(joined + n[0], part[1], n[1]);
    return joined;
}

/* The lookups of a merge miss the cache, so a batch of them is announced first. */
static void prefetch_merge(const zb_vocab *v, const json_t *j, char *joined)
{
    const char *part[2];
    size_t n[2];
    if (!read_merge(j, part, n))
        return;
    zb_vocab_prefetch(v, part[0], n[0]);
    zb_vocab_prefetch(v, part[1], n[1]);
    if (join(v, joined, part, n) != NULL)
        zb_vocab_prefetch(v, joined, n[0] + n[1]);
}

/* The ids of left, right and result; id[0] -1: a comment. */
static zamba_status find_merge(const zb_tok_loader *l, const json_t *j, size_t index, char *joined, int32_t id[3])
{
    const zb_vocab *v = &l->t->bpe.vocab;
    const char *part[2];
    size_t n[2];
    char shown[2][64];
    id[0] = id[1] = id[2] = -1;
    if (json_is_string(j) && strncmp(json_string_value(j), "#version", 8) == 0)
        return ZAMBA_OK;
    if (!read_merge(j, part, n))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.merges[%zu] is %s, wanted \"a b\" or [\"a\", \"b\"]", l->name,
                       index, json_is_string(j) ? "another string" : zb_json_kind(j));
    for (size_t k = 0; k < 2; k++)
        id[k] = zb_vocab_find(v, part[k], n[k]);
    if (id[0] >= 0 && id[1] >= 0 && join(v, joined, part, n) != NULL)
        id[2] = zb_vocab_find(v, joined, n[0] + n[1]);
    if (id[2] >= 0)
        return ZAMBA_OK;
    return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.merges[%zu]: \"%s\" and \"%s\": %s is not in model.vocab",
                   l->name, index, zb_tok_show(shown[0], part[0], n[0]), zb_tok_show(shown[1], part[1], n[1]),
                   id[0] < 0   ? "the first"
                   : id[1] < 0 ? "the second"
                               : "what they make");
}

#define BATCH 32

static zamba_status add_merges(zb_tok_loader *l, const json_t *merges, size_t from, size_t to, char *joined)
{
    zb_bpe *b = &l->t->bpe;
    int32_t id[BATCH][3];
    zamba_status st = ZAMBA_OK;
    for (size_t i = from; i < to; i++)
        prefetch_merge(&b->vocab, json_array_get(merges, i), joined);
    for (size_t i = from; i < to && st == ZAMBA_OK; i++) {
        st = find_merge(l, json_array_get(merges, i), i, joined, id[i - from]);
        zb_bpe_prefetch(b, id[i - from][0], id[i - from][1]);
    }
    for (size_t i = from; i < to && st == ZAMBA_OK; i++)
        if (id[i - from][0] >= 0)
            st = zb_bpe_add_merge(b, id[i - from][0], id[i - from][1], id[i - from][2], l->err);
    return st;
}

static zamba_status load_merges(zb_tok_loader *l, const json_t *merges)
{
    zb_bpe *b = &l->t->bpe;
    if (!json_is_array(merges))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.merges is %s, wanted an array", l->name,
                       zb_json_kind(merges));
    const size_t n = json_array_size(merges);
    char *joined = malloc(b->vocab.max_len + 1);
    zamba_status st = joined != NULL ? zb_bpe_init(b, n, l->err) : zb_fail_memory(l->err, "merges", b->vocab.max_len);
    for (size_t i = 0; i < n && st == ZAMBA_OK; i += BATCH)
        st = add_merges(l, merges, i, i + BATCH < n ? i + BATCH : n, joined);
    free(joined);
    return st;
}

static zamba_status load_unk(zb_tok_loader *l, const json_t *model)
{
    zb_bpe *b = &l->t->bpe;
    const json_t *unk = json_object_get(model, "unk_token");
    char shown[64];
    b->unk = -1;
    if (unk == NULL || json_is_null(unk))
        return ZAMBA_OK;
    if (!json_is_string(unk))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.unk_token is %s, wanted a string or null", l->name,
                       zb_json_kind(unk));
    b->unk = zb_vocab_find(&b->vocab, json_string_value(unk), json_string_length(unk));
    int complete = 1; /* bytes stand for everything: unk is never needed */
    for (int c = 0; c < 256; c++)
        complete = complete && b->byte[c] >= 0;
    if (b->unk < 0 && !complete)
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.unk_token \"%s\" is not in model.vocab", l->name,
                       zb_tok_show(shown, json_string_value(unk), json_string_length(unk)));
    return ZAMBA_OK;
}

static zamba_status load_model(zb_tok_loader *l)
{
    static const char where[] = "model";
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    zb_bpe *b = &l->t->bpe;
    const json_t *model = json_object_get(l->root, where);
    const json_t *type = json_object_get(model, "type"), *dropout = json_object_get(model, "dropout");
    int byte_fallback = 0;
    zamba_status st = ZAMBA_OK;
    if (!json_is_object(model))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model is %s, wanted an object (is this a tokenizer.json?)", l->name,
                       zb_json_kind(model));
    if (type != NULL && !json_is_string(type))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: model.type is %s, wanted a string", l->name, zb_json_kind(type));
    if (type != NULL && strcmp(json_string_value(type), "BPE") != 0)
        return zb_tok_unsupported(l, "model.type", json_string_value(type));
    if (dropout != NULL && !json_is_null(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return zb_tok_unsupported(l, where, "dropout");
    for (size_t i = 0; i < 2; i++) {
        const json_t *affix = json_object_get(model, affixes[i]);
        if (affix != NULL && !json_is_null(affix) && !(json_is_string(affix) && json_string_length(affix) == 0))
            return zb_tok_unsupported(l, where, affixes[i]);
    }
    st = zb_tok_flag(l, model, where, "byte_fallback", 0, &byte_fallback);
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, model, where, "fuse_unk", 0, &b->fuse_unk);
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, model, where, "ignore_merges", 0, &b->ignore_merges);
    if (st == ZAMBA_OK)
        st = load_vocab(l, json_object_get(model, "vocab"));
    if (st == ZAMBA_OK)
        st = load_merges(l, json_object_get(model, "merges"));
    if (st == ZAMBA_OK)
        zb_bpe_find_bytes(b, byte_fallback);
    if (st == ZAMBA_OK)
        st = load_unk(l, model);
    if (st == ZAMBA_OK)
        zb_bpe_find_cuts(b);
    return st;
}

/* Whole-text settings that the library which writes these files stores among the rest. */
static zamba_status check_lengths(const zb_tok_loader *l)
{
    const json_t *truncation = json_object_get(l->root, "truncation"), *padding = json_object_get(l->root, "padding");
    if (truncation != NULL && !json_is_null(truncation))
        return zb_tok_unsupported(l, "truncation", "anything but null");
    if (padding == NULL || json_is_null(padding))
        return ZAMBA_OK;
    const json_t *strategy = json_object_get(padding, "strategy"),
                 *step = json_object_get(padding, "pad_to_multiple_of");
    /* padding to the longest of a batch leaves one text as it is */
    if (json_is_string(strategy) && strcmp(json_string_value(strategy), "BatchLongest") == 0 &&
        (step == NULL || json_is_null(step)))
        return ZAMBA_OK;
    return zb_tok_unsupported(l, "padding", "a fixed length");
}

/* ---- Special tokens --------------------------------------------------------------------------------------------- */

/* A token in tokenizer_config.json: a string or {"content": string, ...}; 0 if it is neither. */
static int read_token(const json_t *j, const char **text, size_t *n)
{
    const json_t *s = json_is_object(j) ? json_object_get(j, "content") : j;
    if (!json_is_string(s))
        return 0;
    *text = json_string_value(s);
    *n = json_string_length(s);
    return 1;
}

/* Make a token that tokenizer_config.json calls special one, whatever tokenizer.json says. Returns its id, -1 if the
 * vocabulary does not have it. */
static zamba_status mark_special(zb_tok_loader *l, const char *text, size_t n, uint8_t *is_added, int32_t *id)
{
    const zb_added *a = zb_added_set_find(&l->added, text, n);
    char shown[64];
    *id = a != NULL ? a->id : zb_vocab_find(&l->t->bpe.vocab, text, n);
    if (*id < 0) {
        zb_log(ZAMBA_LOG_WARN, "%s: special token \"%s\" of tokenizer_config.json is not in the vocabulary", l->name,
               zb_tok_show(shown, text, n));
        return ZAMBA_OK;
    }
    l->t->special[*id] = 1;
    if (is_added[*id] || n > ZB_ADDED_MAX_BYTES)
        return ZAMBA_OK;
    is_added[*id] = 1;
    return zb_added_set_add(&l->t->raw, text, n, (zb_added){.id = *id, .special = 1}, l->err);
}

static zamba_status mark_named(zb_tok_loader *l, uint8_t *is_added)
{
    static const char *const others[] = {"cls_token", "sep_token", "mask_token"};
    zamba_tokenizer *t = l->t;
    zamba_status st = ZAMBA_OK;
    const char *text;
    size_t n;
    int32_t id;
    for (int i = 0; i < ZB_N_NAMED + 3 && st == ZAMBA_OK; i++) {
        const char *key = i < ZB_N_NAMED ? zb_named_tokens[i] : others[i - ZB_N_NAMED];
        const json_t *j = json_object_get(l->config, key);
        if (j == NULL || json_is_null(j))
            continue;
        if (!read_token(j, &text, &n))
            return zb_fail(l->err, ZAMBA_E_FORMAT,
                           "%s: tokenizer_config.json beside it: %s is %s, wanted a string or {\"content\": string}",
                           l->name, key, zb_json_kind(j));
        st = mark_special(l, text, n, is_added, &id);
        if (i >= ZB_N_NAMED || st != ZAMBA_OK)
            continue;
        t->named_id[i] = id;
        t->named[i] = malloc(n + 1);
        if (t->named[i] == NULL)
            return zb_fail_memory(l->err, key, n + 1);
        memcpy(t->named[i], text, n);
        t->named[i][n] = '\0';
        t->n_named[i] = n;
    }
    return st;
}

/* "additional_special_tokens", later "extra_special_tokens": an array of tokens, or an object of them. */
static zamba_status mark_additional(zb_tok_loader *l, const char *key, uint8_t *is_added)
{
    const json_t *list = json_object_get(l->config, key);
    zamba_status st = ZAMBA_OK;
    const char *text, *name;
    size_t n;
    int32_t id;
    json_t *j;
    for (size_t i = 0; i < json_array_size(list) && st == ZAMBA_OK; i++)
        if (read_token(json_array_get(list, i), &text, &n))
            st = mark_special(l, text, n, is_added, &id);
    json_object_foreach((json_t *)list, name, j)
    {
        if (st == ZAMBA_OK && read_token(j, &text, &n))
            st = mark_special(l, text, n, is_added, &id);
    }
    return st;
}

/* Sort the added tokens into those found in raw and those found in normalized text. */
static zamba_status load_added(zb_tok_loader *l)
{
    zamba_tokenizer *t = l->t;
    zb_normal_text text = {0}, spare = {0};
    const size_t n_ids = (size_t)t->bpe.vocab.n;
    zamba_status st = ZAMBA_OK;
    uint8_t *is_added = calloc(n_ids, 1);
    t->special = calloc(n_ids, 1);
    if (t->special == NULL || is_added == NULL)
        st = zb_fail_memory(l->err, "special tokens", 2 * n_ids);
    for (size_t i = 0; i < l->added.n && st == ZAMBA_OK; i++) {
        is_added[l->added.list[i].id] = 1;
        t->special[l->added.list[i].id] = l->added.list[i].special;
    }
    if (st == ZAMBA_OK)
        st = mark_named(l, is_added);
    if (st == ZAMBA_OK)
        st = mark_additional(l, "additional_special_tokens", is_added);
    if (st == ZAMBA_OK)
        st = mark_additional(l, "extra_special_tokens", is_added);
    for (size_t i = 0; i < l->added.n && st == ZAMBA_OK; i++) {
        zb_added a = l->added.list[i];
        a.special = t->special[a.id];
        if (!a.normalized || t->ops.n == 0) {
            st = zb_added_set_add(a.normalized ? &t->normalized : &t->raw, a.text, a.n, a, l->err);
            continue;
        }
        st = zb_normalize(&t->ops, a.text, a.n, NULL, &text, &spare, l->err);
        if (st == ZAMBA_OK && text.text.n > 0)
            st = zb_added_set_add(&t->normalized, text.text.data, text.text.n, a, l->err);
    }
    if (st == ZAMBA_OK)
        st = index_added(l, &t->raw);
    if (st == ZAMBA_OK)
        st = index_added(l, &t->normalized);
    free(is_added);
    zb_normal_text_free(&text);
    zb_normal_text_free(&spare);
    return st;
}

/* tokenizer_config.json overrules the template about BOS and EOS; a tokenizer without one has the template's. */
static zamba_status load_affixes(zb_tok_loader *l)
{
    zamba_tokenizer *t = l->t;
    static const char where[] = "tokenizer_config.json beside it";
    int add;
    if (t->named[ZB_BOS] == NULL && t->n_prefix == 1)
        t->named_id[ZB_BOS] = t->prefix[0];
    if (t->named[ZB_EOS] == NULL && t->n_suffix == 1)
        t->named_id[ZB_EOS] = t->suffix[0];
    zamba_status st = zb_tok_flag(l, l->config, where, "add_bos_token", -1, &add);
    if (st == ZAMBA_OK && add >= 0) {
        t->n_prefix = add && t->named_id[ZB_BOS] >= 0;
        t->prefix[0] = t->named_id[ZB_BOS];
    }
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, l->config, where, "add_eos_token", -1, &add);
    if (st == ZAMBA_OK && add >= 0) {
        t->n_suffix = add && t->named_id[ZB_EOS] >= 0;
        t->suffix[0] = t->named_id[ZB_EOS];
    }
    return st;
}

/* ---- Opening ---------------------------------------------------------------------------------------------------- */

static zamba_status load(zb_tok_loader *l)
{
    zamba_status st = ZAMBA_OK;
    if (!json_is_object(l->root))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s, wanted an object", l->name, zb_json_kind(l->root));
    if (l->config != NULL && !json_is_object(l->config))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: tokenizer_config.json beside it is %s, wanted an object", l->name,
                       zb_json_kind(l->config));
    st = check_lengths(l);
    if (st == ZAMBA_OK)
        st = zb_tok_load_normalizer(l);
    if (st == ZAMBA_OK)
        st = zb_tok_load_pre_tokenizer(l);
    if (st == ZAMBA_OK)
        st = read_added_tokens(l);
    if (st == ZAMBA_OK)
        st = load_model(l);
    if (st == ZAMBA_OK)
        st = load_added(l);
    if (st == ZAMBA_OK)
        st = zb_tok_load_post_processor(l);
    if (st == ZAMBA_OK)
        st = load_affixes(l);
    if (st == ZAMBA_OK)
        st = zb_tok_load_decoder(l);
    return st;
}

zamba_status zb_tokenizer_parse(zamba_tokenizer **out, const char *json, size_t n, const char *name, const char *config,
                                size_t n_config, zamba_error *err)
{
    json_t *root = NULL, *config_root = NULL;
    zb_tok_loader l = {.t = calloc(1, sizeof *l.t), .name = name, .err = err};
    *out = NULL;
    if (l.t == NULL)
        return zb_fail_memory(err, name, sizeof *l.t);
    for (int i = 0; i < ZB_N_NAMED; i++)
        l.t->named_id[i] = -1;
    zamba_status st = zb_json_parse(&root, json, n, name, zb_json_large, err);
    if (st == ZAMBA_OK && config != NULL)
        st = zb_json_parse(&config_root, config, n_config, "tokenizer_config.json", zb_json_small, err);
    l.root = root;
    l.config = config_root;
    if (st == ZAMBA_OK)
        st = load(&l);
    if (st == ZAMBA_OK)
        *out = l.t;
    else
        zamba_tokenizer_close(l.t);
    zb_added_set_free(&l.added);
    json_decref(root);
    json_decref(config_root);
    return st;
}

/* The file itself, or the one in a folder; `folder` is where its neighbours are. */
static zamba_status find_file(const char *path, char *file, char *config, size_t n, zamba_error *err)
{
    static const char name[] = "tokenizer_config.json";
    if (!zb_file_exists(path)) {
        const zamba_status st = zb_path_join(file, n, path, "tokenizer.json", err);
        return st == ZAMBA_OK ? zb_path_join(config, n, path, name, err) : st;
    }
    const char *slash = strrchr(path, '/');
    const size_t n_folder = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    if (n_folder + sizeof name > n || strlen(path) >= n)
        return zb_fail(err, ZAMBA_E_ARG, "%s: path too long", path);
    memcpy(file, path, strlen(path) + 1);
    memcpy(config, path, n_folder);
    memcpy(config + n_folder, name, sizeof name);
    return ZAMBA_OK;
}

/* The texts that a GGUF file carries, or what its keys say instead. */
static zamba_status open_gguf(zamba_tokenizer **out, const char *path, zamba_error *err)
{
    zb_gguf g;
    zb_buf json = {0}, config = {0};
    size_t n = 0, n_config = 0;
    zamba_status st = zb_gguf_open(&g, path, err);
    if (st != ZAMBA_OK)
        return st;
    const char *text = zb_gguf_file(&g, "tokenizer.json", &n), *config_text = NULL;
    if (text != NULL) {
        config_text = zb_gguf_file(&g, "tokenizer_config.json", &n_config);
    } else {
        st = zb_gguf_tokenizer(&json, &config, &g, path, err);
        text = json.data;
        n = json.n;
        config_text = config.data;
        n_config = config.n;
    }
    if (st == ZAMBA_OK)
        st = zb_tokenizer_parse(out, text, n, path, config_text, n_config, err);
    zb_buf_free(&json);
    zb_buf_free(&config);
    zb_gguf_close(&g);
    return st;
}

zamba_status zamba_tokenizer_open(zamba_tokenizer **out, const char *path, zamba_error *err)
{
    char file[PATH_MAX], config_file[PATH_MAX];
    zb_buf json = {0}, config = {0};
    if (out == NULL || path == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "tokenizer: path or result is NULL");
    *out = NULL;
    if (zb_gguf_is(path))
        return open_gguf(out, path, err);
    zamba_status st = find_file(path, file, config_file, sizeof file, err);
    if (st == ZAMBA_OK)
        st = zb_file_read(&json, file, zb_json_large.max_bytes, err);
    const int has_config = st == ZAMBA_OK && zb_file_exists(config_file);
    if (has_config)
        st = zb_file_read(&config, config_file, zb_json_small.max_bytes, err);
    if (st == ZAMBA_OK)
        st = zb_tokenizer_parse(out, json.data != NULL ? json.data : "", json.n, file,
                                has_config ? (config.data != NULL ? config.data : "") : NULL, config.n, err);
    zb_buf_free(&json);
    zb_buf_free(&config);
    return st;
}
