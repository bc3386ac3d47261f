/* The keys and values of a prompt in a file, so that another run does not compute them: what an engine knows (rollout/prefix.h) of a
 * text, in whole pages. A safetensors file:
 *
 *     about   U8   JSON: whose they are (below)
 *     tokens  I32  [n] of the text, as many as the pages hold
 *     pages   U8   [pages, engine_page_bytes] of each layer keys and values, then what experts were chosen
 *
 * What is read is what would be computed, bit for bit, so the file is refused where that would be other: weights (by their hash,
 * an adapter's among them), type, device and kernels, version. */
#ifndef COHORT_RECIPE_PROMPT_CACHE_H
#define COHORT_RECIPE_PROMPT_CACHE_H

#include "recipe/session.h"

/* Makes what the file holds known to the engine, which is new; *n_tokens: of how many tokens. Of a session with SESSION_HASHED. */
cohort_status prompt_cache_read(const struct session *session, struct engine *engine, const char *path,
                                int32_t *n_tokens, cohort_error *err);
/* Writes what the engine knows of the text; what takes less than a page is not kept. */
cohort_status prompt_cache_write(const struct session *session, struct engine *engine, const int32_t *tokens, int32_t n,
                                 const char *path, int32_t *n_tokens, cohort_error *err);

#endif
