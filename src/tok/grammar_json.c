/* grammar_json.c — pieces of JSON as expressions: space, strings, numbers and their ranges, lists, any value; and the
 * regular expressions of formats. Between signs stands nothing, one space, or a line end with up to 20 spaces: a model
 * must not write spaces for ever. Numbers have up to 16 digits on each side of the point, and exponents up to 2. */
#include <string.h>

#include "tok/grammar.h"

void zb_json_parts_open(zb_json_parts *p, zb_build *b)
{
    *p = (zb_json_parts){b, -1, -1, -1, -1, -1, -1, -1};
}

static int32_t digits(zb_build *b, char lo, char hi, int32_t from, int32_t to)
{
    const zb_range r = {(uint32_t)lo, (uint32_t)hi};
    return zb_build_repeat(b, zb_build_class(b, &r, 1, 0), from, to);
}

static int32_t hex(zb_build *b, int32_t n)
{
    static const zb_range r[] = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
    return zb_build_repeat(b, zb_build_class(b, r, 3, 0), n, n);
}

int32_t zb_json_space(zb_json_parts *p)
{
    static const zb_range blank[] = {{' ', ' '}, {'\t', '\t'}};
    zb_build *b = p->b;
    if (p->space < 0) {
        const int32_t line =
            ZB_SEQ(b, zb_build_text(b, "\n"), zb_build_repeat(b, zb_build_class(b, blank, 2, 0), 0, 20));
        p->space = zb_build_named(b, "space", ZB_ALT(b, ZB_X_EMPTY, zb_build_text(b, " "), line));
    }
    return p->space;
}

