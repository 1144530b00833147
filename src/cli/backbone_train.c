/* backbone_train.c — `zamba backbone train`: learn to give target vectors for sequences of frames from one safetensors
 * file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbone_verbs.h"
#include "commands.h"
#include "frame_train.h"

typedef struct vectors {
    const cli_args *args;
    frame_training t;
    frame_numbers frames, target;
    size_t rows, seq, frame, hidden, batch;
    float *in, *want;
} vectors;

static int next(void *user, int64_t step, zamba_backbone_batch *batch)
{
    vectors *v = user;
    (void)step;
    for (size_t i = 0; i < v->batch; i++) {
        /* all rows in turn if they fit, else any */
        const size_t row = v->batch == v->rows ? i : (size_t)(frame_random(&v->t.random) % v->rows);
        memcpy(v->in + i * v->seq * v->frame, v->frames.data + row * v->seq * v->frame,
               v->seq * v->frame * sizeof(float));
        memcpy(v->want + i * v->hidden, v->target.data + row * v->hidden, v->hidden * sizeof(float));
    }
    batch->frames = v->in;
    batch->targets = v->want;
    batch->batch = v->batch;
    batch->seq = v->seq;
    return 0;
}

/* The first number that is none, or n. */
static size_t not_finite(const frame_numbers *x)
{
    size_t i = 0;
    while (i < x->n && isfinite(x->data[i]))
        i++;
    return i;
}

static int check_data(vectors *v, const zamba_backbone_options *o)
{
    const char *path = v->args->frames.data;
    const frame_numbers *f = &v->frames, *t = &v->target;
    if (f->n_dims != 3 || t->n_dims != 2)
        return cli_error("%s: found `frames` of %d dimensions and `target` of %d, wanted [rows, sequence, numbers] and "
                         "[rows, numbers] of a .safetensors file",
                         path, f->n_dims, t->n_dims);
    if (f->shape[0] != t->shape[0])
        return cli_error("%s: `frames` has %lld rows and `target` %lld, wanted as many", path, (long long)f->shape[0],
                         (long long)t->shape[0]);
    if (f->shape[2] != zamba_backbone_frame_size(o) || t->shape[1] != o->hidden_size)
        return cli_error(
            "%s: frames of %lld numbers and targets of %lld; the model takes %d and gives %d (--embed-dim, "
            "--hidden-size)",
            path, (long long)f->shape[2], (long long)t->shape[1], (int)zamba_backbone_frame_size(o),
            (int)o->hidden_size);
    v->rows = (size_t)f->shape[0];
    v->seq = (size_t)f->shape[1];
    v->frame = (size_t)f->shape[2];
    v->hidden = (size_t)t->shape[1];
    size_t at = v->args->frames.non_finite == 1 ? f->n : not_finite(f);
    if (at < f->n)
        return cli_error("%s: `frames`: number %zu of frame %zu of row %zu is not finite (--non-finite pass lets it "
                         "through)",
                         path, at % v->frame, at / v->frame % v->seq, at / v->frame / v->seq);
    if ((at = not_finite(t)) < t->n)
        return cli_error("%s: `target`: number %zu of row %zu is not finite, wanted a number to learn", path,
                         at % v->hidden, at / v->hidden);
    v->batch = (size_t)v->args->frames.batch_size < v->rows ? (size_t)v->args->frames.batch_size : v->rows;
    v->in = malloc(v->batch * v->seq * v->frame * sizeof(float));
    v->want = malloc(v->batch * v->hidden * sizeof(float));
    return v->in && v->want ? 0 : cli_error("out of memory");
}

int backbone_train(const cli_args *args, const char *path)
{
    vectors v = {.args = args};
    const zamba_backbone_run run = frame_run(args);
    v.t = (frame_training){
        .args = args, .folder = "model", .user = &v, .next = next, .random = (uint64_t)args->training.seed};
    if (!args->output || !args->frames.data) {
        cli_error("backbone train needs --data FILE and -o RUN");
        return cli_hint(args->command);
    }
    int code = frame_numbers_read(args->frames.data, "frames", &v.frames);
    if (code == 0)
        code = frame_numbers_read(args->frames.data, "target", &v.target);
    if (code == 0)
        code = frame_model_open(args, path, &run, &v.t.model);
    if (code == 0)
        code = check_data(&v, zamba_backbone_get_options(v.t.model));
    if (code == 0) {
        v.t.mark = frame_mark(frame_mark(0, v.frames.data, v.frames.n), v.target.data, v.target.n);
        v.t.settings = json_pack("{s:o}", "data", cli_json_text(args->frames.data, strlen(args->frames.data)));
        code = frame_train(&v.t, ZAMBA_BACKBONE_LOSS_SQUARES, ZAMBA_BACKBONE_LAST, -1);
    }
    if (code == 0 && !args->json)
        out_format("%s/model\n", args->output);
    zamba_backbone_close(v.t.model);
    free(v.frames.data);
    free(v.target.data);
    free(v.in);
    free(v.want);
    return code;
}
