/* What the interpreter's files share. Nothing outside src/text/jinja*.c includes this.
 *
 * A template is parsed once into nodes (jinja_lex.c, jinja_parse.c, jinja_expression.c), which are never changed
 * afterwards. A rendering (struct jinja_run) walks them: jinja_render.c the statements, jinja_eval.c the expressions.
 * All that it makes lies in one arena, which ends with it, so that values are copied and shared without counting. Every
 * value but a namespace is immutable, as it is in transformers' sandbox. */
#ifndef COHORT_TEXT_JINJA_INTERNAL_H
#define COHORT_TEXT_JINJA_INTERNAL_H

#include "base/utf8.h"
#include "text/jinja.h"

/* ---- memory that is freed all at once ---- */

struct jinja_chunk {
    struct jinja_chunk *before;
    size_t used, capacity;
    /* capacity bytes follow */
};
struct jinja_arena {
    struct jinja_chunk *last;
    size_t first_bytes; /* of the first chunk; later ones double */
};
/* *out = size zeroed bytes, aligned for anything. */
cohort_status jinja_arena_take(struct jinja_arena *arena, void *out, size_t size, cohort_error *err);
void jinja_arena_free(struct jinja_arena *arena);

/* ---- values ---- */

/* What is known of a byte: its origin (enum jinja_origin), and whether it was written in a generation block. */
enum { TAG_ORIGIN = 3, TAG_GENERATED = 4 };

struct jinja_segment {
    size_t end; /* it begins where the one before ends */
    uint8_t tag;
};

struct jinja_string {
    const char *bytes; /* UTF-8, not terminated */
    size_t length;
    size_t characters;                    /* code points; UNCOUNTED: jinja_characters counts them */
    const struct jinja_segment *segments; /* n_segments of them, or NULL: all bytes are tag */
    size_t n_segments;
    uint8_t tag;
    bool safe; /* markupsafe's Markup: what is added to it is escaped */
};
#define UNCOUNTED SIZE_MAX

enum jinja_kind {
    KIND_ABSENT, /* no value: an argument that was not given, a name that was not set */
    KIND_UNDEFINED,
    KIND_NONE,
    KIND_BOOL,
    KIND_INT,
    KIND_FLOAT,
    KIND_STRING,
    KIND_LIST,
    KIND_DICT,
    KIND_NAMESPACE,
    KIND_MACRO,
    KIND_FUNCTION,
    KIND_LOOP
};
/* Sets of kinds, for methods. */
#define KIND_BIT(kind) (1u << (kind))

struct jinja_value {
    enum jinja_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct jinja_string *string;
        struct jinja_list *list;
        struct jinja_dict *dict;
        struct jinja_namespace *space;
        const struct jinja_macro *macro;
        const struct jinja_bound *function;
        struct jinja_loop *loop;
        const struct jinja_missing *missing;
    } u;
};

/* Why a value is undefined: what its use says. */
enum jinja_lack { LACK_VARIABLE, LACK_ATTRIBUTE, LACK_ELEMENT, LACK_PARAMETER, LACK_UNSAFE, LACK_HINT };
struct jinja_missing {
    enum jinja_lack lack;
    const char *name;  /* NUL-terminated; of LACK_HINT: all that is to be said */
    const char *owner; /* the type whose attribute or element it would be */
    int64_t index;     /* of LACK_ELEMENT */
};

/* Python's types of sequences, which print and compare differently. An iterator (a generator in Python) has no length,
 * is true, and what was taken from it is gone. Items, keys and values are what the methods of a dict give: they have a
 * length, but no index. */
enum jinja_shape { SHAPE_LIST, SHAPE_TUPLE, SHAPE_RANGE, SHAPE_ITEMS, SHAPE_KEYS, SHAPE_VALUES, SHAPE_ITERATOR };
struct jinja_list {
    enum jinja_shape shape;
    uint8_t tag; /* of brackets and numbers when it is printed */
    size_t count, taken;
    struct jinja_value *items; /* NULL while json has them: jinja_items makes them */
    const json_t *json;
    const enum jinja_origin *elements;
};

struct jinja_entry {
    struct jinja_value key, value;
};
struct jinja_dict {
    uint8_t tag;
    const json_t *json; /* its content, or NULL: entries */
    struct jinja_entry *entries;
    size_t count, capacity;
};

struct jinja_namespace {
    struct jinja_dict attributes;
};

/* ---- functions, methods, filters and tests that are built in ---- */

