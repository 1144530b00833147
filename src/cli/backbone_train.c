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
    frame_numbers frames, target;
    size_t rows, seq, frame, hidden, batch, pick;
    float *in, *want;
    uint64_t random;
} vectors;

static int next(void *user, int64_t step, zamba_backbone_batch *batch)
{
    vectors *v = user;
    (void)step;
    for (size_t i = 0; i < v->batch; i++) {
        /* all rows in turn if they fit, else any */
        const size_t row = v->batch == v->rows ? i : (size_t)(frame_random(&v->random) % v->rows);
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

static int check_data(vectors *v, const zamba_backbone_options *o)
{
    const char *path = v->args->frames.data;
    const frame_numbers *f = &v->frames, *t = &v->target;
    if (f->n_dims != 3 || t->n_dims != 2 || f->shape[0] != t->shape[0])
        return cli_error("%s: wanted `frames` [rows, sequence, numbers] and `target` [rows, numbers]", path);
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
    v->batch = (size_t)v->args->frames.batch_size < v->rows ? (size_t)v->args->frames.batch_size : v->rows;
    v->in = malloc(v->batch * v->seq * v->frame * sizeof(float));
    v->want = malloc(v->batch * v->hidden * sizeof(float));
    return v->in && v->want ? 0 : cli_error("out of memory");
}

int backbone_train(const cli_args *args, const char *path)
{
    vectors v = {.args = args, .random = (uint64_t)args->training.seed};
    const zamba_backbone_run run = frame_run(args);
    frame_training t = {.args = args, .folder = "model", .user = &v, .next = next};
    if (!args->output || !args->frames.data) {
        cli_error("backbone train needs --data FILE and -o RUN");
        return cli_hint(args->command);
    }
    int code = frame_numbers_read(args->frames.data, "frames", &v.frames);
    if (code == 0)
        code = frame_numbers_read(args->frames.data, "target", &v.target);
    if (code == 0)
        code = frame_model_open(args, path, &run, &t.model);
    if (code == 0)
        code = check_data(&v, zamba_backbone_get_options(t.model));
    if (code == 0) {
        t.settings = json_pack("{s:o}", "data", cli_json_text(args->frames.data, strlen(args->frames.data)));
        code = frame_train(&t, ZAMBA_BACKBONE_LOSS_SQUARES, ZAMBA_BACKBONE_LAST, -1);
    }
    if (code == 0 && !args->json)
        out_format("%s/model\n", args->output);
    zamba_backbone_close(t.model);
    free(v.frames.data);
    free(v.target.data);
    free(v.in);
    free(v.want);
    return code;
}
