/* train_checkpoint.c — what a checkpoint of a run holds, and going on from one; which checkpoints a run has is
 * run_checkpoints.c's. Weights are written as any checkpoint's; what the optimizer needs stands in
 * optimizer.safetensors under the tensors' own names, whole, so that any number of processes can go on from it. */
#define _XOPEN_SOURCE   700
#define _DEFAULT_SOURCE 1
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"
#include "io/json.h"
#include "io/safetensors_write.h"
#include "model/lora.h"
#include "train/run_checkpoints.h"
#include "train/trainer.h"

#define STATE     ZB_RUN_STATE
#define OPTIMIZER ZB_RUN_OPTIMIZER
#define SHARD     5000000000u
#define CHUNK     ((size_t)1 << 18) /* numbers that are rounded at once */
#define VERSION   1

/* ---- saving ---- */

typedef struct save {
    zamba_trainer *t;
    const char *folder; /* that is being written */
    zamba_save_type type;
    const char *data;
    int rounded; /* some tensor is written in bf16: masters must be kept beside */
    zamba_error *err;
} save;

static zb_dtype type_of(const save *s, size_t i)
{
    const zb_spec *spec = &s->t->m->plan.specs[i];
    const int round = s->type == ZAMBA_SAVE_BF16 && (spec->quantizable || s->t->was_bf16[i]);
    return round ? ZB_BF16 : ZB_F32;
}

static void choose_type(save *s)
{
    const zb_plan *p = &s->t->m->plan;
    int all = 1;
    if (s->t->params.lora != NULL)
        return; /* f32, always */
    for (size_t i = 0; i < p->n_specs; i++)
        all &= s->t->was_bf16[i] || !p->specs[i].quantizable;
    if (s->type == ZAMBA_SAVE_AUTO)
        s->type = all ? ZAMBA_SAVE_BF16 : ZAMBA_SAVE_F32;
    for (size_t i = 0; i < p->n_specs; i++)
        s->rounded |= type_of(s, i) == ZB_BF16;
}

static zamba_status write_text(const save *s, const char *name, const char *text, size_t n)
{
    char path[4096];
    const char *slash = strchr(name, '/');
    zamba_status st = ZAMBA_OK;
    if (slash != NULL) {
        char outer[64];
        snprintf(outer, sizeof outer, "%.*s", (int)(slash - name), name);
        st = zb_path_join(path, sizeof path, s->folder, outer, s->err);
        if (st == ZAMBA_OK)
            (void)mkdir(path, 0777); /* what fails here fails in the next lines */
    }
    if (st == ZAMBA_OK)
        st = zb_path_join(path, sizeof path, s->folder, name, s->err);
    return st == ZAMBA_OK ? zb_file_write(path, &(zb_file_part){text, n}, 1, s->err) : st;
}

static zamba_status write_json(const save *s, const char *name, const json_t *root)
{
    char *text = json_dumps(root, JSON_INDENT(2));
    const zamba_status st = text != NULL ? write_text(s, name, text, strlen(text)) : zb_fail_memory(s->err, name, 0);
    free(text);
    return st;
}

/* As it came, but that it names the type the weights have now: transformers loads them in that. */
static zamba_status write_config(const save *s)
{
    const zb_buf *text = &s->t->texts[0];
    const char *want = s->type == ZAMBA_SAVE_BF16 ? "bfloat16" : "float32";
    json_t *root = NULL;
    zamba_status st = zb_json_parse(&root, text->data, text->n, s->t->path, zb_json_small, s->err);
    if (st != ZAMBA_OK)
        return st;
    const char *key = json_object_get(root, "torch_dtype") != NULL ? "torch_dtype" : "dtype";
    const char *has = json_string_value(json_object_get(root, key));
    const int packed = json_object_del(root, "quantization_config") == 0;
    if (!packed && has != NULL && strcmp(has, want) == 0)
        st = write_text(s, "config.json", text->data, text->n);
    else if (json_object_set_new(root, key, json_string(want)) == 0)
        st = write_json(s, "config.json", root);
    else
        st = zb_fail_memory(s->err, "config.json", 0);
    json_decref(root);
    return st;
}

