'use strict';
// GRPOTrainer: train(data) is one call of the command that `cohort grpo` runs; trainStep() and its like go step by step.
const fs = require('node:fs');
const path = require('node:path');
const { EventEmitter } = require('node:events');
const { native, CohortError, RewardTimeoutError, optionPairs, optionTable, notice, camel } = require('./native.js');
const { Qwen3Model, messageOf, toolOf } = require('./model.js');
const { BUILTIN, NativeRewardRegistry, scoresOf, nameOf } = require('./rewards.js');
const { Bridge, outputOf } = require('./run.js');
const { answersOf } = require('./tools.js');
const { Training, findLatestCheckpoint, checkFolder } = require('./training.js');

/** MLX-Node's defaults. What is not here has the library's (docs/OPTIONS.md). */
const DEFAULT_GRPO_CONFIG = {
  learningRate: 1e-6, gradientAccumulationSteps: 1, gradientClipNorm: 1.0, weightDecay: 0.01, numEpochs: 1, batchSize: 1, groupSize: 4,
  clipEpsilon: 0.2, klCoef: 0.0, lossType: 'grpo', advantageNormalization: true, maxNewTokens: 256, temperature: 0.8, topP: 0.95,
  repetitionPenalty: 1.1, logInterval: 1, saveInterval: 100, logConsole: true, maxCheckpoints: 3, rewardTimeout: 60000,
};

/** Settings of the trainer itself. */
const OWN = new Set([
  'modelPath', 'outputDir', 'rewardFunction', 'rewardTimeout', 'resumeFromCheckpoint', 'logConsole', 'tools', 'environmentFactory', 'maxPromptLength', 'evalDataset',
  'evalInterval', 'outputStore', 'signal', 'runName', 'rewardType', 'rewardModelPath', 'gradientAccumulationSteps', 'batchSize', 'steps', 'maxSteps',
]);

/** MLX-Node's names of options: another name, or what they mean. */
const NAMES = {
  numEpochs: 'epochs', groupSize: 'num_generations', clipEpsilon: 'epsilon', klCoef: 'beta', maxNewTokens: 'max_completion_length',
  gradientClipNorm: 'max_grad_norm', saveInterval: 'save_steps', logInterval: 'logging_steps', enableThinking: 'thinking',
  advantageNormalization: (value) => (value === false ? { scale_rewards: 'none' } : {}),
  maxCheckpoints: (value) => (value > 0 ? { save_total_limit: value } : {}),
  repetitionPenalty: (value, given) => ({ repetition_penalty: value, ...(given.repetitionContext === undefined ? { repetition_context: 256 } : {}) }),
  adamwBeta1: 'adam_beta1', adamwBeta2: 'adam_beta2', adamwEps: 'adam_epsilon',
  optimizerType: (value) => ({ optim: value === 'adamw' ? 'adamw_torch' : value }),
  device: (value) => (['metal', 'gpu', 'mps'].includes(value) ? {} : { device: value }),
};

const WITHOUT_MEANING = {
  modelConfig: 'the folder says what the model is', modelName: 'the folder says what the model is', maxCompletionLengthForTraining: 'completions are trained on whole',
  gradientClipValue: 'gradients are clipped by their norm alone, as before', logJsonl: 'metrics.jsonl has every step', tuiMode: '`cohort watch` looks at any run',
  lmHeadChunkSize: 'memory is planned', forwardChunkSize: 'memory is planned', vocabChunkSize: 'memory is planned',
  useParallelBatchGeneration: 'completions are always computed together', verboseNanDetection: 'a step that is not finite is skipped and said',
  gradientCheckpointing: 'activations are computed again where memory asks for it (recompute)', maxNanGradients: 'a step that is not finite is skipped and said',
  emergencySaveThreshold: 'a step that is not finite is skipped and said', heavyCleanupInterval: 'memory is planned', memoryCleanupThreshold: 'memory is planned',
};

const METRICS = {
  step: 'step', loss: 'loss', meanReward: 'reward', stdReward: 'reward_std', epoch: 'epoch', kl: 'kl', entropy: 'entropy',
  clipRatio: 'clip_ratio/region_mean', gradNorm: 'grad_norm', learningRate: 'learning_rate',
};

