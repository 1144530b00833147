/* grammar_option.c — --grammar, --json-schema and --regex: the form that an answer has to have. */
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum { GRAMMAR_BYTES = 1 << 20 };

/* A schema that is given itself begins with a brace; a grammar has its sign. Everything else is the name of a file. */
static bool is_text(zamba_grammar_kind kind, const char *given)
{
    return kind == ZAMBA_GRAMMAR_REGEX ||
           (kind == ZAMBA_GRAMMAR_GBNF ? strstr(given, "::=") != NULL : given[strspn(given, " \t\r\n")] == '{');
}

int cli_grammar_open(const cli_args *args, const zamba_model *model, zamba_grammar **grammar)
{
    zamba_error err = {0};
    const int n = (args->grammar != NULL) + (args->json_schema != NULL) + (args->regex != NULL);
    *grammar = NULL;
    if (n == 0)
        return 0;
    if (n > 1) {
        cli_error("--grammar, --json-schema and --regex do not go together");
        return cli_hint(args->command);
    }
    if (!zamba_model_tokenizer(model))
        return cli_error("the model has no tokenizer, which a grammar needs");
    const zamba_grammar_kind kind = args->grammar       ? ZAMBA_GRAMMAR_GBNF
                                    : args->json_schema ? ZAMBA_GRAMMAR_JSON_SCHEMA
                                                        : ZAMBA_GRAMMAR_REGEX;
    const char *given = args->grammar ? args->grammar : args->json_schema ? args->json_schema : args->regex;
    char *text = NULL;
    size_t n_text = strlen(given);
    if (!is_text(kind, given)) {
        const int code = cli_read_file(given, GRAMMAR_BYTES, &text, &n_text);
        if (code)
            return code;
    }
    const zamba_status st =
        zamba_grammar_open(grammar, zamba_model_tokenizer(model), kind, text ? text : given, n_text, &err);
    free(text);
    return st == ZAMBA_OK ? 0 : cli_fail(&err);
}

int cli_grammar_state_open(zamba_grammar *grammar, const zamba_model *model, bool keep_space,
                           zamba_grammar_state **state)
{
    zamba_error err = {0};
    zamba_reply *reply = NULL;
    zamba_reply_options plain = zamba_reply_defaults();
    zamba_grammar_options o = zamba_grammar_defaults();
    *state = NULL;
    if (!grammar)
        return 0;
    if (zamba_reply_open(&reply, model, &plain, &err) != ZAMBA_OK)
        return cli_fail(&err);
    o.keep_space = keep_space;
    o.n_eos = zamba_reply_eos(reply, &o.eos);
    const zamba_status st = zamba_grammar_state_open(state, grammar, &o, &err);
    zamba_reply_close(reply);
    return st == ZAMBA_OK ? 0 : cli_fail(&err);
}
