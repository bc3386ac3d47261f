/* Whether a compiled grammar accepts a text as a whole. cmocka's headers come before this. */
#ifndef COHORT_TESTS_ACCEPTS_H
#define COHORT_TESTS_ACCEPTS_H

#include "guide/guide_machine.h"

static inline bool accepts(const struct grammar_tables *tables, const char *text, size_t length)
{
    struct machine machine;
    cohort_error err = {0};
    assert_int_equal(machine_open(&machine, tables, &err), COHORT_OK);
    uint32_t config = machine.start;
    for (size_t i = 0; i < length && config != CONFIG_DEAD; i++)
        assert_int_equal(machine_step(&machine, config, (unsigned char)text[i], &config, &err), COHORT_OK);
    const bool yes = machine.configs[config].accepts;
    machine_close(&machine);
    return yes;
}

#endif
