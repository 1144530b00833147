/* cmd_detokenize.c — `zamba detokenize`: ids to text. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "jsonl.h"

typedef struct detokenize {
    const zamba_tokenizer *tokenizer;
    unsigned flags;
} detokenize;

static json_t *answer(void *user, const json_t *in, const char *line, size_t n_line, char *why, size_t n_why)
{
    const detokenize *t = user;
    zamba_error err = {0};
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n;
    (void)line;
    (void)n_line;
    if (!json_is_array(json_object_get(in, "ids"))) {
        snprintf(why, n_why, "wanted {\"ids\": [...]}");
        return NULL;
    }
    if (!cli_ids_of_json(json_object_get(in, "ids"), &ids, &n, why, n_why))
        return NULL;
    if (zamba_detokenize(t->tokenizer, ids, n, t->flags, &text, &n, &err) != ZAMBA_OK) {
        snprintf(why, n_why, "%s", err.message);
        free(ids);
        return NULL;
    }
    json_t *value = cli_json_text(text, n);
    zamba_free(text);
    free(ids);
    snprintf(why, n_why, "out of memory");
    return value ? json_pack("{s:o}", "text", value) : NULL;
}

static int print_ids(const cli_args *args, const detokenize *t, const char *list)
{
    zamba_error err = {0};
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n;
    int code = cli_parse_ids("ids", list, &ids, &n);
    if (code)
        return code;
    if (zamba_detokenize(t->tokenizer, ids, n, t->flags, &text, &n, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    free(ids);
    if (code)
        return code;
    if (args->json) {
        json_t *value = cli_json_text(text, n);
        code = out_json(value ? json_pack("{s:o}", "text", value) : NULL, 0) ? 0 : 1;
    } else {
        out_bytes(text, n);
        if (isatty(STDOUT_FILENO) && (n == 0 || text[n - 1] != '\n'))
            out_text("\n");
    }
    zamba_free(text);
    return code;
}

/* Only digits and what stands between ids. */
static bool is_id_list(const char *word)
{
    return word[strspn(word, "-0123456789, \t[]")] == 0;
}

int cmd_detokenize(const cli_args *args)
{
    detokenize t = {.flags = (args->special ? ZAMBA_DETOKENIZE_SPECIAL : 0) |
                             (args->keep_space ? ZAMBA_DETOKENIZE_KEEP_SPACE : 0)};
    const size_t n_words = args->words.n;
    const char *const *words = args->words.items;
    const size_t first = !args->model && n_words > 0 && (cli_is_model(words[0]) || !is_id_list(words[0]));
    char *path = cli_find_model(args->model ? args->model : first ? words[0] : NULL);
    char *list = NULL;
    zamba_tokenizer *tokenizer = NULL;
    zamba_error err = {0};
    size_t n = 1;
    int code = path ? 0 : 1;
    if (code == 0 && zamba_tokenizer_open(&tokenizer, path, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    t.tokenizer = tokenizer;
    if (code == 0 && args->jsonl) {
        code = cli_no_more_words(args, first);
        if (code == 0)
            code = jsonl_run(answer, &t, JSONL_IDS_BYTES);
    } else if (code == 0 && n_words > first) {
        for (size_t i = first; i < n_words; i++)
            n += strlen(words[i]) + 1;
        list = calloc(n, 1);
        code = list ? 0 : cli_error("out of memory");
        for (size_t i = first, at = 0; code == 0 && i < n_words; i++)
            at += (size_t)snprintf(list + at, n - at, "%s ", words[i]);
    } else if (code == 0) {
        code = cli_read_file("-", (size_t)1 << 28, &list, &n);
    }
    if (code == 0 && list)
        code = print_ids(args, &t, list);
    free(list);
    free(path);
    zamba_tokenizer_close(tokenizer);
    return code;
}
