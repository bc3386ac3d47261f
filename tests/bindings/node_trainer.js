'use strict';
// Runs of the Node package: rewards of each kind, what goes wrong in them, single steps, resuming, the record.
const { test } = require('node:test');
const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { Worker } = require('node:worker_threads');
const cohort = require('cohort');

const { GRPOTrainer } = cohort;
const { MODEL, WORK, COHORT } = process.env;
const user = (content) => [{ role: 'user', content }];
const ROWS = Array.from({ length: 12 }, (_, i) => ({ prompt: user(`count to ${i}`), answer: String(i), level: i % 3 }));
let number = 0;
const folder = () => path.join(WORK, `run${process.version}-${number++}`);
const distinct = (outputs) => outputs.map((output) => new Set(output.completion.rawText).size);
const config = (more = {}) => ({
  modelPath: MODEL, outputDir: folder(), groupSize: 4, batchSize: 2, maxNewTokens: 8, learningRate: 1e-3, saveInterval: 2, maxSteps: 4, logConsole: false,
  device: 'cpu', threads: 1, seed: 3, rewardFunction: distinct, ...more,
});
const digest = (out, name = 'final/model.safetensors') => crypto.createHash('sha256').update(fs.readFileSync(path.join(out, name))).digest('hex');
const train = async (more, rows = ROWS) => {
  const trainer = await GRPOTrainer.create(config(more));
  return { trainer, summary: await trainer.train(rows) };
};

test('what is exported is there', () => {
  for (const name of ['registerBuiltinReward', 'setRewardFunction', 'train', 'trainStep', 'trainStepAuto', 'generateBatch', 'scoreCompletions', 'scoreGenerations',
    'saveCheckpoint', 'getStep', 'getEpoch', 'startEpoch', 'endEpoch', 'reset', 'getOutputStore', 'close', 'stop', 'on']) {
    assert.strictEqual(typeof GRPOTrainer.prototype[name], 'function', name);
  }
  for (const name of ['create', 'findLatestCheckpoint']) assert.strictEqual(typeof GRPOTrainer[name], 'function', name);
  for (const name of ['local', 'fromConfig']) assert.strictEqual(typeof cohort.OutputStore[name], 'function', name);
});

test('fifty steps: the weights are those of a program\'s reward, and of an async function, byte for byte', async () => {
  const fifty = { maxSteps: 50, saveInterval: 0 };
  const { trainer } = await train(fifty);
  const waiting = await train({ ...fifty, rewardFunction: async (outputs) => {
    await new Promise((resolve) => setImmediate(resolve));
    return Float32Array.from(distinct(outputs));
  } });
  assert.strictEqual(digest(waiting.trainer.outputDir), digest(trainer.outputDir));
  const script = path.join(WORK, 'reward.js');
  fs.writeFileSync(script, `require('node:readline').createInterface({ input: process.stdin }).on('line', (line) =>
    console.log(new Set(JSON.parse(line).completion).size));`);
  const out = folder();
  execFileSync(COHORT, ['grpo', '--config', path.join(trainer.outputDir, 'config.yaml'), '--out', out, '--reward', `exec:${process.execPath} ${script}`],
    { stdio: 'ignore' });
  assert.strictEqual(digest(out), digest(trainer.outputDir));
  assert.notStrictEqual(digest(out), digest(MODEL, 'model.safetensors'));
});

test('how many prompts a step has: batchSize and gradientAccumulationSteps, or promptsPerStep', async () => {
  for (const [given, prompts] of [[{ batchSize: 2, gradientAccumulationSteps: 2 }, 4], [{ promptsPerStep: 3 }, 3], [{ promptsPerStep: 4, gradientAccumulationSteps: 2 }, 4]]) {
    const { trainer } = await train({ maxSteps: 1, saveInterval: 0, batchSize: undefined, ...given });
    assert.match(fs.readFileSync(path.join(trainer.outputDir, 'config.yaml'), 'utf8'), new RegExp(`^prompts_per_step: ${prompts}$`, 'm'), JSON.stringify(given));
  }
});

