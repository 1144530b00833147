/* tokenizer_pipeline.c — the parts of tokenizer.json around the model: normalizer, pre_tokenizer, post_processor and
 * decoder. Whatever would change ids or text and is not carried out here is refused by name. */
#include "tok/tokenizer_load.h"

#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

#define MAX_AFFIX 64 /* bytes of a Prepend or a replacement */

/* ---- Normalizer ------------------------------------------------------------------------------------------------- */

/* {"pattern": {"String": from}, "content": to}, of a normalizer or decoder. */
static zamba_status add_replace(const zb_tok_loader *l, const json_t *part, const char *where, zb_normal_ops *ops,
                                size_t *growth)
{
    const char *from, *to;
    size_t n_from, n_to;
    const json_t *pattern = json_object_get(part, "pattern");
    if (json_object_get(pattern, "Regex") != NULL)
        return zb_tok_unsupported(l, where, "Replace with a Regex pattern");
    if (!json_is_object(pattern))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: Replace.pattern is %s, wanted {\"String\": ...}", l->name,
                       where, zb_json_kind(pattern));
    zamba_status st = zb_tok_string(l, pattern, where, "String", &from, &n_from);
    if (st == ZAMBA_OK)
        st = zb_tok_string(l, part, where, "content", &to, &n_to);
    if (st != ZAMBA_OK)
        return st;
    if (n_from == 0)
        return zb_tok_unsupported(l, where, "Replace of an empty pattern");
    if (n_to > n_from)
        *growth *= (n_to + n_from - 1) / n_from;
    if (n_to > MAX_AFFIX || *growth > ZB_MAX_GROWTH)
        return zb_tok_unsupported(l, where, "replacements that could make a text more than 8 times as long");
    if (ops->n == ZB_MAX_OPS)
        return zb_tok_unsupported(l, where, "more than 16 steps");
    return zb_normal_ops_add(ops, from, n_from, to, n_to, l->err);
}

static zamba_status add_normalizer(zb_tok_loader *l, const json_t *part, size_t *growth)
{
    static const char where[] = "normalizer";
    const char *type, *to;
    size_t n_to;
    zamba_status st = zb_tok_type(l, part, where, &type);
    if (st != ZAMBA_OK)
        return st;
    if (strcmp(type, "Replace") == 0)
        return add_replace(l, part, where, &l->t->ops, growth);
    if (strcmp(type, "Prepend") == 0) {
        st = zb_tok_string(l, part, where, "prepend", &to, &n_to);
        if (st == ZAMBA_OK && n_to > MAX_AFFIX)
            return zb_tok_unsupported(l, where, "Prepend of more than 64 bytes");
        if (st == ZAMBA_OK && l->t->ops.n == ZB_MAX_OPS)
            return zb_tok_unsupported(l, where, "more than 16 steps");
        return st == ZAMBA_OK ? zb_normal_ops_add(&l->t->ops, NULL, 0, to, n_to, l->err) : st;
    }
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(part, "normalizers");
        if (!json_is_array(list))
            return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: normalizer.normalizers is %s, wanted an array", l->name,
                           zb_json_kind(list));
        for (size_t i = 0; i < json_array_size(list) && st == ZAMBA_OK; i++)
            st = add_normalizer(l, json_array_get(list, i), growth);
        return st;
    }
    return zb_tok_unsupported(l, where, type);
}

zamba_status zb_tok_load_normalizer(zb_tok_loader *l)
{
    const json_t *part = json_object_get(l->root, "normalizer");
    size_t growth = 1;
    return part == NULL || json_is_null(part) ? ZAMBA_OK : add_normalizer(l, part, &growth);
}

/* ---- Pre-tokenizer ---------------------------------------------------------------------------------------------- */

