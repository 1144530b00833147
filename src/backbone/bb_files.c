/* bb_files.c — a backbone as a folder: config.json says the options by their names, model.safetensors holds the
 * parameters in the table's order. Reads weights under Edifice's names too. Trusts nothing it reads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/bb_model.h"
#include "backbone/bb_options.h"
#include "io/folder_out.h"
#include "io/json.h"
#include "io/safetensors_write.h"

static const char *const head_kinds[] = {"classes", "binary", "values"};

/* ---- config.json, written ---- */

static json_t *option_json(const zamba_backbone_options *o, const zb_bb_option *row)
{
    if (row->kind == ZB_BB_SHARE)
        return json_real(o->dropout);
    int32_t v;
    memcpy(&v, (const char *)o + row->at, sizeof v);
    return row->kind == ZB_BB_CHOICE   ? json_string(row->names[v])
           : row->kind == ZB_BB_SWITCH ? json_boolean(v)
                                       : json_integer(v);
}

json_t *zb_bb_config_json(const zamba_backbone_options *o)
{
    size_t n;
    const zb_bb_option *t = zb_bb_options_table(&n);
    json_t *root = json_pack("{s:s}", "model_type", "zamba_backbone"), *list;
    int bad = root == NULL;
    for (size_t i = 0; i < n && !bad; i++)
        bad = json_object_set_new(root, t[i].name, option_json(o, &t[i])) != 0;
    if (!bad && o->n_embeddings > 0) {
        list = json_array();
        bad = json_object_set_new(root, "embeddings", list) != 0;
        for (size_t i = 0; i < o->n_embeddings && !bad; i++) {
            const zamba_backbone_embedding *e = &o->embeddings[i];
            bad = json_array_append_new(list, json_pack("{s:s,s:i,s:i,s:i}", "name", e->name, "ids", (int)e->ids,
                                                        "width", (int)e->width, "uses", (int)e->uses)) != 0;
        }
    }
    if (!bad && o->n_heads > 0) {
        list = json_array();
        bad = json_object_set_new(root, "heads", list) != 0;
        for (size_t i = 0; i < o->n_heads && !bad; i++) {
            const zamba_backbone_head *h = &o->heads[i];
            bad = json_array_append_new(list,
                                        json_pack("{s:s,s:s,s:i,s:i,s:f}", "name", h->name, "kind", head_kinds[h->kind],
                                                  "n", (int)h->n, "hidden", (int)h->hidden, "weight", h->weight)) != 0;
        }
    }
    if (bad) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static zamba_status write_config(const zamba_backbone *b, const char *folder, zamba_error *err)
{
    char path[4096];
    json_t *root = zb_bb_config_json(&b->plan.o);
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    if (text == NULL)
        return zb_fail_memory(err, "config.json", 0);
    zamba_status st = zb_path_join(path, sizeof path, folder, "config.json", err);
    if (st == ZAMBA_OK)
        st = zb_file_write(path, (zb_file_part[]){{text, strlen(text)}, {"\n", 1}}, 2, err);
    free(text);
    return st;
}

zamba_status zb_bb_write(const zamba_backbone *b, const char *folder, zamba_error *err)
{
    const zb_bb_plan *p = &b->plan;
    zb_shards *w = NULL;
    zamba_status st = zb_shards_create(&w, folder, UINT64_MAX, err);
    if (st != ZAMBA_OK)
        return st;
    for (size_t i = 0; i < p->n_params; i++)
        zb_shards_declare(w, p->params[i].name, ZB_F32, p->params[i].shape, p->params[i].n_dims);
    st = zb_shards_begin(w, err);
    for (size_t i = 0; i < p->n_params && st == ZAMBA_OK; i++)
        st = zb_shards_append(w, b->params + p->params[i].offset, p->params[i].count * sizeof(float), err);
    if (st == ZAMBA_OK)
        st = zb_shards_finish(w, err);
    else
        zb_shards_cancel(w);
    return st == ZAMBA_OK ? write_config(b, folder, err) : st;
}

zamba_status zamba_backbone_save(const zamba_backbone *b, const char *folder, int32_t force, zamba_error *err)
{
    static const char *const owned[] = {"config.json", "model.safetensors", NULL};
    zb_folder_out out = {0};
    if (folder == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone: no folder to save to");
    zamba_status st = zb_folder_out_open(&out, folder, force, err);
    if (st == ZAMBA_OK)
        st = zb_bb_write(b, out.tmp, err);
    if (st == ZAMBA_OK)
        st = zb_folder_out_commit(&out, owned, err);
    zb_folder_out_discard(&out);
    return st;
}

/* ---- config.json, read ---- */

static zamba_status wrong(zamba_error *err, const char *path, const char *key, const json_t *v, const char *wanted)
{
    char text[64];
    return zb_fail(err, ZAMBA_E_FORMAT, "%s: %.60s is %s, wanted %s", path, key, zb_json_text(text, sizeof text, v),
                   wanted);
}

/* One option; the other spelling of it may say the same, not something else. */
static zamba_status read_option(zamba_backbone_options *o, const zb_bb_option *row, const json_t *v, uint64_t *seen,
                                uint64_t bit, const char *path, zamba_error *err)
{
    char text[48], before[48], after[48];
    if (json_is_string(v))
        snprintf(text, sizeof text, "%.40s", json_string_value(v));
    else if (json_is_boolean(v))
        snprintf(text, sizeof text, "%d", json_is_true(v));
    else if (json_is_integer(v))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v) && row->kind == ZB_BB_SHARE)
        snprintf(text, sizeof text, "%.17g", json_real_value(v));
    else
        return wrong(err, path, row->name, v,
                     row->kind == ZB_BB_CHOICE   ? "a name"
                     : row->kind == ZB_BB_SWITCH ? "true or false"
                                                 : "a number");
    zamba_backbone_option_get(o, row->name, before, sizeof before, NULL);
    if (zamba_backbone_option_set(o, row->name, text, err) != ZAMBA_OK)
        return zb_fail_prefix(err, ZAMBA_E_FORMAT, "%s", path);
    zamba_backbone_option_get(o, row->name, after, sizeof after, NULL);
    if ((*seen & bit) != 0 && strcmp(before, after) != 0)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %s and %s contradict each other (%s, %s)", path, row->name,
                       row->alias ? row->alias : row->name, before, after);
    *seen |= bit;
    return ZAMBA_OK;
}