test('what a reward is given, and its steps', async () => {
  const steps = [];
  let seen = null;
  const trainer = await GRPOTrainer.create(config({ rewardFunction: (outputs) => {
    seen ??= outputs;
    return distinct(outputs);
  } }));
  trainer.on('step', (metrics) => steps.push(metrics));
  const summary = await trainer.train(ROWS);
  assert.deepStrictEqual([summary.steps, summary.stopped, trainer.step, trainer.getStep()], [4, false, 4, 4]);
  assert.deepStrictEqual(steps.map((one) => one.step), [1, 2, 3, 4]);
  assert.strictEqual(seen.length, 8);
  const { completion, ...first } = seen[0];
  assert.deepStrictEqual([first.expectedAnswer, first.row.level, first.promptIndex, first.completionIndex], ['0', 0, 0, 0]);
  assert.deepStrictEqual(seen.map((one) => one.completionIndex), [0, 1, 2, 3, 0, 1, 2, 3]);
  assert.match(first.prompt, /count to 0/);
  assert.ok(completion.tokens instanceof Uint32Array && completion.tokens.length === completion.numTokens && completion.numTokens <= 8);
  assert.ok(['stop', 'length'].includes(completion.finishReason) && Array.isArray(completion.toolCalls));
  assert.strictEqual(typeof completion.text, 'string');
  for (const one of steps) {
    for (const name of ['loss', 'meanReward', 'stdReward', 'meanAdvantage', 'stdAdvantage', 'totalTokens', 'generationTimeMs', 'trainingTimeMs', 'entropy', 'gradNorm', 'epoch']) {
      assert.ok(Number.isFinite(one[name]), `${name} is ${one[name]}`);
    }
    assert.strictEqual(one.gradientsApplied, true);
    assert.ok(one.meanReward > 1 && one.totalTokens > 8);
  }
  assert.ok(fs.existsSync(path.join(summary.finalPath, 'model.safetensors')));
  const model = await cohort.Qwen3Model.load(summary.finalPath, { device: 'cpu', maxContext: 64 });
  assert.strictEqual((await model.generate('x', { maxNewTokens: 3, seed: 1 })).numTokens, 3);
  model.close();
});

test('a throw, a rejection: its own error and stack come out, the last checkpoint is whole, and a run goes on from it', async () => {
  const whole = await train();
  for (const fail of [() => { throw new RangeError('in step 4'); }, () => Promise.reject(new RangeError('in step 4'))]) {
    let calls = 0;
    const broken = (outputs) => (++calls > 3 ? fail() : distinct(outputs));
    const trainer = await GRPOTrainer.create(config({ saveInterval: 1, rewardFunction: broken }));
    await assert.rejects(trainer.train(ROWS), (error) => error instanceof RangeError && error.message === 'in step 4' && error.stack.includes('node_trainer.js'));
    assert.strictEqual(path.basename(GRPOTrainer.findLatestCheckpoint(trainer.outputDir)), 'step-3');
    const again = await train({ outputDir: trainer.outputDir, saveInterval: 1, resumeFromCheckpoint: 'latest' });
    assert.strictEqual(again.summary.steps, 4);
    assert.strictEqual(digest(trainer.outputDir), digest(whole.trainer.outputDir));
  }
});

test('wrong answers are refused by what is wrong with them', async () => {
  const wrong = [
    [() => [1], /1 rewards for 8 completions/], [() => undefined, /expected a list of 8 numbers/], [() => 'abc', /expected a list/],
    [() => Array(8).fill('a'), /returned "a" for completion 0; expected a number/], [() => Array(8).fill(Infinity), /finite/],
    [() => Array(8).fill([1]), /a object for completion 0|expected a number/], [() => null, /returned null/],
  ];
  for (const [rewardFunction, message] of wrong) {
    await assert.rejects(train({ rewardFunction }), (error) => error instanceof cohort.CohortError && error.code === 'ERR_COHORT_REWARD' && message.test(error.message));
  }
});

test('null and NaN cannot be scored', async () => {
  const none = await train({ maxSteps: 1, rewardFunction: (outputs) => outputs.map((_, i) => (i % 2 === 0 ? 1 : i % 4 === 1 ? null : NaN)) });
  assert.strictEqual(none.summary.metrics.meanReward, 1);
});

