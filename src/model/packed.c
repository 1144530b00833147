/* packed.c — finds the tensors of packed matrices, checks that they fit together, and has them made into matrices.
 *
 *   GPTQ   X.qweight I32 [in * bits / 32, out]   X.qzeros I32 [groups, out * bits / 32]   X.scales [groups, out]
 *          X.g_idx I32 [in]: the group of each column; without it (or if it is all zeros) groups follow one another
 *   AWQ    X.qweight I32 [in, out / 8]           X.qzeros I32 [groups, out / 8]           X.scales [groups, out]
 *   bitsandbytes, 4 bits: X.weight, two numbers a byte; X.weight.absmax, .quant_map, .quant_state.bitsandbytes__nf4 (or
 *          fp4): JSON in bytes; doubly quantized: .absmax is U8, with .nested_absmax and .nested_quant_map
 *   bitsandbytes, 8 bits: X.weight I8 [out, in], X.SCB F32 [out]
 *
 * A matrix becomes blocks if these say the same number for number. If not, it is kept in f32: groups that do not fill
 * blocks of 32 columns, scales that no f16 holds, rows that are no whole number of blocks, tables other than NF4's. */
#include "model/packed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

#define MOST_NAME  320
#define MOST_BLOCK ((size_t)1 << 20)

static int ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

int zb_packed_name(char *out, size_t n, const zb_packing *p, const char *name)
{
    if (p->method == ZB_PACK_NONE || !ends_with(name, ".weight"))
        return 0;
    const size_t stem = strlen(name) - strlen("weight");
    const int wrote = snprintf(out, n, "%.*s%s", (int)stem, name, p->method == ZB_PACK_BNB ? "weight" : "qweight");
    return wrote > 0 && (size_t)wrote < n;
}

/* ---- pieces ---- */

/* The tensor stem + end, or NULL; those that are there become pieces of p. */
static const zb_tensor *piece(zb_packed *p, const zb_tensors *ts, const char *stem, const char *end)
{
    char name[MOST_NAME];
    const int wrote = snprintf(name, sizeof name, "%s%s", stem, end);
    const zb_tensor *t = wrote > 0 && (size_t)wrote < sizeof name ? zb_tensors_find(ts, name) : NULL;
    if (t != NULL)
        p->pieces[p->n_pieces++] = t;
    return t;
}

static zamba_status missing(const zb_packed *p, const char *stem, const char *end, zamba_error *err)
{
    return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %.100s%s is missing, which belongs to %s", p->pieces[0]->file, stem,
                   end, strrchr(p->pieces[0]->name, '.') + 1);
}

static zamba_status check_type(const zb_tensor *t, const char *wanted, zamba_error *err)
{
    if (strcmp(t->dtype_name, wanted) == 0)
        return ZAMBA_OK;
    return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %s is %s, wanted %s", t->file, t->name, t->dtype_name, wanted);
}

static zamba_status check_shape2(const zb_tensor *t, size_t n0, size_t n1, zamba_error *err)
{
    const size_t shape[2] = {n0, n1};
    char found[96], wanted[96];
    if (t->n_dims == 2 && t->shape[0] == n0 && t->shape[1] == n1)
        return ZAMBA_OK;
    return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s has shape %s, wanted %s", t->file, t->name,
                   zb_shape_text(found, sizeof found, t->shape, t->n_dims),
                   zb_shape_text(wanted, sizeof wanted, shape, 2));
}

