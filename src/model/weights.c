/* weights.c — binding of the tensor list to a mapped checkpoint: ties, shapes, types, f32 copies. */
#include "model/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"

/* A tensor of a shared block: which block, and the part of its name after the layer that it was saved under. */
typedef struct shared_name {
    const char *suffix;
    int32_t block, layer;
    const zb_tensor *tensor;
} shared_name;

typedef struct binder {
    zb_weights *w;
    zb_plan *plan;
    const char *folder;
    unsigned char *used; /* [tensors.n]                         */
    shared_name *shared; /* [n_shared], sorted by suffix, block, layer */
    size_t n_shared;
    zamba_error *err;
} binder;

/* ---- finding ---- */

static zamba_status check_shape(const zb_tensor *t, const zb_spec *s, zamba_error *err)
{
    char found[96], wanted[96];
    int same = t->n_dims == s->n_dims;
    for (int i = 0; i < t->n_dims && same; i++)
        same = t->shape[i] == s->shape[i];
    if (!same)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: tensor %s has shape %s, config.json wants %s", t->file, t->name,
                       zb_shape_text(found, sizeof found, t->shape, t->n_dims),
                       zb_shape_text(wanted, sizeof wanted, s->shape, s->n_dims));
    if (!t->known || (t->dtype >= ZB_N_FLOATS && !s->quantizable))
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: tensor %s is %s, wanted F32, F16 or BF16%s", t->file, t->name,
                       t->known ? zb_dtype_name(t->dtype) : t->dtype_name,
                       s->quantizable ? ", or a block type of GGUF" : "");
    return ZAMBA_OK;
}

static zamba_status differ(const zb_tensor *a, const zb_tensor *b, zamba_error *err)
{
    return zb_fail(err, ZAMBA_E_MISMATCH,
                   "%s: tensors %s and %s are tied but differ; which one is right cannot be told (was the model saved "
                   "with broken ties?)",
                   b->file, a->name, b->name);
}

static zamba_status check_equal(const zb_tensor *a, const zb_tensor *b, zamba_error *err)
{
    if (a->dtype == b->dtype && a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0)
        return ZAMBA_OK;
    return differ(a, b, err);
}

static const zb_tensor *take(binder *b, const char *name)
{
    const zb_tensor *t = zb_tensors_find(&b->w->tensors, name);
    if (t != NULL)
        b->used[t - b->w->tensors.items] = 1;
    return t;
}

static int by_suffix(const void *a, const void *b)
{
    const shared_name *x = a, *y = b;
    const int order = strcmp(x->suffix, y->suffix);
    if (order != 0)
        return order;
    return x->block != y->block ? (x->block > y->block) - (x->block < y->block)
                                : (x->layer > y->layer) - (x->layer < y->layer);
}

/* "model.layers.<number>.shared_...": the hybrid layer and where ".shared_" begins, or 0. */
static int split_name(const zb_plan *p, const char *name, shared_name *out)
{
    static const char start[] = "model.layers.", middle[] = ".shared_";
    if (strncmp(name, start, sizeof start - 1) != 0)
        return 0;
    const char *digit = name + sizeof start - 1;
    size_t layer = 0;
    if (*digit < '0' || *digit > '9' || (*digit == '0' && digit[1] != '.'))
        return 0;
    for (; *digit >= '0' && *digit <= '9' && layer < p->config.n_layers; digit++)
        layer = 10 * layer + (size_t)(*digit - '0');
    if (layer >= p->config.n_layers || p->layers[layer].shared < 0 || strncmp(digit, middle, sizeof middle - 1) != 0)
        return 0;
    *out = (shared_name){.suffix = digit, .block = p->layers[layer].shared, .layer = (int32_t)layer};
    return 1;
}

/* A shared tensor may stand under any layer that uses its block, once or several times: list them all, so that each is
 * found at once however many layers there are. */
