/* From a template's text to tokens, by the rules of jinja2's lexer with trim_blocks and lstrip_blocks: what white space
 * around tags goes away is decided here alone. */
#include "text/jinja_internal.h"

#include "base/number.h"

#include <string.h>
#include <utf8proc.h>

/* The text that is left, and what was decided about the place before it. */
struct lexer {
    struct jinja_parser *parser;
    const char *text;
    size_t length, at;
    int32_t line;
    bool line_starting; /* what was matched last ended a line */
};

enum { MAX_OPEN = 1000 }; /* brackets within one tag */

static cohort_status push(struct lexer *lexer, struct jinja_token token)
{
    struct jinja_parser *parser = lexer->parser;
    TRY(mem_grow(&parser->tokens, &parser->tokens_capacity, parser->n_tokens + 1, sizeof *parser->tokens,
                 "the template's tokens", parser->err));
    parser->tokens[parser->n_tokens++] = token;
    return COHORT_OK;
}

static cohort_status push_plain(struct lexer *lexer, enum jinja_token_type type)
{
    return push(lexer, (struct jinja_token){.type = type, .line = lexer->line, .bytes = lexer->text + lexer->at});
}

static bool has(const struct lexer *lexer, size_t at, const char *word)
{
    const size_t n = strlen(word);
    return lexer->length - at >= n && memcmp(lexer->text + at, word, n) == 0;
}

/* Moves on to at, counting lines. */
static void advance(struct lexer *lexer, size_t at)
{
    for (; lexer->at < at; lexer->at++)
        lexer->line += lexer->text[lexer->at] == '\n';
    lexer->line_starting = at > 0 && lexer->text[at - 1] == '\n';
}

static size_t spaces_end(const struct lexer *lexer, size_t at)
{
    while (at < lexer->length) {
        uint32_t character = 0;
        const size_t n = utf8_decode(lexer->text + at, &character);
        if (!jinja_is_space(character))
            break;
        at += n;
    }
    return at;
}

/* Where white space at the end of [from, to) begins. */
static size_t trailing_spaces(const struct lexer *lexer, size_t from, size_t to)
{
    while (to > from) {
        size_t before = to - 1;
        uint32_t character = 0;
        while (before > from && ((unsigned char)lexer->text[before] & 0xc0u) == 0x80u)
            before--;
        utf8_decode(lexer->text + before, &character);
        if (!jinja_is_space(character))
            break;
        to = before;
    }
    return to;
}

/* The end of a tag's opening sign, "-" or "+", which begins at at. */
static size_t sign_end(const struct lexer *lexer, size_t at, char *sign)
{
    *sign = at < lexer->length && (lexer->text[at] == '-' || lexer->text[at] == '+') ? lexer->text[at] : '\0';
    return at + (*sign != '\0');
}

/* Data [lexer->at, to) before a tag that opens with sign. is_print: {{, which lstrip_blocks does not touch. */
static cohort_status push_data(struct lexer *lexer, size_t to, char sign, bool is_print)
{
    const size_t from = lexer->at;
    size_t end = to;
    if (sign == '-') {
        end = trailing_spaces(lexer, from, to);
    } else if (sign != '+' && !is_print) {
        size_t line = to;
        while (line > from && lexer->text[line - 1] != '\n')
            line--;
        if ((line > from || lexer->line_starting) && trailing_spaces(lexer, line, to) == line)
            end = line;
    }
    if (end > from)
        TRY(push(lexer,
                 (struct jinja_token){
                     .type = TOKEN_DATA, .line = lexer->line, .bytes = lexer->text + from, .length = end - from}));
    advance(lexer, to);
    return COHORT_OK;
}

/* The end of a tag that ends at at ("%}", "#}"), with what goes away behind it; 0: no tag ends there. */
static size_t closing_end(const struct lexer *lexer, size_t at, const char *closing)
{
    if (has(lexer, at, closing)) {
        at += 2;
        return at + (at < lexer->length && lexer->text[at] == '\n');
    }
    if (at >= lexer->length || !has(lexer, at + 1, closing))
        return 0;
    if (lexer->text[at] == '+')
        return at + 3;
    return lexer->text[at] == '-' ? spaces_end(lexer, at + 3) : 0;
}

/* "{% raw %}" at at: where its content begins; 0: it is not that. */
static size_t raw_begin(const struct lexer *lexer, size_t at)
{
    char sign = '\0';
    at = spaces_end(lexer, sign_end(lexer, at + 2, &sign));
    if (!has(lexer, at, "raw"))
        return 0;
    at = spaces_end(lexer, at + 3);
    if (has(lexer, at, "-%}"))
        return spaces_end(lexer, at + 3);
    return has(lexer, at, "%}") ? at + 2 : 0;
}

