/* jinja_methods.c — attributes of values: the methods of Python's str, dict, list and tuple, and the global functions.
 * What the immutable sandbox forbids is undefined, as there; what Python has and we do not is named as unsupported. */
#include "tok/jinja_eval.h"

#include <string.h>

/* ---- str ---- */

static zb_jval change_case(zb_jrun *r, zb_jval self, const zb_jcall *call, zb_jcase how)
{
    zb_jbind(r, call, "method", "", 0, NULL);
    return zb_jstring(zb_jstr_case(r, self.u.s, how));
}

static zb_jval str_upper(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return change_case(r, self, call, ZB_JUPPER);
}

static zb_jval str_lower(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return change_case(r, self, call, ZB_JLOWER);
}

static zb_jval str_title(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return change_case(r, self, call, ZB_JTITLE);
}

static zb_jval str_capitalize(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return change_case(r, self, call, ZB_JCAPITALIZE);
}

static zb_jval str_swapcase(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return change_case(r, self, call, ZB_JSWAPCASE);
}

static int not_given(zb_jval v)
{
    return v.kind == ZB_JMISSING || v.kind == ZB_JNONE;
}

static zb_jval strip(zb_jrun *r, zb_jval self, const zb_jcall *call, zb_jside side)
{
    zb_jval chars;
    zb_jbind(r, call, "strip", "chars", 0, &chars);
    return zb_jstring(zb_jstr_strip(r, self.u.s, not_given(chars) ? NULL : zb_jarg_str(r, chars, "strip"), side));
}

static zb_jval str_strip(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return strip(r, self, call, ZB_JBOTH);
}

static zb_jval str_lstrip(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return strip(r, self, call, ZB_JLEFT);
}

static zb_jval str_rstrip(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return strip(r, self, call, ZB_JRIGHT);
}

static void push_part(zb_jrun *r, zb_jlist *l, const zb_jstr *s, size_t from, size_t to)
{
    zb_jlist_push(r, l, zb_jstring(zb_jstr_bytes(r, s, from, to)));
}

/* Words between white space, from the left; the rest after `most` splits is the last word. */
static void split_space(zb_jrun *r, zb_jlist *out, const zb_jstr *s, int64_t most)
{
    size_t i = 0, len;
    zb_jcharge(r, s->n * 2);
    for (;;) {
        while (i < s->n && zb_jis_space(zb_jutf8_get(s->p + i, s->n - i, &len)))
            i += len;
        if (i == s->n)
            return;
        const size_t from = i;
        if (most-- == 0) {
            push_part(r, out, s, from, s->n);
            return;
        }
        while (i < s->n && !zb_jis_space(zb_jutf8_get(s->p + i, s->n - i, &len)))
            i += len;
        push_part(r, out, s, from, i);
    }
}

static size_t char_before(const zb_jstr *s, size_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)s->p[at] & 0xC0) == 0x80);
    return at;
}

static void rsplit_space(zb_jrun *r, zb_jlist *out, const zb_jstr *s, int64_t most)
{
    size_t end = s->n, len;
    zb_jcharge(r, s->n * 2);
    for (;;) {
        while (end > 0 && zb_jis_space(zb_jutf8_get(s->p + char_before(s, end), s->n, &len)))
            end = char_before(s, end);
        if (end == 0)
            return;
        if (most-- == 0) {
            push_part(r, out, s, 0, end);
            return;
        }
        size_t from = end;
        while (from > 0 && !zb_jis_space(zb_jutf8_get(s->p + char_before(s, from), s->n, &len)))
            from = char_before(s, from);
        push_part(r, out, s, from, end);
        end = from;
    }
}

static void reverse_items(zb_jlist *l)
{
    for (size_t i = 0, j = l->n; i + 1 < j; i++) {
        const zb_jval other = l->items[--j];
        l->items[j] = l->items[i];
        l->items[i] = other;
    }
}