test('a reward that does not answer in time ends the run, and its late answer is dropped', async () => {
  let late = null;
  const slow = (outputs) => new Promise((resolve) => {
    late = () => resolve(distinct(outputs));
  });
  const trainer = await GRPOTrainer.create(config({ rewardFunction: slow, rewardTimeout: 200 }));
  await assert.rejects(trainer.train(ROWS), (error) => error instanceof cohort.RewardTimeoutError && error.code === 'ERR_COHORT_REWARD_TIMEOUT' &&
    /slow.*timed out after 200ms/.test(error.message) && error.timeoutMs === 200);
  late();
  await new Promise((resolve) => setImmediate(resolve));
  const patient = await train({ maxSteps: 1, rewardTimeout: 0, rewardFunction: async (outputs) => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    return distinct(outputs);
  } });
  assert.strictEqual(patient.summary.steps, 1);
});

test('stop() and a signal save a checkpoint, and what goes on from it is the run', async () => {
  const whole = await train({ saveInterval: 100 });
  const trainer = await GRPOTrainer.create(config({ saveInterval: 100 }));
  trainer.on('step', ({ step }) => step === 2 && trainer.stop());
  const summary = await trainer.train(ROWS);
  assert.deepStrictEqual([summary.stopped, summary.steps, path.basename(summary.checkpoint), summary.finalPath], [true, 2, 'step-2', null]);
  await train({ outputDir: trainer.outputDir, saveInterval: 100, resumeFromCheckpoint: 'latest' });
  assert.strictEqual(digest(trainer.outputDir), digest(whole.trainer.outputDir));
  const controller = new AbortController();
  const other = await GRPOTrainer.create(config({ saveInterval: 100, signal: controller.signal }));
  other.on('step', () => controller.abort());
  assert.strictEqual((await other.train(ROWS)).stopped, true);
});

test('what a listener throws ends the run and comes out', async () => {
  const trainer = await GRPOTrainer.create(config());
  trainer.on('step', () => {
    throw new SyntaxError('of the listener');
  });
  await assert.rejects(trainer.train(ROWS), { name: 'SyntaxError' });
});

test('built-in rewards: registered, as functions, by themselves', async () => {
  const registry = cohort.createRewardRegistry();
  assert.strictEqual(registry.isEmpty, true);
  assert.strictEqual(registry.score('p', 'c'), 0);
  registry.register({ rewardType: 'ToolUse', allowedTools: ['look'] });
  registry.register({ rewardType: 'Length', minLength: 1, maxLength: 400, weight: 3 });
  const call = '<tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>';
  assert.deepStrictEqual(registry.names, ['ToolUse', 'Length']);
  assert.strictEqual(registry.score('p', call), 1);
  assert.strictEqual(registry.score('p', 'words'), 0.75);
  registry.setNormalize(false);
  assert.deepStrictEqual(registry.scoreBatch(['p', 'p'], [call, 'words']), [4, 3]);
  const xml = new cohort.NativeRewardRegistry();
  xml.register({ rewardType: 'XmlFormat', requiredTags: ['answer'] });
  assert.strictEqual(xml.score('', '<answer>1</answer>'), 1);
  const json = new cohort.NativeRewardRegistry();
  json.register({ rewardType: 'JsonSchema', requiredFields: ['a'] });
  assert.deepStrictEqual(json.scoreBatch(['', ''], ['{"a": 1}', 'none']), [1, 0]);
  assert.throws(() => registry.register({ rewardType: 'Nothing' }), TypeError);
  assert.throws(() => registry.register({ rewardType: 'Length', minimum: 1 }), /minLength/);
  const outputs = cohort.buildRewardOutputs(['p'], ['<reasoning>\nr\n</reasoning>\n<answer>\n7\n</answer>\n'], ['7']);
  assert.deepStrictEqual(cohort.ALL_REWARD_FUNCTIONS.map((reward) => reward(outputs)[0]), [2, 0.5, 0.5, 0.5, 0.5]);
  const lengths = { rewardType: 'Length', minLength: 1, maxLength: 4 };
  const trainer = await GRPOTrainer.create({ ...config(), rewardFunction: undefined });
  trainer.registerBuiltinReward(lengths);
  assert.deepStrictEqual([trainer.hasBuiltinRewards, trainer.rewardNames], [true, ['Length']]);
  const summary = await trainer.train(ROWS);
  assert.ok(summary.metrics.raw['rewards/length/mean'] > 0);
  const counted = await train({ rewardFunction: cohort.xmlCountReward, maxSteps: 1 });
  assert.ok('rewards/xml_count/mean' in counted.summary.metrics.raw);
});

