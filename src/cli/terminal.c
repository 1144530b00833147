/* terminal.c — see terminal.h. Asks the terminal and the environment, writes nothing. */
#include "terminal.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "options.h"

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value && *value;
}

void term_init(void)
{
    /* Only the character type: numbers keep their point. Where nothing is said, text is UTF-8, as the model's is. */
    if (is_set("LC_ALL") || is_set("LC_CTYPE") || is_set("LANG"))
        setlocale(LC_CTYPE, "");
    else
        setlocale(LC_CTYPE, "C.UTF-8");
}

term term_of(int fd, int color)
{
    term t = {.tty = isatty(fd) == 1, .width = 80};
    const char *kind = getenv("TERM"), *columns = getenv("COLUMNS");
    const char *charset = nl_langinfo(CODESET);
    struct winsize size;
    t.utf8 = strcmp(charset, "UTF-8") == 0 || strcmp(charset, "utf8") == 0;
    t.colour = color == CLI_ALWAYS ||
               (color == CLI_AUTO && t.tty && !is_set("NO_COLOR") && kind && *kind && strcmp(kind, "dumb") != 0);
    if (t.tty && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        t.width = size.ws_col;
    else if (columns && strtol(columns, NULL, 10) > 0 && strtol(columns, NULL, 10) < 10000)
        t.width = (int)strtol(columns, NULL, 10);
    if (t.width < 40)
        t.width = 40;
    return t;
}

const char *term_on(const term *t, term_style style)
{
    static const char *const codes[] = {
        [TERM_PLAIN] = "\033[0m", [TERM_BOLD] = "\033[1m",     [TERM_DIM] = "\033[2m",
        [TERM_RED] = "\033[31m",  [TERM_GREEN] = "\033[32m",   [TERM_YELLOW] = "\033[33m",
        [TERM_BLUE] = "\033[34m", [TERM_MAGENTA] = "\033[35m", [TERM_CYAN] = "\033[36m",
    };
    return t->colour ? codes[style] : "";
}

size_t term_columns(const char *text, size_t n)
{
    size_t columns = 0;
    for (size_t i = 0; i < n; i++)
        columns += ((unsigned char)text[i] & 0xC0) != 0x80;
    return columns;
}