static size_t elements(const zb_tensor *t)
{
    size_t n = 1; /* the reader made sure that the product fits */
    for (int i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    return n;
}

static zamba_status check_count(const zb_tensor *t, const char *type, size_t n, zamba_error *err)
{
    zamba_status st = check_type(t, type, err);
    if (st == ZAMBA_OK && elements(t) != n)
        st =
            zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s has %zu numbers, wanted %zu", t->file, t->name, elements(t), n);
    return st;
}

static void start(zb_packed *p, zb_pack_method method, const zb_tensor *numbers, const zb_spec *s)
{
    *p = (zb_packed){.method = method, .pieces = {numbers}, .n_pieces = 1};
    p->tensor = (zb_tensor){.name = numbers->name, .file = numbers->file, .n_dims = 2, .known = 1};
    memcpy(p->tensor.shape, s->shape, 2 * sizeof *s->shape);
}

/* ---- GPTQ and AWQ ---- */

/* Bits and group size of a module that may have its own, from the shapes. */
static zamba_status infer(zb_packed *p, zb_words *w, const zb_tensor *scales, zamba_error *err)
{
    const zb_tensor *q = p->pieces[0];
    const size_t lines = q->n_dims == 2 ? q->shape[0] : 0, groups = scales->n_dims == 2 ? scales->shape[0] : 0;
    w->bits = 0;
    for (unsigned bits = 2; bits <= 8; bits++)
        if ((bits <= 4 || bits == 8) && lines == w->cols * bits / 32)
            w->bits = bits;
    if (w->bits == 0)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                       "%s: tensor %s has %zu lines for %zu columns, wanted 2, 3, 4 or 8 bits", q->file, q->name, lines,
                       w->cols);
    if (groups == 0 || groups > w->cols)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s has %zu groups for %zu columns", scales->file, scales->name,
                       groups, w->cols);
    w->group_size = groups == 1 ? w->cols : ((w->cols + groups - 1) / groups + 31) / 32 * 32;
    if ((w->cols + w->group_size - 1) / w->group_size != groups && p->g_idx == NULL)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                       "%s: tensor %s has %zu groups for %zu columns, wanted groups of a multiple of 32", scales->file,
                       scales->name, groups, w->cols);
    return ZAMBA_OK;
}

static zamba_status find_words(zb_packed *out, const zb_packing *p, const zb_tensors *ts, const zb_tensor *numbers,
                               const zb_spec *s, zamba_error *err)
{
    char stem[MOST_NAME];
    start(out, p->method, numbers, s);
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(numbers->name) - strlen(".qweight")), numbers->name);
    const zb_tensor *zeros = piece(out, ts, stem, ".qzeros"), *scales = piece(out, ts, stem, ".scales");
    out->scales = scales;
    out->g_idx = p->method == ZB_PACK_GPTQ ? piece(out, ts, stem, ".g_idx") : NULL;
    zb_words w = {.layout = p->method == ZB_PACK_AWQ ? ZB_WORDS_AWQ : ZB_WORDS_GPTQ,
                  .bits = p->bits,
                  .rows = s->shape[0],
                  .cols = s->shape[1]};
    w.group_size = p->group_size == 0 || p->group_size > w.cols ? w.cols : p->group_size;
    if (scales == NULL)
        return missing(out, stem, ".scales", err);
    if (zeros == NULL && (p->method == ZB_PACK_GPTQ || p->zero_point))
        return missing(out, stem, ".qzeros", err);
    zamba_status st = check_type(numbers, "I32", err);
    if (st == ZAMBA_OK && p->dynamic)
        st = infer(out, &w, scales, err);
    if (st != ZAMBA_OK)
        return st;
    const int awq = p->method == ZB_PACK_AWQ;
    if (w.rows % 32 * w.bits % 32 != 0 || (!awq && w.cols % 32 * w.bits % 32 != 0))
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %s: a matrix of [%zu, %zu] does not fill words of %u bits",
                       numbers->file, numbers->name, w.rows, w.cols, w.bits);
    const size_t row_words = w.rows / 32 * w.bits + w.rows % 32 * w.bits / 32;
    const size_t groups = p->dynamic ? scales->shape[0] : (w.cols + w.group_size - 1) / w.group_size;
    st = awq ? check_shape2(numbers, w.cols, row_words, err)
             : check_shape2(numbers, w.cols / 32 * w.bits + w.cols % 32 * w.bits / 32, w.rows, err);
    if (st == ZAMBA_OK)
        st = check_shape2(scales, groups, w.rows, err);
    if (st == ZAMBA_OK && !scales->known)
        st = check_type(scales, "F16", err);
    if (st == ZAMBA_OK && zeros != NULL)
        st = check_type(zeros, "I32", err);
    if (st == ZAMBA_OK && zeros != NULL)
        st = check_shape2(zeros, groups, row_words, err);
    if (st == ZAMBA_OK && out->g_idx != NULL)
        st = check_count(out->g_idx, "I32", w.cols, err);
    w.q = numbers->data;
    w.zeros = zeros != NULL ? zeros->data : NULL;
    w.scales = scales->data;
    w.scale_type = scales->dtype;
    if (p->carry && w.bits != 3)
        w.zero_carry = w.bits == 2 ? 0x55555555u : w.bits == 4 ? 0x11111111u : 0x01010101u;
    else if (p->method == ZB_PACK_GPTQ && !p->v2)
        w.zero_offset = 1;
    w.zero_wrap = p->carry;
    out->words = w;
    return st;
}