/* "{% endraw %}" at at: its end and its opening sign; 0: it is not that. */
static size_t raw_end(const struct lexer *lexer, size_t at, char *sign)
{
    at = spaces_end(lexer, sign_end(lexer, at + 2, sign));
    return has(lexer, at, "endraw") ? closing_end(lexer, spaces_end(lexer, at + 6), "%}") : 0;
}

static cohort_status lex_raw(struct lexer *lexer, size_t from)
{
    const int32_t line = lexer->line;
    advance(lexer, from);
    for (size_t at = from; at < lexer->length; at++) {
        char sign = '\0';
        const size_t end = has(lexer, at, "{%") ? raw_end(lexer, at, &sign) : 0;
        if (end == 0)
            continue;
        TRY(push_data(lexer, at, sign, false));
        advance(lexer, end);
        return COHORT_OK;
    }
    return jinja_parse_fail(lexer->parser, COHORT_ERR_FORMAT, line, "{%% raw %%} has no {%% endraw %%}");
}

static cohort_status lex_comment(struct lexer *lexer, size_t from)
{
    for (size_t at = from; at < lexer->length; at++) {
        const size_t end = closing_end(lexer, at, "#}");
        if (end == 0)
            continue;
        advance(lexer, end);
        return COHORT_OK;
    }
    return jinja_parse_fail(lexer->parser, COHORT_ERR_FORMAT, lexer->line, "a comment {# has no end #}");
}

/* ---- within a tag ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_name_character(uint32_t c)
{
    if (c < 0x80)
        return is_digit((char)c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
    }
}

/* Digits with single underscores between them; their end, or at where none stand. */
static size_t digits_end(const struct lexer *lexer, size_t at)
{
    while (at < lexer->length && is_digit(lexer->text[at])) {
        at++;
        if (at + 1 < lexer->length && lexer->text[at] == '_' && is_digit(lexer->text[at + 1]))
            at++;
    }
    return at;
}

static size_t float_end(const struct lexer *lexer, size_t at)
{
    if (at > 0 && lexer->text[at - 1] == '.')
        return 0;
    const size_t whole = digits_end(lexer, at);
    size_t end = whole, fraction = whole;
    if (whole < lexer->length && lexer->text[whole] == '.')
        fraction = digits_end(lexer, whole + 1);
    if (fraction > whole + 1)
        end = fraction;
    if (end < lexer->length && (lexer->text[end] == 'e' || lexer->text[end] == 'E')) {
        size_t exponent = end + 1;
        exponent += exponent < lexer->length && (lexer->text[exponent] == '+' || lexer->text[exponent] == '-');
        const size_t last = digits_end(lexer, exponent);
        if (last > exponent)
            return last;
    }
    return end > whole ? end : 0;
}

static int digit_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

static cohort_status lex_number(struct lexer *lexer)
{
    char digits[64];
    size_t n = 0, end = float_end(lexer, lexer->at);
    struct jinja_token token = {.line = lexer->line, .bytes = lexer->text + lexer->at};
    int base = 10;
    if (end == 0) {
        const char *mark = lexer->text + lexer->at;
        const char kind = lexer->length - lexer->at > 2 && mark[0] == '0' ? mark[1] : '\0';
        base = kind == 'x' || kind == 'X' ? 16 : kind == 'o' || kind == 'O' ? 8 : kind == 'b' || kind == 'B' ? 2 : 10;
        if (base != 10 && digit_value(mark[2]) >= base)
            base = 10;
        end = base == 10 ? digits_end(lexer, lexer->at) : lexer->at + 2;
        while (base != 10 && end < lexer->length && (digit_value(lexer->text[end]) < base || lexer->text[end] == '_'))
            end++;
        token.type = TOKEN_INTEGER;
    } else {
        token.type = TOKEN_FLOAT;
    }
    token.length = end - lexer->at;
    for (size_t i = lexer->at + (base == 10 ? 0 : 2); i < end && n < sizeof digits; i++)
        if (lexer->text[i] != '_')
            digits[n++] = lexer->text[i];
    bool fits = n < sizeof digits;
    if (token.type == TOKEN_FLOAT)
        fits = fits && number_read(digits, n, &token.real);
    for (size_t i = 0; fits && token.type == TOKEN_INTEGER && i < n; i++)
        fits = !__builtin_mul_overflow(token.integer, (int64_t)base, &token.integer) &&
               !__builtin_add_overflow(token.integer, (int64_t)digit_value(digits[i]), &token.integer);
    if (!fits)
        return jinja_parse_fail(lexer->parser, COHORT_ERR_UNSUPPORTED, lexer->line,
                                "the number %.*s does not fit 64 bits", (int)(token.length < 40 ? token.length : 40),
                                token.bytes);
    TRY(push(lexer, token));
    advance(lexer, end);
    return COHORT_OK;
}

