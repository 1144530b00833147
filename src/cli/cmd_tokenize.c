/* cmd_tokenize.c — `zamba tokenize`: text to ids. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "jsonl.h"

typedef struct tokenize {
    const zamba_tokenizer *tokenizer;
    unsigned flags;
} tokenize;

static json_t *answer(void *user, const json_t *in, const char *line, size_t n_line, char *why, size_t n_why)
{
    const tokenize *t = user;
    const json_t *text = json_object_get(in, "text");
    zamba_error err = {0};
    int32_t *ids = NULL;
    size_t n;
    (void)line;
    (void)n_line;
    if (!json_is_string(text)) {
        snprintf(why, n_why, "wanted {\"text\": \"...\"}");
        return NULL;
    }
    if (zamba_tokenize(t->tokenizer, json_string_value(text), json_string_length(text), t->flags, &ids, &n, &err) !=
        ZAMBA_OK) {
        snprintf(why, n_why, "%s", err.message);
        return NULL;
    }
    json_t *list = cli_json_ids(ids, n);
    zamba_free(ids);
    snprintf(why, n_why, "out of memory");
    return list ? json_pack("{s:o}", "ids", list) : NULL;
}

static json_t *pieces_of(const zamba_tokenizer *t, const int32_t *ids, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        size_t len = 0;
        const char *piece = zamba_tokenizer_piece(t, ids[i], &len);
        json_array_append_new(list, cli_json_text(piece ? piece : "", piece ? len : 0));
    }
    return list;
}

static int print_text(const cli_args *args, const tokenize *t, const char *text, size_t n_text)
{
    zamba_error err = {0};
    int32_t *ids = NULL;
    size_t n;
    int code = 0;
    if (zamba_tokenize(t->tokenizer, text, n_text, t->flags, &ids, &n, &err) != ZAMBA_OK)
        return cli_fail(&err);
    if (args->json) {
        json_t *list = cli_json_ids(ids, n), *pieces = pieces_of(t->tokenizer, ids, n);
        json_t *out = list && pieces ? json_pack("{s:o, s:o}", "ids", list, "pieces", pieces) : NULL;
        code = out_json(out, 0) ? 0 : 1;
    } else if (args->pieces) {
        for (size_t i = 0; i < n; i++) {
            size_t len = 0;
            const char *piece = zamba_tokenizer_piece(t->tokenizer, ids[i], &len);
            out_format("%6d\t", ids[i]);
            out_bytes(piece ? piece : "", piece ? len : 0);
            out_text("\n");
        }
    } else {
        out_text("[");
        for (size_t i = 0; i < n; i++)
            out_format("%s%d", i ? ", " : "", ids[i]);
        out_text("]\n");
    }
    zamba_free(ids);
    return code;
}

int cmd_tokenize(const cli_args *args)
{
    tokenize t = {.flags =
                      (args->no_bos ? 0 : ZAMBA_TOKENIZE_BOS) | (args->no_parse_special ? 0 : ZAMBA_TOKENIZE_SPECIAL)};
    zamba_tokenizer *tokenizer = NULL;
    zamba_error err = {0};
    char *path = NULL, *text = NULL;
    const char *given = NULL;
    size_t n = 0;
    if (args->prompt && args->file) {
        cli_error("one text is wanted, found --prompt and --file");
        return cli_hint(args->command);
    }
    int code = cli_model_and_text(args, args->prompt || args->file || args->jsonl, &path, &given);
    if (code == 0 && zamba_tokenizer_open(&tokenizer, path, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    t.tokenizer = tokenizer;
    given = given ? given : args->prompt;
    if (code == 0 && args->jsonl) {
        code = jsonl_run(answer, &t, JSONL_LINE_BYTES);
    } else if (code == 0 && given) {
        code = print_text(args, &t, given, strlen(given));
    } else if (code == 0) {
        code = cli_read_file(args->file ? args->file : "-", (size_t)1 << 30, &text, &n);
        if (code == 0)
            code = print_text(args, &t, text, n);
    }
    free(text);
    free(path);
    zamba_tokenizer_close(tokenizer);
    return code;
}
