/* bb_options.c — the options of the frame model: defaults, presets, one table of their names for text and JSON, what
 * they may be, and what they say without any weights: pattern, counts, sizes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/bb_options.h"

zamba_backbone_options zamba_backbone_defaults(void)
{
    return (zamba_backbone_options){.size = sizeof(zamba_backbone_options),
                                    .hidden_size = 256,
                                    .num_layers = 6,
                                    .attention_every = 3,
                                    .state_size = 16,
                                    .expand_factor = 2,
                                    .conv_size = 4,
                                    .num_heads = 4,
                                    .head_dim = 64,
                                    .window_size = 60,
                                    .dropout = 0.1,
                                    .qk_norm = 1,
                                    .proj_bias = 1};
}

zamba_backbone_options zamba_backbone_recommended_defaults(void)
{
    return zamba_backbone_defaults();
}

zamba_backbone_run zamba_backbone_run_defaults(void)
{
    return (zamba_backbone_run){.size = sizeof(zamba_backbone_run), .n_threads = 1};
}

zamba_status zamba_backbone_preset(zamba_backbone_options *out, const char *name, zamba_error *err)
{
    if (out == NULL || name == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone preset: no name, or nowhere to put it");
    zamba_backbone_options o = zamba_backbone_defaults();
    if (strcmp(name, "exphil") == 0) {
        o.embed_dim = 287;
    } else if (strcmp(name, "nexus") == 0) {
        o.ffn = ZAMBA_BACKBONE_FFN_EVERY;
        o.num_layers = 24;
        o.attention_every = 6;
        o.num_heads = 8;
        o.head_dim = 0;
        o.pos_encoding = ZAMBA_BACKBONE_POS_NONE;
        o.qk_norm = 0;
        o.proj_bias = 0;
        o.dt_rank = -1;
        o.attn_out_proj = 1;
        o.dropout = 0;
    } else if (strcmp(name, "edifice") != 0) {
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "\"%s\" is no preset of a backbone (edifice, exphil, nexus)", name);
    }
    *out = o;
    return ZAMBA_OK;
}

/* ---- the table ---- */

static const char *const block_names[] = {"mamba", "mamba_fixed", "gated_causal", "gated"};
static const char *const ffn_names[] = {"shared", "every"};
static const char *const position_names[] = {"sin", "none"};

#define COUNT(a)  (sizeof(a) / sizeof(a)[0])
#define AT(field) offsetof(zamba_backbone_options, field)
#define NUMBER(field, low, high)                                                                                       \
    {                                                                                                                  \
        .name = #field, .at = AT(field), .kind = ZB_BB_INT, .least = (low), .most = (high)                             \
    }
#define CHOICE(field, list)                                                                                            \
    {                                                                                                                  \
        .name = #field, .at = AT(field), .kind = ZB_BB_CHOICE, .most = COUNT(list) - 1, .names = (list)                \
    }
#define SWITCH(field)                                                                                                  \
    {                                                                                                                  \
        .name = #field, .at = AT(field), .kind = ZB_BB_SWITCH, .most = 1                                               \
    }

/* The limits keep every product of sizes far from overflow; memory sets in long before. */
static const zb_bb_option table[] = {
    {.name = "embed_dim", .alias = "embed_size", .at = AT(embed_dim), .kind = ZB_BB_INT, .least = 1, .most = 1 << 20},
    NUMBER(hidden_size, 1, 1 << 16),
    NUMBER(num_layers, 1, 4096),
    {.name = "attention_every",
     .alias = "attention_interval",
     .at = AT(attention_every),
     .kind = ZB_BB_INT,
     .least = 1,
     .most = 1 << 20},
    NUMBER(state_size, 1, 4096),
    NUMBER(expand_factor, 1, 64),
    NUMBER(conv_size, 1, 256),
    NUMBER(num_heads, 1, 4096),
    NUMBER(head_dim, 0, 4096),
    NUMBER(window_size, 1, 1 << 20),
    NUMBER(seq_len, 0, 1 << 24),
    {.name = "dropout", .at = AT(dropout), .kind = ZB_BB_SHARE},
    CHOICE(block, block_names),
    CHOICE(ffn, ffn_names),
    CHOICE(pos_encoding, position_names),
    SWITCH(qk_norm),
    SWITCH(proj_bias),
    NUMBER(dt_rank, -1, 1 << 20),
    SWITCH(attn_out_proj),
};