static zb_jval str_split(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval a[2], out = zb_jlist_new(r, ZB_JLIST, 0);
    const zb_jstr *s = self.u.s;
    zb_jbind(r, call, "split", "sep,maxsplit", 0, a);
    int64_t most = zb_jarg_int(r, a[1], -1, "split");
    if (not_given(a[0])) {
        split_space(r, out.u.list, s, most);
        return out;
    }
    const zb_jstr *by = zb_jarg_str(r, a[0], "split");
    if (by->n == 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "split: empty separator");
    size_t from = 0;
    while (most-- != 0) {
        const size_t at = zb_jstr_find(r, s, from, s->n, by);
        if (at == SIZE_MAX)
            break;
        push_part(r, out.u.list, s, from, at);
        from = at + by->n;
    }
    push_part(r, out.u.list, s, from, s->n);
    return out;
}

/* The last place at which `what` (not empty) ends by byte `end`, or SIZE_MAX. */
static size_t find_back(zb_jrun *r, const zb_jstr *s, size_t end, const zb_jstr *what)
{
    if (what->n > end)
        return SIZE_MAX;
    size_t at = end - what->n + 1, found = SIZE_MAX;
    while (at-- > 0 && found == SIZE_MAX)
        if (s->p[at] == what->p[0]) {
            zb_jcharge(r, what->n);
            if (memcmp(s->p + at, what->p, what->n) == 0)
                found = at;
        }
    zb_jcharge(r, end - (found == SIZE_MAX ? 0 : found));
    return found;
}

static zb_jval str_rsplit(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval a[2], out = zb_jlist_new(r, ZB_JLIST, 0);
    const zb_jstr *s = self.u.s;
    zb_jbind(r, call, "rsplit", "sep,maxsplit", 0, a);
    int64_t most = zb_jarg_int(r, a[1], -1, "rsplit");
    if (not_given(a[0])) {
        rsplit_space(r, out.u.list, s, most);
    } else {
        const zb_jstr *by = zb_jarg_str(r, a[0], "rsplit");
        size_t end = s->n;
        if (by->n == 0)
            zb_jfail(r, ZAMBA_E_FORMAT, "rsplit: empty separator");
        while (most-- != 0) {
            const size_t at = find_back(r, s, end, by);
            if (at == SIZE_MAX)
                break;
            push_part(r, out.u.list, s, at + by->n, end);
            end = at;
        }
        push_part(r, out.u.list, s, 0, end);
    }
    reverse_items(out.u.list);
    return out;
}

static zb_jval str_splitlines(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval keep;
    zb_jbind(r, call, "splitlines", "keepends", 0, &keep);
    return zb_jsplit_lines(r, self.u.s, zb_jtruth(r, keep));
}

/* Bytes of s[start:end]; 0 if start lies behind the text. */
static int clip(zb_jrun *r, const zb_jstr *s, zb_jval start, zb_jval end, size_t *from, size_t *to)
{
    const int64_t n = (int64_t)s->n_chars;
    int64_t a = not_given(start) ? 0 : zb_jarg_int(r, start, 0, "start");
    int64_t b = not_given(end) ? n : zb_jarg_int(r, end, n, "end");
    if (a < 0)
        a = a + n < 0 ? 0 : a + n;
    if (b < 0)
        b = b + n < 0 ? 0 : b + n;
    if (b > n)
        b = n;
    if (a > b)
        return 0;
    zb_jcharge(r, s->n_chars == s->n ? 0 : s->n);
    *from = zb_jstr_offset(s, (size_t)a);
    *to = zb_jstr_offset(s, (size_t)b);
    return 1;
}

static int has_end(zb_jrun *r, const zb_jstr *s, zb_jval what, size_t from, size_t to, int at_start)
{
    const zb_jstr *x = zb_jarg_str(r, what, "startswith or endswith");
    zb_jcharge(r, x->n);
    return x->n <= to - from && memcmp(at_start ? s->p + from : s->p + to - x->n, x->p, x->n) == 0;
}

static zb_jval with_end(zb_jrun *r, zb_jval self, const zb_jcall *call, int at_start)
{
    zb_jval a[3];
    size_t from, to;
    zb_jbind(r, call, "startswith or endswith", "prefix,start,end", 1, a);
    if (!clip(r, self.u.s, a[1], a[2], &from, &to))
        return zb_jbool(0);
    if (a[0].kind != ZB_JTUPLE)
        return zb_jbool(has_end(r, self.u.s, a[0], from, to, at_start));
    for (size_t i = 0; i < a[0].u.list->n; i++)
        if (has_end(r, self.u.s, a[0].u.list->items[i], from, to, at_start))
            return zb_jbool(1);
    return zb_jbool(0);
}

