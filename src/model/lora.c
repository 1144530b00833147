/* lora.c — PEFT's adapter folders: adapter_config.json and adapter_model.safetensors, checked against the model and put
 * beside its weights. What PEFT can do beside plain LoRA is refused by name.
 *
 * Transformers 5 makes a module of every use of a shared block, 4 had one for all: then only the first layer of a block
 * has keys, and they count at every use of it. */
#include "model/lora.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/hash.h"
#include "io/json.h"

/* What one adapter says of one place. */
typedef struct half_pair {
    const zb_tensor *a, *b; /* NULL: nothing */
    float scale;            /* alpha / rank, and the user's */
} half_pair;

typedef struct adapter {
    char folder[4096];
    json_t *config;
    const char *config_path;
    char path[4096];
    zb_tensors tensors;
    half_pair *pairs; /* [places] */
    double rank, alpha;
    int rslora;
} adapter;

/* ---- adapter_config.json ---- */

static int says_something(const json_t *v)
{
    return v != NULL && !json_is_null(v) && !json_is_false(v) && !(json_is_array(v) && json_array_size(v) == 0) &&
           !(json_is_object(v) && json_object_size(v) == 0) && !(json_is_string(v) && json_string_length(v) == 0);
}

/* What would need more than A and B. */
static zamba_status check_kind(const adapter *a, const char *path, zamba_error *err)
{
    static const struct {
        const char *key, *what;
    } refused[] = {
        {"use_dora", "DoRA (magnitudes beside A and B)"},
        {"lora_bias", "biases of B"},
        {"fan_in_fan_out", "transposed weights (fan_in_fan_out)"},
        {"modules_to_save", "whole modules beside the adapter (modules_to_save)"},
        {"trainable_token_indices", "rows of the embedding (trainable_token_indices)"},
        {"target_parameters", "LoRA on parameters that are no linear modules (target_parameters)"},
        {"alora_invocation_tokens", "aLoRA (begins at an invocation)"},
        {"layer_replication", "replicated layers"},
        {"arrow_config", "Arrow (routing between adapters)"},
        {"use_qalora", "QALoRA"},
        {"use_bdlora", "BD-LoRA"},
        {"kasa_config", "KaSA"},
        {"monteclora_config", "MonteCLoRA"},
    };
    const json_t *type = json_object_get(a->config, "peft_type"), *bias = json_object_get(a->config, "bias"),
                 *init = json_object_get(a->config, "init_lora_weights");
    if (!json_is_string(type) || strcmp(json_string_value(type), "LORA") != 0)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: peft_type is %.40s, wanted LORA", path,
                       json_is_string(type) ? json_string_value(type) : "missing");
    if (says_something(bias) && (!json_is_string(bias) || strcmp(json_string_value(bias), "none") != 0))
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: bias is %.40s, wanted none: biases are not part of an adapter",
                       path, json_is_string(bias) ? json_string_value(bias) : "no text");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (says_something(json_object_get(a->config, refused[i].key)))
            return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: %s: this is not supported, only plain LoRA is", path,
                           refused[i].what);
    /* these change the base weights when the adapter is loaded */
    static const char *const harmless[] = {"gaussian", "orthogonal", "eva", "true", "false"};
    int known = !json_is_string(init);
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless && !known; i++)
        known = strcmp(json_string_value(init), harmless[i]) == 0;
    return known ? ZAMBA_OK
                 : zb_fail(err, ZAMBA_E_UNSUPPORTED,
                           "%s: init_lora_weights is %.40s, which changes the model's own weights (PEFT's "
                           "save_pretrained can convert it to plain LoRA: path_initial_model_for_weight_conversion)",
                           path, json_string_value(init));
}