static zamba_status list_shared(binder *b)
{
    const zb_tensors *ts = &b->w->tensors;
    b->shared = calloc(ts->n + 1, sizeof *b->shared);
    if (b->shared == NULL)
        return zb_fail_memory(b->err, b->folder, (ts->n + 1) * sizeof *b->shared);
    for (size_t i = 0; i < ts->n; i++)
        if (split_name(b->plan, ts->items[i].name, &b->shared[b->n_shared]))
            b->shared[b->n_shared++].tensor = &ts->items[i];
    qsort(b->shared, b->n_shared, sizeof *b->shared, by_suffix);
    return ZAMBA_OK;
}

/* The first tensor of that name in a block, or the place where it would be. */
static size_t shared_at(const binder *b, const char *suffix, int32_t block)
{
    const shared_name wanted = {.suffix = suffix, .block = block, .layer = -1};
    size_t at = 0, end = b->n_shared;
    while (at < end) { /* the first that is not before it */
        const size_t mid = (at + end) / 2;
        if (by_suffix(&b->shared[mid], &wanted) < 0)
            at = mid + 1;
        else
            end = mid;
    }
    return at;
}

static int is_shared(const binder *b, size_t at, const char *suffix, int32_t block)
{
    return at < b->n_shared && b->shared[at].block == block && strcmp(b->shared[at].suffix, suffix) == 0;
}

static zamba_status find_shared(binder *b, const zb_spec *s, const zb_tensor **out)
{
    const char *suffix = s->name + s->suffix;
    zamba_status st = ZAMBA_OK;
    for (size_t at = shared_at(b, suffix, s->block); is_shared(b, at, suffix, s->block) && st == ZAMBA_OK; at++) {
        const zb_tensor *t = b->shared[at].tensor;
        b->used[t - b->w->tensors.items] = 1;
        st = check_shape(t, s, b->err);
        if (st == ZAMBA_OK && *out != NULL)
            st = check_equal(*out, t, b->err);
        else if (st == ZAMBA_OK)
            *out = t;
    }
    return st;
}

static zamba_status rename_spec(zb_spec *s, const char *name, zamba_error *err)
{
    char *copy = strdup(name);
    if (copy == NULL)
        return zb_fail_memory(err, name, strlen(name));
    free(s->name);
    s->name = copy;
    s->suffix = (size_t)(strstr(copy, ".shared_") - copy);
    return ZAMBA_OK;
}

/* One place where s may stand packed. */
static zamba_status take_packed(binder *b, const zb_spec *s, const zb_tensor *numbers, zb_packed *out)
{
    zb_packed one;
    zamba_status st = zb_packed_find(&one, &b->plan->config.packing, &b->w->tensors, numbers, s, b->err);
    if (st != ZAMBA_OK || one.n_pieces == 0)
        return st;
    for (int i = 0; i < one.n_pieces; i++)
        b->used[one.pieces[i] - b->w->tensors.items] = 1;
    const zb_tensor *other = out->n_pieces > 0 ? zb_packed_difference(out, &one) : NULL;
    if (other != NULL)
        return differ(out->pieces[0], other, b->err);
    if (out->n_pieces == 0)
        *out = one;
    return ZAMBA_OK;
}

static zamba_status find_packed(binder *b, zb_spec *s, zb_packed *out)
{
    char name[256];
    zamba_status st = ZAMBA_OK;
    if (!s->quantizable || s->role == ZB_EMBED || !zb_packed_name(name, sizeof name, &b->plan->config.packing, s->name))
        return ZAMBA_OK;
    if (s->block >= 0) {
        const char *suffix = name + s->suffix;
        for (size_t at = shared_at(b, suffix, s->block); is_shared(b, at, suffix, s->block) && st == ZAMBA_OK; at++)
            st = take_packed(b, s, b->shared[at].tensor, out);
    } else if (zb_tensors_find(&b->w->tensors, name) != NULL)
        st = take_packed(b, s, zb_tensors_find(&b->w->tensors, name), out);
    if (st == ZAMBA_OK && out->n_pieces > 0 && s->block >= 0) { /* the layer that it was found under */
        const char *found = out->pieces[0]->name;
        const size_t layer = (size_t)(strstr(found, ".shared_") - found);
        snprintf(name, sizeof name, "%.*s%s", (int)layer, found, s->name + s->suffix);
        if (strcmp(name, s->name) != 0)
            st = rename_spec(s, name, b->err);
    }
    return st;
}

