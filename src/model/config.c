/* config.c — the dialects of config.json. Zyphra's 2024 fork, transformers 4.x and 5.x name the same things
 * differently; each value is looked up under all its names, the newest first. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

#define MAX_SIZE                                                                                                       \
    ((size_t)1 << 24) /* of any one dimension: far above every published model, products stay in 64 bits               \
                       */

#define LONG_CONTEXT 16384 /* positions under use_long_context */

typedef struct reader {
    const json_t *root;
    const char *name;
    zamba_error *err;
    zamba_status st;
} reader;

/* First of the keys that is present and not null; `keys` ends with NULL. */
static const json_t *get(const reader *r, const char *const *keys, const char **used)
{
    for (size_t i = 0; keys[i] != NULL; i++) {
        const json_t *v = json_object_get(r->root, keys[i]);
        if (v != NULL && !json_is_null(v)) {
            if (used != NULL)
                *used = keys[i];
            return v;
        }
    }
    return NULL;
}

#define KEYS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void fail_value(reader *r, const char *key, const json_t *v, const char *wanted)
{
    char found[48];
    if (r->st == ZAMBA_OK)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: %s is %s, wanted %s", r->name, key,
                        zb_json_text(found, sizeof found, v), wanted);
}

/* A size in [min, MAX_SIZE]; `fallback` 0 means that the key must be there. */
static size_t get_size(reader *r, const char *const *keys, size_t fallback, size_t min)
{
    const char *key = keys[0];
    const json_t *v = get(r, keys, &key);
    if (v == NULL) {
        if (fallback == 0 && min > 0 && r->st == ZAMBA_OK)
            r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: %s is missing", r->name, keys[0]);
        return fallback;
    }
    if (!json_is_integer(v) || json_integer_value(v) < (json_int_t)min ||
        json_integer_value(v) > (json_int_t)MAX_SIZE) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "a whole number from %zu to %zu", min, MAX_SIZE);
        fail_value(r, key, v, wanted);
        return min;
    }
    return (size_t)json_integer_value(v);
}

static double get_real(reader *r, const char *const *keys, double fallback, double min, double max)
{
    const char *key = keys[0];
    const json_t *v = get(r, keys, &key);
    if (v == NULL)
        return fallback;
    if (!json_is_number(v) || !(json_number_value(v) >= min) || !(json_number_value(v) <= max)) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "a number from %g to %g", min, max);
        fail_value(r, key, v, wanted);
        return fallback;
    }
    return json_number_value(v);
}

static int get_bool(reader *r, const char *const *keys, int fallback)
{
    const char *key = keys[0];
    const json_t *v = get(r, keys, &key);
    if (v == NULL)
        return fallback;
    if (!json_is_boolean(v)) {
        fail_value(r, key, v, "true or false");
        return fallback;
    }
    return json_is_true(v);
}

/* A token id, or -1 for null or absence. */
static int32_t get_id(reader *r, const char *key, size_t vocab_size)
{
    const json_t *v = get(r, KEYS(key), NULL);
    if (v == NULL)
        return -1;
    if (!json_is_integer(v) || json_integer_value(v) < -1 || json_integer_value(v) >= (json_int_t)vocab_size) {
        fail_value(r, key, v, "an id below vocab_size");
        return -1;
    }
    return (int32_t)json_integer_value(v);
}

static zb_act get_act(reader *r, const char *key, zb_act fallback)
{
    static const struct {
        const char *name;
        zb_act act;
    } acts[] = {{"gelu", ZB_ACT_GELU},
                {"silu", ZB_ACT_SILU},
                {"swish", ZB_ACT_SILU},
                {"gelu_new", ZB_ACT_GELU_TANH},
                {"gelu_pytorch_tanh", ZB_ACT_GELU_TANH},
                {"relu", ZB_ACT_RELU}};
    const json_t *v = get(r, KEYS(key), NULL);
    if (v == NULL)
        return fallback;
    for (size_t i = 0; json_is_string(v) && i < sizeof acts / sizeof *acts; i++)
        if (strcmp(json_string_value(v), acts[i].name) == 0)
            return acts[i].act;
    fail_value(r, key, v, "gelu, silu, gelu_new or relu");
    return fallback;
}