static zamba_status read_config(adapter *a, zamba_error *err)
{
    char path[4096];
    zamba_status st = zb_path_join(path, sizeof path, a->folder, "adapter_config.json", err);
    if (st == ZAMBA_OK && !zb_file_exists(path))
        return zb_fail(err, ZAMBA_E_NOT_FOUND,
                       "%s: no adapter_config.json, wanted a folder as PEFT saves adapters, with "
                       "adapter_model.safetensors in it",
                       a->folder);
    if (st == ZAMBA_OK)
        st = zb_json_read(&a->config, path, zb_json_small, err);
    if (st == ZAMBA_OK && !json_is_object(a->config))
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: found no object, wanted {...}", path);
    if (st == ZAMBA_OK)
        st = check_kind(a, path, err);
    if (st != ZAMBA_OK)
        return st;
    const json_t *r = json_object_get(a->config, "r"), *alpha = json_object_get(a->config, "lora_alpha");
    a->rank = json_number_value(r);
    a->alpha = json_number_value(alpha);
    a->rslora = json_is_true(json_object_get(a->config, "use_rslora"));
    if (!json_is_integer(r) || a->rank < 1)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: r is no whole number of 1 or more", path);
    if (!json_is_number(alpha) || !isfinite(a->alpha))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: lora_alpha is no number", path);
    return ZAMBA_OK;
}

/* Does a key of rank_pattern or alpha_pattern mean this module? It is a regular expression for the end of its name from
 * a point on; in practice a name, perhaps with ^ before it and \ before its points. -1: another expression. */
static int pattern_means(const char *pattern, const char *module)
{
    char plain[512];
    size_t n = 0;
    const int whole = pattern[0] == '^';
    for (const char *p = pattern + whole; *p != '\0'; p++) {
        if (p[0] == '\\' && p[1] == '.')
            p++;
        else if (strchr("\\*+?[](){}|^$", *p) != NULL)
            return -1;
        if (n + 1 == sizeof plain)
            return -1;
        plain[n++] = *p;
    }
    plain[n] = '\0';
    const size_t m = strlen(module);
    return n <= m && strcmp(module + m - n, plain) == 0 && (n == m || (!whole && module[m - n - 1] == '.'));
}

static zamba_status of_pattern(const adapter *a, const char *key, const char *module, double *value, zamba_error *err)
{
    json_t *patterns = json_object_get(a->config, key), *v;
    const char *pattern;
    json_object_foreach(patterns, pattern, v)
    {
        const int means = pattern_means(pattern, module);
        if (means < 0)
            return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                           "%s/adapter_config.json: %s: '%.80s' is an expression, only names of modules are understood",
                           a->folder, key, pattern);
        if (means && (!json_is_number(v) || !isfinite(json_number_value(v))))
            return zb_fail(err, ZAMBA_E_FORMAT, "%s/adapter_config.json: %s: '%.80s' has no number", a->folder, key,
                           pattern);
        if (means) {
            *value = json_number_value(v);
            return ZAMBA_OK;
        }
    }
    return ZAMBA_OK;
}

/* ---- adapter_model.safetensors ---- */

typedef enum which { IS_A, IS_B } which;

/* "base_model.model.X.lora_A[.default].weight" -> X and A. */
static zamba_status parse_name(const adapter *a, const char *name, char *module, size_t n_module, which *w,
                               zamba_error *err)
{
    static const char prefix[] = "base_model.model.";
    static const struct {
        const char *part, *what;
    } refused[] = {
        {".lora_embedding_", "an adapter of the embedding"},
        {".lora_magnitude_vector", "DoRA"},
        {".modules_to_save.", "a whole module"},
        {".base_layer.", "a weight of the model itself"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strstr(name, refused[i].part) != NULL)
            return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                           "%s: tensor %.160s belongs to %s: only A and B of linear modules "
                           "are supported",
                           a->path, name, refused[i].what);
    const char *start = strncmp(name, prefix, sizeof prefix - 1) == 0 ? name + sizeof prefix - 1 : name;
    const char *lora = strstr(start, ".lora_");
    if (lora != NULL && (lora[6] == 'A' || lora[6] == 'B') && (size_t)(lora - start) < n_module) {
        const char *rest = lora + 7;
        if (strcmp(rest, ".weight") == 0 || strcmp(rest, ".default.weight") == 0) {
            *w = lora[6] == 'A' ? IS_A : IS_B;
            snprintf(module, n_module, "%.*s", (int)(lora - start), start);
            return ZAMBA_OK;
        }
        if (strcmp(rest, ".bias") == 0 || strcmp(rest, ".default.bias") == 0)
            return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %.160s: biases of adapters are not supported", a->path,
                           name);
    }
    return zb_fail(err, ZAMBA_E_MISMATCH,
                   "%s: tensor %.160s is none of an adapter, wanted names that end in "
                   ".lora_A.weight and .lora_B.weight",
                   a->path, name);
}