struct jinja_keyword {
    const struct jinja_string *name;
    struct jinja_value value;
};
struct jinja_args {
    const struct jinja_value *values;
    size_t count;
    const struct jinja_keyword *named;
    size_t n_named;
};

enum { MAX_PARAMETERS = 6 };
struct jinja_call {
    struct jinja_run *run;
    struct jinja_value self;                /* what a method, filter or test is applied to */
    struct jinja_value arg[MAX_PARAMETERS]; /* in the order of the parameters; what was not given is KIND_ABSENT */
    const struct jinja_args *args;          /* as they were given */
};
struct jinja_builtin {
    const char *name;
    const char *parameters; /* their names with blanks between; NULL: it takes any, from args */
    unsigned required;      /* how many must be given */
    unsigned kinds;         /* of methods: KIND_BITs of self */
    cohort_status (*run)(struct jinja_call *call, struct jinja_value *out); /* NULL: refused by name */
};
extern const struct jinja_builtin jinja_methods[], jinja_functions[], jinja_text_filters[], jinja_list_filters[],
    jinja_test_table[]; /* each ends with a NULL name */
const struct jinja_builtin *jinja_find_filter(const char *name);
const struct jinja_builtin *jinja_find_test(const char *name);
/* The first method of that name, or NULL; further ones of the same name (of other kinds) follow it. */
const struct jinja_builtin *jinja_find_method(const char *name);

struct jinja_bound { /* a function, or a method of self */
    const struct jinja_builtin *builtin;
    struct jinja_value self;
};

/* Calls builtin with what args give for its parameters. */
cohort_status jinja_builtin_call(struct jinja_run *run, const struct jinja_builtin *builtin,
                                 const struct jinja_value *self, const struct jinja_args *args,
                                 struct jinja_value *out);

/* ---- nodes ---- */

enum jinja_node_type {
    /* expressions */
    NODE_CONSTANT,
    NODE_NAME,
    NODE_ATTRIBUTE, /* left.name */
    NODE_ITEM,      /* left[right] */
    NODE_SLICE,     /* left[items[0]:items[1]:items[2]], each may be NULL */
    NODE_CALL,      /* left(arguments) */
    NODE_FILTER,    /* left | builtin(arguments); left NULL: of a block's text */
    NODE_TEST,      /* left is builtin(arguments) */
    NODE_CHAIN,     /* left, then operators[i] items[i], from left to right */
    NODE_COMPARE,   /* the same for comparisons: a < b < c */
    NODE_CONCAT,    /* left ~ items ~ ... */
    NODE_AND,
    NODE_OR,
    NODE_NOT,
    NODE_NEGATE,
    NODE_PLUS,
    NODE_CONDITION, /* left if right else third */
    NODE_LIST,
    NODE_TUPLE,
    NODE_DICT, /* items: key, value, key, value, ... */
    /* statements */
    NODE_TEXT,         /* constant */
    NODE_PRINT,        /* left */
    NODE_IF,           /* items: condition, body, condition, body, ..., and the body of else (odd count) */
    NODE_FOR,          /* target, left: over what, right: filter, body, third: else */
    NODE_SET,          /* target = left */
    NODE_SET_BLOCK,    /* target, left: filters or NULL, body */
    NODE_MACRO,        /* name, macro */
    NODE_CALL_BLOCK,   /* left: the call, macro: the caller */
    NODE_FILTER_BLOCK, /* left: filters, body */
    NODE_WITH,         /* items: target, value, ...; body */
    NODE_GENERATION,   /* body */
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_BODY, /* items: statements */
    /* what is assigned to: NODE_NAME, NODE_TUPLE of targets, or */
    NODE_ATTRIBUTE_TARGET /* a namespace's: left.name */
};

enum jinja_operator {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
};

struct jinja_node {
    enum jinja_node_type type;
    int32_t line;
    int32_t name;    /* interned; -1: none */
    uint32_t height; /* of the tree below it */
    const struct jinja_node *left, *right, *third, *target, *body;
    const struct jinja_node **items;
    size_t n_items;
    const uint8_t *operators;            /* enum jinja_operator, of n_items */
    const struct jinja_builtin *builtin; /* a filter or test; of an attribute: the methods of that name, or NULL */
    const struct jinja_arguments *arguments;
    const struct jinja_signature *macro;
    struct jinja_value constant;
};

struct jinja_arguments {
    const struct jinja_node **values; /* count positional ones, then n_named */
    size_t count, n_named;
    const int32_t *names;                        /* of the named ones */
    const struct jinja_node *star, *double_star; /* *list and **dict, or NULL */
};