static zamba_status find(binder *b, zb_spec *s, zb_packed *packed, const zb_tensor **out)
{
    zamba_status st = packed != NULL ? find_packed(b, s, packed) : ZAMBA_OK;
    *out = NULL;
    if (st != ZAMBA_OK)
        return st;
    if (packed != NULL && packed->n_pieces > 0) {
        *out = &packed->tensor;
        return ZAMBA_OK;
    }
    if (s->block >= 0) {
        st = find_shared(b, s, out);
        if (st == ZAMBA_OK && *out != NULL && strcmp((*out)->name, s->name) != 0)
            st = rename_spec(s, (*out)->name, b->err);
    } else {
        *out = take(b, s->name);
        if (*out != NULL)
            st = check_shape(*out, s, b->err);
    }
    if (st == ZAMBA_OK && *out == NULL) {
        char wanted[96];
        st = zb_fail(b->err, ZAMBA_E_FORMAT, "%s: tensor %s %s is missing%s", b->folder, s->name,
                     zb_shape_text(wanted, sizeof wanted, s->shape, s->n_dims),
                     s->block >= 0 ? " (and under every other layer that shares it)" : "");
    }
    return st;
}

/* A head that is saved although it is tied: fine if it is the embedding again. */
static zamba_status check_spare_head(binder *b)
{
    if (!b->plan->config.tied_head)
        return ZAMBA_OK;
    const zb_tensor *head = take(b, "lm_head.weight"),
                    *embed = zb_tensors_find(&b->w->tensors, "model.embed_tokens.weight");
    if (head == NULL || embed == NULL)
        return ZAMBA_OK;
    if (head->dtype == embed->dtype && head->bytes == embed->bytes && memcmp(head->data, embed->data, head->bytes) == 0)
        return ZAMBA_OK;
    return zb_fail(b->err, ZAMBA_E_MISMATCH,
                   "%s: lm_head.weight differs from model.embed_tokens.weight, but config.json ties them "
                   "(tie_word_embeddings should be false?)",
                   head->file);
}

static int ignorable(const char *name)
{
    static const char end[] = "rotary_emb.inv_freq"; /* a buffer that older writers saved; recomputed here */
    const size_t n = strlen(name), m = sizeof end - 1;
    return n >= m && strcmp(name + n - m, end) == 0;
}

static zamba_status check_extra(const binder *b)
{
    const zb_tensors *ts = &b->w->tensors;
    size_t extra = 0, first = 0;
    for (size_t i = 0; i < ts->n; i++)
        if (!b->used[i] && !ignorable(ts->items[i].name) &&
            !(b->w->packed != NULL && zb_packed_idle_bias(ts, &ts->items[i])))
            if (extra++ == 0)
                first = i;
    if (extra == 0)
        return ZAMBA_OK;
    char shape[96];
    const zb_tensor *t = &ts->items[first];
    return zb_fail(b->err, ZAMBA_E_FORMAT,
                   "%s: tensor %.120s %s is not part of this model%s (does config.json belong to these weights?)",
                   t->file, t->name, zb_shape_text(shape, sizeof shape, t->shape, t->n_dims),
                   extra > 1 ? ", nor are others" : "");
}

/* ---- placing ---- */

zamba_status zb_weights_keep(zb_weights *w, void *p, size_t bytes, zamba_error *err)
{
    if (p != NULL && w->n_copies == w->copy_capacity) {
        const size_t capacity = w->copy_capacity == 0 ? 256 : 2 * w->copy_capacity;
        void **copies = realloc(w->copies, capacity * sizeof *copies);
        if (copies == NULL) {
            zb_free_aligned(p);
            p = NULL;
        } else {
            w->copies = copies;
            w->copy_capacity = capacity;
        }
    }
    if (p == NULL)
        return zb_fail_memory(err, "weights", bytes);
    w->copies[w->n_copies++] = p;
    w->copy_bytes += bytes;
    return ZAMBA_OK;
}