static zamba_status write_texts(const save *s)
{
    zamba_status st = write_config(s);
    for (size_t i = 1; i < ZB_TRAIN_TEXTS && zb_checkpoint_texts[i] != NULL && st == ZAMBA_OK; i++)
        if (s->t->texts[i].data != NULL)
            st = write_text(s, zb_checkpoint_texts[i], s->t->texts[i].data, s->t->texts[i].n);
    return st;
}

static zamba_status put_rounded(zb_shards *w, const zamba_trainer *t, const float *x, size_t n, zamba_error *err)
{
    uint16_t *rounded = malloc((n < CHUNK ? n : CHUNK) * sizeof *rounded);
    zamba_status st = rounded != NULL ? ZAMBA_OK : zb_fail_memory(err, "numbers to write", n * sizeof *rounded);
    for (size_t at = 0; at < n && st == ZAMBA_OK; at += CHUNK) {
        const size_t part = n - at < CHUNK ? n - at : CHUNK;
        t->m->kernels->to_bf16(rounded, x + at, part);
        st = zb_shards_append(w, rounded, part * sizeof *rounded, err);
    }
    free(rounded);
    return st;
}

static zamba_status write_weights(const save *s)
{
    const zamba_trainer *t = s->t;
    zb_shards *w = NULL;
    zamba_status st = zb_shards_create(&w, s->folder, SHARD, s->err);
    if (st != ZAMBA_OK)
        return st;
    for (size_t i = 0; i < t->params.n; i++) {
        const zb_spec *spec = &t->params.specs[i];
        zb_shards_declare(w, spec->name, type_of(s, i), spec->shape, spec->n_dims);
    }
    st = zb_shards_begin(w, s->err);
    for (size_t i = 0; i < t->params.n && st == ZAMBA_OK; i++) {
        const size_t n = zb_spec_elements(&t->params.specs[i]);
        const float *x = t->params.value + t->params.at[i];
        st = type_of(s, i) == ZB_BF16 ? put_rounded(w, t, x, n, s->err) : zb_shards_append(w, x, n * sizeof *x, s->err);
    }
    if (st == ZAMBA_OK)
        return zb_shards_finish(w, s->err);
    zb_shards_cancel(w);
    return st;
}

/* What stands in optimizer.safetensors: kind k of every tensor, before its name. */
static const char *const kinds[] = {"exp_avg.", "exp_avg_sq.", "master."};

/* What others are told to do while rank 0 saves: to bring their share of a kind, or that it is over. */
enum { ORDER_FIRST, ORDER_SECOND, ORDER_SAVED, ORDER_FAILED };

/* A kind as a whole. Moments are brought together where gradients stand, which are zeros between steps; who saves
 * leaves zeros there. */
static zamba_status whole_arena(zamba_trainer *t, int kind, const float **x, zamba_error *err)
{
    int32_t order = kind == 0 ? ORDER_FIRST : ORDER_SECOND;
    *x = kind == 0 ? t->optimizer.m : kind == 1 ? t->optimizer.v : t->params.value;
    if (kind == 2 || zamba_ranks_size(t->o.ranks) == 1)
        return ZAMBA_OK;
    zamba_status st = zb_ranks_word(t->o.ranks, &order, err);
    if (st == ZAMBA_OK)
        st = zb_ranks_collect(t->o.ranks, *x, t->params.grad, t->params.floats, err);
    *x = t->params.grad;
    return st;
}

/* What the others do meanwhile. */
static zamba_status help_to_save(zamba_trainer *t, zamba_error *err)
{
    for (;;) {
        int32_t order = ORDER_FAILED;
        zamba_status st = zb_ranks_word(t->o.ranks, &order, err);
        if (st == ZAMBA_OK && order == ORDER_SAVED)
            return ZAMBA_OK;
        if (st == ZAMBA_OK && order == ORDER_FAILED)
            st = zb_fail(err, ZAMBA_E_CANCELLED, "rank 0 could not save a checkpoint; its message says why");
        if (st == ZAMBA_OK)
            st = zb_ranks_collect(t->o.ranks, order == ORDER_FIRST ? t->optimizer.m : t->optimizer.v, NULL,
                                  t->params.floats, err);
        if (st != ZAMBA_OK)
            return st;
    }
}