struct jinja_signature { /* of a macro or a call block's caller */
    int32_t name;        /* -1: a caller */
    const int32_t *parameters;
    const struct jinja_node **defaults; /* of each parameter, or NULL */
    size_t n_parameters;
    const struct jinja_node *body;
    struct jinja_signature *outer; /* of the macro that this one stands in */
    bool uses_caller, uses_varargs, uses_kwargs;
};

struct jinja_template {
    struct jinja_arena arena;
    char *name;
    char *source; /* with line ends as "\n" */
    size_t source_length;
    const struct jinja_node *body;
    struct jinja_string **names; /* interned; their bytes are NUL-terminated */
    size_t n_names, names_capacity;
    int32_t *slots; /* hash of a name -> its number + 1; 0: free */
    size_t slot_mask;
    const struct jinja_string **literals;
    size_t n_literals, literals_capacity;
    int32_t loop, caller, varargs, kwargs; /* names that mean something */
    bool marks_generation;
};
/* The number of a name; -1 if the template does not have it. */
int32_t jinja_name_find(const struct jinja_template *template, const char *name, size_t length);

/* ---- parsing ---- */

enum jinja_token_type {
    TOKEN_END,
    TOKEN_DATA,
    TOKEN_PRINT_BEGIN,
    TOKEN_PRINT_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_OPERATOR
};
struct jinja_token {
    enum jinja_token_type type;
    int32_t line;
    const char *bytes; /* within the source; of a string: what it says */
    size_t length;
    double real;
    int64_t integer;
};