/* The fields of a Metaspace, as pre-tokenizer or decoder. Files before prepend_scheme have add_prefix_space. */
static zamba_status read_metaspace(const zb_tok_loader *l, const json_t *part, const char *where, zb_prepend *prepend,
                                   int *split)
{
    const char *sign, *scheme = "always";
    size_t n;
    int prefix_space;
    zamba_status st = zb_tok_string(l, part, where, "replacement", &sign, &n);
    if (st == ZAMBA_OK && (n != ZB_METASPACE_N || memcmp(sign, ZB_METASPACE, n) != 0))
        st = zb_tok_unsupported(l, where, "Metaspace with a replacement other than U+2581");
    const json_t *str_rep = json_object_get(part, "str_rep");
    if (st == ZAMBA_OK && str_rep != NULL &&
        (!json_is_string(str_rep) || strcmp(json_string_value(str_rep), ZB_METASPACE) != 0))
        st = zb_tok_unsupported(l, where, "Metaspace with a str_rep other than U+2581");
    const json_t *named = json_object_get(part, "prepend_scheme");
    if (st == ZAMBA_OK && named != NULL)
        st = zb_tok_string(l, part, where, "prepend_scheme", &scheme, &n);
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, part, where, "add_prefix_space", 1, &prefix_space);
    if (st == ZAMBA_OK)
        st = zb_tok_flag(l, part, where, "split", 1, split);
    if (st != ZAMBA_OK)
        return st;
    if (strcmp(scheme, "always") == 0)
        *prepend = ZB_PREPEND_ALWAYS;
    else if (strcmp(scheme, "first") == 0)
        *prepend = ZB_PREPEND_FIRST;
    else if (strcmp(scheme, "never") == 0)
        *prepend = ZB_PREPEND_NEVER;
    else
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: prepend_scheme is not always, first or never", l->name, where);
    if (prefix_space)
        return ZAMBA_OK;
    if (named != NULL && *prepend != ZB_PREPEND_NEVER)
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: %s: add_prefix_space false contradicts prepend_scheme %s", l->name,
                       where, scheme);
    *prepend = ZB_PREPEND_NEVER;
    return ZAMBA_OK;
}

static zamba_status add_pre_tokenizer(zb_tok_loader *l, const json_t *part)
{
    static const char where[] = "pre_tokenizer";
    const char *type;
    zamba_status st = zb_tok_type(l, part, where, &type);
    if (st != ZAMBA_OK)
        return st;
    if (strcmp(type, "Metaspace") == 0) {
        if (l->t->metaspace)
            return zb_tok_unsupported(l, where, "two Metaspace steps");
        l->t->metaspace = 1;
        return read_metaspace(l, part, where, &l->t->prepend, &l->t->split);
    }
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(part, "pretokenizers");
        if (!json_is_array(list))
            return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: pre_tokenizer.pretokenizers is %s, wanted an array", l->name,
                           zb_json_kind(list));
        for (size_t i = 0; i < json_array_size(list) && st == ZAMBA_OK; i++)
            st = add_pre_tokenizer(l, json_array_get(list, i));
        return st;
    }
    return zb_tok_unsupported(l, where, type);
}

zamba_status zb_tok_load_pre_tokenizer(zb_tok_loader *l)
{
    const json_t *part = json_object_get(l->root, "pre_tokenizer");
    const zb_normal_ops *ops = &l->t->ops;
    const zamba_status st = part == NULL || json_is_null(part) ? ZAMBA_OK : add_pre_tokenizer(l, part);
    if (st != ZAMBA_OK || !l->t->metaspace || l->t->prepend != ZB_PREPEND_FIRST)
        return st;
    /* "first" asks where a text began before normalizing; after a replacement there, the answer is an accident of the
     * library that writes these files. A text that then begins with a space gets no sign in any case. */
    for (size_t i = 0; i < ops->n; i++)
        if (ops->list[i].from != NULL &&
            (ops->list[i].n_to == 0 || !zb_starts_with_sign(ops->list[i].to, ops->list[i].n_to)))
            return zb_tok_unsupported(l, "pre_tokenizer", "prepend_scheme first behind such a normalizer");
    return ZAMBA_OK;
}

/* ---- Post-processor --------------------------------------------------------------------------------------------- */

static zamba_status add_template_ids(zb_tok_loader *l, const json_t *table, const json_t *piece, int32_t *to, size_t *n)
{
    const char *name;
    size_t len;
    char shown[64];
    zamba_status st = zb_tok_string(l, piece, "post_processor.single", "id", &name, &len);
    if (st != ZAMBA_OK)
        return st;
    zb_tok_show(shown, name, len);
    const json_t *ids = json_object_get(json_object_get(table, name), "ids");
    if (!json_is_array(ids))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: post_processor.special_tokens has no ids for \"%s\"", l->name,
                       shown);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= l->t->bpe.vocab.n ||
            l->t->bpe.vocab.len[json_integer_value(id)] == 0)
            return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: post_processor: \"%s\" stands for an id outside the vocabulary",
                           l->name, shown);
        if (*n == ZB_MAX_TEMPLATE)
            return zb_tok_unsupported(l, "post_processor", "a template of more than 16 tokens");
        to[(*n)++] = (int32_t)json_integer_value(id);
    }
    return ZAMBA_OK;
}

