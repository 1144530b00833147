/* train_checkpoint.c — checkpoints of a run: saved beside and renamed, the last few kept, found again, gone on from.
 * Weights are written as any checkpoint's; what the optimizer needs stands in optimizer.safetensors under the tensors'
 * own names, whole, so that any number of processes can go on from it. */
#define _XOPEN_SOURCE   700
#define _DEFAULT_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"
#include "io/folder_out.h"
#include "io/json.h"
#include "io/safetensors_write.h"
#include "model/lora.h"
#include "train/trainer.h"

#define FOLDER     "checkpoint-"
#define STATE      "trainer_state.json"
#define OPTIMIZER  "optimizer.safetensors"
#define LATEST     "latest"
#define SHARD      5000000000u
#define CHUNK      ((size_t)1 << 18) /* numbers that are rounded at once */
#define VERSION    1
#define MOST_NAMES 100000

/* ---- names in a run's folder ---- */

/* The step of "checkpoint-000123", or -1. */
static int64_t step_of(const char *name)
{
    int64_t step = 0;
    if (strncmp(name, FOLDER, sizeof FOLDER - 1) != 0)
        return -1;
    const char *p = name + sizeof FOLDER - 1;
    if (strlen(p) < 6 || strlen(p) > 18)
        return -1;
    for (; *p >= '0' && *p <= '9'; p++)
        step = 10 * step + (*p - '0');
    return *p == '\0' ? step : -1;
}

/* What a save that was killed left: "checkpoint-000123.tmp-4711-0", "checkpoint-000123.old". */
static int is_remnant(const char *name)
{
    const char *dot = strchr(name, '.');
    return strncmp(name, FOLDER, sizeof FOLDER - 1) == 0 && dot != NULL &&
           (strncmp(dot, ".tmp-", 5) == 0 || strcmp(dot, ".old") == 0);
}

static void remove_folder(const char *path)
{
    char inner[4096];
    struct stat sb;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return;
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            zb_path_join(inner, sizeof inner, path, e->d_name, NULL) != ZAMBA_OK || lstat(inner, &sb) != 0)
            continue;
        if (S_ISDIR(sb.st_mode))
            remove_folder(inner);
        else
            (void)unlink(inner);
    }
    closedir(dir);
    (void)rmdir(path);
}

/* A checkpoint goes: under another name first, so that half of one never bears the name of a whole one. */
static zamba_status retire(const char *path, zamba_error *err)
{
    char old[4096];
    struct stat sb;
    if (lstat(path, &sb) != 0)
        return ZAMBA_OK;
    if ((size_t)snprintf(old, sizeof old, "%s.old", path) >= sizeof old)
        return zb_fail(err, ZAMBA_E_ARG, "%s: path too long", path);
    remove_folder(old);
    if (rename(path, old) != 0)
        return zb_fail(err, ZAMBA_E_IO, "%s: cannot be moved away: %s", path, strerror(errno));
    remove_folder(old);
    return ZAMBA_OK;
}

static int by_step(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The steps of all checkpoints of a run, the last first; *steps is released with free(). */
static zamba_status list_steps(const char *run, int64_t **steps, size_t *n, zamba_error *err)
{
    size_t room = 0;
    zamba_status st = ZAMBA_OK;
    DIR *dir = opendir(run);
    *steps = NULL;
    *n = 0;
    if (dir == NULL)
        return errno == ENOENT ? ZAMBA_OK
                               : zb_fail(err, ZAMBA_E_IO, "%s: cannot open the folder: %s", run, strerror(errno));
    for (const struct dirent *e = readdir(dir); e != NULL && st == ZAMBA_OK && *n < MOST_NAMES; e = readdir(dir)) {
        const int64_t step = step_of(e->d_name);
        if (step < 0)
            continue;
        if (*n == room) {
            room = room > 0 ? 2 * room : 16;
            int64_t *larger = realloc(*steps, room * sizeof *larger);
            if (larger == NULL) {
                st = zb_fail_memory(err, run, room * sizeof *larger);
                break;
            }
            *steps = larger;
        }
        (*steps)[(*n)++] = step;
    }
    closedir(dir);
    if (*n > 1)
        qsort(*steps, *n, sizeof **steps, by_step);
    return st;
}

static zamba_status folder_of(char *path, size_t n, const char *run, int64_t step, zamba_error *err)
{
    char name[48];
    snprintf(name, sizeof name, FOLDER "%06lld", (long long)step);
    return zb_path_join(path, n, run, name, err);
}

/* Remove all but the last `keep` checkpoints up to this step, and what killed saves left. What fails may stay. */
static void tidy(const char *run, int64_t step, int32_t keep)
{
    char path[4096];
    int64_t *steps = NULL;
    size_t n = 0;
    int32_t kept = 0;
    if (keep > 0 && list_steps(run, &steps, &n, NULL) == ZAMBA_OK)
        for (size_t i = 0; i < n; i++)
            if (steps[i] <= step && ++kept > keep && folder_of(path, sizeof path, run, steps[i], NULL) == ZAMBA_OK)
                (void)retire(path, NULL);
    free(steps);
    DIR *dir = opendir(run);
    for (const struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir))
        if (is_remnant(e->d_name) && zb_path_join(path, sizeof path, run, e->d_name, NULL) == ZAMBA_OK)
            remove_folder(path);
    if (dir != NULL)
        closedir(dir);
}

