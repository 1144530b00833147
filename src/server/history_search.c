/* history_search.c — the list of chats in its order, and full-text search over titles and messages: what a user types
 * as an expression of FTS5, and snippets with the places of the words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history_impl.h"
#include "utf16.h"

enum { MOST_HITS = 3, MOST_WORDS = 16, MOST_QUERY = 400, AROUND = 60 };

/* ---- what is searched ---- */

typedef struct wanted {
    char *match; /* expression of FTS5, or NULL      */
    char *like;  /* pattern of LIKE, always there    */
    int by_like; /* the index has no words of these letters, or none were typed */
} wanted;

static void free_wanted(wanted *w)
{
    free(w->match);
    free(w->like);
}

static char *pattern_of(const char *text)
{
    char *out = malloc(2 * strlen(text) + 3), *p = out;
    if (!out)
        return NULL;
    *p++ = '%';
    for (; *text; text++) {
        if (*text == '%' || *text == '_' || *text == '\\')
            *p++ = '\\';
        *p++ = *text;
    }
    *p++ = '%';
    *p = 0;
    return out;
}

/* Letters and digits of ASCII, and all beyond it. */
static int has_word(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'))
            return 1;
    }
    return 0;
}

/* Scripts without spaces between words (U+2E80 on, Thai to Khmer): the index would have to know their words. */
static int is_unspaced(const char *text)
{
    for (; *text; text++) {
        const unsigned char a = (unsigned char)text[0], b = a ? (unsigned char)text[1] : 0;
        if (a >= 0xe3 || (a == 0xe2 && b >= 0xba) || (a == 0xe0 && b >= 0xb8 && b <= 0xbe) || (a == 0xe1 && b == 0x9e))
            return 1;
    }
    return 0;
}

static char *add_word(char *p, const char *text, size_t n, int begins)
{
    if (!has_word(text, n))
        return p;
    *p++ = '"';
    memcpy(p, text, n);
    p += n;
    *p++ = '"';
    if (begins)
        *p++ = '*';
    *p++ = ' ';
    *p = 0;
    return p;
}

/* All words; what stands in quotes is one; the last, as it may be typed yet, is a beginning. */
static wanted read_query(const char *text)
{
    wanted w = {.like = pattern_of(text), .match = malloc(3 * strlen(text) + 8)};
    char *p = w.match;
    if (!p || !w.like)
        return w;
    *p = 0;
    int words = 0;
    for (const char *at = text; *at && words < MOST_WORDS;) {
        at += strspn(at, " \t\r\n");
        const int quoted = *at == '"';
        at += quoted;
        const size_t n = strcspn(at, quoted ? "\"" : " \t\r\n\"");
        const int last = !quoted && !at[n];
        p = add_word(p, at, n, last);
        words++;
        at += n + (quoted && at[n]);
    }
    w.by_like = p == w.match || is_unspaced(text);
    return w;
}

/* ---- snippets ---- */

/* Text with \2 and \3 around the words: plain, and their places. Line ends become spaces. */
static json_t *marked(const char *node, const char *text, size_t n)
{
    json_t *marks = json_array();
    char *plain = malloc(n + 1);
    size_t k = 0, from = 0;
    for (size_t i = 0; plain && i < n; i++) {
        if (text[i] == 2)
            from = sv_utf16_units(plain, k);
        else if (text[i] == 3)
            json_array_append_new(marks, json_pack("[I,I]", (json_int_t)from, (json_int_t)sv_utf16_units(plain, k)));
        else
            plain[k++] = (unsigned char)text[i] < 0x20 ? ' ' : text[i];
    }
    json_t *o =
        json_pack("{s:s?,s:o,s:o}", "node", node, "snippet", sv_json_text(plain ? plain : "", k), "marks", marks);
    free(plain);
    return o;
}