/** metrics.jsonl's names as TrainStepMetrics; all of them are in raw. last: of the step before; n: completions of this one. */
function metricsOf(raw, last, n, scaled) {
  const metrics = { raw };
  for (const [name, key] of Object.entries(METRICS)) metrics[name] = raw[key] ?? (name === 'kl' ? 0 : NaN);
  metrics.meanAdvantage = 0; // of a group, by what an advantage is
  metrics.stdAdvantage = scaled ? Number(metrics.stdReward > 0) : metrics.stdReward;
  metrics.totalTokens = Math.round((raw['completions/mean_length'] ?? NaN) * n);
  metrics.gradientsApplied = !((raw.skipped_steps ?? 0) > (last?.raw.skipped_steps ?? 0));
  metrics.generationTimeMs = 1000 * (raw['time/rollout'] ?? NaN);
  metrics.trainingTimeMs = 1000 * (raw['time/train'] ?? NaN);
  return metrics;
}

function readConfig(config) {
  if (typeof config !== 'object' || config === null) throw new TypeError('the configuration is no object');
  const given = { ...DEFAULT_GRPO_CONFIG };
  for (const [name, value] of Object.entries(config)) if (value !== undefined) given[name] = value;
  const options = {};
  for (const [name, value] of Object.entries(given)) {
    if (OWN.has(name) || value === null) continue;
    const means = NAMES[name];
    if (name in WITHOUT_MEANING) {
      if (name in config && value !== false) notice(`${name} has no meaning here: ${WITHOUT_MEANING[name]}`);
    } else if (typeof means === 'function') {
      Object.assign(options, means(value, given));
    } else {
      options[means ?? name] = value;
    }
  }
  if (config.device && options.device === undefined) notice(`device: '${config.device}' is not there; the GPU that is found is used (device: 'auto')`);
  const table = optionTable('grpo');
  const has = (name) => Object.keys(config).some((key) => table.get(camel(key))?.name === name);
  if (!has('prompts_per_step') && !has('per_device_train_batch_size') && !has('generation_batch_size')) {
    options.prompts_per_step = given.batchSize * given.gradientAccumulationSteps;
  } else if (config.gradientAccumulationSteps !== undefined) {
    options.gradient_accumulation_steps = config.gradientAccumulationSteps;
  }
  if (!has('shuffle_dataset')) options.shuffle_dataset = false; // rows are taken as they come
  const steps = given.steps ?? given.maxSteps;
  if (steps !== undefined && steps !== null) {
    options.steps = steps;
    if (!('numEpochs' in config)) delete options.epochs;
  }
  const pairs = optionPairs('grpo', options);
  native.optionsCheck('grpo', pairs);
  return { given, pairs };
}

/** A DatasetExample, or a row as the library has them, as a row. */
function rowOf(example, i, tools) {
  if (typeof example !== 'object' || example === null) throw new TypeError(`row ${i} is no object; expected {prompt, answer, ...}`);
  const { prompt } = example;
  if (typeof prompt !== 'string' && !(Array.isArray(prompt) && prompt.length > 0)) {
    throw new TypeError(`row ${i}: prompt is ${Array.isArray(prompt) ? 'empty' : `a ${typeof prompt}`}; expected messages [{role, content}] or a string`);
  }
  return JSON.stringify({
    ...example, prompt: typeof prompt === 'string' ? prompt : prompt.map(messageOf),
    ...(tools && example.tools === undefined && typeof prompt !== 'string' ? { tools: tools.map(toolOf) } : {}),
  });
}

class GRPOTrainer extends EventEmitter {
  #given;
  #pairs;
  #training;
  #registry = new NativeRewardRegistry();
  #reward = null;
  #stepper = null; // a trainer that goes step by step, once it is open
  #opening = null;
  #step = 0;
  #epoch = 0;
  #context = undefined;
  #scored = [];
  #epochSteps = [];
  #count = 0; // completions of a step
  #tools; // what answers the turns of episodes

  /** model: a Qwen3Model, whose folder is trained from; config.modelPath names a folder in its place (GRPOTrainer.create). */
  constructor(model, config = {}) {
    super();
    const { given, pairs } = readConfig(config ?? {});
    this.#given = given;
    this.#tools = answersOf(given.tools, given.environmentFactory);
    this.#pairs = pairs;
    this.#count = pairs.includes('prompts_per_step') ? Number(this.#option('prompts_per_step')) * Number(this.#option('num_generations')) : NaN;
    this.modelPath = model instanceof Qwen3Model ? model.path : given.modelPath;
    if (typeof this.modelPath !== 'string') throw new TypeError('expected a Qwen3Model, or config.modelPath');
    this.outputDir = given.outputDir ?? './outputs';
    this.#training = this.#begin();
    if (given.rewardFunction !== undefined) this.setRewardFunction(given.rewardFunction);
  }