/* Which hybrid layers have keys of what their block shares: [n_uses]. 1 in *shared4: only the first of each block that
 * has any, and nothing in the config says that this was meant. */
static zamba_status find_way(const adapter *a, const zb_plan *plan, const zb_lora_places *places, int *shared4,
                             zamba_error *err)
{
    unsigned char *has = calloc(plan->n_uses + 1, 1);
    size_t with = 0, first_only = 1, reused = plan->n_uses > plan->config.n_blocks;
    *shared4 = 0;
    if (has == NULL)
        return zb_fail_memory(err, a->folder, plan->n_uses);
    for (size_t i = 0; i < a->tensors.n; i++) {
        char module[512];
        which w;
        if (parse_name(a, a->tensors.items[i].name, module, sizeof module, &w, NULL) != ZAMBA_OK)
            continue;
        for (size_t k = 0; k < places->n; k++)
            if (places->items[k].block >= 0 && places->items[k].role >= ZB_Q &&
                strcmp(places->items[k].module, module) == 0)
                has[places->items[k].use] = 1;
    }
    for (size_t u = 0; u < plan->n_uses; u++) {
        with += has[u];
        first_only &= !has[u] || u < plan->config.n_blocks;
    }
    free(has);
    const json_t *targets = json_object_get(a->config, "target_modules"), *target;
    size_t k, by_layer = 0;
    json_array_foreach(targets, k, target) by_layer +=
        json_is_string(target) && strstr(json_string_value(target), "layers.") != NULL;
    const int some_meant =
        says_something(json_object_get(a->config, "layers_to_transform")) || json_is_string(targets) || by_layer > 0;
    if (with == 0 || with == plan->n_uses || some_meant)
        return ZAMBA_OK;
    if (reused)
        *shared4 = (int)first_only;
    else /* llama.cpp's layout has as many blocks as uses */
        return zb_fail(err, ZAMBA_E_MISMATCH,
                       "%s: adapters stand on some hybrid layers only, but this model has a block of its own in each: "
                       "an adapter of shared blocks belongs to a model that shares them",
                       a->path);
    return ZAMBA_OK;
}

static zb_lora_place *find_place(const zb_lora_places *places, const char *module)
{
    for (size_t i = 0; i < places->n; i++)
        if (strcmp(places->items[i].module, module) == 0)
            return &places->items[i];
    return NULL;
}

/* A block's own adapters stand in a list with a number for each use; in a layer only that of its use does anything. 1:
 * the module is such a one; then module names the layer of that use, or is empty: it does nothing. */
static int settle_list(const zb_plan *plan, char *module, size_t n, int shared4)
{
    static const char key[] = "_adapter_list.", start[] = "model.layers.";
    char *at = strstr(module, key), *end, rest[512];
    if (at == NULL || strncmp(module, start, sizeof start - 1) != 0)
        return 0;
    const unsigned long use = strtoul(at + sizeof key - 1, &end, 10),
                        layer = strtoul(module + sizeof start - 1, &at, 10);
    if (*end != '.' || *at != '.' || use >= plan->n_uses)
        return 0;
    const unsigned long real = (unsigned long)plan->use_layer[use];
    if (layer != real && !shared4) {
        module[0] = '\0';
        return 1;
    }
    snprintf(rest, sizeof rest, "%s", at);
    snprintf(module, n, "model.layers.%lu%.450s", real, rest);
    return 1;
}

