/* random_id.c — the one place where ids of chats, messages, saved states and runs of the server come from. */
#define _GNU_SOURCE
#include "random_id.h"

#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

int sv_random_id(char *out, size_t n_bytes)
{
    unsigned char bytes[64];
    *out = 0;
    if (n_bytes > sizeof bytes || getentropy(bytes, n_bytes) != 0)
        return 0;
    for (size_t i = 0; i < n_bytes; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return 1;
}
