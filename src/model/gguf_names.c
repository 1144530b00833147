/* gguf_names.c — see gguf_names.h. */
#include "model/gguf_names.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"
#include "io/gguf_vocab.h"
#include "io/json.h"

#define MOST_LAYERS 10000 /* as config.c */

/* ---- tensors ---- */

/* What follows "blk.N." (or the whole name). Of A_log: as it is, and as llama.cpp has it. */
static const char *const names[] = {
    [ZB_EMBED] = "token_embd.weight",
    [ZB_FINAL_NORM] = "output_norm.weight",
    [ZB_LM_HEAD] = "output.weight",
    [ZB_INPUT_NORM] = "attn_norm.weight",
    [ZB_IN_PROJ] = "ssm_in.weight",
    [ZB_IN_PROJ_BIAS] = "ssm_in.bias",
    [ZB_OUT_PROJ] = "ssm_out.weight",
    [ZB_OUT_PROJ_BIAS] = "ssm_out.bias",
    [ZB_CONV] = "ssm_conv1d.weight",
    [ZB_CONV_BIAS] = "ssm_conv1d.bias",
    [ZB_A_LOG] = "ssm_a_log",
    [ZB_D] = "ssm_d",
    [ZB_DT_BIAS] = "ssm_dt.bias",
    [ZB_GATED_NORM] = "ssm_norm.weight",
    [ZB_X_PROJ] = "ssm_x.weight",
    [ZB_DT_PROJ] = "ssm_dt.weight",
    [ZB_LINEAR] = "ssm_mix.weight",
    [ZB_GATE_UP_ADAPTER_0] = "ffn_up_lora_a.weight",
    [ZB_GATE_UP_ADAPTER_1] = "ffn_up_lora_b.weight",
    [ZB_Q_ADAPTER_0] = "attn_q_lora_a.weight",
    [ZB_Q_ADAPTER_1] = "attn_q_lora_b.weight",
    [ZB_K_ADAPTER_0] = "attn_k_lora_a.weight",
    [ZB_K_ADAPTER_1] = "attn_k_lora_b.weight",
    [ZB_V_ADAPTER_0] = "attn_v_lora_a.weight",
    [ZB_V_ADAPTER_1] = "attn_v_lora_b.weight",
    [ZB_ATTN_NORM] = "post_attention_norm.weight",
    [ZB_FFN_NORM] = "ffn_norm.weight",
    [ZB_Q] = "attn_q.weight",
    [ZB_K] = "attn_k.weight",
    [ZB_V] = "attn_v.weight",
    [ZB_O] = "attn_output.weight",
    [ZB_GATE_UP] = "ffn_up.weight",
    [ZB_GATE_UP_BIAS] = "ffn_up.bias",
    [ZB_GATE] = "ffn_gate.weight",
    [ZB_UP] = "ffn_up.weight",
    [ZB_DOWN] = "ffn_down.weight",
    [ZB_DOWN_BIAS] = "ffn_down.bias",
};
static const char name_of_a[] = "ssm_a";

static int32_t layer_of(const zb_plan *p, const zb_spec *s)
{
    if (s->layer >= 0)
        return s->layer;
    if (s->use >= 0)
        return p->use_layer[s->use];
    return s->block >= 0 ? p->use_layer[s->block] : -1; /* the first use of a block has its number */
}

static void name_as(char *buf, size_t n, const zb_plan *p, const zb_spec *s, const char *name)
{
    const int32_t layer = layer_of(p, s);
    if (layer < 0)
        snprintf(buf, n, "%s", name);
    else
        snprintf(buf, n, "blk.%d.%s", layer, name);
}

void zb_gguf_name(char *buf, size_t n, const zb_plan *p, const zb_spec *s)
{
    name_as(buf, n, p, s, s->role == ZB_A_LOG && s->is_a ? name_of_a : names[s->role]);
}