test('rewards of tokens', async () => {
  const last = cohort.ofTokens((outputs) => outputs.map(({ completion }) => Array.from(completion.tokens, (id, i) => (i + 1 < completion.tokens.length ? null : id))));
  assert.ok((await train({ rewardFunction: last, maxSteps: 1 })).summary.metrics.meanReward > 0);
  const short = cohort.ofTokens((outputs) => outputs.map(() => [1]));
  await assert.rejects(train({ rewardFunction: short }), /completion 0, which has/);
});

test('single steps: those of a run over the same rows', async () => {
  const trainer = await GRPOTrainer.create(config());
  const all = [];
  trainer.setRewardFunction((outputs, context) => {
    all.push(context);
    return distinct(outputs);
  });
  const prompts = [ROWS[0].prompt, ROWS[1].prompt];
  const before = await trainer.generateBatch(prompts);
  assert.deepStrictEqual([before.completionTexts.length, before.tokenCounts.length, before.nativeResult.completionLengths.length], [8, 8, 8]);
  const { metrics, completions, rewards } = await trainer.trainStepAuto(prompts, ['0', '1']);
  assert.deepStrictEqual([metrics.step, completions, rewards], [1, before.completionTexts, completions.map((text) => new Set(text).size)]);
  assert.strictEqual((await trainer.trainStep([ROWS[2].prompt, ROWS[3].prompt], { level: 5 })).step, 2);
  assert.deepStrictEqual(all, [undefined, { level: 5 }]);
  const saved = await trainer.saveCheckpoint();
  assert.strictEqual(path.basename(saved), 'step-2');
  const final = await trainer.saveCheckpoint('final');
  const epoch = trainer.endEpoch(1);
  assert.strictEqual(epoch.totalSteps, 2);
  await assert.rejects(trainer.train(ROWS), { code: 'ERR_COHORT_STATE' });
  await assert.rejects(trainer.trainStep([user('x'.repeat(2000))]), (error) => error instanceof cohort.CohortError);
  const wide = await trainer.trainStep([ROWS[4].prompt]);
  assert.strictEqual(wide.step, 3);
  trainer.close();
  const { summary } = await train({ maxSteps: 2, saveInterval: 0 });
  assert.strictEqual(digest(path.dirname(final)), digest(summary.outputDir));
  await assert.rejects(trainer.trainStep(prompts), { code: 'ERR_COHORT_STATE' });
});

test('scores of given completions', async () => {
  const trainer = await GRPOTrainer.create(config());
  const scores = await trainer.scoreGenerations([user('a')], ['x', 'xy', 'xyz', ''], ['1']);
  assert.deepStrictEqual([...scores], [1, 2, 3, 0]);
  await assert.rejects(trainer.scoreGenerations([user('a')], ['x'], ['1']), /Expected 4 completions/);
  const silent = await GRPOTrainer.create({ ...config(), rewardFunction: undefined });
  await assert.rejects(silent.scoreGenerations([user('a')], ['x', 'x', 'x', 'x'], []), /No reward function/);
  await assert.rejects(silent.train(ROWS), /No reward function/);
  silent.registerBuiltinReward({ rewardType: 'Length', minLength: 1, maxLength: 2 });
  assert.strictEqual((await silent.scoreGenerations([user('a')], ['x', 'xy', 'xyz', 'x'], []))[0], 1);
});

