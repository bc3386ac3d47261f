import type {
  CPOOptions, DPOOptions, DistillationOptions, GRPOOptions, KTOOptions, ModelOptions, ORPOOptions, RewardOptions, SFTOptions,
} from './options';
export type {
  CPOOptions, DPOOptions, DistillationOptions, GRPOOptions, KTOOptions, ModelOptions, ORPOOptions, RewardOptions, SFTOptions,
} from './options';

/** Version of the library. */
export declare const version: string;

export type CohortErrorCode =
  | 'ERR_COHORT_ARGUMENT' | 'ERR_COHORT_IO' | 'ERR_COHORT_FORMAT' | 'ERR_COHORT_UNSUPPORTED' | 'ERR_COHORT_MEMORY' | 'ERR_COHORT_STATE'
  | 'ERR_COHORT_REWARD' | 'ERR_COHORT_REWARD_TIMEOUT' | 'ERR_COHORT_NUMERIC' | 'ERR_COHORT_CANCELLED' | 'ERR_COHORT_DIVERGED'
  | 'ERR_COHORT_INTERNAL' | 'ERR_COHORT_CLOSED';

/** What the library failed with: its message, and its status as code. */
export declare class CohortError extends Error {
  constructor(code: CohortErrorCode, message: string);
  readonly code: CohortErrorCode;
}

/** A reward function that did not answer within rewardTimeout. */
export declare class RewardTimeoutError extends CohortError {
  constructor(message: string, timeoutMs: number);
  readonly timeoutMs: number;
}