int zb_gguf_shape(size_t shape[4], const zb_plan *p, const zb_spec *s)
{
    const size_t groups = p->config.mamba_groups;
    if (s->role == ZB_CONV) { /* [channels, 1, K] */
        shape[0] = s->shape[0];
        shape[1] = s->shape[2];
        return 2;
    }
    if ((s->role == ZB_A_LOG || s->role == ZB_D) && s->n_dims == 1) {
        shape[0] = s->shape[0];
        shape[1] = 1;
        return 2;
    }
    if (s->role == ZB_GATED_NORM && s->shape[0] % groups == 0) {
        shape[0] = groups;
        shape[1] = s->shape[0] / groups;
        return 2;
    }
    memcpy(shape, s->shape, (size_t)s->n_dims * sizeof *shape);
    return s->n_dims;
}

/* Dimensions of 1 say nothing: ggml drops and adds them as it likes. */
static int same_shape(const zb_tensor *t, const size_t *shape, int n_dims)
{
    int i = 0, k = 0;
    for (;;) {
        while (i < t->n_dims && t->shape[i] == 1)
            i++;
        while (k < n_dims && shape[k] == 1)
            k++;
        if (i == t->n_dims || k == n_dims)
            return i == t->n_dims && k == n_dims;
        if (t->shape[i++] != shape[k++])
            return 0;
    }
}

static zamba_status find(const zb_tensor **out, const zb_tensors *ts, const zb_plan *p, zb_spec *s, const char *path,
                         zamba_error *err)
{
    char name[96], found[96], wanted[96];
    size_t shape[4];
    const int n_dims = zb_gguf_shape(shape, p, s);
    zb_gguf_name(name, sizeof name, p, s);
    const zb_tensor *t = zb_tensors_find(ts, name);
    if (t == NULL && s->role == ZB_A_LOG) {
        name_as(name, sizeof name, p, s, name_of_a);
        t = zb_tensors_find(ts, name);
        s->is_a = t != NULL;
    }
    if (t == NULL)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s %s is missing (%s)", path, name,
                       zb_shape_text(wanted, sizeof wanted, shape, n_dims), s->name);
    if (!same_shape(t, shape, n_dims) && !same_shape(t, s->shape, s->n_dims))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s has shape %s, its keys want %s", t->file, name,
                       zb_shape_text(found, sizeof found, t->shape, t->n_dims),
                       zb_shape_text(wanted, sizeof wanted, shape, n_dims));
    *out = t;
    return ZAMBA_OK;
}

static int ignorable(const char *name)
{
    return strcmp(name, "rope_freqs.weight") == 0; /* frequencies of rope, computed here */
}

/* What is left over, now that the others are marked by a NULL name. */
static zamba_status check_extra(const zb_tensors *ts, const unsigned char *used, zamba_error *err)
{
    for (size_t i = 0; i < ts->n; i++)
        if (!used[i] && !ignorable(ts->items[i].name)) {
            char shape[96];
            const zb_tensor *t = &ts->items[i];
            return zb_fail(err, ZAMBA_E_FORMAT,
                           "%s: tensor %.120s %s is not part of this model (do the keys belong to "
                           "these tensors?)",
                           t->file, t->name, zb_shape_text(shape, sizeof shape, t->shape, t->n_dims));
        }
    return ZAMBA_OK;
}

zamba_status zb_gguf_rename(zb_tensors *ts, zb_plan *p, const char *path, zamba_error *err)
{
    const zb_tensor **found = calloc(p->n_specs + 1, sizeof *found);
    unsigned char *used = calloc(ts->n + 1, 1);
    zamba_status st = found == NULL || used == NULL ? zb_fail_memory(err, path, p->n_specs * sizeof *found) : ZAMBA_OK;
    for (size_t i = 0; i < p->n_specs && st == ZAMBA_OK; i++) {
        st = find(&found[i], ts, p, &p->specs[i], path, err);
        if (st == ZAMBA_OK)
            used[found[i] - ts->items] = 1;
    }
    if (st == ZAMBA_OK)
        st = check_extra(ts, used, err);
    for (size_t i = 0; i < p->n_specs && st == ZAMBA_OK; i++) {
        zb_tensor *t = &ts->items[found[i] - ts->items];
        const zb_spec *s = &p->specs[i];
        char *name = strdup(s->name);
        if (name == NULL) {
            st = zb_fail_memory(err, path, strlen(s->name));
            break;
        }
        free(t->name);
        t->name = name;
        t->n_dims = s->n_dims;
        memcpy(t->shape, s->shape, (size_t)s->n_dims * sizeof *s->shape);
    }
    for (size_t i = 0, n = ts->n; i < n && st == ZAMBA_OK; i++) { /* the ignored ones go */
        const size_t k = n - 1 - i;
        if (used[k])
            continue;
        free(ts->items[k].name);
        memmove(&ts->items[k], &ts->items[k + 1], (ts->n - 1 - k) * sizeof *ts->items);
        ts->n--;
    }
    if (st == ZAMBA_OK)
        st = zb_gguf_sort(ts, err);
    free(found);
    free(used);
    return st;
}

