'use strict';
// The trainers beside GRPOTrainer: train(data) is one call of the command that `cohort sft`, `dpo`, `kto`, `orpo`, `cpo`, `reward` or `distill` runs.
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { EventEmitter } = require('node:events');
const { native, CohortError, optionPairs, optionTable } = require('./native.js');
const { Qwen3Model, messageOf } = require('./model.js');
const { GRPOTrainer: { findLatestCheckpoint } } = require('./trainer.js');
const { Bridge } = require('./run.js');
const { answersOf } = require('./tools.js');
const { OutputStore } = require('./store.js');

/** Settings of the trainer itself. */
const OWN = new Set(['modelPath', 'outputDir', 'resumeFromCheckpoint', 'logConsole', 'evalDataset', 'signal', 'rewardFunction', 'rewardTimeout', 'tools']);
const NAMES = {
  numEpochs: 'epochs', maxSteps: 'steps', batchSize: 'batch_size', gradientClipNorm: 'max_grad_norm', saveInterval: 'save_steps', logInterval: 'logging_steps',
  evalInterval: 'eval_steps', maxCheckpoints: 'save_total_limit', maxSeqLength: 'max_length', maxNewTokens: 'max_completion_length',
  teacherModelPath: 'teacher_model_name_or_path', groupSize: 'num_generations', enableThinking: 'thinking',
};
/** Of a run, what an evaluation is not about. */
const NOT_EVALUATED = new Set([
  'epochs', 'steps', 'save_steps', 'eval_steps', 'eval_strategy', 'load_best_model_at_end', 'metric_for_best_model', 'greater_is_better',
  'early_stopping_patience', 'early_stopping_threshold', 'report_to', 'save_total_limit', 'log_completions',
]);

/** The value of a column: of a list of messages, messages as the library has them. */
const columnOf = (value) => (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item?.role === 'string') ? value.map(messageOf) : value);

function write(rows, folder, name) {
  if (typeof rows === 'string') return rows;
  if (typeof rows?.[Symbol.iterator] !== 'function') throw new TypeError('expected a list of rows, or the path of a file');
  const lines = Array.from(rows, (row, i) => {
    if (typeof row !== 'object' || row === null) throw new TypeError(`row ${i} is no object; expected columns (docs/DATA.md)`);
    return JSON.stringify(Object.fromEntries(Object.entries(row).map(([column, value]) => [column, columnOf(value)]))) + '\n';
  });
  if (lines.length === 0) throw new TypeError('there are no rows');
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `${name}.jsonl`);
  fs.writeFileSync(`${file}.${process.pid}`, lines.join(''));
  fs.renameSync(`${file}.${process.pid}`, file);
  return file;
}

class RunTrainer extends EventEmitter {
  #given;
  #pairs;
  #bridge = null;
  #tools = null; // what answers the turns of episodes
  #state = 'new'; // -> 'training' -> 'trained', or 'closed'
  #stopped = false;
  #store = null;
  #last = null;

  /** model: a Qwen3Model, whose folder is trained from; config.modelPath names a folder in its place. */
  constructor(model, config = {}) {
    super();
    if (typeof config !== 'object' || config === null) throw new TypeError('the configuration is no object');
    const { command } = this.constructor;
    this.#given = { logConsole: true, rewardTimeout: 60000, ...config };
    const table = optionTable(command);
    const options = {};
    for (const [name, value] of Object.entries(config)) {
      if (OWN.has(name)) continue;
      const batch = command === 'distill' && name === 'batchSize' ? 'prompts_per_step' : NAMES[name];
      options[!table.has(name) && batch !== undefined ? batch : name] = value;
    }
    this.#pairs = optionPairs(command, options);
    native.optionsCheck(command, this.#pairs);
    if (config.rewardFunction !== undefined) {
      if (command !== 'distill') throw new TypeError(`rewardFunction: ${command} has no rewards`);
      if (typeof config.rewardFunction !== 'function') throw new TypeError(`rewardFunction is a ${typeof config.rewardFunction}; expected a function of outputs`);
    }
    if (config.tools !== undefined && command !== 'distill') throw new TypeError(`tools: ${command} samples nothing; tools stand in its rows`);
    this.#tools = answersOf(config.tools);
    if (config.tools !== undefined && this.#tools === null) throw new TypeError("tools: expected definitions with a function 'call'");
    this.modelPath = model instanceof Qwen3Model ? model.path : config.modelPath;
    if (typeof this.modelPath !== 'string') throw new TypeError('expected a Qwen3Model, or config.modelPath');
    this.outputDir = config.outputDir ?? './outputs';
  }

  /** Reads nothing of the model yet: train() does. */
  static async create(config) {
    if (!config?.modelPath) throw new TypeError(`modelPath is required by ${this.name}.create()`);
    if (!fs.existsSync(config.modelPath)) throw new CohortError('ERR_COHORT_IO', `modelPath: there is no folder '${config.modelPath}'`);
    return new this(null, config);
  }

  static findLatestCheckpoint(outputDir) {
    return findLatestCheckpoint(outputDir);
  }

  /** The trained model; before that, the one that it begins with. */
  get #final() {
    const final = path.join(this.outputDir, 'final');
    return fs.existsSync(final) ? final : this.modelPath;
  }

  #rewards() {
    const { rewardFunction } = this.#given;
    return rewardFunction === undefined ? [] : [{ name: rewardFunction.name || 'reward', call: (outputs) => rewardFunction(outputs, undefined), tokens: false }];
  }

