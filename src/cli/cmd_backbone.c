/* cmd_backbone.c — `zamba backbone VERB`: chooses the verb; init and forward are here. */
#include <stdlib.h>
#include <string.h>

#include "backbone_verbs.h"
#include "commands.h"
#include "out_safetensors.h"

static int init(const cli_args *args, const char *path)
{
    zamba_error err = {0};
    zamba_backbone *model = NULL;
    const zamba_backbone_run run = frame_run(args);
    char a[32];
    if (!args->output) {
        cli_error("backbone init needs -o FOLDER");
        return cli_hint(args->command);
    }
    int code = frame_model_open(args, path, &run, &model);
    if (code == 0 && args->frames.import && zamba_backbone_load_weights(model, args->frames.import, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0 && zamba_backbone_save(model, args->output, args->force, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0) {
        int64_t n = 0;
        zamba_backbone_exact_count(zamba_backbone_get_options(model), &n, NULL);
        if (args->json)
            code = !out_json(json_pack("{s:o, s:I}", "folder", cli_json_text(args->output, strlen(args->output)),
                                       "parameters", (json_int_t)n),
                             0);
        else
            out_format("%s: %s parameters\n", args->output, cli_number((uint64_t)n, a));
    }
    zamba_backbone_close(model);
    return code;
}

/* How many sequences of how many frames there are: as the file says, or --batch of equal ones. */
static int shape_of(const cli_args *args, const frame_numbers *in, size_t frame, size_t *batch, size_t *seq)
{
    const char *name = args->frames.frames ? args->frames.frames : "standard input";
    if (in->n_dims > 1) {
        if ((size_t)in->shape[in->n_dims - 1] != frame || in->n_dims > 3)
            return cli_error("%s: frames of %lld numbers in %d dimensions, wanted %zu in [frames, numbers] or "
                             "[sequences, frames, numbers]",
                             name, (long long)in->shape[in->n_dims - 1], in->n_dims, frame);
        *batch = in->n_dims == 3 ? (size_t)in->shape[0] : 1;
        *seq = (size_t)in->shape[in->n_dims - 2];
        return 0;
    }
    *batch = (size_t)args->frames.batch;
    if (in->n == 0 || in->n % (frame * *batch) != 0)
        return cli_error("%s: %zu numbers are not %zu sequences of frames of %zu", name, in->n, *batch, frame);
    *seq = in->n / frame / *batch;
    return 0;
}

static int put(const cli_args *args, const char *name, const float *x, size_t batch, size_t rows, size_t columns)
{
    if (!args->output) {
        frame_numbers_out(x, batch * rows * columns);
        return 0;
    }
    st_writer w = {0};
    const int64_t shape[] = {(int64_t)batch, (int64_t)rows, (int64_t)columns};
    const int64_t last[] = {(int64_t)batch, (int64_t)columns};
    int code = st_add_shape(&w, name, args->all ? shape : last, args->all ? 3 : 2);
    if (code == 0)
        code = st_start(&w, args->output);
    if (code == 0)
        code = st_put(&w, 0, 0, batch * rows, x);
    return st_close(&w, code);
}

static int forward(const cli_args *args, const char *path)
{
    zamba_error err = {0};
    zamba_backbone *model = NULL;
    const zamba_backbone_run run = frame_run(args);
    frame_numbers in = {0};
    size_t batch = 0, seq = 0;
    float *y = NULL, *logits = NULL;
    int code = frame_model_open(args, path, &run, &model);
    if (code == 0)
        code = frame_numbers_read(args->frames.frames ? args->frames.frames : "-", "frames", &in);
    const zamba_backbone_options *o = code == 0 ? zamba_backbone_get_options(model) : NULL;
    if (code == 0)
        code = shape_of(args, &in, (size_t)zamba_backbone_frame_size(o), &batch, &seq);
    const size_t rows = args->all ? seq : 1, hidden = o ? (size_t)o->hidden_size : 1;
    const size_t n_logits = o ? (size_t)zamba_backbone_logit_size(o) : 0;
    if (code == 0 && !(y = calloc(batch * rows, hidden * sizeof *y)))
        code = cli_error("out of memory");
    if (code == 0 && zamba_backbone_forward(model, in.data, batch, seq,
                                            args->all ? ZAMBA_BACKBONE_ALL : ZAMBA_BACKBONE_LAST, y, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0 && args->frames.logits) {
        if (n_logits == 0)
            code = cli_error("--logits: the model has no heads");
        else if (!(logits = calloc(batch * rows, n_logits * sizeof *logits)))
            code = cli_error("out of memory");
        else if (zamba_backbone_logits(model, y, batch * rows, logits, &err) != ZAMBA_OK)
            code = cli_fail(&err);
    }
    if (code == 0)
        code =
            logits ? put(args, "logits", logits, batch, rows, n_logits) : put(args, "output", y, batch, rows, hidden);
    free(in.data);
    free(y);
    free(logits);
    zamba_backbone_close(model);
    return code;
}

/* Options that say nothing to the verb they were given to would be a surprise later. */
static int check_verb(const cli_args *args, const char *verb)
{
    enum { SKIP = 2 };
    const cli_frame_model *f = &args->frames;
    const struct {
        const char *option;
        bool given;
        const char *verbs; /* two at most */
    } only[] = {{"--frames", f->frames != NULL, "forward"},
                {"--all", args->all, "forward"},
                {"--data", f->data != NULL, "train"},
                {"--import", f->import != NULL, "init"},
                {"--batch", f->batch > 1, "stream forward"},
                {"--reencode", f->reencode > 0, "stream"},
                {"--logits", f->logits, "stream forward"},
                {"--non-finite skip", f->non_finite == SKIP, "stream"},
                {"--fps", f->fps > 0, "bench stream"},
                {"--warm", f->warm > 0, "bench stream"},
                {"--load", f->load, "bench"},
                {"--realtime", f->realtime, "bench"},
                {"--reference", f->reference != NULL, "bench"}};
    for (size_t i = 0; i < sizeof only / sizeof *only; i++) {
        const char *space = strchr(only[i].verbs, ' ');
        const size_t n = space ? (size_t)(space - only[i].verbs) : strlen(only[i].verbs);
        if (!only[i].given || (strlen(verb) == n && memcmp(verb, only[i].verbs, n) == 0) ||
            (space && strcmp(verb, space + 1) == 0))
            continue;
        cli_error("backbone %s: %s goes with %.*s%s%s", verb, only[i].option, (int)n, only[i].verbs,
                  space ? " and " : "", space ? space + 1 : "");
        return cli_hint(args->command);
    }
    if (f->warm > 0 && (f->fps <= 0 || f->warm >= 1e3 / f->fps)) {
        cli_error("backbone %s: --warm %g wants --fps, and less than the milliseconds from one frame to the next", verb,
                  f->warm);
        return cli_hint(args->command);
    }
    return 0;
}

int cmd_backbone(const cli_args *args)
{
    static const struct {
        const char *name;
        int (*run)(const cli_args *, const char *);
    } verbs[] = {{"info", backbone_info},       {"pattern", backbone_pattern},
                 {"compare", backbone_compare}, {"init", init},
                 {"forward", forward},          {"stream", backbone_stream},
                 {"bench", backbone_bench},     {"train", backbone_train}};
    const char *word = args->words.n ? args->words.items[0] : "";
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(word, verbs[i].name) != 0)
            continue;
        int code = cli_no_more_words(args, 2);
        if (code == 0)
            code = check_verb(args, word);
        return code ? code : verbs[i].run(args, args->words.n > 1 ? args->words.items[1] : NULL);
    }
    cli_error("backbone: found '%s', wanted info, pattern, compare, init, forward, stream, bench or train", word);
    return cli_hint(args->command);
}
