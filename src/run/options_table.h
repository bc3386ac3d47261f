/* The option table: one row says everything about an option. Names and defaults are TRL's for training and MLX-LM's for
 * generation; where a default is our own the line says so. Order is the order of --help, the docs and config.yaml.
 *
 *   OPTION(ID, name, type, default, commands, group, resume, help)
 *   ALSO(the same)      another row of a name that has one: the option differs for these commands
 *   ALIAS(name, ID)     another name of an option, which --help shows
 *   SYNONYM(name, ID, unset)  TRL's name of an option, taken with a note (options_synonyms.c); unset: the value that TRL
 *                       has where it is not given, which leaves the option as it is, or NULL
 *
 *   ID        OPTION_ID, by which commands read it: the name in capitals
 *   type      SWITCH, INT(least, most), FLOAT(least, most), SINGLE(least, most) (used in single precision), TEXT,
 *             FOLDER, FOLDER_OR(what the flag means without a value), FILE_NAME, ONE_OF(words), SOME_OF(words), TEXTS,
 *             NUMBERS(least, most), BIASES (ID:NUMBER), PAIRS (NAME=VALUE), COUNT_OR_SHARE (a number of steps, or below
 *             1 a share of them).
 *             words: WORDS(a list), AUTO_OR(a list)
 *   default   as text; NULL: unset until given
 *   commands  those that have it
 *   group     heading in --help
 *   resume    what a run that is resumed may change: KEPT nothing; FREE; ACCEPTED(KIND) with --accept-changed KIND;
 *             HASHED(KIND) the name, for what it names is compared by its hash; PLACE freely, and config.yaml does not
 *             have it, because it says where a run is and not what it computes; NO_RUN: no command that trains has it
 *   help      one line, with units
 *
 * This is not a header: the file that includes it defines OPTION, ALSO, ALIAS and SYNONYM first (options.h makes the
 * constants, options_table.c the table). */
/* clang-format off */
/* ---- Model ---- */
OPTION(MODEL, "model", FOLDER, NULL, FOR_MODEL, "Model", HASHED(MODEL),
       "checkpoint folder in Hugging Face layout (config.json, *.safetensors, tokenizer.json)")
OPTION(TEACHER_MODEL_NAME_OR_PATH, "teacher_model_name_or_path", FOLDER, NULL, FOR_DISTILL, "Model", HASHED(TEACHER),
       "folder of the model whose distributions are learned; its vocabulary is that of model")
ALIAS("teacher_model", TEACHER_MODEL_NAME_OR_PATH)
OPTION(REF_MODEL, "ref_model", FOLDER, NULL, FOR_DPO | FOR_KTO, "Model", HASHED(REFERENCE),
       "folder of the reference, or of an adapter that model wears for it; unset: the model as the run began")
ALSO(MODEL, "model", FOLDER, NULL, FOR_DATA, "Model", NO_RUN,
     "folder with the tokenizer and chat template by which rows are rendered; unset: text as it stands")
ALSO(MODEL, "model", FOLDER, NULL, FOR_MERGE, "Model", NO_RUN,
     "folder of the base model; unset: the one that adapter_config.json names")
OPTION(ADAPTER, "adapter", FOLDER, NULL, FOR_MERGE, "Model", NO_RUN,
       "folder of a LoRA adapter as PEFT or MLX-LM writes it (docs/LORA.md)")
ALSO(ADAPTER, "adapter", FOLDER, NULL, FOR_ADAPTER, "Model", HASHED(ADAPTER),
     "folder of a LoRA adapter that the model wears; sft and grpo go on training it (docs/LORA.md)")
ALIAS("adapter_path", ADAPTER)
OPTION(PRESET, "preset", ONE_OF(WORDS(PRESET_LIST)), NULL, FOR_INIT | FOR_BENCH | FOR_INFO, "Model", NO_RUN,
       "shape of a known model")
OPTION(CONFIG, "config", FILE_NAME, NULL, FOR_INIT, "Model", NO_RUN,
       "config.json with the shape of the model, in place of --preset")
OPTION(TOKENIZER, "tokenizer", FOLDER, NULL, FOR_INIT, "Model", NO_RUN,
       "folder to copy the tokenizer files from, or 'bytes' for a byte-level one")
OPTION(DTYPE, "dtype", ONE_OF(AUTO_OR(COMPUTE_TYPE_LIST)), "auto", FOR_COMPUTE | FOR_SCORE, "Model", KEPT,
       "type of weights and activations; auto: config.json's, else the weights'; F16 is computed in f32")
ALSO(DTYPE, "dtype", ONE_OF(AUTO_OR(COMPUTE_TYPE_LIST)), "auto", FOR_INIT, "Model", NO_RUN,
     "type of the weights; auto: bf16")
ALSO(DTYPE, "dtype", ONE_OF(AUTO_OR(COMPUTE_TYPE_LIST)), "auto", FOR_MERGE, "Model", NO_RUN,
     "type of the weights that are written; auto: the base's")


/* ---- LoRA: TRL's ModelConfig ---- */
OPTION(USE_PEFT, "use_peft", SWITCH, "false", FOR_TRAIN | FOR_INFO, "LoRA", KEPT,
       "train a new LoRA adapter beside the model, whose own weights stay as they are (docs/LORA.md)")
OPTION(LORA_R, "lora_r", INT(1, 4096), "16", FOR_TRAIN | FOR_INFO, "LoRA", KEPT,
       "rank of the adapter's matrices")
ALSO(LORA_R, "lora_r", INT(1, 4096), "16", FOR_BENCH, "LoRA", NO_RUN,
     "rank of the adapter that kind lora measures")
OPTION(LORA_ALPHA, "lora_alpha", FLOAT(TINY, BIG), "32", FOR_TRAIN | FOR_INFO, "LoRA", KEPT,
       "what the adapter adds is scaled by lora_alpha / lora_r")
OPTION(LORA_DROPOUT, "lora_dropout", FLOAT(0, 0.99), "0", FOR_TRAIN | FOR_INFO, "LoRA", KEPT,
       "sft: share of what A reads that is dropped in training (TRL: 0.05); grpo: 0 alone")
OPTION(LORA_TARGET_MODULES, "lora_target_modules", TEXTS, NULL, FOR_TRAIN | FOR_INFO, "LoRA", KEPT,
       "projections, embed_tokens, that get one: names, a pattern, or all-linear; unset: q_proj and v_proj")
OPTION(LORA_TARGET_PARAMETERS, "lora_target_parameters", TEXTS, NULL, FOR_TRAIN | FOR_INFO, "LoRA", KEPT,
       "experts that get one: mlp.experts.gate_up_proj, mlp.experts.down_proj; or routers: mlp.gate.weight")
OPTION(USE_RSLORA, "use_rslora", SWITCH, "false", FOR_TRAIN | FOR_INFO, "LoRA", KEPT,
       "scale by lora_alpha / sqrt(lora_r)")
OPTION(LORA_MERGE, "lora_merge", SWITCH, "false", FOR_ADAPTER, "LoRA", KEPT,
       "compute with weights that the adapter is merged into, made from the base's after every update")
OPTION(LORA_MODULES_TO_SAVE, "lora_modules_to_save", TEXTS, NULL, FOR_TRAIN | FOR_INFO, "LoRA", KEPT,
       "modules whose own weights train whole beside the adapter, such as lm_head and embed_tokens")
OPTION(USE_DORA, "use_dora", SWITCH, "false", FOR_TRAIN | FOR_INFO, "LoRA", KEPT,
       "train a magnitude of every output beside A and B (DoRA)")

/* ---- Data ---- */
OPTION(PROMPT, "prompt", TEXT, NULL, FOR_GENERATE, "Data", NO_RUN,
       "prompt text, also without --prompt; '-' reads standard input")
ALSO(PROMPT, "prompt", TEXT, NULL, FOR_TOKENIZE, "Data", NO_RUN,
     "prompt text; '-' reads standard input")
OPTION(SYSTEM, "system", TEXT, NULL, FOR_GENERATE | FOR_CHAT, "Data", NO_RUN,
       "system message before a conversation that does not begin with one")
OPTION(BATCH, "batch", FILE_NAME, NULL, FOR_GENERATE | FOR_TOKENIZE, "Data", NO_RUN,
       "data file of rows with prompt or messages; '-' reads standard input")
ALSO(BATCH, "batch", FILE_NAME, NULL, FOR_LOGPROBS, "Data", NO_RUN,
     "data file of rows with prompt_tokens and tokens; '-' reads standard input")
OPTION(DATA, "data", FILE_NAME, NULL, FOR_SFT, "Data", HASHED(DATA),
       "data files or a folder of rows with messages, prompt and completion, or text (docs/DATA.md)")
ALSO(DATA, "data", FILE_NAME, NULL, FOR_KTO, "Data", HASHED(DATA),
     "data files or a folder of rows with prompt, completion and label (docs/TRAINERS.md)")
ALSO(DATA, "data", FILE_NAME, NULL, FOR_DPO | FOR_ORPO | FOR_CPO | FOR_REWARD, "Data", HASHED(DATA),
     "data files or a folder of rows with prompt, chosen and rejected (docs/TRAINERS.md)")
ALSO(DATA, "data", FILE_NAME, NULL, FOR_DRAWN, "Data", HASHED(DATA),
     "data files or a folder of rows with prompt or messages, and what rewards read (docs/DATA.md)")
ALSO(DATA, "data", FILE_NAME, NULL, FOR_EVAL, "Data", NO_RUN,
     "rows with prompt or messages (docs/DATA.md), or several sets as NAME=FILE,NAME=FILE")
ALSO(DATA, "data", FILE_NAME, NULL, FOR_SCORE, "Data", NO_RUN,
     "data files or a folder of rows with completion, and what rewards read (docs/DATA.md)")
ALSO(DATA, "data", FILE_NAME, NULL, FOR_DATA, "Data", NO_RUN,
     "data files or a folder, also without the name of the option (docs/DATA.md)")
ALSO(DATA, "data", FILE_NAME, NULL, FOR_PERPLEXITY, "Data", NO_RUN,
     "text file (.txt), or data files with the column text; also without the name of the option")
OPTION(CHOICES, "choices", SWITCH, "false", FOR_EVAL, "Data", NO_RUN,
       "rows are questions with choices and an answer: which choice is the most likely (docs/EVALUATION.md)")