/* n hexadecimal digits at text. */
static bool read_hex(const char *text, size_t left, size_t n, uint32_t *out)
{
    *out = 0;
    if (left < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const int digit = digit_value(text[i]);
        if (digit > 15)
            return false;
        *out = *out << 4 | (uint32_t)digit;
    }
    return *out <= 0x10ffff && (*out < 0xd800 || *out > 0xdfff);
}

/* One escape of Python's strings: from[0] is the character behind the backslash. Returns how much of from it takes; 0:
 * it is none that can be had. Appends to to (5 bytes at most). */
static size_t unescape(const char *from, size_t left, char *to, size_t *n)
{
    static const char letters[] = "abfnrtv", meanings[] = "\a\b\f\n\r\t\v";
    const char c = from[0];
    const char *letter = c == '\0' ? NULL : strchr(letters, c);
    uint32_t code_point = 0;
    *n = 0;
    if (c == '\n')
        return 1;
    if (letter != NULL || c == '\\' || c == '\'' || c == '"') {
        to[(*n)++] = letter != NULL ? meanings[letter - letters] : c;
        return 1;
    }
    if (c >= '0' && c <= '7') {
        size_t used = 0;
        for (; used < 3 && used < left && from[used] >= '0' && from[used] <= '7'; used++)
            code_point = code_point * 8 + (uint32_t)(from[used] - '0');
        *n = utf8_encode(code_point, to);
        return used;
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0 || c == 'N') {
        if (c == 'N' || !read_hex(from + 1, left - 1, digits, &code_point))
            return 0;
        *n = utf8_encode(code_point, to);
        return digits + 1;
    }
    to[(*n)++] = '\\'; /* what is no escape stays as it is */
    to[(*n)++] = c;
    return 1;
}

static cohort_status lex_string(struct lexer *lexer)
{
    struct jinja_parser *parser = lexer->parser;
    const char *text = lexer->text + lexer->at, quote = text[0];
    const size_t left = lexer->length - lexer->at;
    size_t end = 1, n = 0;
    while (end < left && text[end] != quote)
        end += text[end] == '\\' ? 2 : 1;
    if (end >= left)
        return jinja_parse_fail(parser, COHORT_ERR_FORMAT, lexer->line, "a string has no end: %c is missing", quote);
    char *bytes = NULL;
    TRY(jinja_arena_take(&parser->template->arena, &bytes, 2 * end + 8, parser->err));
    for (size_t i = 1; i < end;) {
        const unsigned char behind = text[i] == '\\' ? (unsigned char)text[i + 1] : 0;
        if (behind >= 0x80) { /* jinja2 has Python unescape a text in which this character is an escape itself */
            uint32_t code_point = 0;
            char spelled[16];
            i += 1 + utf8_decode(text + i + 1, &code_point);
            number_format(spelled, sizeof spelled,
                          code_point < 0x100     ? "\\x%02x"
                          : code_point < 0x10000 ? "\\u%04x"
                                                 : "\\U%08x",
                          (unsigned)code_point);
            strcpy(bytes + n, spelled);
            n += strlen(spelled);
        } else if (text[i] == '\\') {
            size_t made = 0;
            const size_t used = unescape(text + i + 1, end - i - 1, bytes + n, &made);
            if (used == 0)
                return jinja_parse_fail(parser, COHORT_ERR_FORMAT, lexer->line,
                                        "a string has \\%c, which is no character: \\xhh, \\uhhhh or \\Uhhhhhhhh is "
                                        "meant, and no surrogate",
                                        text[i + 1]);
            i += used + 1;
            n += made;
        } else {
            bytes[n++] = text[i++];
        }
    }
    TRY(push(lexer, (struct jinja_token){.type = TOKEN_STRING, .line = lexer->line, .bytes = bytes, .length = n}));
    advance(lexer, lexer->at + end + 1);
    return COHORT_OK;
}

