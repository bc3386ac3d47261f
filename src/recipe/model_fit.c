#include "recipe/model_fit.h"

#include <stdio.h>

enum {
    ROW_TOKENS = 4096, /* of a sequence, as far as the model goes */
    RANK = 16,         /* of an adapter: the default of lora_r */
    CARD_LOGITS = 1280 << 20
};

/* Memory of cards in GiB: RTX 4090 and A10, A100 and H100, H200. */
static const int cards[] = {24, 80, 141};
enum { N_CARDS = sizeof cards / sizeof *cards };

/* Of a card's memory a twentieth is left to the driver and machine code, and a GiB to what kernels work in. */
static size_t card_room(int gib) { return (size_t)gib * ((size_t)1 << 30) / 20 * 19 - ((size_t)1 << 30); }

/* Weights of an adapter on every projection of the layers. */
static int64_t adapter_weights(const struct model *model)
{
    int64_t n = 0;
    for (int32_t i = 0; i < model->base.table.n_params; i++) {
        const struct param *param = &model->base.table.params[i];
        n += param->kind == PARAM_MATRIX && param->rank == 2 ? RANK * (param->shape[0] + param->shape[1]) : 0;
    }
    return n;
}

/* Buffers of training on rows of so many tokens, activations recomputed. */
static cohort_status training_bytes(struct model *model, int64_t tokens, size_t logits, size_t *bytes,
                                    cohort_error *err)
{
    struct tree_runner runner = {.logits_bytes = logits};
    struct arena arena = {0};
    cohort_status status =
        tree_runner_plan(&runner, &arena, &model->config, model->type, tokens, 8, DECODER_RECOMPUTE, err);
    *bytes = arena.used;
    tree_runner_free(&runner);
    return status;
}

/* Bytes of each way of using the model, beside its weights. */
enum way { GENERATE, ADAPTER, WHOLE_NARROW, WHOLE, N_WAYS };
static const char *const way_names[N_WAYS] = {"generate, 8 at once", "train an adapter (LoRA, r 16)",
                                              "train all weights, moments in bf16", "train all weights"};

static cohort_status way_bytes(struct model *model, size_t logits, size_t bytes[N_WAYS], cohort_error *err)
{
    const int64_t tokens = model->max_context < ROW_TOKENS ? model->max_context : ROW_TOKENS;
    const size_t kv =
        2 * (size_t)model->config.n_layers * kv_layer_bytes(&model->config, model->type, false, 8 * tokens);
    /* Values, gradient, two moments and the low half of the master. */
    const size_t adapter = (size_t)adapter_weights(model) * (2 + 4 + 8 + 2);
    size_t training = 0;
    TRY(training_bytes(model, tokens, logits, &training, err));
    const size_t buffers = kv > training ? kv : training; /* rollout and training share their memory */
    bytes[GENERATE] = kv + 8 * (size_t)model->config.vocab_size * sizeof(float);
    bytes[ADAPTER] = adapter + buffers;
    bytes[WHOLE_NARROW] = param_set_train_bytes(model->trained, DTYPE_BF16) + buffers;
    bytes[WHOLE] = param_set_train_bytes(model->trained, DTYPE_F32) + buffers;
    return COHORT_OK;
}

static cohort_status print_cell(size_t need, size_t room, struct text *out, cohort_error *err)
{
    return text_printf(out, err, " %9s", need <= room ? "yes" : "no");
}

cohort_status model_fit_print(struct model *model, struct text *out, cohort_error *err)
{
    struct backend *be = model->backend;
    const size_t weights = model->base.table.bytes + rotation_bytes(model->max_context, model->config.head_dim),
                 here_weights = model_weight_bytes(model), here_room = be->ops->available(be) / 20 * 19;
    size_t card[N_WAYS] = {0}, here[N_WAYS] = {0};
    TRY(way_bytes(model, CARD_LOGITS, card, err));
    TRY(way_bytes(model, be->sizes->logits_bytes, here, err));
    TRY(text_printf(out, err, "\nwhat fits, about: %s, rows of up to %d tokens\n%-36s %9s", dtype_name(model->type),
                    (int)(model->max_context < ROW_TOKENS ? model->max_context : ROW_TOKENS), "", "GB"));
    for (int i = 0; i < N_CARDS; i++)
        TRY(text_printf(out, err, " %6d GB", cards[i]));
    TRY(text_printf(out, err, "  this %s, %.1f GB free\n", be->host_memory ? "CPU" : "GPU",
                    (double)be->ops->available(be) / 1e9));
    for (int way = 0; way < N_WAYS; way++) {
        if (model->config.n_labels > 0 && way == GENERATE)
            continue;
        TRY(text_printf(out, err, "  %-34s %9.1f", way_names[way], (double)(weights + card[way]) / 1e9));
        for (int i = 0; i < N_CARDS; i++)
            TRY(print_cell(weights + card[way], card_room(cards[i]), out, err));
        TRY(text_printf(out, err, "  %s (%.1f GB)\n", here_weights + here[way] <= here_room ? "yes" : "no",
                        (double)(here_weights + here[way]) / 1e9));
    }
    return COHORT_OK;
}
