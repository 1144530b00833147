/* jinja_text.c — the strings of a running template: UTF-8 with the trust of each byte, case and character classes as
 * Python has them. Owns no memory beside the run's arena. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#include <string.h>

#include "core/mem.h"
#include "tok/jinja_tables.h"
#include "tok/jinja_value.h"
#include "core/utf8.h"

#define N_ROWS(table) (sizeof(table) / sizeof *(table))

/* ---- Unicode ---- */

uint32_t zb_jutf8_get(const char *p, size_t n, size_t *len)
{
    const unsigned char c = (unsigned char)p[0];
    *len = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (*len > n)
        *len = 1;
    return zb_utf8_code(p, (unsigned)*len);
}

size_t zb_jutf8_check(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        const unsigned len = zb_utf8_length(p + i, n - i);
        if (len == 0)
            break;
        i += len;
    }
    return i;
}

static size_t count_chars(const char *p, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)p[i] & 0xC0) != 0x80;
    return count;
}

static size_t put_char(char out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

static int in_ranges(const range_row *rows, size_t n, uint32_t c)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c > rows[mid].hi)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && c >= rows[lo].lo;
}

static uint32_t map_case(const case_row *rows, size_t n, uint32_t c)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c > rows[mid].hi)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < n && c >= rows[lo].lo && (c - rows[lo].lo) % rows[lo].stride == 0)
        return (uint32_t)((int32_t)c + rows[lo].delta);
    return c;
}

static const full_row *find_full(const full_row *rows, size_t n, uint32_t c)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c > rows[mid].from)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && rows[lo].from == c ? &rows[lo] : NULL;
}

int zb_jis_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