/* One code point, whichever way it is written: the pairs that \u needs for large ones are left out. */
int32_t zb_json_letter(zb_json_parts *p)
{
    static const zb_range not_plain[] = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
    static const zb_range simple[] = {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'},
                                      {'f', 'f'}, {'n', 'n'},   {'r', 'r'}, {'t', 't'}};
    static const zb_range first[] = {{'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}},
                          d[] = {{'D', 'D'}, {'d', 'd'}};
    zb_build *b = p->b;
    if (p->letter < 0) {
        const int32_t code = ZB_ALT(b, ZB_SEQ(b, zb_build_class(b, first, 5, 0), hex(b, 3)),
                                    ZB_SEQ(b, zb_build_class(b, d, 2, 0), digits(b, '0', '7', 1, 1), hex(b, 2)));
        const int32_t escape = ZB_ALT(b, zb_build_class(b, simple, 8, 0), ZB_SEQ(b, zb_build_text(b, "u"), code));
        p->letter = zb_build_named(
            b, "letter", ZB_ALT(b, zb_build_class(b, not_plain, 3, 1), ZB_SEQ(b, zb_build_text(b, "\\"), escape)));
    }
    return p->letter;
}

int32_t zb_json_string(zb_json_parts *p)
{
    zb_build *b = p->b;
    if (p->string < 0)
        p->string = zb_build_named(
            b, "string",
            ZB_SEQ(b, zb_build_text(b, "\""), zb_build_repeat(b, zb_json_letter(p), 0, -1), zb_build_text(b, "\"")));
    return p->string;
}

static int32_t zero(zb_build *b)
{
    return zb_build_text(b, "0");
}

static int32_t minus(zb_build *b, int32_t x)
{
    return ZB_SEQ(b, zb_build_text(b, "-"), x);
}

int32_t zb_json_integer(zb_json_parts *p)
{
    zb_build *b = p->b;
    if (p->integer < 0) {
        const int32_t from_one = ZB_SEQ(b, digits(b, '1', '9', 1, 1), digits(b, '0', '9', 0, 15));
        p->integer = zb_build_named(b, "integer", ZB_ALT(b, zero(b), from_one, minus(b, from_one)));
    }
    return p->integer;
}

static int32_t fraction(zb_build *b)
{
    return ZB_SEQ(b, zb_build_text(b, "."), digits(b, '0', '9', 1, 16));
}

int32_t zb_json_number(zb_json_parts *p)
{
    static const zb_range e[] = {{'e', 'e'}, {'E', 'E'}}, sign[] = {{'+', '+'}, {'-', '-'}};
    zb_build *b = p->b;
    if (p->number < 0) {
        const int32_t whole = ZB_ALT(b, zero(b), ZB_SEQ(b, digits(b, '1', '9', 1, 1), digits(b, '0', '9', 0, 15)));
        const int32_t exponent =
            ZB_SEQ(b, zb_build_class(b, e, 2, 0), zb_build_repeat(b, zb_build_class(b, sign, 2, 0), 0, 1),
                   digits(b, '0', '9', 1, 2));
        p->number = zb_build_named(b, "number",
                                   ZB_SEQ(b, zb_build_repeat(b, zb_build_text(b, "-"), 0, 1), whole,
                                          zb_build_repeat(b, fraction(b), 0, 1), zb_build_repeat(b, exponent, 0, 1)));
    }
    return p->number;
}

int32_t zb_json_comma(zb_json_parts *p)
{
    return ZB_SEQ(p->b, zb_build_text(p->b, ","), zb_json_space(p));
}

int32_t zb_json_list(zb_json_parts *p, const char *open, const char *close, int32_t item, int32_t lo, int32_t hi)
{
    zb_build *b = p->b;
    const int32_t space = zb_json_space(p), begin = zb_build_text(b, open), end = zb_build_text(b, close);
    if (hi == 0)
        return ZB_SEQ(b, begin, space, end);
    const int32_t more = ZB_SEQ(b, zb_json_comma(p), item);
    const int32_t items = ZB_SEQ(b, item, zb_build_repeat(b, more, lo > 0 ? lo - 1 : 0, hi < 0 ? -1 : hi - 1), space);
    return ZB_SEQ(b, begin, space, lo > 0 ? items : ZB_ALT(b, ZB_X_EMPTY, items), end);
}

int32_t zb_json_value(zb_json_parts *p)
{
    zb_build *b = p->b;
    if (p->value < 0) {
        const int32_t rule = zb_build_rule_new(b, "value", 5);
        p->value = zb_build_ref(b, rule); /* before its parts, which refer to it */
        const int32_t member = ZB_SEQ(b, zb_json_string(p), zb_build_text(b, ":"), zb_json_space(p), p->value);
        p->object = zb_build_named(b, "object", zb_json_list(p, "{", "}", member, 0, -1));
        const int32_t array = zb_build_named(b, "array", zb_json_list(p, "[", "]", p->value, 0, -1));
        const int32_t x = ZB_ALT(b, p->object, array, zb_json_string(p), zb_json_number(p), zb_build_text(b, "true"),
                                 zb_build_text(b, "false"), zb_build_text(b, "null"));
        if (rule >= 0)
            b->rules[rule].expr = x;
    }
    return p->value;
}

int32_t zb_json_object(zb_json_parts *p)
{
    zb_json_value(p);
    return p->object;
}

/* ---- Ranges of numbers ---- */

/* Numbers of exactly n digits, from lo to hi; p is 10^(n-1). */
static int32_t same_digits(zb_build *b, int64_t lo, int64_t hi, int n, int64_t p)
{
    int32_t ways[3];
    size_t k = 0;
    if (n == 0)
        return ZB_X_EMPTY;
    if (lo == 0 && hi == p * 10 - 1)
        return digits(b, '0', '9', n, n);
    int64_t first = lo / p, last = hi / p;
    if (first == last)
        return ZB_SEQ(b, digits(b, (char)('0' + first), (char)('0' + first), 1, 1),
                      same_digits(b, lo % p, hi % p, n - 1, p / 10));
    if (lo % p != 0) {
        ways[k++] = ZB_SEQ(b, digits(b, (char)('0' + first), (char)('0' + first), 1, 1),
                           same_digits(b, lo % p, p - 1, n - 1, p / 10));
        first++;
    }
    if (hi % p != p - 1) {
        ways[k++] = ZB_SEQ(b, digits(b, (char)('0' + last), (char)('0' + last), 1, 1),
                           same_digits(b, 0, hi % p, n - 1, p / 10));
        last--;
    }
    if (first <= last)
        ways[k++] =
            ZB_SEQ(b, digits(b, (char)('0' + first), (char)('0' + last), 1, 1), digits(b, '0', '9', n - 1, n - 1));
    return zb_build_alt(b, ways, k);
}

/* Whole numbers, 0 <= lo <= hi <= ZB_JSON_BIG; lo > hi: none. */
static int32_t whole(zb_build *b, int64_t lo, int64_t hi)
{
    int32_t ways[20];
    size_t k = 0;
    int64_t p = 1;
    for (int n = 1; n <= 16; n++, p *= 10) {
        const int64_t from = lo > (n == 1 ? 0 : p) ? lo : (n == 1 ? 0 : p), to = hi < p * 10 - 1 ? hi : p * 10 - 1;
        if (from <= to)
            ways[k++] = same_digits(b, from, to, n, p);
    }
    return zb_build_alt(b, ways, k);
}

/* Numbers that are not negative. */
static int32_t upward(zb_build *b, int64_t lo, int64_t hi, int real, int open_lo, int open_hi)
{
    const int32_t plain = whole(b, lo + (open_lo != 0), hi - (open_hi != 0));
    if (!real)
        return plain;
    const int32_t not_zero = ZB_SEQ(b, zb_build_text(b, "."), digits(b, '0', '9', 0, 15), digits(b, '1', '9', 1, 1));
    return ZB_ALT(b, plain, ZB_SEQ(b, whole(b, lo + (open_lo != 0), hi - 1), fraction(b)),
                  open_lo && lo < hi ? ZB_SEQ(b, whole(b, lo, lo), not_zero) : ZB_X_NOTHING);
}

int32_t zb_json_between(zb_json_parts *p, int64_t lo, int64_t hi, int real, int open_lo, int open_hi)
{
    zb_build *b = p->b;
    int32_t ways[2];
    size_t k = 0;
    if (!real) {
        lo += open_lo != 0;
        hi -= open_hi != 0;
        open_lo = open_hi = 0;
    }
    if (hi >= 0)
        ways[k++] = lo >= 0 ? upward(b, lo, hi, real, open_lo, open_hi) : upward(b, 0, hi, real, 0, open_hi);
    if (lo < 0) {
        /* the other way round; no "-0" among whole numbers, and among others only what is more than nothing */
        const int64_t from = hi < 0 ? -hi : real ? 0 : 1;
        ways[k++] = minus(b, upward(b, from, -lo, real, hi < 0 ? open_hi : real, open_lo));
    }
    return zb_build_named(b, "range", zb_build_alt(b, ways, k));
}

/* ---- Formats ---- */

#define DATE                                                                                                           \
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])" \
    ")"                                                                                                                \
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
#define TIME  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define LABEL "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"

const char *zb_json_format(const char *name)
{
    static const struct {
        const char *name, *pattern;
    } formats[] = {
        {"date", "^" DATE "$"},
        {"time", "^" TIME "$"},
        {"date-time", "^" DATE "T" TIME "$"},
        {"duration", "^P([0-9]{1,4}W|[0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?|[0-9]{1,4}M([0-9]{1,4}D)?|[0-9]{1,4}D"
                     "|T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S))$"},
        {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
        {"email", "^[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,31}){0,1}@(" LABEL "\\.){1,2}[a-z]{2,24}$"},
        {"hostname", "^" LABEL "(\\." LABEL "){0,2}$"},
        {"ipv4", "^" OCTET "(\\." OCTET "){3}$"},
        {"ipv6", "^[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}$"},
        {"uri",
         "^[a-z][a-z0-9+.-]{1,9}://[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?(:[0-9]{1,4})?(/[A-Za-z0-9_.~-]{0,64}){0,16}"
         "(\\?[A-Za-z0-9_.~=&-]{0,128})?(#[A-Za-z0-9_.~-]{0,64})?$"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(name, formats[i].name) == 0)
            return formats[i].pattern;
    return NULL;
}
