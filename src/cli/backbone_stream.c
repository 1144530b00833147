/* backbone_stream.c — `zamba backbone stream`: frames on standard input, the vector of each on standard output before
 * the next is read, so that a program can wait for it. Nothing is allocated between the first frame and the last.
 * Where the pace is known, caches are filled shortly before the next frame is due. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backbone_verbs.h"

typedef struct pipe_run {
    const cli_args *args;
    zamba_backbone *model;
    zamba_backbone_stream *stream;
    zamba_backbone_window *window;
    size_t batch, in, out, hidden; /* numbers of a frame, of what is written, of a vector; all timelines together */
    float *frame, *vector, *logits;
    uint64_t n_frames, n_skipped;
    double due; /* when the next frame is expected; 0: not known */
} pipe_run;

/* Wait for the next frame until it is nearly due, and if it has not come by then, fill the caches. */
static void wait_warming(const pipe_run *p)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    const double left = p->due - 1e-3 * p->args->frames.warm - cli_now();
    if (p->due > 0 && left > 0 && poll(&input, 1, (int)ceil(1e3 * left)) == 0)
        zamba_backbone_warm(p->stream);
}

/* A whole frame: 1; the end of the input: 0; -1 after a message. */
static int read_frame(pipe_run *p)
{
    const size_t wanted = p->in * sizeof(float);
    size_t have = 0;
    while (have < wanted) {
        const ssize_t got = read(STDIN_FILENO, (char *)p->frame + have, wanted - have);
        if (got < 0 && errno == EINTR && !cli_signal)
            continue;
        if (got < 0) {
            if (errno != EINTR)
                cli_error("standard input: %s", strerror(errno));
            return errno == EINTR ? 0 : -1;
        }
        if (got == 0)
            break;
        have += (size_t)got;
    }
    if (p->args->frames.warm > 0 && p->args->frames.fps > 0)
        p->due = cli_now() + 1 / p->args->frames.fps;
    if (have == 0 || have == wanted)
        return have == wanted;
    cli_error("standard input ended inside frame %llu: %zu of %zu bytes (a frame is %zu float32)",
              (unsigned long long)p->n_frames, have, wanted, p->in);
    return -1;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static int answer(pipe_run *p)
{
    enum { SKIP = 2 };
    zamba_error err = {0};
    zamba_status st = ZAMBA_OK;
    const bool left_out = p->args->frames.non_finite == SKIP && !all_finite(p->frame, p->in);
    if (left_out && p->n_skipped++ == 0)
        cli_warn("frame %llu is not finite: left out, the last vector is written again (said once)",
                 (unsigned long long)p->n_frames);
    if (left_out)
        ;
    else if (p->window)
        st = zamba_backbone_window_push(p->window, p->frame, p->vector, &err);
    else
        st = zamba_backbone_step(p->stream, p->frame, p->vector, &err);
    if (st == ZAMBA_OK && p->logits)
        st = zamba_backbone_logits(p->model, p->vector, p->batch, p->logits, &err);
    if (st != ZAMBA_OK)
        return cli_error("frame %llu: %s", (unsigned long long)p->n_frames, err.message);
    frame_numbers_out(p->logits ? p->logits : p->vector, p->out);
    p->n_frames++;
    return out_flush() ? 0 : 1;
}

static int open_run(pipe_run *p, const char *path)
{
    zamba_error err = {0};
    const zamba_backbone_run run = frame_run(p->args);
    int code = frame_model_open(p->args, path, &run, &p->model);
    if (code)
        return code;
    const zamba_backbone_options *o = zamba_backbone_get_options(p->model);
    const int32_t logits = zamba_backbone_logit_size(o);
    p->batch = (size_t)p->args->frames.batch;
    if (p->args->frames.logits && logits == 0)
        return cli_error("--logits: the model has no heads");
    if (p->args->frames.reencode > 0 && p->batch > 1)
        return cli_error("--reencode goes with one timeline, not --batch %zu", p->batch);
    if (p->args->frames.reencode > 0 && p->args->frames.warm > 0)
        return cli_error("--warm goes with steps, not with --reencode");
    p->in = p->batch * (size_t)zamba_backbone_frame_size(o);
    p->hidden = p->batch * (size_t)o->hidden_size;
    p->out = p->args->frames.logits ? p->batch * (size_t)logits : p->hidden;
    const zamba_status st =
        p->args->frames.reencode > 0
            ? zamba_backbone_window_open(&p->window, p->model, (size_t)p->args->frames.reencode, &err)
            : zamba_backbone_stream_open(&p->stream, p->model, p->batch, &err);
    if (st != ZAMBA_OK)
        return cli_fail(&err);
    p->frame = malloc(p->in * sizeof(float));
    p->vector = calloc(p->hidden, sizeof(float));
    p->logits = p->args->frames.logits ? calloc(p->out, sizeof(float)) : NULL;
    if (!p->frame || !p->vector || (p->args->frames.logits && !p->logits))
        return cli_error("out of memory");
    cli_note("%zu numbers a frame, %zu back; one step allocates nothing", p->in, p->out);
    return 0;
}

int backbone_stream(const cli_args *args, const char *path)
{
    pipe_run p = {.args = args};
    int code = open_run(&p, path), got = 0;
    while (code == 0 && (got = read_frame(&p)) > 0) {
        code = answer(&p);
        if (code == 0)
            wait_warming(&p);
    }
    if (got < 0)
        code = 1;
    if (code == 0)
        cli_note("%llu frames", (unsigned long long)p.n_frames);
    free(p.frame);
    free(p.vector);
    free(p.logits);
    zamba_backbone_stream_close(p.stream);
    zamba_backbone_window_close(p.window);
    zamba_backbone_close(p.model);
    return code;
}
