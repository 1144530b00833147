/* chat_input.h — what a person (or a script) types into a chat: one message at a time. On a terminal with line editing
 * and history through libedit; otherwise plain lines. A line that ends with \ goes on in the next; """ opens and closes
 * text of many lines. */
#ifndef CLI_CHAT_INPUT_H
#define CLI_CHAT_INPUT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct chat_input chat_input;

typedef enum chat_read { CHAT_MESSAGE, CHAT_END, CHAT_CANCELLED, CHAT_TOO_LONG } chat_read;

/* NULL if out of memory. `color` is the value of --color. */
chat_input *chat_input_open(int color);
void chat_input_close(chat_input *in);

/* Is a person there? */
bool chat_input_is_terminal(const chat_input *in);

/* Read one message; *text is the input's, valid until the next call. CHAT_CANCELLED: Ctrl-C. */
chat_read chat_input_next(chat_input *in, const char **text, size_t *n);

#endif
