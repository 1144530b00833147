/* page_gunzip.c — the inverse of gzip (RFC 1951, 1952), for clients that take no compressed files. What it reads is in
 * the program; it still never reads or writes beyond what it was given. */
#include <string.h>

#include "page_files.h"

enum { MOST_BITS = 15, LITERALS = 288, DISTANCES = 30 };

typedef struct reader {
    const unsigned char *data;
    size_t at, n;
    unsigned bits, n_bits;
    int over; /* beyond the end */
    unsigned char *out;
    size_t n_out, size;
} reader;

typedef struct code {
    unsigned short counts[MOST_BITS + 1], symbols[LITERALS];
} code;

static unsigned take(reader *r, unsigned n)
{
    while (r->n_bits < n) {
        r->over |= r->at >= r->n;
        r->bits |= (r->at < r->n ? (unsigned)r->data[r->at++] : 0u) << r->n_bits;
        r->n_bits += 8;
    }
    const unsigned value = r->bits & ((1u << n) - 1);
    r->bits >>= n;
    r->n_bits -= n;
    return value;
}

static void make_code(code *c, const unsigned char *lengths, unsigned n)
{
    unsigned short offsets[MOST_BITS + 2] = {0};
    memset(c->counts, 0, sizeof c->counts);
    for (unsigned i = 0; i < n; i++)
        c->counts[lengths[i]]++;
    for (unsigned i = 1; i <= MOST_BITS; i++)
        offsets[i + 1] = (unsigned short)(offsets[i] + c->counts[i]);
    for (unsigned i = 0; i < n; i++)
        if (lengths[i])
            c->symbols[offsets[lengths[i]]++] = (unsigned short)i;
    c->counts[0] = 0;
}

/* LITERALS: no such code. */
static unsigned symbol(reader *r, const code *c)
{
    int at = 0, first = 0, index = 0;
    for (unsigned length = 1; length <= MOST_BITS; length++) {
        at |= (int)take(r, 1);
        const int count = c->counts[length];
        if (at - count < first)
            return c->symbols[index + (at - first)];
        index += count;
        first = (first + count) << 1;
        at <<= 1;
    }
    return LITERALS;
}

static int copy_stored(reader *r)
{
    r->bits = r->n_bits = 0;
    if (r->n - r->at < 4)
        return 0;
    const size_t n = r->data[r->at] | (size_t)r->data[r->at + 1] << 8;
    r->at += 4;
    if (n > r->n - r->at || n > r->size - r->n_out)
        return 0;
    memcpy(r->out + r->n_out, r->data + r->at, n);
    r->at += n;
    r->n_out += n;
    return 1;
}

static int copy_back(reader *r, unsigned length, unsigned distance)
{
    if (distance > r->n_out || length > r->size - r->n_out)
        return 0;
    for (; length; length--, r->n_out++)
        r->out[r->n_out] = r->out[r->n_out - distance];
    return 1;
}

static int read_block(reader *r, const code *literals, const code *distances)
{
    static const unsigned short base[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                          31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const unsigned char more[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                         2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    for (;;) {
        const unsigned s = symbol(r, literals);
        if (r->over || s > 285)
            return 0;
        if (s == 256)
            return 1;
        if (s < 256) {
            if (r->n_out == r->size)
                return 0;
            r->out[r->n_out++] = (unsigned char)s;
            continue;
        }
        const unsigned length = base[s - 257] + take(r, more[s - 257]), d = symbol(r, distances);
        if (d >= DISTANCES)
            return 0;
        const unsigned extra = d < 4 ? 0 : d / 2 - 1;
        const unsigned far = d < 4 ? d + 1 : (2 + (d & 1)) * (1u << extra) + 1;
        if (!copy_back(r, length, far + take(r, extra)))
            return 0;
    }
}

static int read_fixed(reader *r)
{
    unsigned char lengths[LITERALS];
    code literals, distances;
    for (unsigned i = 0; i < LITERALS; i++)
        lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    make_code(&literals, lengths, LITERALS);
    memset(lengths, 5, DISTANCES);
    make_code(&distances, lengths, DISTANCES);
    return read_block(r, &literals, &distances);
}

static int read_dynamic(reader *r)
{
    static const unsigned char order[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    unsigned char lengths[LITERALS + 32] = {0};
    code literals, distances;
    const unsigned n_literals = take(r, 5) + 257, n_distances = take(r, 5) + 1, n_lengths = take(r, 4) + 4;
    if (n_literals > 286 || n_distances > DISTANCES)
        return 0;
    for (unsigned i = 0; i < n_lengths; i++)
        lengths[order[i]] = (unsigned char)take(r, 3);
    make_code(&literals, lengths, 19);
    memset(lengths, 0, sizeof lengths);
    for (unsigned i = 0; i < n_literals + n_distances;) {
        const unsigned s = symbol(r, &literals);
        if (r->over || s > 18 || (s == 16 && i == 0))
            return 0;
        const unsigned char value = s < 16 ? (unsigned char)s : s == 16 ? lengths[i - 1] : 0;
        unsigned times = s < 16 ? 1 : s == 16 ? 3 + take(r, 2) : s == 17 ? 3 + take(r, 3) : 11 + take(r, 7);
        if (times > n_literals + n_distances - i)
            return 0;
        for (; times; times--)
            lengths[i++] = value;
    }
    make_code(&literals, lengths, n_literals);
    make_code(&distances, lengths + n_literals, n_distances);
    return read_block(r, &literals, &distances);
}

int sv_gunzip(unsigned char *out, size_t size, const unsigned char *data, size_t n)
{
    static const unsigned char head[] = {0x1f, 0x8b, 8, 0}; /* no name, no comment: as it was made */
    reader r = {.data = data, .at = 10, .n = n, .out = out, .size = size};
    if (n < 18 || memcmp(data, head, sizeof head) != 0)
        return 0;
    for (int last = 0; !last;) {
        last = (int)take(&r, 1);
        const unsigned kind = take(&r, 2);
        const int ok = kind == 0 ? copy_stored(&r) : kind == 1 ? read_fixed(&r) : kind == 2 ? read_dynamic(&r) : 0;
        if (!ok || r.over)
            return 0;
    }
    return r.n_out == size;
}
