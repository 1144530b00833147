/* gguf_vocab.c — see gguf_vocab.h. */
#include "io/gguf_vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "io/json.h"

#define MOST_TOKENS ((size_t)1 << 20)
#define MOST_PIECE  256               /* bytes: above it work would grow with the square                   */
#define MOST_PIECES ((size_t)4 << 20) /* bytes of all pieces; ten times those of the largest vocabularies */
#define MOST_MERGES ((size_t)900000)  /* what the reader of tokenizer.json takes                           */

#define SPACE_SIGN "\xe2\x96\x81" /* U+2581 */

/* Token types, numbered as in the file. */
enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

const char *zb_gguf_file(const zb_gguf *g, const char *name, size_t *n)
{
    char key[128];
    const int got = snprintf(key, sizeof key, ZB_GGUF_FILE_KEY "%s", name);
    return got > 0 && (size_t)got < sizeof key ? zb_gguf_text(zb_gguf_find(g, key), n) : NULL;
}

/* ---- from keys to texts ---- */

typedef struct token {
    const char *text;
    size_t n;
    double score;
    int type;
} token;

typedef struct merge {
    float score;
    uint32_t left, right, result; /* ids */
} merge;

typedef struct vocab {
    const zb_gguf *g;
    const char *path;
    token *tokens;
    uint32_t *sorted; /* ids in the order of the texts */
    size_t n;
    merge *merges;
    size_t n_merges, merge_capacity;
    zamba_error *err;
} vocab;

static const char *token_text(const vocab *v, size_t id, size_t *n)
{
    *n = v->tokens[id].n;
    return v->tokens[id].text;
}

static int compare(const char *a, size_t n_a, const char *b, size_t n_b)
{
    const int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order != 0 ? order : (n_a > n_b) - (n_a < n_b);
}

/* Id of a text, or -1. */
static int64_t find_token(const vocab *v, const char *text, size_t n)
{
    size_t at = 0, end = v->n;
    while (at < end) {
        const size_t mid = (at + end) / 2;
        size_t n_mid;
        const char *other = token_text(v, v->sorted[mid], &n_mid);
        const int order = compare(other, n_mid, text, n);
        if (order == 0)
            return v->sorted[mid];
        if (order < 0)
            at = mid + 1;
        else
            end = mid;
    }
    return -1;
}

/* qsort has no place for the tokens; so what is sorted carries its text. */
typedef struct text_of {
    const char *text;
    size_t n;
    uint32_t id;
} text_of;

static int by_text(const void *a, const void *b)
{
    const text_of *x = a, *y = b;
    return compare(x->text, x->n, y->text, y->n);
}

static zamba_status sort_tokens(vocab *v)
{
    zamba_status st = ZAMBA_OK;
    text_of *list = malloc((v->n + 1) * sizeof *list);
    v->sorted = malloc((v->n + 1) * sizeof *v->sorted);
    if (list == NULL || v->sorted == NULL) {
        free(list);
        return zb_fail_memory(v->err, v->path, v->n * sizeof *list);
    }
    for (size_t i = 0; i < v->n; i++)
        list[i] = (text_of){v->tokens[i].text, v->tokens[i].n, (uint32_t)i};
    qsort(list, v->n, sizeof *list, by_text);
    for (size_t i = 0; i < v->n; i++)
        v->sorted[i] = list[i].id;
    for (size_t i = 1; i < v->n && st == ZAMBA_OK; i++)
        if (by_text(&list[i - 1], &list[i]) == 0)
            st = zb_fail(v->err, ZAMBA_E_FORMAT, "%s: tokenizer.ggml.tokens: tokens %u and %u have the same text",
                         v->path, list[i - 1].id, list[i].id);
    free(list);
    return st;
}