static zb_jval str_startswith(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return with_end(r, self, call, 1);
}

static zb_jval str_endswith(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return with_end(r, self, call, 0);
}

static zb_jval str_replace(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval a[3];
    zb_jbind(r, call, "replace", "old,new,count", 2, a);
    const zb_jstr *old = zb_jarg_str(r, a[0], "replace"), *with = zb_jarg_str(r, a[1], "replace");
    if (self.u.s->markup)
        with = zb_jstr_escape_html(r, with);
    const zb_jstr *out = zb_jreplace(r, self.u.s, old, with, zb_jarg_int(r, a[2], -1, "replace"));
    return zb_jstring(zb_jstr_as_markup(r, out, self.u.s->markup));
}

static zb_jval str_join(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval items;
    zb_jseq seq;
    zb_jbuf b = {0};
    const int markup = self.u.s->markup;
    zb_jbind(r, call, "join", "iterable", 1, &items);
    zb_jseq_need(r, &seq, items);
    for (size_t i = 0; i < seq.n; i++) {
        const zb_jstr *item = zb_jarg_str(r, zb_jseq_get(r, &seq, i), "join");
        if (i > 0)
            zb_jbuf_str(r, &b, self.u.s);
        zb_jbuf_str(r, &b, markup ? zb_jstr_escape_html(r, item) : item);
    }
    return zb_jstring(zb_jstr_as_markup(r, zb_jbuf_finish(r, &b), markup));
}

static zb_jval find(zb_jrun *r, zb_jval self, const zb_jcall *call, int last, int must)
{
    zb_jval a[3];
    size_t from, to, at = SIZE_MAX;
    const zb_jstr *s = self.u.s;
    zb_jbind(r, call, "find", "sub,start,end", 1, a);
    const zb_jstr *sub = zb_jarg_str(r, a[0], "find");
    if (clip(r, s, a[1], a[2], &from, &to))
        at = last ? zb_jstr_rfind(r, s, from, to, sub) : zb_jstr_find(r, s, from, to, sub);
    if (at == SIZE_MAX && must)
        zb_jfail(r, ZAMBA_E_FORMAT, "substring not found");
    const int64_t index = at == SIZE_MAX ? -1 : (int64_t)zb_jstr_bytes(r, s, 0, at)->n_chars;
    return zb_jint(index, zb_jstr_tainted(s));
}

static zb_jval str_find(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return find(r, self, call, 0, 0);
}

static zb_jval str_rfind(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return find(r, self, call, 1, 0);
}

static zb_jval str_index(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return find(r, self, call, 0, 1);
}

static zb_jval str_rindex(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return find(r, self, call, 1, 1);
}

static zb_jval str_count(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval a[3];
    size_t from, to;
    int64_t n = 0;
    const zb_jstr *s = self.u.s;
    zb_jbind(r, call, "count", "sub,start,end", 1, a);
    const zb_jstr *sub = zb_jarg_str(r, a[0], "count");
    if (clip(r, s, a[1], a[2], &from, &to)) {
        if (sub->n == 0)
            n = (int64_t)zb_jstr_bytes(r, s, from, to)->n_chars + 1;
        for (; sub->n > 0; n++) {
            const size_t at = zb_jstr_find(r, s, from, to, sub);
            if (at == SIZE_MAX)
                break;
            from = at + sub->n;
            zb_jstep(r);
        }
    }
    return zb_jint(n, zb_jstr_tainted(s));
}

/* 1 if there are characters and all are of the class. */
static zb_jval all_are(zb_jrun *r, zb_jval self, const zb_jcall *call, int (*is)(uint32_t c))
{
    const zb_jstr *s = self.u.s;
    size_t len;
    zb_jbind(r, call, "method", "", 0, NULL);
    zb_jcharge(r, s->n * 4);
    for (size_t i = 0; i < s->n; i += len)
        if (!is(zb_jutf8_get(s->p + i, s->n - i, &len)))
            return zb_jbool(0);
    return zb_jbool(s->n > 0);
}