OPTION(WINDOW, "window", INT(2, COUNT), NULL, FOR_PERPLEXITY, "Data", NO_RUN,
       "tokens that are seen at once; unset: 1024, or the model's context where that is less")
OPTION(STRIDE, "stride", INT(1, COUNT), NULL, FOR_PERPLEXITY, "Data", NO_RUN,
       "tokens by which the window slides on; unset: half of window")
OPTION(DATA_LIMIT, "data_limit", INT(1, MANY), NULL, FOR_TRAIN | FOR_EVAL, "Data", ACCEPTED(DATA),
       "use the first N rows of the data, of files with weights of each; unset: all")
ALSO(DATA_LIMIT, "data_limit", INT(1, MANY), NULL, FOR_SCORE | FOR_DATA | FOR_PERPLEXITY, "Data", NO_RUN,
     "use the first N rows of the data; unset: all")
OPTION(COLUMNS, "columns", TEXTS, NULL, FOR_TRAIN | FOR_EVAL, "Data", ACCEPTED(DATA),
       "which columns are which, as in prompt=question,answer=final; unset: as docs/DATA.md says")
ALSO(COLUMNS, "columns", TEXTS, NULL, FOR_GENERATE | FOR_TOKENIZE | FOR_SCORE | FOR_DATA | FOR_PERPLEXITY, "Data", NO_RUN,
     "which columns are which, as in prompt=question,answer=final; unset: as docs/DATA.md says")
OPTION(EVAL_DATA, "eval_data", FILE_NAME, NULL, FOR_ROWS, "Data", FREE,
       "data files or a folder of held-out rows to evaluate on")
ALSO(EVAL_DATA, "eval_data", FILE_NAME, NULL, FOR_DRAWN, "Data", FREE,
     "held-out rows to evaluate on: data files or a folder, or several sets as NAME=FILE,NAME=FILE")
OPTION(EVAL_STEPS, "eval_steps", INT(0, MANY), "0", FOR_TRAIN, "Data", FREE,
       "evaluate every N optimizer steps; 0: only before and after")
OPTION(EVAL_STRATEGY, "eval_strategy", ONE_OF(WORDS(EVAL_STRATEGY_LIST)), NULL, FOR_ROWS, "Data", FREE,
       "when to evaluate, beside before and after: never, every eval_steps, each epoch; unset: eval_steps")
OPTION(METRIC_FOR_BEST_MODEL, "metric_for_best_model", ONE_OF(WORDS(BEST_METRIC_LIST)), "loss", FOR_SFT, "Data", KEPT,
       "the held-out metric by which evaluations are compared")
ALSO(METRIC_FOR_BEST_MODEL, "metric_for_best_model", ONE_OF(WORDS(PREFERENCE_METRIC_LIST)), "loss",
     FOR_DPO | FOR_ORPO | FOR_CPO, "Data", KEPT, "the held-out metric by which evaluations are compared")
ALSO(METRIC_FOR_BEST_MODEL, "metric_for_best_model", ONE_OF(WORDS(REWARD_METRIC_LIST)), "loss", FOR_REWARD, "Data",
     KEPT, "the held-out metric by which evaluations are compared")
ALSO(METRIC_FOR_BEST_MODEL, "metric_for_best_model", ONE_OF(WORDS(KTO_METRIC_LIST)), "loss", FOR_KTO, "Data", KEPT,
     "the held-out metric by which evaluations are compared")
ALSO(METRIC_FOR_BEST_MODEL, "metric_for_best_model", TEXT, "loss", FOR_DISTILL, "Data", KEPT,
     "what evaluations are compared by: loss, or what rewards make, as reward or pass@1")
ALSO(METRIC_FOR_BEST_MODEL, "metric_for_best_model", TEXT, "reward", FOR_GROUPS, "Data", KEPT,
     "what evaluations are compared by: reward, NAME_reward of a set, pass@1 ... (TRL: loss)")
OPTION(GREATER_IS_BETTER, "greater_is_better", SWITCH, NULL, FOR_TRAIN, "Data", KEPT,
       "whether more of that metric is better; unset: yes, but for loss")
OPTION(LOAD_BEST_MODEL_AT_END, "load_best_model_at_end", SWITCH, "false", FOR_TRAIN, "Data", FREE,
       "make final/ of the best evaluation's checkpoint; each new best is saved and kept")
OPTION(EARLY_STOPPING_PATIENCE, "early_stopping_patience", INT(1, MANY), NULL, FOR_TRAIN, "Data", FREE,
       "stop after N evaluations in a row that are not better than the best; unset: never")
OPTION(EARLY_STOPPING_THRESHOLD, "early_stopping_threshold", FLOAT(0, BIG), "0", FOR_TRAIN, "Data", FREE,
       "by how much an evaluation must be better to count as better there")
OPTION(EVAL_LIMIT, "eval_limit", INT(1, MANY), NULL, FOR_TRAIN | FOR_EVAL, "Data", FREE,
       "use the first N held-out rows; unset: all")
OPTION(EVAL_K, "eval_k", NUMBERS(1, 65536), NULL, FOR_DRAWN | FOR_EVAL, "Data", FREE,
       "k of pass@k and maj@k (docs/EVALUATION.md); unset: 1, 2, 4 ... and the completions of a prompt")
OPTION(SAMPLES, "samples", INT(0, 1000), "2", FOR_EVAL, "Data", NO_RUN,
       "with --format text: prompts of each set that are shown with a completion")
OPTION(SHUFFLE_DATASET, "shuffle_dataset", SWITCH, "true", FOR_TRAIN, "Data", KEPT,
       "walk the rows in an order drawn from the seed, a new one each epoch")
OPTION(DATA_SHUFFLE_SEED, "data_shuffle_seed", INT(0, MANY), NULL, FOR_TRAIN, "Data", KEPT,
       "seed of that order and of a mixture's; unset: as seed")
OPTION(CHAT, "chat", SWITCH, "false", FOR_TRAIN | FOR_EVAL, "Data", KEPT,
       "put text prompts through the chat template, and in sft their completions as the answer")
ALSO(CHAT, "chat", SWITCH, "false", FOR_DATA, "Data", NO_RUN,
     "put text prompts through the chat template, and their completions as the answer")
ALSO(CHAT, "chat", SWITCH, NULL, FOR_GENERATE | FOR_TOKENIZE, "Data", NO_RUN,
       "put text prompts through the chat template; unset: only generate --prompt, if there is one")
ALSO(TOOLS, "tools", FILE_NAME, NULL, FOR_CHAT, "Data", NO_RUN,
     "JSON file with the schemas of tools that the model may call; who talks with it answers for them")
OPTION(CHAT_TEMPLATE, "chat_template", FILE_NAME, NULL, FOR_SAMPLE | FOR_ROWS | FOR_TOKENIZE | FOR_DATA, "Data",
       HASHED(TEMPLATE),
       "file with a Jinja chat template, in place of the model folder's")
OPTION(THINKING, "thinking", SWITCH, NULL, FOR_SAMPLE | FOR_ROWS | FOR_TOKENIZE | FOR_DATA, "Data", KEPT,
       "let the model think first (the template's enable_thinking); unset: the template decides")
OPTION(TRUST_CONTENT, "trust_content", SWITCH, "false", FOR_SAMPLE | FOR_ROWS | FOR_TOKENIZE | FOR_DATA, "Data", KEPT,
       "treat control tokens inside messages as control tokens; otherwise they are plain text")
OPTION(EOS_TOKEN, "eos_token", TEXTS, NULL, FOR_SAMPLE | FOR_ROWS, "Data", KEPT,
       "tokens or ids that end a text; sft teaches the first; unset: all that the model names")
OPTION(MAX_LENGTH, "max_length", INT(1, COUNT), "1024", FOR_SFT | FOR_DATA, "Data", KEPT,
       "tokens of a row, prompt and completion; longer ones are cut (truncation_mode)")
ALSO(MAX_LENGTH, "max_length", INT(1, COUNT), "1024", FOR_REWARD, "Data", KEPT,
     "tokens of a prompt with a completion; a pair with a longer side is left out")
ALSO(MAX_LENGTH, "max_length", INT(1, COUNT), "1024", FOR_DPO | FOR_KTO | FOR_ORPO | FOR_CPO, "Data", KEPT,
     "tokens of a prompt with a completion, which is cut at its end; a prompt as long leaves the row out")
OPTION(TRUNCATION_MODE, "truncation_mode", ONE_OF(WORDS(TRUNCATION_LIST)), "keep_start", FOR_SFT | FOR_DATA, "Data",
       KEPT, "what is kept of a row that is too long: its beginning or its end")
OPTION(DATASET_TEXT_FIELD, "dataset_text_field", TEXT, "text", FOR_SFT | FOR_DATA, "Data", KEPT,
       "the column of plain text, all of which is learned")
OPTION(COMPLETION_ONLY_LOSS, "completion_only_loss", SWITCH, NULL, FOR_SFT | FOR_DATA, "Data", KEPT,
       "learn the completion alone (of messages the last); false: all; unset: text all, else true")
OPTION(ASSISTANT_ONLY_LOSS, "assistant_only_loss", SWITCH, "false", FOR_SFT | FOR_DATA, "Data", KEPT,
       "learn what the assistant says, in every turn, and nothing else (docs/SFT.md)")
OPTION(PACKING, "packing", SWITCH, "false", FOR_SFT, "Data", KEPT,
       "let batch_size count bins of up to max_length tokens, each filled with rows (docs/SFT.md)")
OPTION(PACKING_STRATEGY, "packing_strategy", ONE_OF(WORDS(PACKING_LIST)), "bfd", FOR_SFT, "Data", KEPT,
       "best fit, longest first; bfd_split: long rows in pieces; wrapped: cut where one is full")

/* ---- Environment ---- */
OPTION(ENVIRONMENT, "environment", TEXT, NULL, FOR_DRAWN | FOR_EVAL, "Environment", ACCEPTED(REWARD),
       "exec:PROGRAM or python:FILE.py:CLASS that answers turns (docs/ENVIRONMENTS.md); unset: one turn")
OPTION(TOOLS, "tools", TEXT, NULL, FOR_DRAWN | FOR_EVAL, "Environment", ACCEPTED(REWARD),
       "python:FILE.py whose functions the model may call, or python:FILE.py:NAME,NAME for some of them")
