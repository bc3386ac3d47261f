/* The forms of what commands print (option "format"). */
#ifndef COHORT_RUN_OUTPUT_FORMAT_H
#define COHORT_RUN_OUTPUT_FORMAT_H

/* X(ID, word): OUTPUT_ID */
#define OUTPUT_FORMAT_LIST(X)                                                                                          \
    X(TEXT, "text")                                                                                                    \
    X(JSONL, "jsonl")

/* Those of generate: the same, and one document. */
#define ANSWER_FORMAT_LIST(X)                                                                                          \
    OUTPUT_FORMAT_LIST(X)                                                                                              \
    X(JSON, "json")

#define OUTPUT_FORMAT(id, word) OUTPUT_##id,
enum output_format { ANSWER_FORMAT_LIST(OUTPUT_FORMAT) };
#undef OUTPUT_FORMAT

#endif