static zb_jval str_isdigit(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return all_are(r, self, call, zb_jis_digit);
}

static zb_jval str_isalpha(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return all_are(r, self, call, zb_jis_letter);
}

static zb_jval str_isalnum(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return all_are(r, self, call, zb_jis_alnum);
}

static zb_jval str_isspace(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return all_are(r, self, call, zb_jis_space);
}

static zb_jval str_isascii(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jbind(r, call, "isascii", "", 0, NULL);
    return zb_jbool(self.u.s->n == self.u.s->n_chars);
}

static zb_jval case_test(zb_jrun *r, zb_jval self, const zb_jcall *call, const char *name)
{
    const zb_jtest_fn test = zb_jtest_find(zb_jstr_text(r, name, 1));
    return zb_jbool(test(r, self, call));
}

static zb_jval str_islower(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return case_test(r, self, call, "lower");
}

static zb_jval str_isupper(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return case_test(r, self, call, "upper");
}

static uint32_t fill_char(zb_jrun *r, zb_jval v, int *trusted)
{
    size_t len;
    *trusted = 1;
    if (v.kind == ZB_JMISSING)
        return ' ';
    const zb_jstr *s = zb_jarg_str(r, v, "fill character");
    if (s->n_chars != 1)
        zb_jfail(r, ZAMBA_E_FORMAT, "the fill character must be exactly one character long");
    *trusted = !zb_jstr_tainted(s);
    return zb_jutf8_get(s->p, s->n, &len);
}

/* how: -1 text to the left, 1 to the right */
static zb_jval justify(zb_jrun *r, zb_jval self, const zb_jcall *call, int how)
{
    zb_jval a[2];
    zb_jbuf b = {0};
    int trusted;
    zb_jbind(r, call, "justify", "width,fillchar", 1, a);
    const int64_t width = zb_jarg_int(r, a[0], 0, "width");
    const uint32_t fill = fill_char(r, a[1], &trusted);
    const zb_jstr *s = self.u.s;
    if (how == 0)
        return zb_jstring(zb_jcenter(r, s, width, fill, trusted));
    if (width <= (int64_t)s->n_chars)
        return self;
    if ((uint64_t)width > ZB_JMAX_TEXT)
        zb_jfail(r, ZAMBA_E_FORMAT, "makes a text of more than %zu bytes", ZB_JMAX_TEXT);
    if (how < 0)
        zb_jbuf_str(r, &b, s);
    for (int64_t i = (int64_t)s->n_chars; i < width; i++, zb_jstep(r))
        zb_jbuf_char(r, &b, fill, trusted);
    if (how > 0)
        zb_jbuf_str(r, &b, s);
    return zb_jstring(zb_jstr_as_markup(r, zb_jbuf_finish(r, &b), s->markup));
}

static zb_jval str_center(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return justify(r, self, call, 0);
}

static zb_jval str_ljust(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return justify(r, self, call, -1);
}

static zb_jval str_rjust(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return justify(r, self, call, 1);
}

static zb_jval str_zfill(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval a;
    zb_jbuf b = {0};
    const zb_jstr *s = self.u.s;
    zb_jbind(r, call, "zfill", "width", 1, &a);
    const int64_t width = zb_jarg_int(r, a, 0, "zfill");
    if (width <= (int64_t)s->n_chars)
        return self;
    if ((uint64_t)width > ZB_JMAX_TEXT)
        zb_jfail(r, ZAMBA_E_FORMAT, "makes a text of more than %zu bytes", ZB_JMAX_TEXT);
    const size_t sign = s->n > 0 && (s->p[0] == '-' || s->p[0] == '+');
    zb_jbuf_str(r, &b, zb_jstr_bytes(r, s, 0, sign));
    zb_jbuf_fill(r, &b, '0', (size_t)width - s->n_chars, !a.tainted);
    zb_jbuf_str(r, &b, zb_jstr_bytes(r, s, sign, s->n));
    return zb_jstring(zb_jstr_as_markup(r, zb_jbuf_finish(r, &b), s->markup));
}