/* ---- bitsandbytes ---- */

static zamba_status state_size(const zb_tensor *state, const json_t *root, const char *key, size_t least, size_t *out,
                               zamba_error *err)
{
    const json_t *v = json_object_get(root, key);
    if (!json_is_integer(v) || json_integer_value(v) < (json_int_t)least ||
        json_integer_value(v) > (json_int_t)MOST_BLOCK)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s: %s is no whole number from %zu to %zu", state->file,
                       state->name, key, least, MOST_BLOCK);
    *out = (size_t)json_integer_value(v);
    return ZAMBA_OK;
}

static int same_text(const json_t *v, const char *text)
{
    return json_is_string(v) && strcmp(json_string_value(v), text) == 0;
}

/* What the JSON beside a matrix says. */
static zamba_status read_state(zb_packed *p, const zb_tensor *state, const zb_spec *s, zamba_error *err)
{
    json_t *root = NULL;
    char place[MOST_NAME + 8];
    snprintf(place, sizeof place, "tensor %s", state->name);
    zamba_status st = check_type(state, "U8", err);
    if (st == ZAMBA_OK)
        st = zb_json_parse(&root, state->data, state->bytes, place, zb_json_small, err);
    if (st != ZAMBA_OK)
        return st;
    const char *type = ends_with(state->name, "fp4") ? "fp4" : "nf4";
    const json_t *shape = json_object_get(root, "shape"), *offset = json_object_get(root, "nested_offset"),
                 *dtype = json_object_get(root, "dtype"), *nested_dtype = json_object_get(root, "nested_dtype");
    if (!json_is_object(root))
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s is no JSON object", state->file, state->name);
    else if (!same_text(json_object_get(root, "quant_type"), type))
        st = zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %s: quant_type is not %s", state->file, state->name, type);
    else if (json_array_size(shape) != 2 || !json_is_integer(json_array_get(shape, 0)) ||
             !json_is_integer(json_array_get(shape, 1)) ||
             json_integer_value(json_array_get(shape, 0)) != (json_int_t)s->shape[0] ||
             json_integer_value(json_array_get(shape, 1)) != (json_int_t)s->shape[1])
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s: the shape in it is not [%zu, %zu]", state->file, state->name,
                     s->shape[0], s->shape[1]);
    else
        st = state_size(state, root, "blocksize", 2, &p->blocksize, err);
    if (st == ZAMBA_OK && p->blocksize % 2 != 0)
        st = zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %s: blocksize is %zu, wanted an even one", state->file,
                     state->name, p->blocksize);
    if (st == ZAMBA_OK && p->nested != NULL) {
        st = state_size(state, root, "nested_blocksize", 1, &p->nested_blocksize, err);
        p->nested_offset = (float)json_number_value(offset);
        if (st == ZAMBA_OK && (!json_is_number(offset) || !isfinite(p->nested_offset)))
            st = zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s: nested_offset is no finite number", state->file,
                         state->name);
        if (st == ZAMBA_OK && nested_dtype != NULL && !same_text(nested_dtype, "float32"))
            st = zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %s: nested_dtype is not float32", state->file,
                         state->name);
    }
    /* FP4 fits no blocks: then in the type that it was made from, as bitsandbytes gives it back */
    if (strcmp(type, "fp4") == 0 && same_text(dtype, "bfloat16"))
        p->kept_as = ZB_BF16;
    else if (strcmp(type, "fp4") == 0 && same_text(dtype, "float16"))
        p->kept_as = ZB_F16;
    json_decref(root);
    return st;
}