/* ---- keys, written ---- */

static const struct {
    zb_act act;
    const char *name;
} acts[] = {{ZB_ACT_GELU, "gelu"}, {ZB_ACT_SILU, "silu"}, {ZB_ACT_GELU_TANH, "gelu_new"}, {ZB_ACT_RELU, "relu"}};

uint32_t zb_gguf_file_type(zb_dtype t)
{
    static const struct {
        zb_dtype type;
        uint32_t number;
    } types[] = {{ZB_F32, 0},   {ZB_F16, 1},     {ZB_Q4_0, 2},  {ZB_Q4_1, 3},  {ZB_Q8_0, 7},
                 {ZB_Q5_0, 8},  {ZB_Q2_K, 10},   {ZB_Q3_K, 12}, {ZB_Q4_K, 15}, {ZB_Q5_K, 17},
                 {ZB_Q6_K, 18}, {ZB_IQ4_NL, 25}, {ZB_BF16, 32}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].type == t)
            return types[i].number;
    return 1024; /* "guessed" */
}

/* "zamba2.<name>", in a few static places of the caller's. */
typedef struct key {
    char text[96];
} key;

static const char *arch_key(key *k, const zb_config *c, const char *name)
{
    snprintf(k->text, sizeof k->text, "%s.%s", zb_family_name(c->family), name);
    return k->text;
}

static zamba_status put_layers(zb_gguf_writer *w, const zb_plan *p, zamba_error *err)
{
    const zb_config *c = &p->config;
    key k;
    int32_t *heads = malloc((c->n_layers + 1) * sizeof *heads);
    if (heads == NULL)
        return zb_fail_memory(err, "layers", c->n_layers * sizeof *heads);
    for (size_t i = 0; i < c->n_layers; i++)
        heads[i] = p->layers[i].shared >= 0 ? (int32_t)c->n_kv_heads : 0;
    zb_gguf_put_i32s(w, arch_key(&k, c, "attention.head_count_kv"), heads, c->n_layers);
    free(heads);
    return ZAMBA_OK;
}

static zamba_status put_config(zb_gguf_writer *w, const zb_plan *p, int merged, zamba_error *err)
{
    const zb_config *c = &p->config;
    const struct {
        const char *name;
        size_t value;
    } sizes[] = {{"block_count", c->n_layers},
                 {"context_length", c->max_positions},
                 {"embedding_length", c->hidden_size},
                 {"feed_forward_length", c->ffn_size},
                 {"vocab_size", c->vocab_size},
                 {"attention.head_count", c->n_heads},
                 {"attention.key_length", c->head_dim},
                 {"attention.value_length", c->head_dim},
                 {"rope.dimension_count", c->use_rope ? c->head_dim : 0},
                 {"ssm.conv_kernel", c->mamba_conv},
                 {"ssm.inner_size", c->mamba_inner},
                 {"ssm.state_size", c->mamba_state},
                 {"ssm.time_step_rank", c->family == ZB_ZAMBA1 ? c->mamba_dt_rank : c->mamba_heads},
                 {"ssm.group_count", c->mamba_groups},
                 {"ssm.head_count", c->mamba_heads}, /* from here on: ours */
                 {"shared_block_count", c->n_blocks},
                 {"adapter_rank", c->adapter_rank}};
    key k;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        zb_gguf_put_u32(w, arch_key(&k, c, sizes[i].name), (uint32_t)sizes[i].value);
    zamba_status st = put_layers(w, p, err);
    zb_gguf_put_f32(w, arch_key(&k, c, "attention.layer_norm_rms_epsilon"), c->norm_eps);
    zb_gguf_put_f32(w, arch_key(&k, c, "rope.freq_base"), (float)c->rope_theta);
    zb_gguf_put_string(w, arch_key(&k, c, "layout"), merged ? "llama.cpp" : "compact");
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (acts[i].act == c->act)
            zb_gguf_put_string(w, arch_key(&k, c, "hidden_act"), acts[i].name);
    zb_gguf_put_bool(w, arch_key(&k, c, "use_long_context"), c->long_context);
    if (c->family == ZB_ZAMBA2) {
        const float limit[2] = {c->dt_min, c->dt_max};
        if (c->dt_min > 0.0f || !isinf(c->dt_max))
            zb_gguf_put_f32s(w, arch_key(&k, c, "ssm.time_step_limit"), limit, 2);
        zb_gguf_put_f32(w, arch_key(&k, c, "ssm.time_step_min"), (float)c->step_min);
    }
    return st;
}

