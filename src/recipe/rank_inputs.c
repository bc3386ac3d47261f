#include "recipe/rank_inputs.h"

#include "base/hash.h"
#include "recipe/run_identity.h"

#include <string.h>

cohort_status rank_inputs_compare(struct ranks *ranks, const struct options *options, const struct backend *be,
                                  const struct run_inputs *inputs, cohort_error *err)
{
    struct hash hash;
    struct text yaml = {0}, read = {0};
    char own[HASH_HEX], *all = NULL;
    cohort_status status = COHORT_OK;
    if (ranks_count(ranks) == 1)
        return COHORT_OK;
    TRY_GOTO(options_write_yaml(options, &yaml, err));
    TRY_GOTO(run_inputs_write(inputs, &read, err));
    TRY_GOTO(mem_alloc(&all, (size_t)ranks_count(ranks), HASH_HEX, "ranks", err));
    hash_begin(&hash);
    hash_add_text(&hash, yaml.data, yaml.length);
    hash_add_text(&hash, read.data, read.length);
    hash_add_text(&hash, cohort_version(), strlen(cohort_version()));
    hash_add_text(&hash, be->provider_bf16, strlen(be->provider_bf16));
    hash_add_text(&hash, be->provider_f32, strlen(be->provider_f32));
    hash_end(&hash, own);
    TRY_GOTO(ranks_gather(ranks, own, HASH_HEX, all, err));
    for (int32_t r = 1; status == COHORT_OK && r < ranks_count(ranks); r++)
        if (memcmp(all, all + (size_t)r * HASH_HEX, HASH_HEX) != 0)
            status =
                error_set(err, COHORT_ERR_STATE,
                          "rank %d (%s) and rank 0 (%s) are not of one run: they have other options, read another "
                          "model, data or tokenizer, have another version of cohort or other instruction sets (--isa)",
                          (int)r, ranks->hosts[r], ranks->hosts[0]);
    if (status != COHORT_OK)
        ranks->agreed = true; /* all see it */
cleanup:
    text_free(&yaml);
    text_free(&read);
    mem_free(all);
    return status;
}

unsigned rank_inputs_need(const struct options *options)
{
    return ranks_count(options_ranks(options)) > 1 ? SESSION_HASHED : 0;
}

cohort_status rank_inputs_compare_session(struct ranks *ranks, const struct options *options,
                                          const struct session *session, struct run_inputs *inputs, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    if (ranks_count(ranks) > 1) {
        TRY_GOTO(run_inputs_add(inputs, INPUT_MODEL, session->dir, session->weights, err));
        TRY_GOTO(run_identity_add_tokenizer(inputs, session, err));
        TRY_GOTO(rank_inputs_compare(ranks, options, session->backend, inputs, err));
    }
cleanup:
    run_inputs_free(inputs);
    return status;
}