int zb_jis_line_end(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

int zb_jis_letter(uint32_t c)
{
    return in_ranges(letters, N_ROWS(letters), c);
}

int zb_jis_alnum(uint32_t c)
{
    return zb_jis_letter(c) || in_ranges(numerals, N_ROWS(numerals), c);
}

int zb_jis_digit(uint32_t c)
{
    return in_ranges(digits, N_ROWS(digits), c);
}

int zb_jis_printable(uint32_t c)
{
    return !in_ranges(not_printable, N_ROWS(not_printable), c);
}

static uint32_t upper_one(uint32_t c)
{
    return map_case(to_upper, N_ROWS(to_upper), c);
}

static uint32_t lower_one(uint32_t c)
{
    return map_case(to_lower, N_ROWS(to_lower), c);
}

/* By the case tables alone: letters that have no other case (ordinal signs, phonetic letters) count as neither. */
int zb_jis_lower(uint32_t c)
{
    return lower_one(c) == c && c != 0x130 &&
           (upper_one(c) != c || find_full(to_upper_full, N_ROWS(to_upper_full), c) != NULL);
}

int zb_jis_upper(uint32_t c)
{
    return (lower_one(c) != c || c == 0x130) && upper_one(c) == c;
}

static int is_cased(uint32_t c)
{
    return lower_one(c) != c || c == 0x130 || zb_jis_lower(c);
}

/* ---- Growable text ---- */

static void buf_reserve(zb_jrun *r, zb_jbuf *b, size_t extra)
{
    if (extra > ZB_JMAX_TEXT || b->n + extra > ZB_JMAX_TEXT)
        zb_jfail(r, ZAMBA_E_FORMAT, "makes a text of more than %zu bytes", ZB_JMAX_TEXT);
    if (b->cap - b->n >= extra)
        return;
    size_t cap = b->cap < 32 ? 32 : b->cap * 2;
    if (cap < b->n + extra)
        cap = b->n + extra;
    char *p = zb_jalloc(r, cap);
    if (b->n > 0)
        memcpy(p, b->p, b->n);
    if (b->mask != NULL) {
        uint8_t *mask = zb_jalloc(r, cap);
        memcpy(mask, b->mask, b->n);
        b->mask = mask;
    }
    b->p = p;
    b->cap = cap;
    zb_jcharge(r, b->n);
}

void zb_jbuf_add(zb_jrun *r, zb_jbuf *b, const char *p, size_t n, const uint8_t *mask, int trusted)
{
    if (n == 0)
        return;
    buf_reserve(r, b, n);
    if (b->n == 0 && b->mask == NULL && mask == NULL)
        b->trusted = trusted != 0;
    if (b->mask == NULL && (mask != NULL || b->trusted != (trusted != 0))) {
        b->mask = zb_jalloc(r, b->cap);
        memset(b->mask, b->trusted, b->n);
    }
    if (b->mask != NULL && mask != NULL)
        memcpy(b->mask + b->n, mask, n);
    else if (b->mask != NULL)
        memset(b->mask + b->n, trusted != 0, n);
    memcpy(b->p + b->n, p, n);
    b->n += n;
    zb_jcharge(r, n);
}

void zb_jbuf_str(zb_jrun *r, zb_jbuf *b, const zb_jstr *s)
{
    zb_jbuf_add(r, b, s->p, s->n, s->mask, s->trusted);
}

void zb_jbuf_text(zb_jrun *r, zb_jbuf *b, const char *text, int trusted)
{
    zb_jbuf_add(r, b, text, strlen(text), NULL, trusted);
}

void zb_jbuf_char(zb_jrun *r, zb_jbuf *b, uint32_t c, int trusted)
{
    char bytes[4];
    zb_jbuf_add(r, b, bytes, put_char(bytes, c), NULL, trusted);
}

void zb_jbuf_fill(zb_jrun *r, zb_jbuf *b, char c, size_t n, int trusted)
{
    char chunk[64];
    memset(chunk, c, sizeof chunk);
    buf_reserve(r, b, n);
    for (size_t left = n; left > 0;) {
        const size_t now = left < sizeof chunk ? left : sizeof chunk;
        zb_jbuf_add(r, b, chunk, now, NULL, trusted);
        left -= now;
    }
}

static zb_jstr *str_alloc(zb_jrun *r, const char *p, size_t n, const uint8_t *mask, int trusted)
{
    zb_jstr *s = zb_jalloc(r, sizeof *s);
    *s = (zb_jstr){.p = p, .mask = mask, .n = n, .trusted = trusted != 0};
    return s;
}

const zb_jstr *zb_jbuf_finish(zb_jrun *r, zb_jbuf *b)
{
    zb_jstr *s = str_alloc(r, b->n > 0 ? b->p : "", b->n, b->mask, b->trusted);
    s->n_chars = count_chars(s->p, s->n);
    zb_jcharge(r, s->n);
    if (b->n >= 64 && r->owner != NULL) { /* not while parsing: templates are shared */
        s->buf = zb_jalloc(r, sizeof *b);
        *s->buf = *b;
    }
    return s;
}

/* ---- Strings ---- */

const zb_jstr *zb_jstr_new(zb_jrun *r, const char *p, size_t n, int trusted)
{
    zb_jstr *s = str_alloc(r, p, n, NULL, trusted);
    s->n_chars = count_chars(p, n);
    zb_jcharge(r, n);
    return s;
}

const zb_jstr *zb_jstr_text(zb_jrun *r, const char *literal, int trusted)
{
    return zb_jstr_new(r, literal, strlen(literal), trusted);
}

static const zb_jstr *share(zb_jrun *r, const zb_jstr *s, size_t from, size_t to, size_t n_chars)
{
    zb_jstr *part = str_alloc(r, s->p + from, to - from, s->mask != NULL ? s->mask + from : NULL, s->trusted);
    part->n_chars = n_chars;
    part->buf = s->buf;
    part->markup = s->markup;
    return part;
}

const zb_jstr *zb_jstr_bytes(zb_jrun *r, const zb_jstr *s, size_t from, size_t to)
{
    if (from == 0 && to == s->n)
        return s;
    if (s->n_chars == s->n)
        return share(r, s, from, to, to - from);
    zb_jcharge(r, to - from);
    return share(r, s, from, to, count_chars(s->p + from, to - from));
}

size_t zb_jstr_offset(const zb_jstr *s, size_t n_chars)
{
    if (n_chars >= s->n_chars)
        return s->n;
    if (s->n_chars == s->n)
        return n_chars;
    size_t i = 0;
    for (size_t seen = 0; i < s->n; i++)
        if (((unsigned char)s->p[i] & 0xC0) != 0x80 && seen++ == n_chars)
            break;
    return i;
}

const zb_jstr *zb_jstr_chars(zb_jrun *r, const zb_jstr *s, size_t from, size_t to)
{
    if (from == 0 && to == s->n_chars)
        return s;
    if (s->n_chars != s->n)
        zb_jcharge(r, s->n);
    return share(r, s, zb_jstr_offset(s, from), zb_jstr_offset(s, to), to - from);
}

const zb_jstr *zb_jstr_concat(zb_jrun *r, const zb_jstr *a, const zb_jstr *b)
{
    if (b->n == 0)
        return a;
    if (a->n == 0)
        return b;
    zb_jbuf fresh = {0}, *buf = a->buf;
    size_t start;
    if (buf != NULL && a->p + a->n == buf->p + buf->n && buf->cap - buf->n >= b->n) {
        start = (size_t)(a->p - buf->p);
    } else {
        start = 0;
        const size_t n = a->n + b->n;
        buf_reserve(r, &fresh, n);
        if (n >= 64 && n <= ZB_JMAX_TEXT / 2 && r->owner != NULL)
            buf_reserve(r, &fresh, 2 * n); /* room to append in place later */
        zb_jbuf_str(r, &fresh, a);
        if (n >= 64 && r->owner != NULL) {
            buf = zb_jalloc(r, sizeof *buf);
            *buf = fresh;
        } else {
            buf = &fresh;
        }
    }
    zb_jbuf_str(r, buf, b);
    zb_jstr *s = str_alloc(r, buf->p + start, a->n + b->n, buf->mask != NULL ? buf->mask + start : NULL, buf->trusted);
    s->n_chars = a->n_chars + b->n_chars;
    s->buf = buf == &fresh ? NULL : buf;
    return s;
}

const zb_jstr *zb_jstr_as_markup(zb_jrun *r, const zb_jstr *s, int markup)
{
    if (s->markup == (markup != 0))
        return s;
    zb_jstr *copy = zb_jalloc(r, sizeof *copy);
    *copy = *s;
    copy->markup = markup != 0;
    return copy;
}

const zb_jstr *zb_jstr_escape_html(zb_jrun *r, const zb_jstr *s)
{
    if (s->markup)
        return s;
    zb_jbuf b = {0};
    size_t from = 0;
    for (size_t i = 0; i < s->n; i++) {
        const char *entity;
        switch (s->p[i]) {
        case '&':
            entity = "&amp;";
            break;
        case '<':
            entity = "&lt;";
            break;
        case '>':
            entity = "&gt;";
            break;
        case '\'':
            entity = "&#39;";
            break;
        case '"':
            entity = "&#34;";
            break;
        default:
            continue;
        }
        zb_jbuf_add(r, &b, s->p + from, i - from, s->mask != NULL ? s->mask + from : NULL, s->trusted);
        zb_jbuf_text(r, &b, entity, zb_jstr_trust(s, i));
        from = i + 1;
    }
    if (from == 0)
        return zb_jstr_as_markup(r, s, 1);
    zb_jbuf_add(r, &b, s->p + from, s->n - from, s->mask != NULL ? s->mask + from : NULL, s->trusted);
    return zb_jstr_as_markup(r, zb_jbuf_finish(r, &b), 1);
}

int zb_jstr_is(const zb_jstr *s, const char *text)
{
    return strlen(text) == s->n && memcmp(text, s->p, s->n) == 0;
}

int zb_jstr_equal(const zb_jstr *a, const zb_jstr *b)
{
    return a->n == b->n && (a->p == b->p || memcmp(a->p, b->p, a->n) == 0);
}

/* Bytes of UTF-8 sort as the code points do. */
int zb_jstr_compare(const zb_jstr *a, const zb_jstr *b)
{
    const int c = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);
    return c != 0 ? c : (a->n > b->n) - (a->n < b->n);
}