static zb_jval partition(zb_jrun *r, zb_jval self, const zb_jcall *call, int last)
{
    zb_jval by, out = zb_jlist_new(r, ZB_JTUPLE, 3);
    const zb_jstr *s = self.u.s;
    zb_jbind(r, call, "partition", "sep", 1, &by);
    const zb_jstr *sep = zb_jarg_str(r, by, "partition");
    if (sep->n == 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "partition: empty separator");
    size_t at = last ? zb_jstr_rfind(r, s, 0, s->n, sep) : zb_jstr_find(r, s, 0, s->n, sep), end;
    if (at == SIZE_MAX)
        at = end = last ? 0 : s->n;
    else
        end = at + sep->n;
    out.u.list->items[0] = zb_jstring(zb_jstr_bytes(r, s, 0, at));
    out.u.list->items[1] = zb_jstring(zb_jstr_bytes(r, s, at, end));
    out.u.list->items[2] = zb_jstring(zb_jstr_bytes(r, s, end, s->n));
    return out;
}

static zb_jval str_partition(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return partition(r, self, call, 0);
}

static zb_jval str_rpartition(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return partition(r, self, call, 1);
}

static zb_jval remove_end(zb_jrun *r, zb_jval self, const zb_jcall *call, int at_start)
{
    zb_jval a;
    const zb_jstr *s = self.u.s;
    zb_jbind(r, call, "removeprefix or removesuffix", "fix", 1, &a);
    if (!has_end(r, s, a, 0, s->n, at_start))
        return self;
    return zb_jstring(at_start ? zb_jstr_bytes(r, s, a.u.s->n, s->n) : zb_jstr_bytes(r, s, 0, s->n - a.u.s->n));
}

static zb_jval str_removeprefix(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return remove_end(r, self, call, 1);
}

static zb_jval str_removesuffix(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    return remove_end(r, self, call, 0);
}

static zb_jval str_format(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    if (self.u.s->markup)
        zb_jfail(r, ZAMBA_E_UNSUPPORTED, "format of text marked safe is not supported");
    return zb_jstring(zb_jformat_braces(r, self.u.s, call));
}

static const zb_jmethod str_methods[] = {
    {"strip", str_strip},
    {"split", str_split},
    {"replace", str_replace},
    {"startswith", str_startswith},
    {"endswith", str_endswith},
    {"join", str_join},
    {"upper", str_upper},
    {"lower", str_lower},
    {"title", str_title},
    {"capitalize", str_capitalize},
    {"swapcase", str_swapcase},
    {"lstrip", str_lstrip},
    {"rstrip", str_rstrip},
    {"rsplit", str_rsplit},
    {"splitlines", str_splitlines},
    {"find", str_find},
    {"rfind", str_rfind},
    {"index", str_index},
    {"rindex", str_rindex},
    {"count", str_count},
    {"isdigit", str_isdigit},
    {"isalpha", str_isalpha},
    {"isalnum", str_isalnum},
    {"isspace", str_isspace},
    {"isascii", str_isascii},
    {"islower", str_islower},
    {"isupper", str_isupper},
    {"center", str_center},
    {"ljust", str_ljust},
    {"rjust", str_rjust},
    {"zfill", str_zfill},
    {"partition", str_partition},
    {"rpartition", str_rpartition},
    {"removeprefix", str_removeprefix},
    {"removesuffix", str_removesuffix},
    {"format", str_format},
    {"casefold", NULL},
    {"encode", NULL},
    {"expandtabs", NULL},
    {"format_map", NULL},
    {"isdecimal", NULL},
    {"isidentifier", NULL},
    {"isnumeric", NULL},
    {"isprintable", NULL},
    {"istitle", NULL},
    {"maketrans", NULL},
    {"translate", NULL},
    {NULL, NULL},
};

/* ---- dict ---- */

static zb_jval dict_get(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval a[2];
    zb_jbind(r, call, "get", "key,default", 1, a);
    const zb_jval *v = zb_jdict_get(r, self.u.dict, a[0]);
    return v != NULL ? *v : a[1].kind == ZB_JMISSING ? zb_jnone() : a[1];
}