static zamba_status read_int(int32_t *to, const json_t *item, const char *key, const char *path, zamba_error *err)
{
    const json_t *v = json_object_get(item, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
        return wrong(err, path, key, v, "a whole number");
    *to = (int32_t)json_integer_value(v);
    return ZAMBA_OK;
}

static zamba_status read_name(const char **to, const json_t *item, const char *path, zamba_error *err)
{
    const json_t *v = json_object_get(item, "name");
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return wrong(err, path, "name", v, "a name");
    *to = json_string_value(v);
    return ZAMBA_OK;
}

static zamba_status read_embeddings(zamba_backbone_options *o, zamba_backbone_embedding *room, const json_t *list,
                                    const char *path, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    if (!json_is_array(list) || json_array_size(list) > ZB_BB_MOST_EXTRAS)
        return wrong(err, path, "embeddings", list, "a list of at most 16");
    for (size_t i = 0; i < json_array_size(list) && st == ZAMBA_OK; i++) {
        const json_t *item = json_array_get(list, i);
        st = read_name(&room[i].name, item, path, err);
        if (st == ZAMBA_OK)
            st = read_int(&room[i].ids, item, "ids", path, err);
        if (st == ZAMBA_OK)
            st = read_int(&room[i].width, item, "width", path, err);
        if (st == ZAMBA_OK)
            st = read_int(&room[i].uses, item, "uses", path, err);
    }
    o->embeddings = room;
    o->n_embeddings = json_array_size(list);
    return st;
}

static zamba_status read_heads(zamba_backbone_options *o, zamba_backbone_head *room, const json_t *list,
                               const char *path, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    if (!json_is_array(list) || json_array_size(list) > ZB_BB_MOST_EXTRAS)
        return wrong(err, path, "heads", list, "a list of at most 16");
    for (size_t i = 0; i < json_array_size(list) && st == ZAMBA_OK; i++) {
        const json_t *item = json_array_get(list, i), *kind = json_object_get(item, "kind"),
                     *weight = json_object_get(item, "weight");
        int found = -1;
        for (int k = 0; k < 3; k++)
            if (json_is_string(kind) && strcmp(json_string_value(kind), head_kinds[k]) == 0)
                found = k;
        if (found < 0)
            return wrong(err, path, "kind", kind, "classes, binary or values");
        if (!json_is_number(weight))
            return wrong(err, path, "weight", weight, "a number");
        room[i].kind = (zamba_backbone_head_kind)found;
        room[i].weight = json_number_value(weight);
        st = read_name(&room[i].name, item, path, err);
        if (st == ZAMBA_OK)
            st = read_int(&room[i].n, item, "n", path, err);
        if (st == ZAMBA_OK)
            st = read_int(&room[i].hidden, item, "hidden", path, err);
    }
    o->heads = room;
    o->n_heads = json_array_size(list);
    return st;
}

/* Options of a config; their lists point into `root` and the rooms. */
static zamba_status read_config(zamba_backbone_options *o, json_t *root, zamba_backbone_embedding *embeddings,
                                zamba_backbone_head *heads, const char *path, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    const char *key;
    json_t *v;
    uint64_t seen = 0;
    size_t n;
    const zb_bb_option *t = zb_bb_options_table(&n);
    *o = zamba_backbone_defaults();
    if (!json_is_object(root))
        return wrong(err, path, "the file", root, "an object");
    v = json_object_get(root, "model_type");
    if (!json_is_string(v) || strcmp(json_string_value(v), "zamba_backbone") != 0)
        return wrong(err, path, "model_type", v, "\"zamba_backbone\" (is this a language model's folder?)");
    json_object_foreach(root, key, v)
    {
        const zb_bb_option *row = zb_bb_option_find(key);
        if (row != NULL)
            st = read_option(o, row, v, &seen, (uint64_t)1 << (row - t), path, err);
        else if (strcmp(key, "embeddings") == 0)
            st = read_embeddings(o, embeddings, v, path, err);
        else if (strcmp(key, "heads") == 0)
            st = read_heads(o, heads, v, path, err);
        else if (strcmp(key, "model_type") != 0)
            st = zb_fail(err, ZAMBA_E_FORMAT, "%s: a backbone has no option \"%.60s\"", path, key);
        if (st != ZAMBA_OK)
            return st;
    }
    return ZAMBA_OK;
}

/* ---- weights ---- */

static int same_shape(const zb_tensor *t, const zb_bb_param *r, int theirs)
{
    size_t want[3] = {r->shape[0], r->shape[1], 0};
    int n = r->n_dims;
    if (theirs && r->turned) {
        want[0] = r->shape[1];
        want[1] = r->shape[0];
        if (r->fresh == ZB_BB_CONV && t->n_dims == 3) { /* [K, 1, I] */
            want[2] = want[1];
            want[1] = 1;
            n = 3;
        }
    }
    int same = t->n_dims == n;
    for (int i = 0; i < n && same; i++)
        same = t->shape[i] == want[i];
    return same;
}

static zamba_status read_tensor(float *to, const zb_tensor *t, const zb_bb_param *r, int theirs, zamba_error *err)
{
    char found[64], wanted[64];
    if (!t->known || t->dtype >= ZB_N_FLOATS)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: %s is of type %s (F32, F16 or BF16 is wanted)", t->file, t->name,
                       t->dtype_name);
    if (!same_shape(t, r, theirs)) {
        const size_t turned[2] = {r->shape[1], r->shape[0]};
        return zb_fail(err, ZAMBA_E_MISMATCH, "%s: %s has the shape %s, the options make it %s", t->file, t->name,
                       zb_shape_text(found, sizeof found, t->shape, t->n_dims),
                       zb_shape_text(wanted, sizeof wanted, theirs && r->turned ? turned : r->shape, r->n_dims));
    }
    if (!theirs || !r->turned) {
        zb_to_f32(to, t->data, t->dtype, r->count);
    } else {
        const size_t rows = r->shape[0], cols = r->shape[1], bytes = zb_dtype_bytes(t->dtype);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < cols; j++)
                zb_to_f32(to + i * cols + j, (const char *)t->data + (j * rows + i) * bytes, t->dtype, 1);
    }
    return zb_bb_finite(to, r->count)
               ? ZAMBA_OK
               : zb_fail(err, ZAMBA_E_FORMAT, "%s: a number in %s is not finite", t->file, t->name);
}

