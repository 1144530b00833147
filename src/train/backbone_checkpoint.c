/* backbone_checkpoint.c — a run of the frame model's trainer as a folder: the model's own files beside
 * optimizer.safetensors, which holds all that the trainer needs to go on (weights, moments, the step) and takes its
 * place as a whole, so that a kill between two files costs nothing. trainer_state.json says for people how it was
 * trained, and keeps what the caller wants to find again. Which checkpoints a run has is run_checkpoints.c's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/bb_model.h"
#include "io/folder_out.h"
#include "io/safetensors_write.h"
#include "train/backbone_trainer.h"
#include "train/run_checkpoints.h"

#define STATE     ZB_RUN_STATE
#define OPTIMIZER ZB_RUN_OPTIMIZER
#define FORMAT    "zamba backbone trainer"
#define COUNTS    "trainer.counts"
#define PART      1048576 /* counts stand as numbers below this, which f32 holds exactly */
#define PARTS     3

/* Of every tensor, and what each is called. */
enum { KIND_VALUE, KIND_FIRST, KIND_SECOND, N_KINDS };
static const char *const kinds[N_KINDS] = {"value.", "exp_avg.", "exp_avg_sq."};

static float *arena_of(const zamba_backbone_trainer *t, int kind)
{
    return kind == KIND_VALUE ? t->params.value : kind == KIND_FIRST ? t->optimizer.m : t->optimizer.v;
}

/* Steps, then updates, least part first. */
static void put_counts(float *to, const zamba_backbone_trainer *t)
{
    uint64_t x[2] = {(uint64_t)t->step, (uint64_t)t->optimizer.updates};
    for (size_t i = 0; i < 2 * PARTS; i++, to++) {
        *to = (float)(x[i / PARTS] % PART);
        x[i / PARTS] /= PART;
    }
}

static zamba_status get_counts(int64_t *counts, const float *from, const char *path, zamba_error *err)
{
    counts[0] = counts[1] = 0;
    for (size_t i = 2 * PARTS; i-- > 0;) {
        if (!(from[i] >= 0 && from[i] < PART && from[i] == floorf(from[i])) || counts[i / PARTS] > INT64_MAX / PART - 1)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: %s is damaged", path, COUNTS);
        counts[i / PARTS] = counts[i / PARTS] * PART + (int64_t)from[i];
    }
    return ZAMBA_OK;
}

/* ---- saving ---- */

static zamba_status write_optimizer(const zamba_backbone_trainer *t, const char *folder, zamba_error *err)
{
    const zb_bb_plan *p = &t->b->plan;
    const size_t n_counts = 2 * PARTS;
    float counts[2 * PARTS];
    char name[128];
    zb_shards *w = NULL;
    zamba_status st = zb_shards_create(&w, folder, UINT64_MAX, err);
    if (st != ZAMBA_OK)
        return st;
    put_counts(counts, t);
    zb_shards_stem(w, "optimizer");
    zb_shards_declare(w, COUNTS, ZB_F32, &n_counts, 1);
    for (int kind = 0; kind < N_KINDS; kind++)
        for (size_t i = 0; i < p->n_params; i++) {
            snprintf(name, sizeof name, "%s%s", kinds[kind], p->params[i].name);
            zb_shards_declare(w, name, ZB_F32, p->params[i].shape, p->params[i].n_dims);
        }
    st = zb_shards_begin(w, err);
    if (st == ZAMBA_OK)
        st = zb_shards_append(w, counts, sizeof counts, err);
    for (int kind = 0; kind < N_KINDS; kind++)
        for (size_t i = 0; i < p->n_params && st == ZAMBA_OK; i++)
            st = zb_shards_append(w, arena_of(t, kind) + p->params[i].offset, p->params[i].count * sizeof(float), err);
    if (st == ZAMBA_OK)
        return zb_shards_finish(w, err);
    zb_shards_cancel(w);
    return st;
}