static zb_jval dict_items(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jbind(r, call, "items", "", 0, NULL);
    return zb_jview(r, self.u.dict, 'i');
}

static zb_jval dict_keys(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jbind(r, call, "keys", "", 0, NULL);
    return zb_jview(r, self.u.dict, 'k');
}

static zb_jval dict_values(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jbind(r, call, "values", "", 0, NULL);
    return zb_jview(r, self.u.dict, 'v');
}

static zb_jval copy(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jbind(r, call, "copy", "", 0, NULL);
    return self; /* nothing can change it */
}

static const zb_jmethod dict_methods[] = {
    {"get", dict_get}, {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values},
    {"copy", copy},    {"fromkeys", NULL},    {NULL, NULL},
};

/* ---- list, tuple ---- */

static zb_jval list_count(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval what;
    int64_t n = 0;
    zb_jbind(r, call, "count", "value", 1, &what);
    for (size_t i = 0; i < self.u.list->n; i++)
        n += zb_jequal(r, self.u.list->items[i], what);
    return zb_jint(n, 0);
}

static zb_jval list_index(zb_jrun *r, zb_jval self, const zb_jcall *call)
{
    zb_jval a[3];
    const int64_t n = (int64_t)self.u.list->n;
    zb_jbind(r, call, "index", "value,start,stop", 1, a);
    int64_t from = zb_jarg_int(r, a[1], 0, "index"), to = zb_jarg_int(r, a[2], n, "index");
    from = from < 0 ? (from + n < 0 ? 0 : from + n) : from;
    to = to < 0 ? to + n : to > n ? n : to;
    for (int64_t i = from; i < to; i++)
        if (zb_jequal(r, self.u.list->items[i], a[0]))
            return zb_jint(i, 0);
    zb_jfail(r, ZAMBA_E_FORMAT, "index: the value is not in the %s", zb_jkind_name(self));
}

static const zb_jmethod list_methods[] = {{"count", list_count}, {"index", list_index}, {"copy", copy}, {NULL, NULL}};

static const zb_jmethod tuple_methods[] = {{"count", list_count}, {"index", list_index}, {NULL, NULL}};

/* ---- Attributes ---- */

static int is_one_of(const zb_jstr *name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (zb_jstr_is(name, *names))
            return 1;
    return 0;
}

