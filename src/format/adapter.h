/* Adapters of a model (LoRA): what their files and a run's options say, which tensors of a base they change, and the two
 * files of PEFT (adapter_config.json, adapter_model.safetensors) or of MLX-LM (adapter_config.json,
 * adapters.safetensors). docs/LORA.md says what is read and written.
 *
 * An adapted projection is y = W x + s B A x, with A [r, K], B [N, r] and s = alpha / r (rsLoRA: alpha / sqrt(r)). With
 * DoRA it is (m / |W + s B A|) (W + s B A) x, the norm taken of each row and m [N] trained. An embedding is the projection
 * of a one-hot x by the transposed table. */
#ifndef COHORT_FORMAT_ADAPTER_H
#define COHORT_FORMAT_ADAPTER_H

#include "format/checkpoint.h"

/* A list of names, owned. Zero-initialise. */
struct adapter_names {
    char **items;
    size_t count, capacity;
};
/* Layer numbers, owned. */
struct adapter_layers {
    int64_t *items;
    size_t count, capacity;
};
/* A rank or an alpha for the modules that a pattern names. */
struct adapter_override {
    char *pattern; /* owned */
    double value;
};
struct adapter_overrides {
    struct adapter_override *items; /* owned, in the order of the file */
    size_t count, capacity;
};

/* Whose biases of the base train beside it (PEFT's bias). */
enum adapter_biases { ADAPTER_BIASES_NONE, ADAPTER_BIASES_ALL, ADAPTER_BIASES_ADAPTED };

struct adapter_settings {
    char *base; /* owned; base_model_name_or_path, NULL: not said */
    int32_t r;
    double alpha, dropout;
    bool rslora, dora;
    bool bias;                        /* B has a bias of its own (lora_bias) */
    enum adapter_biases biases;       /* trained in place of the base's */
    bool all_linear;                  /* every projection but the head, experts and routers too */
    bool no_modules;                  /* target_modules is an empty list: parameters alone */
    struct adapter_names parameters;  /* target_parameters: those of experts, by ends of paths */
    struct adapter_names targets;     /* module names or ends of paths; empty: PEFT's table for the family */
    char *target_pattern;             /* owned; a regular expression over whole paths in place of targets, or NULL */
    struct adapter_names exclude;     /* like targets */
    char *exclude_pattern;            /* owned, or NULL */
    struct adapter_layers layers;     /* layers_to_transform; empty: all */
    struct adapter_names layer_names; /* layers_pattern */
    struct adapter_overrides ranks, alphas;
    bool scores;                /* of a sequence classifier (task_type SEQ_CLS): the head is among saved */
    struct adapter_names saved; /* modules_to_save: whole tensors of the base that train beside A and B */
    int64_t last_layers;        /* only so many layers, the last ones; 0: all (MLX-LM) */
    bool mlx;                   /* read from MLX-LM's files: tensors lie transposed */
    bool merged;                /* computed with merged weights beside the base's; no file says so */
    bool ties;                  /* ensure_weight_tying: what a tied embedding gets its head gets too */
    bool loads_only;            /* what the file says can be computed, but its training is another rule */
};

/* The defaults of a run's options: TRL's ModelConfig, but without dropout. */
void adapter_settings_default(struct adapter_settings *settings);
void adapter_settings_free(struct adapter_settings *settings);
cohort_status adapter_names_add(struct adapter_names *names, const char *name, cohort_error *err);
void adapter_names_free(struct adapter_names *names);
/* Has the adapter be one of a sequence classifier, whose head trains whole beside it. */
cohort_status adapter_settings_scores(struct adapter_settings *settings, cohort_error *err);
/* Targets as an option gives them: the word all-linear, names, or one regular expression (a word with any of
 * * + ? ( ) [ ] | ^ $ or a backslash, alone). */
cohort_status adapter_settings_targets(struct adapter_settings *settings, const char *const *words, size_t n,
                                       cohort_error *err);

/* Whether the folder has an adapter_config.json. */
cohort_status adapter_is_folder(const char *dir, bool *there, cohort_error *err);
/* dir/adapter_config.json of PEFT or MLX-LM. What changes the forward and is not supported is refused by name; notes
 * (NULL: not wanted) gets a line for each key that nothing here knows. On failure out is freed. */
cohort_status adapter_settings_read(struct adapter_settings *out, const char *dir, struct text *notes,
                                    cohort_error *err);

/* What an adapted tensor is used as. */
enum adapter_where { ADAPTER_OF_PROJECTION, ADAPTER_OF_EMBEDDING, ADAPTER_OF_TIED_HEAD };

/* One adapted projection: a tensor [N, K] of the base, or those of all experts of a layer. Of an embedding, [V, C], a is
 * PEFT's lora_embedding_B transposed, [r, C], and b its lora_embedding_A transposed, [V, r]: what is added is s b a, and
 * magnitude is [C]. In a
 * tied model one tensor may be that of two sites, as embedding and as head. */