static void sync_folder(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    close(fd);
}

/* ---- saving ---- */

typedef struct save {
    zamba_trainer *t;
    zb_folder_out folder;
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
        st = zb_path_join(path, sizeof path, s->folder.tmp, outer, s->err);
        if (st == ZAMBA_OK)
            (void)mkdir(path, 0777); /* what fails here fails in the next lines */
    }
    if (st == ZAMBA_OK)
        st = zb_path_join(path, sizeof path, s->folder.tmp, name, s->err);
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
    zamba_status st = zb_shards_create(&w, s->folder.tmp, SHARD, s->err);
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
    zamba_status st = zb_shards_create(&w, s->folder.tmp, INT64_MAX / 2, s->err);
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
        st = zb_path_join(from, sizeof from, s->folder.tmp, "model.safetensors", s->err);
    if (st == ZAMBA_OK)
        st = zb_path_join(to, sizeof to, s->folder.tmp, OPTIMIZER, s->err);
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

/* As rank 0 does it, the moments being there. */
static zamba_status save_here(zamba_trainer *t, const char *run, zamba_save_type type, int32_t keep, const char *data,
                              char **path, zamba_error *err)
{
    save s = {.t = t, .type = type, .data = data, .err = err};
    char folder[4096], latest[4096];
    struct stat sb;
    zamba_status st = folder_of(folder, sizeof folder, run, t->step, err);
    if (st == ZAMBA_OK)
        st = zb_path_join(latest, sizeof latest, run, LATEST, err);
    if (st == ZAMBA_OK && mkdir(run, 0777) != 0 && errno != EEXIST)
        st = zb_fail(err, ZAMBA_E_IO, "%s: cannot create the folder: %s", run, strerror(errno));
    choose_type(&s);
    if (st == ZAMBA_OK && (t->saved == NULL || strcmp(t->saved, folder) != 0 || stat(folder, &sb) != 0)) {
        st = retire(folder, err); /* of an earlier life of this run, which went on from before it */
        if (st == ZAMBA_OK)
            st = zb_file_room(run, t->params.floats * sizeof(float) * (s.rounded ? 4 : 3), err);
        if (st == ZAMBA_OK)
            st = zb_folder_out_open(&s.folder, folder, 0, err);
        if (st == ZAMBA_OK && t->params.lora == NULL)
            st = write_texts(&s);
        if (st == ZAMBA_OK)
            st = write_optimizer(&s);
        if (st == ZAMBA_OK)
            st = t->params.lora != NULL ? zb_lora_save(&t->params, s.folder.tmp, t->path, err) : write_weights(&s);
        if (st == ZAMBA_OK)
            st = write_state(&s);
        if (st == ZAMBA_OK) {
            sync_folder(s.folder.tmp);
            st = zb_folder_out_commit(&s.folder, zb_checkpoint_texts, err);
        }
        zb_folder_out_discard(&s.folder);
        if (st == ZAMBA_OK)
            sync_folder(run);
    }
    if (st == ZAMBA_OK) {
        free(t->saved);
        t->saved = strdup(folder); /* without memory for it the step is only saved twice */
        const char *name = strrchr(folder, '/') + 1;
        st = zb_file_write(latest, (zb_file_part[]){{name, strlen(name)}, {"\n", 1}}, 2, err);
    }
    if (st == ZAMBA_OK)
        tidy(run, t->step, keep);
    if (st == ZAMBA_OK && path != NULL) {
        *path = strdup(folder);
        if (*path == NULL)
            st = zb_fail_memory(err, folder, strlen(folder));
    }
    return st;
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

/* ---- finding ---- */

/* It was renamed when it was whole; this only guards against what others do to folders. */
static int is_whole(const char *folder)
{
    static const char *const files[] = {STATE, OPTIMIZER, "config.json", "adapter_config.json"};
    char path[4096];
    int there[4];
    for (size_t i = 0; i < 4; i++)
        there[i] = zb_path_join(path, sizeof path, folder, files[i], NULL) == ZAMBA_OK && zb_file_exists(path);
    return there[0] && there[1] && (there[2] || there[3]);
}

zamba_status zamba_train_latest(const char *run, char **path, zamba_error *err)
{
    char at[4096];
    zb_buf text = {0};
    int64_t *steps = NULL;
    size_t n = 0;
    int found = 0;
    *path = NULL;
    zamba_status st = zb_path_join(at, sizeof at, run, LATEST, err);
    if (st != ZAMBA_OK)
        return st;
    if (zb_file_exists(at) && zb_file_read(&text, at, 4096, NULL) == ZAMBA_OK && text.data != NULL) {
        text.data[strcspn(text.data, "\r\n")] = '\0';
        found =
            step_of(text.data) >= 0 && zb_path_join(at, sizeof at, run, text.data, NULL) == ZAMBA_OK && is_whole(at);
    }
    zb_buf_free(&text);
    if (!found)
        st = list_steps(run, &steps, &n, err);
    for (size_t i = 0; i < n && !found; i++)
        found = folder_of(at, sizeof at, run, steps[i], NULL) == ZAMBA_OK && is_whole(at);
    free(steps);
    if (st == ZAMBA_OK && !found)
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: no checkpoint is in it", run);
    if (st == ZAMBA_OK) {
        *path = strdup(at);
        if (*path == NULL)
            st = zb_fail_memory(err, at, strlen(at));
    }
    return st;
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