static zamba_status to_mat(binder *b, zb_mat *m, const zb_tensor *t, const zb_spec *s)
{
    *m = (zb_mat){.data = t->data, .dtype = t->dtype};
    m->cols = s->shape[s->n_dims - 1];
    m->rows = zb_spec_elements(s) / m->cols;
    m->ld = m->cols;
    m->order = b->w->packed != NULL ? b->w->packed[s - b->plan->specs].order : NULL;
    b->w->in_blocks |= t->dtype >= ZB_N_FLOATS;
    b->w->ordered |= m->order != NULL;
    if (t->dtype >= ZB_N_FLOATS || (uintptr_t)t->data % zb_dtype_bytes(t->dtype) == 0)
        return ZAMBA_OK;
    /* a file whose header leaves its data at an odd address: rare, so a copy is good enough */
    void *p = zb_alloc_aligned(t->bytes);
    zamba_status st = zb_weights_keep(b->w, p, t->bytes, b->err);
    if (st == ZAMBA_OK) {
        memcpy(p, t->data, t->bytes);
        m->data = p;
    }
    return st;
}

/* What stands in a vector's copy: f32, A = -exp(A_log), and conv1d.weight [channels, 1, K] as [K, channels]. */
static void fill(float *p, const zb_tensor *t, const zb_spec *s)
{
    const size_t n = zb_spec_elements(s), C = s->shape[0], K = n / C;
    if (s->role != ZB_CONV)
        zb_to_f32(p, t->data, t->dtype, n);
    for (size_t i = 0; s->role == ZB_A_LOG && !s->is_a && i < n; i++)
        p[i] = -expf(p[i]);
    for (size_t c = 0; s->role == ZB_CONV && c < C; c++)
        for (size_t k = 0; k < K; k++)
            zb_to_f32(&p[k * C + c], (const char *)t->data + zb_row_bytes(t->dtype, c * K + k), t->dtype, 1);
}

static zamba_status to_vector(binder *b, const float **out, const zb_tensor *t, const zb_spec *s)
{
    const size_t n = zb_spec_elements(s);
    float *p = zb_alloc_aligned(n * sizeof *p);
    zamba_status st = zb_weights_keep(b->w, p, n * sizeof *p, b->err);
    if (st != ZAMBA_OK)
        return st;
    fill(p, t, s);
    *out = p;
    return ZAMBA_OK;
}

void zb_weights_forget(zb_weights *w, const void *data, size_t bytes)
{
    for (size_t i = 0; i < w->tensors.n_files; i++)
        if (zb_file_forget(&w->tensors.files[i], data, bytes))
            w->forgotten_bytes += bytes;
}

static zamba_status make_packed(binder *b, zb_packed *p)
{
    zamba_status st = zb_packed_make(p, b->err);
    if (st != ZAMBA_OK)
        return st;
    uint32_t *order = (uint32_t *)(uintptr_t)p->order;
    st = zb_weights_keep(b->w, (void *)(uintptr_t)p->tensor.data, p->tensor.bytes, b->err);
    if (st == ZAMBA_OK && order != NULL)
        st = zb_weights_keep(b->w, order, p->tensor.shape[1] * sizeof *order, b->err);
    else
        zb_free_aligned(order);
    for (int i = 0; i < p->n_pieces && st == ZAMBA_OK; i++)
        zb_weights_forget(b->w, p->pieces[i]->data, p->pieces[i]->bytes);
    return st;
}