/* The writer of weights makes a file of their name; it gets its own before the weights come. */
static zamba_status write_optimizer(const save *s)
{
    zamba_trainer *t = s->t;
    const int n_kinds = s->rounded ? 3 : 2;
    const float *x = NULL;
    char name[256], from[4096], to[4096];
    zb_shards *w = NULL;
    zamba_status st = zb_shards_create(&w, s->folder, INT64_MAX / 2, s->err);
    if (st != ZAMBA_OK)
        return st;
    for (int kind = 0; kind < n_kinds; kind++)
        for (size_t i = 0; i < t->params.n; i++) {
            const zb_spec *spec = &t->params.specs[i];
            snprintf(name, sizeof name, "%s%s", kinds[kind], spec->name);
            zb_shards_declare(w, name, ZB_F32, spec->shape, spec->n_dims);
        }
    st = zb_shards_begin(w, s->err);
    for (int kind = 0; kind < n_kinds && st == ZAMBA_OK; kind++) {
        st = whole_arena(t, kind, &x, s->err);
        for (size_t i = 0; i < t->params.n && st == ZAMBA_OK; i++)
            st =
                zb_shards_append(w, x + t->params.at[i], zb_spec_elements(&t->params.specs[i]) * sizeof(float), s->err);
    }
    if (zamba_ranks_size(t->o.ranks) > 1)
        zb_gradients_clear(&t->params);
    if (st == ZAMBA_OK)
        st = zb_shards_finish(w, s->err);
    else
        zb_shards_cancel(w);
    if (st == ZAMBA_OK)
        st = zb_path_join(from, sizeof from, s->folder, "model.safetensors", s->err);
    if (st == ZAMBA_OK)
        st = zb_path_join(to, sizeof to, s->folder, OPTIMIZER, s->err);
    if (st == ZAMBA_OK && rename(from, to) != 0)
        st = zb_fail(s->err, ZAMBA_E_IO, "%s: cannot rename: %s", from, strerror(errno));
    return st;
}

static zamba_status write_state(const save *s)
{
    const zamba_trainer *t = s->t;
    const zamba_train_options *o = &t->o;
    json_t *data = NULL;
    zamba_status st = ZAMBA_OK;
    if (s->data != NULL)
        st = zb_json_parse(&data, s->data, strlen(s->data), "position of the data", zb_json_large, s->err);
    if (st != ZAMBA_OK)
        return st;
    json_t *options = json_pack(
        "{s:i, s:i, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i}", "objective", (int)o->objective,
        "schedule", (int)o->schedule, "total_steps", (json_int_t)o->total_steps, "warmup_steps",
        (json_int_t)o->warmup_steps, "learning_rate", o->learning_rate, "min_learning_rate", o->min_learning_rate,
        "decay_share", o->decay_share, "beta1", o->beta1, "beta2", o->beta2, "epsilon", o->epsilon, "weight_decay",
        o->weight_decay, "max_grad_norm", o->max_grad_norm, "z_loss", o->z_loss, "accumulate", (int)o->accumulate);
    json_t *root = json_pack("{s:s, s:i, s:I, s:I, s:I, s:f, s:f, s:i, s:o, s:o}", "format", "zamba trainer", "version",
                             VERSION, "step", (json_int_t)t->step, "updates", (json_int_t)t->optimizer.updates,
                             "tokens", (json_int_t)t->tokens, "mean_loss", t->mean_loss, "mean_weight", t->mean_weight,
                             "skipped", (int)t->skipped, "options", options, "data", data != NULL ? data : json_null());
    st = root != NULL ? write_json(s, STATE, root) : zb_fail_memory(s->err, STATE, 0);
    json_decref(root);
    return st;
}

static zamba_status write_all(void *user, const char *folder, zamba_error *err)
{
    save *s = user;
    zamba_trainer *t = s->t;
    s->folder = folder;
    zamba_status st = t->params.lora == NULL ? write_texts(s) : ZAMBA_OK;
    if (st == ZAMBA_OK)
        st = write_optimizer(s);
    if (st == ZAMBA_OK)
        st = t->params.lora != NULL ? zb_lora_save(&t->params, folder, t->path, err) : write_weights(s);
    return st == ZAMBA_OK ? write_state(s) : st;
}