static void unsupported(reader *r, const char *fmt, const char *detail)
{
    if (r->st != ZAMBA_OK)
        return;
    char what[160];
    snprintf(what, sizeof what, fmt, detail);
    r->st = zb_fail(r->err, ZAMBA_E_UNSUPPORTED, "%s: %s", r->name, what);
}

/* Who wrote the file: its version if it says one, else the keys and layer names that only one writer uses. */
static zb_dialect find_dialect(const reader *r)
{
    const char *version = json_string_value(json_object_get(r->root, "transformers_version"));
    const char *type = json_string_value(json_array_get(json_object_get(r->root, "layers_block_type"), 0));
    type = type != NULL ? type : "";
    if (json_object_get(r->root, "rope_parameters") != NULL || (version != NULL && strtol(version, NULL, 10) >= 5) ||
        strcmp(type, "linear_attention") == 0)
        return ZB_TRANSFORMERS_5;
    if (strcmp(type, "m") == 0 || strcmp(type, "g") == 0 ||
        get(r,
            KEYS("state_size", "conv_dimension", "expansion_factor", "lora_rank", "ffn_hidden_size",
                 "use_shared_block_lora", "use_shared_attention_lora", "se_shared_attention_lora"),
            NULL) != NULL)
        return ZB_ZYPHRA_2024;
    return ZB_TRANSFORMERS_4;
}

/* ---- which layers are hybrid ---- */

static void mark_by_names(reader *r, zb_config *c, const json_t *types)
{
    static const char *const plain[] = {"m", "mamba", "linear_attention"}, *const hybrid[] = {"g", "hybrid"};
    if (!json_is_array(types) || json_array_size(types) != c->n_layers) {
        if (r->st == ZAMBA_OK)
            r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: layers_block_type has %zu entries, num_hidden_layers is %zu",
                            r->name, json_array_size(types), c->n_layers);
        return;
    }
    for (size_t i = 0; i < c->n_layers && r->st == ZAMBA_OK; i++) {
        const json_t *v = json_array_get(types, i);
        const char *type = json_string_value(v);
        int kind = -1;
        for (size_t k = 0; type != NULL && k < sizeof plain / sizeof *plain; k++)
            kind = strcmp(type, plain[k]) == 0 ? 0 : kind;
        for (size_t k = 0; type != NULL && k < sizeof hybrid / sizeof *hybrid; k++)
            kind = strcmp(type, hybrid[k]) == 0 ? 1 : kind;
        if (kind < 0)
            fail_value(r, "layers_block_type", v, "mamba, linear_attention or m; hybrid or g");
        c->hybrid[i] = kind == 1;
    }
}

static void mark_by_ids(reader *r, zb_config *c, const json_t *ids)
{
    const json_t *v;
    size_t i;
    json_array_foreach((json_t *)ids, i, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= (json_int_t)c->n_layers) {
            fail_value(r, "hybrid_layer_ids", v, "layer numbers below num_hidden_layers");
            return;
        }
        c->hybrid[json_integer_value(v)] = 1;
    }
}

static void find_hybrid_layers(reader *r, zb_config *c)
{
    const json_t *types = get(r, KEYS("layers_block_type"), NULL), *ids = get(r, KEYS("hybrid_layer_ids"), NULL);
    if (types != NULL) {
        mark_by_names(r, c, types);
    } else if (c->family == ZB_ZAMBA1) {
        const size_t period = get_size(r, KEYS("attn_layer_period"), 6, 1),
                     offset = get_size(r, KEYS("attn_layer_offset"), 4, 0);
        for (size_t i = 0; i < c->n_layers; i++)
            c->hybrid[i] = i == 2 || (i >= 3 && (i - 3) % period == offset);
    } else if (json_is_array(ids)) {
        mark_by_ids(r, c, ids);
    } else if (r->st == ZAMBA_OK) {
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: neither layers_block_type nor hybrid_layer_ids", r->name);
    }
}

/* ---- the parts ---- */