static zamba_status write_state(const zamba_backbone_trainer *t, const char *data, const char *folder, zamba_error *err)
{
    const zamba_backbone_train_options *o = &t->o;
    char path[4096];
    json_t *beside = NULL;
    zamba_status st = ZAMBA_OK;
    if (data != NULL)
        st = zb_json_parse(&beside, data, strlen(data), "what is saved beside the trainer", zb_json_large, err);
    if (st != ZAMBA_OK)
        return st;
    json_t *root =
        json_pack("{s:s, s:I, s:I, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:f, s:I, s:o}", "format",
                  FORMAT, "step", (json_int_t)t->step, "updates", (json_int_t)t->optimizer.updates, "loss",
                  o->loss == ZAMBA_BACKBONE_LOSS_HEADS ? "heads" : "squares", "rows",
                  o->rows == ZAMBA_BACKBONE_ALL ? "all" : "last", "learning_rate", o->learning_rate, "beta1", o->beta1,
                  "beta2", o->beta2, "epsilon", o->epsilon, "weight_decay", o->weight_decay, "max_grad_norm",
                  o->max_grad_norm, "warmup_steps", (json_int_t)o->warmup_steps, "total_steps",
                  (json_int_t)o->total_steps, "min_learning_rate", o->min_learning_rate, "dropout", t->dropout, "seed",
                  (json_int_t)(o->seed & INT64_MAX), "data", beside != NULL ? beside : json_null());
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    if (text == NULL)
        return zb_fail_memory(err, STATE, 0);
    st = zb_path_join(path, sizeof path, folder, STATE, err);
    if (st == ZAMBA_OK)
        st = zb_file_write(path, (zb_file_part[]){{text, strlen(text)}, {"\n", 1}}, 2, err);
    free(text);
    return st;
}

static const char *const owned[] = {"config.json", "model.safetensors", OPTIMIZER, STATE, NULL};

typedef struct saving {
    const zamba_backbone_trainer *t;
    const char *data;
} saving;

static zamba_status write_all(void *user, const char *folder, zamba_error *err)
{
    const saving *s = user;
    zamba_status st = zb_bb_write(s->t->b, folder, err);
    if (st == ZAMBA_OK)
        st = write_optimizer(s->t, folder, err);
    return st == ZAMBA_OK ? write_state(s->t, s->data, folder, err) : st;
}

zamba_status zamba_backbone_trainer_save(zamba_backbone_trainer *t, const char *folder, zamba_error *err)
{
    zb_folder_out out = {0};
    saving s = {t, NULL};
    if (folder == NULL || folder[0] == '\0')
        return zb_fail(err, ZAMBA_E_ARG, "backbone training: no folder to save to");
    zamba_status st = zb_folder_out_open(&out, folder, 1, err);
    if (st == ZAMBA_OK)
        st = write_all(&s, out.tmp, err);
    if (st == ZAMBA_OK)
        st = zb_folder_out_commit(&out, owned, err);
    zb_folder_out_discard(&out);
    return st;
}

zamba_status zamba_backbone_trainer_checkpoint(zamba_backbone_trainer *t, const char *run, int32_t keep,
                                               const char *data, char **path, zamba_error *err)
{
    saving s = {t, data};
    if (path != NULL)
        *path = NULL;
    if (run == NULL || run[0] == '\0' || keep < 0)
        return zb_fail(err, ZAMBA_E_ARG, "checkpoint: no folder to save it in, or %d to keep, wanted 0 (all) or more",
                       (int)keep);
    const zb_run_save how = {.run = run,
                             .step = t->step,
                             .bytes = (N_KINDS + 1) * t->params.floats * sizeof(float),
                             .keep = keep,
                             .owned = owned,
                             .write = write_all,
                             .user = &s};
    return zb_run_checkpoint(&how, &t->saved, path, err);
}

/* ---- going on ---- */

/* A tensor of the file that must have this shape. */
static zamba_status tensor_of(const zb_tensors *ts, const char *name, const size_t *shape, int n_dims, const char *path,
                              const float **out, zamba_error *err)
{
    char found[96], wanted[96];
    const zb_tensor *x = zb_tensors_find(ts, name);
    int same = x != NULL && x->known && x->dtype == ZB_F32 && x->n_dims == n_dims;
    size_t count = 1;
    for (int d = 0; d < n_dims && same; d++) {
        same = x->shape[d] == shape[d];
        count *= shape[d];
    }
    if (!same)
        return zb_fail(err, ZAMBA_E_MISMATCH, "%s: tensor %s is %s, wanted f32 %s (a run of another model?)", path,
                       name, x == NULL ? "missing" : zb_shape_text(found, sizeof found, x->shape, x->n_dims),
                       zb_shape_text(wanted, sizeof wanted, shape, n_dims));
    *out = (const float *)x->data;
    return zb_bb_finite(*out, count) ? ZAMBA_OK
                                     : zb_fail(err, ZAMBA_E_FORMAT, "%s: a number in %s is not finite", path, name);
}

