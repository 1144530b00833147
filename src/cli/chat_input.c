/* chat_input.c — see chat_input.h. */
#include "chat_input.h"

#include <errno.h>
#include <histedit.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "common.h"
#include "terminal.h"

enum { HISTORY = 1000, MESSAGE_BYTES = 16 << 20 };

struct chat_input {
    EditLine *editor; /* NULL: plain lines */
    History *history;
    char history_file[PATH_MAX];
    char prompt[64], prompt_more[64];
    bool more, cancelled;
    char *line; /* plain lines */
    size_t line_room;
    char *text; /* the message so far */
    size_t n, room;
};

static char *show_prompt(EditLine *editor)
{
    chat_input *in = NULL;
    el_get(editor, EL_CLIENTDATA, &in);
    return in->more ? in->prompt_more : in->prompt;
}

/* Ctrl-C while editing: give the line up. */
static unsigned char cancel(EditLine *editor, wint_t ch)
{
    chat_input *in = NULL;
    (void)ch;
    el_get(editor, EL_CLIENTDATA, &in);
    in->cancelled = true;
    return CC_NEWLINE;
}

static unsigned char suspend(EditLine *editor, wint_t ch)
{
    (void)ch;
    el_set(editor, EL_PREP_TERM, 0);
    kill(getpid(), SIGTSTP);
    el_set(editor, EL_PREP_TERM, 1);
    return CC_REDISPLAY;
}

/* $XDG_STATE_HOME/zamba/history, else ~/.local/state/zamba/history; folders are made. "" if there is no place. */
static void find_history(char *out, size_t n)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int used = -1;
    *out = 0;
    if (state && *state == '/')
        used = snprintf(out, n, "%s/zamba/history", state);
    else if (home && *home == '/')
        used = snprintf(out, n, "%s/.local/state/zamba/history", home);
    if (used < 0 || (size_t)used >= n) {
        *out = 0;
        return;
    }
    for (char *p = out + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        const bool failed = mkdir(out, 0700) != 0 && errno != EEXIST;
        *p = '/';
        if (failed) {
            *out = 0;
            return;
        }
    }
}

