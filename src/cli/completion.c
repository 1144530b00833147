/* completion.c — completion scripts for bash, zsh and fish, made from the tables of commands and options. */
#include <string.h>

#include "commands.h"
#include "common.h"

/* "-m --model ..." of one command. */
static void words_of(unsigned commands)
{
    char name[40];
    bool first = true;
    for (size_t i = 0; i < cli_n_options; i++) {
        const cli_option *o = &cli_options[i];
        if (!(o->commands & commands))
            continue;
        if (o->letter)
            out_format("%s-%c", first ? "" : " ", o->letter);
        for (size_t k = 0; cli_option_spelling(o, k, name); k++)
            out_format("%s%s", first && !o->letter && k == 0 ? "" : " ", name);
        first = false;
    }
}

static void choices(const cli_option *o)
{
    for (const char *p = o->value; *p; p++)
        out_bytes(*p == '|' ? " " : p, 1);
}

/* Is this option's value a file or folder? */
static bool takes_path(const cli_option *o)
{
    return o->kind == CLI_TEXT &&
           (strcmp(o->value, "FILE") == 0 || strcmp(o->value, "OUT") == 0 || strcmp(o->value, "MODEL") == 0);
}

static void bash(void)
{
    char name[40];
    out_text("# bash completion of zamba, printed by `zamba completion bash`\n"
             "_zamba() {\n"
             "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}\n"
             "    COMPREPLY=()\n"
             "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
             "        COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; i < cli_n_commands; i++)
        out_format("%s ", cli_commands[i].name);
    out_text("--help --version\" -- \"$cur\"))\n"
             "        return\n"
             "    fi\n"
             "    case \"$verb $prev\" in\n");
    for (size_t i = 0; i < cli_n_options; i++) {
        const cli_option *o = &cli_options[i];
        if (o->kind == CLI_FLAG)
            continue;
        for (size_t c = 0; c < cli_n_commands; c++) {
            if (!(cli_commands[c].bit & o->commands) || cli_commands[c].bit == CLI_HELP)
                continue;
            out_text("    ");
            for (size_t k = 0; cli_option_spelling(o, k, name); k++)
                out_format("%s'%s %s'", k ? " | " : "", cli_commands[c].name, name);
            if (o->letter)
                out_format(" | '%s -%c'", cli_commands[c].name, o->letter);
            out_text(") ");
            if (o->kind == CLI_CHOICE) {
                out_text("COMPREPLY=($(compgen -W \"");
                choices(o);
                out_text("\" -- \"$cur\")); return ;;\n");
            } else {
                out_text(takes_path(o) ? "COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n" : "return ;;\n");
            }
        }
    }
    out_text("    'help '*) COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; i < cli_n_commands; i++)
        out_format("%s%s", i ? " " : "", cli_commands[i].name);
    out_text("\" -- \"$cur\")); return ;;\n"
             "    'completion '*) COMPREPLY=($(compgen -W \"bash zsh fish\" -- \"$cur\")); return ;;\n"
             "    'debug debug') COMPREPLY=($(compgen -W \"logits hidden\" -- \"$cur\")); return ;;\n"
             "    esac\n"
             "    if [[ $cur != -* ]]; then\n"
             "        COMPREPLY=($(compgen -f -- \"$cur\"))\n"
             "        return\n"
             "    fi\n"
             "    case $verb in\n");
    for (size_t c = 0; c < cli_n_commands; c++) {
        out_format("    %s) COMPREPLY=($(compgen -W \"", cli_commands[c].name);
        words_of(cli_commands[c].bit);
        out_text("\" -- \"$cur\")) ;;\n");
    }
    out_text("    esac\n"
             "}\n"
             "complete -o filenames -F _zamba zamba\n");
}

/* Text inside single quotes, with the characters that the shell's completion reads escaped. */
static void quoted(const char *s, const char *escape)
{
    for (; *s; s++) {
        if (*s == '\'')
            out_text("'\\''");
        else if (strchr(escape, *s))
            out_format("\\%c", *s);
        else
            out_bytes(s, 1);
    }
}

static void zsh_option(const cli_option *o)
{
    char name[40] = {'-', o->letter, 0};
    for (size_t k = o->letter ? 0 : 1; k == 0 || cli_option_spelling(o, k - 1, name); k++) {
        out_format("                '%s%s%s[", o->kind == CLI_LIST ? "*" : "", name,
                   o->kind == CLI_FLAG ? ""
                   : name[1] == '-'    ? "="
                   : name[2]           ? ""
                                       : "+");
        quoted(o->help, "[]:\\");
        out_text("]");
        if (o->kind == CLI_CHOICE) {
            out_text(":what:(");
            choices(o);
            out_text(")");
        } else if (o->kind != CLI_FLAG) {
            out_format(":%s:%s", o->value, takes_path(o) ? "_files" : "");
        }
        out_text("' \\\n");
    }
}

static void zsh(void)
{
    out_text("#compdef zamba\n"
             "# zsh completion of zamba, printed by `zamba completion zsh`\n"
             "_zamba() {\n"
             "    local -a verbs\n"
             "    verbs=(\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        out_format("        '%s:", cli_commands[i].name);
        quoted(cli_commands[i].summary, ":\\");
        out_text("'\n");
    }
    out_text("    )\n"
             "    if (( CURRENT == 2 )); then\n"
             "        _describe 'command' verbs\n"
             "        return\n"
             "    fi\n"
             "    local verb=$words[2]\n"
             "    shift words\n"
             "    (( CURRENT-- ))\n"
             "    case $verb in\n");
    for (size_t c = 0; c < cli_n_commands; c++) {
        out_format("        %s)\n            _arguments -s \\\n", cli_commands[c].name);
        for (size_t i = 0; i < cli_n_options; i++)
            if (cli_options[i].commands & cli_commands[c].bit)
                zsh_option(&cli_options[i]);
        if (strcmp(cli_commands[c].name, "completion") == 0)
            out_text("                '1:shell:(bash zsh fish)'\n");
        else if (cli_commands[c].bit == CLI_HELP)
            out_text("                '*: :'\n");
        else if (cli_commands[c].bit == CLI_DEBUG)
            out_text("                '1:what:(logits hidden)' '*:file:_files'\n");
        else
            out_text("                '*:file:_files'\n");
        out_text("            ;;\n");
    }
    out_text("    esac\n"
             "}\n"
             "if [ \"$funcstack[1]\" = \"_zamba\" ]; then\n"
             "    _zamba \"$@\"\n"
             "else\n"
             "    compdef _zamba zamba\n"
             "fi\n");
}

static void fish(void)
{
    size_t n;
    out_text("# fish completion of zamba, printed by `zamba completion fish`\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        out_format("complete -c zamba -n __fish_use_subcommand -f -a %s -d '", cli_commands[i].name);
        quoted(cli_commands[i].summary, "\\");
        out_text("'\n");
    }
    out_text("complete -c zamba -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n"
             "complete -c zamba -n '__fish_seen_subcommand_from debug' -a 'logits hidden'\n");
    for (size_t i = 0; i < cli_n_options; i++) {
        const cli_option *o = &cli_options[i];
        out_text("complete -c zamba -n '__fish_seen_subcommand_from");
        for (size_t c = 0; c < cli_n_commands; c++)
            if (cli_commands[c].bit & o->commands)
                out_format(" %s", cli_commands[c].name);
        out_text("'");
        if (o->letter)
            out_format(" -s %c", o->letter);
        for (size_t k = 0;; k++) {
            const char *name = cli_option_name(o, k, &n);
            if (n == 0)
                break;
            out_format(*name == '-' ? " -o %.*s" : " -l %.*s", (int)n - (*name == '-'), name + (*name == '-'));
        }
        if (o->kind == CLI_CHOICE) {
            out_text(" -x -a '");
            choices(o);
            out_text("'");
        } else if (o->kind != CLI_FLAG) {
            out_text(takes_path(o) ? " -r -F" : " -x");
        }
        out_text(" -d '");
        quoted(o->help, "\\");
        out_text("'\n");
    }
}

int cmd_completion(const cli_args *args)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    for (size_t i = 0; args->words.n == 1 && i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(shells[i].name, args->words.items[0]) == 0) {
            shells[i].print();
            return 0;
        }
    }
    cli_error("wanted the name of a shell: bash, zsh or fish");
    return cli_hint(args->command);
}