static zamba_status add_template(zb_tok_loader *l, const json_t *part)
{
    const json_t *single = json_object_get(part, "single"), *table = json_object_get(part, "special_tokens");
    int seen = 0;
    if (!json_is_array(single))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: post_processor.single is %s, wanted an array", l->name,
                       zb_json_kind(single));
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *token = json_object_get(piece, "SpecialToken"), *text = json_object_get(piece, "Sequence");
        zamba_status st = ZAMBA_OK;
        if (token != NULL)
            st = seen ? add_template_ids(l, table, token, l->t->suffix, &l->t->n_suffix)
                      : add_template_ids(l, table, token, l->t->prefix, &l->t->n_prefix);
        else if (text == NULL)
            st = zb_fail(l->err, ZAMBA_E_FORMAT, "%s: post_processor.single[%zu] is neither SpecialToken nor Sequence",
                         l->name, i);
        else if (seen++)
            st = zb_tok_unsupported(l, "post_processor", "a template that repeats the text");
        if (st != ZAMBA_OK)
            return st;
    }
    return seen ? ZAMBA_OK : zb_tok_unsupported(l, "post_processor", "a template without the text");
}

static zamba_status add_post_processor(zb_tok_loader *l, const json_t *part, int *templates)
{
    static const char where[] = "post_processor";
    const char *type;
    zamba_status st = zb_tok_type(l, part, where, &type);
    if (st != ZAMBA_OK)
        return st;
    if (strcmp(type, "TemplateProcessing") == 0)
        return (*templates)++ ? zb_tok_unsupported(l, where, "two templates") : add_template(l, part);
    if (strcmp(type, "ByteLevel") == 0) /* moves offsets only */
        return ZAMBA_OK;
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(part, "processors");
        if (!json_is_array(list))
            return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: post_processor.processors is %s, wanted an array", l->name,
                           zb_json_kind(list));
        for (size_t i = 0; i < json_array_size(list) && st == ZAMBA_OK; i++)
            st = add_post_processor(l, json_array_get(list, i), templates);
        return st;
    }
    return zb_tok_unsupported(l, where, type);
}

zamba_status zb_tok_load_post_processor(zb_tok_loader *l)
{
    const json_t *part = json_object_get(l->root, "post_processor");
    int templates = 0;
    return part == NULL || json_is_null(part) ? ZAMBA_OK : add_post_processor(l, part, &templates);
}

/* ---- Decoder ---------------------------------------------------------------------------------------------------- */

/* Supported chains: Replace... or Metaspace, then ByteFallback, Fuse, Strip, each optional but in this order. */
typedef struct decoder_chain {
    zb_normal_ops ops;
    size_t growth;
    int metaspace, bytes, fuse, strip;
} decoder_chain;

static zamba_status add_strip(zb_tok_loader *l, const json_t *part, const char *where)
{
    const char *content;
    size_t n;
    json_int_t start, stop;
    zamba_status st = zb_tok_string(l, part, where, "content", &content, &n);
    if (st == ZAMBA_OK)
        st = zb_tok_count(l, part, where, "start", 1 << 20, &start);
    if (st == ZAMBA_OK)
        st = zb_tok_count(l, part, where, "stop", 1 << 20, &stop);
    if (st != ZAMBA_OK)
        return st;
    if (stop > 0)
        return zb_tok_unsupported(l, where, "Strip at the end of the text");
    if (n == 0 || zb_utf8_length(content, n) != n)
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: decoder: Strip.content is not one character", l->name);
    memcpy(l->t->strip, content, n);
    l->t->n_strip = n;
    l->t->strip_max = (size_t)start;
    return ZAMBA_OK;
}