OPTION(MAX_TOOL_CALLING_ITERATIONS, "max_tool_calling_iterations", INT(0, COUNT), NULL, FOR_DRAWN | FOR_EVAL, "Environment", KEPT,
       "turns whose calls of tools are run; unset: no limit")
OPTION(ENVIRONMENT_WORKERS, "environment_workers", INT(1, 256), "1", FOR_DRAWN | FOR_EVAL, "Environment", FREE,
       "programs of the environment")
OPTION(TURN_TIMEOUT, "turn_timeout", FLOAT(0.001, 86400), "60", FOR_DRAWN | FOR_EVAL, "Environment", FREE,
       "seconds that an environment may take for an answer; then the episode is lost")
OPTION(EPISODE_TIMEOUT, "episode_timeout", FLOAT(0.001, 604800), NULL, FOR_DRAWN | FOR_EVAL, "Environment", FREE,
       "seconds that an environment may take for all answers of an episode; unset: no limit")
OPTION(MAX_TURNS, "max_turns", INT(1, COUNT), NULL, FOR_DRAWN | FOR_EVAL, "Environment", KEPT,
       "turns of the model in an episode; unset: as many as fit into max_completion_length")
OPTION(TURN_REWARDS, "turn_rewards", ONE_OF(WORDS(TURN_REWARDS_LIST)), "sum", FOR_DRAWN, "Environment", KEPT,
       "an environment's rewards of turns: added to the episode's; per_turn: rewards of tokens")

OPTION(OVERLONG, "overlong", ONE_OF(WORDS(OVERLONG_LIST)), "drop", FOR_DRAWN | FOR_EVAL, "Environment", KEPT,
       "an answer that does not fit into the completion: dropped, which ends the episode, or its words cut")

/* ---- Reward ---- */
OPTION(REWARD, "reward", TEXTS, NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "rewards: names, python:FILE.py:FUNCTION, exec:PROGRAM, model:DIR, judge:URL; docs/REWARDS.md")
OPTION(REWARD_WEIGHTS, "reward_weights", NUMBERS(-BIG, BIG), NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "a weight for each reward, in the same order; unset: 1 each")
OPTION(PASS_REWARD, "pass_reward", TEXT, NULL, FOR_DRAWN | FOR_EVAL, "Reward", FREE,
       "the reward that says whether a completion passes in an evaluation; unset: accuracy, else the first")
OPTION(PASS_THRESHOLD, "pass_threshold", FLOAT(-BIG, BIG), "1", FOR_DRAWN | FOR_EVAL, "Reward", FREE,
       "a completion passes where that reward is at least this")
OPTION(REWARD_PATTERN, "reward_pattern", TEXT, NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "pattern of the regex reward (PCRE2); unset: the row's column 'pattern'")
OPTION(REWARD_TIMEOUT, "reward_timeout", FLOAT(0.001, 86400), "60", FOR_SCORED, "Reward", FREE,
       "seconds a program or Python function may take for a batch")
OPTION(REWARD_WORKERS, "reward_workers", INT(1, 256), "1", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "programs of each exec: and python: reward; more than 1 score during rollout. judge: requests at once")
OPTION(REWARD_CACHE, "reward_cache", TEXTS, NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "programs, Python functions, judge: by name, that score a row and completion the same every time")
OPTION(JUDGE_MODEL, "judge_model", TEXT, NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "judge: the model that the server is asked for; unset: default")
OPTION(JUDGE_RUBRIC, "judge_rubric", TEXT, NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "judge: what it judges by, a file or the text itself; unset: a rubric of our own (docs/REWARDS.md)")
OPTION(JUDGE_SCALE, "judge_scale", NUMBERS(-BIG, BIG), NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "judge: LEAST,MOST of its scores, such as 1,10; the reward is from 0 to 1; unset: 0,1")
OPTION(JUDGE_RETRIES, "judge_retries", INT(0, 100), "3", FOR_SCORED, "Reward", FREE,
       "judge: how often a request that failed is tried again, after pauses that double from 0.5 s on")
OPTION(JUDGE_CA, "judge_ca", FILE_NAME, NULL, FOR_SCORED, "Reward", FREE,
       "judge: PEM file of the certificates that an https server is trusted by; unset: the system's")
OPTION(JUDGE_KEY_ENV, "judge_key_env", TEXT, NULL, FOR_SCORED, "Reward", FREE,
       "judge: environment variable with the server's key; unset: OPENAI_API_KEY, if it is there")
OPTION(PYTHON, "python", TEXT, NULL, FOR_SCORED, "Reward", FREE,
       "interpreter of python: rewards; unset: that of $VIRTUAL_ENV, else python3")
OPTION(MAX_COMPLETION_LEN, "max_completion_len", INT(1, COUNT), NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "soft_overlong_punishment: tokens beyond which a completion gets -1")
OPTION(SOFT_PUNISH_CACHE, "soft_punish_cache", INT(0, COUNT), NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "soft_overlong_punishment: tokens before max_completion_len over which it falls from 0 to -1")
OPTION(NGRAM_SIZE, "ngram_size", INT(1, 1024), "3", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "repetition_penalty: tokens of an n-gram")
OPTION(MAX_PENALTY, "max_penalty", FLOAT(-BIG, 0), "-1", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "repetition_penalty: times the share of n-grams that repeat an earlier one")
OPTION(MAX_LEN, "max_len", INT(1, COUNT), NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "cosine_scaled: tokens at which the values for long completions are reached")
OPTION(MIN_VALUE_WRONG, "min_value_wrong", FLOAT(-BIG, BIG), "-1", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "cosine_scaled: reward of a wrong completion without tokens")
OPTION(MAX_VALUE_WRONG, "max_value_wrong", FLOAT(-BIG, BIG), "-0.5", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "cosine_scaled: reward of a wrong completion of max_len tokens or more")
OPTION(MIN_VALUE_CORRECT, "min_value_correct", FLOAT(-BIG, BIG), "0.5", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "cosine_scaled: reward of a correct completion of max_len tokens or more")
OPTION(MAX_VALUE_CORRECT, "max_value_correct", FLOAT(-BIG, BIG), "1", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "cosine_scaled: reward of a correct completion without tokens")
OPTION(REWARD_MIN_LENGTH, "reward_min_length", INT(1, COUNT), "50", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "length: characters below which a completion gets less than 1")
OPTION(REWARD_MAX_LENGTH, "reward_max_length", INT(1, COUNT), "500", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "length: characters above which a completion gets less than 1")
OPTION(REWARD_TAGS, "reward_tags", TEXTS, NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "xml_format: tags that must be there, opened as often as closed; unset: thinking,answer")
OPTION(REWARD_SCHEMA, "reward_schema", TEXT, NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "json_schema: a JSON schema, or a file of one; unset: the row's column 'schema'")
OPTION(REWARD_TOOLS, "reward_tools", TEXTS, NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "tool_use: tools that may be called; unset: the row's 'tools', else search,calculate,code")
OPTION(REWARD_TOOL_OPTIONAL, "reward_tool_optional", SWITCH, "false", FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "tool_use: a completion without a call gets 0.5 in place of 0")
OPTION(REASONING_DELIMITERS, "reasoning_delimiters", TEXTS, NULL, FOR_SCORED, "Reward", ACCEPTED(REWARD),
       "reasoning_accuracy: texts that end the reasoning, the first that is found counts; unset: </think>")

/* ---- Rollout ---- */
OPTION(NUM_GENERATIONS, "num_generations", INT(2, 4096), "8", FOR_INFO | FOR_GRPO, "Rollout", KEPT,
       "completions per prompt (the group)")
ALSO(NUM_GENERATIONS, "num_generations", INT(2, 4096), "2", FOR_RLOO, "Rollout", KEPT,
     "completions per prompt (the group)")
ALSO(NUM_GENERATIONS, "num_generations", INT(1, 4096), "1", FOR_DISTILL, "Rollout", KEPT,
     "completions per prompt")
OPTION(PROMPTS_PER_STEP, "prompts_per_step", INT(1, 65536), "8", FOR_PLAN, "Rollout", KEPT,
       "prompts in one generation batch")
/* As TRL counts: completions, in slices of a generation batch (docs/GRPO.md, A step). */
OPTION(PER_DEVICE_TRAIN_BATCH_SIZE, "per_device_train_batch_size", INT(1, 4194304), NULL, FOR_DRAWN, "Rollout", KEPT,
       "completions of one slice of a generation batch; unset: prompts_per_step says it")
OPTION(GRADIENT_ACCUMULATION_STEPS, "gradient_accumulation_steps", INT(1, 65536), "1", FOR_DRAWN, "Rollout", KEPT,
       "slices of one optimizer step")
OPTION(STEPS_PER_GENERATION, "steps_per_generation", INT(1, 65536), NULL, FOR_GROUPS, "Rollout", KEPT,
       "slices of a generation batch; unset: as gradient_accumulation_steps, which is one step")
OPTION(GENERATION_BATCH_SIZE, "generation_batch_size", INT(1, 4194304), NULL, FOR_GROUPS, "Rollout", KEPT,
       "completions of a generation batch, in place of steps_per_generation")
/* DAPO, arXiv 2503.14476; not in TRL. */
OPTION(DYNAMIC_SAMPLING, "dynamic_sampling", SWITCH, "false", FOR_GROUPS, "Rollout", KEPT,
       "drop groups whose rewards do not differ, and draw further prompts in their place")
OPTION(DYNAMIC_SAMPLING_REFILLS, "dynamic_sampling_refills", INT(0, 1000), "9", FOR_GROUPS, "Rollout", KEPT,
       "dynamic_sampling: further draws for a batch, at most; then dropped groups fill it")
OPTION(DYNAMIC_SAMPLING_OVERSAMPLE, "dynamic_sampling_oversample", FLOAT(1, 64), "1.0", FOR_GROUPS, "Rollout", KEPT,
       "dynamic_sampling: prompts that are drawn at once for each one that is wanted")
OPTION(MAX_COMPLETION_LENGTH, "max_completion_length", INT(1, COUNT), "512", FOR_PLAN | FOR_EVAL, "Rollout", KEPT,
       "maximum tokens of a completion")
/* 256 is MLX-LM's default in its API; the 100 of its command line cuts most answers short. */
ALSO(MAX_COMPLETION_LENGTH, "max_completion_length", INT(1, COUNT), "256", FOR_GENERATE, "Rollout", NO_RUN,
     "maximum tokens of a completion")
