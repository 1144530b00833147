/* help.c — the text of --help, made from the tables of commands and options, wrapped to the terminal. */
#include <string.h>
#include <stdio.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "terminal.h"

enum { WIDEST = 100, LEFT = 2 };

/* Write text word by word within `width` columns; lines after the first begin with `indent` spaces. A blank line in the
 * text is one in the output. `column` is where the first word stands. */
static void wrap(const char *text, int column, int indent, int width)
{
    int at = column;
    bool line_start = true;
    while (*text) {
        if (*text == '\n') {
            out_text("\n");
            if (text[1] == '\n') {
                out_text("\n");
                text++;
            }
            text++;
            out_format("%*s", indent, "");
            at = indent;
            line_start = true;
            continue;
        }
        if (*text == ' ') {
            text++;
            continue;
        }
        const size_t n = strcspn(text, " \n");
        const int columns = (int)term_columns(text, n);
        if (!line_start && at + 1 + columns > width) {
            out_format("\n%*s", indent, "");
            at = indent;
            line_start = true;
        }
        if (!line_start) {
            out_text(" ");
            at++;
        }
        out_bytes(text, n);
        at += columns;
        line_start = false;
        text += n;
    }
    out_text("\n");
}

static void heading(const term *t, const char *text)
{
    out_format("\n%s%s%s\n", term_on(t, TERM_BOLD), text, term_on(t, TERM_PLAIN));
}

/* "-m, --model MODEL", in colour; the columns it takes are returned. */
static int option_names(const term *t, const cli_option *o, bool write)
{
    size_t n;
    const char *name = cli_option_name(o, 0, &n);
    const bool choice = o->kind == CLI_CHOICE;
    const char *value = o->value && !choice ? o->value : NULL;
    if (write) {
        if (o->letter)
            out_format("%s-%c%s, ", term_on(t, TERM_CYAN), o->letter, term_on(t, TERM_PLAIN));
        else
            out_text("    ");
        out_format("%s--%.*s%s", term_on(t, TERM_CYAN), (int)n, name, term_on(t, TERM_PLAIN));
        if (value)
            out_format(" %s%s%s", term_on(t, TERM_GREEN), value, term_on(t, TERM_PLAIN));
        if (choice)
            out_format(" %sMODE%s", term_on(t, TERM_GREEN), term_on(t, TERM_PLAIN));
    }
    return 4 + 2 + (int)n + (value ? 1 + (int)strlen(value) : 0) + (choice ? 5 : 0);
}

static void option_help(const term *t, const cli_option *o, int column, int width)
{
    char text[600], number[32], name[40];
    size_t used;
    used = (size_t)snprintf(text, sizeof text, "%s", o->help);
    if (o->kind == CLI_CHOICE)
        used += (size_t)snprintf(text + used, sizeof text - used, " [%s]", o->value);
    const char *fallback = cli_option_default(o, number, sizeof number);
    if (*fallback)
        used += (size_t)snprintf(text + used, sizeof text - used, " (default: %s)", fallback);
    for (size_t i = 1; cli_option_spelling(o, i, name); i++)
        used += (size_t)snprintf(text + used, sizeof text - used, " (also %s)", name);
    out_format("%*s", LEFT, "");
    const int columns = LEFT + option_names(t, o, true);
    if (columns + 2 > column)
        out_format("\n%*s", column, "");
    else
        out_format("%*s", column - columns, "");
    wrap(text, column, column, width);
}

static void options_help(const term *t, unsigned commands, unsigned without, int width)
{
    int column = 0;
    for (size_t i = 0; i < cli_n_options; i++) {
        const int columns = LEFT + option_names(t, &cli_options[i], false) + 2;
        if ((cli_options[i].commands & commands) && columns > column && columns <= 32)
            column = columns;
    }
    for (size_t g = 0; g < cli_n_groups; g++) {
        bool first = true;
        for (size_t i = 0; i < cli_n_options; i++) {
            const cli_option *o = &cli_options[i];
            if (o->group != (int)g || !(o->commands & commands) || (without && (o->commands & without)))
                continue;
            if (first)
                heading(t, cli_groups[g]);
            first = false;
            option_help(t, o, column, width);
        }
    }
}

static void program_help(const term *t, int width)
{
    size_t longest = 0;
    out_format("%szamba%s %s runs the Zamba family of language models: from checkpoint folder to text.\n",
               term_on(t, TERM_BOLD), term_on(t, TERM_PLAIN), zamba_version());
    heading(t, "Usage");
    out_text("  zamba COMMAND [OPTIONS] [WORDS]\n");
    heading(t, "Commands");
    for (size_t i = 0; i < cli_n_commands; i++)
        longest = strlen(cli_commands[i].name) > longest ? strlen(cli_commands[i].name) : longest;
    for (size_t i = 0; i < cli_n_commands; i++) {
        const cli_command *c = &cli_commands[i];
        out_format("  %s%-*s%s  ", term_on(t, TERM_CYAN), (int)longest, c->name, term_on(t, TERM_PLAIN));
        wrap(c->summary, (int)longest + 4, (int)longest + 4, width);
    }
    options_help(t, CLI_HELP, 0, width);
    heading(t, "Begin with");
    out_text("  zamba run                     a story by the model that comes with zamba\n"
             "  zamba run MODEL \"A prompt\"    a checkpoint folder from the hub\n"
             "  zamba help run                every option of a command\n");
}

void help_print(const cli_command *command, int color)
{
    const term t = term_of(STDOUT_FILENO, color);
    const int width = t.width > WIDEST ? WIDEST : t.width;
    if (!command) {
        program_help(&t, width);
        return;
    }
    out_format("%szamba %s%s: %s\n", term_on(&t, TERM_BOLD), command->name, term_on(&t, TERM_PLAIN), command->summary);
    heading(&t, "Usage");
    out_format("  zamba %s%s%s [OPTIONS]\n", command->name, *command->words ? " " : "", command->words);
    if (*command->description) {
        out_format("\n  ");
        wrap(command->description, LEFT, LEFT, width);
    }
    options_help(&t, command->bit, 0, width);
    if (*command->examples) {
        heading(&t, "Examples");
        for (const char *p = command->examples; *p;) {
            const size_t n = strcspn(p, "\n");
            out_format("  %.*s\n", (int)n, p);
            p += n + (p[n] == '\n');
        }
    }
}

int cmd_help(const cli_args *args)
{
    const cli_command *c = NULL;
    if (args->words.n > 0 && !(c = cli_command_find(args->words.items[0]))) {
        cli_error("'%s' is no command", args->words.items[0]);
        return cli_hint(NULL);
    }
    help_print(c, (int)args->color);
    return 0;
}
