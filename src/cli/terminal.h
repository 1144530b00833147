/* terminal.h — what the terminal behind a stream can show: colours, width, letters beyond ASCII. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

typedef enum term_style {
    TERM_PLAIN,
    TERM_BOLD,
    TERM_DIM,
    TERM_RED,
    TERM_GREEN,
    TERM_YELLOW,
    TERM_BLUE,
    TERM_MAGENTA,
    TERM_CYAN
} term_style;

typedef struct term {
    bool tty, colour, utf8;
    int width;
} term;

/* Call once before term_of: takes the character set from the environment. */
void term_init(void);

/* `color` is the value of --color. */
term term_of(int fd, int color);

/* The escape sequence that starts a style; "" without colours. TERM_PLAIN ends every style. */
const char *term_on(const term *t, term_style style);

/* Columns that n bytes of UTF-8 take, every character counted as one. */
size_t term_columns(const char *text, size_t n);

#endif
