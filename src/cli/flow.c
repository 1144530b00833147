/* flow.c — a model's text on a terminal: broken between words at the right edge while it streams, and without control
 * characters that could change the terminal. Elsewhere the text goes out as it is. Declared in common.h (out_shown).
 *
 * A word is shown as it grows. When it reaches the edge it is taken back and begun again on the next line, so nothing
 * waits. One column stays free: a cursor behind the last column does not move back the same on every terminal. */
#define _XOPEN_SOURCE 700
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "common.h"
#include "terminal.h"

enum { WORD_BYTES = 256 };

static struct {
    int started; /* 0: not asked yet what standard output is */
    bool terminal, breaks;
    int width, column;
    char word[WORD_BYTES];
    size_t n_word;
    int word_columns;
} flow;

static void start(void)
{
    const char *kind = getenv("TERM");
    const term t = term_of(STDOUT_FILENO, CLI_NEVER);
    flow.started = 1;
    flow.terminal = t.tty;
    flow.breaks = t.tty && t.utf8 && kind && *kind && strcmp(kind, "dumb") != 0;
    flow.width = t.width - 1;
}

static void new_line(void)
{
    out_text("\n");
    flow.column = 0;
}

/* One character of n bytes that takes so many columns. */
static void put(const char *text, size_t n, int columns)
{
    if (*text == ' ') {
        flow.n_word = 0;
        flow.word_columns = 0;
        if (flow.column + 1 > flow.width) {
            new_line();
            return; /* the break stands for the space */
        }
    } else if (flow.column + columns > flow.width) {
        if (flow.n_word && flow.word_columns * 2 < flow.width && flow.word_columns < flow.column) {
            out_format("\033[%dD\033[K", flow.word_columns);
            new_line();
            out_bytes(flow.word, flow.n_word);
            flow.column = flow.word_columns;
        } else {
            new_line();
            flow.n_word = 0;
            flow.word_columns = 0;
        }
    }
    out_bytes(text, n);
    flow.column += columns;
    if (*text != ' ' && flow.n_word + n <= WORD_BYTES) {
        memcpy(flow.word + flow.n_word, text, n);
        flow.n_word += n;
        flow.word_columns += columns;
    } else if (*text != ' ') {
        flow.word_columns = flow.width; /* too long to be taken back */
    }
}

void out_shown(const char *text, size_t n)
{
    if (!flow.started)
        start();
    if (!flow.terminal) {
        out_bytes(text, n);
        return;
    }
    mbstate_t state = {0};
    for (size_t i = 0; i < n;) {
        wchar_t wide = 0;
        size_t len = flow.breaks ? mbrtowc(&wide, text + i, n - i, &state) : 1;
        if (len == 0 || len > n - i) { /* NUL, or no character */
            len = 1;
            memset(&state, 0, sizeof state);
        }
        const unsigned char c = (unsigned char)text[i];
        const int columns = flow.breaks && len > 1 ? wcwidth(wide) : 1;
        if (c == '\n') {
            new_line();
            flow.n_word = 0;
            flow.word_columns = 0;
        } else if ((len == 1 && ((c < 0x20 && c != '\t') || c == 0x7F)) || (len > 1 && columns < 0)) {
            put("?", 1, 1);
        } else if (c == '\t') {
            put(" ", 1, 1);
        } else if (flow.breaks) {
            put(text + i, len, columns);
        } else {
            out_bytes(text + i, 1);
            flow.column = 1; /* where exactly is not known without a character set */
        }
        i += len;
    }
}

bool out_shown_finish(void)
{
    const bool middle = flow.terminal && flow.column > 0;
    flow.column = 0;
    flow.n_word = 0;
    flow.word_columns = 0;
    return middle;
}