/* As rank 0 does it, the moments being there. */
static zamba_status save_here(zamba_trainer *t, const char *run, zamba_save_type type, int32_t keep, const char *data,
                              char **path, zamba_error *err)
{
    save s = {.t = t, .type = type, .data = data, .err = err};
    choose_type(&s);
    const zb_run_save how = {.run = run,
                             .step = t->step,
                             .bytes = t->params.floats * sizeof(float) * (s.rounded ? 4 : 3),
                             .keep = keep,
                             .owned = zb_checkpoint_texts,
                             .write = write_all,
                             .user = &s};
    return zb_run_checkpoint(&how, &t->saved, path, err);
}

zamba_status zamba_trainer_save(zamba_trainer *t, const char *run, zamba_save_type type, int32_t keep, const char *data,
                                char **path, zamba_error *err)
{
    if (path != NULL)
        *path = NULL;
    if (run == NULL || run[0] == '\0' || (int)type < 0 || type > ZAMBA_SAVE_BF16)
        return zb_fail(err, ZAMBA_E_ARG, "checkpoint: no folder to save it in, or type %d, which is none", (int)type);
    if (t->added > 0)
        return zb_fail(err, ZAMBA_E_ARG, "%s: a step is half accumulated; save after it", run);
    zamba_status st = zb_ranks_settle(t->o.ranks, zb_optimizer_reserve(&t->optimizer, err), err);
    if (st != ZAMBA_OK)
        return st;
    if (zamba_ranks_rank(t->o.ranks) > 0)
        return help_to_save(t, err);
    st = save_here(t, run, type, keep, data, path, err);
    int32_t order = st == ZAMBA_OK ? ORDER_SAVED : ORDER_FAILED;
    const zamba_status told = zb_ranks_word(t->o.ranks, &order, st == ZAMBA_OK ? err : NULL);
    return st != ZAMBA_OK ? st : told;
}

/* ---- going on ---- */

/* Of the floats from `at` on, those of our share into a moment; all of them into the masters. */
static void take_floats(const zamba_trainer *t, int kind, size_t at, const float *x, size_t n)
{
    const zb_optimizer *o = &t->optimizer;
    if (kind == 2) {
        memcpy(t->params.value + at, x, n * sizeof *x);
        return;
    }
    const size_t begin = at > o->begin ? at : o->begin, end = at + n < o->end ? at + n : o->end;
    if (end > begin)
        memcpy((kind == 0 ? o->m : o->v) + (begin - o->begin), x + (begin - at), (end - begin) * sizeof *x);
}

static zamba_status take_arena(const zamba_trainer *t, const zb_tensors *ts, const char *file, int kind,
                               zamba_error *err)
{
    char name[256], found[96], wanted[96];
    for (size_t i = 0; i < t->params.n; i++) {
        const zb_spec *spec = &t->params.specs[i];
        const zb_tensor *x = NULL;
        snprintf(name, sizeof name, "%s%s", kinds[kind], spec->name);
        for (size_t k = 0; k < ts->n && x == NULL; k++) { /* they stand in the order of the list, mostly */
            const zb_tensor *here = &ts->items[(k + i) % ts->n];
            x = strcmp(here->name, name) == 0 ? here : NULL;
        }
        int same = x != NULL && x->known && x->dtype == ZB_F32 && x->n_dims == spec->n_dims;
        for (int d = 0; d < spec->n_dims && same; d++)
            same = x->shape[d] == spec->shape[d];
        if (!same)
            return zb_fail(err, ZAMBA_E_MISMATCH, "%s: tensor %s is %s, wanted f32 %s (a checkpoint of another model?)",
                           file, name, x == NULL ? "missing" : zb_shape_text(found, sizeof found, x->shape, x->n_dims),
                           zb_shape_text(wanted, sizeof wanted, spec->shape, spec->n_dims));
        take_floats(t, kind, t->params.at[i], (const float *)(const void *)x->data, x->bytes / sizeof(float));
    }
    return ZAMBA_OK;
}

static int has_masters(const zb_tensors *ts)
{
    for (size_t i = 0; i < ts->n; i++)
        if (strncmp(ts->items[i].name, kinds[2], strlen(kinds[2])) == 0)
            return 1;
    return 0;
}

