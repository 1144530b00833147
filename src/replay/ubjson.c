/* ubjson.c — see ubjson.h. Values are passed over without a stack of our own: the depth is bounded, so recursion is. */
#include "replay/ubjson.h"

#include <string.h>

enum { DEEPEST = 32 };

static size_t left(const zb_ub *u)
{
    return u->size - u->at;
}

static int take(zb_ub *u, int marker)
{
    if (zb_ub_next(u) != marker)
        return 0;
    u->at++;
    return 1;
}

/* Bytes of a value of this type; 0 for those that have none, -1 for those without a fixed size. */
static int width_of(int marker)
{
    switch (marker) {
    case 'Z':
    case 'N':
    case 'T':
    case 'F':
        return 0;
    case 'i':
    case 'U':
    case 'C':
        return 1;
    case 'I':
        return 2;
    case 'l':
    case 'd':
        return 4;
    case 'L':
    case 'D':
        return 8;
    default:
        return -1;
    }
}

int zb_ub_size(zb_ub *u, int64_t *value)
{
    const int marker = zb_ub_next(u);
    if (marker != 'i' && marker != 'U' && marker != 'I' && marker != 'l' && marker != 'L')
        return 0;
    const int n = width_of(marker);
    u->at++;
    if (left(u) < (size_t)n)
        return 0;
    uint64_t x = 0;
    for (int i = 0; i < n; i++)
        x = x << 8 | u->data[u->at + (size_t)i];
    u->at += (size_t)n;
    if (marker != 'U' && (x >> (8 * n - 1)) != 0) /* negative */
        return 0;
    *value = (int64_t)x;
    return 1;
}

static int text_of(zb_ub *u, zb_ub_text *t)
{
    int64_t n;
    if (!zb_ub_size(u, &n) || (uint64_t)n > left(u))
        return 0;
    *t = (zb_ub_text){(const char *)u->data + u->at, (size_t)n};
    u->at += (size_t)n;
    return 1;
}

int zb_ub_open(zb_ub *u)
{
    return take(u, '{') && zb_ub_next(u) != '$' && zb_ub_next(u) != '#';
}

int zb_ub_name(zb_ub *u, zb_ub_text *name, int *more)
{
    *more = !take(u, '}');
    return !*more || text_of(u, name);
}

int zb_ub_string(zb_ub *u, zb_ub_text *value)
{
    return take(u, 'S') && text_of(u, value);
}

int zb_ub_bytes(zb_ub *u, int64_t *n)
{
    return take(u, '[') && take(u, '$') && take(u, 'U') && take(u, '#') && zb_ub_size(u, n);
}

static int skip_value(zb_ub *u, int marker, int depth);

/* The inside of an array or object, behind its first sign: "$type" and "#count" may stand there. */
static int skip_inside(zb_ub *u, int object, int depth)
{
    int type = -1;
    int64_t count = -1;
    zb_ub_text name;
    if (take(u, '$')) {
        type = zb_ub_next(u);
        if (type < 0)
            return 0;
        u->at++;
    }
    if (take(u, '#') && !zb_ub_size(u, &count))
        return 0;
    if (type >= 0 && count < 0)
        return 0;
    if (type >= 0 && width_of(type) >= 0 && !object) { /* a block of numbers at once */
        const size_t width = (size_t)width_of(type);
        if (width > 0 && (uint64_t)count > left(u) / width)
            return 0;
        u->at += (size_t)count * width;
        return 1;
    }
    for (int64_t i = 0; count < 0 || i < count; i++) {
        if (count < 0 && take(u, object ? '}' : ']'))
            return 1;
        if (left(u) == 0) /* also ends a great count of values that take no bytes */
            return count >= 0 && i == count;
        if (object && !text_of(u, &name))
            return 0;
        int marker = type;
        if (marker < 0) {
            marker = zb_ub_next(u);
            if (marker < 0)
                return 0;
            u->at++;
        }
        const size_t before = u->at;
        if (!skip_value(u, marker, depth))
            return 0;
        if (type >= 0 && !object && u->at == before) /* nothing there to pass over, however many */
            return 1;
    }
    return 1;
}

/* The value whose marker was read. */
static int skip_value(zb_ub *u, int marker, int depth)
{
    zb_ub_text text;
    const int width = width_of(marker);
    if (width >= 0) {
        if (left(u) < (size_t)width)
            return 0;
        u->at += (size_t)width;
        return 1;
    }
    if (marker == 'S' || marker == 'H')
        return text_of(u, &text);
    if ((marker != '[' && marker != '{') || depth >= DEEPEST)
        return 0;
    return skip_inside(u, marker == '{', depth + 1);
}

int zb_ub_skip(zb_ub *u)
{
    const int marker = zb_ub_next(u);
    if (marker < 0)
        return 0;
    u->at++;
    return skip_value(u, marker, 0);
}