enum { PARSE_DEPTH = 100 }; /* nesting of a template's text: the parser calls itself that deep */
struct jinja_parser {
    struct jinja_template *template;
    struct jinja_token *tokens;
    size_t n_tokens, tokens_capacity, at;
    int depth;
    int loops;                         /* around this place, within one function */
    struct jinja_signature *signature; /* of the macro around this place, or NULL */
    cohort_error *err;
};
/* Fills tokens; the last is TOKEN_END. */
cohort_status jinja_lex(struct jinja_parser *parser);
/* Fails with template and line. */
cohort_status jinja_parse_fail(struct jinja_parser *parser, cohort_status status, int32_t line, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* One expression; with_tuple: "a, b" is a tuple; with_condition: "a if b else c" may stand here. */
cohort_status jinja_parse_expression(struct jinja_parser *parser, bool with_tuple, bool with_condition,
                                     struct jinja_node **out);
/* A name, a tuple of names, or with_attribute a namespace's attribute. */
cohort_status jinja_parse_target(struct jinja_parser *parser, bool with_attribute, bool with_tuple,
                                 struct jinja_node **out);
/* "| name(...)" as often as it stands there, or the name at once if inline_first; *out = node with them applied. */
cohort_status jinja_parse_filters(struct jinja_parser *parser, struct jinja_node *node, bool inline_first,
                                  struct jinja_node **out);
cohort_status jinja_node_new(struct jinja_parser *parser, enum jinja_node_type type, int32_t line,
                             struct jinja_node **out);
/* A growing list while parsing; jinja_node_keep copies it to the template. */
struct jinja_node_list {
    const struct jinja_node **items;
    size_t count, capacity;
};
cohort_status jinja_node_push(struct jinja_parser *parser, struct jinja_node_list *list, const struct jinja_node *node);
/* node->items = what list holds; list is freed. */
cohort_status jinja_node_keep(struct jinja_parser *parser, struct jinja_node_list *list, struct jinja_node *node);
/* Raises node's height to above child's; refuses what is too high to be walked. */
cohort_status jinja_node_above(struct jinja_parser *parser, struct jinja_node *node, const struct jinja_node *child);
/* A constant string of the template, whose bytes live as long as it. */
cohort_status jinja_literal(struct jinja_parser *parser, const char *bytes, size_t length, struct jinja_value *out);
cohort_status jinja_intern(struct jinja_parser *parser, const char *bytes, size_t length, int32_t *name);
const struct jinja_token *jinja_token(const struct jinja_parser *parser);
bool jinja_is_operator(const struct jinja_token *token, const char *op);
bool jinja_is_name(const struct jinja_token *token, const char *name);
/* Steps over the operator or name if it stands here. */
bool jinja_skip_operator(struct jinja_parser *parser, const char *op);
bool jinja_skip_name(struct jinja_parser *parser, const char *name);
/* "expected X, found Y". */
cohort_status jinja_expected(struct jinja_parser *parser, const char *what);

/* ---- rendering ---- */

struct jinja_binding {
    int32_t name;
    struct jinja_value value;
};
/* Names of a loop's body, a macro's, a block's. Those of the template itself are run.globals. */
struct jinja_scope {
    struct jinja_scope *outer;
    struct jinja_binding *bindings;
    size_t count, capacity;
};

/* Where output goes: the rendering's, or that of a macro or block whose text becomes a value. */
struct jinja_writer {
    struct jinja_writer *outer;
    struct text text;
    struct jinja_segment *segments;
    size_t n_segments, capacity;
    uint8_t generated; /* TAG_GENERATED in a generation block */
};

struct jinja_macro {
    const struct jinja_signature *signature;
    struct jinja_scope *scope; /* where it was made */
};

struct jinja_run {
    const struct jinja_template *template;
    struct jinja_arena arena;
    struct jinja_arena bytes;    /* of strings: apart, so that what is appended to the last string extends it */
    struct jinja_value *globals; /* [template->n_names] */
    struct jinja_scope *scope;   /* NULL: the template's own */
    struct jinja_writer *writer;
    struct jinja_writer *spare_writers;
    struct jinja_segment *scratch; /* of the string that is being built */
    size_t n_scratch, scratch_capacity;
    int64_t steps, bytes_left;
    int64_t now;
    int32_t depth, line;
    enum jinja_flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow; /* how the last statement ended */
    cohort_error *err;
};
/* Takes from the run's arena, counts against its bound. */
/* Counts bytes that are made against the bound. */
cohort_status jinja_spend(struct jinja_run *run, size_t bytes);
cohort_status jinja_take(struct jinja_run *run, void *out, size_t count, size_t size);
/* Makes room for one element more than count in *array, which was taken from the run (NULL: none yet). */
cohort_status jinja_grow(struct jinja_run *run, void *array, size_t *capacity, size_t count, size_t size);
/* Counts n steps. */
cohort_status jinja_step(struct jinja_run *run, size_t n);
/* Goes one level deeper; undone by run->depth++. */
cohort_status jinja_enter(struct jinja_run *run);
/* Fails with template and line. */
cohort_status jinja_fail(struct jinja_run *run, const char *format, ...) PRINTF_LIKE(2, 3);

cohort_status jinja_eval(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *out);
cohort_status jinja_call(struct jinja_run *run, const struct jinja_value *function, const struct jinja_args *args,
                         struct jinja_value *out);
cohort_status jinja_macro_call(struct jinja_run *run, const struct jinja_macro *macro, const struct jinja_args *args,
                               struct jinja_value *out);
/* Refuses names with an underscore at their front. */
cohort_status jinja_namespace_set(struct jinja_run *run, struct jinja_namespace *space, const struct jinja_string *name,
                                  const struct jinja_value *value);
/* What name means here. */
cohort_status jinja_lookup(struct jinja_run *run, int32_t name, struct jinja_value *out);
cohort_status jinja_eval_args(struct jinja_run *run, const struct jinja_arguments *arguments,
                              const struct jinja_value *caller, struct jinja_args *out);
/* Filters of a block: node is NODE_FILTERs over NULL. */
cohort_status jinja_eval_filters(struct jinja_run *run, const struct jinja_node *node, struct jinja_value *value);
/* value.name as Jinja looks for it: a method, else an item. key is name as a string. */
cohort_status jinja_attribute(struct jinja_run *run, const struct jinja_value *value, const struct jinja_string *key,
                              const struct jinja_builtin *methods, struct jinja_value *out);
/* value[key] as Jinja looks for it: an item, else (where key is a string) an attribute. */
cohort_status jinja_item(struct jinja_run *run, const struct jinja_value *value, const struct jinja_value *key,
                         struct jinja_value *out);
cohort_status jinja_slice(struct jinja_run *run, const struct jinja_value *value, const struct jinja_value bounds[3],
                          struct jinja_value *out);
cohort_status jinja_operate(struct jinja_run *run, enum jinja_operator op, const struct jinja_value *left,
                            const struct jinja_value *right, struct jinja_value *out);
cohort_status jinja_compare(struct jinja_run *run, enum jinja_operator op, const struct jinja_value *left,
                            const struct jinja_value *right, bool *out);
cohort_status jinja_equal(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b, bool *out);

/* A loop that is running: the variable "loop". */
struct jinja_loop {
    const struct jinja_node *node;
    struct jinja_scope *scope; /* where the loop stands */
    struct jinja_list *items;
    size_t next; /* of items */
    size_t index0;
    struct jinja_value before, current, after; /* KIND_ABSENT: none */
    bool peeked;                               /* after is what comes next */
    bool filtered;                             /* items holds only what the filter lets through */
    size_t length;                             /* 0: not known yet */
    struct jinja_value changed;                /* what loop.changed was called with */
};
/* *out = the next item that the loop's filter lets through, KIND_ABSENT at the end. */
cohort_status jinja_loop_next(struct jinja_run *run, struct jinja_loop *loop, struct jinja_value *out);
cohort_status jinja_loop_attribute(struct jinja_run *run, struct jinja_loop *loop, const struct jinja_string *name,
                                   struct jinja_value *out);

/* Python's str.islower and isupper, of self's text. */
cohort_status jinja_is_lower(struct jinja_call *call, struct jinja_value *out);
cohort_status jinja_is_upper(struct jinja_call *call, struct jinja_value *out);

/* ---- values: jinja_value.c ---- */

bool jinja_truth(const struct jinja_value *value);
const char *jinja_type_name(const struct jinja_value *value); /* as Python names it: "str", "dict" */
struct jinja_value jinja_bool(bool boolean);
struct jinja_value jinja_int(int64_t integer);
struct jinja_value jinja_string_value(const struct jinja_string *string);
cohort_status jinja_from_json(struct jinja_run *run, const json_t *json, uint8_t tag, struct jinja_value *out);
cohort_status jinja_from_variable(struct jinja_run *run, const struct jinja_variable *variable,
                                  struct jinja_value *out);
cohort_status jinja_undefined(struct jinja_run *run, enum jinja_lack lack, const char *name, const char *owner,
                              int64_t index, struct jinja_value *out);
/* Fails as any use of an undefined value does. */
cohort_status jinja_fail_undefined(struct jinja_run *run, const struct jinja_value *value);
cohort_status jinja_list_new(struct jinja_run *run, enum jinja_shape shape, size_t count, struct jinja_value *out);
/* list->items is made if json has them. */
cohort_status jinja_items(struct jinja_run *run, struct jinja_list *list);
/* What a for loop goes over, as a list: keys, characters, items. An iterator gives what is left of it. */
cohort_status jinja_iterate(struct jinja_run *run, const struct jinja_value *value, struct jinja_list **out);
cohort_status jinja_dict_new(struct jinja_run *run, struct jinja_value *out);
size_t jinja_dict_count(const struct jinja_dict *dict);
/* *found false: there is no such key. */
cohort_status jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict, const struct jinja_value *key,
                             bool *found, struct jinja_value *out);
