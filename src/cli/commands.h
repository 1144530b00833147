/* commands.h — the verbs of the program: one row each, one cmd_*.c each. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "options.h"

typedef struct cli_command {
    const char *name;
    unsigned bit;
    int (*run)(const cli_args *args); /* returns the exit code */
    const char *words;                /* what may stand behind the name: "[MODEL] [PROMPT]" */
    const char *summary;              /* one line */
    const char *description;          /* paragraphs, a blank line between */
    const char *examples;             /* lines, each a command */
} cli_command;

extern const cli_command cli_commands[];
extern const size_t cli_n_commands;

const cli_command *cli_command_find(const char *name);

int cmd_run(const cli_args *args);
int cmd_chat(const cli_args *args);
int cmd_debug(const cli_args *args);
int cmd_tokenize(const cli_args *args);
int cmd_detokenize(const cli_args *args);
int cmd_template(const cli_args *args);
int cmd_inspect(const cli_args *args);
int cmd_perplexity(const cli_args *args);
int cmd_eval(const cli_args *args);
int cmd_bench(const cli_args *args);
int cmd_convert(const cli_args *args);
int cmd_merge(const cli_args *args);
int cmd_quantize(const cli_args *args);
int cmd_imatrix(const cli_args *args);
int cmd_data(const cli_args *args);
int cmd_train(const cli_args *args);
int cmd_train_tokenizer(const cli_args *args);
int cmd_serve(const cli_args *args);
int cmd_app(const cli_args *args);
int cmd_batch(const cli_args *args);
int cmd_pull(const cli_args *args);
int cmd_list(const cli_args *args);
int cmd_rm(const cli_args *args);
int cmd_show(const cli_args *args);
int cmd_report(const cli_args *args);
int cmd_backbone(const cli_args *args);
int cmd_replay(const cli_args *args);
int cmd_help(const cli_args *args);
int cmd_man(const cli_args *args);
int cmd_completion(const cli_args *args);
int cmd_version(const cli_args *args);

/* help.c: the text of --help, for one command or (NULL) for the whole program. */
void help_print(const cli_command *command, int color);

#endif