static zamba_status find_bnb4(zb_packed *out, const zb_tensors *ts, const zb_tensor *state, const zb_spec *s,
                              zamba_error *err)
{
    const zb_tensor *numbers = out->pieces[0];
    const size_t n = s->shape[0] * s->shape[1];
    out->pieces[out->n_pieces++] = state;
    out->absmax = piece(out, ts, numbers->name, ".absmax");
    out->table = piece(out, ts, numbers->name, ".quant_map");
    out->nested = piece(out, ts, numbers->name, ".nested_absmax");
    out->nested_table = piece(out, ts, numbers->name, ".nested_quant_map");
    if (out->absmax == NULL || out->table == NULL)
        return missing(out, numbers->name, out->absmax == NULL ? ".absmax" : ".quant_map", err);
    if (out->nested == NULL && (out->nested_table != NULL || strcmp(out->absmax->dtype_name, "U8") == 0))
        return missing(out, numbers->name, ".nested_absmax", err);
    if (out->nested != NULL && out->nested_table == NULL)
        return missing(out, numbers->name, ".nested_quant_map", err);
    zamba_status st = read_state(out, state, s, err);
    if (st == ZAMBA_OK && numbers->bytes != (n + 1) / 2) /* in bytes, or in numbers of another type made of them */
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s has %zu bytes, a matrix of [%zu, %zu] in 4 bits wants %zu",
                     numbers->file, numbers->name, numbers->bytes, s->shape[0], s->shape[1], (n + 1) / 2);
    if (st != ZAMBA_OK)
        return st;
    const size_t n_blocks = (n + out->blocksize - 1) / out->blocksize;
    st = check_count(out->absmax, out->nested != NULL ? "U8" : "F32", n_blocks, err);
    if (st == ZAMBA_OK)
        st = check_count(out->table, "F32", 16, err);
    if (st == ZAMBA_OK && out->nested != NULL)
        st = check_count(out->nested, "F32", (n_blocks + out->nested_blocksize - 1) / out->nested_blocksize, err);
    if (st == ZAMBA_OK && out->nested != NULL)
        st = check_count(out->nested_table, "F32", 256, err);
    return st;
}

static zamba_status find_bnb8(zb_packed *out, const zb_tensors *ts, const char *stem, const zb_spec *s,
                              zamba_error *err)
{
    const zb_tensor *numbers = out->pieces[0], *format = piece(out, ts, stem, ".weight_format");
    zamba_status st = check_type(numbers, "I8", err);
    if (st == ZAMBA_OK)
        st = check_shape2(numbers, s->shape[0], s->shape[1], err);
    if (st == ZAMBA_OK)
        st = check_count(out->greatest, "F32", s->shape[0], err);
    if (st == ZAMBA_OK && format != NULL)
        st = check_count(format, "U8", 1, err);
    if (st == ZAMBA_OK && format != NULL && *(const unsigned char *)format->data != 0)
        st = zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %s is %u, wanted 0 (rows; others are for one kind of GPU)",
                     format->file, format->name, *(const unsigned char *)format->data);
    return st;
}

static zamba_status find_bnb(zb_packed *out, const zb_tensors *ts, const zb_tensor *numbers, const zb_spec *s,
                             zamba_error *err)
{
    static const char *const states[] = {".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"};
    char name[MOST_NAME];
    start(out, ZB_PACK_BNB, numbers, s);
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s%s", numbers->name, states[i]);
        const zb_tensor *state = zb_tensors_find(ts, name);
        if (state != NULL)
            return find_bnb4(out, ts, state, s, err);
    }
    snprintf(name, sizeof name, "%.*s", (int)(strlen(numbers->name) - strlen(".weight")), numbers->name);
    out->greatest = piece(out, ts, name, ".SCB");
    if (out->greatest != NULL)
        return find_bnb8(out, ts, name, s, err);
    out->n_pieces = 0; /* plain, or nothing that is known: then its type says so */
    return ZAMBA_OK;
}

zamba_status zb_packed_find(zb_packed *out, const zb_packing *p, const zb_tensors *ts, const zb_tensor *numbers,
                            const zb_spec *s, zamba_error *err)
{
    *out = (zb_packed){0};
    if (s->n_dims != 2 || strlen(numbers->name) > MOST_NAME - 64)
        return ZAMBA_OK;
    return p->method == ZB_PACK_BNB ? find_bnb(out, ts, numbers, s, err) : find_words(out, p, ts, numbers, s, err);
}

const zb_tensor *zb_packed_difference(const zb_packed *a, const zb_packed *b)
{
    for (int i = 0; i < b->n_pieces; i++) {
        const zb_tensor *x = a->pieces[i], *y = b->pieces[i];
        if (i >= a->n_pieces || x->bytes != y->bytes || strcmp(x->dtype_name, y->dtype_name) != 0 ||
            memcmp(x->data, y->data, x->bytes) != 0)
            return y;
    }
    return a->n_pieces > b->n_pieces ? b->pieces[0] : NULL;
}