zb_mat *zb_weights_mat(zb_weights *w, const zb_spec *s)
{
    zb_mixer_weights *l = s->layer >= 0 ? &w->layers[s->layer] : NULL;
    zb_block_weights *k = s->block >= 0 ? &w->blocks[s->block] : NULL;
    zb_use_weights *u = s->use >= 0 ? &w->uses[s->use] : NULL;
    switch (s->role) {
    case ZB_EMBED:
        return &w->embed;
    case ZB_LM_HEAD:
        return &w->head;
    case ZB_IN_PROJ:
        return &l->in_proj;
    case ZB_OUT_PROJ:
        return &l->out_proj;
    case ZB_X_PROJ:
        return &l->x_proj;
    case ZB_DT_PROJ:
        return &l->dt_proj;
    case ZB_LINEAR:
        return &u->linear;
    case ZB_GATE_UP_ADAPTER_0:
    case ZB_GATE_UP_ADAPTER_1:
        return &u->gate_up_adapter[s->role - ZB_GATE_UP_ADAPTER_0];
    case ZB_Q_ADAPTER_0:
    case ZB_Q_ADAPTER_1:
        return &u->q_adapter[s->role - ZB_Q_ADAPTER_0];
    case ZB_K_ADAPTER_0:
    case ZB_K_ADAPTER_1:
        return &u->k_adapter[s->role - ZB_K_ADAPTER_0];
    case ZB_V_ADAPTER_0:
    case ZB_V_ADAPTER_1:
        return &u->v_adapter[s->role - ZB_V_ADAPTER_0];
    case ZB_Q:
        return &k->q;
    case ZB_K:
        return &k->k;
    case ZB_V:
        return &k->v;
    case ZB_O:
        return &k->o;
    case ZB_GATE_UP:
        return &k->gate_up;
    case ZB_GATE:
        return &k->gate;
    case ZB_UP:
        return &k->up;
    case ZB_DOWN:
        return &k->down;
    default:
        return NULL;
    }
}

zb_lora *zb_weights_lora(zb_weights *w, zb_role role, int32_t layer, int32_t use)
{
    zb_mixer_weights *l = layer >= 0 ? &w->layers[layer] : NULL;
    zb_use_weights *u = use >= 0 ? &w->uses[use] : NULL;
    switch (role) {
    case ZB_LM_HEAD:
        return &w->head_lora;
    case ZB_IN_PROJ:
        return &l->in_lora;
    case ZB_OUT_PROJ:
        return &l->out_lora;
    case ZB_LINEAR:
        return &u->linear_lora;
    case ZB_GATE_UP_ADAPTER_0:
    case ZB_GATE_UP_ADAPTER_1:
        return &u->gate_up_adapter_lora[role - ZB_GATE_UP_ADAPTER_0];
    case ZB_Q_ADAPTER_0:
    case ZB_Q_ADAPTER_1:
        return &u->qkv_adapter_lora[0][role - ZB_Q_ADAPTER_0];
    case ZB_K_ADAPTER_0:
    case ZB_K_ADAPTER_1:
        return &u->qkv_adapter_lora[1][role - ZB_K_ADAPTER_0];
    case ZB_V_ADAPTER_0:
    case ZB_V_ADAPTER_1:
        return &u->qkv_adapter_lora[2][role - ZB_V_ADAPTER_0];
    case ZB_Q:
    case ZB_K:
    case ZB_V:
        return &u->qkv_lora[role - ZB_Q];
    case ZB_O:
        return &u->o_lora;
    case ZB_GATE_UP:
        return &u->gate_up_lora;
    case ZB_GATE:
        return &u->gate_lora;
    case ZB_UP:
        return &u->up_lora;
    case ZB_DOWN:
        return &u->down_lora;
    default:
        return NULL;
    }
}

/* Where the pointer to a vector's copy stands. */
static const float **vector_of(zb_weights *w, const zb_spec *s)
{
    zb_mixer_weights *l = s->layer >= 0 ? &w->layers[s->layer] : NULL;
    zb_block_weights *k = s->block >= 0 ? &w->blocks[s->block] : NULL;
    switch (s->role) {
    case ZB_FINAL_NORM:
        return &w->final_norm;
    case ZB_INPUT_NORM:
        return &l->norm;
    case ZB_IN_PROJ_BIAS:
        return &l->in_bias;
    case ZB_OUT_PROJ_BIAS:
        return &l->out_bias;
    case ZB_CONV:
        return &l->conv;
    case ZB_CONV_BIAS:
        return &l->conv_bias;
    case ZB_A_LOG:
        return &l->A;
    case ZB_D:
        return &l->D;
    case ZB_DT_BIAS:
        return &l->dt_bias;
    case ZB_GATED_NORM:
        return &l->gated_norm;
    case ZB_ATTN_NORM:
        return &k->attn_norm;
    case ZB_FFN_NORM:
        return &k->ffn_norm;
    case ZB_GATE_UP_BIAS:
        return &k->gate_up_bias;
    case ZB_DOWN_BIAS:
        return &k->down_bias;
    default:
        return NULL;
    }
}