static zamba_status read_tokens(vocab *v)
{
    const zb_gguf_value *tokens = zb_gguf_find(v->g, "tokenizer.ggml.tokens"),
                        *scores = zb_gguf_find(v->g, "tokenizer.ggml.scores"),
                        *types = zb_gguf_find(v->g, "tokenizer.ggml.token_type");
    size_t bytes = 0;
    int64_t type;
    if (tokens == NULL || tokens->type != ZB_GGUF_TEXT || !tokens->is_array || tokens->n == 0 ||
        tokens->n > MOST_TOKENS)
        return zb_fail(v->err, ZAMBA_E_FORMAT, "%s: tokenizer.ggml.tokens is no array of 1 to %zu texts", v->path,
                       MOST_TOKENS);
    if (scores == NULL || !scores->is_array || scores->n != tokens->n ||
        (types != NULL && (!types->is_array || types->n != tokens->n)))
        return zb_fail(v->err, ZAMBA_E_FORMAT,
                       "%s: tokenizer.ggml.scores or .token_type has not one entry for each of "
                       "%zu tokens",
                       v->path, tokens->n);
    v->n = tokens->n;
    v->tokens = calloc(v->n, sizeof *v->tokens);
    if (v->tokens == NULL)
        return zb_fail_memory(v->err, v->path, v->n * sizeof *v->tokens);
    zb_gguf_texts it = {.value = tokens};
    for (size_t i = 0; i < v->n; i++) {
        token *t = &v->tokens[i];
        zb_gguf_next_text(&it, &t->text, &t->n);
        t->type = NORMAL;
        bytes += t->n <= MOST_PIECES ? t->n : MOST_PIECES; /* does not wrap: at most 2^20 of 2^22 */
        if (t->n == 0 || t->n > MOST_PIECE || bytes > MOST_PIECES)
            return zb_fail(v->err, ZAMBA_E_UNSUPPORTED,
                           "%s: tokenizer.ggml.tokens: token %zu has %zu bytes, wanted 1 to "
                           "%d, and %zu of all",
                           v->path, i, t->n, MOST_PIECE, MOST_PIECES);
        if (!zb_utf8_valid(t->text, t->n) || memchr(t->text, '\0', t->n) != NULL)
            return zb_fail(v->err, ZAMBA_E_FORMAT, "%s: tokenizer.ggml.tokens: token %zu is not UTF-8 or holds a NUL",
                           v->path, i);
        if (!zb_gguf_real(scores, i, &t->score) || t->score != t->score)
            return zb_fail(v->err, ZAMBA_E_FORMAT, "%s: tokenizer.ggml.scores: entry %zu is no number", v->path, i);
        if (types != NULL && (!zb_gguf_int(types, i, &type) || type < 0 || type > BYTE))
            return zb_fail(v->err, ZAMBA_E_FORMAT,
                           "%s: tokenizer.ggml.token_type: entry %zu is none of the types 0 to "
                           "%d",
                           v->path, i, BYTE);
        if (types != NULL)
            t->type = (int)type;
    }
    return sort_tokens(v);
}

static zamba_status add_merge(vocab *v, merge m)
{
    if (v->n_merges == MOST_MERGES)
        return zb_fail(v->err, ZAMBA_E_UNSUPPORTED, "%s: its tokens make more than %zu merges", v->path, MOST_MERGES);
    if (v->n_merges == v->merge_capacity) {
        const size_t capacity = v->merge_capacity == 0 ? 4096 : 2 * v->merge_capacity;
        merge *grown = realloc(v->merges, capacity * sizeof *grown);
        if (grown == NULL)
            return zb_fail_memory(v->err, v->path, capacity * sizeof *grown);
        v->merges = grown;
        v->merge_capacity = capacity;
    }
    v->merges[v->n_merges++] = m;
    return ZAMBA_OK;
}

static int is_first_byte(char c)
{
    return ((unsigned char)c & 0xC0) != 0x80;
}