int zb_packed_idle_bias(const zb_tensors *ts, const zb_tensor *t)
{
    char name[MOST_NAME];
    const unsigned char *data = t->data;
    unsigned char any = 0;
    if (!ends_with(t->name, ".bias") || strlen(t->name) >= sizeof name - 8)
        return 0;
    snprintf(name, sizeof name, "%.*s.qweight", (int)(strlen(t->name) - strlen(".bias")), t->name);
    for (size_t i = 0; i < t->bytes; i++)
        any |= data[i];
    return any == 0 && zb_tensors_find(ts, name) != NULL;
}

/* ---- making ---- */

static zamba_status take(void **out, const zb_packed *p, size_t bytes, zamba_error *err)
{
    *out = zb_alloc_aligned(bytes);
    return *out != NULL ? ZAMBA_OK : zb_fail_memory(err, p->tensor.name, bytes);
}

/* Memory for the matrix as `type`, which the tensor says from now on. */
static zamba_status take_matrix(zb_packed *p, zb_dtype type, const char *shown, void **data, zamba_error *err)
{
    zb_tensor *t = &p->tensor;
    t->dtype = type;
    t->bytes = t->shape[0] * zb_row_bytes(type, t->shape[1]);
    snprintf(t->dtype_name, sizeof t->dtype_name, "%s", shown);
    return take(data, p, t->bytes, err);
}

static void say_kept(const zb_packed *p, zb_dtype type, const char *why)
{
    zb_log(ZAMBA_LOG_INFO, "%s: %s is kept in %s: %s", p->tensor.file, p->tensor.name, zb_dtype_name(type), why);
}

/* All finite? *as_f16: an f16 holds each of them. */
static zamba_status check_scales(const zb_tensor *t, zb_dtype type, int *as_f16, zamba_error *err)
{
    const size_t n = elements(t);
    float part[256];
    *as_f16 = 1;
    for (size_t i = 0; i < n; i += 256) {
        const size_t some = n - i < 256 ? n - i : 256;
        zb_to_f32(part, (const char *)t->data + zb_row_bytes(type, i), type, some);
        for (size_t k = 0; k < some; k++) {
            if (!isfinite(part[k]))
                return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s: number %zu is no finite number", t->file, t->name,
                               i + k);
            *as_f16 &= type == ZB_F16 || zb_f16_f32(zb_f32_f16(part[k])) == part[k];
        }
    }
    return ZAMBA_OK;
}

/* g_idx as numbers in `group` [cols], each below n_groups. *natural: groups of group_size follow one another. */
static zamba_status read_groups(uint32_t *group, const zb_packed *p, size_t n_groups, int *natural, zamba_error *err)
{
    const zb_tensor *t = p->g_idx;
    uint32_t any = 0;
    *natural = 1;
    memcpy(group, t->data, p->words.cols * sizeof *group);
    for (size_t k = 0; k < p->words.cols; k++) {
        if (group[k] >= n_groups)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s: column %zu is of group %d, wanted 0 to %zu", t->file,
                           t->name, k, (int)group[k], n_groups - 1);
        *natural &= group[k] == k / p->words.group_size;
        any |= group[k];
    }
    *natural |= any == 0; /* as packers left it that knew no order */
    return ZAMBA_OK;
}

static int is_identity(const uint32_t *order, size_t n)
{
    size_t k = 0;
    while (k < n && order[k] == k)
        k++;
    return k == n;
}

/* Columns sorted by their group; `at` [n_groups + 1] is scratch. 1 if every 32 of them are of one group. */
static int sort_columns(uint32_t *order, uint32_t *at, const uint32_t *group, size_t cols, size_t n_groups)
{
    memset(at, 0, (n_groups + 1) * sizeof *at);
    for (size_t k = 0; k < cols; k++)
        at[group[k] + 1]++;
    for (size_t g = 0; g < n_groups; g++) {
        if (at[g + 1] % 32 != 0)
            return 0;
        at[g + 1] += at[g];
    }
    for (size_t k = 0; k < cols; k++)
        order[at[group[k]]++] = (uint32_t)k;
    return 1;
}