const zb_bb_option *zb_bb_options_table(size_t *n)
{
    *n = COUNT(table);
    return table;
}

const char *zamba_backbone_option_name(size_t i)
{
    return i < COUNT(table) ? table[i].name : NULL;
}

/* The same name, - standing for _. */
static int same_name(const char *a, const char *b)
{
    for (; *a != '\0' && (*a == '-' ? '_' : *a) == *b; a++)
        b++;
    return *a == *b;
}

const zb_bb_option *zb_bb_option_find(const char *name)
{
    for (size_t i = 0; i < COUNT(table); i++)
        if (same_name(name, table[i].name) || (table[i].alias && same_name(name, table[i].alias)))
            return &table[i];
    return NULL;
}

int32_t *zb_bb_option_int(zamba_backbone_options *o, const zb_bb_option *row)
{
    return (int32_t *)(void *)((char *)o + row->at); /* enumerations are of the same size: see below */
}

_Static_assert(sizeof(zamba_backbone_block) == 4 && sizeof(zamba_backbone_ffn) == 4 &&
                   sizeof(zamba_backbone_positions) == 4,
               "options are read and written as 32-bit integers");

static int32_t int_of(const zamba_backbone_options *o, const zb_bb_option *row)
{
    int32_t v;
    memcpy(&v, (const char *)o + row->at, sizeof v);
    return v;
}

static int parse_switch(const char *value, int32_t *v)
{
    static const char *const yes[] = {"1", "true", "on", "yes"}, *const no[] = {"0", "false", "off", "no"};
    for (size_t i = 0; i < COUNT(yes); i++) {
        if (strcmp(value, yes[i]) == 0)
            return *v = 1, 1;
        if (strcmp(value, no[i]) == 0)
            return *v = 0, 1;
    }
    return 0;
}

zamba_status zamba_backbone_option_set(zamba_backbone_options *o, const char *name, const char *value, zamba_error *err)
{
    if (o == NULL || name == NULL || value == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone option: no options, no name or no value");
    const zb_bb_option *row = zb_bb_option_find(name);
    if (row == NULL)
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "a backbone has no option \"%.60s\"", name);
    char *end = NULL;
    if (row->kind == ZB_BB_SHARE) {
        const double d = strtod(value, &end);
        if (end == value || *end != '\0' || !(d >= 0 && d < 1))
            return zb_fail(err, ZAMBA_E_ARG, "%s %.40s: wanted a number from 0 to below 1", row->name, value);
        o->dropout = d;
        return ZAMBA_OK;
    }
    int32_t *to = zb_bb_option_int(o, row);
    if (row->kind == ZB_BB_CHOICE) {
        for (int32_t i = 0; i <= row->most; i++)
            if (same_name(value, row->names[i]))
                return *to = i, ZAMBA_OK;
        return zb_fail(err, ZAMBA_E_ARG, "%s %.40s: wanted one of %s, %s%s%s%s%s", row->name, value, row->names[0],
                       row->names[1], row->most > 1 ? ", " : "", row->most > 1 ? row->names[2] : "",
                       row->most > 2 ? ", " : "", row->most > 2 ? row->names[3] : "");
    }
    if (row->kind == ZB_BB_SWITCH)
        return parse_switch(value, to) ? ZAMBA_OK
                                       : zb_fail(err, ZAMBA_E_ARG, "%s %.40s: wanted true or false", row->name, value);
    const long v = strtol(value, &end, 10);
    if (end == value || *end != '\0' || v < row->least || v > row->most)
        return zb_fail(err, ZAMBA_E_ARG, "%s %.40s: wanted a whole number from %d to %d", row->name, value, row->least,
                       row->most);
    *to = (int32_t)v;
    return ZAMBA_OK;
}

