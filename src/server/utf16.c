/* utf16.c — counting UTF-8 text in units of UTF-16: two for a character of four bytes, one for any other. */
#include "utf16.h"

size_t sv_utf16_units(const char *text, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += ((unsigned char)text[i] & 0xc0) != 0x80 ? 1 + ((unsigned char)text[i] >= 0xf0) : 0;
    return k;
}

size_t sv_utf16_bytes(const char *text, size_t n, size_t units)
{
    size_t i = 0, k = 0;
    while (i < n) {
        const size_t wide = 1 + ((unsigned char)text[i] >= 0xf0);
        if (k + wide > units)
            break;
        k += wide;
        for (i++; i < n && ((unsigned char)text[i] & 0xc0) == 0x80; i++)
            ;
    }
    return i;
}