zb_jval zb_jattribute(zb_jrun *r, zb_jval v, const zb_jstr *name)
{
    static const char *const dict_changes[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const char *const list_changes[] = {"append", "clear",  "pop",    "reverse", "insert",
                                               "sort",   "extend", "remove", NULL};
    const zb_jmethod *m = NULL;
    if (v.kind == ZB_JSTRING)
        m = str_methods;
    else if (v.kind == ZB_JDICT)
        m = dict_methods;
    else if (v.kind == ZB_JLIST)
        m = list_methods;
    else if (v.kind == ZB_JTUPLE)
        m = tuple_methods;
    else if (v.kind == ZB_JLOOP)
        return zb_jloop_attribute(r, v.u.loop, name);
    else if (v.kind == ZB_JMACRO && zb_jstr_is(name, "name"))
        return v.u.macro->node->value;
    for (; m != NULL && m->name != NULL; m++)
        if (zb_jstr_is(name, m->name)) {
            zb_jbound *bound = zb_jalloc(r, sizeof *bound);
            *bound = (zb_jbound){v, m};
            return (zb_jval){.kind = ZB_JMETHOD, .u.bound = bound};
        }
    const int dunder = name->n > 4 && memcmp(name->p, "__", 2) == 0 && memcmp(name->p + name->n - 2, "__", 2) == 0;
    if (dunder || (v.kind == ZB_JDICT && is_one_of(name, dict_changes)) ||
        (v.kind == ZB_JLIST && is_one_of(name, list_changes)))
        return zb_jundef_hint(r,
                              "access to an attribute that the sandbox holds unsafe (lists and dicts do not change)");
    return zb_jmissing();
}

/* ---- Global functions ---- */

typedef enum global_id { RAISE, NOW, NAMESPACE, DICT, RANGE, CYCLER, JOINER, LIPSUM, N_GLOBALS } global_id;

static const char *const global_names[N_GLOBALS] = {
    [RAISE] = "raise_exception", [NOW] = "strftime_now", [NAMESPACE] = "namespace", [DICT] = "dict",
    [RANGE] = "range",           [CYCLER] = "cycler",    [JOINER] = "joiner",       [LIPSUM] = "lipsum",
};

zb_jval zb_jglobal(const zb_jstr *name)
{
    for (int i = 0; i < N_GLOBALS; i++)
        if (zb_jstr_is(name, global_names[i]))
            return (zb_jval){.kind = ZB_JFUNCTION, .u.i = i};
    return zb_jmissing();
}

static zb_jval make_range(zb_jrun *r, const zb_jcall *call)
{
    zb_jval a[3];
    zb_jrange *range = zb_jalloc(r, sizeof *range);
    zb_jbind(r, call, "range", "start,stop,step", 1, a);
    const int64_t first = zb_jarg_int(r, a[0], 0, "range");
    *range = (zb_jrange){0, first, 1, 0};
    if (a[1].kind != ZB_JMISSING) {
        range->start = first;
        range->stop = zb_jarg_int(r, a[1], 0, "range");
    }
    range->step = zb_jarg_int(r, a[2], 1, "range");
    if (range->step == 0)
        zb_jfail(r, ZAMBA_E_FORMAT, "range: step must not be zero");
    /* The distance fits 64 bits without a sign. */
    uint64_t span = 0, step;
    if (range->step > 0) {
        step = (uint64_t)range->step;
        if (range->stop > range->start)
            span = (uint64_t)range->stop - (uint64_t)range->start;
    } else {
        step = 0 - (uint64_t)range->step;
        if (range->stop < range->start)
            span = (uint64_t)range->start - (uint64_t)range->stop;
    }
    const uint64_t n = span == 0 ? 0 : (span - 1) / step + 1;
    if (n > ZB_JMAX_RANGE)
        zb_jfail(r, ZAMBA_E_FORMAT, "range: more than %d items", ZB_JMAX_RANGE);
    range->n = (size_t)n;
    return (zb_jval){.kind = ZB_JRANGE, .u.range = range};
}

static zb_jval make_dict(zb_jrun *r, const zb_jcall *call, zb_jkind kind)
{
    zb_jval d = zb_jdict_new(r, kind, call->n_named);
    if (call->n > 1)
        zb_jfail(r, ZAMBA_E_FORMAT, "%s: found %zu arguments, at most 1 is taken", zb_jkind_name(d), call->n);
    if (call->n == 1)
        zb_jdict_fill(r, d.u.dict, call->args[0]);
    for (size_t i = 0; i < call->n_named; i++)
        zb_jdict_set(r, d.u.dict, call->named[i].key, call->named[i].value);
    for (size_t i = 0; kind == ZB_JNAMESPACE && i < d.u.dict->n; i++) {
        const zb_jval key = d.u.dict->pairs[i].key;
        if (key.kind == ZB_JSTRING && key.u.s->n > 0 && key.u.s->p[0] == '_')
            zb_jfail(r, ZAMBA_E_FORMAT, "an attribute of a namespace cannot start with '_'");
    }
    return d;
}

zb_jval zb_jglobal_call(zb_jrun *r, zb_jval fn, const zb_jcall *call)
{
    zb_jval a;
    switch (fn.u.i) {
    case RAISE:
        zb_jbind(r, call, "raise_exception", "message", 1, &a);
        zb_jfail(r, ZAMBA_E_ARG, "%s", zb_jstr_cstr(r, zb_jto_str(r, a), 400));
    case NOW:
        zb_jbind(r, call, "strftime_now", "format", 1, &a);
        return zb_jstring(zb_jformat_now(r, zb_jarg_str(r, a, "strftime_now")));
    case NAMESPACE:
        return make_dict(r, call, ZB_JNAMESPACE);
    case DICT:
        return make_dict(r, call, ZB_JDICT);
    case RANGE:
        return make_range(r, call);
    default:
        zb_jfail(r, ZAMBA_E_UNSUPPORTED, "function '%s' is not supported", global_names[fn.u.i]);
    }
}
