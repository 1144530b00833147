/* jsonl.c — see jsonl.h. */
#include "jsonl.h"

#include <stdlib.h>
#include <string.h>

#include "common.h"

int jsonl_run(jsonl_fn answer, void *user, size_t max_line)
{
    char *line = NULL, why[640], message[704];
    size_t n, capacity = 0, number = 0, n_bad = 0;
    int got = 0;
    while (!out_failed() && (got = cli_read_line(stdin, max_line, &line, &n, &capacity)) != 0) {
        json_t *in = NULL, *out = NULL;
        number++;
        if (got > 0 && strspn(line, " \t") == n)
            continue;
        snprintf(why, sizeof why, "longer than %zu bytes, or out of memory", max_line);
        if (got > 0 && (in = cli_json_parse(line, n, why, sizeof why)) && !json_is_object(in))
            snprintf(why, sizeof why, "wanted a JSON object");
        else if (in)
            out = answer(user, in, line, n, why, sizeof why);
        json_decref(in);
        if (!out) {
            n_bad++;
            snprintf(message, sizeof message, "line %zu: %s", number, why);
            json_t *text = cli_json_text(message, strlen(message));
            out = text ? json_pack("{s:o}", "error", text) : NULL;
        }
        if (!out_json(out, 0))
            n_bad++;
        out_flush();
    }
    free(line);
    if (n_bad)
        return cli_error("%zu of %zu lines were wrong: see \"error\" in the output", n_bad, number);
    return 0;
}