/* Once to look at all of it, once to take it: a file that is wrong changes nothing. */
static zamba_status take(zamba_backbone_trainer *t, const zb_tensors *ts, const char *path, int look_only,
                         zamba_error *err)
{
    const zb_bb_plan *p = &t->b->plan;
    const size_t n_counts = 2 * PARTS;
    const float *from = NULL;
    int64_t counts[2];
    char name[128];
    zamba_status st = tensor_of(ts, COUNTS, &n_counts, 1, path, &from, err);
    if (st == ZAMBA_OK)
        st = get_counts(counts, from, path, err);
    for (int kind = 0; kind < N_KINDS; kind++)
        for (size_t i = 0; i < p->n_params && st == ZAMBA_OK; i++) {
            snprintf(name, sizeof name, "%s%s", kinds[kind], p->params[i].name);
            st = tensor_of(ts, name, p->params[i].shape, p->params[i].n_dims, path, &from, err);
            if (st == ZAMBA_OK && !look_only)
                memcpy(arena_of(t, kind) + p->params[i].offset, from, p->params[i].count * sizeof *from);
        }
    if (st != ZAMBA_OK || look_only)
        return st;
    t->step = counts[0];
    t->optimizer.updates = counts[1];
    t->graded = 0;
    return zb_bb_changed(t->b, 1, err);
}

/* What the model computes must be the same also where no tensor's shape says so. */
static zamba_status check_model(const zamba_backbone_trainer *t, const char *folder, zamba_error *err)
{
    char path[4096];
    json_t *theirs = NULL, *ours = zb_bb_config_json(&t->b->plan.o), *is;
    const char *key;
    zamba_status st = ours != NULL ? ZAMBA_OK : zb_fail_memory(err, folder, 0);
    if (st == ZAMBA_OK)
        st = zb_path_join(path, sizeof path, folder, "config.json", err);
    if (st == ZAMBA_OK)
        st = zb_json_read(&theirs, path, zb_json_small, err);
    json_object_foreach(ours, key, is)
    {
        const json_t *was = json_object_get(theirs, key);
        if (st != ZAMBA_OK || strcmp(key, "dropout") == 0 || strcmp(key, "seq_len") == 0 || json_equal(was, is))
            continue;
        char *a = json_dumps(was, JSON_COMPACT | JSON_ENCODE_ANY), *b = json_dumps(is, JSON_COMPACT | JSON_ENCODE_ANY);
        st = zb_fail(err, ZAMBA_E_MISMATCH, "%s: %s is %.60s, the model's is %.60s (a run of another model?)", path,
                     key, a ? a : "missing", b ? b : "?");
        free(a);
        free(b);
    }
    json_decref(ours);
    json_decref(theirs);
    return st;
}

/* Whose checkpoint it is, and what was saved beside the trainer; a folder that has no state has neither. */
static zamba_status read_state(char **data, const char *folder, zamba_error *err)
{
    char path[4096];
    json_t *root = NULL;
    zamba_status st = zb_path_join(path, sizeof path, folder, STATE, err);
    if (st != ZAMBA_OK || !zb_file_exists(path))
        return st;
    st = zb_json_read(&root, path, zb_json_large, err);
    const char *format = json_string_value(json_object_get(root, "format"));
    const json_t *beside = json_object_get(root, "data");
    if (st == ZAMBA_OK && (format == NULL || strcmp(format, FORMAT) != 0))
        st = zb_fail(err, ZAMBA_E_MISMATCH,
                     "%s: the state of \"%.40s\", wanted \"" FORMAT "\" (a run of another command?)", path,
                     format != NULL ? format : "?");
    if (st == ZAMBA_OK && json_is_object(beside) && (*data = json_dumps(beside, JSON_COMPACT)) == NULL)
        st = zb_fail_memory(err, path, 0);
    json_decref(root);
    return st;
}

zamba_status zamba_backbone_trainer_resume(zamba_backbone_trainer *t, const char *folder, zamba_error *err)
{
    char path[4096], *data = NULL;
    zb_tensors ts = {0};
    if (folder == NULL || folder[0] == '\0')
        return zb_fail(err, ZAMBA_E_ARG, "backbone training: no folder to go on from");
    zamba_status st = zb_path_join(path, sizeof path, folder, OPTIMIZER, err);
    if (st == ZAMBA_OK)
        st = read_state(&data, folder, err);
    if (st == ZAMBA_OK)
        st = check_model(t, folder, err);
    if (st == ZAMBA_OK)
        st = zb_tensors_open_file(&ts, path, err);
    if (st == ZAMBA_OK)
        st = take(t, &ts, path, 1, err);
    if (st == ZAMBA_OK)
        st = take(t, &ts, path, 0, err);
    zb_tensors_close(&ts);
    if (st != ZAMBA_OK) {
        free(data);
        return st;
    }
    free(t->data);
    t->data = data;
    free(t->saved);
    t->saved = strdup(folder); /* without memory for it the step is only saved twice */
    return ZAMBA_OK;
}

const char *zamba_backbone_trainer_data(const zamba_backbone_trainer *t)
{
    return t->data;
}
