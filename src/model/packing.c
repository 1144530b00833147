/* packing.c — quantization_config as AutoGPTQ, GPTQModel, optimum, AutoAWQ and bitsandbytes write it. Whatever changes
 * the bits in the file and is not known here is refused by its name. */
#include "model/packing.h"

#include <string.h>
#include <strings.h>

#include "io/json.h"

#define GREATEST_GROUP ((size_t)1 << 24)

typedef struct reader {
    const json_t *root;
    const char *name;
    zamba_error *err;
    zamba_status st;
} reader;

static const json_t *get(const reader *r, const char *key)
{
    const json_t *v = json_object_get(r->root, key);
    return json_is_null(v) ? NULL : v;
}

static void refuse(reader *r, zamba_status code, const char *key, const json_t *v, const char *wanted)
{
    char found[64];
    if (r->st == ZAMBA_OK)
        r->st = zb_fail(r->err, code, "%s: quantization_config: %s is %s, wanted %s", r->name, key,
                        zb_json_text(found, sizeof found, v), wanted);
}

static int get_bool(reader *r, const char *key, int fallback)
{
    const json_t *v = get(r, key);
    if (v == NULL)
        return fallback;
    if (!json_is_boolean(v))
        refuse(r, ZAMBA_E_FORMAT, key, v, "true or false");
    return json_is_true(v);
}

/* First of the keys that is there. */
static const json_t *get_any(const reader *r, const char *const *keys, const char **used)
{
    const json_t *v = NULL;
    *used = keys[0];
    for (size_t i = 0; v == NULL && keys[i] != NULL; i++)
        if ((v = get(r, keys[i])) != NULL)
            *used = keys[i];
    return v;
}

#define KEYS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Is the text under one of the keys `word`, in any case? Absent: `fallback`. */
static int is_word(const json_t *v, const char *word, int fallback)
{
    return v == NULL ? fallback : json_is_string(v) && strcasecmp(json_string_value(v), word) == 0;
}

static void read_bits(reader *r, zb_packing *p, const char *wanted, unsigned allowed)
{
    const char *key;
    const json_t *v = get_any(r, KEYS("bits", "w_bit"), &key);
    const json_int_t bits = json_integer_value(v);
    if (v == NULL && r->st == ZAMBA_OK)
        r->st = zb_fail(r->err, ZAMBA_E_FORMAT, "%s: quantization_config: bits is missing, wanted %s", r->name, wanted);
    else if (!json_is_integer(v) || bits < 1 || bits > 31 || (allowed >> bits & 1) == 0)
        refuse(r, ZAMBA_E_UNSUPPORTED, key, v, wanted);
    else
        p->bits = (unsigned)bits;
}

static void read_group_size(reader *r, zb_packing *p)
{
    const char *key;
    const json_t *v = get_any(r, KEYS("group_size", "q_group_size"), &key);
    const json_int_t n = json_integer_value(v);
    if (v == NULL)
        p->group_size = 128; /* the writers' default */
    else if (json_is_integer(v) && n == -1)
        p->group_size = 0;
    else if (!json_is_integer(v) || n < 1 || n > (json_int_t)GREATEST_GROUP)
        refuse(r, ZAMBA_E_FORMAT, key, v, "a multiple of 32, or -1 for whole rows");
    else if (n % 32 != 0)
        refuse(r, ZAMBA_E_UNSUPPORTED, key, v, "a multiple of 32, or -1 for whole rows");
    else
        p->group_size = (size_t)n;
}

/* GPTQModel takes the one from whole words of zeros when it writes v1, and adds it again in the same way: where a zero
 * is 0, its neighbour is one less, too. (Those of 3 bits, which cross words, wrap around one by one.) AutoGPTQ means
 * each zero by itself. */