/* The same where the text was found by LIKE: some of it around the first place. */
static json_t *cut_out(const char *node, const char *text, size_t n, const char *found, size_t n_found)
{
    const char *at = NULL;
    for (size_t i = 0; !at && i + n_found <= n; i++)
        if (sqlite3_strnicmp(text + i, found, (int)n_found) == 0)
            at = text + i;
    if (!at)
        return NULL;
    size_t from = (size_t)(at - text) > AROUND ? (size_t)(at - text) - AROUND : 0, to = (size_t)(at - text) + n_found;
    to = n - to > AROUND ? to + AROUND : n;
    while (from > 0 && ((unsigned char)text[from] & 0xc0) == 0x80)
        from--;
    while (to < n && ((unsigned char)text[to] & 0xc0) == 0x80)
        to++;
    const size_t before = (size_t)(at - text) - from;
    char *piece = malloc(to - from + 3);
    if (!piece)
        return NULL;
    memcpy(piece, text + from, before);
    piece[before] = 2;
    memcpy(piece + before + 1, at, n_found);
    piece[before + 1 + n_found] = 3;
    memcpy(piece + before + 2 + n_found, at + n_found, to - from - before - n_found);
    json_t *o = marked(node, piece, to - from + 2);
    free(piece);
    return o;
}

static int add_hits(sv_history *h, const wanted *w, const char *text, json_t *chat, sv_bad *bad)
{
    json_t *hits = json_array();
    const char *id = json_string_value(json_object_get(chat, "id"));
    sqlite3_stmt *s =
        w->by_like
            ? sv_db_ask(
                  h, bad,
                  "SELECT id, text FROM nodes WHERE chat = ? AND text LIKE ? ESCAPE '\\' ORDER BY seq DESC LIMIT ?",
                  "ssi", id, w->like, (int64_t)MOST_HITS)
            : sv_db_ask(h, bad,
                        "SELECT n.id, snippet(words, 0, char(2), char(3), '…', 24) FROM words JOIN nodes n ON n.seq ="
                        " words.rowid WHERE words MATCH ? AND n.chat = ? LIMIT ?",
                        "ssi", w->match, id, (int64_t)MOST_HITS);
    int got;
    while ((got = sv_db_next(h, s, bad)) > 0) {
        const char *node = (const char *)sqlite3_column_text(s, 0), *found = (const char *)sqlite3_column_text(s, 1);
        const size_t n = (size_t)sqlite3_column_bytes(s, 1);
        if (!node || !found)
            continue;
        json_t *hit = w->by_like ? cut_out(node, found, n, text, strlen(text)) : marked(node, found, n);
        if (hit)
            json_array_append_new(hits, hit);
    }
    sqlite3_finalize(s);
    json_object_set_new(chat, "hits", hits);
    return got == 0;
}

/* ---- the list ---- */

/* ?1 owner, ?2 folder, ?3 kind, ?4 pinned only, ?5 pattern (NULL: all), ?6 expression (NULL: by pattern) */
#define WHICH                                                                                                          \
    " c.owner = ?1 AND (?2 IS NULL OR (?2 = 'none' AND c.folder IS NULL) OR c.folder = ?2)"                            \
    " AND (?3 IS NULL OR c.kind = ?3) AND (?4 = 0 OR c.pinned)"
#define BY_WORDS                                                                                                       \
    " AND (c.title LIKE ?5 ESCAPE '\\' OR c.id IN (SELECT n.chat FROM nodes n WHERE n.seq IN"                          \
    " (SELECT rowid FROM words WHERE words MATCH ?6)))"
#define BY_PATTERN                                                                                                     \
    " AND (c.title LIKE ?5 ESCAPE '\\' OR c.id IN (SELECT n.chat FROM nodes n WHERE n.text LIKE ?5 ESCAPE '\\')"       \
    " AND ?6 IS NOT NULL)"
#define BY_NOTHING " AND ?5 IS NULL AND ?6 IS NULL"
#define BEHIND     " AND (?7 IS NULL OR (c.pinned, c.updated, c.id) < (?8, ?9, ?7))"
#define IN_ORDER   " ORDER BY c.pinned DESC, c.updated DESC, c.id DESC LIMIT ?10"