test('settings: MLX-Node\'s names, the library\'s, and what is neither', async () => {
  const out = folder();
  await train({ outputDir: out, maxSteps: 1, klCoef: 0.1, clipEpsilon: 0.3, advantageNormalization: false, lossType: 'dapo', gradientClipNorm: 0.5, topEntropyQuantile: 0.5,
    gradientAccumulationSteps: 2, batchSize: 1, modelConfig: 'qwen3-0.6b', gradientCheckpointing: true, verboseNanDetection: false });
  const yaml = fs.readFileSync(path.join(out, 'config.yaml'), 'utf8');
  for (const line of [/^beta: 0\.1/m, /^epsilon: 0\.3/m, /^scale_rewards: none/m, /^loss_type: dapo/m, /^max_grad_norm: 0\.5/m, /^top_entropy_quantile: 0\.5/m,
    /^prompts_per_step: 2/m, /^weight_decay: 0\.01/m, /^temperature: 0\.8/m, /^top_p: 0\.95/m, /^repetition_penalty: 1\.1/m, /^repetition_context: 256/m,
    /^shuffle_dataset: false/m, /^save_total_limit: 3/m]) assert.match(yaml, line);
  assert.throws(() => new GRPOTrainer(null, config({ learningRat: 1 })), (error) => error instanceof TypeError && /^learningRat: .*did you mean 'learningRate'/.test(error.message));
  assert.throws(() => new GRPOTrainer(null, config({ load_in_4bit: true })), (error) => error instanceof TypeError && /; momentsDtype bf16/.test(error.message));
  await assert.rejects(train({ signal: {} }), /signal is a object; expected an AbortSignal/);
  await assert.rejects(train({ outputDir: out }), /continue it with resumeFromCheckpoint, remove it, or choose another outputDir/);
  assert.throws(() => new GRPOTrainer(null, config({ groupSize: 1 })), { code: 'ERR_COHORT_ARGUMENT' });
  assert.throws(() => new GRPOTrainer(null, config({ rewardFunction: 7 })), TypeError);
  assert.throws(() => new GRPOTrainer(null, {}), TypeError);
  await assert.rejects(GRPOTrainer.create({}), /modelPath is required/);
  await assert.rejects(GRPOTrainer.create({ modelPath: '/nowhere/model' }), { code: 'ERR_COHORT_IO' });
  await assert.rejects(train({}, 7), TypeError);
  await assert.rejects(train({}, [{ answer: 'a' }]), /row 0: prompt/);
  assert.strictEqual((await (await GRPOTrainer.create(config())).train([])).steps, 0);
});

test('resuming: nothing there, a folder, another reward and other rows', async () => {
  assert.strictEqual(GRPOTrainer.findLatestCheckpoint('/nowhere'), null);
  assert.strictEqual(GRPOTrainer.findLatestCheckpoint(undefined), null);
  const fresh = await train({ resumeFromCheckpoint: 'latest', maxSteps: 2 });
  assert.strictEqual(fresh.summary.steps, 2);
  await assert.rejects(train({ outputDir: fresh.trainer.outputDir }), { name: 'CohortError' }); // a run is there
  const checkpoint = GRPOTrainer.findLatestCheckpoint(fresh.trainer.outputDir);
  const longer = await train({ outputDir: fresh.trainer.outputDir, resumeFromCheckpoint: checkpoint, maxSteps: 3 });
  assert.strictEqual(longer.summary.steps, 3);
  await assert.rejects(train({ outputDir: fresh.trainer.outputDir, resumeFromCheckpoint: 'latest', maxSteps: 4 }, ROWS.slice(1)), { name: 'CohortError' });
});