static void read_attention(reader *r, zb_config *c)
{
    const size_t wide = 2 * c->hidden_size;
    c->n_heads = get_size(r, KEYS("num_attention_heads"), 0, 1);
    c->n_kv_heads = get_size(r, KEYS("num_key_value_heads"), c->n_heads, 1);
    if (r->st != ZAMBA_OK)
        return;
    const size_t given = get_size(r, KEYS("attention_head_dim"), 0, 0);
    c->head_dim = given > 0 && c->family == ZB_ZAMBA1 ? given : wide / c->n_heads;
    if (c->family == ZB_ZAMBA2 && given > 0 && given != c->head_dim)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT,
                        "%s: attention_head_dim is %zu, 2 * hidden_size / num_attention_heads is %zu", r->name, given,
                        c->head_dim);
    else if (c->family == ZB_ZAMBA2 && wide % c->n_heads != 0)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: 2 * hidden_size (%zu) is no multiple of num_attention_heads (%zu)",
                        r->name, wide, c->n_heads);
    else if (c->head_dim == 0 || c->n_heads % c->n_kv_heads != 0)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT,
                        "%s: num_attention_heads (%zu) is no multiple of num_key_value_heads (%zu), or head_dim is 0",
                        r->name, c->n_heads, c->n_kv_heads);
    else if (c->use_rope && c->head_dim % 2 != 0)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: rotary positions want an even head_dim, it is %zu", r->name,
                        c->head_dim);
    else if (c->attn_adapter && c->n_kv_heads != c->n_heads)
        unsupported(r,
                    "%s: attention adapters with num_key_value_heads below num_attention_heads (the reference "
                    "cannot run that either)",
                    "use_shared_attention_adapter");
}

static void read_rope(reader *r, zb_config *c)
{
    const json_t *parameters = get(r, KEYS("rope_parameters"), NULL), *scaling = get(r, KEYS("rope_scaling"), NULL);
    c->use_rope = c->family == ZB_ZAMBA2 && get_bool(r, KEYS("use_mem_rope"), 0);
    c->long_context = c->family == ZB_ZAMBA2 && get_bool(r, KEYS("use_long_context"), 0);
    if (c->long_context)
        c->max_positions = LONG_CONTEXT; /* every dialect does so, whatever the file says */
    c->rope_theta = get_real(r, KEYS("rope_theta"), 10000.0, 1e-3, 1e30);
    if (parameters != NULL && !json_is_object(parameters))
        fail_value(r, "rope_parameters", parameters, "an object");
    if (parameters != NULL && r->st == ZAMBA_OK) {
        reader sub = {parameters, r->name, r->err, ZAMBA_OK};
        const char *type = json_string_value(json_object_get(parameters, "rope_type"));
        c->rope_theta = get_real(&sub, KEYS("rope_theta"), c->rope_theta, 1e-3, 1e30);
        r->st = sub.st;
        if (type != NULL && strcmp(type, "default") != 0 && c->use_rope)
            unsupported(r, "rope_type %.40s; only \"default\" is defined for Zamba2", type);
    }
    if (scaling != NULL && c->use_rope)
        unsupported(r, "%s is set; no Zamba2 defines it", "rope_scaling");
}

/* What each dialect means by use_long_context; see docs/MODEL.md. Needs head_dim. */
static void settle_theta(reader *r, zb_config *c)
{
    if (r->st != ZAMBA_OK || !c->use_rope)
        return;
    const double written = c->rope_theta;
    if (!c->long_context) {
        snprintf(c->rope_note, sizeof c->rope_note, "theta %g as written", written);
    } else if (c->dialect == ZB_TRANSFORMERS_5) {
        snprintf(c->rope_note, sizeof c->rope_note,
                 "theta %g as written (use_long_context: transformers 5 takes theta as it stands)", written);
    } else if (c->head_dim <= 2) {
        unsupported(r, "%s with a head_dim of 2", "use_long_context");
    } else {
        const double d = (double)c->head_dim;
        c->rope_theta = written * pow(8.0, d / (d - 2.0));
        snprintf(c->rope_note, sizeof c->rope_note, "theta %g = %g * 8^(d/(d-2)) (use_long_context as %s means it)",
                 c->rope_theta, written, zb_dialect_name(c->dialect));
    }
}

