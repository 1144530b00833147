/* quant_types.c — the table of presets and how a tensor's type is found from it. */
#include "model/quant_types.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

/* Why the mixtures are what they are. Divergences (mean KL, 10^-3 nats) when one kind alone is Q4_K and the rest bf16:
 * of the model that comes with zamba, and of random weights in the proportions of the 7B (41 layers, two shared blocks
 * used seven times); beside them what one bit more costs a Zamba2-7B, in MB of the file and MB read for each token:
 *
 *                      trained   random     file    read
 *   embedding = head      6.5     37.6        14      14
 *   in_proj               2.6     56.8       534     534
 *   out_proj              2.8     38.4       260     260
 *   q, k, v               0.0      9.6        39     144
 *   o                     0.0      3.9         6      42
 *   gate_up, down         0.0      5.8        39     251
 *   linear                0.0      2.0        21      21
 *   adapters              -        0.1         7       7
 *
 * (The small model hardly uses its shared blocks.) A bit more takes away three quarters of a divergence, so:
 *  - the embedding is worth any type: it is small, and every logit is a row of it;
 *  - shared blocks gain most for their size, but are read 6 to 7 times a token, which makes them the dearest for their
 *    time: one step above in_proj (q5_k over q4_k costs 7 % of the time), and no more. Two steps, q6_k, took 7 % more
 *    for a twentieth of the divergence;
 *  - out_proj is half of in_proj and as sensitive: a step above it wherever the size allows (the M presets). In Q4_K_M
 *    two thirds of them are: so a Zamba2-7B with a context of 4,096 in 8 bits stays within 5.5 GB;
 *  - adapters weigh nothing: q8_0, 16 bits where rows are short;
 *  - from 6 bits on weights are rounded less than activations are: one type for all of them.
 * Mamba-1's x_proj makes dt, B and C, and is 2 % of the model: q8_0. Its dt_proj has rows that no block divides. */
#define MIX(embed, in, out, dt, qk, v, o, gate_up, down, linear, adapter)                                              \
    {                                                                                                                  \
        ZB_##embed, ZB_##in, ZB_##out, ZB_##dt, ZB_##qk, ZB_##v, ZB_##o, ZB_##gate_up, ZB_##down, ZB_##linear,         \
            ZB_##adapter                                                                                               \
    }
#define ONE(t) MIX(t, t, t, t, t, t, t, t, t, t, t)

/* clang-format off */
static const zb_quant_preset presets[] = {
    /* name, file type, main           embed in_proj out_proj dt    q, k  v     o     gate_up down linear adapter */
    {"Q2_K",   10, ZB_Q2_K,   MIX(Q6_K, Q2_K, Q3_K, Q8_0, Q4_K, Q4_K, Q4_K, Q4_K, Q4_K, Q4_K, Q8_0), 0},
    {"Q3_K_M", 12, ZB_Q3_K,   MIX(Q6_K, Q3_K, Q4_K, Q8_0, Q4_K, Q4_K, Q4_K, Q4_K, Q4_K, Q4_K, Q8_0), 0},
    {"Q4_0",    2, ZB_Q4_0,   MIX(Q6_K, Q4_0, Q4_0, Q8_0, Q5_0, Q5_0, Q5_0, Q5_0, Q5_0, Q5_0, Q8_0), 0},
    {"Q4_K_S", 14, ZB_Q4_K,   MIX(Q6_K, Q4_K, Q4_K, Q8_0, Q5_K, Q5_K, Q5_K, Q5_K, Q5_K, Q5_K, Q8_0), 0},
    {"Q4_K_M", 15, ZB_Q4_K,   MIX(Q6_K, Q4_K, Q5_K, Q8_0, Q5_K, Q5_K, Q5_K, Q5_K, Q5_K, Q5_K, Q8_0), 1},
    {"Q5_K_M", 17, ZB_Q5_K,   MIX(Q8_0, Q5_K, Q6_K, Q8_0, Q6_K, Q6_K, Q6_K, Q6_K, Q6_K, Q6_K, Q8_0), 0},
    {"Q6_K",   18, ZB_Q6_K,   MIX(Q8_0, Q6_K, Q6_K, Q8_0, Q6_K, Q6_K, Q6_K, Q6_K, Q6_K, Q6_K, Q8_0), 0},
    {"Q8_0",    7, ZB_Q8_0,   ONE(Q8_0), 0},
    {"F16",     1, ZB_F16,    ONE(F16), 0},
    {"BF16",   32, ZB_BF16,   ONE(BF16), 0},
    {"F32",     0, ZB_F32,    ONE(F32), 0},
    {"Q3_K",   11, ZB_Q3_K,   ONE(Q3_K), 0},
    {"Q4_1",    3, ZB_Q4_1,   ONE(Q4_1), 0},
    {"IQ4_NL", 25, ZB_IQ4_NL, ONE(IQ4_NL), 0},
    {"Q4_K",   14, ZB_Q4_K,   ONE(Q4_K), 0},
    {"Q5_0",    8, ZB_Q5_0,   ONE(Q5_0), 0},
    {"Q5_K",   16, ZB_Q5_K,   ONE(Q5_K), 0},
};
/* clang-format on */
#define N_PRESETS (sizeof presets / sizeof *presets)