/* Best score first; of equal ones by the id of what they make, then by the ids of the parts. */
static int by_score(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->result != y->result)
        return x->result < y->result ? -1 : 1;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

static zamba_status find_merges(vocab *v)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < v->n; i++) {
        const token *t = &v->tokens[i];
        for (size_t k = 1; t->type == NORMAL && k < t->n && st == ZAMBA_OK; k++) {
            if (!is_first_byte(t->text[k]))
                continue;
            const int64_t left = find_token(v, t->text, k);
            const int64_t right = left >= 0 ? find_token(v, t->text + k, t->n - k) : -1;
            if (right >= 0)
                st = add_merge(v, (merge){(float)t->score, (uint32_t)left, (uint32_t)right, (uint32_t)i});
        }
        if (st != ZAMBA_OK)
            return st;
    }
    if (v->n_merges > 0)
        qsort(v->merges, v->n_merges, sizeof *v->merges, by_score);
    return ZAMBA_OK;
}

static json_t *token_json(const vocab *v, size_t id)
{
    return json_stringn(v->tokens[id].text, v->tokens[id].n);
}

/* "a b", or ["a", "b"] if one of them has a space. */
static json_t *merge_json(const vocab *v, const merge *m)
{
    char text[2 * MOST_PIECE + 1];
    size_t n_left, n_right;
    const char *left = token_text(v, m->left, &n_left), *right = token_text(v, m->right, &n_right);
    if (memchr(left, ' ', n_left) != NULL || memchr(right, ' ', n_right) != NULL ||
        (n_left >= 8 && memcmp(left, "#version", 8) == 0))
        return json_pack("[o, o]", token_json(v, m->left), token_json(v, m->right));
    memcpy(text, left, n_left);
    text[n_left] = ' ';
    memcpy(text + n_left + 1, right, n_right);
    return json_stringn(text, n_left + 1 + n_right);
}

/* An id that a key names, or -1. */
static int64_t named_id(const vocab *v, const char *key)
{
    const zb_gguf_value *value = zb_gguf_find(v->g, key);
    int64_t id;
    return value != NULL && !value->is_array && zb_gguf_int(value, 0, &id) && id >= 0 && (uint64_t)id < v->n ? id : -1;
}

static int flag(const vocab *v, const char *key, int otherwise)
{
    const zb_gguf_value *value = zb_gguf_find(v->g, key);
    int64_t x;
    return value != NULL && value->type == ZB_GGUF_BOOL && !value->is_array && zb_gguf_int(value, 0, &x) ? x != 0
                                                                                                         : otherwise;
}

static json_t *model_json(const vocab *v)
{
    json_t *pieces = json_object(), *merges = json_array();
    int bad = pieces == NULL || merges == NULL;
    char text[MOST_PIECE + 1];
    for (size_t i = 0; i < v->n && !bad; i++) {
        memcpy(text, v->tokens[i].text, v->tokens[i].n);
        text[v->tokens[i].n] = '\0';
        bad = json_object_set_new(pieces, text, json_integer((json_int_t)i)) != 0;
    }
    for (size_t i = 0; i < v->n_merges && !bad; i++)
        bad = json_array_append_new(merges, merge_json(v, &v->merges[i])) != 0;
    int64_t unk = named_id(v, "tokenizer.ggml.unknown_token_id");
    for (size_t i = 0; i < v->n && unk < 0; i++)
        unk = v->tokens[i].type == UNKNOWN ? (int64_t)i : -1;
    if (bad) {
        json_decref(pieces);
        json_decref(merges);
        return NULL;
    }
    return json_pack("{s:s, s:b, s:b, s:o, s:o, s:o}", "type", "BPE", "fuse_unk", 1, "byte_fallback", 1, "unk_token",
                     unk >= 0 ? token_json(v, (size_t)unk) : json_null(), "vocab", pieces, "merges", merges);
}