static int wrote_gptqmodel(const reader *r)
{
    const json_t *v = json_object_get(json_object_get(r->root, "meta"), "quantizer"), *one;
    size_t i;
    int found = json_is_string(v) && strncasecmp(json_string_value(v), "gptqmodel", 9) == 0;
    if (json_is_array(v))
        json_array_foreach((json_t *)v, i, one) found |=
            json_is_string(one) && strncasecmp(json_string_value(one), "gptqmodel", 9) == 0;
    return found;
}

static void read_gptq(reader *r, zb_packing *p)
{
    const char *key;
    const json_t *format = get_any(r, KEYS("checkpoint_format", "format"), &key), *dynamic = get(r, "dynamic"),
                 *pack = get(r, "pack_dtype");
    p->method = ZB_PACK_GPTQ;
    p->v2 = is_word(format, "gptq_v2", 0);
    if (!p->v2 && !is_word(format, "gptq", 1))
        refuse(r, ZAMBA_E_UNSUPPORTED, key, format, "gptq or gptq_v2 (save the model in one of them)");
    if (get_bool(r, "is_marlin_format", 0))
        refuse(r, ZAMBA_E_UNSUPPORTED, "is_marlin_format", get(r, "is_marlin_format"), "false");
    if (!is_word(pack, "int32", 1) && !is_word(pack, "torch.int32", 0))
        refuse(r, ZAMBA_E_UNSUPPORTED, "pack_dtype", pack, "int32");
    if (dynamic != NULL && !json_is_object(dynamic) && !json_is_false(dynamic))
        refuse(r, ZAMBA_E_FORMAT, "dynamic", dynamic, "an object");
    p->dynamic = json_object_size(dynamic) > 0;
    read_bits(r, p, "2, 3, 4 or 8", 1u << 2 | 1u << 3 | 1u << 4 | 1u << 8);
    read_group_size(r, p);
    (void)get_bool(r, "desc_act", 0); /* what they mean stands in g_idx and qzeros */
    (void)get_bool(r, "sym", 1);
    p->carry = !p->v2 && wrote_gptqmodel(r);
}

static void read_awq(reader *r, zb_packing *p)
{
    const char *key;
    const json_t *version = get_any(r, KEYS("version", "checkpoint_format", "format"), &key);
    p->method = ZB_PACK_AWQ;
    if (!is_word(version, "gemm", 1))
        refuse(r, ZAMBA_E_UNSUPPORTED, key, version, "gemm (quantize again with version=\"GEMM\")");
    p->zero_point = get_bool(r, "zero_point", 1);
    read_bits(r, p, "4", 1u << 4);
    read_group_size(r, p);
}

zamba_status zb_packing_parse(zb_packing *p, const json_t *value, const char *name, zamba_error *err)
{
    reader r = {value, name, err, ZAMBA_OK};
    *p = (zb_packing){0};
    if (value == NULL || json_is_null(value))
        return ZAMBA_OK;
    if (!json_is_object(value))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: quantization_config is no object", name);
    const char *key;
    const json_t *method = get_any(&r, KEYS("quant_method", "method"), &key);
    const int bnb = get_bool(&r, "load_in_4bit", 0) | get_bool(&r, "load_in_8bit", 0);
    if (r.st != ZAMBA_OK)
        return r.st;
    if (method == NULL && !bnb)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: quantization_config has no quant_method", name);
    if (is_word(method, "gptq", 0))
        read_gptq(&r, p);
    else if (is_word(method, "awq", 0))
        read_awq(&r, p);
    else if (is_word(method, "bitsandbytes", bnb))
        p->method = ZB_PACK_BNB; /* everything else stands beside each tensor */
    else
        refuse(&r, json_is_string(method) ? ZAMBA_E_UNSUPPORTED : ZAMBA_E_FORMAT, key, method,
               "gptq, awq or bitsandbytes");
    return r.st;
}

const char *zb_pack_method_name(zb_pack_method m)
{
    static const char *const names[] = {"none", "gptq", "awq", "bitsandbytes"};
    return names[m];
}