static const char *const lists[] = {
    "SELECT " SV_CHAT_COLUMNS " FROM chats c WHERE" WHICH BY_NOTHING BEHIND IN_ORDER,
    "SELECT " SV_CHAT_COLUMNS " FROM chats c WHERE" WHICH BY_WORDS BEHIND IN_ORDER,
    "SELECT " SV_CHAT_COLUMNS " FROM chats c WHERE" WHICH BY_PATTERN BEHIND IN_ORDER,
};
static const char *const counts[] = {
    "SELECT COUNT(*) FROM chats c WHERE" WHICH BY_NOTHING,
    "SELECT COUNT(*) FROM chats c WHERE" WHICH BY_WORDS,
    "SELECT COUNT(*) FROM chats c WHERE" WHICH BY_PATTERN,
};

/* "P-UPDATED-ID" */
static int read_cursor(const char *text, int64_t *pinned, int64_t *updated, const char **id, sv_bad *bad)
{
    char *end;
    *id = NULL;
    *pinned = *updated = 0;
    if (!text)
        return 1;
    *pinned = strtoll(text, &end, 10);
    if (*end == '-')
        *updated = strtoll(end + 1, &end, 10);
    if (*end != '-' || !sv_db_is_id(end + 1))
        return sv_refuse(bad, 400, "invalid_value", "after", "after: not a cursor of this list");
    *id = end + 1;
    return 1;
}

static json_t *cursor_behind(const json_t *chat)
{
    char text[64];
    snprintf(text, sizeof text, "%d-%lld-%s", json_is_true(json_object_get(chat, "pinned")),
             (long long)json_integer_value(json_object_get(chat, "updated")),
             json_string_value(json_object_get(chat, "id")));
    return json_string(text);
}

json_t *sv_history_list(sv_history *h, const char *owner, const sv_history_query *q, sv_bad *bad)
{
    int64_t pinned, updated;
    const char *id, *text = q->text && q->text[strspn(q->text, " \t\r\n")] ? q->text : NULL;
    if (text && strlen(text) > MOST_QUERY) {
        sv_refuse(bad, 400, "invalid_value", "q", "q: %zu bytes, wanted up to %d", strlen(text), (int)MOST_QUERY);
        return NULL;
    }
    if (!read_cursor(q->after, &pinned, &updated, &id, bad))
        return NULL;
    wanted w = text ? read_query(text) : (wanted){0};
    if (text && (!w.match || !w.like)) {
        free_wanted(&w);
        sv_refuse(bad, 503, "unavailable", NULL, "no memory for the search");
        return NULL;
    }
    const int how = !text ? 0 : w.by_like ? 2 : 1;
    const char *match = how == 0 ? NULL : w.match;
    if (!sv_db_enter(h, 0, bad)) {
        free_wanted(&w);
        return NULL;
    }
    json_t *list = json_array(), *next = NULL;
    int64_t total = 0;
    /* one more than is asked for: is there a next page? */
    sqlite3_stmt *s = sv_db_ask(h, bad, lists[how], "sssisssiii", owner, q->folder, q->kind, (int64_t)q->pinned, w.like,
                                match, id, pinned, updated, q->limit + 1);
    int got;
    while ((got = sv_db_next(h, s, bad)) > 0) {
        if ((int64_t)json_array_size(list) == q->limit)
            next = cursor_behind(json_array_get(list, json_array_size(list) - 1));
        else
            json_array_append_new(list, sv_row_chat(s));
    }
    sqlite3_finalize(s);
    int ok = got == 0;
    for (size_t i = 0; ok && text && i < json_array_size(list); i++)
        ok = add_hits(h, &w, text, json_array_get(list, i), bad);
    s = ok ? sv_db_ask(h, bad, counts[how], "sssiss", owner, q->folder, q->kind, (int64_t)q->pinned, w.like, match)
           : NULL;
    if (s && sv_db_next(h, s, bad) > 0)
        total = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sv_db_leave(h, 0, 1, bad);
    free_wanted(&w);
    if (!bad->status)
        return json_pack("{s:o,s:o,s:I}", "chats", list, "next", next ? next : json_null(), "total", (json_int_t)total);
    json_decref(list);
    json_decref(next);
    return NULL;
}