static int begins(const char *text, size_t n, const char *start)
{
    const size_t m = strlen(start);
    return n >= m && memcmp(text, start, m) == 0;
}

/* The name of the model: that of its folder or file. */
static void put_name(zb_gguf_writer *w, const char *path)
{
    size_t end = strlen(path), at;
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (at = end; at > 0 && path[at - 1] != '/'; at--)
        ;
    if (end - at > 5 && memcmp(path + end - 5, ".gguf", 5) == 0)
        end -= 5;
    if (end > at && path[at] != '.' && zb_utf8_valid(path + at, end - at)) /* "." says nothing */
        zb_gguf_put_text(w, "general.name", path + at, end - at);
}

static void put_general(zb_gguf_writer *w, const zb_checkpoint *c, const zb_config *config, uint32_t file_type)
{
    static const char *const ours[] = {"general.architecture", "general.type", "general.file_type", "general.alignment",
                                       "general.quantization_version"};
    zb_gguf_put_string(w, "general.architecture", zb_family_name(config->family));
    zb_gguf_put_string(w, "general.type", "model");
    for (size_t i = 0; i < c->gguf.n_keys; i++) {
        const zb_gguf_key *k = &c->gguf.keys[i];
        int copy = begins(k->name, k->n_name, "general.");
        for (size_t j = 0; j < sizeof ours / sizeof *ours; j++)
            copy = copy && !(k->n_name == strlen(ours[j]) && memcmp(k->name, ours[j], k->n_name) == 0);
        if (copy)
            zb_gguf_put_value(w, k->name, k->n_name, &k->value);
    }
    if (zb_gguf_find(&c->gguf, "general.name") == NULL)
        put_name(w, c->path);
    zb_gguf_put_u32(w, "general.file_type", file_type);
    zb_gguf_put_u32(w, "general.quantization_version", 2);
    zb_gguf_put_u32(w, "general.alignment", ZB_GGUF_ALIGNMENT);
}

/* A text of the checkpoint; data NULL if it has none. */
static zamba_status read_text(const zb_checkpoint *c, const char *name, zb_buf *text, zamba_error *err)
{
    zamba_status st = zb_checkpoint_text(c, name, text, err);
    if (st == ZAMBA_OK && text->data == NULL)
        st = zb_buf_append(text, "", 0, err);
    return st == ZAMBA_E_NOT_FOUND ? ZAMBA_OK : st;
}