ALSO(MAX_COMPLETION_LENGTH, "max_completion_length", INT(0, COUNT), "0", FOR_SERVE, "Rollout", NO_RUN,
     "maximum tokens of a completion whose request does not say; 0: what the context leaves")
ALSO(MAX_COMPLETION_LENGTH, "max_completion_length", INT(0, COUNT), "0", FOR_CHAT, "Rollout", NO_RUN,
     "most tokens of an answer; 0: as many as the context leaves")
ALIAS("max_tokens", MAX_COMPLETION_LENGTH) /* what MLX-LM calls it */
OPTION(MAX_PROMPT_LENGTH, "max_prompt_length", INT(1, COUNT), NULL, FOR_PLAN | FOR_EVAL | FOR_DATA, "Rollout", KEPT,
       "maximum tokens of a prompt; a longer one is an error; unset: what the context leaves")
OPTION(N, "n", INT(1, 65536), "1", FOR_GENERATE | FOR_EVAL, "Rollout", NO_RUN,
       "completions per prompt")
/* Sampling as training samples, for every command: MLX-LM's 0 would make generate and grpo differ. */
OPTION(TEMPERATURE, "temperature", SINGLE(0, 100), "1.0", FOR_GENERATE | FOR_CHAT | FOR_EVAL | FOR_SERVE, "Rollout",
       NO_RUN,
       "divides the logits; 0 takes the most likely token (its log-prob is that at 1)")
ALSO(TEMPERATURE, "temperature", SINGLE(0, 100), "1.0", FOR_LOGPROBS, "Rollout", NO_RUN,
     "divides the logits, as it did in sampling; 0: as 1; not given: as a row's temperature says, else 1")
ALSO(TEMPERATURE, "temperature", SINGLE(0.01, 100), "1.0", FOR_DRAWN, "Rollout", KEPT,
     "divides the logits, in sampling and in training alike")
OPTION(TOP_K, "top_k", INT(0, COUNT), "0", FOR_SAMPLE, "Rollout", KEPT,
       "keep the k most likely tokens; 0: all")
OPTION(TOP_P, "top_p", SINGLE(TINY, 1), "1.0", FOR_SAMPLE, "Rollout", KEPT,
       "keep the most likely tokens that together reach this probability; 1: all")
OPTION(MIN_P, "min_p", SINGLE(0, 1), "0", FOR_SAMPLE, "Rollout", KEPT,
       "drop tokens less likely than this share of the most likely one; 0: none")
OPTION(XTC_PROBABILITY, "xtc_probability", SINGLE(0, 1), "0", FOR_SAMPLE, "Rollout", KEPT,
       "chance of applying XTC (dropping the top choices) at a position")
OPTION(XTC_THRESHOLD, "xtc_threshold", SINGLE(0, 0.5), "0.1", FOR_SAMPLE, "Rollout", KEPT,
       "XTC drops all tokens above this probability except the least likely of them")
OPTION(REPETITION_PENALTY, "repetition_penalty", SINGLE(0.01, 100), "1.0", FOR_SAMPLE, "Rollout", KEPT,
       "divides positive logits of recent tokens and multiplies negative ones; 1: off")
OPTION(REPETITION_CONTEXT, "repetition_context", INT(1, COUNT), "20", FOR_SAMPLE, "Rollout", KEPT,
       "how many tokens back repetition_penalty looks")
OPTION(PRESENCE_PENALTY, "presence_penalty", SINGLE(-100, 100), "0", FOR_SAMPLE, "Rollout", KEPT,
       "subtracted from the logit of each recent token once; 0: off")
OPTION(PRESENCE_CONTEXT, "presence_context", INT(1, COUNT), "20", FOR_SAMPLE, "Rollout", KEPT,
       "how many tokens back presence_penalty looks")
OPTION(FREQUENCY_PENALTY, "frequency_penalty", SINGLE(-100, 100), "0", FOR_SAMPLE, "Rollout", KEPT,
       "subtracted from the logit of a recent token for each time it occurred; 0: off")
OPTION(FREQUENCY_CONTEXT, "frequency_context", INT(1, COUNT), "20", FOR_SAMPLE, "Rollout", KEPT,
       "how many tokens back frequency_penalty looks")
OPTION(SAMPLING_ORDER, "sampling_order", ONE_OF(WORDS(SAMPLING_ORDER_LIST)), "mlx", FOR_SAMPLE, "Rollout", KEPT,
       "mlx: top_p, min_p, XTC, top_k, temperature; hf (transformers): temperature, top_k, top_p, min_p, XTC")
OPTION(GENERATION_CONFIG, "generation_config", ONE_OF(WORDS(GENERATION_CONFIG_LIST)), "model", FOR_TALK, "Rollout",
       NO_RUN, "where options of sampling are not given: model takes generation_config.json's values; none does not")
OPTION(REPETITION_MAX_PATTERN_SIZE, "repetition_max_pattern_size", INT(0, 4096), "0", FOR_GENERATE | FOR_CHAT | FOR_SERVE, "Rollout", NO_RUN,
       "cut a completion that repeats one run of up to so many tokens; 0: never (the names are vLLM's)")
OPTION(REPETITION_MIN_PATTERN_SIZE, "repetition_min_pattern_size", INT(1, 4096), "1", FOR_GENERATE | FOR_CHAT | FOR_SERVE, "Rollout", NO_RUN,
       "the shortest run of tokens that counts there")
OPTION(REPETITION_MIN_COUNT, "repetition_min_count", INT(2, 65536), "4", FOR_GENERATE | FOR_CHAT | FOR_SERVE, "Rollout", NO_RUN,
       "how often in a row it must come")
OPTION(LOGIT_BIAS, "logit_bias", BIASES, NULL, FOR_SAMPLE, "Rollout", KEPT,
       "numbers added to the logits of token ids, for example 151645:-2.5")
/* TRL's default is num_generations; one is what a held-out mean costs least with. */
OPTION(NUM_GENERATIONS_EVAL, "num_generations_eval", INT(1, 4096), "1", FOR_DRAWN, "Rollout", FREE,
       "completions per prompt of held-out evaluation")
OPTION(EVAL_TEMPERATURE, "eval_temperature", SINGLE(0, 100), NULL, FOR_DRAWN, "Rollout", FREE,
       "temperature of held-out evaluation; unset: as temperature")
OPTION(DECODE_CONCURRENCY, "decode_concurrency", INT(0, 4096), "0", (FOR_SAMPLE & ~FOR_CHAT) | FOR_INFO, "Rollout", FREE,
       "completions decoded at once; sets speed and memory, not results; 0: chosen by speed and memory")
OPTION(PREFILL_STEP_SIZE, "prefill_step_size", INT(0, 1048576), "0", FOR_GENERATE | FOR_CHAT | FOR_SERVE, "Rollout",
       NO_RUN,
       "prompt tokens computed in one step; sets speed and memory, not results; 0: chosen by speed")
OPTION(SPECULATIVE, "speculative", ONE_OF(AUTO_OR(SPECULATIVE_LIST)), "auto", FOR_SAMPLE, "Rollout", FREE,
       "guess tokens and check several in a step; sets speed, not results; auto: on a CPU ngram, else none")
OPTION(SPECULATIVE_TOKENS, "speculative_tokens", INT(1, 64), "16", FOR_SAMPLE, "Rollout", FREE,
       "guessed tokens of a completion in one step, at most; how many pays is measured")
ALIAS("num_speculative_tokens", SPECULATIVE_TOKENS) /* vLLM's name */
ALIAS("num_draft_tokens", SPECULATIVE_TOKENS)       /* MLX-LM's */
OPTION(DRAFT_MODEL, "draft_model", FOLDER, NULL, FOR_GENERATE | FOR_CHAT | FOR_SERVE | FOR_EVAL, "Rollout", NO_RUN,
       "folder of a smaller model with the same vocabulary that guesses tokens; sets speed, not results")
ALIAS("model_draft", DRAFT_MODEL) /* llama.cpp's */
OPTION(KV_BITS, "kv_bits", INT(0, 8), "0", FOR_GENERATE | FOR_CHAT | FOR_SERVE, "Rollout", NO_RUN,
       "8: keys and values in 8 bits, half the memory of bf16, not exact; 0: in the model's type")
OPTION(MAX_KV_SIZE, "max_kv_size", INT(0, COUNT), "0", FOR_GENERATE | FOR_CHAT | FOR_SERVE, "Rollout", NO_RUN,
       "a token sees the first 64 and the last ones, so many at most; not exact; 0: all")
OPTION(MIN_TOKENS, "min_tokens", INT(0, COUNT), "0", FOR_GENERATE, "Rollout", NO_RUN,
       "no completion ends by its EOS before it has so many tokens")
OPTION(IGNORE_EOS, "ignore_eos", SWITCH, "false", FOR_GENERATE, "Rollout", NO_RUN,
       "an EOS is a token like another: completions end at max_completion_length or a stop string")
ALSO(MAX_CONTEXT, "max_context", INT(0, COUNT), "0", FOR_CHAT, "Rollout", NO_RUN,
     "tokens of a conversation at most; 0: the model's, or what memory is there for")
OPTION(STOP_TOKEN_IDS, "stop_token_ids", NUMBERS(0, COUNT), NULL, FOR_GENERATE, "Rollout", NO_RUN,
       "end a completion at any of these token ids; its text does not have it")
OPTION(TOP_LOGPROBS, "top_logprobs", INT(0, 64), "0", FOR_GENERATE, "Rollout", NO_RUN,
       "with every token so many of the most likely ones and their log-probs, in rows of JSON")
OPTION(PROMPT_LOGPROBS, "prompt_logprobs", SWITCH, "false", FOR_GENERATE, "Rollout", NO_RUN,
       "the log-probs of the prompt's tokens too, in rows of JSON")
OPTION(PROMPT_CACHE, "prompt_cache", FILE_NAME, NULL, FOR_GENERATE, "Rollout", NO_RUN,
       "file with a prompt's keys and values: read if it is there, else written; the results are the same")
ALIAS("prompt_cache_file", PROMPT_CACHE) /* MLX-LM's name */
OPTION(STOP, "stop", TEXTS, NULL, FOR_SAMPLE, "Rollout", KEPT,
       "end a completion at any of these strings")