struct adapter_site {
    const struct param *base; /* in the base's table; of experts the first of those that lie next to each other */
    enum adapter_where where;
    int32_t n_experts; /* E; 0: not of experts */
    int32_t n_tensors; /* of the base */
    bool pairs;        /* experts' rows are those of gate and then of up */
    int32_t r;
    float scale;   /* s */
    int64_t layer; /* the first number in its path, -1: none */
    /* In the layout's table: A [r, K], B [N, r] (of experts [E, r, K], [E, N, r]); DoRA's magnitude [N] (in F32) and
     * B's bias [N], or NULL. */
    const struct param *a, *b, *magnitude, *b_bias;
};

/* A tensor of the base and the adapter's own in its place. */
struct adapter_saved {
    const struct param *base, *own; /* in the base's table and in the layout's */
};

/* Names of modules and of parameters in a model with experts, as PEFT turns the settings into them. */
struct adapter_targets {
    bool experts;                             /* the model has some; else nothing here is said */
    struct adapter_names modules, parameters; /* owned */
    bool doubled;                             /* gate_up_proj has twice the rank and alpha of the others */
    const char *mlx_block;                    /* MLX-LM's name of what holds a layer's experts and router */
};

/* What an adapter changes of one base. The table has PEFT's names without "base_model.model."; of the parts of a fused
 * projection that are adapted the A lie adjacent to each other, in the order of the parts, and then each B by itself. */
struct adapter_layout {
    struct param_table table;   /* owned, laid out */
    struct adapter_site *sites; /* owned, in the order of the base's table */
    int32_t n_sites;
    struct adapter_saved *saved; /* owned, in the order of the base's table; own adjacent where base is, if the one
                                    before it is saved too */
    int32_t n_saved;
    struct adapter_targets targets; /* owned */
};
/* base, a table of config (architecture_params), must stay as long as the layout. format: of A, B and B's bias; a saved
 * tensor has its base's. An error for targets that name nothing, a module that is not a projection, or overrides that contradict each other. On failure out
 * is freed. */
cohort_status adapter_layout_open(struct adapter_layout *out, const struct adapter_settings *settings,
                                  const struct param_table *base, const struct model_config *config,
                                  enum storage_format format, cohort_error *err);
void adapter_layout_free(struct adapter_layout *layout);
/* Where element i of a tensor of the layout is in PEFT's file, which has the B of experts as [N, r * E], the experts
 * innermost, and an embedding's two transposed. */
int64_t adapter_file_place(const struct param *param, int64_t i);
/* The site that changes a tensor of the base as a projection or embedding (head: as tied head), and the first of the site's rows that it has; NULL: none does. */
const struct adapter_site *adapter_site_of(const struct adapter_layout *layout, const struct param *base, bool head,
                                           int64_t *first_row);
/* PEFT's path of the module that a site of no experts changes. */
void adapter_site_path(const struct adapter_site *site, char path[sizeof site->base->name]);
/* The adapter's own tensor in place of one of the base; NULL: it has none. */
const struct param *adapter_saved_as(const struct adapter_layout *layout, const struct param *base);
/* The bias beside a weight in a model's table; NULL: there is none. */
const struct param *adapter_bias_of(const struct param_table *base, const struct param *weight);

/* Start values as PEFT draws them: A uniform in (-1 / sqrt(K), 1 / sqrt(K)), element i of a tensor a function of (seed,
 * name, i); B and its bias 0. A magnitude and a tensor in place of the base's get 0: they come from the base. A
 * checkpoint_fetch whose context is a struct checkpoint_init. */
cohort_status adapter_init_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                 cohort_error *err);

/* Gives every tensor of the layout's table to the sink, in its format. A tensor that is missing, unexpected or of
 * another shape is refused by name. files: NULL, or gets the file with its SHA-256. */
cohort_status adapter_read(const char *dir, const struct adapter_settings *settings,
                           const struct adapter_layout *layout, checkpoint_sink *sink, void *context,
                           struct weight_files *files, cohort_error *err);
/* PEFT writes the frozen tensor of the base beside an adapter of the head. An error if it is not what fetch gives of the
 * base: then the adapter belongs to another one. */
cohort_status adapter_check_base(const char *dir, const struct adapter_settings *settings,
                                 const struct adapter_layout *layout, checkpoint_fetch *fetch, void *context,
                                 cohort_error *err);
/* Writes both files of PEFT into an existing folder, A, B and magnitudes in F32. manifest, if not NULL, gets the hash of
 * the tensors' file. */
cohort_status adapter_write(const char *dir, const struct adapter_settings *settings,
                            const struct adapter_layout *layout, checkpoint_fetch *fetch, void *context,
                            struct manifest *manifest, cohort_error *err);

#endif
