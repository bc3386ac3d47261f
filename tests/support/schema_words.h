/* What mutations of JSON Schemas insert, whatever reads them. */
#ifndef COHORT_TESTS_SUPPORT_SCHEMA_WORDS_H
#define COHORT_TESTS_SUPPORT_SCHEMA_WORDS_H

#define SCHEMA_WORDS                                                                                                   \
    "\"$ref\": \"#\"", "\"not\": ", "\"items\": ", "{", "}", "[", "]", "\"type\": \"array\"", ",", ":",                \
        "\"required\": [\"a\"]", "1e400", "-1", "true", "#/$defs/n", "\\u0000"

#endif