/* ---- Server ---- */
OPTION(HOST, "host", TEXT, "127.0.0.1", FOR_SERVE, "Server", NO_RUN,
       "address to listen at; one that others can reach needs api_key or without_key")
OPTION(PORT, "port", INT(0, 65535), "8080", FOR_SERVE, "Server", NO_RUN,
       "port to listen at; 0: one that is free, which is told")
OPTION(API_KEY, "api_key", TEXT, NULL, FOR_SERVE, "Server", NO_RUN,
       "requests must bring this key, as Authorization: Bearer KEY or x-api-key: KEY")
OPTION(WITHOUT_KEY, "without_key", SWITCH, "false", FOR_SERVE, "Server", NO_RUN,
       "whoever reaches the port may use the model without a key")
OPTION(CORS, "cors", TEXT, NULL, FOR_SERVE, "Server", NO_RUN,
       "origin whose pages may ask through a browser, such as https://example.org")
OPTION(SERVED_MODEL_NAME, "served_model_name", TEXT, NULL, FOR_SERVE, "Server", NO_RUN,
       "name of the model in requests; unset: the last part of its folder")
OPTION(MAX_CONTEXT, "max_context", INT(0, COUNT), "0", FOR_SERVE, "Server", NO_RUN,
       "tokens of prompt and answer together; sets memory; 0: the model's own")
ALIAS("max_model_len", MAX_CONTEXT) /* vLLM's name */
OPTION(LORA_MODULES, "lora_modules", PAIRS, NULL, FOR_SERVE, "Server", NO_RUN,
       "LoRA adapters that requests name as their model: NAME=DIR,NAME=DIR (docs/SERVER.md)")
OPTION(MAX_SCORE, "max_score", INT(0, COUNT), "2048", FOR_SERVE, "Server", NO_RUN,
       "tokens of prompt and answer together in POST /score; sets memory; 0: nothing is scored")
OPTION(MAX_WAITING, "max_waiting", INT(0, 65536), "256", FOR_SERVE, "Server", NO_RUN,
       "requests that may wait for their first token; more get 429")
OPTION(MAX_CONNECTIONS, "max_connections", INT(1, 65536), "1024", FOR_SERVE, "Server", NO_RUN,
       "open connections at once")
OPTION(MAX_BODY, "max_body", FLOAT(0.001, 1024), "8", FOR_SERVE, "Server", NO_RUN,
       "megabytes of a request's body, at most")
OPTION(READ_TIMEOUT, "read_timeout", FLOAT(0.1, 3600), "30", FOR_SERVE, "Server", NO_RUN,
       "seconds in which a request must be there whole, and a reader must read")
OPTION(REQUEST_TIMEOUT, "request_timeout", FLOAT(0, 1e6), "0", FOR_SERVE, "Server", NO_RUN,
       "seconds that a request may take; 0: any")
OPTION(DRAIN, "drain", FLOAT(0, 1e6), "30", FOR_SERVE, "Server", NO_RUN,
       "seconds that requests under way get when the server is told to end")
OPTION(LENIENT, "lenient", SWITCH, "false", FOR_SERVE, "Server", NO_RUN,
       "pass over fields of requests that are not known, in place of refusing them")
OPTION(ADMIN, "admin", SWITCH, "false", FOR_SERVE, "Server", NO_RUN,
       "let clients exchange the weights (POST /v1/weights names a folder of this machine)")
OPTION(TLS_CERT, "tls_cert", FILE_NAME, NULL, FOR_SERVE, "Server", NO_RUN,
       "PEM file with the certificate (and its chain): serve by https")
OPTION(TLS_KEY, "tls_key", FILE_NAME, NULL, FOR_SERVE, "Server", NO_RUN,
       "PEM file with the certificate's key")

/* ---- Guided: names as vLLM has them ---- */
OPTION(GUIDED_REGEX, "guided_regex", TEXT, NULL, FOR_GUIDED, "Guided", KEPT,
       "completions match this regular expression as a whole (docs/GUIDED.md)")
OPTION(GUIDED_CHOICE, "guided_choice", TEXTS, NULL, FOR_GUIDED, "Guided", KEPT,
       "completions are one of these texts")
OPTION(GUIDED_JSON, "guided_json", TEXT, NULL, FOR_GUIDED, "Guided", ACCEPTED(GUIDE),
       "completions are JSON of this schema: the schema, a file of it, or @COLUMN of the data")
OPTION(GUIDED_GRAMMAR, "guided_grammar", TEXT, NULL, FOR_GUIDED, "Guided", ACCEPTED(GUIDE),
       "completions meet this grammar (GBNF or Lark): the grammar, a file of it, or @COLUMN of the data")
OPTION(GUIDED_GRAMMAR_KIND, "guided_grammar_kind", ONE_OF(WORDS(GUIDE_NOTATION_LIST)), "auto", FOR_GUIDED, "Guided", KEPT,
       "the notation of guided_grammar: seen from it, GBNF as llama.cpp has it, or Lark as llguidance has it")
OPTION(GUIDED_TOOLS, "guided_tools", ONE_OF(WORDS(GUIDE_TOOLS_LIST)), "off", FOR_GUIDED, "Guided", KEPT,
       "calls of tools have their form and meet their schema: where there are any, at least one, or never")
OPTION(GUIDED_WHITESPACE, "guided_whitespace", ONE_OF(WORDS(GUIDE_WHITESPACE_LIST)), "none", FOR_GUIDED, "Guided", KEPT,
       "white space of guided JSON: as Python's json.dumps writes it, or a little wherever JSON has it")
OPTION(GUIDED_UNSUPPORTED, "guided_unsupported", ONE_OF(WORDS(GUIDE_UNSUPPORTED_LIST)), "refuse", FOR_GUIDED, "Guided", KEPT,
       "keywords of a schema that cannot be enforced: an error, or left out and listed")
OPTION(GUIDED_AFTER_THINK, "guided_after_think", SWITCH, "false", FOR_GUIDED, "Guided", KEPT,
       "what guides a completion begins behind </think>; up to there everything is allowed")
OPTION(GUIDED_CLOSE, "guided_close", INT(0, COUNT), "0", FOR_GUIDED, "Guided", KEPT,
       "finish a guided text on a shortest way from N tokens before the maximum length on; 0: never")

OPTION(GUIDED_LOGPROB, "guided_logprob", ONE_OF(WORDS(GUIDE_LOGPROB_LIST)), "model", FOR_INFO | FOR_GROUPS, "Guided", KEPT,
       "what a guided run trains: the model's distribution, or the one over what was allowed, renormalised")

/* ---- Loss ---- */
OPTION(SCALE_REWARDS, "scale_rewards", ONE_OF(WORDS(ADVANTAGE_SCALE_LIST)), "group", FOR_GROUPS, "Loss", KEPT,
       "divide advantages by the standard deviation of the group, of the batch, or not at all")
OPTION(ADVANTAGE_ESTIMATOR, "advantage_estimator", ONE_OF(WORDS(ADVANTAGE_ESTIMATOR_LIST)), "grpo", FOR_GRPO, "Loss", KEPT,
       "what a reward is compared with: its group (grpo), the others of it (rloo), the batch; or pass@k")
ALSO(ADVANTAGE_ESTIMATOR, "advantage_estimator", ONE_OF(WORDS(ADVANTAGE_ESTIMATOR_LIST)), "rloo", FOR_RLOO, "Loss", KEPT,
     "what a reward is compared with: the others of its group (rloo), the group, the batch; or pass@k")
OPTION(ADVANTAGE_K, "advantage_k", INT(1, 4096), "4", FOR_GROUPS, "Loss", KEPT,
       "advantage_estimator pass_at_k: completions of which one has to pass; at most num_generations")
OPTION(MULTI_OBJECTIVE_AGGREGATION, "multi_objective_aggregation", ONE_OF(WORDS(ADVANTAGE_AGGREGATION_LIST)),
       "sum_then_normalize", FOR_GROUPS, "Loss", KEPT,
       "several rewards are weighted and added before or after each is normalised in its group")
OPTION(ADVANTAGE_EPSILON, "advantage_epsilon", FLOAT(0, 1), "1e-4", FOR_GROUPS, "Loss", KEPT,
       "added to the standard deviation that advantages are divided by")
OPTION(REWARD_CLIP_RANGE, "reward_clip_range", NUMBERS(-BIG, BIG), NULL, FOR_GROUPS, "Loss", KEPT,
       "LEAST,MOST: advantages are made of rewards clipped to this range, before a KL is taken from them")
OPTION(LOSS_TYPE, "loss_type", ONE_OF(WORDS(LOSS_LIST)), "dapo", FOR_GRPO, "Loss", KEPT,
       "the loss: what becomes of a token's ratio, and how tokens are averaged (docs/GRPO.md)")
ALSO(LOSS_TYPE, "loss_type", ONE_OF(WORDS(LOSS_LIST)), "rloo", FOR_RLOO, "Loss", KEPT,
     "the loss: rloo clips the ratio of a whole completion (docs/GRPO.md has the others)")
ALSO(LOSS_TYPE, "loss_type", ONE_OF(WORDS(SFT_LOSS_LIST)), "nll", FOR_SFT, "Loss", KEPT,
     "the loss of a token: its negative log-prob, or that times its probability (dft)")
ALSO(LOSS_TYPE, "loss_type", SOME_OF(WORDS(DPO_LOSS_LIST)), "sigmoid", FOR_DPO, "Loss", KEPT,
     "the losses of a pair, which are added up (docs/TRAINERS.md has their formulas)")
ALSO(LOSS_TYPE, "loss_type", ONE_OF(WORDS(KTO_LOSS_LIST)), "kto", FOR_KTO, "Loss", KEPT,
     "the loss of a completion: against the KL of the batch, or without it (docs/TRAINERS.md)")
ALSO(LOSS_TYPE, "loss_type", ONE_OF(WORDS(CPO_LOSS_LIST)), "sigmoid", FOR_CPO, "Loss", KEPT,
     "the loss of a pair (docs/TRAINERS.md has the formulas)")
OPTION(LOSS_WEIGHTS, "loss_weights", NUMBERS(-BIG, BIG), NULL, FOR_DPO, "Loss", KEPT,
       "a weight for each loss of loss_type, in the same order; unset: 1 each")