static zamba_status put_vocabulary(zb_gguf_writer *w, const zb_checkpoint *c, const zb_config *config, zamba_error *err)
{
    static const char *const texts[3] = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"};
    zb_buf b[3] = {{0}, {0}, {0}};
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < c->gguf.n_keys; i++) /* of a GGUF file: as it stands there */
        if (begins(c->gguf.keys[i].name, c->gguf.keys[i].n_name, "tokenizer."))
            zb_gguf_put_value(w, c->gguf.keys[i].name, c->gguf.keys[i].n_name, &c->gguf.keys[i].value);
    if (c->is_gguf)
        return ZAMBA_OK;
    for (size_t i = 0; i < 3 && st == ZAMBA_OK; i++)
        st = read_text(c, texts[i], &b[i], err);
    const zb_gguf_vocab v = {.tokenizer = b[0].data,
                             .config = b[1].data,
                             .chat_template = b[2].data,
                             .n_tokenizer = b[0].n,
                             .n_config = b[1].n,
                             .n_chat_template = b[2].n,
                             .n_vocab = config->vocab_size,
                             .bos = config->bos,
                             .eos = config->n_eos > 0 ? config->eos[0] : -1,
                             .pad = config->pad,
                             .path = c->path};
    if (st == ZAMBA_OK)
        st = zb_gguf_put_vocab(w, &v, err);
    for (size_t i = 0; i < 3; i++)
        zb_buf_free(&b[i]);
    return st;
}

/* config.json without the quantization that its matrices no longer have. */
static zamba_status without_packing(zb_buf *text, const char *path, zamba_error *err)
{
    json_t *root = NULL;
    zamba_status st = zb_json_parse(&root, text->data, text->n, path, zb_json_small, err);
    if (st == ZAMBA_OK && json_object_get(root, "quantization_config") != NULL) {
        json_object_del(root, "quantization_config");
        char *dump = json_dumps(root, JSON_INDENT(2));
        text->n = 0;
        st = dump != NULL ? zb_buf_append(text, dump, strlen(dump), err) : zb_fail_memory(err, path, text->n);
        free(dump);
    }
    json_decref(root);
    return st;
}

static zamba_status put_texts(zb_gguf_writer *w, const zb_checkpoint *c, int merged, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; zb_checkpoint_texts[i] != NULL && st == ZAMBA_OK; i++) {
        const char *name = zb_checkpoint_texts[i];
        char text_key[128];
        zb_buf text = {0};
        const int is_config = strcmp(name, "config.json") == 0;
        if (is_config && merged) /* it tells of blocks and adapters that the file does not have */
            continue;
        st = read_text(c, name, &text, err);
        if (st == ZAMBA_OK && text.data != NULL && is_config)
            st = without_packing(&text, c->path, err);
        if (st == ZAMBA_OK && text.data != NULL && !zb_utf8_valid(text.data, text.n))
            st = zb_fail(err, ZAMBA_E_FORMAT, "%s: %s is not UTF-8", c->path, name);
        snprintf(text_key, sizeof text_key, ZB_GGUF_FILE_KEY "%s", name);
        if (st == ZAMBA_OK && text.data != NULL)
            zb_gguf_put_text(w, text_key, text.data, text.n);
        zb_buf_free(&text);
    }
    return st;
}

zamba_status zb_gguf_put_model(zb_gguf_writer *w, const zb_checkpoint *c, const zb_plan *plan, int merged,
                               uint32_t file_type, zamba_error *err)
{
    put_general(w, c, &plan->config, file_type);
    zamba_status st = put_config(w, plan, merged, err);
    if (st == ZAMBA_OK)
        st = put_vocabulary(w, c, &plan->config, err);
    if (st == ZAMBA_OK)
        st = put_texts(w, c, merged, err);
    return st;
}

/* ---- keys, read ---- */

typedef struct reader {
    const zb_gguf *g;
    const char *arch, *path;
    json_t *out;
    zamba_error *err;
    zamba_status st;
} reader;

static const zb_gguf_value *value_of(const reader *r, const char *name)
{
    char text[96];
    snprintf(text, sizeof text, "%s.%s", r->arch, name);
    return zb_gguf_find(r->g, text);
}

/* A number, or the greatest of an array of one for each layer; -1: not there. */
static int64_t get_size(reader *r, const char *name, int needed)
{
    const zb_gguf_value *v = value_of(r, name);
    int64_t most = -1, x = 0;
    for (size_t i = 0; v != NULL && i < v->n && r->st == ZAMBA_OK; i++) {
        if (!zb_gguf_int(v, i, &x) || x < 0 || x > UINT32_MAX)
            r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: key %s.%s is no size", r->path, r->arch, name);
        most = x > most ? x : most;
    }
    if (most < 0 && needed && r->st == ZAMBA_OK)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: key %s.%s is missing", r->path, r->arch, name);
    return most;
}

