/* cmd_train_tokenizer.c — `zamba train-tokenizer`: a tokenizer learned from text files. The library does the work. */
#include <string.h>

#include "commands.h"
#include "common.h"
#include "progress.h"
#include "zamba_train.h"

typedef struct view {
    const cli_args *args;
    progress bar;
    const char *stage; /* of the bar, or NULL */
} view;

static int on_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    view *v = user;
    const bool reading = strcmp(stage, "reading") == 0;
    const uint64_t unit = reading ? 1000000 : 1;
    if (!v->stage || strcmp(v->stage, stage) != 0) {
        if (v->stage)
            progress_end(&v->bar);
        progress_begin(&v->bar, (int)v->args->progress, (int)v->args->color, stage, reading ? "MB" : "pieces",
                       (size_t)(total / unit));
        v->stage = stage;
    }
    progress_update(&v->bar, (size_t)(done / unit));
    return cli_signal;
}

static int report(const cli_args *args, const zamba_tokenizer_result *r)
{
    char words[32], text[32];
    const double ratio = r->n_tokens > 0 ? (double)r->n_seen / (double)r->n_tokens : 0;
    if (args->json)
        return out_json(json_pack("{s:o, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:f, s:f}", "out",
                                  cli_json_text(args->output, strlen(args->output)), "vocab_size", (int)r->vocab_size,
                                  "characters", (int)r->n_characters, "merges", (int)r->n_merges, "documents",
                                  (json_int_t)r->n_documents, "words", (json_int_t)r->n_words, "text_characters",
                                  (json_int_t)r->n_seen, "text_tokens", (json_int_t)r->n_tokens, "characters_per_token",
                                  cli_round(ratio, 4), "seconds", cli_round(r->seconds, 3)),
                        2)
                   ? 0
                   : 1;
    out_format("%s: %d ids: %d characters, %d merges; learned from %s characters, %s different words\n"
               "%.3f characters per token on that text; %.1f s\n",
               args->output, (int)r->vocab_size, (int)r->n_characters, (int)r->n_merges, cli_number(r->n_seen, text),
               cli_number(r->n_words, words), ratio, r->seconds);
    return 0;
}

int cmd_train_tokenizer(const cli_args *args)
{
    zamba_tokenizer_options o = zamba_tokenizer_defaults();
    zamba_tokenizer_result result = {.size = sizeof result};
    zamba_error err = {0};
    view v = {.args = args};
    if (args->words.n == 0 || !args->output) {
        cli_error("wanted text files and a folder to write: zamba train-tokenizer FILE... -o FOLDER");
        return cli_hint(args->command);
    }
    o.vocab_size = (int32_t)args->vocab_size;
    o.min_frequency = args->min_frequency;
    o.coverage = args->coverage;
    o.special = args->special_tokens.items;
    o.n_special = args->special_tokens.n;
    o.chat = args->chat;
    o.force = args->force;
    o.on_progress = on_progress;
    o.user = &v;
    cli_catch_signal(SIGINT);
    cli_catch_signal(SIGTERM);
    const zamba_status st = zamba_tokenizer_train(args->output, args->words.items, args->words.n, &o, &result, &err);
    if (v.stage)
        progress_end(&v.bar);
    if (st == ZAMBA_E_CANCELLED)
        return 128 + cli_signal;
    if (st != ZAMBA_OK)
        return cli_fail(&err);
    if (result.vocab_size < o.vocab_size)
        cli_warn("the text has only enough pairs for %d ids; %d were asked for", (int)result.vocab_size,
                 (int)o.vocab_size);
    return report(args, &result);
}