int zb_jstr_tainted(const zb_jstr *s)
{
    return s->mask != NULL ? memchr(s->mask, 0, s->n) != NULL : !s->trusted;
}

int zb_jstr_trust(const zb_jstr *s, size_t byte)
{
    return s->mask != NULL ? s->mask[byte] : s->trusted;
}

size_t zb_jstr_find(zb_jrun *r, const zb_jstr *s, size_t from, size_t to, const zb_jstr *needle)
{
    if (needle->n > to - from)
        return SIZE_MAX;
    if (needle->n == 0)
        return from;
    const char *at = memmem(s->p + from, to - from, needle->p, needle->n);
    zb_jcharge(r, (at == NULL ? to : (size_t)(at - s->p)) - from + needle->n);
    return at == NULL ? SIZE_MAX : (size_t)(at - s->p);
}

size_t zb_jstr_rfind(zb_jrun *r, const zb_jstr *s, size_t from, size_t to, const zb_jstr *needle)
{
    if (needle->n > to - from)
        return SIZE_MAX;
    size_t found = SIZE_MAX, at = from;
    if (needle->n == 0)
        return to;
    while ((at = zb_jstr_find(r, s, at, to, needle)) != SIZE_MAX) {
        found = at++;
        zb_jstep(r);
    }
    return found;
}