/* The decimal that a person would have written for an f32. */
static double short_decimal(double x)
{
    char text[40];
    for (int digits = 1; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if ((float)strtod(text, NULL) == (float)x)
            return strtod(text, NULL);
    }
    return x;
}

static double get_real(reader *r, const char *name, double otherwise)
{
    const zb_gguf_value *v = value_of(r, name);
    double x = otherwise;
    if (v != NULL && (v->is_array || !zb_gguf_real(v, 0, &x) || !isfinite(x)) && r->st == ZAMBA_OK)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: key %s.%s is no number", r->path, r->arch, name);
    return v == NULL || r->st != ZAMBA_OK ? otherwise : v->type == ZB_GGUF_F32 ? short_decimal(x) : x;
}

static void set(reader *r, const char *name, json_t *value)
{
    if (json_object_set_new(r->out, name, value) != 0 && r->st == ZAMBA_OK)
        r->st = zb_fail_memory(r->err, r->path, 0);
}

static void set_size(reader *r, const char *name, int64_t value)
{
    if (value >= 0)
        set(r, name, json_integer((json_int_t)value));
}

static int has(const reader *r, int64_t layer, const char *name)
{
    char text[96];
    if (layer < 0)
        return zb_tensors_find(&r->g->tensors, name) != NULL;
    snprintf(text, sizeof text, "blk.%lld.%s", (long long)layer, name);
    return zb_tensors_find(&r->g->tensors, text) != NULL;
}

/* layers_block_type from the heads for keys and values; returns how many layers are hybrid, *first is one of them. */
static int64_t read_layers(reader *r, int64_t n_layers, int64_t *first)
{
    const zb_gguf_value *heads = value_of(r, "attention.head_count_kv");
    int64_t n_hybrid = 0, x = 0;
    *first = -1;
    if (r->st != ZAMBA_OK)
        return 0;
    if (heads == NULL || !heads->is_array || n_layers > MOST_LAYERS || heads->n != (size_t)n_layers) {
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT,
                        "%s: key %s.attention.head_count_kv has not one entry for each of %lld "
                        "layers (0: no attention), or there are more than %d layers",
                        r->path, r->arch, (long long)n_layers, MOST_LAYERS);
        return 0;
    }
    json_t *types = json_array();
    int bad = types == NULL;
    for (size_t i = 0; i < heads->n && !bad; i++) {
        const int hybrid = zb_gguf_int(heads, i, &x) && x > 0;
        *first = hybrid && *first < 0 ? (int64_t)i : *first;
        n_hybrid += hybrid;
        bad = json_array_append_new(types, json_string(hybrid ? "hybrid" : "mamba")) != 0;
    }
    if (bad) {
        json_decref(types);
        r->st = zb_fail_memory(r->err, r->path, (size_t)n_layers);
    } else {
        set(r, "layers_block_type", types);
    }
    return n_hybrid;
}

static void read_adapters(reader *r, int64_t first)
{
    const int mlp = first >= 0 && has(r, first, "ffn_up_lora_a.weight"),
              attn = first >= 0 && has(r, first, "attn_q_lora_a.weight");
    set(r, "use_shared_mlp_adapter", json_boolean(mlp));
    set(r, "use_shared_attention_adapter", json_boolean(attn));
    if (mlp || attn)
        set_size(r, "adapter_rank", get_size(r, "adapter_rank", 1));
}

static void read_steps(reader *r)
{
    const zb_gguf_value *limit = value_of(r, "ssm.time_step_limit");
    double lo, hi;
    if (limit != NULL && limit->n == 2 && zb_gguf_real(limit, 0, &lo) && zb_gguf_real(limit, 1, &hi) && isfinite(lo) &&
        !isnan(hi))
        set(r, "time_step_limit",
            json_pack("[f, f]", short_decimal(lo), isinf(hi) ? 1e300 : short_decimal(hi))); /* JSON has no infinity */
    else if (limit != NULL && r->st == ZAMBA_OK)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: key %s.ssm.time_step_limit is not two numbers", r->path, r->arch);
    if (value_of(r, "ssm.time_step_min") != NULL)
        set(r, "time_step_min", json_real(get_real(r, "ssm.time_step_min", 0.001)));
}