static void read_adapters(reader *r, zb_config *c)
{
    if (c->family == ZB_ZAMBA1)
        return;
    c->mlp_adapter = get_bool(r, KEYS("use_shared_block_lora", "use_shared_mlp_adapter"), 1);
    c->attn_adapter =
        get_bool(r, KEYS("use_shared_attention_adapter", "use_shared_attention_lora", "se_shared_attention_lora"), 0);
    if (c->mlp_adapter || c->attn_adapter)
        c->adapter_rank = get_size(r, KEYS("adapter_rank", "lora_rank"), 128, 1);
}

static void read_inner(reader *r, zb_config *c)
{
    const double expand = get_real(r, KEYS("mamba_expand", "expansion_factor"), 2.0, 1e-3, 1024.0);
    c->mamba_inner = (size_t)(expand * (double)c->hidden_size);
    c->mamba_state = get_size(r, KEYS("mamba_d_state", "state_size"), c->family == ZB_ZAMBA1 ? 16 : 64, 1);
    c->mamba_conv = get_size(r, KEYS("mamba_d_conv", "conv_dimension"), 4, 1);
    if (r->st == ZAMBA_OK && (c->mamba_inner == 0 || c->mamba_inner > MAX_SIZE))
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: mamba_expand * hidden_size is %zu, wanted 1 to %zu", r->name,
                        c->mamba_inner, MAX_SIZE);
    else if (r->st == ZAMBA_OK && c->mamba_conv > 64)
        r->st = zb_fail(r->err, ZAMBA_E_UNSUPPORTED, "%s: mamba_d_conv is %zu, at most 64 is supported", r->name,
                        c->mamba_conv);
}

static void read_mamba1(reader *r, zb_config *c)
{
    const json_t *rank = get(r, KEYS("mamba_dt_rank"), NULL);
    c->mamba_heads = get_size(r, KEYS("n_mamba_heads"), 2, 1);
    c->mamba_groups = 1;
    c->conv_bias = get_bool(r, KEYS("mamba_conv_bias"), 1);
    c->proj_bias = get_bool(r, KEYS("mamba_proj_bias"), 0);
    c->mamba_dt_rank = (c->hidden_size + 15) / 16;
    if (rank != NULL && !(json_is_string(rank) && strcmp(json_string_value(rank), "auto") == 0))
        c->mamba_dt_rank = get_size(r, KEYS("mamba_dt_rank"), 0, 1);
    if (get_act(r, "hidden_mamba_act", ZB_ACT_SILU) != ZB_ACT_SILU)
        unsupported(r, "hidden_mamba_act is not %s", "silu");
    if (r->st == ZAMBA_OK && c->mamba_inner % c->mamba_heads != 0)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: d_inner (%zu) is no multiple of n_mamba_heads (%zu)", r->name,
                        c->mamba_inner, c->mamba_heads);
    if (r->st == ZAMBA_OK)
        c->mamba_head_dim = c->mamba_inner / c->mamba_heads;
}

static void read_mamba2(reader *r, zb_config *c)
{
    const size_t head_dim = get_size(r, KEYS("mamba_headdim"), 0, 0);
    size_t heads = get_size(r, KEYS("n_mamba_heads"), 0, 0);
    c->mamba_groups = get_size(r, KEYS("mamba_ngroups"), 1, 1);
    c->conv_bias = 1;
    c->add_bias = get_bool(r, KEYS("add_bias_linear"), 0);
    c->proj_bias = c->add_bias;
    if (!get_bool(r, KEYS("gated_linear_unit"), 1))
        unsupported(r, "%s is false, only the gated MLP is known", "gated_linear_unit");
    if (heads == 0)
        heads = head_dim > 0 ? c->mamba_inner / head_dim : 8;
    if (r->st != ZAMBA_OK)
        return;
    c->mamba_heads = heads;
    if (heads == 0 || c->mamba_inner % heads != 0 || (head_dim > 0 && heads * head_dim != c->mamba_inner))
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT,
                        "%s: n_mamba_heads (%zu) * mamba_headdim (%zu) is not mamba_expand * hidden_size (%zu)",
                        r->name, heads, head_dim, c->mamba_inner);
    else if (heads % c->mamba_groups != 0)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: n_mamba_heads (%zu) is no multiple of mamba_ngroups (%zu)",
                        r->name, heads, c->mamba_groups);
    else
        c->mamba_head_dim = c->mamba_inner / heads;
}

