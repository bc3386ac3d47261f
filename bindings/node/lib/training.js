'use strict';
// One run of a command by a trainer: what all trainers have in common. train(data) of a trainer is one call of its command.
const fs = require('node:fs');
const path = require('node:path');
const { native, CohortError, inSettings, signalIn } = require('./native.js');
const { messageOf } = require('./model.js');
const { Bridge } = require('./run.js');
const { OutputStore } = require('./store.js');

const STEP = /^step-(\d+)$/;

/** The newest checkpoint in the run folder, or null. */
function findLatestCheckpoint(outputDir) {
  const folder = outputDir ? path.join(outputDir, 'checkpoints') : '';
  if (!outputDir || !fs.existsSync(folder)) return null;
  const steps = fs.readdirSync(folder).map((name) => STEP.exec(name)).filter(Boolean).map((match) => Number(match[1]));
  return steps.length === 0 ? null : path.join(folder, `step-${Math.max(...steps)}`);
}

/** What create() of a trainer refuses before it makes one. */
function checkFolder(config, name) {
  if (!config?.modelPath) throw new TypeError(`modelPath is required by ${name}.create()`);
  if (!fs.existsSync(config.modelPath)) throw new CohortError('ERR_COHORT_IO', `modelPath: there is no folder '${config.modelPath}'`);
}

/** The value of a column: of a list of messages, messages as the library has them. */
const columnOf = (value) => (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item?.role === 'string') ? value.map(messageOf) : value);

/** A row of a data set as a line of JSON. */
function lineOf(row, i) {
  if (typeof row !== 'object' || row === null) throw new TypeError(`row ${i} is no object; expected columns (docs/DATA.md)`);
  return JSON.stringify(Object.fromEntries(Object.entries(row).map(([column, value]) => [column, columnOf(value)])));
}

/** Rows as a file folder/NAME.jsonl; the path of a file as it is. */
function rowsFile(rows, folder, name, lineOfRow = lineOf) {
  if (typeof rows === 'string') return rows;
  if (typeof rows?.[Symbol.iterator] !== 'function') throw new TypeError('expected a list of rows, or the path of a file');
  const lines = Array.from(rows, (row, i) => lineOfRow(row, i) + '\n');
  if (lines.length === 0) throw new TypeError('there are no rows');
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `${name}.jsonl`);
  fs.writeFileSync(`${file}.${process.pid}`, lines.join(''));
  fs.renameSync(`${file}.${process.pid}`, file);
  return file;
}

/** The run of a trainer. States: new -> training -> trained; a trainer may go step by step instead (stepping); closed. */
class Training {
  state = 'new';
  stopped = false;
  /** Metrics of the last step, as listeners get them. */
  last = null;
  #trainer;
  #command;
  #given;
  #metricsOf;
  #bridge = null;
  #store = null;

  /** given: the settings logConsole, signal, rewardTimeout, resumeFromCheckpoint; metricsOf(raw): of a step, what 'step' gets. */
  constructor(trainer, command, given, metricsOf) {
    this.#trainer = trainer;
    this.#command = command;
    this.#given = given;
    this.#metricsOf = metricsOf;
  }

  /** What a run is told, as events of the trainer. */
  get events() {
    const trainer = this.#trainer;
    return {
      onMessage: (said) => {
        const text = inSettings(said);
        if (this.#given.logConsole) console.log(text);
        if (/^checkpoint|saved/.test(text)) trainer.emit('checkpoint', text);
        trainer.emit('message', text);
      },
      onMetrics: (raw) => {
        if (raw.loss === undefined) {
          trainer.emit('evaluation', raw);
          return;
        }
        this.last = this.#metricsOf(raw);
        trainer.emit('step', this.last);
      },
      ...(trainer.listenerCount('progress') > 0 ? { onProgress: (progress) => trainer.emit('progress', progress) } : {}),
    };
  }

  /** The option that a run goes on by. */
  get resume() {
    const from = this.#given.resumeFromCheckpoint;
    if (!from) return [];
    if (from !== 'latest' && from !== true) return ['resume', String(from)];
    return findLatestCheckpoint(this.#trainer.outputDir) === null ? [] : ['resume', 'latest'];
  }

  /** A file of rows in the run folder. */
  file(rows, name, lineOfRow) {
    return rowsFile(rows, path.join(this.#trainer.outputDir, 'node'), name, lineOfRow);
  }

  /** pairs(): the options of the command beside model, out and resume. What a callback throws ends the run, and comes out. */
  async run(pairs, rewards, tools) {
    if (this.state !== 'new') {
      throw new CohortError('ERR_COHORT_STATE', this.state === 'trained'
        ? 'train: this run has ended; create a trainer with resumeFromCheckpoint, or another outputDir'
        : `train: this trainer is ${this.state}; create one for each run`);
    }
    const { rewardTimeout } = this.#given;
    const signal = signalIn(this.#given.signal);
    signal?.throwIfAborted();
    const all = ['model', this.#trainer.modelPath, 'out', this.#trainer.outputDir, ...pairs(), ...this.resume];
    const abort = () => this.stop();
    this.state = 'training';
    this.stopped = false;
    try {
      this.#bridge = new Bridge(rewards, this.events, tools);
      const running = this.#bridge.run(this.#command, all, rewardTimeout);
      signal?.addEventListener('abort', abort, { once: true });
      await running;
    } catch (error) {
      if (!(this.stopped && error instanceof CohortError && error.code === 'ERR_COHORT_CANCELLED')) throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#bridge = null;
      if (this.state === 'training') this.state = 'trained';
    }
    return this.summary;
  }

  get summary() {
    const { outputDir } = this.#trainer;
    const final = path.join(outputDir, 'final');
    return {
      steps: this.last?.step ?? 0, stopped: this.stopped, metrics: this.last, outputDir,
      finalPath: !this.stopped && fs.existsSync(final) ? final : null, checkpoint: findLatestCheckpoint(outputDir),
    };
  }

  stop() {
    if (this.#bridge === null) return;
    this.stopped = true;
    native.stop(this.#bridge.handleOfRun);
  }

  async store() {
    this.#store ??= await OutputStore.local(this.#trainer.outputDir);
    return this.#store;
  }

  close() {
    if (this.#bridge !== null) native.close(this.#bridge.handleOfRun);
    this.#store?.close();
    this.#store = null;
    this.state = 'closed';
  }
}

module.exports = { Training, findLatestCheckpoint, checkFolder, rowsFile };