static bool open_editor(chat_input *in)
{
    HistEvent event;
    /* what is edited must be seen, but standard output may be a file that wants only the answers */
    in->editor = el_init("zamba", stdin, isatty(STDOUT_FILENO) ? stdout : stderr, stderr);
    in->history = history_init();
    if (!in->editor || !in->history)
        return false;
    history(in->history, &event, H_SETSIZE, HISTORY);
    history(in->history, &event, H_SETUNIQUE, 1);
    find_history(in->history_file, sizeof in->history_file);
    if (*in->history_file)
        history(in->history, &event, H_LOAD, in->history_file);
    el_set(in->editor, EL_CLIENTDATA, in);
    el_set(in->editor, EL_PROMPT_ESC, show_prompt, '\1');
    el_set(in->editor, EL_EDITOR, "emacs");
    el_set(in->editor, EL_HIST, history, in->history);
    el_set(in->editor, EL_SIGNAL, 1);
    /* the wide form keeps these texts; the narrow one would leak copies of them */
    el_wset(in->editor, EL_ADDFN, L"zamba-cancel", L"give up this line", cancel);
    el_wset(in->editor, EL_ADDFN, L"zamba-suspend", L"stop until the shell goes on with us", suspend);
    el_source(in->editor, NULL);
    el_set(in->editor, EL_BIND, "^C", "zamba-cancel", NULL);
    el_set(in->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(in->editor, EL_BIND, "^Z", "zamba-suspend", NULL);
    el_set(in->editor, EL_SETTY, "-d", "-isig", NULL); /* while editing, Ctrl-C and Ctrl-Z are keys, not signals */
    return true;
}

chat_input *chat_input_open(int color)
{
    const term t = term_of(isatty(STDOUT_FILENO) ? STDOUT_FILENO : STDERR_FILENO, color);
    chat_input *in = calloc(1, sizeof *in);
    if (!in)
        return NULL;
    /* \1 ... \1 marks what takes no room */
    snprintf(in->prompt, sizeof in->prompt, t.colour ? "\1%s%s\1>>>\1%s\1 " : "%s%s>>>%s ", term_on(&t, TERM_BOLD),
             term_on(&t, TERM_GREEN), term_on(&t, TERM_PLAIN));
    snprintf(in->prompt_more, sizeof in->prompt_more, t.colour ? "\1%s%s\1...\1%s\1 " : "%s%s...%s ",
             term_on(&t, TERM_DIM), "", term_on(&t, TERM_PLAIN));
    if (isatty(STDIN_FILENO) && !open_editor(in)) {
        chat_input_close(in);
        return NULL;
    }
    return in;
}

void chat_input_close(chat_input *in)
{
    HistEvent event;
    if (!in)
        return;
    if (in->history && *in->history_file)
        history(in->history, &event, H_SAVE, in->history_file);
    if (in->editor)
        el_end(in->editor);
    if (in->history)
        history_end(in->history);
    free(in->line);
    free(in->text);
    free(in);
}

bool chat_input_is_terminal(const chat_input *in)
{
    return in->editor != NULL;
}

static bool append(chat_input *in, const char *text, size_t n)
{
    if (in->n + n + 1 > MESSAGE_BYTES)
        return false;
    if (in->n + n + 1 > in->room) {
        const size_t room = (in->n + n + 1) * 2;
        char *larger = realloc(in->text, room);
        if (!larger)
            return false;
        in->text = larger;
        in->room = room;
    }
    memcpy(in->text + in->n, text, n);
    in->n += n;
    in->text[in->n] = 0;
    return true;
}

/* One line without its line end. */
static chat_read next_line(chat_input *in, const char **line, size_t *n)
{
    if (!in->editor) {
        const int got = cli_read_line(stdin, MESSAGE_BYTES, &in->line, n, &in->line_room);
        *line = in->line;
        return got > 0 ? CHAT_MESSAGE : got == 0 ? CHAT_END : CHAT_TOO_LONG;
    }
    int count = 0;
    in->cancelled = false;
    el_set(in->editor, EL_PREP_TERM, 1); /* before the prompt is seen: a Ctrl-C behind it is a key already */
    *line = el_gets(in->editor, &count);
    if (in->cancelled)
        return CHAT_CANCELLED;
    if (!*line || count <= 0)
        return CHAT_END;
    *n = (size_t)count;
    while (*n && ((*line)[*n - 1] == '\n' || (*line)[*n - 1] == '\r'))
        --*n;
    return CHAT_MESSAGE;
}

static bool ends_with(const char *text, size_t n, const char *end)
{
    const size_t len = strlen(end);
    return n >= len && memcmp(text + n - len, end, len) == 0;
}

static void remember(const chat_input *in)
{
    HistEvent event;
    if (in->editor && in->n && !memchr(in->text, '\n', in->n))
        history(in->history, &event, H_ENTER, in->text);
}

chat_read chat_input_next(chat_input *in, const char **text, size_t *n)
{
    static const char quotes[] = "\"\"\"";
    bool quoted = false;
    in->n = 0;
    in->more = false;
    for (;;) {
        const char *line = NULL;
        size_t len = 0;
        const chat_read got = next_line(in, &line, &len);
        if (got == CHAT_END && in->more) /* what there is counts */
            break;
        if (got != CHAT_MESSAGE)
            return got;
        if (!in->more && len >= 3 && memcmp(line, quotes, 3) == 0) {
            quoted = true;
            line += 3;
            len -= 3;
        }
        const bool closed = quoted && ends_with(line, len, quotes);
        const bool goes_on = quoted ? !closed : ends_with(line, len, "\\");
        const size_t kept = closed ? len - 3 : goes_on && !quoted ? len - 1 : len;
        const bool opening = quoted && !in->more && kept == 0; /* nothing behind the opening quotes: no empty line */
        if (!append(in, line, kept) || (goes_on && !opening && !append(in, "\n", 1)))
            return CHAT_TOO_LONG;
        if (!goes_on) {
            if (closed && kept == 0 && in->n && in->text[in->n - 1] == '\n') /* closing quotes on a line of their own */
                in->text[--in->n] = 0;
            break;
        }
        in->more = true;
    }
    remember(in);
    *text = in->text;
    *n = in->n;
    return CHAT_MESSAGE;
}
