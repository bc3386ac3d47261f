'use strict';
// The records of runs (run.db), with the questions of MLX-Node's OutputStore.
const fs = require('node:fs');
const path = require('node:path');
const { native, CohortError } = require('./native.js');

const STATUS = { finished: 'completed' };
const FINISH = { eos: 'stop' };
const ORDER = { step: 0, newest: 1, best: 2, worst: 3 };

const runOf = (run) => ({
  id: run.path, modelName: path.basename(run.model), modelPath: run.model, config: run.config, startedAt: Math.round(run.created * 1000),
  ...(run.ended > 0 ? { endedAt: Math.round(run.ended * 1000) } : {}), totalSteps: Math.max(0, run.step), status: STATUS[run.status] ?? run.status,
  name: run.name, command: run.command, message: run.message, plannedSteps: run.steps, starts: run.starts,
  ...(run.parent === '' ? {} : { parent: run.parent, parentStep: run.parentStep }),
});

const generationOf = (made) => ({
  generation: {
    step: made.step, batchIndex: made.group, groupIndex: made.index, row: made.row, prompt: made.prompt,
    completionText: made.thinking === null ? made.text : made.text.slice(made.text.lastIndexOf('</think>') + 8).trim(),
    completionRaw: made.text, ...(made.thinking === null ? {} : { thinking: made.thinking }), numTokens: made.tokens,
    finishReason: FINISH[made.finishReason] ?? made.finishReason, reward: made.reward, advantage: made.advantage, rewards: made.rewards,
    logprob: made.logprob, set: made.set,
  },
  toolCalls: made.toolCalls.map((call, i) => ({
    callIndex: i, status: call.error === undefined ? 'ok' : call.name === undefined ? 'parse_error' : 'json_error',
    ...(call.name === undefined ? {} : { toolName: call.name }), ...(call.arguments === undefined ? {} : { arguments: JSON.stringify(call.arguments) }),
    rawContent: call.text ?? JSON.stringify(call), ...(call.error === undefined ? {} : { errorMessage: call.error }),
  })),
});

const rangeOf = (range) => {
  if (range === undefined || range === null) return {};
  if (!Array.isArray(range) || range.length !== 2) throw new TypeError('the range of steps: expected [first, last]');
  return { first: range[0], last: range[1] };
};

const written = (name) => {
  throw new CohortError('ERR_COHORT_UNSUPPORTED', `${name}: a run writes its own record while it trains; here it is read`);
};

/** Records of runs, to look into while they go on as after it. */
class OutputStore {
  #folder;
  #open = new Map(); // run -> handle
  #lists = null;
  #closed = false;

  constructor(folder) {
    this.#folder = folder;
  }

  /** A run folder, a folder of runs, or the path of a run.db (or MLX-Node's outputs.db) in one. */
  static async local(file) {
    if (typeof file !== 'string') throw new TypeError(`the place of the record is a ${typeof file}; expected a path`);
    const folder = file.endsWith('.db') ? path.dirname(file) : file;
    if (!fs.existsSync(folder)) throw new CohortError('ERR_COHORT_IO', `there is no folder '${folder}'; expected that of a run, or of runs`);
    return new OutputStore(folder);
  }

  static fromConfig(config) {
    return OutputStore.local(config?.localPath);
  }