/* inner_size = expand * hidden_size, rounded down: whole, or half a step above. */
static json_t *expand(int64_t inner, int64_t hidden)
{
    if (hidden > 0 && inner % hidden == 0)
        return json_integer((json_int_t)(inner / hidden));
    return json_real(hidden > 0 ? ((double)inner + 0.5) / (double)hidden : 0);
}

static void read_ids(reader *r)
{
    static const struct {
        const char *name, *key;
    } ids[] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
               {"eos_token_id", "tokenizer.ggml.eos_token_id"},
               {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
    int64_t id;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const zb_gguf_value *v = zb_gguf_find(r->g, ids[i].key);
        if (v != NULL && !v->is_array && zb_gguf_int(v, 0, &id))
            set_size(r, ids[i].name, id);
    }
}

/* The convolution's channels tell the groups too, and the proposal's converter writes 1 for models that have more. */
static int64_t group_count(reader *r, int64_t inner)
{
    const zb_tensor *conv = zb_tensors_find(&r->g->tensors, "blk.0.ssm_conv1d.weight");
    const int64_t said = get_size(r, "ssm.group_count", 0), state = get_size(r, "ssm.state_size", 1),
                  taps = get_size(r, "ssm.conv_kernel", 1);
    uint64_t channels = conv != NULL && taps > 0 ? 1 : 0;
    for (int d = 0; channels > 0 && d < conv->n_dims; d++)
        channels = conv->shape[d] <= UINT32_MAX && channels <= UINT32_MAX ? channels * conv->shape[d] : 0;
    channels = taps > 0 ? channels / (uint64_t)taps : 0;
    if (state <= 0 || channels <= (uint64_t)inner || (channels - (uint64_t)inner) % (2 * (uint64_t)state) != 0)
        return said;
    const int64_t found = (int64_t)((channels - (uint64_t)inner) / (2 * (uint64_t)state));
    if (said >= 0 && said != found)
        zb_log(ZAMBA_LOG_WARN, "%s: key %s.ssm.group_count is %lld, its convolution has %lld groups", r->path, r->arch,
               (long long)said, (long long)found);
    return found;
}

static int64_t vocab_size(reader *r)
{
    const zb_gguf_value *tokens = zb_gguf_find(r->g, "tokenizer.ggml.tokens");
    const int64_t said = get_size(r, "vocab_size", 0);
    if (said < 0 && tokens == NULL)
        return get_size(r, "vocab_size", 1); /* says that it is missing */
    return said >= 0 ? said : (int64_t)tokens->n;
}