OPTION(LABEL_SMOOTHING, "label_smoothing", FLOAT(0, 1), "0", FOR_DPO, "Loss", KEPT,
       "exo_pair, robust, aot, aot_unpaired: share of pairs whose labels are taken to be the wrong way round")
ALSO(LABEL_SMOOTHING, "label_smoothing", FLOAT(0, 1), "0", FOR_CPO, "Loss", KEPT,
     "sigmoid, simpo: share of pairs whose labels are taken to be the wrong way round")
OPTION(CPO_ALPHA, "cpo_alpha", FLOAT(0, 1e6), "1.0", FOR_CPO, "Loss", KEPT,
       "weight of the negative log-prob of the chosen completions; 0, with simpo: SimPO")
OPTION(SIMPO_GAMMA, "simpo_gamma", FLOAT(-1e6, 1e6), "0.5", FOR_CPO, "Loss", KEPT,
       "simpo: margin by which the chosen completion should be better")
OPTION(ALPHA, "alpha", FLOAT(-1e3, 1e3), "0.0", FOR_CPO, "Loss", KEPT,
       "AlphaPO: (1 - p^-alpha) / alpha takes the place of log p; 0: log p")
OPTION(DESIRABLE_WEIGHT, "desirable_weight", FLOAT(0, 1e6), "1.0", FOR_KTO, "Loss", KEPT,
       "weight of completions that are wanted")
OPTION(UNDESIRABLE_WEIGHT, "undesirable_weight", FLOAT(0, 1e6), "1.0", FOR_KTO, "Loss", KEPT,
       "weight of completions that are not wanted")
OPTION(CENTER_REWARDS_COEFFICIENT, "center_rewards_coefficient", FLOAT(0, 1e6), NULL, FOR_REWARD, "Loss", KEPT,
       "weight of the squared sum of a pair's scores, which keeps scores near 0; unset: none")
OPTION(F_DIVERGENCE_TYPE, "f_divergence_type", ONE_OF(WORDS(PREFERENCE_DIVERGENCE_LIST)), "reverse_kl", FOR_DPO, "Loss",
       KEPT, "divergence to the reference whose derivative takes the place of the log-ratio")
OPTION(F_ALPHA_DIVERGENCE_COEF, "f_alpha_divergence_coef", FLOAT(-1000, 1000), "0.5", FOR_DPO, "Loss", KEPT,
       "f_divergence_type alpha_divergence: its alpha; 1 is reverse_kl")
OPTION(LD_ALPHA, "ld_alpha", FLOAT(0, 1), NULL, FOR_DPO, "Loss", KEPT,
       "weight of a completion's tokens beyond the other's length (LD-DPO); unset: 1")
OPTION(USE_WEIGHTING, "use_weighting", SWITCH, "false", FOR_DPO, "Loss", KEPT,
       "weigh pairs by how likely the policy is to write them (WPO)")
OPTION(DISCOPOP_TAU, "discopop_tau", FLOAT(TINY, 1e6), "0.05", FOR_DPO, "Loss", KEPT,
       "discopop: temperature of the share of its two losses")
OPTION(LABEL_SMOOTHING_FACTOR, "label_smoothing_factor", FLOAT(0, 1), "0", FOR_SFT, "Loss", KEPT,
       "share of the loss that is the mean over the vocabulary in place of the token; only with nll")
OPTION(NEFTUNE_NOISE_ALPHA, "neftune_noise_alpha", FLOAT(0, 1e6), NULL, FOR_SFT, "Loss", KEPT,
       "add noise of up to alpha / sqrt(tokens * width) to a row's embeddings (NEFTune); unset: none")
OPTION(IMPORTANCE_SAMPLING_LEVEL, "importance_sampling_level", ONE_OF(WORDS(LOSS_LEVEL_LIST)), "token",
       FOR_GROUPS, "Loss", KEPT,
       "probability ratio new/old of each token, or one for the sequence (GSPO; sequence_token: GSPO-token)")
OPTION(EPSILON, "epsilon", FLOAT(0, 1), "0.2", FOR_GROUPS, "Loss", KEPT,
       "the ratio is clipped below 1 - epsilon; gmpo: its log below -epsilon, there 0.4 if not given")
OPTION(EPSILON_HIGH, "epsilon_high", FLOAT(0, 1000), NULL, FOR_GROUPS, "Loss", KEPT,
       "the ratio is clipped above 1 + epsilon_high, in cispo above it; unset: as epsilon")
OPTION(DELTA, "delta", FLOAT(1, 1e6), NULL, FOR_GROUPS, "Loss", KEPT,
       "upper bound of the ratio where the advantage is negative (two-sided or dual clip); unset: none")
OPTION(SAPO_TEMPERATURE_NEG, "sapo_temperature_neg", FLOAT(TINY, 1e6), "1.05", FOR_GROUPS, "Loss", KEPT,
       "sapo: temperature of the sigmoid where the advantage is not positive")
OPTION(SAPO_TEMPERATURE_POS, "sapo_temperature_pos", FLOAT(TINY, 1e6), "1.0", FOR_GROUPS, "Loss", KEPT,
       "sapo: temperature of the sigmoid where the advantage is positive")
OPTION(VESPO_K_POS, "vespo_k_pos", FLOAT(0, 1e6), "2.0", FOR_GROUPS, "Loss", KEPT,
       "vespo: exponent of the sequence's ratio where the advantage is not negative")
OPTION(VESPO_LAMBDA_POS, "vespo_lambda_pos", FLOAT(0, 1e6), "3.0", FOR_GROUPS, "Loss", KEPT,
       "vespo: decay with the sequence's ratio where the advantage is not negative")
OPTION(VESPO_K_NEG, "vespo_k_neg", FLOAT(0, 1e6), "3.0", FOR_GROUPS, "Loss", KEPT,
       "vespo: exponent of the sequence's ratio where the advantage is negative")
OPTION(VESPO_LAMBDA_NEG, "vespo_lambda_neg", FLOAT(0, 1e6), "2.0", FOR_GROUPS, "Loss", KEPT,
       "vespo: decay with the sequence's ratio where the advantage is negative")
OPTION(BETA, "beta", FLOAT(0, 1000), "0.0", FOR_GRPO | FOR_INFO, "Loss", KEPT,
       "weight of the KL to the reference, the initial model; 0: none is kept")
ALSO(BETA, "beta", FLOAT(0, 1000), "0.05", FOR_RLOO, "Loss", KEPT,
     "weight of the KL to the reference, the initial model; 0: none is kept")
ALSO(BETA, "beta", FLOAT(0, 1), "1.0", FOR_DISTILL, "Loss", KEPT,
     "the divergence: 0 forward KL, 1 reverse KL, between them the generalised Jensen-Shannon divergence")
ALSO(BETA, "beta", FLOAT(TINY, 1000), "0.1", FOR_DPO | FOR_KTO, "Loss", KEPT,
     "what log-ratios to the reference are multiplied by: more keeps the policy nearer to it")
ALSO(BETA, "beta", FLOAT(TINY, 1000), "0.1", FOR_ORPO | FOR_CPO, "Loss", KEPT,
     "orpo: weight of the odds-ratio term; cpo: what differences of log-probs are multiplied by")
OPTION(REFERENCE_FREE, "reference_free", SWITCH, "false", FOR_DPO, "Loss", KEPT,
       "compare log-probs in place of log-ratios: there is no reference")
OPTION(PRECOMPUTE_REF_LOG_PROBS, "precompute_ref_log_probs", SWITCH, "false", FOR_DPO | FOR_KTO, "Loss", KEPT,
       "compute what the reference gives of all rows before the first step, and keep no reference")
OPTION(SYNC_REF_MODEL, "sync_ref_model", SWITCH, "false", FOR_GROUPS | FOR_DPO | FOR_KTO, "Loss", KEPT,
       "let the reference of beta follow the policy, every ref_model_sync_steps steps")
OPTION(REF_MODEL_MIXUP_ALPHA, "ref_model_mixup_alpha", FLOAT(0, 1), "0.6", FOR_GROUPS | FOR_DPO | FOR_KTO, "Loss", KEPT,
       "sync_ref_model: share of the policy in the new reference; the rest is the old reference")
OPTION(REF_MODEL_SYNC_STEPS, "ref_model_sync_steps", INT(1, MANY), "512", FOR_GROUPS | FOR_DPO | FOR_KTO, "Loss", KEPT,
       "sync_ref_model: optimizer steps between two changes of the reference")
OPTION(KL_ESTIMATOR, "kl_estimator", ONE_OF(WORDS(LOSS_KL_LIST)), "k3", FOR_GRPO, "Loss", KEPT,
       "estimate of a token's KL: log-ratio (k1), half its square (k2), or exp(-x) - 1 + x of it (k3)")
ALSO(KL_ESTIMATOR, "kl_estimator", ONE_OF(WORDS(LOSS_KL_LIST)), "k1", FOR_RLOO, "Loss", KEPT,
     "estimate of a token's KL: log-ratio (k1), half its square (k2), or exp(-x) - 1 + x of it (k3)")
OPTION(USE_BIAS_CORRECTION_KL, "use_bias_correction_kl", SWITCH, "true", FOR_GROUPS, "Loss", KEPT,
       "multiply the KL of a token by its ratio, which makes its gradient that of the KL")
OPTION(KL_IN_REWARD, "kl_in_reward", SWITCH, "false", FOR_GRPO, "Loss", KEPT,
       "take beta times the KL of a completion from its reward, in place of adding it to the loss")
ALSO(KL_IN_REWARD, "kl_in_reward", SWITCH, "true", FOR_RLOO, "Loss", KEPT,
     "take beta times the KL of a completion from its reward, in place of adding it to the loss")
OPTION(TOP_ENTROPY_QUANTILE, "top_entropy_quantile", FLOAT(0, 1), "1.0", FOR_GROUPS, "Loss", KEPT,
       "share of the step's tokens, those of the highest entropy, that have a policy term; 1: all")
OPTION(OFF_POLICY_MASK_THRESHOLD, "off_policy_mask_threshold", FLOAT(0, 1e6), NULL, FOR_GROUPS, "Loss", KEPT,
       "drop completions with a negative advantage whose mean log(old/new) is above this; unset: none")
OPTION(ROUTER_AUX_LOSS_COEF, "router_aux_loss_coef", FLOAT(0, 1e6), NULL, FOR_TRAIN & ~FOR_REWARD, "Loss", KEPT,
       "models with experts: weight of the loss that evens their load; unset: config.json's; 0: none")
