/* man.c — the manual page in troff, made from the tables of commands and options. */
#include <string.h>

#include "commands.h"
#include "common.h"

/* Text as troff takes it: no escapes, no requests at the start of a line, real minus signs; a blank line in it starts a
 * paragraph. */
static void text(const char *s, size_t n)
{
    bool line_start = true;
    for (size_t i = 0; i < n; i++) {
        if (line_start && (s[i] == '.' || s[i] == '\''))
            out_text("\\&");
        line_start = s[i] == '\n';
        if (s[i] == '\n' && i + 1 < n && s[i + 1] == '\n') {
            out_text("\n.PP");
        } else if (s[i] == '\\') {
            out_text("\\e");
        } else if (s[i] == '-') {
            out_text("\\-");
        } else if (s[i] == '"') {
            out_text("\\(dq");
        } else if (s[i] == '`' || s[i] == '\'') {
            out_text(s[i] == '`' ? "\\(ga" : "\\(aq");
        } else if (s[i] == '~' || s[i] == '^') {
            out_text(s[i] == '~' ? "\\(ti" : "\\(ha");
        } else {
            out_bytes(s + i, 1);
        }
    }
}

static void line(const char *s)
{
    text(s, strlen(s));
    out_text("\n");
}

static void option(const cli_option *o)
{
    char number[32], name[40];
    out_text(".TP\n");
    if (o->letter)
        out_format("\\fB\\-%c\\fR, ", o->letter);
    for (size_t i = 0; cli_option_spelling(o, i, name); i++) {
        out_text(i ? ", \\fB" : "\\fB");
        text(name, strlen(name));
        out_text("\\fR");
    }
    if (o->value) {
        out_text(" \\fI");
        text(o->value, strlen(o->value));
        out_text("\\fR");
    }
    out_text("\n");
    line(o->help);
    const char *fallback = cli_option_default(o, number, sizeof number);
    if (*fallback) {
        out_text("Default: ");
        text(fallback, strlen(fallback));
        out_text(".\n");
    }
    if ((o->commands & CLI_ALL) == CLI_ALL)
        return;
    out_text("(");
    bool first = true;
    for (size_t i = 0; i < cli_n_commands; i++) {
        if (!(cli_commands[i].bit & o->commands) || cli_commands[i].bit == CLI_HELP)
            continue;
        out_format("%s%s", first ? "" : ", ", cli_commands[i].name);
        first = false;
    }
    out_text(")\n");
}

static void command(const cli_command *c)
{
    out_text(".SS \"zamba ");
    text(c->name, strlen(c->name));
    if (*c->words) {
        out_text(" ");
        text(c->words, strlen(c->words));
    }
    out_text("\"\n");
    if (*c->description)
        line(c->description);
    else
        line(c->summary);
    if (*c->examples) {
        out_text(".PP\n.nf\n.RS\n");
        for (const char *p = c->examples; *p;) {
            const size_t n = strcspn(p, "\n");
            text(p, n);
            out_text("\n");
            p += n + (p[n] == '\n');
        }
        out_text(".RE\n.fi\n");
    }
}

int cmd_man(const cli_args *args)
{
    (void)args;
    out_format(".TH ZAMBA 1 \"\" \"zamba %s\" \"User Commands\"\n.nh\n.ad l\n", zamba_version());
    out_text(".SH NAME\nzamba \\- run the Zamba family of language models\n.SH SYNOPSIS\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        out_format("%s\\fBzamba %s\\fR ", i ? ".br\n" : "", cli_commands[i].name);
        line(cli_commands[i].words);
    }
    out_text(".SH DESCRIPTION\n");
    line(
        "zamba reads a checkpoint folder as it comes from the Hugging Face hub (config.json, safetensors files, "
        "tokenizer.json), or uses the small model that comes with it, and writes text. It covers Zamba-7B-v1 and every "
        "Zamba2 model: hybrids of Mamba layers and attention blocks whose weights are shared.");
    out_text(".SH COMMANDS\n");
    for (size_t i = 0; i < cli_n_commands; i++)
        command(&cli_commands[i]);
    out_text(".SH OPTIONS\n");
    line("Options may stand before and behind words; -- ends them. --name=value is the same as --name value. Behind "
         "each option stand the commands that take it.");
    for (size_t g = 0; g < cli_n_groups; g++) {
        out_format(".SS \"%s\"\n", cli_groups[g]);
        for (size_t i = 0; i < cli_n_options; i++)
            if (cli_options[i].group == (int)g)
                option(&cli_options[i]);
    }
    out_text(".SH \"EXIT STATUS\"\n.TP\n0\nDone.\n.TP\n1\n");
    line("An error: a message on standard error says which file or value, what was found, what was wanted.");
    out_text(".TP\n2\nThe command line is wrong.\n.SH ENVIRONMENT\n.TP\nZAMBA_MODEL\n");
    line("The model to use when none is named: a folder, or a name in models/.");
    out_text(".TP\nZAMBA_CPU\n");
    line("Caps the instruction set of the kernels: ref, generic, avx2, avx512, avx512vnni, avx512bf16, neon, neondot, "
         "neonbf16.");
    out_text(".TP\nNO_COLOR\n");
    line("If set, no colours unless --color always is given.");
    out_text(".TP\nXDG_STATE_HOME\n");
    line("Where the history of chat is kept: zamba/history below it. Default: ~/.local/state.");
    out_text(".SH \"SEE ALSO\"\n");
    line("docs/MODEL.md describes the models in full.");
    return 0;
}