/** What an AbortSignal has, of Node or of the browser. */
export interface StopSignal {
  readonly aborted: boolean;
  readonly reason: unknown;
  throwIfAborted(): void;
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

// ---- Messages and tools

export type ChatRole = 'system' | 'user' | 'assistant' | 'tool';

export interface ToolCall {
  id?: string;
  name: string;
  /** JSON text, or the object. */
  arguments: string | Record<string, unknown>;
}

export interface ChatMessage {
  role: ChatRole | (string & {});
  content: string;
  toolCalls?: ToolCall[];
  toolCallId?: string;
  reasoningContent?: string;
}

export interface FunctionParameters {
  type: string;
  /** JSON schemas of the parameters by name, as an object or its JSON text. */
  properties?: string | Record<string, unknown>;
  required?: string[];
}

export interface ToolDefinition {
  type: string;
  function: { name: string; description?: string; parameters?: FunctionParameters };
}

/** A tool that the model may call while it is trained: what call returns (or the text of it) is the answer, and what it throws is one too. */
export interface CallableTool extends ToolDefinition {
  call(args: any): unknown;
}

/**
 * An object for each episode. Its tools are methods of their names (or have a function call); the object is in RewardOutput.environment of the
 * completion that it answered, until the next batch is drawn.
 */
export interface Environment {
  tools: Array<ToolDefinition | CallableTool>;
  /** Begins an episode: row has the columns of the data set, prompt among them. What it returns is put behind the prompt. */
  reset(row: Record<string, any>): unknown;
  /** The episode's reward, where environments reward; null: it cannot be scored. */
  getReward?(): number | null | Promise<number | null>;
  /** When the episode has ended. */
  close?(): unknown;
}

export interface ToolCallResult {
  id: string;
  name: string;
  arguments: Record<string, unknown>;
  status: 'ok' | 'invalid_json' | 'missing_name';
  error?: string;
  rawContent: string;
}

export declare function createToolDefinition(
  name: string, description?: string, properties?: Record<string, unknown>, required?: string[],
): ToolDefinition;

/** What a tool answered, as the content of a message. */
export declare function formatToolResponse(content: unknown): string;

// ---- Generation

export type FinishReason = 'stop' | 'length' | 'repetition' | 'cancelled';

/** Messages (through the chat template), text as it stands, or ids. */
export type Prompt = ChatMessage[] | string | Uint32Array | Int32Array;

export interface GenerationConfig {
  /** 2048; the context may end it before. */
  maxNewTokens?: number;
  /** 1; chat(): 0.7. 0 takes the likeliest token. */
  temperature?: number;
  topK?: number;
  /** 1; chat(): 0.9. */
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  /** How many of the last tokens the penalties look at: 20. */
  repetitionContextSize?: number;
  presenceContextSize?: number;
  frequencyContextSize?: number;
  /** A completion ends ('repetition') where its last tokens are repetitionMinCount (4) times in a row one run of repetitionMinPatternSize (1) to so many. 0: never. */
  repetitionMaxPatternSize?: number;
  repetitionMinPatternSize?: number;
  repetitionMinCount?: number;
  /** Before so many tokens no EOS is drawn. */
  minNewTokens?: number;
  /** What is added to the logits of ids; -Infinity forbids one. */
  logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number>;
  /** Ids that end a completion in place of the model's own; [] none does. */
  eosTokenId?: number | number[];
  /** With every token so many of the most likely ones, up to 64. */
  topLogprobs?: number;
  /** Texts that end a completion; they are not part of it. */
  stop?: string | string[];
  /** Of the draws: the same seed and prompt give the same completions. Chosen anew for each call where neither it nor the model has one. */
  seed?: number | bigint;
  returnLogprobs?: boolean;
  enableThinking?: boolean;
  tools?: ToolDefinition[];
  signal?: StopSignal;
  /** Of MLX-Node; without meaning here. */
  maxConsecutiveTokens?: number;
  maxNgramRepeats?: number;
  ngramSize?: number;
}

export interface GenerationError extends Error {
  /** Of a call that a signal ended: completions as far as they were. */
  partial?: GenerationResult[];
}

export declare class GenerationResult {
  protected constructor();
  readonly text: string;
  /** The token that ended it included. */
  readonly tokens: Uint32Array;
  /** Of each token at the sampling temperature, of the unfiltered and unpenalised distribution, in nats. */
  readonly logprobs: Float32Array;
  readonly finishReason: FinishReason | 'tool_calls';
  readonly numTokens: number;
  /** With topLogprobs: the most likely ids at each token, and their log-probs as logprobs has them. */
  readonly topTokens?: Uint32Array[];
  readonly topLogprobs?: Float32Array[];
}

/** Flat: those of a prompt are consecutive. finishReasons and tokenCounts are [prompt][member]. */
export declare class BatchGenerationResult {
  protected constructor();
  readonly tokens: Uint32Array[];
  readonly logprobs: Float32Array[];
  readonly texts: string[];
  readonly finishReasons: FinishReason[][];
  readonly tokenCounts: number[][];
  readonly numPrompts: number;
  readonly groupSize: number;
}

export declare class ChatResult extends GenerationResult {
  /** Without thinking and calls of tools. */
  readonly text: string;
  readonly rawText: string;
  readonly thinking: string | null;
  readonly toolCalls: ToolCallResult[];
}

export interface StreamChunk {
  /** Text that became certain with this token. */
  text: string;
  token: number;
  logprob: number;
  /** null until the last. */
  finishReason: FinishReason | null;
  index: number;
}

/** Options of `cohort generate` that say how it is computed, and: */
export interface LoadOptions extends ModelOptions {
  /** Tokens of prompt and completion together, for which memory is taken; 0: the model's own. */
  maxContext?: number;
  /** Of draws whose call has none. */
  seed?: number | bigint;
}

export interface Qwen3Config {
  vocabSize: number;
  hiddenSize: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  intermediateSize: number;
  rmsNormEps: number;
  ropeTheta: number;
  maxPositionEmbeddings: number;
  headDim: number;
  useQkNorm: boolean;
  tieWordEmbeddings: boolean;
  padTokenId?: number;
  eosTokenId?: number | number[];
  bosTokenId?: number;
}

/** A loaded model with its tokenizer. Any number of calls may be under way; they are computed together. */
export declare class Qwen3Model {
  protected constructor();
  static load(path: string, options?: LoadOptions): Promise<Qwen3Model>;
  static loadPretrained(path: string, options?: LoadOptions): Promise<Qwen3Model>;
  readonly path: string;
  /** Lines about how it was read that you might not expect. */
  readonly notes: string;
  generate(messages: Prompt, config?: GenerationConfig | null): Promise<GenerationResult>;
  generateBatch(prompts: Prompt[], groupSize?: number, config?: GenerationConfig | null): Promise<BatchGenerationResult>;
  chat(messages: ChatMessage[], config?: GenerationConfig | null): Promise<ChatResult>;
  stream(messages: Prompt, config?: GenerationConfig | null): AsyncGenerator<StreamChunk, void, undefined>;
  applyChatTemplate(
    messages: ChatMessage[], addGenerationPrompt?: boolean | null, tools?: ToolDefinition[] | null, enableThinking?: boolean | null,
  ): Promise<Uint32Array>;
  /** The same as text, for people to read. */
  chatPrompt(messages: ChatMessage[], tools?: ToolDefinition[] | null, enableThinking?: boolean | null): Promise<string>;
  /** Log-probs of ids from promptLength (1) on, each given all before it: those that generation gave, bit for bit. */
  logprobs(tokens: ArrayLike<number>, options?: { promptLength?: number; temperature?: number }): Promise<Float32Array>;
  encode(text: string): Promise<Uint32Array>;
  decode(ids: ArrayLike<number>): Promise<string>;
  getConfig(): Qwen3Config;
  saveModel(path: string): Promise<void>;
  resetCaches(): void;
  close(): void;
}

export declare class ModelLoader {
  static loadPretrained(path: string, deviceMap?: string): Promise<Qwen3Model>;
  static saveModel(model: Qwen3Model, path: string): Promise<void>;
}

export declare function loadModel(path: string, options?: LoadOptions): Promise<Qwen3Model>;

/** Makes a model with random weights: options are those of `cohort init` (preset, tokenizer, seed, dtype, ...). */
export declare function initModel(path: string, options?: Record<string, string | number | boolean>): Promise<void>;

// ---- Rewards

export interface CompletionInfo {
  /** Without thinking and calls of tools. */
  text: string;
  rawText: string;
  toolCalls: ToolCallResult[];
  thinking: string | null;
  numTokens: number;
  finishReason: FinishReason | 'tool_calls';
  tokens: Uint32Array;
}

export interface RewardOutput {
  /** As the model saw it. */
  prompt: string;
  completion: CompletionInfo;
  /** The row's answer, where it has one. */
  expectedAnswer?: string;
  /** Every column of the row. */
  row: Record<string, unknown>;
  promptIndex: number;
  completionIndex: number;
  /** Of a completion of several turns: what was said, tools included. */
  messages?: Array<{ role: string; content: string; [more: string]: unknown }>;
  /** The object that answered its turns (environmentFactory). */
  environment?: any;
}

type Numbers = ArrayLike<number | null | undefined>;
/** A number for each output; null, undefined or NaN: it cannot be scored. context: what trainStep was given. */
export type RewardFunction<T = unknown> = (outputs: RewardOutput[], context: T) => Numbers | Promise<Numbers>;
export type RewardFn = RewardFunction;
/** A list of one number for each token of each completion (ofTokens). */
export type TokenRewardFunction<T = unknown> = (outputs: RewardOutput[], context: T) => Numbers[] | Promise<Numbers[]>;
export type BuiltinReward = (outputs: RewardOutput[]) => number[];

/** Marks a function that rewards tokens. */
export declare function ofTokens<T>(reward: TokenRewardFunction<T>): RewardFunction<T>;

export declare const correctnessReward: BuiltinReward;
export declare const integerReward: BuiltinReward;
export declare const strictFormatReward: BuiltinReward;
export declare const softFormatReward: BuiltinReward;
export declare const xmlCountReward: BuiltinReward;
export declare const accuracyReward: BuiltinReward;
export declare const ALL_REWARD_FUNCTIONS: BuiltinReward[];

export type BuiltinRewardType = 'ToolUse' | 'XmlFormat' | 'Length' | 'JsonSchema';

export interface BuiltinRewardConfig {
  rewardType: BuiltinRewardType;
  weight?: number;
  allowedTools?: string[];
  required?: boolean;
  requiredTags?: string[];
  minLength?: number;
  maxLength?: number;
  useChars?: boolean;
  requiredFields?: string[];
  /** A JSON schema, or a file of one. */
  schema?: string | Record<string, unknown>;
}

/** Built-in rewards together: the mean of their scores by weight. */
export declare class NativeRewardRegistry {
  constructor();
  register(config: BuiltinRewardConfig): void;
  score(prompt: string, completion: string): number;
  scoreBatch(prompts: string[], completions: string[]): number[];
  readonly isEmpty: boolean;
  readonly names: BuiltinRewardType[];
  readonly weights: number[];
  readonly options: Record<string, unknown>;
  /** false: the sum by weight. */
  setNormalize(normalize: boolean): void;
}

export declare function createRewardRegistry(): NativeRewardRegistry;

export declare function parseToolCallsFromText(text: string): { text: string; toolCalls: ToolCallResult[] };
export declare function buildRewardOutputs(
  prompts: string[], completions: string[], answers: Array<string | null | undefined>, tokenCounts?: number[], finishReasons?: string[], groupSize?: number,
): RewardOutput[];

// ---- Training

export interface DatasetExample {
  prompt: ChatMessage[] | string;
  answer?: string | null;
  metadata?: Record<string, unknown>;
  [column: string]: unknown;
}

type OwnOptions = 'model' | 'out' | 'data' | 'evalData' | 'reward' | 'resume' | 'config' | 'device' | 'repetitionPenalty' | 'lossType' | 'tools' | 'environment';

export interface GRPOTrainerConfig<T = unknown> extends Omit<GRPOOptions, OwnOptions> {
  modelPath?: string;
  /** The run folder: './outputs'. */
  outputDir?: string;
  rewardFunction?: RewardFunction<T>;
  /** Milliseconds for an answer of the reward function: 60000; 0: no limit. */
  rewardTimeout?: number;
  resumeFromCheckpoint?: string | boolean;
  numEpochs?: number;
  /** Prompts of a step: 1; times gradientAccumulationSteps. */
  batchSize?: number;
  /** Completions of a prompt: 4. */
  groupSize?: number;
  clipEpsilon?: number;
  klCoef?: number;
  lossType?: GRPOOptions['lossType'];
  advantageNormalization?: boolean;
  /** 256. */
  maxNewTokens?: number;
  /** Of trainStep and its like: 1024. */
  maxPromptLength?: number;
  repetitionPenalty?: number;
  /** For the prompts of rows that have none; with functions (in all of them) calls are run, and an episode goes on until a turn has none. */
  tools?: ToolDefinition[] | CallableTool[];
  enableThinking?: boolean;
  gradientClipNorm?: number;
  logInterval?: number;
  saveInterval?: number;
  maxCheckpoints?: number;
  evalDataset?: Iterable<DatasetExample> | string;
  evalInterval?: number;
  logConsole?: boolean;
  device?: string;
  maxSteps?: number;
  signal?: StopSignal;
  outputStore?: { enabled: boolean; localPath?: string; remoteUrl?: string; authToken?: string; syncInterval?: number };
  runName?: string;
  rewardType?: 'function' | 'builtin' | 'model';
  /** A class, or a function that makes an object for each episode, which answers the model's turns. */
  environmentFactory?: (new () => Environment) | (() => Environment);
  /** The folder of a reward model, beside a rewardFunction or in its place. */
  rewardModelPath?: string;
  optimizerType?: 'sgd' | 'adamw';
  adamwBeta1?: number;
  adamwBeta2?: number;
  adamwEps?: number;
  /** Of MLX-Node; without meaning here, which is said once. */
  modelConfig?: string;
  modelName?: string;
  maxCompletionLengthForTraining?: number;
  gradientClipValue?: number;
  gradientCheckpointing?: boolean;
  logJsonl?: boolean;
  tuiMode?: boolean;
  lmHeadChunkSize?: number;
  forwardChunkSize?: number;
  vocabChunkSize?: number;
  useParallelBatchGeneration?: boolean;
  verboseNanDetection?: boolean;
  maxNanGradients?: number;
  emergencySaveThreshold?: number;
  heavyCleanupInterval?: number;
  memoryCleanupThreshold?: number;
}
export type GRPOConfig<T = unknown> = GRPOTrainerConfig<T>;

export declare const DEFAULT_GRPO_CONFIG: GRPOTrainerConfig;

/** NaN where the step has no such figure. */
export interface TrainStepMetrics {
  step: number;
  loss: number;
  meanReward: number;
  stdReward: number;
  meanAdvantage: number;
  stdAdvantage: number;
  totalTokens: number;
  gradientsApplied: boolean;
  generationTimeMs: number;
  trainingTimeMs: number;
  epoch: number;
  kl: number;
  entropy: number;
  clipRatio: number;
  gradNorm: number;
  learningRate: number;
  /** All figures under the names of metrics.jsonl (docs/GRPO.md). */
  raw: Record<string, number | null>;
}
export type TrainingMetrics = TrainStepMetrics;

export interface TrainSummary {
  /** Optimizer steps done. */
  steps: number;
  /** It was asked to stop. */
  stopped: boolean;
  metrics: TrainStepMetrics | null;
  outputDir: string;
  /** The trained model, where training came to its end. */
  finalPath: string | null;
  checkpoint: string | null;
}

export interface GenerateBatchResult {
  completionTexts: string[];
  tokenCounts: number[];
  finishReasons: string[];
  nativeResult: { completionTexts: string[]; completionTokens: number[]; completionLengths: number[]; finishReasons: string[];
    completionLogprobs: number[] };
}

export interface EngineEpochMetrics {
  epoch: number;
  avgLoss: number;
  avgReward: number;
  totalSteps: number;
  totalTokens: number;
  epochTimeSecs: number;
}

export interface Progress {
  phase: string;
  unit: string;
  step: number;
  steps: number;
  done: number;
  total: number;
  perSecond: number;
}

export declare class GRPOTrainer<T = unknown> {
  static create<T = unknown>(config: GRPOTrainerConfig<T>): Promise<GRPOTrainer<T>>;
  constructor(model: Qwen3Model | null, config?: GRPOTrainerConfig<T>);
  static findLatestCheckpoint(outputDir?: string): string | null;
  readonly modelPath: string;
  outputDir: string;
  registerBuiltinReward(config: BuiltinRewardConfig): void;
  setRewardFunction(reward: RewardFunction<T>): void;
  /** A whole run on rows or a file. What a reward throws ends it at its last checkpoint and is thrown here. */
  train(dataset: Iterable<DatasetExample> | string): Promise<TrainSummary>;
  /** Asks train() to save a checkpoint and end. */
  stop(): void;
  trainStep(prompts: Array<ChatMessage[] | string>, answersOrContext?: Array<string | null> | T): Promise<TrainStepMetrics>;
  trainStepAuto(prompts: Array<ChatMessage[] | string>, answersOrContext?: Array<string | null> | T): Promise<{
    metrics: TrainStepMetrics; completions: string[]; rewards: number[];
  }>;
  generateBatch(prompts: Array<ChatMessage[] | string>): Promise<GenerateBatchResult>;
  scoreCompletions(prompts: string[], completions: string[]): number[];
  scoreGenerations(
    prompts: Array<ChatMessage[] | string>, completions: string[], answers?: Array<string | null>, groupSize?: number, tokenCounts?: number[],
    finishReasons?: string[],
  ): Promise<Float32Array>;
  saveCheckpoint(name?: string): Promise<string>;
  readonly step: number;
  readonly epoch: number;
  readonly hasBuiltinRewards: boolean;
  readonly rewardNames: BuiltinRewardType[];
  getStep(): number;
  getEpoch(): number;
  startEpoch(): void;
  endEpoch(epochTimeSecs?: number): EngineEpochMetrics;
  reset(outputDir?: string): void;
  getOutputStore(): Promise<OutputStore>;
  close(): void;
  on(event: 'step', listener: (metrics: TrainStepMetrics) => void): this;
  on(event: 'evaluation', listener: (metrics: Record<string, number | null>) => void): this;
  on(event: 'message' | 'checkpoint', listener: (text: string) => void): this;
  on(event: 'progress', listener: (progress: Progress) => void): this;
  off(event: string, listener: (...values: never[]) => void): this;
}

// ---- Training on rows, on preferences, and from a teacher

/** A row of a data set (docs/SFT.md, docs/TRAINERS.md): text, messages, prompt and completion, chosen and rejected, label ... */
export type Row = Record<string, unknown>;

type RunOptions = 'model' | 'out' | 'data' | 'evalData' | 'reward' | 'resume' | 'config' | 'tools';
/** Settings of every trainer but GRPOTrainer; names of MLX-Node's (numEpochs, batchSize ...), and: */
export interface RunSettings {
  modelPath?: string;
  /** The run folder: './outputs'. */
  outputDir?: string;
  resumeFromCheckpoint?: string | boolean;
  evalDataset?: Iterable<Row> | string;
  evalInterval?: number;
  numEpochs?: number;
  maxSteps?: number;
  /** Rows of a step; of DistillationTrainer prompts. */
  batchSize?: number;
  gradientClipNorm?: number;
  logInterval?: number;
  saveInterval?: number;
  maxCheckpoints?: number;
  logConsole?: boolean;
  signal?: StopSignal;
}
export type SFTTrainerConfig = Omit<SFTOptions, RunOptions> & RunSettings & { maxSeqLength?: number };
export type DPOTrainerConfig = Omit<DPOOptions, RunOptions> & RunSettings;
export type KTOTrainerConfig = Omit<KTOOptions, RunOptions> & RunSettings;
export type ORPOTrainerConfig = Omit<ORPOOptions, RunOptions> & RunSettings;
export type CPOTrainerConfig = Omit<CPOOptions, RunOptions> & RunSettings;
export type RewardTrainerConfig = Omit<RewardOptions, RunOptions> & RunSettings;
export type DistillationTrainerConfig = Omit<DistillationOptions, RunOptions> & RunSettings & {
  teacherModelPath?: string;
  maxNewTokens?: number;
  groupSize?: number;
  enableThinking?: boolean;
  tools?: CallableTool[];
  /** Measured, and not learned from. */
  rewardFunction?: RewardFunction;
  rewardTimeout?: number;
};

export interface RunStepMetrics {
  step: number;
  loss: number;
  epoch: number;
  gradNorm: number;
  learningRate: number;
  /** All figures under the names of metrics.jsonl. */
  raw: Record<string, number | null>;
}

export interface RunSummary {
  steps: number;
  stopped: boolean;
  metrics: RunStepMetrics | null;
  outputDir: string;
  finalPath: string | null;
  checkpoint: string | null;
}

declare class RunTrainer<C> {
  constructor(model: Qwen3Model | null, config?: C);
  static findLatestCheckpoint(outputDir?: string): string | null;
  readonly modelPath: string;
  outputDir: string;
  train(dataset: Iterable<Row> | string): Promise<RunSummary>;
  /** Held-out figures of the trained model, before training of the model itself; of DPO and KTO beside the model as the run began with it. */
  evaluate(dataset?: Iterable<Row> | string): Promise<Record<string, number | null>>;
  /** Asks train() to save a checkpoint and end. */
  stop(): void;
  getOutputStore(): Promise<OutputStore>;
  close(): void;
  on(event: 'step', listener: (metrics: RunStepMetrics) => void): this;
  on(event: 'evaluation', listener: (metrics: Record<string, number | null>) => void): this;
  on(event: 'message' | 'checkpoint', listener: (text: string) => void): this;
  on(event: 'progress', listener: (progress: Progress) => void): this;
}

export declare class SFTTrainer extends RunTrainer<SFTTrainerConfig> {
  static create(config: SFTTrainerConfig): Promise<SFTTrainer>;
}

export declare class DPOTrainer extends RunTrainer<DPOTrainerConfig> {
  static create(config: DPOTrainerConfig): Promise<DPOTrainer>;
}

export declare class KTOTrainer extends RunTrainer<KTOTrainerConfig> {
  static create(config: KTOTrainerConfig): Promise<KTOTrainer>;
}

export declare class ORPOTrainer extends RunTrainer<ORPOTrainerConfig> {
  static create(config: ORPOTrainerConfig): Promise<ORPOTrainer>;
}

export declare class CPOTrainer extends RunTrainer<CPOTrainerConfig> {
  static create(config: CPOTrainerConfig): Promise<CPOTrainer>;
}

export declare class RewardTrainer extends RunTrainer<RewardTrainerConfig> {
  static create(config: RewardTrainerConfig): Promise<RewardTrainer>;
}

export declare class DistillationTrainer extends RunTrainer<DistillationTrainerConfig> {
  static create(config: DistillationTrainerConfig): Promise<DistillationTrainer>;
}

// ---- Records of runs

export interface TrainingRunRecord {
  /** The run folder. */
  id: string;
  name: string;
  command: string;
  modelName: string;
  modelPath: string;
  /** config.yaml. */
  config: string;
  /** Milliseconds since 1970. */
  startedAt: number;
  endedAt?: number;
  totalSteps: number;
  plannedSteps: number;
  status: 'running' | 'completed' | 'stopped' | 'failed' | 'gone' | 'unreadable';
  message: string;
  starts: number;
  parent?: string;
  parentStep?: number;
}

export interface StepSummary {
  step: number;
  loss: number;
  meanReward: number;
  numGenerations: number;
  numToolCalls: number;
  eosCount: number;
  lengthCount: number;
}

export interface StoredStep {
  step: number;
  time: number;
  epoch: number | null;
  metrics: Record<string, number | null>;
}

export interface GenerationRecord {
  step: number;
  batchIndex: number;
  groupIndex: number;
  row: number;
  prompt: string;
  completionText: string;
  completionRaw: string;
  thinking?: string;
  numTokens: number;
  finishReason: string;
  reward: number | null;
  advantage: number | null;
  rewards: Record<string, number | null>;
  logprob: number | null;
  set: string;
}

export interface ToolCallRecord {
  callIndex: number;
  status: 'ok' | 'parse_error' | 'json_error';
  toolName?: string;
  arguments?: string;
  rawContent: string;
  errorMessage?: string;
}

export interface GenerationWithToolCalls {
  generation: GenerationRecord;
  toolCalls: ToolCallRecord[];
}

export interface RewardStats {
  count: number;
  mean: number;
  std: number;
  min: number;
  max: number;
  median: number;
  p25: number;
  p75: number;
}

export interface CompletionQuery {
  /** '' (the default): trained on; '*': all; else the set of an evaluation. */
  set?: string;
  first?: number;
  last?: number;
  group?: number;
  index?: number;
  below?: number;
  above?: number;
  rewardName?: string;
  finishReason?: 'eos' | 'stop' | 'length' | 'cancelled';
  search?: string;
  order?: 'step' | 'newest' | 'best' | 'worst';
  limit?: number;
  skip?: number;
}

export interface StoredEvent {
  id: number;
  step: number;
  time: number;
  kind: string;
  rule: string;
  severity: string;
  text: string;
}

type Run = string | null;

export declare class OutputStore {
  protected constructor();
  /** A run folder, a folder of runs, or the path of a .db in one. */
  static local(path: string): Promise<OutputStore>;
  static fromConfig(config: { localPath: string }): Promise<OutputStore>;
  listRuns(limit?: number | null, status?: string | null): Promise<TrainingRunRecord[]>;
  getRun(run?: Run): Promise<TrainingRunRecord | null>;
  findRunByName(name: string): Promise<TrainingRunRecord | null>;
  currentRunId(): Promise<string | null>;
  getSteps(run?: Run, first?: number, last?: number): Promise<StoredStep[]>;
  getStepSummaries(run?: Run, startStep?: number | null, endStep?: number | null): Promise<StepSummary[]>;
  getRecentStepMetrics(run?: Run, count?: number): Promise<StoredStep[]>;
  getCompletions(run?: Run, query?: CompletionQuery): Promise<GenerationWithToolCalls[]>;
  countCompletions(run?: Run, query?: CompletionQuery): Promise<number>;
  getGenerations(run: Run, step: number): Promise<GenerationWithToolCalls[]>;
  getRecentGenerations(run?: Run, limit?: number): Promise<GenerationWithToolCalls[]>;
  getGenerationsByReward(run?: Run, topN?: number | null, bottomN?: number | null, stepRange?: [number, number] | number[] | null): Promise<GenerationWithToolCalls[]>;
  getGenerationsByFinishReason(run: Run, finishReason: string, limit?: number | null): Promise<GenerationWithToolCalls[]>;
  getGenerationsWithToolCalls(run?: Run, toolName?: string | null, status?: string | null, limit?: number | null): Promise<GenerationWithToolCalls[]>;
  searchGenerations(run: Run, query: string, searchIn?: string | null, limit?: number | null): Promise<GenerationWithToolCalls[]>;
  getRewardStats(run?: Run, stepRange?: [number, number] | number[] | null): Promise<RewardStats>;
  getEvents(run?: Run, query?: { after?: number; kind?: string }): Promise<StoredEvent[]>;
  getInputs(run?: Run): Promise<Array<{ kind: string; path: string; sha256: string }>>;
  exportJsonl(run: Run, outputPath: string, includeToolCalls?: boolean): Promise<number>;
  /** One SELECT over the tables of docs/RUN.md, as JSON text. */
  queryRaw(sql: string, run?: Run): Promise<string>;
  flush(): Promise<void>;
  /** Not here: a run writes its own record. They throw. */
  startRun(...values: unknown[]): never;
  endRun(...values: unknown[]): never;
  recordStep(...values: unknown[]): never;
  recordStepFromOutputs(...values: unknown[]): never;
  close(): void;
}

// ---- Data sets

export declare const SYSTEM_PROMPT: string;
export declare const XML_COT_FORMAT: string;

export interface PromptFormatterOptions {
  includeOneShot?: boolean;
  oneShotExample?: { question: string; reasoning: string; answer: string };
}
export type PromptTemplate = (question: string, options?: PromptFormatterOptions) => ChatMessage[];
export interface LocalDatasetOptions extends PromptFormatterOptions {
  basePath?: string;
  promptTemplate?: PromptTemplate;
  metadata?: Record<string, unknown>;
  limit?: number;
}

export declare const defaultPromptTemplate: PromptTemplate;
export declare function extractXmlAnswer(text: string): string | null;
export declare function extractXmlReasoning(text: string): string | null;
export declare function extractHashAnswer(text: string): string | null;
export declare function extractGsm8kAnswer(text: string): string | null;
export declare function createDatasetExample(prompt: ChatMessage[], answer: string | null, metadata?: Record<string, unknown>): DatasetExample;
export declare function validateDatasetExample(example: DatasetExample): void;
export declare function loadLocalGsm8kDataset(split: 'train' | 'test' | (string & {}), options?: LocalDatasetOptions): Promise<DatasetExample[]>;
export declare class LocalGsm8kDatasetLoader {
  constructor(options?: LocalDatasetOptions);
  load(split: 'train' | 'test' | (string & {}), limit?: number): Promise<DatasetExample[]>;
}