static const char *const kind_names[ZB_N_KINDS] = {"embedding", "in_proj", "out_proj", "dt",     "q, k",    "v",
                                                   "o",         "gate_up", "down",     "linear", "adapter", "small"};

static int same_name(const char *a, const char *b)
{
    while (*a != '\0' && toupper((unsigned char)*a) == toupper((unsigned char)*b))
        a++, b++;
    return *a == '\0' && *b == '\0';
}

const zb_quant_preset *zb_quant_preset_find(const char *name)
{
    for (size_t i = 0; i < N_PRESETS; i++)
        if (same_name(name, presets[i].name))
            return &presets[i];
    return NULL;
}

const zb_quant_preset *zb_quant_preset_at(size_t i)
{
    return i < N_PRESETS ? &presets[i] : NULL;
}

/* Our own blocks are for what others packed; nothing is packed into them. */
static int can_be_asked_for(zb_dtype t)
{
    return t <= ZB_IQ4_NL;
}

int zb_quant_type_find(const char *name, zb_dtype *out)
{
    for (int t = 0; t < ZB_N_DTYPES; t++)
        if (can_be_asked_for((zb_dtype)t) && same_name(name, zb_dtype_name((zb_dtype)t))) {
            *out = (zb_dtype)t;
            return 1;
        }
    return 0;
}

zb_quant_kind zb_quant_kind_of(const zb_spec *s)
{
    if (!s->quantizable)
        return ZB_KIND_SMALL;
    switch (s->role) {
    case ZB_EMBED:
    case ZB_LM_HEAD:
        return ZB_KIND_EMBED;
    case ZB_IN_PROJ:
        return ZB_KIND_IN_PROJ;
    case ZB_OUT_PROJ:
        return ZB_KIND_OUT_PROJ;
    case ZB_X_PROJ:
    case ZB_DT_PROJ:
        return ZB_KIND_DT;
    case ZB_Q:
    case ZB_K:
        return ZB_KIND_QK;
    case ZB_V:
        return ZB_KIND_V;
    case ZB_O:
        return ZB_KIND_O;
    case ZB_GATE_UP:
    case ZB_GATE:
    case ZB_UP:
        return ZB_KIND_GATE_UP;
    case ZB_DOWN:
        return ZB_KIND_DOWN;
    case ZB_LINEAR:
        return ZB_KIND_LINEAR;
    default:
        return s->part == ZB_PART_ADAPTER ? ZB_KIND_ADAPTER : ZB_KIND_SMALL;
    }
}

const char *zb_quant_kind_name(zb_quant_kind kind)
{
    return kind_names[kind];
}

zb_dtype zb_quant_fit(zb_dtype t, size_t cols, zb_dtype from)
{
    if (cols % zb_dtype_block(t) == 0)
        return t;
    if (cols % 32 != 0)
        return from == ZB_BF16 ? ZB_BF16 : ZB_F16;
    switch (t) {
    case ZB_Q5_K:
        return ZB_Q5_0;
    case ZB_Q6_K:
        return ZB_Q8_0;
    default: /* 4 bits and less: nothing of 32 is smaller, and IQ4_NL is nearer than Q4_0 at the same size */
        return ZB_IQ4_NL;
    }
}

uint64_t zb_quant_bytes(const zb_spec *s, zb_dtype t)
{
    const size_t cols = s->shape[s->n_dims - 1];
    return (uint64_t)(zb_spec_elements(s) / cols) * zb_row_bytes(t, cols);
}

/* ---- overrides ---- */