static zamba_status take_tensor(adapter *a, const zb_plan *plan, const zb_lora_places *places, const zb_tensor *t,
                                int shared4, zamba_error *err)
{
    char module[512], found[96];
    which w;
    zamba_status st = parse_name(a, t->name, module, sizeof module, &w, err);
    if (st != ZAMBA_OK)
        return st;
    const int listed = settle_list(plan, module, sizeof module, shared4);
    if (listed && module[0] == '\0')
        return ZAMBA_OK;
    const zb_lora_place *p = find_place(places, module);
    if (p == NULL)
        return zb_fail(err, ZAMBA_E_MISMATCH,
                       "%s: tensor %.160s: this model has no such matrix to adapt (an adapter of another model?)",
                       a->path, t->name);
    if (!t->known || t->dtype >= ZB_N_FLOATS)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %.160s is %s, wanted F32, F16 or BF16", a->path, t->name,
                       t->dtype_name);
    if (t->n_dims != 2 || t->shape[0] == 0 || t->shape[1] == 0 ||
        (w == IS_A ? t->shape[1] != p->cols : t->shape[0] != p->rows))
        return zb_fail(err, ZAMBA_E_MISMATCH, "%s: tensor %.160s is %s, wanted %s%zu%s (an adapter of another model?)",
                       a->path, t->name, zb_shape_text(found, sizeof found, t->shape, t->n_dims),
                       w == IS_A ? "[rank, " : "[", w == IS_A ? p->cols : p->rows, w == IS_A ? "]" : ", rank]");
    for (size_t i = (size_t)(p - places->items); i < places->n; i++) {
        const zb_lora_place *same = &places->items[i];
        if (same != p &&
            !(shared4 && p->role >= ZB_Q && p->block >= 0 && same->role == p->role && same->block == p->block))
            continue;
        const zb_tensor **to = w == IS_A ? &a->pairs[i].a : &a->pairs[i].b;
        if (*to != NULL)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensors %.120s and %.120s are the same half of one adapter",
                           a->path, (*to)->name, t->name);
        *to = t;
    }
    return ZAMBA_OK;
}

static zamba_status settle_pair(const adapter *a, const zb_lora_place *p, half_pair *pair, double by, zamba_error *err)
{
    double rank = a->rank, alpha = a->alpha;
    if (pair->a == NULL && pair->b == NULL)
        return ZAMBA_OK;
    if (pair->a == NULL || pair->b == NULL)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.160s has no %s beside it (cut-off file?)", a->path,
                       pair->a == NULL ? pair->b->name : pair->a->name, pair->a == NULL ? "lora_A" : "lora_B");
    zamba_status st = of_pattern(a, "rank_pattern", p->module, &rank, err);
    if (st == ZAMBA_OK)
        st = of_pattern(a, "alpha_pattern", p->module, &alpha, err);
    if (st != ZAMBA_OK)
        return st;
    if ((double)pair->a->shape[0] != rank || (double)pair->b->shape[1] != rank)
        return zb_fail(err, ZAMBA_E_MISMATCH, "%s: %.160s: A has %zu rows and B %zu columns, the config's rank is %.0f",
                       a->path, p->module, pair->a->shape[0], pair->b->shape[1], rank);
    pair->scale = (float)(by * alpha / (a->rslora ? sqrt(rank) : rank));
    return ZAMBA_OK;
}