static int in_table(const zb_bb_plan *p, const char *name)
{
    for (size_t i = 0; i < p->n_params; i++)
        if (strcmp(p->params[i].name, name) == 0 ||
            (p->params[i].edifice[0] && strcmp(p->params[i].edifice, name) == 0))
            return 1;
    return 0;
}

static zamba_status read_all(const zb_bb_plan *p, float *to, const zb_tensors *ts, const char *path, int whole,
                             zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < ts->n; i++)
        if (!in_table(p, ts->items[i].name))
            return zb_fail(err, ZAMBA_E_MISMATCH, "%s: a backbone of these options has no \"%.80s\"", path,
                           ts->items[i].name);
    for (size_t i = 0; i < p->n_params && st == ZAMBA_OK; i++) {
        const zb_bb_param *r = &p->params[i];
        const zb_tensor *ours = zb_tensors_find(ts, r->name),
                        *theirs = r->edifice[0] ? zb_tensors_find(ts, r->edifice) : NULL;
        if (ours && theirs && ours != theirs)
            st = zb_fail(err, ZAMBA_E_MISMATCH, "%s: \"%s\" and \"%s\" are the same parameter", path, r->name,
                         r->edifice);
        else if (ours || theirs)
            st = read_tensor(to + r->offset, ours ? ours : theirs, r, ours == NULL, err);
        else if (whole || !r->optional)
            st = zb_fail(err, ZAMBA_E_MISMATCH, "%s: \"%s\" is missing", path, r->name);
    }
    return st;
}