/* The floor of dt: one named option, see zamba_dt_floor. */
static void read_dt_floor(reader *r, zb_config *c, zamba_dt_floor floor)
{
    const json_t *limit = get(r, KEYS("time_step_limit"), NULL);
    const double step_min = get_real(r, KEYS("time_step_min"), 0.001, 0.0, 1e30);
    c->step_min = step_min;
    c->dt_min = 0.0f;
    c->dt_max = INFINITY;
    if (c->family == ZB_ZAMBA1) {
        snprintf(c->dt_floor_note, sizeof c->dt_floor_note, "none (Mamba-1 has no limit on dt)");
    } else if (floor == ZAMBA_DT_FLOOR_NONE) {
        snprintf(c->dt_floor_note, sizeof c->dt_floor_note, "none, as asked");
    } else if (floor == ZAMBA_DT_FLOOR_CONFIG) {
        c->dt_min = (float)step_min;
        snprintf(c->dt_floor_note, sizeof c->dt_floor_note, "%g (time_step_min, as asked)", step_min);
    } else if (limit == NULL) {
        snprintf(c->dt_floor_note, sizeof c->dt_floor_note, "none (the config has no time_step_limit)");
    } else {
        const double lo = json_number_value(json_array_get(limit, 0)), hi = json_number_value(json_array_get(limit, 1));
        if (!json_is_array(limit) || json_array_size(limit) != 2 || !json_is_number(json_array_get(limit, 0)) ||
            !json_is_number(json_array_get(limit, 1)) || !(lo >= 0.0) || !(hi >= lo) || !(lo <= 1e30)) {
            fail_value(r, "time_step_limit", limit, "two numbers [least, greatest] with 0 <= least <= greatest");
            return;
        }
        c->dt_min = (float)lo;
        c->dt_max = hi > 3e38 ? INFINITY : (float)hi;
        snprintf(c->dt_floor_note, sizeof c->dt_floor_note, "%g (time_step_limit of the config)", lo);
    }
}

static void add_eos(reader *r, zb_config *c, const json_t *v)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= (json_int_t)c->vocab_size) {
        fail_value(r, "eos_token_id", v, "an id below vocab_size, or a list of such");
        return;
    }
    for (size_t i = 0; i < c->n_eos; i++)
        if (c->eos[i] == (int32_t)json_integer_value(v))
            return;
    if (c->n_eos == ZB_MAX_EOS)
        unsupported(r, "more than %s end-of-sequence ids", "8");
    else
        c->eos[c->n_eos++] = (int32_t)json_integer_value(v);
}

static void read_eos(reader *r, zb_config *c)
{
    const json_t *v = get(r, KEYS("eos_token_id"), NULL), *one;
    size_t i;
    if (json_is_array(v))
        json_array_foreach((json_t *)v, i, one) add_eos(r, c, one);
    else if (v != NULL && !(json_is_integer(v) && json_integer_value(v) == -1))
        add_eos(r, c, v);
}