static void read_all(reader *r, int zamba1, int merged)
{
    int64_t first;
    const int64_t hidden = get_size(r, "embedding_length", 1), layers = get_size(r, "block_count", 1),
                  inner = get_size(r, "ssm.inner_size", 1), heads = get_size(r, "attention.head_count", 1),
                  kv_heads = get_size(r, "attention.head_count_kv", 1), rank = get_size(r, "ssm.time_step_rank", 1),
                  n_hybrid = read_layers(r, layers, &first), blocks = get_size(r, "shared_block_count", 0);
    size_t n_act = 0;
    char act_name[24] = "gelu";
    const char *act = zb_gguf_text(value_of(r, "hidden_act"), &n_act);
    for (size_t i = 0; act != NULL && i < sizeof act_name; i++) {
        const unsigned char c = i < n_act && i + 1 < sizeof act_name ? (unsigned char)act[i] : 0;
        act_name[i] = c > 0x7E || (c > 0 && c < 0x20) ? '?' : (char)c;
    }
    if (r->st != ZAMBA_OK)
        return;
    set(r, "model_type", json_string(r->arch));
    set_size(r, "hidden_size", hidden);
    set_size(r, "num_hidden_layers", layers);
    set_size(r, "vocab_size", vocab_size(r));
    set_size(r, "max_position_embeddings", get_size(r, "context_length", 0));
    set_size(r, "intermediate_size", get_size(r, "feed_forward_length", 1));
    set_size(r, "num_attention_heads", heads);
    set_size(r, "num_key_value_heads", kv_heads > 0 ? kv_heads : heads);
    set_size(r, "attention_head_dim", get_size(r, "attention.key_length", 0));
    set(r, "rms_norm_eps", json_real(get_real(r, "attention.layer_norm_rms_epsilon", 1e-5)));
    set(r, "hidden_act", json_string(act_name));
    set(r, "tie_word_embeddings", json_boolean(!has(r, -1, "output.weight")));
    set(r, "mamba_expand", expand(inner, hidden));
    set_size(r, "mamba_d_state", get_size(r, "ssm.state_size", 1));
    set_size(r, "mamba_d_conv", get_size(r, "ssm.conv_kernel", 1));
    read_ids(r);
    if (zamba1) {
        set_size(r, "n_mamba_heads", get_size(r, "ssm.head_count", 1));
        set_size(r, "mamba_dt_rank", rank);
        set(r, "mamba_conv_bias", json_boolean(has(r, 0, "ssm_conv1d.bias")));
        set(r, "mamba_proj_bias", json_boolean(has(r, 0, "ssm_in.bias")));
        return;
    }
    set_size(r, "num_mem_blocks", merged ? (n_hybrid > 0 ? n_hybrid : 1) : blocks >= 0 ? blocks : 1);
    set_size(r, "n_mamba_heads", rank);
    set_size(r, "mamba_headdim", rank > 0 ? inner / rank : 0);
    set_size(r, "mamba_ngroups", group_count(r, inner));
    set(r, "add_bias_linear", json_boolean(has(r, 0, "ssm_in.bias")));
    set(r, "use_mem_rope", json_boolean(get_size(r, "rope.dimension_count", 0) > 0));
    set(r, "rope_theta", json_real(get_real(r, "rope.freq_base", 10000.0)));
    read_adapters(r, first);
    read_steps(r);
}

int zb_gguf_merged(const zb_gguf *g)
{
    size_t n_arch = 0, n = 0;
    const char *arch = zb_gguf_text(zb_gguf_find(g, "general.architecture"), &n_arch),
               *layout = zb_gguf_text(zb_gguf_find(g, "zamba2.layout"), &n);
    return arch != NULL && n_arch == 6 && memcmp(arch, "zamba2", 6) == 0 &&
           !(layout != NULL && n == 7 && memcmp(layout, "compact", 7) == 0);
}

zamba_status zb_gguf_config(json_t **out, const zb_gguf *g, const char *path, zamba_error *err)
{
    size_t n = 0;
    const char *arch = zb_gguf_text(zb_gguf_find(g, "general.architecture"), &n);
    const int zamba1 = arch != NULL && n == 5 && memcmp(arch, "zamba", 5) == 0,
              zamba2 = arch != NULL && n == 6 && memcmp(arch, "zamba2", 6) == 0;
    *out = NULL;
    if (!zamba1 && !zamba2) {
        char shown[40];
        size_t i = 0;
        for (; arch != NULL && i < n && i < sizeof shown - 1; i++)
            shown[i] = arch[i] > 0x20 && arch[i] < 0x7F ? arch[i] : '?';
        shown[i] = '\0';
        return zb_fail(err, arch == NULL ? ZAMBA_E_FORMAT : ZAMBA_E_UNSUPPORTED,
                       "%s: general.architecture is %s, wanted zamba2 or zamba", path,
                       arch == NULL ? "missing" : shown);
    }
    reader r = {.g = g, .arch = zamba1 ? "zamba" : "zamba2", .path = path, .err = err, .out = json_object()};
    if (r.out == NULL)
        return zb_fail_memory(err, path, 0);
    read_all(&r, zamba1, zb_gguf_merged(g));
    if (r.st == ZAMBA_OK)
        *out = r.out;
    else
        json_decref(r.out);
    return r.st;
}
