#include "recipe/row_masks.h"

#include <string.h>

static void begin(void *context, int32_t n_tokens)
{
    const struct row_masks *masks = context;
    guide_rewind(masks->state, n_tokens);
}

static const uint32_t *allowed(void *context) { return guide_mask(((const struct row_masks *)context)->state); }

static void accept(void *context, int32_t token)
{
    (void)guide_accept(((const struct row_masks *)context)->state, token);
}

cohort_status row_masks_open(struct row_masks **out, const struct row_guides *guides, struct guide *guide,
                             const struct text *text, int32_t max_tokens, int32_t n_ids, cohort_error *err)
{
    struct row_masks *masks = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(mem_alloc(&masks, 1, sizeof *masks, "guide", err));
    TRY_GOTO(guide_start(&masks->state, guide, max_tokens, guides->close, err));
    TRY_GOTO(text_append(&masks->text, text->data, text->length, err));
    masks->replay = (struct mask_replay){
        .context = masks,
        .n_ids = n_ids,
        .text = masks->text.data,
        .text_length = masks->text.length,
        .begin = begin,
        .allowed = allowed,
        .accept = accept,
    };
    *out = masks;
    masks = NULL;
cleanup:
    row_masks_free(masks);
    return status;
}

void row_masks_free(struct row_masks *masks)
{
    if (masks == NULL)
        return;
    guide_stop(masks->state);
    text_free(&masks->text);
    mem_free(masks);
}
