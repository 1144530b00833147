/* cmd_pull.c — `zamba pull`: a model from the hub into the cache. */
#include <string.h>

#include "commands.h"
#include "getting.h"

static bool print(const cli_args *args, const char *word, const hub_pulled *p)
{
    if (!args->json) {
        out_format("%s\n", p->path);
        return out_flush();
    }
    return out_json(json_pack("{s:o, s:o, s:s, s:I, s:I, s:I}", "name", cli_json_text(word, strlen(word)), "path",
                              cli_json_text(p->path, strlen(p->path)), "commit", p->commit, "files",
                              (json_int_t)p->n_files, "bytes", (json_int_t)p->bytes, "fetched", (json_int_t)p->fetched),
                    0);
}

/* Without the network: is it here? */
static int look(const cli_args *args, const char *word)
{
    hub_pulled p = {.commit = ""};
    zamba_error err = {0};
    if (hub_find(p.path, sizeof p.path, word, &err) != ZAMBA_OK)
        return cli_fail(&err);
    return print(args, word, &p) ? 0 : 1;
}

int cmd_pull(const cli_args *args)
{
    if (args->words.n == 0) {
        cli_error("wanted the name of a model: Org/Name");
        return cli_hint(args->command);
    }
    int code = 0;
    for (size_t i = 0; i < args->words.n && code == 0; i++) {
        const char *word = args->words.items[i];
        hub_pulled pulled;
        if (args->offline) {
            code = look(args, word);
            continue;
        }
        code = cli_pull(args, word, args->verify, &pulled);
        if (code == 0 && pulled.fetched == 0)
            cli_say("%s: nothing new", word);
        if (code == 0 && !print(args, word, &pulled))
            code = 1;
    }
    return code;
}