OPTION(ROUTER_REPLAY, "router_replay", ONE_OF(WORDS(ROUTER_REPLAY_LIST)), "none", FOR_GROUPS, "Loss", KEPT,
       "models with experts: in later steps on a batch, tokens go where they went when sampled (rollout)")
OPTION(ENTROPY_COEF, "entropy_coef", FLOAT(-1e6, 1e6), "0.0", FOR_GROUPS, "Loss", KEPT,
       "weight of the entropy bonus, which is taken from the loss; 0: none")
OPTION(USE_ADAPTIVE_ENTROPY, "use_adaptive_entropy", SWITCH, "false", FOR_GROUPS, "Loss", KEPT,
       "let the entropy bonus grow while the entropy is at most entropy_target, and shrink above it")
OPTION(ENTROPY_COEF_MIN, "entropy_coef_min", FLOAT(-1e6, 1e6), "0.0", FOR_GROUPS, "Loss", KEPT,
       "use_adaptive_entropy: least weight of the bonus")
OPTION(ENTROPY_COEF_MAX, "entropy_coef_max", FLOAT(-1e6, 1e6), "1.0", FOR_GROUPS, "Loss", KEPT,
       "use_adaptive_entropy: greatest weight of the bonus")
OPTION(ENTROPY_COEF_DELTA, "entropy_coef_delta", FLOAT(0, 1e6), "0.005", FOR_GROUPS, "Loss", KEPT,
       "use_adaptive_entropy: how far the weight moves in a step")
OPTION(ENTROPY_TARGET, "entropy_target", FLOAT(0, 1000), "0.2", FOR_GROUPS, "Loss", KEPT,
       "use_adaptive_entropy: entropy in nats above which there is no bonus")
OPTION(MASK_TRUNCATED_COMPLETIONS, "mask_truncated_completions", SWITCH, "false", FOR_GROUPS, "Loss", KEPT,
       "leave completions that reached max_completion_length out of the loss")
OPTION(NUM_ITERATIONS, "num_iterations", INT(1, 1000), "1", FOR_GROUPS, "Loss", KEPT,
       "times that each generation batch is gone through")

/* ---- Optimizer ---- */
OPTION(LEARNING_RATE, "learning_rate", SINGLE(0, 10), "2e-5", FOR_SFT, "Optimizer", ACCEPTED(SCHEDULE),
       "peak learning rate")
ALSO(LEARNING_RATE, "learning_rate", SINGLE(0, 10), "1e-6", FOR_DRAWN | FOR_DPO | FOR_KTO | FOR_ORPO | FOR_CPO,
     "Optimizer", ACCEPTED(SCHEDULE), "peak learning rate")
ALSO(LEARNING_RATE, "learning_rate", SINGLE(0, 10), "1e-4", FOR_REWARD, "Optimizer", ACCEPTED(SCHEDULE),
     "peak learning rate")
/* TRL's default is linear; a constant rate makes a step independent of the planned number of steps, so that a run can
 * be extended and the longer run is still the same run. */
OPTION(LR_SCHEDULER_TYPE, "lr_scheduler_type", ONE_OF(WORDS(SCHEDULE_LIST)), "constant",
       FOR_TRAIN, "Optimizer", ACCEPTED(SCHEDULE),
       "how the learning rate changes after the warm-up (docs/NUMERICS.md)")
OPTION(LR_SCHEDULER_KWARGS, "lr_scheduler_kwargs", PAIRS, NULL, FOR_TRAIN, "Optimizer", ACCEPTED(SCHEDULE),
       "parameters of lr_scheduler_type, such as num_decay_steps=20,min_lr_ratio=0.1 (docs/NUMERICS.md)")
OPTION(WARMUP_STEPS, "warmup_steps", COUNT_OR_SHARE, "0", FOR_TRAIN, "Optimizer", ACCEPTED(SCHEDULE),
       "steps over which the learning rate rises from 0; below 1: their share of all steps, rounded up")
OPTION(OPTIM, "optim", ONE_OF(WORDS(OPTIM_LIST)), "adamw_torch_fused", FOR_TRAIN | FOR_INFO, "Optimizer", KEPT,
       "optimizer (docs/OPTIMIZERS.md); muon: matrices of layers, AdamW for the rest")
OPTION(OPTIM_ARGS, "optim_args", PAIRS, NULL, FOR_TRAIN | FOR_INFO, "Optimizer", KEPT,
       "arguments of optim, such as momentum=0.9,nesterov=true (docs/OPTIMIZERS.md)")
OPTION(LR_GROUPS, "lr_groups", PAIRS, NULL, FOR_TRAIN, "Optimizer", KEPT,
       "factors of the learning rate by tensor name, such as lm_head=0.1,lora_B=16 (docs/OPTIMIZERS.md)")
OPTION(WEIGHT_DECAY_GROUPS, "weight_decay_groups", PAIRS, NULL, FOR_TRAIN, "Optimizer", KEPT,
       "weight decays by tensor name in place of weight_decay, such as embed_tokens=0")
OPTION(ADAM_BETA1, "adam_beta1", SINGLE(0, 0.9999999), "0.9", FOR_TRAIN, "Optimizer", KEPT,
       "decay of the mean of the gradient")
OPTION(ADAM_BETA2, "adam_beta2", SINGLE(0, 0.9999999), "0.999", FOR_TRAIN, "Optimizer", KEPT,
       "decay of the mean of the squared gradient")
OPTION(ADAM_EPSILON, "adam_epsilon", SINGLE(TINY, 1), "1e-8", FOR_TRAIN, "Optimizer", KEPT,
       "added to the square root of the mean squared gradient")
OPTION(WEIGHT_DECAY, "weight_decay", SINGLE(0, 10), "0", FOR_TRAIN, "Optimizer", KEPT,
       "decoupled weight decay, multiplied by the learning rate; of matrices, not of norms and biases")
OPTION(MAX_GRAD_NORM, "max_grad_norm", FLOAT(0, BIG), "1.0", FOR_TRAIN, "Optimizer", KEPT,
       "the gradient is scaled down to this norm; 0: no clipping")
OPTION(EMA_DECAY, "ema_decay", FLOAT(0, 0.9999999999), NULL, FOR_TRAIN | FOR_INFO, "Optimizer", KEPT,
       "keep a mean of the weights, E = E + (1 - ema_decay) (W - E) after each update; written to final-ema")
OPTION(MOMENTS_DTYPE, "moments_dtype", ONE_OF(WORDS(MOMENTS_TYPE_LIST)), "f32",
       FOR_TRAIN | FOR_INFO | FOR_BENCH, "Optimizer", KEPT,
       "AdamW's two moments; bf16 (stochastically rounded) halves their memory")
OPTION(OFFLOAD, "offload", SOME_OF(WORDS(OFFLOAD_LIST)), NULL, FOR_TRAIN | FOR_INFO | FOR_BENCH, "Optimizer", FREE,
       "keep in the host's memory in place of a GPU's (docs/OPTIMIZERS.md); the results are the same")
OPTION(BATCH_SIZE, "batch_size", INT(1, 1048576), "8", FOR_ROWS, "Optimizer", KEPT,
       "rows in one optimizer step")
ALSO(PER_DEVICE_TRAIN_BATCH_SIZE, "per_device_train_batch_size", INT(1, 1048576), NULL, FOR_ROWS, "Optimizer", KEPT,
       "rows in one optimizer step, divided by gradient_accumulation_steps; unset: batch_size says it")
ALSO(GRADIENT_ACCUMULATION_STEPS, "gradient_accumulation_steps", INT(1, 1048576), "1", FOR_ROWS, "Optimizer", KEPT,
       "factor of per_device_train_batch_size")
OPTION(MICRO_BATCH_TOKENS, "micro_batch_tokens", INT(0, COUNT), "0",
       FOR_TRAIN | FOR_INFO | FOR_BENCH | FOR_LOGPROBS, "Optimizer", KEPT,
       "tokens of one pass; sets memory and speed; 0: 2048 on a CPU, 24576 on a GPU, fewer for wide models")
OPTION(RECOMPUTE, "recompute", ONE_OF(AUTO_OR(RECOMPUTE_LIST)), "auto",
       FOR_TRAIN | FOR_INFO | FOR_BENCH, "Optimizer", FREE,
       "recompute activations in the backward to save memory; auto: only if memory requires it")
OPTION(GRADIENT_LANES, "gradient_lanes", INT(0, 1024), "0", FOR_TRAIN, "Optimizer", KEPT,
       "a power of two: the sum of micro-batches has so many lanes, which ranks share; 0: as many as ranks")
OPTION(SHARD, "shard", ONE_OF(WORDS(SHARD_LIST)), "state", FOR_SFT | FOR_GROUPS, "Optimizer", FREE,
       "what ranks divide: what the optimizer keeps, or layers' weights too; same results (docs/RANKS.md)")

/* ---- Run ---- */
ALIAS("o", OUT)
OPTION(OUT, "out", FOLDER, NULL, FOR_INIT | FOR_MERGE, "Run", NO_RUN,
       "folder to write the checkpoint into; it must not exist")
ALSO(OUT, "out", FOLDER, NULL, FOR_TRAIN, "Run", PLACE,
     "run folder to write: a new one, or with --resume the one to continue")
ALSO(CONFIG, "config", FILE_NAME, NULL, FOR_YAML, "Run", PLACE,
     "YAML file of options, one 'name: value' per line; flags override it")
OPTION(STEPS, "steps", INT(1, MANY), NULL, FOR_TRAIN, "Run", FREE,
       "optimizer steps; unset: as many as epochs take")
OPTION(EPOCHS, "epochs", INT(1, 1000000), "3", FOR_ROWS, "Run", FREE,
       "passes over the data if steps is unset")
ALSO(EPOCHS, "epochs", INT(1, 1000000), "1", FOR_DRAWN, "Run", FREE,
     "passes over the data if steps is unset")
OPTION(LOGGING_STEPS, "logging_steps", INT(1, COUNT), "10", FOR_ROWS, "Run", FREE,
       "print a line every N optimizer steps; metrics.jsonl has every step")
ALSO(LOGGING_STEPS, "logging_steps", INT(1, COUNT), "1", FOR_DRAWN, "Run", FREE,
     "print a line every N optimizer steps; metrics.jsonl has every step")