  async #ask(run, question, query = {}) {
    if (this.#closed) throw new CohortError('ERR_COHORT_CLOSED', 'this record was closed');
    const folder = this.#folderOf(run);
    if (!this.#open.has(folder)) {
      const handle = native.storeNew();
      this.#open.set(folder, native.storeAsk(handle, 'open', { folder }).then(() => handle, (error) => {
        this.#open.delete(folder);
        native.close(handle);
        throw error;
      }));
    }
    return JSON.parse(await native.storeAsk(await this.#open.get(folder), question, query));
  }

  #folderOf(run) {
    if (run === undefined || run === null) return this.#folder;
    if (typeof run !== 'string') throw new TypeError(`the run is a ${typeof run}; expected its id`);
    const beside = path.join(this.#folder, run);
    return !fs.existsSync(path.join(run, 'run.db')) && fs.existsSync(path.join(beside, 'run.db')) ? beside : run;
  }

  /** The runs of the folder, the newest first. status: 'running', 'completed', 'stopped', 'failed', 'gone'. */
  async listRuns(limit = undefined, status = undefined) {
    if (this.#closed) throw new CohortError('ERR_COHORT_CLOSED', 'this record was closed');
    this.#lists ??= native.storeNew();
    const runs = JSON.parse(await native.storeAsk(this.#lists, 'runs', { folder: this.#folder })).map(runOf);
    const found = runs.filter((run) => status === undefined || status === null || run.status === status).sort((a, b) => b.startedAt - a.startedAt);
    return limit === undefined || limit === null ? found : found.slice(0, limit);
  }

  /** A run by its id, which is its folder, or its name; null where there is none. */
  async getRun(run = undefined) {
    if (!fs.existsSync(path.join(this.#folderOf(run), 'run.db'))) return null;
    return runOf((await this.#ask(run, 'run'))[0]);
  }

  async findRunByName(name) {
    return (await this.listRuns()).find((run) => run.name === name) ?? null;
  }

  /** The only run of the folder, or null. */
  async currentRunId() {
    return fs.existsSync(path.join(this.#folder, 'run.db')) ? this.#folder : null;
  }

  /** Steps with all of their metrics. */
  async getSteps(run = undefined, first = undefined, last = undefined) {
    return this.#ask(run, 'steps', { first, last });
  }

  async getStepSummaries(run = undefined, startStep = undefined, endStep = undefined) {
    const steps = await this.getSteps(run, startStep, endStep);
    const sums = await this.#ask(run, 'sql', {
      sql: `SELECT step, count(*) AS n, sum(finish_reason = 'eos' OR finish_reason = 'stop') AS ended, sum(finish_reason = 'length') AS cut,
 sum(CASE WHEN tools IS NULL THEN 0 ELSE json_array_length(tools) END) AS calls FROM completions WHERE "set" = '' GROUP BY step`,
    });
    const by = new Map(sums.map((sum) => [sum.step, sum]));
    return steps.filter((step) => step.metrics.loss !== undefined).map(({ step, metrics }) => ({
      step, loss: metrics.loss, meanReward: metrics.reward, numGenerations: by.get(step)?.n ?? 0, numToolCalls: by.get(step)?.calls ?? 0,
      eosCount: by.get(step)?.ended ?? 0, lengthCount: by.get(step)?.cut ?? 0,
    }));
  }

  /** The last steps' metrics, ascending. */
  async getRecentStepMetrics(run = undefined, count = 50) {
    return (await this.getSteps(run)).slice(-count);
  }

  /**
   * Completions: {set, first, last, group, index, below, above, rewardName, finishReason, search, order ('step', 'newest', 'best', 'worst'), limit,
   * skip}. set is '' for those that were trained on (the default), '*' for all.
   */
  async getCompletions(run = undefined, query = {}) {
    const order = query.order === undefined ? undefined : ORDER[query.order];
    if (query.order !== undefined && order === undefined) throw new TypeError(`order is ${String(query.order)}; expected ${Object.keys(ORDER).join(', ')}`);
    return (await this.#ask(run, 'completions', { ...query, order })).map(generationOf);
  }

  async countCompletions(run = undefined, query = {}) {
    return this.#ask(run, 'count', { ...query, order: undefined });
  }

  getGenerations(run, step) {
    return this.getCompletions(run, { first: step, last: step });
  }

  getRecentGenerations(run = undefined, limit = 50) {
    return this.getCompletions(run, { order: 'newest', limit });
  }

  /** The best and then the worst. */
  async getGenerationsByReward(run = undefined, topN = 10, bottomN = 10, stepRange = undefined) {
    const of = (order, limit) => (limit > 0 ? this.getCompletions(run, { ...rangeOf(stepRange), order, limit }) : []);
    return [...(await of('best', topN ?? 10)), ...(await of('worst', bottomN ?? 10))];
  }

  async getGenerationsByFinishReason(run, finishReason, limit = 100) {
    const one = (reason) => this.getCompletions(run, { finishReason: reason, limit });
    if (finishReason !== 'stop') return one(finishReason);
    return [...(await one('eos')), ...(await one('stop'))].sort((a, b) => a.generation.step - b.generation.step).slice(0, limit);
  }

  async getGenerationsWithToolCalls(run = undefined, toolName = undefined, status = undefined, limit = 100) {
    const fits = (call) => (!toolName || call.toolName === toolName) && (!status || call.status === status);
    return (await this.getCompletions(run)).filter((made) => made.toolCalls.some(fits)).slice(0, limit ?? 100);
  }

  async searchGenerations(run, query, searchIn = 'completion', limit = 100) {
    if (searchIn === 'completion' || searchIn === null || searchIn === undefined) return this.getCompletions(run, { search: query, limit: limit ?? 100 });
    const places = { prompt: ['prompt'], thinking: ['thinking'], all: ['prompt', 'completionRaw'] }[searchIn];
    if (places === undefined) throw new TypeError(`searchIn is ${searchIn}; expected completion, prompt, thinking or all`);
    const text = query.toLowerCase();
    return (await this.getCompletions(run)).filter(({ generation }) => places.some((place) => generation[place]?.toLowerCase().includes(text)))
      .slice(0, limit ?? 100);
  }

  /** How the rewards of completions that were trained on are spread; std is of the population. */
  async getRewardStats(run = undefined, stepRange = undefined) {
    const { first = 0, last = Number.MAX_SAFE_INTEGER } = rangeOf(stepRange);
    const rows = await this.#ask(run, 'sql', {
      sql: `SELECT reward FROM completions WHERE "set" = '' AND reward IS NOT NULL AND step BETWEEN ${Number(first)} AND ${Number(last)} ORDER BY reward`,
    });
    const values = rows.map((row) => row.reward);
    const n = values.length;
    const mean = n === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / n;
    const at = (share) => {
      if (n === 0) return 0;
      const place = share * (n - 1);
      const below = Math.floor(place);
      return values[below] + (place - below) * ((values[below + 1] ?? values[below]) - values[below]);
    };
    return {
      count: n, mean, std: n === 0 ? 0 : Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n), min: at(0), max: at(1),
      median: at(0.5), p25: at(0.25), p75: at(0.75),
    };
  }

  getEvents(run = undefined, { after, kind } = {}) {
    return this.#ask(run, 'events', { after, kind });
  }

  /** What the run reads, by SHA-256. */
  getInputs(run = undefined) {
    return this.#ask(run, 'inputs');
  }

  /** Writes a line of JSON for each completion that was trained on; returns how many. */
  async exportJsonl(run, outputPath, includeToolCalls = true) {
    const made = await this.getCompletions(run);
    const lines = made.map(({ generation, toolCalls }) => JSON.stringify(includeToolCalls ? { ...generation, toolCalls } : generation) + '\n');
    await fs.promises.writeFile(outputPath, lines.join(''));
    return made.length;
  }

  /** One SELECT over the tables of docs/RUN.md, as JSON text: a list of rows by the names of their columns. */
  async queryRaw(sql, run = undefined) {
    return JSON.stringify(await this.#ask(run, 'sql', { sql: String(sql) }));
  }

  /** What is recorded is written by the run, after each step. */
  async flush() {}

  startRun() {
    return written('startRun');
  }

  endRun() {
    return written('endRun');
  }

  recordStep() {
    return written('recordStep');
  }

  recordStepFromOutputs() {
    return written('recordStepFromOutputs');
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    for (const handle of this.#open.values()) handle.then((opened) => native.close(opened), () => {});
    if (this.#lists !== null) native.close(this.#lists);
    this.#open.clear();
  }
}

module.exports = { OutputStore };