const char *zb_jstr_cstr(zb_jrun *r, const zb_jstr *s, size_t most)
{
    size_t n = s->n < most ? s->n : most;
    while (n > 0 && n < s->n && ((unsigned char)s->p[n] & 0xC0) == 0x80)
        n--;
    char *copy = zb_jalloc(r, n + 1);
    for (size_t i = 0; i < n; i++)
        copy[i] = s->p[i] == '\0' ? '?' : s->p[i];
    copy[n] = '\0';
    return copy;
}

/* ---- Case ---- */

static void put_full(zb_jrun *r, zb_jbuf *b, const full_row *row, int trusted)
{
    for (size_t i = 0; i < 3 && row->to[i] != 0; i++)
        zb_jbuf_char(r, b, row->to[i], trusted);
}

static void put_upper(zb_jrun *r, zb_jbuf *b, uint32_t c, int trusted)
{
    const full_row *row = find_full(to_upper_full, N_ROWS(to_upper_full), c);
    if (row != NULL)
        put_full(r, b, row, trusted);
    else
        zb_jbuf_char(r, b, upper_one(c), trusted);
}

static void put_title(zb_jrun *r, zb_jbuf *b, uint32_t c, int trusted)
{
    const full_row *row = find_full(to_title_full, N_ROWS(to_title_full), c);
    if (row != NULL)
        put_full(r, b, row, trusted);
    else
        put_upper(r, b, c, trusted);
}

/* Greek: a sigma that ends a word has a form of its own. */
static int sigma_is_final(const zb_jstr *s, size_t at, size_t len, int after_cased)
{
    size_t l;
    if (!after_cased)
        return 0;
    for (size_t i = at + len; i < s->n; i += l) {
        const uint32_t c = zb_jutf8_get(s->p + i, s->n - i, &l);
        if (c == '\'' || c == '.' || c == ':' || c == 0xAD || (c >= 0x300 && c < 0x370)) /* passed over */
            continue;
        return !is_cased(c);
    }
    return 1;
}

static void put_lower(zb_jrun *r, zb_jbuf *b, const zb_jstr *s, size_t at, uint32_t c, size_t len, int after_cased)
{
    const int trusted = zb_jstr_trust(s, at);
    if (c == 0x130) { /* capital i with dot */
        zb_jbuf_char(r, b, 'i', trusted);
        zb_jbuf_char(r, b, 0x307, trusted);
    } else if (c == 0x3A3 && sigma_is_final(s, at, len, after_cased)) {
        zb_jbuf_char(r, b, 0x3C2, trusted);
    } else {
        zb_jbuf_char(r, b, lower_one(c), trusted);
    }
}

const zb_jstr *zb_jstr_case(zb_jrun *r, const zb_jstr *s, zb_jcase how)
{
    zb_jbuf b = {0};
    int after_cased = 0;
    size_t len;
    buf_reserve(r, &b, s->n);
    zb_jcharge(r, s->n * 8);
    for (size_t i = 0; i < s->n; i += len) {
        const uint32_t c = zb_jutf8_get(s->p + i, s->n - i, &len);
        const int trusted = zb_jstr_trust(s, i);
        if (how == ZB_JUPPER || (how == ZB_JSWAPCASE && !zb_jis_upper(c)))
            put_upper(r, &b, c, trusted);
        else if ((how == ZB_JTITLE && !after_cased) || (how == ZB_JCAPITALIZE && i == 0))
            put_title(r, &b, c, trusted);
        else
            put_lower(r, &b, s, i, c, len, after_cased);
        after_cased = is_cased(c);
    }
    return zb_jstr_as_markup(r, zb_jbuf_finish(r, &b), s->markup);
}

/* ---- Strip ---- */

static int strips(zb_jrun *r, uint32_t c, const zb_jstr *chars)
{
    size_t len;
    if (chars == NULL)
        return zb_jis_space(c);
    zb_jstep(r);
    zb_jcharge(r, chars->n * 4);
    for (size_t i = 0; i < chars->n; i += len)
        if (zb_jutf8_get(chars->p + i, chars->n - i, &len) == c)
            return 1;
    return 0;
}

const zb_jstr *zb_jstr_strip(zb_jrun *r, const zb_jstr *s, const zb_jstr *chars, zb_jside side)
{
    size_t from = 0, to = s->n, len;
    while ((side & ZB_JLEFT) && from < to && strips(r, zb_jutf8_get(s->p + from, to - from, &len), chars))
        from += len;
    while ((side & ZB_JRIGHT) && to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)s->p[at] & 0xC0) == 0x80)
            at--;
        if (!strips(r, zb_jutf8_get(s->p + at, to - at, &len), chars))
            break;
        to = at;
    }
    zb_jcharge(r, s->n - (to - from));
    return zb_jstr_bytes(r, s, from, to);
}
