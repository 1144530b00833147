/* main.c — from argv to a command. Exit codes: 0 done, 1 an error (a message on standard error), 2 wrong usage. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "terminal.h"

static int unknown_command(const char *word)
{
    const char *names[32];
    size_t n = 0;
    for (; n < cli_n_commands && n < 32; n++)
        names[n] = cli_commands[n].name;
    const char *near = cli_nearest(word, names, n);
    if (near)
        cli_error("'%s' is no command; did you mean '%s'?", word, near);
    else
        cli_error("'%s' is no command", word);
    return cli_hint(NULL);
}

int main(int argc, char **argv)
{
    cli_args args;
    signal(SIGPIPE, SIG_IGN); /* both come back as errors of the write */
    signal(SIGXFSZ, SIG_IGN);
    term_init();
    cli_args_init(&args);
    if (argc < 2) {
        cli_error("wanted a command, such as `zamba run`");
        return cli_hint(NULL);
    }
    const bool named = argv[1][0] != '-';
    if (named && !(args.command = cli_command_find(argv[1])))
        return unknown_command(argv[1]);
    int code = cli_parse(&args, argc, argv, named ? 2 : 1);
    if (code == 0) {
        cli_messages_init((int)args.color, args.verbose);
        cli_locate_init(&args);
        if (args.version)
            code = cmd_version(&args);
        else if (args.help)
            help_print(args.command, (int)args.color);
        else if (!args.command)
            code = args.words.n ? unknown_command(args.words.items[0]) : cli_hint(NULL);
        else if ((code = cli_place(&args)) == 0)
            code = args.command->run(&args);
        code = out_finish(code);
    }
    cli_args_free(&args);
    return code;
}
