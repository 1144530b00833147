/* tokenizers.c — see tokenizers.h. */
#include "support/tokenizers.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "tok/tokenizer.h"

zamba_tokenizer *base, *instruct;

json_t *fixture_json(const char *path)
{
    json_t *j = NULL;
    zamba_error err = {0};
    CHECK_OK(zb_json_read(&j, path, zb_json_large, &err), err);
    return j;
}

zamba_tokenizer *fixture_open(const json_t *root, const char *config_path)
{
    zamba_tokenizer *t = NULL;
    zamba_error err = {0};
    zb_buf config = {0};
    char *text = json_dumps(root, JSON_COMPACT);
    assert_non_null(text);
    if (config_path != NULL)
        CHECK_OK(zb_file_read(&config, config_path, (size_t)1 << 20, &err), err);
    CHECK_OK(zb_tokenizer_parse(&t, text, strlen(text), "fixture", config.data, config.n, &err), err);
    free(text);
    zb_buf_free(&config);
    return t;
}

json_t *fixture_instruct_json(void)
{
    static const char *const names[3][2] = {{"<unk>", "[PAD]"}, {"<s>", "<|im_start|>"}, {"</s>", "<|im_end|>"}};
    json_t *root = fixture_json(BASE), *model = json_object_get(root, "model"), *merges = json_array(), *merge;
    json_t *template = json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[], s:{s:{s:s, s:[i], s:[s]}}}", "type",
                                 "TemplateProcessing", "single", "SpecialToken", "id", names[1][1], "type_id", 0,
                                 "Sequence", "id", "A", "type_id", 0, "pair", "special_tokens", names[1][1], "id",
                                 names[1][1], "ids", 1, "tokens", names[1][1]);
    size_t i;
    assert_non_null(template);
    for (i = 0; i < 3; i++) {
        json_object_del(json_object_get(model, "vocab"), names[i][0]);
        json_object_set_new(json_object_get(model, "vocab"), names[i][1], json_integer((json_int_t)i));
        json_object_set_new(json_array_get(json_object_get(root, "added_tokens"), i), "content",
                            json_string(names[i][1]));
    }
    json_object_set_new(model, "unk_token", json_string(names[0][1]));
    json_object_set_new(root, "post_processor", template);
    json_array_foreach(json_object_get(model, "merges"), i, merge)
    {
        const char *text = json_string_value(merge), *space = strchr(text, ' ');
        json_array_append_new(merges, json_pack("[s%, s]", text, (size_t)(space - text), space + 1));
    }
    json_object_set_new(model, "merges", merges);
    return root;
}

int open_tokenizers(void **state)
{
    (void)state;
    json_t *j = fixture_json(BASE), *k = fixture_instruct_json();
    base = fixture_open(j, FIXTURES "base_tokenizer_config.json");
    instruct = fixture_open(k, FIXTURES "instruct_tokenizer_config.json");
    json_decref(j);
    json_decref(k);
    return 0;
}

int close_tokenizers(void **state)
{
    (void)state;
    zamba_tokenizer_close(base);
    zamba_tokenizer_close(instruct);
    return 0;
}