static zamba_status make_words(zb_packed *p, void **data, uint32_t **order, zamba_error *err)
{
    zb_words w = p->words;
    const size_t n_groups = p->scales->shape[0];
    uint32_t *group = NULL;
    int as_f16, natural = 1, whole = w.cols % 32 == 0 && (w.group_size % 32 == 0 || n_groups == 1);
    zamba_status st = check_scales(p->scales, w.scale_type, &as_f16, err);
    if (st == ZAMBA_OK && p->g_idx != NULL) {
        group = malloc((w.cols + n_groups + 1) * sizeof *group);
        st = group == NULL ? zb_fail_memory(err, p->tensor.name, (w.cols + n_groups + 1) * sizeof *group)
                           : read_groups(group, p, n_groups, &natural, err);
    }
    if (st == ZAMBA_OK && !natural) {
        w.group_of = group;
        st = take((void **)order, p, w.cols * sizeof **order, err);
        whole = st == ZAMBA_OK && w.cols % 32 == 0 && sort_columns(*order, group + w.cols, group, w.cols, n_groups);
    }
    if (*order != NULL && (!whole || !as_f16 || is_identity(*order, w.cols))) {
        zb_free_aligned(*order);
        *order = NULL;
    }
    if (st == ZAMBA_OK && whole && as_f16) {
        char shown[12];
        snprintf(shown, sizeof shown, "%s-%u", p->method == ZB_PACK_AWQ ? "AWQ" : "GPTQ", w.bits);
        st = take_matrix(p, zb_words_block(&w), shown, data, err);
        if (st == ZAMBA_OK)
            zb_words_to_blocks(*data, &w, *order);
    } else if (st == ZAMBA_OK) {
        say_kept(p, ZB_F32, whole ? "its scales are no f16" : "its groups are no multiples of 32 columns");
        st = take_matrix(p, ZB_F32, "F32", data, err);
        if (st == ZAMBA_OK)
            zb_words_to_f32(*data, &w);
    }
    free(group);
    return st;
}

/* n numbers of an F32 tensor at any address. */
static zamba_status load_f32(float *to, const zb_tensor *t, size_t n, zamba_error *err)
{
    memcpy(to, t->data, n * sizeof *to);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(to[i]))
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s: number %zu is no finite number", t->file, t->name, i);
    return ZAMBA_OK;
}

static zamba_status load_absmax(float *to, const zb_packed *p, size_t n, zamba_error *err)
{
    float map[256];
    if (p->nested == NULL)
        return load_f32(to, p->absmax, n, err);
    const size_t n_nested = (n + p->nested_blocksize - 1) / p->nested_blocksize;
    float *nested = malloc(n_nested * sizeof *nested);
    if (nested == NULL)
        return zb_fail_memory(err, p->tensor.name, n_nested * sizeof *nested);
    zamba_status st = load_f32(map, p->nested_table, 256, err);
    if (st == ZAMBA_OK)
        st = load_f32(nested, p->nested, n_nested, err);
    if (st == ZAMBA_OK)
        zb_absmax_unnest(to, p->absmax->data, n, map, nested, p->nested_blocksize, p->nested_offset);
    for (size_t i = 0; i < n && st == ZAMBA_OK; i++)
        if (!isfinite(to[i]))
            st = zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s: number %zu times its factor is no finite number",
                         p->absmax->file, p->absmax->name, i);
    free(nested);
    return st;
}