static zamba_status read_optimizer(zamba_trainer *t, const char *folder, zamba_error *err)
{
    char path[4096];
    zb_file file = {0};
    zb_tensors ts = {0};
    zamba_status st = zb_path_join(path, sizeof path, folder, OPTIMIZER, err);
    if (st == ZAMBA_OK)
        st = zb_file_map(&file, path, err);
    if (st == ZAMBA_OK)
        st = zb_safetensors_parse(&ts, file.data, file.size, path, err);
    for (int kind = 0; kind < 3 && st == ZAMBA_OK; kind++)
        if (kind < 2 || has_masters(&ts))
            st = take_arena(t, &ts, path, kind, err);
    zb_tensors_close(&ts);
    zb_file_unmap(&file);
    return st;
}

static zamba_status damaged(const char *path, const char *what, zamba_error *err)
{
    return zb_fail(err, ZAMBA_E_FORMAT, "%s: %s (is it the state of a run that zamba train made?)", path, what);
}

static zamba_status resume_here(zamba_trainer *t, const char *checkpoint, char **data, zamba_error *err)
{
    char path[4096];
    json_t *root = NULL;
    json_int_t version = 0, step = -1, updates = -1, tokens = -1;
    double mean_loss = 0, mean_weight = 0;
    int skipped = 0;
    if (t->step > 0 || t->added > 0)
        return zb_fail(err, ZAMBA_E_ARG, "%s: steps have been made already", checkpoint);
    zamba_status st = zb_path_join(path, sizeof path, checkpoint, STATE, err);
    if (st == ZAMBA_OK && !zb_file_exists(path))
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: no %s in it: nothing to go on from", checkpoint, STATE);
    if (st == ZAMBA_OK)
        st = zb_json_read(&root, path, zb_json_large, err);
    if (st == ZAMBA_OK && json_unpack(root, "{s:I, s:I, s:I, s:I, s:F, s:F, s:i}", "version", &version, "step", &step,
                                      "updates", &updates, "tokens", &tokens, "mean_loss", &mean_loss, "mean_weight",
                                      &mean_weight, "skipped", &skipped) != 0)
        st = damaged(path, "version, step, updates, tokens, mean_loss, mean_weight or skipped is missing", err);
    if (st == ZAMBA_OK && version != VERSION)
        st = damaged(path, "a version that this program does not know", err);
    if (st == ZAMBA_OK && (step < 0 || updates < 0 || updates > step || tokens < 0 || skipped < 0))
        st = damaged(path, "numbers below 0, or more updates than steps", err);
    if (st == ZAMBA_OK)
        st = zb_optimizer_reserve(&t->optimizer, err);
    if (st == ZAMBA_OK && t->params.lora != NULL)
        st = zb_lora_load(&t->params, checkpoint, err);
    if (st == ZAMBA_OK)
        st = read_optimizer(t, checkpoint, err);
    const json_t *position = json_object_get(root, "data");
    if (st == ZAMBA_OK && data != NULL && json_is_object(position)) {
        *data = json_dumps(position, JSON_COMPACT);
        if (*data == NULL)
            st = zb_fail_memory(err, path, 0);
    }
    json_decref(root);
    if (st != ZAMBA_OK)
        return st;
    zb_params_changed(&t->params);
    t->step = step;
    t->saved = strdup(checkpoint);
    t->optimizer.updates = updates;
    t->tokens = (uint64_t)tokens;
    t->mean_loss = mean_loss;
    t->mean_weight = mean_weight;
    t->skipped = (int32_t)skipped;
    return ZAMBA_OK;
}

zamba_status zamba_trainer_resume(zamba_trainer *t, const char *checkpoint, char **data, zamba_error *err)
{
    if (data != NULL)
        *data = NULL;
    zamba_status st = zb_ranks_settle(t->o.ranks, resume_here(t, checkpoint, data, err), err);
    if (st == ZAMBA_OK)
        st = zb_trainer_same_weights(t, err);
    if (st != ZAMBA_OK && data != NULL) {
        zamba_free(*data);
        *data = NULL;
    }
    return st;
}