OPTION(LOG_FORMAT, "log_format", ONE_OF(WORDS(OUTPUT_FORMAT_LIST)), "text", FOR_TRAIN, "Run", FREE,
       "that line: columns for people (text), or the step's metrics, and its warnings, as JSON (jsonl)")
OPTION(STOP_ON, "stop_on", ONE_OF(WORDS(STOP_ON_LIST)), "nothing", FOR_TRAIN, "Run", FREE,
       "diverged: save and stop, with exit code 3, once a warning says that the run will not recover")
OPTION(SAVE_STEPS, "save_steps", INT(0, MANY), "500", FOR_TRAIN, "Run", FREE,
       "write a checkpoint every N optimizer steps; 0: never by steps")
OPTION(SAVE_MINUTES, "save_minutes", FLOAT(0, 1e6), "15", FOR_TRAIN, "Run", FREE,
       "also write one N minutes after the last, in at most 3 % of the time; 0: never by the clock")
OPTION(SAVE_TOTAL_LIMIT, "save_total_limit", INT(1, MANY), NULL, FOR_TRAIN, "Run", FREE,
       "keep the newest N checkpoints; unset: all, but only two of those written by the clock")
OPTION(RESUME, "resume", FOLDER_OR("latest"), NULL, FOR_TRAIN, "Run", PLACE,
       "continue the run in --out from 'latest' (or start it), or from one of its checkpoint folders")
OPTION(ACCEPT_CHANGED, "accept_changed", SOME_OF(WORDS(INPUT_KIND_LIST)), NULL, FOR_TRAIN, "Run", PLACE,
       "with --resume: what may differ from what the run read before")
OPTION(LOG_COMPLETIONS, "log_completions", SWITCH, "false", FOR_DRAWN, "Run", FREE,
       "write every completion with its rewards into the run folder")
OPTION(REPORT_TO, "report_to", TEXTS, NULL, FOR_TRAIN, "Run", FREE,
       "also to: tensorboard (event files in the run folder), exec:PROGRAM (a JSON line a step), none")
OPTION(KEEP_COMPLETIONS, "keep_completions", TEXT, "all", FOR_DRAWN, "Run", FREE,
       "completions that run.db keeps: all, those of the last N steps and evaluations, or none")
OPTION(SEED, "seed", INT(0, OPTIONS_INT_MAX), "42", FOR_SAMPLE | FOR_INIT | FOR_ROWS | FOR_BENCH, "Run", KEPT,
       "all randomness follows from this")
OPTION(FORMAT, "format", ONE_OF(WORDS(ANSWER_FORMAT_LIST)), "text", FOR_GENERATE, "Run", NO_RUN,
       "text; jsonl: a row a completion (always with --batch); json: one document, with what it took")
OPTION(UNORDERED, "unordered", SWITCH, "false", FOR_GENERATE, "Run", NO_RUN,
       "print rows as they are finished, not in the order of --batch; index says which is which")
ALSO(FORMAT, "format", ONE_OF(WORDS(OUTPUT_FORMAT_LIST)), "text",
       FOR_TOKENIZE | FOR_PERPLEXITY | FOR_EVAL | FOR_BENCH | FOR_DATA, "Run", NO_RUN,
       "format of what is printed; always jsonl with --batch")
ALSO(FORMAT, "format", ONE_OF(WORDS(EXPORT_FORMAT_LIST)), "text", FOR_RUNS, "Run", NO_RUN,
     "form of what is printed: text, jsonl, csv; of export also parquet and tensorboard (text: jsonl)")
ALSO(OUT, "out", FOLDER, NULL, FOR_FORK, "Run", NO_RUN,
     "run folder to write; it must not exist")
ALSO(OUT, "out", FILE_NAME, NULL, FOR_RUNS, "Run", NO_RUN,
     "of export: file to write, for tensorboard a folder; unset: standard output")
ALSO(OUT, "out", FILE_NAME, NULL, FOR_REPORT | FOR_PLOT, "Run", NO_RUN,
     "file to write; unset: report.html, or METRIC.svg, in the run folder")
OPTION(PLAIN, "plain", SWITCH, "false", FOR_WATCH, "Run", NO_RUN,
       "print lines, as into a pipe, instead of drawing on the terminal")
OPTION(ASCII, "ascii", SWITCH, "false", FOR_WATCH, "Run", NO_RUN,
       "draw with ASCII characters alone; also where the locale has no UTF-8")
OPTION(READ_ONLY, "read_only", SWITCH, "false", FOR_WATCH, "Run", NO_RUN,
       "only look: no key pauses or saves a run")
OPTION(RUN, "run", TEXTS, NULL, FOR_REPORT | FOR_PLOT | FOR_WATCH, "Run", NO_RUN,
       "runs, also without --run: names in --runs, or run folders")
OPTION(ACTION, "action", TEXTS, NULL, FOR_RUNS, "Run", NO_RUN,
       "what to do, also without --action: list, show NAME, compare A B, completions, export, sql")
OPTION(FROM, "from", TEXT, NULL, FOR_FORK, "Run", NO_RUN,
       "run, or RUN@STEP, also without --from")
OPTION(RUNS, "runs", FOLDER, "runs", FOR_RUNS | FOR_FORK | FOR_REPORT | FOR_PLOT | FOR_WATCH, "Run", NO_RUN,
       "folder of runs, in which names are looked up")
OPTION(STEP, "step", TEXT, NULL, FOR_RUNS, "Run", NO_RUN,
       "of completions and export: a step, or FIRST:LAST (either may be left out)")
OPTION(SET, "set", TEXT, "train", FOR_RUNS, "Run", NO_RUN,
       "completions of: train, all, or an evaluation's set (eval where it has no name)")
OPTION(REWARD_BELOW, "reward_below", FLOAT(-BIG, BIG), NULL, FOR_RUNS, "Run", NO_RUN,
       "completions whose reward is less")
OPTION(REWARD_ABOVE, "reward_above", FLOAT(-BIG, BIG), NULL, FOR_RUNS, "Run", NO_RUN,
       "completions whose reward is more")
OPTION(REWARD_NAME, "reward_name", TEXT, NULL, FOR_RUNS, "Run", NO_RUN,
       "the function whose reward is compared; unset: the weighted sum")
OPTION(FINISH, "finish", TEXT, NULL, FOR_RUNS, "Run", NO_RUN,
       "completions that ended so: eos, stop, length")
OPTION(SEARCH, "search", TEXT, NULL, FOR_RUNS, "Run", NO_RUN,
       "completions that contain this text, letter case apart")
OPTION(ORDER, "order", ONE_OF(WORDS(COMPLETION_ORDER_LIST)), "step", FOR_RUNS, "Run", NO_RUN,
       "order of completions: step, newest first, best or worst reward first")
OPTION(LIMIT, "limit", INT(0, MANY), NULL, FOR_RUNS, "Run", NO_RUN,
       "completions at most; 0: all; unset: 20 as text, else all")
OPTION(WHOLE, "whole", SWITCH, "false", FOR_RUNS, "Run", NO_RUN,
       "print long prompts and completions whole")
OPTION(TABLE, "table", ONE_OF(WORDS(EXPORT_TABLE_LIST)), "metrics", FOR_RUNS, "Run", NO_RUN,
       "what export writes")
OPTION(METRIC, "metric", TEXTS, NULL, FOR_RUNS, "Run", NO_RUN,
       "of export: these metrics alone")
ALSO(METRIC, "metric", TEXTS, NULL, FOR_PLOT, "Run", NO_RUN,
     "what is drawn; unset: reward and evaluations, of sft loss")
OPTION(MEMORY, "memory", SWITCH, "false", FOR_INFO, "Run", NO_RUN,
       "print the memory plan")
OPTION(VERIFY, "verify", SWITCH, "false", FOR_INFO, "Run", NO_RUN,
       "check the files of --model against its SHA256SUMS and name those that differ")
OPTION(KIND, "kind", SOME_OF(WORDS(BENCH_LIST)), NULL, FOR_BENCH, "Run", NO_RUN,
       "what to measure; unset: all but lora (an adapter beside all weights); exactness: its cost on a GPU")
OPTION(QUICK, "quick", SWITCH, "false", FOR_BENCH, "Run", NO_RUN,
       "use fewer tokens and repetitions: a first look, not a measurement")

/* ---- Machine ---- */
OPTION(THREADS, "threads", INT(0, 1024), "0", FOR_COMPUTE | FOR_SCORE, "Machine", FREE,
       "CPU threads; 0: one for each core")
OPTION(DEVICE, "device", TEXT, "auto", FOR_COMPUTE | FOR_SCORE, "Machine", FREE,
       "where to compute: auto, cpu, cuda or cuda:N (GPU N, from 0); auto: a GPU if there is one")
OPTION(ISA, "isa", ONE_OF(AUTO_OR(CPU_ISA_LIST)), "auto",
       FOR_COMPUTE | FOR_SCORE, "Machine", KEPT,
       "instruction set of the kernels; auto: the best this CPU has")
OPTION(RANK_TIMEOUT, "rank_timeout", FLOAT(0.1, 1e6), "1800", FOR_TRAIN | FOR_EVAL | FOR_GENERATE, "Machine", FREE,
       "seconds that a rank waits for another before the run fails (docs/RANKS.md)")
OPTION(MEMORY_LIMIT, "memory_limit", FLOAT(0, 1e6), "0", FOR_COMPUTE | FOR_SCORE, "Machine", FREE,
       "GB that tensors may take; 0: what the machine has")

/* clang-format on */
#undef OPTION
#undef ALSO

/* ---- TRL's names of options above ---- */
SYNONYM("chat_template_path", CHAT_TEMPLATE, NULL)
SYNONYM("data_seed", DATA_SHUFFLE_SEED, NULL)
SYNONYM("max_seq_length", MAX_LENGTH, NULL) /* until TRL 0.19 */
SYNONYM("max_steps", STEPS, "-1")
SYNONYM("model_name_or_path", MODEL, NULL)
SYNONYM("num_train_epochs", EPOCHS, NULL)
SYNONYM("output_dir", OUT, NULL)
SYNONYM("resume_from_checkpoint", RESUME, NULL)
SYNONYM("vllm_structured_outputs_regex", GUIDED_REGEX, NULL)
#undef ALIAS
#undef SYNONYM
