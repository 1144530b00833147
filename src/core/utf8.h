/* utf8.h — where a UTF-8 character ends, whether one can still become whole, and what Unicode calls white space. Takes
 * any bytes: overlong forms, surrogates and code points past U+10FFFF are not characters. */
#ifndef ZB_UTF8_H
#define ZB_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ZB_UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Bytes that the lead byte c announces, and the range its second byte must be in; 0: c leads nothing. */
static inline unsigned zb_utf8_lead(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    *high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    return c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
}

/* How many of the n >= 1 bytes at p are the beginning of one character (at most the whole of it), *need its full
 * length. 0: the first byte is not part of any. */
static inline unsigned zb_utf8_prefix(const char *p, size_t n, unsigned *need)
{
    const unsigned char *u = (const unsigned char *)p;
    unsigned char low, high;
    *need = zb_utf8_lead(u[0], &low, &high);
    if (*need == 0)
        return 0;
    unsigned have = 1;
    if (*need > 1 && n > 1 && u[1] >= low && u[1] <= high)
        for (have = 2; have < *need && have < n && (u[have] & 0xC0) == 0x80;)
            have++;
    return have;
}

/* Length 1..4 of the whole character at p (n >= 1 bytes), 0: there is none. */
static inline unsigned zb_utf8_length(const char *p, size_t n)
{
    unsigned need;
    if ((unsigned char)p[0] < 0x80)
        return 1;
    return zb_utf8_prefix(p, n, &need) == need ? need : 0;
}

/* 1 if all n bytes are whole characters. */
static inline int zb_utf8_valid(const char *p, size_t n)
{
    size_t at = 0;
    for (unsigned len; at < n; at += len)
        if ((len = zb_utf8_length(p + at, n - at)) == 0)
            return 0;
    return 1;
}

/* The same for the end: length of the whole character that ends at p + n, 0: there is none. */
static inline unsigned zb_utf8_length_back(const char *p, size_t n)
{
    for (unsigned k = 1; k <= 4 && k <= n; k++)
        if (((unsigned char)p[n - k] & 0xC0) != 0x80)
            return zb_utf8_length(p + n - k, k) == k ? k : 0;
    return 0;
}

/* Code point of the valid character of `len` bytes at p. */
static inline uint32_t zb_utf8_code(const char *p, unsigned len)
{
    const unsigned char *u = (const unsigned char *)p;
    uint32_t c = len == 1 ? u[0] : u[0] & (0x7Fu >> len);
    for (unsigned i = 1; i < len; i++)
        c = c << 6 | (u[i] & 0x3Fu);
    return c;
}

/* Unicode's White_Space property. */
static inline int zb_unicode_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

#endif
