/* cmd_template.c — `zamba template`: a conversation as the model sees it. */
#include <stdlib.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "jsonl.h"

static json_t *answer(void *user, const json_t *in, const char *line, size_t n_line, char *why, size_t n_why)
{
    const zamba_chat *chat = user;
    zamba_error err = {0};
    char *text = NULL;
    int32_t *ids = NULL;
    size_t n_text, n_ids;
    if (!json_is_array(json_object_get(in, "messages"))) {
        snprintf(why, n_why, "wanted {\"messages\": [...], \"add_generation_prompt\": true}");
        return NULL;
    }
    if (zamba_chat_render_json(chat, line, n_line, &text, &n_text, &ids, &n_ids, &err) != ZAMBA_OK) {
        snprintf(why, n_why, "%s", err.message);
        return NULL;
    }
    json_t *rendered = cli_json_text(text, n_text), *list = cli_json_ids(ids, n_ids);
    zamba_free(text);
    zamba_free(ids);
    snprintf(why, n_why, "out of memory");
    if (!rendered || !list) {
        json_decref(rendered);
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:o, s:o}", "text", rendered, "ids", list);
}

static int render_one(const cli_args *args, zamba_chat *chat)
{
    char *text = NULL, why[640] = "wanted a JSON object";
    size_t n;
    int code = cli_read_file(args->file ? args->file : "-", JSONL_LINE_BYTES, &text, &n);
    if (code)
        return code;
    json_t *in = cli_json_parse(text, n, why, sizeof why);
    json_t *out = json_is_object(in) ? answer(chat, in, text, n, why, sizeof why) : NULL;
    if (!out) {
        code = cli_error("%s: %s", args->file ? args->file : "standard input", why);
    } else if (args->json) {
        code = out_json(json_incref(out), 0) ? 0 : 1;
    } else {
        const json_t *rendered = json_object_get(out, "text");
        out_bytes(json_string_value(rendered), json_string_length(rendered));
    }
    json_decref(in);
    json_decref(out);
    free(text);
    return code;
}

int cmd_template(const cli_args *args)
{
    zamba_tokenizer *tokenizer = NULL;
    zamba_chat *chat = NULL;
    zamba_error err = {0};
    size_t used = 0;
    char *path = cli_model_path(args, &used);
    int code = path ? cli_no_more_words(args, used) : 1;
    if (code == 0 && (zamba_tokenizer_open(&tokenizer, path, &err) != ZAMBA_OK ||
                      zamba_chat_open(&chat, path, tokenizer, &err) != ZAMBA_OK))
        code = cli_fail(&err);
    if (code == 0 && !zamba_chat_has_template(chat))
        cli_note("%s has no chat template; the built-in form is used", path);
    if (code == 0)
        code = args->jsonl ? jsonl_run(answer, chat, JSONL_LINE_BYTES) : render_one(args, chat);
    zamba_chat_close(chat);
    zamba_tokenizer_close(tokenizer);
    free(path);
    return code;
}
