/* chat.h — what the library itself may ask of chat templates beside the public calls. */
#ifndef ZB_CHAT_H
#define ZB_CHAT_H

#include "core/status.h"

#define ZB_CHAT_VARS 4 /* special tokens that a template sees by name: bos_token, ... */

/* A chat from the text of a template (NULL: the built-in form). A template that does not parse is reported when it is
 * rendered, so that a checkpoint with an odd template still opens. */
zamba_status zb_chat_parse(zamba_chat **out, const char *source, size_t n, const zamba_tokenizer *t, zamba_error *err);

#endif