static zamba_status place(binder *b, const zb_tensor *t, const zb_spec *s)
{
    zb_mat *m = zb_weights_mat(b->w, s);
    return m != NULL ? to_mat(b, m, t, s) : to_vector(b, vector_of(b->w, s), t, s);
}

/* ---- the fingerprint: names, shapes and a sample of the bytes of every tensor, and what changes the arithmetic ----
 */

static uint64_t fingerprint(const zb_weights *w, const zb_plan *p)
{
    const zb_config *c = &p->config;
    const double numbers[] = {c->rope_theta, (double)c->dt_min, (double)c->dt_max, (double)c->norm_eps};
    /* the same tensors can be cut into heads and groups in several ways */
    const uint64_t sizes[] = {c->family,       (uint64_t)c->use_rope, c->act,          c->n_blocks,
                              c->n_heads,      c->n_kv_heads,         c->head_dim,     c->mamba_heads,
                              c->mamba_groups, c->mamba_state,        c->mamba_dt_rank};
    uint64_t h = zb_hash(numbers, sizeof numbers, 1);
    h = zb_hash(sizes, sizeof sizes, h);
    h = zb_hash(c->hybrid, c->n_layers, h);
    for (size_t i = 0; i < p->n_specs; i++) {
        const zb_tensor *t = w->bound[i];
        const zb_spec *s = &p->specs[i];
        const unsigned char *data = t->data;
        const size_t piece = t->bytes < 256 ? t->bytes : 256;
        /* shared tensors count by what they are, not by the layer they happened to be saved under */
        h = zb_hash(s->name + s->suffix, strlen(s->name + s->suffix), h);
        h = zb_hash(s->shape, sizeof s->shape, h + (uint64_t)s->block);
        h = zb_hash(data, piece, h);
        h = zb_hash(data + (t->bytes - piece) / 2, piece, h);
        h = zb_hash(data + t->bytes - piece, piece, h);
    }
    return h;
}

static zb_mat columns(const zb_mat *m, size_t first, size_t n)
{
    zb_mat part = *m;
    part.data = (const char *)m->data + zb_row_bytes(m->dtype, first);
    part.cols = n;
    return part;
}

/* Blocks of a type, and the runs of activations in 8 bits, may not let the columns be parted. */
static int divisible(const zb_mat *m, size_t n)
{
    return m->order == NULL && n % zb_dtype_block(m->dtype) == 0 && (m->dtype < ZB_N_FLOATS || n % ZB_Q8_RUN == 0);
}

static void split_halves(zb_block_weights *b, size_t hidden)
{
    const zb_mat *whole[] = {&b->q, &b->k, &b->v};
    b->halves = 1;
    for (int i = 0; i < 3; i++)
        b->halves &= divisible(whole[i], hidden);
    for (int i = 0; i < 3 && b->halves; i++) {
        b->x_half[i] = columns(whole[i], 0, hidden);
        b->x0_half[i] = columns(whole[i], hidden, whole[i]->cols - hidden);
    }
}

/* What follows from the matrices that were placed. */
static void settle(zb_weights *w, const zb_plan *plan)
{
    if (plan->config.tied_head)
        w->head = w->embed;
    for (size_t i = 0; i < plan->n_uses && i < plan->config.n_blocks; i++)
        split_halves(&w->blocks[i], plan->config.hidden_size);
}

