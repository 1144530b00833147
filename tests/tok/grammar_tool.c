/* grammar_tool.c — driven by test_grammar_json.py: reads lines {"kind", "text", "n", "seed"} and writes for each a line
 * {"texts": [...]} of random texts that the grammar allows (those that ended within 300 tokens), or {"error": "..."}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "zamba.h"

enum { MOST = 300 };

static uint64_t seed;

static uint32_t any(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33);
}

/* Uniform among what is allowed; every other time, if there are such, among signs that end something. */
static int32_t choose(const zamba_tokenizer *t, const float *logits, int32_t n)
{
    int32_t all = -1, ends = -1;
    uint32_t n_all = 0, n_ends = 0;
    for (int32_t i = 0; i < n; i++) {
        if (logits[i] != 0)
            continue;
        size_t len;
        const char *p = zamba_tokenizer_piece(t, i, &len);
        if (any() % ++n_all == 0)
            all = i;
        if ((i == zamba_tokenizer_eos(t) || (len == 1 && strchr("\"}]", p[0]) != NULL)) && any() % ++n_ends == 0)
            ends = i;
    }
    return ends >= 0 && any() % 2 != 0 ? ends : all;
}

static json_t *one_text(const zamba_tokenizer *t, zamba_grammar *g, float *logits, zamba_error *err)
{
    const int32_t n = zamba_tokenizer_n_vocab(t);
    int32_t ids[MOST];
    size_t n_ids = 0, n_text = 0;
    char *text = NULL;
    json_t *out = NULL;
    zamba_grammar_state *s = NULL;
    zamba_status st = zamba_grammar_state_open(&s, g, NULL, err);
    while (st == ZAMBA_OK && n_ids < MOST && zamba_grammar_done(s) != 2) {
        for (int32_t i = 0; i < n; i++)
            logits[i] = 0;
        st = zamba_grammar_mask(s, logits, (size_t)n, err);
        const int32_t id = st == ZAMBA_OK ? choose(t, logits, n) : -1;
        if (st == ZAMBA_OK)
            st = zamba_grammar_accept(s, id, err);
        if (st == ZAMBA_OK && id != zamba_tokenizer_eos(t))
            ids[n_ids++] = id;
    }
    if (st == ZAMBA_OK && zamba_grammar_done(s) == 2)
        st = zamba_detokenize(t, ids, n_ids, 0, &text, &n_text, err);
    if (st == ZAMBA_OK)
        out = text != NULL ? json_stringn(text, n_text) : json_null();
    zamba_free(text);
    zamba_grammar_state_close(s);
    return out;
}

static json_t *answer(const zamba_tokenizer *t, const json_t *line, float *logits)
{
    static const char *const kinds[] = {"regex", "gbnf", "json_schema", "json"};
    const char *kind = json_string_value(json_object_get(line, "kind"));
    const json_t *text = json_object_get(line, "text");
    zamba_error err = {0};
    zamba_grammar *g = NULL;
    int k = 0;
    while (k < 3 && strcmp(kinds[k], kind) != 0)
        k++;
    json_t *texts = json_array();
    zamba_status st =
        zamba_grammar_open(&g, t, (zamba_grammar_kind)k, json_string_value(text), json_string_length(text), &err);
    seed = (uint64_t)json_integer_value(json_object_get(line, "seed"));
    for (json_int_t i = json_integer_value(json_object_get(line, "n")); i > 0 && st == ZAMBA_OK; i--) {
        json_t *one = one_text(t, g, logits, &err);
        st = err.code;
        if (one == NULL)
            break;
        json_array_append_new(texts, one);
    }
    zamba_grammar_close(g);
    if (st == ZAMBA_OK)
        return json_pack("{s:o}", "texts", texts);
    json_decref(texts);
    return json_pack("{s:s}", "error", err.message);
}

int main(int argc, char **argv)
{
    zamba_tokenizer *t = NULL;
    zamba_error err = {0};
    static char line[1 << 16];
    if (argc != 2 || zamba_tokenizer_open(&t, argv[1], &err) != ZAMBA_OK) {
        fprintf(stderr, "grammar_tool: %s\n", err.message);
        return 1;
    }
    float *logits = malloc((size_t)zamba_tokenizer_n_vocab(t) * sizeof *logits);
    while (logits != NULL && fgets(line, sizeof line, stdin) != NULL) {
        json_t *in = json_loads(line, 0, NULL), *out = in != NULL ? answer(t, in, logits) : NULL;
        char *text = out != NULL ? json_dumps(out, JSON_COMPACT) : NULL;
        puts(text != NULL ? text : "null");
        free(text);
        json_decref(in);
        json_decref(out);
    }
    free(logits);
    zamba_tokenizer_close(t);
    return 0;
}