static zamba_status read_adapter(adapter *a, const zb_plan *plan, const zb_lora_places *places,
                                 const zamba_lora_file *file, zamba_error *err)
{
    static const char weights[] = "adapter_model.safetensors";
    struct stat info;
    char other[4096];
    int shared4 = 0;
    size_t pairs = 0;
    if (file->path == NULL || file->path[0] == '\0' || strlen(file->path) >= sizeof a->folder)
        return zb_fail(err, ZAMBA_E_ARG, "an adapter: its path is empty or too long");
    if (!isfinite(file->scale))
        return zb_fail(err, ZAMBA_E_ARG, "%s: the scale of the adapter is no number", file->path);
    snprintf(a->folder, sizeof a->folder, "%s", file->path);
    if (stat(a->folder, &info) == 0 && !S_ISDIR(info.st_mode)) { /* the file in it was named */
        char *slash = strrchr(a->folder, '/');
        if (slash == NULL)
            snprintf(a->folder, sizeof a->folder, ".");
        else
            slash[slash == a->folder] = '\0';
    }
    zamba_status st = read_config(a, err);
    if (st == ZAMBA_OK)
        st = zb_path_join(a->path, sizeof a->path, a->folder, weights, err);
    if (st == ZAMBA_OK)
        st = zb_path_join(other, sizeof other, a->folder, "adapter_model.bin", err);
    if (st == ZAMBA_OK && !zb_file_exists(a->path))
        return zb_file_exists(other)
                   ? zb_fail(err, ZAMBA_E_UNSUPPORTED,
                             "%s: pickle files can run code and are not read (save it anew with PEFT, "
                             "save_pretrained(..., safe_serialization=True))",
                             other)
                   : zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: no %s", a->folder, weights);
    if (st == ZAMBA_OK)
        st = zb_tensors_open_file(&a->tensors, a->path, err);
    a->pairs = st == ZAMBA_OK ? calloc(places->n + 1, sizeof *a->pairs) : NULL;
    if (st == ZAMBA_OK && a->pairs == NULL)
        st = zb_fail_memory(err, a->path, places->n * sizeof *a->pairs);
    if (st == ZAMBA_OK)
        st = find_way(a, plan, places, &shared4, err);
    for (size_t i = 0; i < a->tensors.n && st == ZAMBA_OK; i++)
        st = take_tensor(a, plan, places, &a->tensors.items[i], shared4, err);
    for (size_t i = 0; i < places->n && st == ZAMBA_OK; i++) {
        st = settle_pair(a, &places->items[i], &a->pairs[i], file->scale, err);
        pairs += a->pairs[i].a != NULL;
    }
    if (st == ZAMBA_OK && pairs == 0)
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: holds no adapter", a->path);
    if (st == ZAMBA_OK && shared4)
        zb_log(ZAMBA_LOG_INFO, "%s: one adapter for all uses of a block, as transformers 4 has it", a->folder);
    return st;
}

static void drop_adapter(adapter *a)
{
    json_decref(a->config);
    zb_tensors_close(&a->tensors);
    free(a->pairs);
}

/* ---- beside the weights ---- */

static int all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return 0;
    return 1;
}

/* A below those before, B beside them. */
static zamba_status put_pair(const adapter *a, const half_pair *pair, zb_lora *lora, size_t at, zamba_error *err)
{
    const size_t rank = pair->a->shape[0], cols = lora->a.cols, width = lora->b.cols;
    float *down = (float *)(uintptr_t)lora->a.data + at * cols, *up = (float *)(uintptr_t)lora->b.data + at;
    const size_t element = zb_dtype_bytes(pair->b->dtype);
    zb_to_f32(down, pair->a->data, pair->a->dtype, rank * cols);
    int fine = all_finite(down, rank * cols);
    for (size_t r = 0; r < lora->b.rows; r++) {
        zb_to_f32(up + r * width, (const char *)pair->b->data + r * rank * element, pair->b->dtype, rank);
        for (size_t k = 0; k < rank; k++)
            up[r * width + k] *= pair->scale;
        fine &= all_finite(up + r * width, rank);
    }
    return fine ? ZAMBA_OK
                : zb_fail(err, ZAMBA_E_FORMAT, "%s: %.160s or its other half holds what is no finite number", a->path,
                          pair->a->name);
}

