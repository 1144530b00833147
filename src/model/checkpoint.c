/* checkpoint.c — see checkpoint.h. */
#include "model/checkpoint.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/gguf_vocab.h"
#include "io/json.h"
#include "model/gguf_names.h"

const char *const zb_checkpoint_texts[] = {"config.json",
                                           "generation_config.json",
                                           "tokenizer.json",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "chat_template.jinja",
                                           "additional_chat_templates/tool_use.jinja",
                                           NULL};

zamba_status zb_checkpoint_open(zb_checkpoint *c, const char *path, zamba_error *err)
{
    struct stat sb;
    *c = (zb_checkpoint){0};
    if (path == NULL || path[0] == '\0')
        return zb_fail(err, ZAMBA_E_ARG, "model: the path is empty");
    if (stat(path, &sb) != 0)
        return zb_fail(err, ZAMBA_E_NOT_FOUND,
                       "%s: no such folder or file (wanted a checkpoint with config.json, or a GGUF file)", path);
    if (!S_ISDIR(sb.st_mode) && !zb_gguf_is(path))
        return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                       "%s: a file, wanted a checkpoint folder with config.json or a GGUF file", path);
    c->path = strdup(path);
    if (c->path == NULL)
        return zb_fail_memory(err, path, strlen(path) + 1);
    c->is_gguf = !S_ISDIR(sb.st_mode);
    zamba_status st = c->is_gguf ? zb_gguf_open(&c->gguf, path, err) : ZAMBA_OK;
    c->merged = st == ZAMBA_OK && c->is_gguf && zb_gguf_merged(&c->gguf);
    if (st != ZAMBA_OK)
        zb_checkpoint_close(c);
    return st;
}

void zb_checkpoint_close(zb_checkpoint *c)
{
    zb_gguf_close(&c->gguf);
    free(c->path);
    *c = (zb_checkpoint){0};
}

/* The texts that a GGUF file carries, or what its keys say instead. */
static zamba_status parse_text(json_t **out, const zb_checkpoint *c, const char *name, zamba_error *err)
{
    char where[4200];
    zb_buf text = {0};
    zamba_status st = zb_checkpoint_text(c, name, &text, err);
    *out = NULL;
    zb_path_join(where, sizeof where, c->path, name, NULL);
    if (st == ZAMBA_OK)
        st = zb_json_parse(out, text.data != NULL ? text.data : "", text.n, where, zb_json_small, err);
    zb_buf_free(&text);
    return st;
}

/* The text could have been put beside other tensors: the largest numbers must agree with the keys. */
static zamba_status check_config(const zb_checkpoint *c, const zb_config *config, zamba_error *err)
{
    const struct {
        const char *name;
        size_t value;
    } sizes[] = {{"zamba2.block_count", config->n_layers},
                 {"zamba2.embedding_length", config->hidden_size},
                 {"zamba.block_count", config->n_layers},
                 {"zamba.embedding_length", config->hidden_size}};
    int64_t found;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const zb_gguf_value *v = zb_gguf_find(&c->gguf, sizes[i].name);
        if (v != NULL && !v->is_array && zb_gguf_int(v, 0, &found) && (uint64_t)found != sizes[i].value)
            return zb_fail(err, ZAMBA_E_MISMATCH, "%s: key %s is %lld, config.json in it says %zu", c->path,
                           sizes[i].name, (long long)found, sizes[i].value);
    }
    return ZAMBA_OK;
}

static zamba_status gguf_config(const zb_checkpoint *c, zb_config *config, zamba_dt_floor floor, zamba_error *err)
{
    char where[4200];
    json_t *root = NULL, *generation = NULL;
    zamba_status st = c->merged ? ZAMBA_E_NOT_FOUND : parse_text(&root, c, "config.json", err);
    const int carried = st == ZAMBA_OK;
    zb_path_join(where, sizeof where, c->path, "config.json", NULL);
    if (st == ZAMBA_E_NOT_FOUND)
        st = zb_gguf_config(&root, &c->gguf, c->path, err);
    if (st == ZAMBA_OK)
        json_object_del(root, "quantization_config"); /* of the folder that it was made from */
    if (st == ZAMBA_OK)
        st = zb_config_parse(config, root, carried ? where : c->path, floor, err);
    if (st == ZAMBA_OK && carried)
        st = check_config(c, config, err);
    if (st == ZAMBA_OK) {
        st = parse_text(&generation, c, "generation_config.json", err);
        if (st == ZAMBA_OK)
            st = zb_config_add_generation(config, generation, c->path, err);
        else if (st == ZAMBA_E_NOT_FOUND)
            st = ZAMBA_OK;
    }
    json_decref(root);
    json_decref(generation);
    return st;
}

zamba_status zb_checkpoint_plan(const zb_checkpoint *c, zb_plan *plan, zamba_dt_floor floor, zamba_error *err)
{
    zb_config config = {0};
    *plan = (zb_plan){0};
    zamba_status st = c->is_gguf ? gguf_config(c, &config, floor, err) : zb_config_read(&config, c->path, floor, err);
    if (st == ZAMBA_OK)
        return zb_plan_build(plan, &config, c->path, err);
    zb_config_free(&config);
    return st;
}

zamba_status zb_checkpoint_tensors(zb_checkpoint *c, zb_plan *plan, zb_tensors *out, zamba_error *err)
{
    *out = (zb_tensors){0};
    if (!c->is_gguf)
        return zb_tensors_open(out, c->path, err);
    zamba_status st = zb_gguf_rename(&c->gguf.tensors, plan, c->path, err);
    if (st != ZAMBA_OK)
        return st;
    *out = c->gguf.tensors;
    c->gguf.tensors = (zb_tensors){0};
    return ZAMBA_OK;
}

zamba_status zb_checkpoint_text(const zb_checkpoint *c, const char *name, zb_buf *text, zamba_error *err)
{
    char path[4096];
    size_t n = 0;
    if (c->is_gguf) {
        const char *found = zb_gguf_file(&c->gguf, name, &n);
        return found != NULL ? zb_buf_append(text, found, n, err) : ZAMBA_E_NOT_FOUND;
    }
    zamba_status st = zb_path_join(path, sizeof path, c->path, name, err);
    if (st == ZAMBA_OK && !zb_file_exists(path))
        return ZAMBA_E_NOT_FOUND;
    return st == ZAMBA_OK ? zb_file_read(text, path, zb_json_large.max_bytes, err) : st;
}