zamba_status zb_bb_read(const zb_bb_plan *p, float *to, const char *path, int whole, zamba_error *err)
{
    zb_tensors ts = {0};
    if (path == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone: no file of weights");
    zamba_status st = zb_tensors_open_file(&ts, path, err);
    if (st == ZAMBA_OK)
        st = read_all(p, to, &ts, path, whole, err);
    zb_tensors_close(&ts);
    return st;
}

zamba_status zamba_backbone_load(zamba_backbone **out, const char *folder, const zamba_backbone_run *run,
                                 zamba_error *err)
{
    char path[4096], weights[4096];
    zamba_backbone_options o;
    zamba_backbone_embedding embeddings[ZB_BB_MOST_EXTRAS];
    zamba_backbone_head heads[ZB_BB_MOST_EXTRAS];
    json_t *root = NULL;
    if (out == NULL || folder == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone: no folder, or nowhere to put it");
    *out = NULL;
    zamba_status st = zb_path_join(path, sizeof path, folder, "config.json", err);
    if (st == ZAMBA_OK)
        st = zb_path_join(weights, sizeof weights, folder, "model.safetensors", err);
    if (st == ZAMBA_OK)
        st = zb_json_read(&root, path, zb_json_small, err);
    if (st == ZAMBA_OK)
        st = read_config(&o, root, embeddings, heads, path, err);
    if (st == ZAMBA_OK) {
        st = zamba_backbone_check(&o, err);
        st = st == ZAMBA_OK ? ZAMBA_OK : zb_fail_prefix(err, ZAMBA_E_FORMAT, "%s", path);
    }
    if (st == ZAMBA_OK)
        st = zb_bb_open(out, &o, run, err);
    if (st == ZAMBA_OK)
        st = zb_bb_read(&(*out)->plan, (*out)->params, weights, 1, err);
    if (st == ZAMBA_OK)
        st = zb_bb_changed(*out, 1, err);
    if (st != ZAMBA_OK) {
        zamba_backbone_close(*out);
        *out = NULL;
    }
    json_decref(root);
    return st;
}
