/* Votes are by the answers that answer_find reads and answer_equal compares, as the accuracy reward does: each of the
 * readings of a completion with the same reading of the first that stated an answer. Two completions that are wrong may
 * so be one vote or two where their answers are spelled out of this program's sight; which of them are right is the
 * reward's word. */
#include "reward/vote.h"

#include "reward/reward_internal.h"

#include <string.h>

bool reward_judges_answers(const struct reward *reward)
{
    return reward->kind == &reward_kind_accuracy || reward->kind == &reward_kind_reasoning;
}

enum { READINGS = 3 };

/* The answer as it stands, cut at an explanation, and behind its last "="; what a completion has not is the one before. */
struct stated {
    struct span reading[READINGS];
};

static struct stated stated_by(const struct reward_row *row)
{
    const struct found_answer found = answer_find((struct span){row->completion, row->completion_length});
    const struct span cut = found.n_cut > 0 ? found.cut[found.n_cut - 1] : found.whole;
    return (struct stated){{found.whole, cut, found.equation.length > 0 ? found.equation : cut}};
}

static bool same_bytes(struct span a, struct span b)
{
    return a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
}

static cohort_status same_answer(const struct stated *a, const struct stated *b, bool *same, cohort_error *err)
{
    *same = same_bytes(a->reading[0], b->reading[0]);
    for (int i = 0; !*same && i < READINGS; i++)
        if (a->reading[i].length > 0 && b->reading[i].length > 0)
            TRY(answer_equal(a->reading[i], b->reading[i], same, err));
    return COHORT_OK;
}

cohort_status reward_vote(const struct reward_row *rows, const bool *passed, size_t n, const struct stop *stop,
                          int32_t *answers, cohort_error *err)
{
    struct stated *first = NULL; /* of each answer from 1 on, the first completion's */
    int32_t known = 0;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&first, n, sizeof *first, "votes", err));
    for (size_t i = 0; i < n; i++) {
        const struct stated stated = stated_by(&rows[i]);
        bool same = false;
        TRY_GOTO(stop_check(stop, err));
        answers[i] = passed[i] ? 0 : -1;
        if (passed[i] || stated.reading[0].length == 0)
            continue;
        int32_t a = 0;
        while (!same && a < known)
            TRY_GOTO(same_answer(&first[a++], &stated, &same, err));
        if (!same)
            first[known++] = stated;
        answers[i] = same ? a : known;
    }
cleanup:
    mem_free(first);
    return status;
}