zamba_status zamba_backbone_option_get(const zamba_backbone_options *o, const char *name, char *buf, size_t n,
                                       zamba_error *err)
{
    if (o == NULL || name == NULL || buf == NULL || n < 32)
        return zb_fail(err, ZAMBA_E_ARG, "backbone option: no options, no name, or room for %zu bytes (32 are wanted)",
                       buf ? n : 0);
    const zb_bb_option *row = zb_bb_option_find(name);
    if (row == NULL)
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "a backbone has no option \"%.60s\"", name);
    const int32_t v = row->kind == ZB_BB_SHARE ? 0 : int_of(o, row);
    if (row->kind == ZB_BB_SHARE)
        snprintf(buf, n, "%g", o->dropout);
    else if (row->kind == ZB_BB_CHOICE)
        snprintf(buf, n, "%s", v >= 0 && v <= row->most ? row->names[v] : "?");
    else if (row->kind == ZB_BB_SWITCH)
        snprintf(buf, n, "%s", v ? "true" : "false");
    else
        snprintf(buf, n, "%d", v);
    return ZAMBA_OK;
}

/* ---- what they may be ---- */

static int good_name(const char *s)
{
    if (s == NULL || *s == '\0' || strlen(s) > 40)
        return 0;
    for (; *s != '\0'; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_'))
            return 0;
    return 1;
}

static zamba_status check_embeddings(const zamba_backbone_options *o, zamba_error *err)
{
    int64_t width = 0;
    if (o->n_embeddings > ZB_BB_MOST_EXTRAS || (o->n_embeddings > 0 && o->embeddings == NULL))
        return zb_fail(err, ZAMBA_E_ARG, "backbone: %zu embeddings (at most %d, and a list of them)", o->n_embeddings,
                       ZB_BB_MOST_EXTRAS);
    for (size_t i = 0; i < o->n_embeddings; i++) {
        const zamba_backbone_embedding *e = &o->embeddings[i];
        if (!good_name(e->name))
            return zb_fail(err, ZAMBA_E_ARG, "embedding %zu: its name must be letters, digits and _ (at most 40)", i);
        for (size_t j = 0; j < i; j++)
            if (strcmp(e->name, o->embeddings[j].name) == 0)
                return zb_fail(err, ZAMBA_E_ARG, "two embeddings are called \"%s\"", e->name);
        if (e->ids < 1 || e->ids > 1 << 20 || e->width < 1 || e->width > 4096 || e->uses < 1 || e->uses > 4096)
            return zb_fail(err, ZAMBA_E_ARG,
                           "embedding %s: %d ids, width %d, %d uses (wanted 1 to 1048576, 1 to 4096, 1 to 4096)",
                           e->name, e->ids, e->width, e->uses);
        width += (int64_t)e->width * e->uses;
    }
    if (width > o->embed_dim)
        return zb_fail(err, ZAMBA_E_ARG, "embeddings fill %lld numbers of a frame, but embed_dim is %d",
                       (long long)width, o->embed_dim);
    return ZAMBA_OK;
}

static zamba_status check_heads(const zamba_backbone_options *o, zamba_error *err)
{
    if (o->n_heads > ZB_BB_MOST_EXTRAS || (o->n_heads > 0 && o->heads == NULL))
        return zb_fail(err, ZAMBA_E_ARG, "backbone: %zu heads (at most %d, and a list of them)", o->n_heads,
                       ZB_BB_MOST_EXTRAS);
    for (size_t i = 0; i < o->n_heads; i++) {
        const zamba_backbone_head *h = &o->heads[i];
        if (!good_name(h->name))
            return zb_fail(err, ZAMBA_E_ARG, "head %zu: its name must be letters, digits and _ (at most 40)", i);
        for (size_t j = 0; j < i; j++)
            if (strcmp(h->name, o->heads[j].name) == 0)
                return zb_fail(err, ZAMBA_E_ARG, "two heads are called \"%s\"", h->name);
        if ((unsigned)h->kind > ZAMBA_BACKBONE_HEAD_VALUES || h->n < 1 || h->n > 1 << 20 || h->hidden < 0 ||
            h->hidden > 1 << 16 || !(h->weight >= 0 && h->weight <= 1e6))
            return zb_fail(err, ZAMBA_E_ARG, "head %s: kind %d, n %d, hidden %d, weight %g are out of range", h->name,
                           (int)h->kind, h->n, h->hidden, h->weight);
    }
    return ZAMBA_OK;
}

zamba_status zamba_backbone_check(const zamba_backbone_options *o, zamba_error *err)
{
    if (o == NULL || o->size != sizeof *o)
        return zb_fail(err, ZAMBA_E_ARG,
                       "backbone options of %zu bytes, this library's have %zu (begin with zamba_backbone_defaults())",
                       o ? o->size : 0, sizeof *o);
    if (o->embed_dim == 0)
        return zb_fail(err, ZAMBA_E_ARG, "embed_dim is not set: how many numbers does a frame have?");
    for (size_t i = 0; i < COUNT(table); i++) {
        const zb_bb_option *row = &table[i];
        if (row->kind == ZB_BB_SHARE) {
            if (!(o->dropout >= 0 && o->dropout < 1))
                return zb_fail(err, ZAMBA_E_ARG, "dropout %g: wanted a number from 0 to below 1", o->dropout);
        } else if (row->kind != ZB_BB_SWITCH && (int_of(o, row) < row->least || int_of(o, row) > row->most)) {
            return zb_fail(err, ZAMBA_E_ARG, "%s %d: wanted a whole number from %d to %d", row->name, int_of(o, row),
                           row->least, row->most);
        }
    }
    if (o->head_dim == 0 && o->hidden_size % o->num_heads != 0)
        return zb_fail(err, ZAMBA_E_ARG, "hidden_size %d is not a multiple of num_heads %d: set head_dim",
                       o->hidden_size, o->num_heads);
    if (o->dt_rank > o->hidden_size * (int64_t)o->expand_factor)
        return zb_fail(err, ZAMBA_E_ARG, "dt_rank %d is more than the %lld channels of a block (-1: one full map)",
                       o->dt_rank, (long long)o->hidden_size * o->expand_factor);
    const zamba_status st = check_embeddings(o, err);
    return st == ZAMBA_OK ? check_heads(o, err) : st;
}

/* ---- what they say ---- */

int32_t zb_bb_head_dim(const zamba_backbone_options *o)
{
    return o->head_dim > 0 ? o->head_dim : o->hidden_size / o->num_heads;
}

zamba_backbone_layer zb_bb_layer_kind(const zamba_backbone_options *o, size_t layer)
{
    if ((layer + 1) % (size_t)o->attention_every != 0)
        return ZAMBA_BACKBONE_LAYER_MAMBA;
    return o->ffn == ZAMBA_BACKBONE_FFN_EVERY ? ZAMBA_BACKBONE_LAYER_ATTENTION : ZAMBA_BACKBONE_LAYER_MAMBA_ATTENTION;
}

zamba_status zamba_backbone_layer_pattern(const zamba_backbone_options *o, zamba_backbone_layer *layers, size_t n,
                                          zamba_error *err)
{
    zamba_status st = zamba_backbone_check(o, err);
    if (st == ZAMBA_OK && (layers == NULL || n < (size_t)o->num_layers))
        st = zb_fail(err, ZAMBA_E_ARG, "layer pattern: room for %zu of %d layers", layers ? n : 0, o->num_layers);
    for (size_t i = 0; st == ZAMBA_OK && i < (size_t)o->num_layers; i++)
        layers[i] = zb_bb_layer_kind(o, i);
    return st;
}

const char *zamba_backbone_layer_name(zamba_backbone_layer layer)
{
    static const char *const names[] = {"mamba", "mamba_attention", "attention"};
    return (unsigned)layer < COUNT(names) ? names[layer] : "?";
}

zamba_status zamba_backbone_param_count(const zamba_backbone_options *o, int64_t *count, zamba_error *err)
{
    const zamba_status st = zamba_backbone_check(o, err);
    if (st != ZAMBA_OK)
        return st;
    const int64_t H = o->hidden_size, I = H * o->expand_factor, N = o->state_size, E = o->embed_dim;
    const int64_t A = (int64_t)o->num_heads * zb_bb_head_dim(o), R = H / 16 > 1 ? H / 16 : 1;
    const int64_t layer = H * 2 * I + I * 4 + I * 2 * N + 2 * I * R + I * H;
    *count = (E != H ? E * H : 0) + layer * o->num_layers + 4 * A * A + 8 * H * H;
    return ZAMBA_OK;
}

zamba_status zamba_backbone_compare_to_jamba(const zamba_backbone_options *o, zamba_backbone_comparison *out,
                                             zamba_error *err)
{
    int64_t zamba = 0;
    zamba_status st = zamba_backbone_param_count(o, &zamba, err);
    if (st == ZAMBA_OK && (out == NULL || out->size != sizeof *out))
        st = zb_fail(err, ZAMBA_E_ARG, "compare to jamba: the result's size is %zu, not %zu", out ? out->size : 0,
                     sizeof *out);
    if (st != ZAMBA_OK)
        return st;
    const int64_t H = o->hidden_size, A = (int64_t)o->num_heads * zb_bb_head_dim(o);
    const int64_t uses = o->num_layers / o->attention_every;
    const int64_t savings = uses > 0 ? (4 * A * A + 8 * H * H) * (uses - 1) : 0, jamba = zamba + savings;
    *out = (zamba_backbone_comparison){.size = sizeof *out,
                                       .zamba_params = zamba,
                                       .jamba_params = jamba,
                                       .savings = savings,
                                       .savings_percent =
                                           jamba > 0 ? nearbyint((double)savings / (double)jamba * 1000) / 10 : 0,
                                       .clamped = uses == 0};
    return ZAMBA_OK;
}

int32_t zamba_backbone_output_size(const zamba_backbone_options *o)
{
    return o ? o->hidden_size : 0;
}

int32_t zamba_backbone_frame_size(const zamba_backbone_options *o)
{
    int32_t n = o ? o->embed_dim : 0;
    for (size_t i = 0; o && o->embeddings && i < o->n_embeddings; i++)
        n -= (o->embeddings[i].width - 1) * o->embeddings[i].uses;
    return n;
}

int32_t zamba_backbone_logit_size(const zamba_backbone_options *o)
{
    int32_t n = 0;
    for (size_t i = 0; o && o->heads && i < o->n_heads; i++)
        n += o->heads[i].n;
    return n;
}

int32_t zamba_backbone_target_size(const zamba_backbone_options *o, zamba_backbone_loss loss)
{
    int32_t n = 0;
    if (loss == ZAMBA_BACKBONE_LOSS_SQUARES)
        return zamba_backbone_output_size(o);
    for (size_t i = 0; o && o->heads && i < o->n_heads; i++)
        n += o->heads[i].kind == ZAMBA_BACKBONE_HEAD_CLASSES ? 1 : o->heads[i].n;
    return n;
}

const zamba_backbone_head *zamba_backbone_controller_heads(void)
{
    static const zamba_backbone_head heads[ZAMBA_BACKBONE_CONTROLLER_HEADS] = {
        {"buttons", ZAMBA_BACKBONE_HEAD_BINARY, 8, 64, 8},  {"main_x", ZAMBA_BACKBONE_HEAD_CLASSES, 17, 64, 1},
        {"main_y", ZAMBA_BACKBONE_HEAD_CLASSES, 17, 64, 1}, {"c_x", ZAMBA_BACKBONE_HEAD_CLASSES, 17, 64, 1},
        {"c_y", ZAMBA_BACKBONE_HEAD_CLASSES, 17, 64, 1},    {"trigger", ZAMBA_BACKBONE_HEAD_CLASSES, 5, 32, 1}};
    return heads;
}