static zamba_status add_decoder(zb_tok_loader *l, const json_t *part, decoder_chain *chain)
{
    static const char where[] = "decoder";
    const char *type;
    int split;
    zb_prepend prepend;
    zamba_status st = zb_tok_type(l, part, where, &type);
    if (st != ZAMBA_OK)
        return st;
    if (strcmp(type, "Replace") == 0) {
        if (chain->metaspace || chain->bytes || chain->fuse)
            return zb_tok_unsupported(l, where, "Replace after Metaspace, ByteFallback or Fuse");
        return add_replace(l, part, where, &chain->ops, &chain->growth);
    }
    if (strcmp(type, "Metaspace") == 0) {
        if (chain->metaspace || chain->ops.n > 0 || chain->bytes || chain->fuse)
            return zb_tok_unsupported(l, where, "Metaspace after another step");
        st = read_metaspace(l, part, where, &prepend, &split);
        chain->metaspace = 1;
        l->t->drop_metaspace = st == ZAMBA_OK && prepend != ZB_PREPEND_NEVER;
        return st == ZAMBA_OK ? zb_normal_ops_add(&chain->ops, ZB_METASPACE, ZB_METASPACE_N, " ", 1, l->err) : st;
    }
    if (strcmp(type, "ByteFallback") == 0) {
        if (chain->fuse)
            return zb_tok_unsupported(l, where, "ByteFallback after Fuse");
        chain->bytes = 1;
        return ZAMBA_OK;
    }
    if (strcmp(type, "Fuse") == 0) {
        chain->fuse = 1;
        return ZAMBA_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        if (!chain->fuse)
            return zb_tok_unsupported(l, where, "Strip before Fuse (of each piece)");
        return chain->strip++ ? zb_tok_unsupported(l, where, "two Strip steps") : add_strip(l, part, where);
    }
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(part, "decoders");
        if (!json_is_array(list))
            return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: decoder.decoders is %s, wanted an array", l->name,
                           zb_json_kind(list));
        for (size_t i = 0; i < json_array_size(list) && st == ZAMBA_OK; i++)
            st = add_decoder(l, json_array_get(list, i), chain);
        return st;
    }
    return zb_tok_unsupported(l, where, type);
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

static int byte_of(const char *p, size_t n)
{
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>')
        return -1;
    const int high = hex_value(p[3]), low = hex_value(p[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* The text of every id, so that decoding only copies. */
static zamba_status prepare_texts(zb_tok_loader *l, const decoder_chain *chain)
{
    zamba_tokenizer *t = l->t;
    const zb_vocab *v = &t->bpe.vocab;
    zb_normal_text text = {0}, spare = {0};
    size_t room;
    if (!zb_mul(v->n_text, chain->growth, &room))
        return zb_fail(l->err, ZAMBA_E_FORMAT, "%s: decoder: texts too long", l->name);
    zamba_status st = zb_vocab_init(&t->decoded, v->n, room, l->err);
    t->byte = malloc(((size_t)v->n + 1) * sizeof *t->byte);
    if (st == ZAMBA_OK && t->byte == NULL)
        st = zb_fail_memory(l->err, "byte tokens", (size_t)v->n * sizeof *t->byte);
    for (int32_t id = 0; id < v->n && st == ZAMBA_OK; id++) {
        size_t n;
        const char *p = zb_vocab_piece(v, id, &n);
        t->byte[id] = -1;
        if (p != NULL && chain->ops.n > 0) {
            st = zb_normalize(&chain->ops, p, n, NULL, &text, &spare, l->err);
            p = text.text.data;
            n = text.text.n;
        }
        if (st != ZAMBA_OK || n == 0)
            continue;
        t->byte[id] = (int16_t)(chain->bytes ? byte_of(p, n) : -1);
        if (!zb_vocab_set(&t->decoded, id, p, n))
            st = zb_fail(l->err, ZAMBA_E_FORMAT, "%s: decoder: texts too long", l->name);
    }
    zb_normal_text_free(&text);
    zb_normal_text_free(&spare);
    return st;
}

zamba_status zb_tok_load_decoder(zb_tok_loader *l)
{
    const json_t *part = json_object_get(l->root, "decoder");
    decoder_chain chain = {.growth = 1};
    if (part == NULL || json_is_null(part))
        return zb_tok_unsupported(l, "decoder", "none at all (pieces would be joined by spaces)");
    zamba_status st = add_decoder(l, part, &chain);
    if (st == ZAMBA_OK)
        st = prepare_texts(l, &chain);
    zb_normal_ops_free(&chain.ops);
    return st;
}