test('the record of a run', async () => {
  const { trainer } = await train();
  const store = await trainer.getOutputStore();
  const [run] = await store.listRuns();
  assert.deepStrictEqual([run.status, run.totalSteps, run.modelPath, run.id], ['completed', 4, MODEL, trainer.outputDir]);
  assert.strictEqual((await store.listRuns(1, 'failed')).length, 0);
  assert.strictEqual(await store.currentRunId(), trainer.outputDir);
  const runs = await cohort.OutputStore.local(WORK);
  assert.strictEqual((await runs.findRunByName(path.basename(trainer.outputDir))).id, trainer.outputDir);
  assert.ok((await runs.listRuns()).length >= 2 && (await runs.listRuns(1)).length === 1);
  assert.strictEqual(await runs.getRun('nothing'), null);
  const steps = await store.getStepSummaries(run.id);
  assert.deepStrictEqual(steps.map((one) => [one.step, one.numGenerations, one.eosCount + one.lengthCount]), [[1, 8, 8], [2, 8, 8], [3, 8, 8], [4, 8, 8]]);
  assert.deepStrictEqual((await store.getStepSummaries(run.id, 2, 3)).map((one) => one.step), [2, 3]);
  const made = await store.getGenerations(run.id, 2);
  assert.strictEqual(made.length, 8);
  assert.ok(made.every(({ generation }) => generation.reward === new Set(generation.completionRaw).size && generation.step === 2));
  const best = await store.getGenerationsByReward(run.id, 2, 1, [1, 4]);
  const all = await store.getCompletions(run.id);
  const rewards = all.map(({ generation }) => generation.reward);
  assert.deepStrictEqual([best.length, best[0].generation.reward, best[2].generation.reward], [3, Math.max(...rewards), Math.min(...rewards)]);
  const stats = await store.getRewardStats(run.id);
  assert.deepStrictEqual([stats.count, stats.max, stats.min], [32, Math.max(...rewards), Math.min(...rewards)]);
  assert.ok(Math.abs(stats.mean - rewards.reduce((a, b) => a + b) / 32) < 1e-12 && stats.p25 <= stats.median && stats.median <= stats.p75);
  assert.strictEqual((await store.getGenerationsByFinishReason(run.id, 'length')).length + (await store.getGenerationsByFinishReason(run.id, 'stop')).length, 32);
  assert.ok((await store.searchGenerations(run.id, 'COUNT TO 1', 'prompt')).length >= 4);
  assert.strictEqual((await store.searchGenerations(run.id, 'no such text in any of them')).length, 0);
  assert.deepStrictEqual(await store.getGenerationsWithToolCalls(run.id), []);
  const file = path.join(WORK, 'export.jsonl');
  assert.strictEqual(await store.exportJsonl(run.id, file), 32);
  assert.strictEqual(fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line)).length, 32);
  assert.deepStrictEqual(JSON.parse(await store.queryRaw('SELECT count(*) AS n, \'it\'\'s\' AS t, NULL AS z FROM completions')), [{ n: 32, t: "it's", z: null }]);
  for (const sql of ['DELETE FROM step', 'ATTACH \'x.db\' AS x', 'SELEC', 'PRAGMA user_version = 3']) await assert.rejects(store.queryRaw(sql), { name: 'CohortError' });
  assert.ok((await store.getInputs(run.id)).some((input) => input.kind === 'model' && /^[0-9a-f]{64}$/.test(input.sha256)));
  assert.ok((await store.getEvents(run.id)).some((event) => event.kind === 'start'));
  assert.throws(() => store.startRun(), { code: 'ERR_COHORT_UNSUPPORTED' });
  await assert.rejects(cohort.OutputStore.local('/nowhere'), { code: 'ERR_COHORT_IO' });
  await assert.rejects(runs.getSteps('nothing'), { name: 'CohortError' });
  store.close();
  await assert.rejects(store.listRuns(), { code: 'ERR_COHORT_CLOSED' });
});

test('two runs at once, and held-out rows', async () => {
  const made = await Promise.all([train({ evalDataset: ROWS.slice(0, 2), evalInterval: 2 }), train()]);
  assert.strictEqual(digest(made[0].trainer.outputDir), digest(made[1].trainer.outputDir));
  const store = await made[0].trainer.getOutputStore();
  assert.ok((await store.getSteps()).some((step) => step.metrics.eval_reward !== undefined));
});

test('a process that ends in a reward, and a thread that is terminated in one', async () => {
  const script = path.join(WORK, 'ends-in-reward.js');
  const begin = `const { GRPOTrainer } = require('cohort'); const rows = [{ prompt: 'a' }, { prompt: 'b' }];
    GRPOTrainer.create({ ...JSON.parse(process.env.CONFIG), rewardFunction: (outputs) => `;
  const run = (reward, status) => {
    fs.writeFileSync(script, `${begin}${reward} }).then((trainer) => trainer.train(rows));`);
    assert.throws(() => execFileSync(process.execPath, [script], {
      env: { ...process.env, CONFIG: JSON.stringify({ ...config(), rewardFunction: undefined }) }, timeout: 60000, stdio: 'ignore',
    }), { status });
  };
  run('process.exit(7)', 7);
  run('new Promise(() => setTimeout(() => process.exit(8), 10))', 8);
  run('setImmediate(() => { throw new Error("nobody catches it"); }) && new Promise(() => {})', 1);
  const worker = new Worker(`${begin}{ require('node:worker_threads').parentPort.postMessage('asked'); return new Promise(() => {}); } }).then((trainer) => trainer.train(rows));`, {
    eval: true, env: { ...process.env, CONFIG: JSON.stringify({ ...config(), rewardFunction: undefined }) },
  });
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await worker.terminate();
});