/* Greatest magnitude of n numbers. */
static float greatest_of(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* What no blocks hold: a row at a time, then rounded to 16 bits if `type` is such. */
static zamba_status make_nibbles(zb_packed *p, const float *table, const float *absmax, float most, void **data,
                                 zamba_error *err)
{
    const size_t rows = p->tensor.shape[0], cols = p->tensor.shape[1];
    const zb_dtype type = most > 65504.0f ? ZB_F32 : p->kept_as;
    float *all;
    say_kept(p, type, "its blocks are not of NF4, or not within rows");
    zamba_status st = take_matrix(p, type, zb_dtype_name(type), data, err);
    if (st != ZAMBA_OK)
        return st;
    if (type == ZB_F32) {
        zb_nibbles_to_f32(*data, p->pieces[0]->data, rows * cols, table, absmax, p->blocksize);
        return ZAMBA_OK;
    }
    st = take((void **)&all, p, rows * cols * sizeof *all, err);
    if (st != ZAMBA_OK)
        return st;
    zb_nibbles_to_f32(all, p->pieces[0]->data, rows * cols, table, absmax, p->blocksize);
    uint16_t *to = *data;
    for (size_t i = 0; i < rows * cols; i++)
        to[i] = type == ZB_BF16 ? zb_f32_bf16(all[i]) : zb_f32_f16(all[i]);
    zb_free_aligned(all);
    return ZAMBA_OK;
}

static zamba_status make_bnb4(zb_packed *p, void **data, zamba_error *err)
{
    const size_t rows = p->tensor.shape[0], cols = p->tensor.shape[1],
                 n_blocks = (rows * cols + p->blocksize - 1) / p->blocksize;
    float table[16], *absmax = malloc(n_blocks * sizeof *absmax);
    if (absmax == NULL)
        return zb_fail_memory(err, p->tensor.name, n_blocks * sizeof *absmax);
    zamba_status st = load_absmax(absmax, p, n_blocks, err);
    if (st == ZAMBA_OK)
        st = load_f32(table, p->table, 16, err);
    const float most = st == ZAMBA_OK ? greatest_of(absmax, n_blocks) * greatest_of(table, 16) : 0;
    if (st == ZAMBA_OK && !isfinite(most))
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s: a number times its factor is no finite number",
                     p->absmax->file, p->absmax->name);
    if (st == ZAMBA_OK && memcmp(table, zb_nf4_values, sizeof table) == 0 && cols % 64 == 0 && p->blocksize % 64 == 0) {
        st = take_matrix(p, ZB_NF4, "NF4", data, err);
        if (st == ZAMBA_OK)
            zb_nf4_to_blocks(*data, p->pieces[0]->data, rows * cols, absmax, p->blocksize);
    } else if (st == ZAMBA_OK)
        st = make_nibbles(p, table, absmax, most, data, err);
    free(absmax);
    return st;
}

/* An f16 is exact enough for the one factor of a row where it is no denormal: 11 bits beside the 8 of the numbers. */
static int nearly_f16(const float *greatest, size_t n)
{
    int all = 1;
    for (size_t i = 0; i < n; i++) {
        const float step = greatest[i] * ZB_INT8_STEP, error = zb_f16_f32(zb_f32_f16(step)) - step;
        all &= fabsf(error) <= 0x1p-11f * fabsf(step);
    }
    return all;
}

static zamba_status make_bnb8(zb_packed *p, void **data, zamba_error *err)
{
    const size_t rows = p->tensor.shape[0], cols = p->tensor.shape[1];
    float *greatest = malloc(rows * sizeof *greatest);
    if (greatest == NULL)
        return zb_fail_memory(err, p->tensor.name, rows * sizeof *greatest);
    zamba_status st = load_f32(greatest, p->greatest, rows, err);
    if (st == ZAMBA_OK && !(greatest_of(greatest, rows) <= 0x1p120f))
        st = zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s: a factor is too large", p->greatest->file, p->greatest->name);
    if (st == ZAMBA_OK && cols % 32 == 0 && nearly_f16(greatest, rows)) {
        st = take_matrix(p, ZB_Q8_0, "INT8", data, err);
        if (st == ZAMBA_OK)
            zb_int8_to_blocks(*data, p->pieces[0]->data, rows, cols, greatest);
    } else if (st == ZAMBA_OK) {
        say_kept(p, ZB_F32, cols % 32 == 0 ? "its factors are no f16" : "its rows are no multiples of 32");
        st = take_matrix(p, ZB_F32, "F32", data, err);
        if (st == ZAMBA_OK)
            zb_int8_to_f32(*data, p->pieces[0]->data, rows, cols, greatest);
    }
    free(greatest);
    return st;
}

zamba_status zb_packed_make(zb_packed *p, zamba_error *err)
{
    void *data = NULL;
    uint32_t *order = NULL;
    zamba_status st;
    if (p->method != ZB_PACK_BNB)
        st = make_words(p, &data, &order, err);
    else
        st = p->greatest != NULL ? make_bnb8(p, &data, err) : make_bnb4(p, &data, err);
    if (st != ZAMBA_OK) {
        zb_free_aligned(data);
        zb_free_aligned(order);
        return st;
    }
    p->tensor.data = data;
    p->order = order;
    return ZAMBA_OK;
}