static cohort_status lex_operator(struct lexer *lexer, char *open, size_t *n_open)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<="};
    const char c = lexer->text[lexer->at];
    size_t n = 1;
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (has(lexer, lexer->at, operators[i]))
            n = 2;
    if (n == 1 && strchr("+-/*%~[](){}><=.:|,;", c) == NULL) {
        uint32_t character = 0;
        const size_t bytes = utf8_decode(lexer->text + lexer->at, &character);
        return jinja_parse_fail(lexer->parser, COHORT_ERR_FORMAT, lexer->line, "unexpected character '%.*s'",
                                character < 0x20 ? 0 : (int)bytes, lexer->text + lexer->at);
    }
    if (c == '(' || c == '[' || c == '{') {
        if (*n_open == MAX_OPEN)
            return jinja_parse_fail(lexer->parser, COHORT_ERR_FORMAT, lexer->line,
                                    "more than %d brackets are open at once", (int)MAX_OPEN);
        open[(*n_open)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (*n_open == 0)
            return jinja_parse_fail(lexer->parser, COHORT_ERR_FORMAT, lexer->line, "unexpected '%c'", c);
        if (open[--*n_open] != c)
            return jinja_parse_fail(lexer->parser, COHORT_ERR_FORMAT, lexer->line, "unexpected '%c', expected '%c'", c,
                                    open[*n_open]);
    }
    TRY(push(lexer, (struct jinja_token){
                        .type = TOKEN_OPERATOR, .line = lexer->line, .bytes = lexer->text + lexer->at, .length = n}));
    advance(lexer, lexer->at + n);
    return COHORT_OK;
}

static cohort_status lex_tag(struct lexer *lexer, bool is_print)
{
    char open[MAX_OPEN];
    size_t n_open = 0;
    while (lexer->at < lexer->length) {
        const size_t at = lexer->at;
        size_t end = 0;
        if (n_open == 0 && is_print && (has(lexer, at, "}}") || has(lexer, at, "-}}")))
            end = lexer->text[at] == '-' ? spaces_end(lexer, at + 3) : at + 2;
        else if (n_open == 0 && !is_print)
            end = closing_end(lexer, at, "%}");
        if (end > 0) {
            TRY(push_plain(lexer, is_print ? TOKEN_PRINT_END : TOKEN_BLOCK_END));
            advance(lexer, end);
            return COHORT_OK;
        }
        end = spaces_end(lexer, at);
        if (end > at) {
            advance(lexer, end);
            continue;
        }
        uint32_t character = 0;
        utf8_decode(lexer->text + at, &character);
        if (is_digit(lexer->text[at])) {
            TRY(lex_number(lexer));
        } else if (is_name_character(character)) {
            for (end = at; end < lexer->length;) {
                const size_t n = utf8_decode(lexer->text + end, &character);
                if (!is_name_character(character))
                    break;
                end += n;
            }
            TRY(push(lexer,
                     (struct jinja_token){
                         .type = TOKEN_NAME, .line = lexer->line, .bytes = lexer->text + at, .length = end - at}));
            advance(lexer, end);
        } else if (character == '"' || character == '\'') {
            TRY(lex_string(lexer));
        } else {
            TRY(lex_operator(lexer, open, &n_open));
        }
    }
    return COHORT_OK; /* the parser says what is missing */
}

cohort_status jinja_lex(struct jinja_parser *parser)
{
    struct lexer lexer = {.parser = parser,
                          .text = parser->template->source,
                          .length = parser->template->source_length,
                          .line = 1,
                          .line_starting = true};
    while (lexer.at < lexer.length) {
        size_t at = lexer.at;
        while (at < lexer.length && !has(&lexer, at, "{{") && !has(&lexer, at, "{%") && !has(&lexer, at, "{#"))
            at++;
        char sign = '\0';
        const char kind = at < lexer.length ? lexer.text[at + 1] : '\0';
        const size_t raw = kind == '%' ? raw_begin(&lexer, at) : 0;
        const size_t inside = at < lexer.length ? sign_end(&lexer, at + 2, &sign) : at;
        if (kind == '\0')
            sign = '+'; /* the end of the text is no tag */
        TRY(push_data(&lexer, at, sign, kind == '{'));
        if (kind == '\0')
            break;
        if (raw > 0) {
            TRY(lex_raw(&lexer, raw));
            continue;
        }
        if (kind == '#') {
            TRY(lex_comment(&lexer, inside));
            continue;
        }
        TRY(push_plain(&lexer, kind == '{' ? TOKEN_PRINT_BEGIN : TOKEN_BLOCK_BEGIN));
        advance(&lexer, inside);
        TRY(lex_tag(&lexer, kind == '{'));
    }
    return push_plain(&lexer, TOKEN_END);
}