static json_t *added_json(const vocab *v)
{
    json_t *list = json_array();
    int bad = list == NULL;
    for (size_t i = 0; i < v->n && !bad; i++) {
        const int type = v->tokens[i].type;
        if (type == UNKNOWN || type == CONTROL || type == USER_DEFINED)
            bad = json_array_append_new(list, json_pack("{s:I, s:o, s:b, s:b}", "id", (json_int_t)i, "content",
                                                        token_json(v, i), "special", type != USER_DEFINED, "normalized",
                                                        0)) != 0;
    }
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static zamba_status dump(zb_buf *to, json_t *root, const char *path, zamba_error *err)
{
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    zamba_status st = text != NULL ? zb_buf_append(to, text, strlen(text), err) : zb_fail_memory(err, path, 0);
    free(text);
    json_decref(root);
    return st;
}

static json_t *tokenizer_json(const vocab *v)
{
    const int prefix = flag(v, "tokenizer.ggml.add_space_prefix", 1);
    json_t *root =
        json_pack("{s:s, s:o, s:o}", "version", "1.0", "added_tokens", added_json(v), "model", model_json(v));
    json_t *normalizers = json_array(), *decoders = json_array();
    int bad = root == NULL;
    if (prefix)
        bad |= json_array_append_new(normalizers, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", SPACE_SIGN));
    bad |= json_array_append_new(normalizers, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String",
                                                        " ", "content", SPACE_SIGN));
    bad |= json_array_append_new(
        decoders, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", SPACE_SIGN, "content", " "));
    bad |= json_array_append_new(decoders, json_pack("{s:s}", "type", "ByteFallback"));
    bad |= json_array_append_new(decoders, json_pack("{s:s}", "type", "Fuse"));
    if (prefix)
        bad |= json_array_append_new(
            decoders, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    bad |= json_object_set_new(root, "normalizer",
                               json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", normalizers));
    bad |= json_object_set_new(root, "decoder", json_pack("{s:s, s:o}", "type", "Sequence", "decoders", decoders));
    if (bad) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static json_t *config_json(const vocab *v)
{
    static const struct {
        const char *name, *key;
    } named[] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                 {"eos_token", "tokenizer.ggml.eos_token_id"},
                 {"unk_token", "tokenizer.ggml.unknown_token_id"},
                 {"pad_token", "tokenizer.ggml.padding_token_id"}};
    json_t *root = json_object();
    int bad = root == NULL;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        const int64_t id = named_id(v, named[i].key);
        if (id >= 0)
            bad |= json_object_set_new(root, named[i].name, token_json(v, (size_t)id));
    }
    bad |= json_object_set_new(root, "add_bos_token", json_boolean(flag(v, "tokenizer.ggml.add_bos_token", 1)));
    bad |= json_object_set_new(root, "add_eos_token", json_boolean(flag(v, "tokenizer.ggml.add_eos_token", 0)));
    size_t n;
    const char *template = zb_gguf_text(zb_gguf_find(v->g, "tokenizer.chat_template"), &n);
    if (template != NULL && zb_utf8_valid(template, n)) /* else it could not be run */
        bad |= json_object_set_new(root, "chat_template", json_stringn(template, n));
    if (bad) {
        json_decref(root);
        return NULL;
    }
    return root;
}

zamba_status zb_gguf_tokenizer(zb_buf *json, zb_buf *config, const zb_gguf *g, const char *path, zamba_error *err)
{
    vocab v = {.g = g, .path = path, .err = err};
    size_t n = 0;
    const zb_gguf_value *model = zb_gguf_find(g, "tokenizer.ggml.model");
    const char *kind = zb_gguf_text(model, &n);
    if (model == NULL || (kind != NULL && n == 4 && memcmp(kind, "none", 4) == 0))
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: the file has no tokenizer (tokenizer.ggml.model)", path);
    if (kind == NULL || n != 5 || memcmp(kind, "llama", 5) != 0) {
        char shown[32];
        size_t i = 0;
        for (; kind != NULL && i < n && i < sizeof shown - 1; i++)
            shown[i] = kind[i] > 0x20 && kind[i] < 0x7F ? kind[i] : '?';
        shown[i] = '\0';
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tokenizer.ggml.model is \"%s\", wanted \"llama\"", path, shown);
    }
    zamba_status st = read_tokens(&v);
    if (st == ZAMBA_OK)
        st = find_merges(&v);
    if (st == ZAMBA_OK)
        st = dump(json, tokenizer_json(&v), path, err);
    if (st == ZAMBA_OK)
        st = dump(config, config_json(&v), path, err);
    free(v.tokens);
    free(v.sorted);
    free(v.merges);
    return st;
}

/* ---- from texts to keys ---- */

typedef struct source {
    const zb_gguf_vocab *v;
    json_t *root, *config;
    token *tokens;   /* [v->n_vocab]; texts are those of the JSON */
    const char *unk; /* text of the unknown token, or NULL */
} source;

static int is_byte_piece(const char *text, size_t n)
{
    static const char digits[] = "0123456789ABCDEF";
    return n == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>' && memchr(digits, text[3], 16) != NULL &&
           memchr(digits, text[4], 16) != NULL;
}

static token *token_of(const source *s, const json_t *id)
{
    const json_int_t i = json_is_integer(id) ? json_integer_value(id) : -1;
    return i >= 0 && (uint64_t)i < s->v->n_vocab ? &s->tokens[i] : NULL;
}

/* A token that tokenizer_config.json names: a text or {"content": text}. */
static const char *named_text(const json_t *config, const char *key)
{
    const json_t *j = json_object_get(config, key);
    return json_string_value(json_is_object(j) ? json_object_get(j, "content") : j);
}

static void fill_tokens(source *s, const json_t *pieces)
{
    const char *text;
    json_t *id, *entry;
    size_t i;
    json_object_foreach((json_t *)pieces, text, id)
    {
        token *t = token_of(s, id);
        const size_t n = strlen(text);
        if (t != NULL && n > 0)
            *t = (token){text, n, 0.0, is_byte_piece(text, n) ? BYTE : NORMAL};
    }
    json_array_foreach(json_object_get(s->root, "added_tokens"), i, entry)
    {
        const json_t *content = json_object_get(entry, "content");
        token *t = token_of(s, json_object_get(entry, "id"));
        if (t == NULL || json_string_length(content) == 0)
            continue;
        const int special = json_is_true(json_object_get(entry, "special"));
        *t = (token){json_string_value(content), json_string_length(content), 0.0, special ? CONTROL : USER_DEFINED};
        if (special && s->unk != NULL && strcmp(t->text, s->unk) == 0)
            t->type = UNKNOWN;
    }
}

/* A piece's score is the negative rank of the first merge that makes it; pieces that no merge makes come last. */
static zamba_status score_tokens(source *s, const json_t *pieces, const json_t *merges, zamba_error *err)
{
    const size_t n_merges = json_array_size(merges);
    char *joined = NULL;
    size_t capacity = 0;
    for (size_t i = 0; i < s->v->n_vocab; i++)
        if (s->tokens[i].type == NORMAL)
            s->tokens[i].score = -(double)n_merges - (double)i;
    for (size_t r = n_merges; r > 0; r--) { /* backwards, so that the first one stays */
        const json_t *m = json_array_get(merges, r - 1);
        const char *part[2] = {json_string_value(json_array_get(m, 0)), json_string_value(json_array_get(m, 1))};
        size_t n[2] = {0};
        if (json_is_string(m)) {
            const char *space = strchr(json_string_value(m), ' ');
            if (space == NULL)
                continue;
            part[0] = json_string_value(m);
            n[0] = (size_t)(space - part[0]);
            part[1] = space + 1;
        } else if (part[0] == NULL || part[1] == NULL) {
            continue;
        } else {
            n[0] = strlen(part[0]);
        }
        n[1] = strlen(part[1]);
        if (n[0] + n[1] + 1 > capacity) {
            capacity = 2 * (n[0] + n[1] + 1);
            char *grown = realloc(joined, capacity);
            if (grown == NULL) {
                free(joined);
                return zb_fail_memory(err, s->v->path, capacity);
            }
            joined = grown;
        }
        memcpy(joined, part[0], n[0]);
        memcpy(joined + n[0], part[1], n[1] + 1);
        token *t = token_of(s, json_object_get(pieces, joined));
        if (t != NULL && t->type == NORMAL)
            t->score = -(double)(r - 1);
    }
    free(joined);
    return ZAMBA_OK;
}

static zamba_status put_tokens(zb_gguf_writer *w, const source *s, zamba_error *err)
{
    const size_t n = s->v->n_vocab;
    char text[32];
    float *scores = malloc((n + 1) * sizeof *scores);
    int32_t *types = malloc((n + 1) * sizeof *types);
    zamba_status st = scores == NULL || types == NULL ? zb_fail_memory(err, s->v->path, n * sizeof *scores) : ZAMBA_OK;
    for (size_t i = 0; i < n && st == ZAMBA_OK; i++) {
        scores[i] = (float)s->tokens[i].score;
        types[i] = s->tokens[i].text != NULL ? s->tokens[i].type : UNUSED;
    }
    if (st == ZAMBA_OK) {
        zb_gguf_put_string(w, "tokenizer.ggml.model", "llama");
        zb_gguf_put_string(w, "tokenizer.ggml.pre", "default");
        zb_gguf_put_texts(w, "tokenizer.ggml.tokens", n);
        for (size_t i = 0; i < n; i++) {
            snprintf(text, sizeof text, "[PAD%zu]", i);
            zb_gguf_add_text(w, s->tokens[i].text != NULL ? s->tokens[i].text : text,
                             s->tokens[i].text != NULL ? s->tokens[i].n : strlen(text));
        }
        zb_gguf_put_f32s(w, "tokenizer.ggml.scores", scores, n);
        zb_gguf_put_i32s(w, "tokenizer.ggml.token_type", types, n);
    }
    free(scores);
    free(types);
    return st;
}

static int mentions(const json_t *part, const char *type)
{
    const json_t *list = json_object_get(part, "normalizers");
    const char *own = json_string_value(json_object_get(part, "type"));
    if (own != NULL && strcmp(own, type) == 0)
        return 1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        own = json_string_value(json_object_get(json_array_get(list, i), "type"));
        if (own != NULL && strcmp(own, type) == 0)
            return 1;
    }
    return 0;
}

/* Does the tokenizer add this token at the beginning or end of a text? */
static int adds(const source *s, const char *key, int at_end)
{
    const json_t *said = json_object_get(s->config, key),
                 *single = json_object_get(json_object_get(s->root, "post_processor"), "single");
    if (json_is_boolean(said))
        return json_is_true(said);
    const size_t n = json_array_size(single);
    return n > 1 && json_object_get(json_array_get(single, at_end ? n - 1 : 0), "SpecialToken") != NULL;
}

/* Id of a token that tokenizer_config.json names, where the model's config says nothing. */
static int64_t id_of(const source *s, int32_t known, const char *key)
{
    const char *text = named_text(s->config, key);
    if (known >= 0 || text == NULL)
        return known;
    for (size_t i = 0; i < s->v->n_vocab && s->tokens != NULL; i++)
        if (s->tokens[i].text != NULL && strcmp(s->tokens[i].text, text) == 0)
            return (int64_t)i;
    return -1;
}

static void put_id(zb_gguf_writer *w, const char *key, int64_t id)
{
    if (id >= 0)
        zb_gguf_put_u32(w, key, (uint32_t)id);
}

static void put_template(zb_gguf_writer *w, const source *s)
{
    const json_t *t = json_object_get(s->config, "chat_template"), *entry;
    size_t i;
    const json_t *found = json_is_string(t) ? t : json_object_get(t, "default");
    json_array_foreach((json_t *)t, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name != NULL && strcmp(name, "default") == 0)
            found = json_object_get(entry, "template");
    }
    if (s->v->chat_template != NULL)
        zb_gguf_put_text(w, "tokenizer.chat_template", s->v->chat_template, s->v->n_chat_template);
    else if (json_is_string(found))
        zb_gguf_put_text(w, "tokenizer.chat_template", json_string_value(found), json_string_length(found));
}

