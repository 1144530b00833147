/* lora_save.c — an adapter as PEFT's save_pretrained writes it: adapter_config.json and adapter_model.safetensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "io/safetensors_write.h"
#include "model/lora.h"

static const char *last_part(const char *module)
{
    const char *point = strrchr(module, '.');
    return point != NULL ? point + 1 : module;
}

/* Has every place whose name ends so an item? Then the end alone can stand for them. */
static int covers(const zb_lora_places *places, const zb_lora_item *items, size_t n, const char *end)
{
    size_t with = 0, all = 0;
    if (end[0] >= '0' && end[0] <= '9') /* members of lists are called by numbers */
        return 0;
    for (size_t i = 0; i < places->n; i++)
        all += strcmp(last_part(places->items[i].module), end) == 0;
    for (size_t i = 0; i < n; i++)
        with += strcmp(last_part(items[i].place->module), end) == 0;
    return with == all;
}

static json_t *target_modules(const zb_lora_places *places, const zb_lora_item *items, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const char *module = items[i].place->module, *end = last_part(module);
        const int by_end = covers(places, items, n, end);
        size_t before = 0;
        while (before < i && (!by_end || strcmp(last_part(items[before].place->module), end) != 0))
            before++;
        if (before == i)
            json_array_append_new(list, json_string(by_end ? end : module));
    }
    return list;
}

/* Modules whose number is not that of the first. */
static json_t *pattern(const zb_lora_item *items, size_t n, int of_rank)
{
    json_t *map = json_object();
    for (size_t i = 1; i < n; i++) {
        if (of_rank && items[i].rank != items[0].rank)
            json_object_set_new(map, items[i].place->module, json_integer((json_int_t)items[i].rank));
        if (!of_rank && items[i].alpha != items[0].alpha)
            json_object_set_new(map, items[i].place->module, json_real(items[i].alpha));
    }
    return map;
}

static json_t *number(double x)
{
    return x == (double)(json_int_t)x ? json_integer((json_int_t)x) : json_real(x);
}

static zamba_status write_config(const char *folder, const zb_lora_places *places, const zb_lora_item *items, size_t n,
                                 double dropout, int rslora, const char *base, zamba_error *err)
{
    char path[4096];
    json_t *name = json_string(base); /* NULL: not UTF-8 */
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:o, s:I, s:o, s:o, s:s, s:b, s:b, s:b, s:b, s:b, s:o, s:o, s:o, s:n, s:n, s:n}", "peft_type",
        "LORA", "task_type", "CAUSAL_LM", "bias", "none", "base_model_name_or_path", name != NULL ? name : json_null(),
        "r", (json_int_t)items[0].rank, "lora_alpha", number(items[0].alpha), "lora_dropout", number(dropout),
        "revision", "main", "fan_in_fan_out", 0, "inference_mode", 1, "init_lora_weights", 1, "use_dora", 0,
        "use_rslora", rslora, "target_modules", target_modules(places, items, n), "rank_pattern", pattern(items, n, 1),
        "alpha_pattern", pattern(items, n, 0), "modules_to_save", "layers_to_transform", "layers_pattern");
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(root);
    zamba_status st = zb_path_join(path, sizeof path, folder, "adapter_config.json", err);
    if (st == ZAMBA_OK && text == NULL)
        st = zb_fail_memory(err, path, 0);
    if (st == ZAMBA_OK)
        st = zb_file_write(path, (zb_file_part[]){{text, strlen(text)}, {"\n", 1}}, 2, err);
    free(text);
    return st;
}

static zamba_status write_weights(const char *folder, const zb_lora_item *items, size_t n, zamba_error *err)
{
    zb_shards *w = NULL;
    char name[512];
    zamba_status st = zb_shards_create(&w, folder, UINT64_MAX, err);
    if (st != ZAMBA_OK)
        return st;
    zb_shards_stem(w, "adapter_model");
    for (size_t i = 0; i < n; i++) {
        const zb_lora_place *p = items[i].place;
        snprintf(name, sizeof name, ZB_LORA_NAME, p->module, 'A');
        zb_shards_declare(w, name, ZB_F32, (size_t[]){items[i].rank, p->cols}, 2);
        snprintf(name, sizeof name, ZB_LORA_NAME, p->module, 'B');
        zb_shards_declare(w, name, ZB_F32, (size_t[]){p->rows, items[i].rank}, 2);
    }
    st = zb_shards_begin(w, err);
    for (size_t i = 0; i < n && st == ZAMBA_OK; i++) {
        const zb_lora_place *p = items[i].place;
        st = zb_shards_append(w, items[i].a, items[i].rank * p->cols * sizeof(float), err);
        if (st == ZAMBA_OK)
            st = zb_shards_append(w, items[i].b, items[i].rank * p->rows * sizeof(float), err);
    }
    if (st == ZAMBA_OK)
        return zb_shards_finish(w, err);
    zb_shards_cancel(w);
    return st;
}

zamba_status zb_lora_write(const char *folder, const zb_lora_places *places, const zb_lora_item *items, size_t n,
                           double dropout, int rslora, const char *base, zamba_error *err)
{
    if (n == 0)
        return zb_fail(err, ZAMBA_E_ARG, "%s: an adapter without places", folder);
    zamba_status st = write_weights(folder, items, n, err);
    return st == ZAMBA_OK ? write_config(folder, places, items, n, dropout, rslora, base, err) : st;
}
