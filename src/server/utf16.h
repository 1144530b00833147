/* utf16.h — places in UTF-8 text counted as JavaScript does: in units of UTF-16. */
#ifndef SV_UTF16_H
#define SV_UTF16_H

#include <stddef.h>

size_t sv_utf16_units(const char *text, size_t n);
/* Bytes of the first `units`; whole characters. */
size_t sv_utf16_bytes(const char *text, size_t n, size_t units);

#endif