  #option(name) {
    return this.#pairs[this.#pairs.lastIndexOf(name) + 1];
  }

  #begin() {
    const scaled = this.#option('scale_rewards') !== 'none';
    return new Training(this, 'grpo', this.#given, (raw) => {
      const metrics = metricsOf(raw, this.#training.last, this.#count, scaled);
      this.#step = raw.step;
      this.#epoch = Math.max(0, Math.ceil(raw.epoch ?? 0) - 1);
      this.#epochSteps.push(metrics);
      return metrics;
    });
  }

  /** Reads nothing of the model yet: train() and trainStep() do. */
  static async create(config) {
    checkFolder(config, 'GRPOTrainer');
    return new this(null, config);
  }

  static findLatestCheckpoint(outputDir) {
    return findLatestCheckpoint(outputDir);
  }

  registerBuiltinReward(config) {
    this.#notOpen('registerBuiltinReward');
    this.#registry.register(config);
  }

  setRewardFunction(reward) {
    if (typeof reward !== 'function') throw new TypeError(`the reward is a ${typeof reward}; expected a function of outputs`);
    if (this.#stepper !== null && (reward[BUILTIN] || reward.rewardsTokens || this.#stepper.rewarded === 'built in')) this.#notOpen('setRewardFunction');
    this.#reward = reward;
  }

  get hasBuiltinRewards() {
    return !this.#registry.isEmpty;
  }

  get rewardNames() {
    return this.#registry.names;
  }

  get step() {
    return this.#step;
  }

  get epoch() {
    return this.#epoch;
  }

  getStep() {
    return this.#step;
  }

  getEpoch() {
    return this.#epoch;
  }

  #notOpen(what) {
    if (this.#training.state === 'training' || this.#stepper !== null) throw new CohortError('ERR_COHORT_STATE', `${what}: training has begun`);
  }

  // ---- Rewards

  get #isUnrewarded() {
    return this.#reward === null && this.#registry.isEmpty && this.#given.rewardModelPath === undefined && !this.#tools?.rewards;
  }

  /** What rewards a run has: {callbacks, pairs}. */
  #rewards() {
    const reward = this.#reward;
    const { rewardModelPath } = this.#given;
    const judged = rewardModelPath === undefined ? [] : ['reward', `model:${rewardModelPath}`];
    if (reward === null && this.#registry.isEmpty) {
      if (this.#isUnrewarded) throw unrewarded();
      return { callbacks: [], pairs: judged };
    }
    if (judged.length > 0 && (reward === null || reward[BUILTIN])) {
      throw new CohortError('ERR_COHORT_UNSUPPORTED', 'rewardModelPath: a reward model goes beside a function, not beside built-in rewards; leave one of them out');
    }
    if (reward === null) return { callbacks: [], pairs: optionPairs('grpo', this.#registry.options) };
    if (!this.#registry.isEmpty) notice('the reward function is used; built-in rewards that were registered are not');
    if (reward[BUILTIN]) return { callbacks: [], pairs: optionPairs('grpo', { ...reward[BUILTIN].options, reward: reward[BUILTIN].spec }) };
    const call = async (outputs) => {
      const values = await this.#reward(outputs, this.#context);
      this.#scored = values;
      return values;
    };
    return { callbacks: [{ name: nameOf(reward), call, tokens: reward.rewardsTokens === true }], pairs: judged };
  }

  // ---- A whole run

  /**
   * Trains on a list of {prompt, answer, ...} or a file, to the end. What a reward throws ends the run, at its last checkpoint, and is
   * thrown here. stop(), or the signal of the configuration, saves a checkpoint and ends it: the summary says stopped.
   */
  async train(dataset) {
    const training = this.#training;
    const { evalDataset, evalInterval, tools } = this.#given;
    if (Array.isArray(dataset) && dataset.length === 0 && training.state === 'new') return training.summary;
    const { callbacks, pairs } = this.#rewards();
    const file = (rows, name) => training.file(rows, name, (row, i) => rowOf(row, i, tools));
    return training.run(() => [
      'data', file(dataset, 'train'), ...this.#pairs, ...pairs,
      ...(evalDataset === undefined ? [] : ['eval_data', file(evalDataset, 'eval'), ...(evalInterval ? ['eval_steps', String(evalInterval)] : [])]),
    ], callbacks, this.#tools);
  }

  /** Asks train() to save a checkpoint and end. */
  stop() {
    this.#training.stop();
  }

  // ---- Step by step

  async #steps(n = 1) {
    const { state } = this.#training;
    if (state === 'training' || state === 'closed') throw new CohortError('ERR_COHORT_STATE', `this trainer is ${state}`);
    if (state === 'trained') throw new CohortError('ERR_COHORT_STATE', 'the run of train() has ended; create a trainer for single steps');
    this.#opening ??= this.#openSteps(n).catch((error) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }

  /** n: prompts of the first call, for which memory is taken where that is more than a step of train() has. */
  async #openSteps(n) {
    const none = this.#isUnrewarded; // generateBatch() needs no reward; one that is set later is asked here
    const { callbacks, pairs } = none ? { callbacks: [], pairs: [] } : this.#rewards();
    const without = [];
    for (let i = 0; i < this.#pairs.length; i += 2) {
      const [name, value] = this.#pairs.slice(i, i + 2);
      if (!['epochs', 'shuffle_dataset'].includes(name)) without.push(name, name === 'prompts_per_step' ? String(Math.max(value, n)) : value);
    }
    const length = ['max_prompt_length', String(this.#given.maxPromptLength ?? 1024)];
    const bridge = new Bridge(callbacks, this.#training.events, this.#tools);
    const all = ['model', this.modelPath, 'out', this.outputDir, ...without, ...length, ...pairs, ...this.#training.resume];
    this.#step = await bridge.open(all, this.#given.rewardTimeout);
    this.#stepper = { bridge, handle: bridge.handleOfRun, rewarded: none ? 'later' : callbacks.length > 0 ? 'by a function' : 'built in' };
    this.#training.state = 'stepping';
    return this.#stepper;
  }

  #rows(prompts, answers) {
    if (!Array.isArray(prompts)) throw new TypeError('expected a list of prompts');
    return prompts.map((prompt, i) => rowOf({ prompt, ...(Array.isArray(answers) ? { answer: answers[i] ?? null } : {}) }, i, this.#given.tools));
  }

  /** One step on these prompts: completions, rewards, an update. answers: one for each prompt, or the context that the reward gets. */
  async trainStep(prompts, answers) {
    return (await this.trainStepAuto(prompts, answers)).metrics;
  }

  async trainStepAuto(prompts, answers = []) {
    const rows = this.#rows(prompts, answers);
    if (this.#isUnrewarded) throw unrewarded();
    const { bridge, handle, rewarded } = await this.#steps(rows.length);
    this.#context = Array.isArray(answers) ? undefined : answers;
    const made = JSON.parse(await bridge.settled(native.trainerRollout(handle, rows)));
    const completions = made.map((row) => row.completion);
    this.#scored = [];
    this.#count = made.length;
    await bridge.settled(native.trainerUpdate(handle, rewarded === 'later' ? await this.#scoresOf(made) : new Float64Array(0)));
    const scored = rewarded === 'built in' && !this.#registry.isEmpty ? this.scoreCompletions(made.map((row) => row.prompt), completions) : this.#scored;
    return { metrics: this.#training.last, completions, rewards: Array.from(scored, (value) => (value === null ? NaN : Number(value))) };
  }

  /** What the reward says of completions where the run itself has none. */
  async #scoresOf(made) {
    if (this.#reward === null) {
      this.#scored = this.scoreCompletions(made.map((row) => row.prompt), made.map((row) => row.completion));
      return Float64Array.from(this.#scored);
    }
    const name = nameOf(this.#reward);
    this.#scored = await inTime(this.#reward(made.map((row) => outputOf(row, this.#tools?.objectOf(row))), this.#context), this.#given.rewardTimeout, name);
    return scoresOf(this.#scored, made, name, false);
  }

  /** groupSize completions of each prompt, which the next trainStep with the same prompts trains on. */
  async generateBatch(prompts) {
    if (prompts.length === 0) return batchOf([]);
    const rows = this.#rows(prompts);
    const { bridge, handle } = await this.#steps(rows.length);
    return batchOf(JSON.parse(await bridge.settled(native.trainerRollout(handle, rows))));
  }

  /** Scores of texts by the built-in rewards that were registered. */
  scoreCompletions(prompts, completions) {
    return this.#registry.scoreBatch(prompts, completions);
  }

  /** Scores of completions by the reward function, or else by the built-in rewards. */
  async scoreGenerations(prompts, completions, answers = [], groupSize = this.#given.groupSize, tokenCounts = [], finishReasons = []) {
    const expected = prompts.length * groupSize;
    if (completions.length !== expected) {
      throw new TypeError(`Expected ${expected} completions (${prompts.length} prompts x ${groupSize} groupSize) but got ${completions.length}`);
    }
    if (this.#reward === null && this.#registry.isEmpty) throw unrewarded();
    const texts = prompts.map((prompt) => (typeof prompt === 'string' ? prompt : prompt.map((message) => `${message.role}: ${message.content}`).join('\n')));
    const of = (i) => texts[Math.floor(i / groupSize)];
    if (this.#reward === null) return Float32Array.from(this.scoreCompletions(completions.map((_, i) => of(i)), completions));
    const { buildRewardOutputs } = require('./data.js');
    const outputs = buildRewardOutputs(texts, completions, answers, tokenCounts, finishReasons, groupSize);
    const values = await inTime(this.#reward(outputs, undefined), this.#given.rewardTimeout, nameOf(this.#reward));
    return Float32Array.from(scoresOf(values, completions.map(() => ({ tokens: [] })), nameOf(this.#reward), false));
  }

  /** Saves: a checkpoint that a run goes on from, or with name 'final' the model alone. Returns its folder. */
  async saveCheckpoint(name) {
    if (this.#training.state === 'trained') {
      const { finalPath, checkpoint } = this.#training.summary;
      return finalPath ?? checkpoint ?? '';
    }
    const { bridge, handle } = await this.#steps();
    if (name === 'final') {
      await bridge.settled(native.trainerSaveFinal(handle, null));
      return path.join(this.outputDir, 'final');
    }
    const step = Number(await bridge.settled(native.trainerSave(handle, null)));
    const made = path.join(this.outputDir, 'checkpoints', `step-${step}`);
    if (name === undefined) return made;
    const copy = path.join(this.outputDir, name);
    await fs.promises.cp(made, copy, { recursive: true });
    return copy;
  }

  startEpoch() {
    this.#epochSteps = [];
  }

  /** Means over the steps since startEpoch(). */
  endEpoch(epochTimeSecs = 0) {
    const mean = (name) => this.#epochSteps.reduce((sum, one) => sum + one[name], 0) / Math.max(1, this.#epochSteps.length);
    return {
      epoch: this.#epoch, avgLoss: mean('loss'), avgReward: mean('meanReward'), totalSteps: this.#epochSteps.length,
      totalTokens: this.#epochSteps.reduce((sum, one) => sum + one.totalTokens, 0), epochTimeSecs,
    };
  }

  /** Closes what is open, so that another run may begin with this configuration and another outputDir. */
  reset(outputDir = this.outputDir) {
    this.close();
    this.#step = 0;
    this.#epoch = 0;
    this.outputDir = outputDir;
    this.#training = this.#begin();
  }

  /** The record of the run, to look into. */
  getOutputStore() {
    return this.#training.store();
  }

  /** Frees what is open, and saves nothing. */
  close() {
    if (this.#stepper !== null) native.close(this.#stepper.handle);
    this.#stepper = null;
    this.#opening = null;
    this.#training.close();
  }
}

const unrewarded = () =>
  new CohortError('ERR_COHORT_ARGUMENT', 'No reward function configured. Set rewardFunction in config or call setRewardFunction()');

/** What a reward function answers, or a RewardTimeoutError after so many milliseconds; 0: no limit. */
async function inTime(answer, timeoutMs, name) {
  if (!(timeoutMs > 0)) return answer;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new RewardTimeoutError(`reward '${name}': timed out after ${timeoutMs}ms (rewardTimeout)`, timeoutMs)), timeoutMs);
  });
  return Promise.race([answer, late]).finally(() => clearTimeout(timer));
}

function batchOf(rows) {
  const completionTexts = rows.map((row) => row.completion);
  const tokenCounts = rows.map((row) => row.tokens.length);
  const finishReasons = rows.map((row) => (row.finishReason === 'eos' ? 'stop' : row.finishReason));
  return {
    completionTexts, tokenCounts, finishReasons,
    nativeResult: { completionTexts, completionTokens: rows.flatMap((row) => row.tokens), completionLengths: tokenCounts, finishReasons,
      completionLogprobs: rows.flatMap((row) => row.logprobs) },
  };
}

module.exports = { GRPOTrainer, DEFAULT_GRPO_CONFIG };