cohort_status jinja_dict_set(struct jinja_run *run, struct jinja_dict *dict, const struct jinja_value *key,
                             const struct jinja_value *value);
/* All of them, as new entries in order. */
cohort_status jinja_dict_entries(struct jinja_run *run, const struct jinja_dict *dict, struct jinja_entry **out);
/* Lists of keys, values or pairs. */
enum jinja_part { PART_KEYS, PART_VALUES, PART_ITEMS };
cohort_status jinja_dict_list(struct jinja_run *run, const struct jinja_dict *dict, enum jinja_part part,
                              enum jinja_shape shape, struct jinja_value *out);
/* By their keys, as sorted(dict.items()) would where keys are unique. */
cohort_status jinja_sort_entries(struct jinja_run *run, struct jinja_entry *entries, size_t n);
/* The integer that an argument must be; a bool is one, as in Python. */
cohort_status jinja_as_int(struct jinja_run *run, const struct jinja_value *value, const char *what, int64_t *out);

/* ---- strings: jinja_string.c ---- */

/* A string is built at the end of run->bytes; nothing else is made there meanwhile. */
struct jinja_builder {
    struct jinja_run *run;
    char *bytes;
    size_t length, room;
};
void jinja_build(struct jinja_builder *builder, struct jinja_run *run);
cohort_status jinja_build_bytes(struct jinja_builder *builder, const char *bytes, size_t length, uint8_t tag);
cohort_status jinja_build_string(struct jinja_builder *builder, const struct jinja_string *string);
/* The part [from, to) of string's bytes. */
cohort_status jinja_build_part(struct jinja_builder *builder, const struct jinja_string *string, size_t from,
                               size_t to);
/* A character that stands for the one at byte at of string. */
cohort_status jinja_build_character(struct jinja_builder *builder, uint32_t code_point, uint8_t tag);
cohort_status jinja_build_end(struct jinja_builder *builder, struct jinja_value *out);

