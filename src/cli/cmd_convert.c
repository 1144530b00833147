/* cmd_convert.c — `zamba convert`: a checkpoint folder as one GGUF file, or back. The library does the work. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "progress.h"

static int report(const cli_args *args, const char *in, const char *out, const zamba_convert_result *r, double seconds)
{
    char bytes[32];
    if (args->json)
        return out_json(json_pack("{s:o, s:o, s:I, s:I, s:I, s:f}", "in", cli_json_text(in, strlen(in)), "out",
                                  cli_json_text(out, strlen(out)), "tensors", (json_int_t)r->n_tensors, "files",
                                  (json_int_t)r->n_files, "bytes", (json_int_t)r->bytes, "seconds",
                                  cli_round(seconds, 3)),
                        2)
                   ? 0
                   : 1;
    cli_note("%s: %zu tensors, %s, in %zu file%s, written in %.1f s", out, r->n_tensors,
             cli_bytes((double)r->bytes, bytes), r->n_files, r->n_files == 1 ? "" : "s", seconds);
    return 0;
}

int cmd_convert(const cli_args *args)
{
    zamba_convert_options o = zamba_convert_defaults();
    zamba_convert_result result = {.size = sizeof result};
    zamba_error err = {0};
    progress bar;
    size_t used = 0;
    if (args->words.n < (args->model ? 1u : 2u)) {
        cli_error("wanted the model to read and the name to write: zamba convert IN OUT");
        return cli_hint(args->command);
    }
    int code = cli_no_more_words(args, args->model ? 1 : 2);
    if (code)
        return code;
    char *in = cli_model_path(args, &used);
    if (!in)
        return 1;
    const char *out = args->words.items[used];
    o.layout = (zamba_layout)args->layout;
    o.type = (zamba_convert_type)args->convert_type;
    o.force = args->force;
    o.n_threads = (int32_t)args->threads;
    o.on_progress = cli_bytes_done;
    o.user = &bar;
    cli_catch_signal(SIGINT);
    cli_catch_signal(SIGTERM);
    progress_begin(&bar, (int)args->progress, (int)args->color, "converting", "MB", 0);
    const double start = cli_now();
    const zamba_status st = zamba_convert(in, out, &o, &result, &err);
    progress_end(&bar);
    code = st == ZAMBA_OK ? report(args, in, out, &result, cli_now() - start) : cli_fail(&err);
    free(in);
    return st == ZAMBA_E_CANCELLED ? 128 + cli_signal : code;
}