static void free_copies(zb_weights *w)
{
    for (size_t i = 0; i < w->n_copies; i++)
        zb_free_aligned(w->copies[i]);
    w->n_copies = 0;
    w->copy_bytes = 0;
}

zamba_status zb_weights_rebind(zb_weights *w, zb_plan *plan, const zb_tensor *tensors, zamba_error *err)
{
    binder b = {.w = w, .plan = plan, .err = err};
    zamba_status st = ZAMBA_OK;
    free_copies(w);
    free(w->packed);
    w->packed = NULL;
    w->in_blocks = w->ordered = 0;
    for (size_t i = 0; i < plan->n_specs && st == ZAMBA_OK; i++) {
        w->bound[i] = &tensors[i];
        st = place(&b, w->bound[i], &plan->specs[i]);
    }
    if (st == ZAMBA_OK)
        settle(w, plan);
    return st;
}

void zb_weights_update(zb_weights *w, const zb_plan *plan, size_t i)
{
    const float **vector = vector_of(w, &plan->specs[i]);
    if (vector != NULL)
        fill((float *)(uintptr_t)*vector, w->bound[i], &plan->specs[i]);
}

zamba_status zb_weights_open(zb_weights *w, zb_plan *plan, zb_checkpoint *checkpoint, zamba_error *err)
{
    const zb_config *c = &plan->config;
    const char *folder = checkpoint->path;
    binder b = {.w = w, .plan = plan, .folder = folder, .err = err};
    *w = (zb_weights){0};
    zamba_status st = zb_checkpoint_tensors(checkpoint, plan, &w->tensors, err);
    if (st != ZAMBA_OK)
        return st;
    for (size_t i = 0; i < w->tensors.n_files; i++)
        zb_file_expect_all(&w->tensors.files[i]);
    b.used = calloc(w->tensors.n + 1, 1);
    w->bound = calloc(plan->n_specs, sizeof *w->bound);
    w->layers = calloc(c->n_layers, sizeof *w->layers);
    w->blocks = calloc(plan->n_uses + 1, sizeof *w->blocks); /* never more blocks than uses */
    w->uses = calloc(plan->n_uses + 1, sizeof *w->uses);
    if (b.used == NULL || w->bound == NULL || w->layers == NULL || w->blocks == NULL || w->uses == NULL)
        st = zb_fail_memory(err, folder, plan->n_specs * sizeof *w->bound);
    if (st == ZAMBA_OK && c->packing.method != ZB_PACK_NONE) {
        w->packed = calloc(plan->n_specs, sizeof *w->packed);
        if (w->packed == NULL)
            st = zb_fail_memory(err, folder, plan->n_specs * sizeof *w->packed);
    }
    if (st == ZAMBA_OK)
        st = list_shared(&b);
    /* find and check everything before anything is copied: the file bounds what is allocated */
    for (size_t i = 0; i < plan->n_specs && st == ZAMBA_OK; i++)
        st = find(&b, &plan->specs[i], w->packed != NULL ? &w->packed[i] : NULL, &w->bound[i]);
    if (st == ZAMBA_OK)
        st = check_spare_head(&b);
    if (st == ZAMBA_OK)
        st = check_extra(&b);
    for (size_t i = 0; i < plan->n_specs && st == ZAMBA_OK; i++) {
        if (w->packed != NULL && w->packed[i].n_pieces > 0)
            st = make_packed(&b, &w->packed[i]);
        if (st == ZAMBA_OK)
            st = place(&b, w->bound[i], &plan->specs[i]);
    }
    if (st == ZAMBA_OK) {
        settle(w, plan);
        w->fingerprint = fingerprint(w, plan);
    }
    free(b.used);
    free(b.shared);
    if (st != ZAMBA_OK)
        zb_weights_close(w);
    return st;
}

void zb_weights_close(zb_weights *w)
{
    free_copies(w);
    zb_free_aligned(w->lora_block);
    free(w->copies);
    free(w->bound);
    free(w->packed);
    free(w->layers);
    free(w->blocks);
    free(w->uses);
    zb_tensors_close(&w->tensors);
    *w = (zb_weights){0};
}