uint8_t jinja_tag_at(const struct jinja_string *string, size_t at);
size_t jinja_characters(const struct jinja_string *string);
/* The byte at which the character with that index begins, or length. */
size_t jinja_character_at(const struct jinja_string *string, size_t index);
/* A literal of ours; not copied. */
cohort_status jinja_string_literal(struct jinja_run *run, const char *bytes, size_t length, uint8_t tag,
                                   struct jinja_value *out);
/* [from, to) of its bytes, which are not copied. */
cohort_status jinja_string_part(struct jinja_run *run, const struct jinja_string *string, size_t from, size_t to,
                                struct jinja_value *out);
cohort_status jinja_string_concat(struct jinja_run *run, const struct jinja_string *a, const struct jinja_string *b,
                                  struct jinja_value *out);
/* Makes value, a string, one that counts as escaped. */
cohort_status jinja_string_safe(struct jinja_run *run, struct jinja_value *value);
/* HTML's special characters as references. */
cohort_status jinja_string_escape(struct jinja_run *run, const struct jinja_string *string, struct jinja_value *out);
bool jinja_string_equal(const struct jinja_string *a, const struct jinja_string *b);
int jinja_string_order(const struct jinja_string *a, const struct jinja_string *b);
/* The first place of b in a from byte at on, or SIZE_MAX. */
size_t jinja_string_find(const struct jinja_string *a, const struct jinja_string *b, size_t at);
/* Python's str.strip: characters NULL: white space. */
cohort_status jinja_string_strip(struct jinja_run *run, const struct jinja_string *string,
                                 const struct jinja_string *characters, bool left, bool right, struct jinja_value *out);
/* Python's str.isspace for one character. */
bool jinja_is_space(uint32_t code_point);
/* Characters whose upper or title case is several: puts them into to, returns how many; 0: it has a simple one. */
size_t jinja_special_upper(uint32_t code_point, bool title, uint32_t to[3]);
/* CASE_TITLE is str.title, CASE_WORDS the filter title, whose words begin behind white space and ({[<- */
enum jinja_case { CASE_LOWER, CASE_UPPER, CASE_CAPITALIZE, CASE_TITLE, CASE_WORDS, CASE_SWAP };
cohort_status jinja_string_case(struct jinja_run *run, const struct jinja_string *string, enum jinja_case how,
                                struct jinja_value *out);
cohort_status jinja_string_replace(struct jinja_run *run, const struct jinja_string *string,
                                   const struct jinja_string *from, const struct jinja_string *to, int64_t limit,
                                   struct jinja_value *out);
/* As wide as width characters, by fill (one character), as str.center, ljust and rjust do it. */
enum jinja_pad { PAD_LEFT, PAD_RIGHT, PAD_BOTH };
cohort_status jinja_string_pad(struct jinja_run *run, const struct jinja_string *string, int64_t width,
                               const char *fill, enum jinja_pad where, struct jinja_value *out);
/* Lines as str.splitlines has them. */
cohort_status jinja_string_lines(struct jinja_run *run, const struct jinja_string *string, bool keep_ends,
                                 struct jinja_value *out);

/* ---- printed forms: jinja_print.c ---- */

/* Python's str(value). */
cohort_status jinja_to_string(struct jinja_run *run, const struct jinja_value *value, const struct jinja_string **out);
struct jinja_json_form {
    bool ascii, sort;
    const struct jinja_string *indent; /* of one level; NULL: all in one line */
    const struct jinja_string *item_separator, *key_separator;
};
cohort_status jinja_to_json(struct jinja_run *run, const struct jinja_value *value, const struct jinja_json_form *form,
                            struct jinja_value *out);
/* printf-style formatting: string % values. */
cohort_status jinja_format(struct jinja_run *run, const struct jinja_string *format, const struct jinja_value *values,
                           struct jinja_value *out);

#ifdef __clang_analyzer__ /* as error_set: what sees one file at a time is told that these fail */
#define jinja_fail(run, ...)                  ((void)(jinja_fail)(run, __VA_ARGS__), COHORT_ERR_FORMAT)
#define jinja_fail_undefined(run, value)      ((void)(jinja_fail_undefined)(run, value), COHORT_ERR_FORMAT)
#define jinja_parse_fail(parser, status, ...) ((void)(jinja_parse_fail)(parser, status, __VA_ARGS__), (status))
#define jinja_expected(parser, what)          ((void)(jinja_expected)(parser, what), COHORT_ERR_FORMAT)
#endif

#endif