  #events() {
    return {
      onMessage: (text) => {
        if (this.#given.logConsole) console.log(text);
        if (/^checkpoint|saved/.test(text)) this.emit('checkpoint', text);
        this.emit('message', text);
      },
      onMetrics: (raw) => {
        if (raw.loss === undefined) {
          this.emit('evaluation', raw);
          return;
        }
        this.#last = { step: raw.step, loss: raw.loss ?? NaN, epoch: raw.epoch ?? NaN, gradNorm: raw.grad_norm ?? NaN, learningRate: raw.learning_rate ?? NaN, raw };
        this.emit('step', this.#last);
      },
      ...(this.listenerCount('progress') > 0 ? { onProgress: (progress) => this.emit('progress', progress) } : {}),
    };
  }

  /** Trains on a list of rows or a file, to the end. stop(), or the signal of the configuration, saves a checkpoint and ends it: the summary says stopped. */
  async train(dataset) {
    if (this.#state !== 'new') throw new CohortError('ERR_COHORT_STATE', `train: this trainer is ${this.#state}; create one for each run`);
    const { signal, evalDataset, resumeFromCheckpoint: from, rewardTimeout } = this.#given;
    signal?.throwIfAborted();
    const folder = path.join(this.outputDir, 'node');
    const latest = from === 'latest' || from === true;
    const all = [
      'model', this.modelPath, 'data', write(dataset, folder, 'train'), 'out', this.outputDir, ...this.#pairs,
      ...(evalDataset === undefined ? [] : ['eval_data', write(evalDataset, folder, 'eval')]),
      ...(!from || (latest && findLatestCheckpoint(this.outputDir) === null) ? [] : ['resume', latest ? 'latest' : String(from)]),
    ];
    this.#state = 'training';
    const abort = () => this.stop();
    try {
      this.#bridge = new Bridge(this.#rewards(), this.#events(), this.#tools);
      const running = this.#bridge.run(this.constructor.command, all, rewardTimeout);
      signal?.addEventListener('abort', abort, { once: true });
      await running;
    } catch (error) {
      if (!(this.#stopped && error instanceof CohortError && error.code === 'ERR_COHORT_CANCELLED')) throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#bridge = null;
      this.#state = 'trained';
    }
    const final = path.join(this.outputDir, 'final');
    return {
      steps: this.#last?.step ?? 0, stopped: this.#stopped, metrics: this.#last, outputDir: this.outputDir,
      finalPath: !this.#stopped && fs.existsSync(final) ? final : null, checkpoint: findLatestCheckpoint(this.outputDir),
    };
  }

  /** Asks train() to save a checkpoint and end. */
  stop() {
    if (this.#bridge === null) return;
    this.#stopped = true;
    native.stop(this.#bridge.handleOfRun);
  }

  /** Held-out figures of the trained model (before training: of the model itself): those that an evaluation of train() has, names beginning with eval_. */
  async evaluate(dataset = this.#given.evalDataset) {
    const { command, compares } = this.constructor;
    if (dataset === undefined) throw new TypeError('evaluate: there are no rows; give them, or evalDataset in the configuration');
    if (this.#state === 'training') throw new CohortError('ERR_COHORT_STATE', 'evaluate: this trainer is training');
    if (compares && this.#final !== this.modelPath) {
      throw new CohortError('ERR_COHORT_UNSUPPORTED', `evaluate: held-out figures of ${command} compare with the model as it was before training; give evalDataset and evalInterval`);
    }
    const folder = await fs.promises.mkdtemp(path.join(os.tmpdir(), 'cohort-evaluate-'));
    let figures = null;
    const bridge = new Bridge(this.#rewards(), {
      onMetrics: (raw) => {
        figures ??= Object.fromEntries(Object.entries(raw).filter(([name]) => name.startsWith('eval_')));
        native.stop(bridge.handleOfRun);
      },
    }, this.#tools);
    try {
      const data = write(dataset, folder, 'eval');
      const adapter = fs.existsSync(path.join(this.#final, 'adapter_config.json'));
      const pairs = [];
      for (let i = 0; i < this.#pairs.length; i += 2) {
        const name = this.#pairs[i];
        if (!NOT_EVALUATED.has(name) && !(adapter && (name === 'use_peft' || name.startsWith('lora_')))) pairs.push(name, this.#pairs[i + 1]);
      }
      // A run that ends at the evaluation before its first step: it needs rows to train on, and takes none.
      await bridge.run(command, [
        'model', adapter ? this.modelPath : this.#final, ...(adapter ? ['adapter', this.#final] : []), 'data', data, 'eval_data', data,
        'out', path.join(folder, 'run'), ...pairs, 'steps', '1', 'save_steps', '0',
      ], this.#given.rewardTimeout);
    } catch (error) {
      if (figures === null || error?.code !== 'ERR_COHORT_CANCELLED') throw error;
    } finally {
      await fs.promises.rm(folder, { recursive: true, force: true });
    }
    return figures;
  }

  /** The record of the run, to look into. */
  async getOutputStore() {
    this.#store ??= await OutputStore.local(this.outputDir);
    return this.#store;
  }

  /** Ends what is under way, and saves nothing. */
  close() {
    if (this.#bridge !== null) native.close(this.#bridge.handleOfRun);
    this.#store?.close();
    this.#store = null;
    this.#state = 'closed';
  }
}

class SFTTrainer extends RunTrainer { static command = 'sft'; }
class DPOTrainer extends RunTrainer { static command = 'dpo'; static compares = true; }
class KTOTrainer extends RunTrainer { static command = 'kto'; static compares = true; }
class ORPOTrainer extends RunTrainer { static command = 'orpo'; }
class CPOTrainer extends RunTrainer { static command = 'cpo'; }
class RewardTrainer extends RunTrainer { static command = 'reward'; }
class DistillationTrainer extends RunTrainer { static command = 'distill'; }

module.exports = { SFTTrainer, DPOTrainer, KTOTrainer, ORPOTrainer, CPOTrainer, RewardTrainer, DistillationTrainer };