/* All names, for messages. */
static const char *preset_names(char *buf, size_t n)
{
    size_t at = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < N_PRESETS; i++) {
        const size_t len = strlen(presets[i].name);
        if (at + len + 3 > n)
            break;
        if (i > 0) {
            memcpy(buf + at, ", ", 2);
            at += 2;
        }
        memcpy(buf + at, presets[i].name, len + 1);
        at += len;
    }
    return buf;
}

static const char *type_names(char *buf, size_t n)
{
    size_t at = 0;
    buf[0] = '\0';
    for (int t = 0; t < ZB_N_DTYPES; t++) {
        const char *name = can_be_asked_for((zb_dtype)t) ? zb_dtype_name((zb_dtype)t) : "";
        const size_t len = strlen(name);
        if (len == 0 || at + len + 3 > n)
            continue;
        if (at > 0) {
            memcpy(buf + at, ", ", 2);
            at += 2;
        }
        memcpy(buf + at, name, len + 1);
        at += len;
    }
    return buf;
}

static zamba_status apply(zb_dtype *wanted, const zb_plan *plan, const char *const *names, const char *rule,
                          zamba_error *err)
{
    char known[256], *pattern = strdup(rule), *equals = pattern == NULL ? NULL : strrchr(pattern, '=');
    zb_dtype t = ZB_F32;
    size_t matrices = 0, others = 0;
    zamba_status st = ZAMBA_OK;
    if (pattern == NULL)
        return zb_fail_memory(err, "override", strlen(rule) + 1);
    if (equals == NULL || equals == pattern || equals[1] == '\0')
        st = zb_fail(err, ZAMBA_E_ARG,
                     "tensor type '%.120s': wanted PATTERN=TYPE, such as \"blk.*.ssm_out.weight=Q6_K\"", rule);
    if (st == ZAMBA_OK) {
        *equals = '\0';
        if (!zb_quant_type_find(equals + 1, &t))
            st = zb_fail(err, ZAMBA_E_ARG, "tensor type '%.120s': '%.40s' is no type; wanted one of %s", rule,
                         equals + 1, type_names(known, sizeof known));
    }
    for (size_t i = 0; i < plan->n_specs && st == ZAMBA_OK; i++) {
        const zb_spec *s = &plan->specs[i];
        if (fnmatch(pattern, s->name, 0) != 0 && (names == NULL || fnmatch(pattern, names[i], 0) != 0))
            continue;
        if (s->quantizable) {
            wanted[i] = t;
            matrices++;
        } else {
            others++;
        }
    }
    if (st == ZAMBA_OK && matrices == 0 && others > 0)
        st = zb_fail(
            err, ZAMBA_E_NOT_FOUND,
            "tensor type '%.120s': matches %zu tensors, but only norms, biases, convolutions, dt, A or D, which "
            "stay F32",
            rule, others);
    else if (st == ZAMBA_OK && matrices == 0)
        st =
            zb_fail(err, ZAMBA_E_NOT_FOUND,
                    "tensor type '%.120s': matches no tensor of this model (`zamba quantize --dry-run --verbose` lists "
                    "the names; * stands for anything)",
                    rule);
    free(pattern);
    return st;
}

zamba_status zb_quant_choose(zb_dtype *types, const zb_plan *plan, const zb_dtype *from, const char *const *names,
                             const zb_quant_request *request, zamba_error *err)
{
    char known[256];
    const char *given = request->preset == NULL ? "" : request->preset;
    const zb_quant_preset *p = zb_quant_preset_find(given);
    zamba_status st = ZAMBA_OK;
    if (p == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "type '%.40s' is unknown; wanted one of %s", given,
                       preset_names(known, sizeof known));
    for (size_t i = 0; i < plan->n_specs; i++) {
        const zb_quant_kind kind = zb_quant_kind_of(&plan->specs[i]);
        const int low = p->third_out && kind == ZB_KIND_OUT_PROJ && plan->specs[i].layer % 3 == 2;
        types[i] = kind == ZB_KIND_SMALL ? ZB_F32 : request->pure ? p->main : p->types[low ? ZB_KIND_IN_PROJ : kind];
    }
    for (size_t i = 0; i < request->n_overrides && st == ZAMBA_OK; i++)
        st = apply(types, plan, names, request->overrides[i], err);
    for (size_t i = 0; i < plan->n_specs && st == ZAMBA_OK; i++)
        if (plan->specs[i].quantizable)
            types[i] = zb_quant_fit(types[i], plan->specs[i].shape[plan->specs[i].n_dims - 1],
                                    from == NULL ? ZB_BF16 : from[i]);
    return st;
}