/* b as [rank, rows]: rows of a product's outputs then stand together, however few are in b's own. */
static zamba_status turn(zb_lora *lora, zamba_error *err)
{
    const size_t rows = lora->b.rows, rank = lora->b.cols;
    float *b = (float *)(uintptr_t)lora->b.data, *copy = malloc(rows * rank * sizeof *copy);
    if (copy == NULL)
        return zb_fail_memory(err, "adapters", rows * rank * sizeof *copy);
    memcpy(copy, b, rows * rank * sizeof *copy);
    for (size_t k = 0; k < rank; k++)
        for (size_t r = 0; r < rows; r++)
            b[k * rows + r] = copy[r * rank + k];
    lora->turned = 1;
    free(copy);
    return ZAMBA_OK;
}

static zamba_status join(zb_weights *w, const zb_lora_places *places, const adapter *adapters, size_t n, int to_run,
                         zamba_error *err)
{
    size_t floats = 0;
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < places->n; i++)
        for (size_t k = 0; k < n; k++)
            if (adapters[k].pairs[i].a != NULL)
                floats += adapters[k].pairs[i].a->shape[0] * (places->items[i].rows + places->items[i].cols) + 32;
    w->lora_block = zb_calloc_aligned(floats * sizeof *w->lora_block);
    if (w->lora_block == NULL)
        return zb_fail_memory(err, "adapters", floats * sizeof *w->lora_block);
    w->lora_bytes = floats * sizeof *w->lora_block;
    float *at = w->lora_block;
    for (size_t i = 0; i < places->n && st == ZAMBA_OK; i++) {
        const zb_lora_place *p = &places->items[i];
        zb_lora *lora = zb_weights_lora(w, p->role, p->layer, p->use);
        size_t rank = 0, done = 0;
        for (size_t k = 0; k < n; k++)
            rank += adapters[k].pairs[i].a != NULL ? adapters[k].pairs[i].a->shape[0] : 0;
        if (rank == 0)
            continue;
        lora->scale = 1;
        lora->number = (uint32_t)i;
        lora->a = (zb_mat){.data = at, .rows = rank, .cols = p->cols, .dtype = ZB_F32, .ld = p->cols};
        at += (rank * p->cols + 15) / 16 * 16;
        lora->b = (zb_mat){.data = at, .rows = p->rows, .cols = rank, .dtype = ZB_F32, .ld = rank};
        at += (rank * p->rows + 15) / 16 * 16;
        w->lora_rank = rank > w->lora_rank ? rank : w->lora_rank;
        for (size_t k = 0; k < n && st == ZAMBA_OK; k++)
            if (adapters[k].pairs[i].a != NULL) {
                st = put_pair(&adapters[k], &adapters[k].pairs[i], lora, done, err);
                done += adapters[k].pairs[i].a->shape[0];
            }
        w->fingerprint = zb_hash(p->module, strlen(p->module), w->fingerprint);
        w->fingerprint = zb_hash(lora->a.data, rank * p->cols * sizeof(float), w->fingerprint);
        w->fingerprint = zb_hash(lora->b.data, rank * p->rows * sizeof(float), w->fingerprint);
        if (st == ZAMBA_OK && to_run)
            st = turn(lora, err);
    }
    return st;
}

zamba_status zb_lora_attach(zb_weights *w, const zb_plan *plan, const zamba_lora_file *files, size_t n, int to_run,
                            zamba_error *err)
{
    zb_lora_places places = {0};
    if (n == 0)
        return ZAMBA_OK;
    if (files == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "adapters: %zu of them, but no list", n);
    adapter *adapters = calloc(n, sizeof *adapters);
    if (adapters == NULL)
        return zb_fail_memory(err, "adapters", n * sizeof *adapters);
    zamba_status st = zb_lora_places_list(&places, plan, err);
    for (size_t i = 0; i < n && st == ZAMBA_OK; i++)
        st = read_adapter(&adapters[i], plan, &places, &files[i], err);
    if (st == ZAMBA_OK)
        st = join(w, &places, adapters, n, to_run, err);
    for (size_t i = 0; i < n; i++)
        drop_adapter(&adapters[i]);
    free(adapters);
    zb_lora_places_free(&places);
    return st;
}
