/* What a completion may be constrained by, as the options call it, and the words of the options beside them. */
#ifndef COHORT_GUIDE_GUIDE_KIND_LIST_H
#define COHORT_GUIDE_GUIDE_KIND_LIST_H

#define GUIDE_KIND_LIST(X)                                                                                             \
    X(REGEX, "guided_regex")                                                                                           \
    X(CHOICE, "guided_choice")                                                                                         \
    X(JSON, "guided_json")                                                                                             \
    X(GRAMMAR, "guided_grammar")                                                                                       \
    X(TOOLS, "guided_tools")

/* White space between the parts of JSON: as Python's json.dumps writes it, or a little anywhere. */
#define GUIDE_WHITESPACE_LIST(X)                                                                                       \
    X(NONE, "none")                                                                                                    \
    X(FLEXIBLE, "flexible")

/* Keywords of JSON Schema that are not enforced here. */
#define GUIDE_UNSUPPORTED_LIST(X)                                                                                      \
    X(REFUSE, "refuse")                                                                                                \
    X(IGNORE, "ignore")

/* Calls of tools: not guided; where the model calls one; one at least and nothing else; never. */
#define GUIDE_TOOLS_LIST(X)                                                                                            \
    X(OFF, "off")                                                                                                      \
    X(AUTO, "auto")                                                                                                    \
    X(REQUIRED, "required")                                                                                            \
    X(NONE, "none")

/* The notation of a grammar: seen from the grammar, or given. */
#define GUIDE_NOTATION_LIST(X)                                                                                         \
    X(AUTO, "auto")                                                                                                    \
    X(GBNF, "gbnf")                                                                                                    \
    X(LARK, "lark")

/* Whose log-probs are recorded and trained: the model's, or those of the distribution over the allowed tokens. */
#define GUIDE_LOGPROB_LIST(X)                                                                                          \
    X(MODEL, "model")                                                                                                  \
    X(MASKED, "masked")

#endif
