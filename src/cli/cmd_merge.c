/* cmd_merge.c — `zamba merge`: a model with LoRA adapters in its weights. The library does the work. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "progress.h"

static int report(const cli_args *args, const char *in, const zamba_convert_result *r)
{
    char bytes[32];
    if (args->json)
        return out_json(json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "in", cli_json_text(in, strlen(in)), "out",
                                  cli_json_text(args->output, strlen(args->output)), "tensors",
                                  (json_int_t)r->n_tensors, "files", (json_int_t)r->n_files, "bytes",
                                  (json_int_t)r->bytes, "left", (json_int_t)r->n_left),
                        2)
                   ? 0
                   : 1;
    cli_note("%s: %zu tensors, %s", args->output, r->n_tensors, cli_bytes((double)r->bytes, bytes));
    if (r->n_left > 0)
        cli_warn("%zu adapted matrices are used at several layers and changed in another way at each, which no single "
                 "matrix can be: their adapter is in %s/adapter; run the model with --lora %s/adapter",
                 r->n_left, args->output, args->output);
    return 0;
}

int cmd_merge(const cli_args *args)
{
    zamba_convert_options o = zamba_convert_defaults();
    zamba_convert_result result = {.size = sizeof result};
    zamba_lora_file *loras;
    zamba_error err = {0};
    progress bar;
    size_t used = 0;
    if (args->loras.n == 0 || !args->output) {
        cli_error("%s is missing: zamba merge MODEL --lora FILE -o OUT", args->output ? "--lora" : "--output");
        return cli_hint(args->command);
    }
    int code = cli_no_more_words(args, args->model ? 0 : 1);
    if (code)
        return code;
    char *in = cli_model_path(args, &used);
    if (!in)
        return 1;
    code = cli_loras(args, &loras);
    o.loras = loras;
    o.n_loras = args->loras.n;
    o.layout = (zamba_layout)args->layout;
    o.type = (zamba_convert_type)args->convert_type;
    o.force = args->force;
    o.n_threads = (int32_t)args->threads;
    o.on_progress = cli_bytes_done;
    o.user = &bar;
    cli_catch_signal(SIGINT);
    cli_catch_signal(SIGTERM);
    progress_begin(&bar, (int)args->progress, (int)args->color, "merging", "MB", 0);
    const zamba_status st = code == 0 ? zamba_convert(in, args->output, &o, &result, &err) : ZAMBA_OK;
    progress_end(&bar);
    if (code == 0)
        code = st == ZAMBA_OK ? report(args, in, &result) : cli_fail(&err);
    free(loras);
    free(in);
    return st == ZAMBA_E_CANCELLED ? 128 + cli_signal : code;
}