static zamba_status put_all(zb_gguf_writer *w, source *s, zamba_error *err)
{
    const json_t *model = json_object_get(s->root, "model"), *pieces = json_object_get(model, "vocab"),
                 *unk = json_object_get(model, "unk_token");
    const char *type = json_string_value(json_object_get(model, "type"));
    zamba_status st = ZAMBA_OK;
    if (json_is_object(pieces) && json_is_true(json_object_get(model, "byte_fallback")) &&
        (type == NULL || strcmp(type, "BPE") == 0)) {
        s->unk = json_is_string(unk) ? json_string_value(unk) : named_text(s->config, "unk_token");
        s->tokens = calloc(s->v->n_vocab + 1, sizeof *s->tokens);
        if (s->tokens == NULL)
            return zb_fail_memory(err, s->v->path, s->v->n_vocab * sizeof *s->tokens);
        fill_tokens(s, pieces);
        st = score_tokens(s, pieces, json_object_get(model, "merges"), err);
        if (st == ZAMBA_OK)
            st = put_tokens(w, s, err);
    } else if (s->root != NULL) {
        zb_log(ZAMBA_LOG_WARN, "%s: tokenizer.json is no byte-fallback BPE: other programs will not find a vocabulary",
               s->v->path);
    }
    if (st != ZAMBA_OK)
        return st;
    put_id(w, "tokenizer.ggml.bos_token_id", id_of(s, s->v->bos, "bos_token"));
    put_id(w, "tokenizer.ggml.eos_token_id", id_of(s, s->v->eos, "eos_token"));
    put_id(w, "tokenizer.ggml.unknown_token_id", id_of(s, -1, "unk_token"));
    put_id(w, "tokenizer.ggml.padding_token_id", id_of(s, s->v->pad, "pad_token"));
    if (s->root != NULL) {
        const json_t *scheme = json_object_get(json_object_get(s->root, "pre_tokenizer"), "prepend_scheme");
        const int metaspace = mentions(json_object_get(s->root, "pre_tokenizer"), "Metaspace") &&
                              !(json_is_string(scheme) && strcmp(json_string_value(scheme), "never") == 0);
        zb_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", adds(s, "add_bos_token", 0));
        zb_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", adds(s, "add_eos_token", 1));
        zb_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix",
                         metaspace || mentions(json_object_get(s->root, "normalizer"), "Prepend"));
    }
    put_template(w, s);
    return ZAMBA_OK;
}

zamba_status zb_gguf_put_vocab(zb_gguf_writer *w, const zb_gguf_vocab *v, zamba_error *err)
{
    source s = {.v = v};
    zamba_status st = ZAMBA_OK;
    if (v->tokenizer != NULL)
        st = zb_json_parse(&s.root, v->tokenizer, v->n_tokenizer, "tokenizer.json", zb_json_large, err);
    if (st == ZAMBA_OK && v->config != NULL)
        st = zb_json_parse(&s.config, v->config, v->n_config, "tokenizer_config.json", zb_json_large, err);
    if (st == ZAMBA_OK)
        st = put_all(w, &s, err);
    free(s.tokens);
    json_decref(s.root);
    json_decref(s.config);
    return st;
}