zamba_status zb_config_parse(zb_config *c, const json_t *root, const char *name, zamba_dt_floor floor, zamba_error *err)
{
    reader r = {root, name, err, ZAMBA_OK};
    *c = (zb_config){0};
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!json_is_object(root))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: not a JSON object", name);
    zamba_status packing = zb_packing_parse(&c->packing, json_object_get(root, "quantization_config"), name, err);
    if (packing != ZAMBA_OK)
        return packing;
    if (type == NULL || (strcmp(type, "zamba") != 0 && strcmp(type, "zamba2") != 0))
        return zb_fail(err, type == NULL ? ZAMBA_E_FORMAT : ZAMBA_E_UNSUPPORTED,
                       "%s: model_type is %.60s, wanted zamba or zamba2", name, type == NULL ? "missing" : type);
    c->family = strcmp(type, "zamba") == 0 ? ZB_ZAMBA1 : ZB_ZAMBA2;
    c->dialect = find_dialect(&r);
    c->hidden_size = get_size(&r, KEYS("hidden_size"), 0, 1);
    c->n_layers = get_size(&r, KEYS("num_hidden_layers"), 0, 1);
    c->vocab_size = get_size(&r, KEYS("vocab_size"), 0, 1);
    c->max_positions = get_size(&r, KEYS("max_position_embeddings"), 4096, 1);
    c->ffn_size = get_size(&r, KEYS("intermediate_size", "ffn_hidden_size"), 4 * c->hidden_size, 1);
    c->n_blocks = c->family == ZB_ZAMBA1 ? 1 : get_size(&r, KEYS("num_mem_blocks"), 1, 1);
    c->norm_eps = (float)get_real(&r, KEYS("rms_norm_eps"), 1e-5, 0.0, 1.0);
    c->hidden_dropout = (float)get_real(&r, KEYS("hidden_dropout"), 0.0, 0.0, 0.99);
    c->attention_dropout = (float)get_real(&r, KEYS("attention_dropout"), 0.0, 0.0, 0.99);
    c->act = get_act(&r, "hidden_act", ZB_ACT_GELU);
    c->tied_head = get_bool(&r, KEYS("tie_word_embeddings"), 1);
    if (r.st == ZAMBA_OK && c->n_layers > 10000)
        r.st = zb_fail(err, ZAMBA_E_FORMAT, "%s: num_hidden_layers is %zu, at most 10000 are supported", name,
                       c->n_layers);
    read_adapters(&r, c);
    read_rope(&r, c);
    read_inner(&r, c);
    if (r.st == ZAMBA_OK)
        read_attention(&r, c);
    if (r.st == ZAMBA_OK && c->family == ZB_ZAMBA1)
        read_mamba1(&r, c);
    else if (r.st == ZAMBA_OK)
        read_mamba2(&r, c);
    read_dt_floor(&r, c, floor);
    settle_theta(&r, c);
    if (r.st == ZAMBA_OK) {
        c->bos = get_id(&r, "bos_token_id", c->vocab_size);
        c->pad = get_id(&r, "pad_token_id", c->vocab_size);
        read_eos(&r, c);
    }
    if (r.st == ZAMBA_OK) {
        c->hybrid = calloc(c->n_layers, 1);
        if (c->hybrid == NULL)
            r.st = zb_fail_memory(err, name, c->n_layers);
        else
            find_hybrid_layers(&r, c);
    }
    if (r.st != ZAMBA_OK)
        zb_config_free(c);
    return r.st;
}

zamba_status zb_config_add_generation(zb_config *c, const json_t *root, const char *name, zamba_error *err)
{
    reader r = {root, name, err, ZAMBA_OK};
    if (!json_is_object(root))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: not a JSON object", name);
    read_eos(&r, c);
    return r.st;
}

zamba_status zb_config_read(zb_config *c, const char *folder, zamba_dt_floor floor, zamba_error *err)
{
    char path[4096];
    json_t *root = NULL;
    *c = (zb_config){0};
    zamba_status st = zb_path_join(path, sizeof path, folder, "config.json", err);
    if (st == ZAMBA_OK)
        st = zb_json_read(&root, path, zb_json_small, err);
    if (st == ZAMBA_OK)
        st = zb_config_parse(c, root, path, floor, err);
    json_decref(root);
    root = NULL;
    if (st == ZAMBA_OK)
        st = zb_path_join(path, sizeof path, folder, "generation_config.json", err);
    if (st == ZAMBA_OK && zb_file_exists(path)) {
        st = zb_json_read(&root, path, zb_json_small, err);
        if (st == ZAMBA_OK)
            st = zb_config_add_generation(c, root, path, err);
        json_decref(root);
    }
    if (st != ZAMBA_OK)
        zb_config_free(c);
    return st;
}

void zb_config_free(zb_config *c)
{
    free(c->hybrid);
    *c = (zb_config){0};
}

const char *zb_family_name(zb_family f)
{
    return f == ZB_ZAMBA1 ? "zamba" : "zamba2";
}

const char *zb_dialect_name(zb_dialect d)
{
    static const char *const names[] = {"zyphra-2024", "transformers-4", "transformers-5"};
    return names[d];
}
