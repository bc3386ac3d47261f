'use strict';
// What MLX-Node's own tests are about (docs/MLX_NODE_TESTS.md), as values and equalities that can be wrong: generation and single steps of its
// trainer, runs over few rows, rewards that do not answer, and what a run that goes on reads. The other files have the rest.
const { test } = require('node:test');
const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const cohort = require('cohort');

const { GRPOTrainer } = cohort;
const { MODEL, WORK } = process.env;
const user = (content) => [{ role: 'user', content }];
let number = 0;
const folder = () => path.join(WORK, `list${process.version}-${number++}`);
const config = (more = {}) => ({
  modelPath: MODEL, modelName: 'qwen3-0.6b', outputDir: folder(), groupSize: 4, maxCompletionLength: 6, seed: 3, saveInterval: 0, logConsole: false, device: 'cpu',
  threads: 1, ...more,
});
const digest = (file) => crypto.createHash('sha256').update(fs.readFileSync(file)).digest('hex');
const weights = async (trainer) => digest(path.join(await trainer.saveCheckpoint('final'), 'model.safetensors'));
const bits = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('hex');
/** One step on one prompt with these rewards: what it says, and the weights behind it. */
const stepOf = async (more, prompts = [user('a')]) => {
  const trainer = new GRPOTrainer(null, config(more));
  const metrics = await trainer.trainStep(prompts);
  const after = await weights(trainer);
  trainer.close();
  return { metrics, after };
};

// ---- generateBatch

test('generateBatch: a group for each prompt, without a reward, with the log-probs of scoring', async () => {
  const trainer = await GRPOTrainer.create(config({ groupSize: 5, temperature: 1 }));
  const prompts = [user('first'), user('second')];
  const { completionTexts, tokenCounts, finishReasons, nativeResult } = await trainer.generateBatch(prompts);
  assert.deepStrictEqual([completionTexts.length, tokenCounts.length, finishReasons.length], [10, 10, 10]);
  assert.ok(tokenCounts.every((count) => count >= 1 && count <= 6));
  assert.ok(new Set(completionTexts.slice(0, 5)).size > 1, 'draws at temperature 1 differ');
  assert.deepStrictEqual(nativeResult.completionLengths, tokenCounts);
  const total = tokenCounts.reduce((a, b) => a + b);
  assert.deepStrictEqual([nativeResult.completionTokens.length, nativeResult.completionLogprobs.length], [total, total]);
  assert.ok(nativeResult.completionLogprobs.every((value) => value <= 0 && value > -100));
  const model = await cohort.Qwen3Model.load(MODEL, { device: 'cpu', threads: 1, maxContext: 256 });
  for (const i of [0, 7]) { // one of each prompt
    const at = tokenCounts.slice(0, i).reduce((a, b) => a + b, 0);
    const ids = await model.applyChatTemplate(prompts[Math.floor(i / 5)]);
    const tokens = nativeResult.completionTokens.slice(at, at + tokenCounts[i]);
    const scored = await model.logprobs([...ids, ...tokens], { promptLength: ids.length });
    assert.strictEqual(bits(scored), bits(Float32Array.from(nativeResult.completionLogprobs.slice(at, at + tokenCounts[i]))));
    assert.strictEqual(await model.decode(tokens.slice(0, finishReasons[i] === 'stop' ? -1 : undefined)), completionTexts[i]);
  }
  model.close();
  trainer.close();
});

test('generateBatch: filters leave the likeliest token alone', async () => {
  const made = async (more) => {
    const trainer = new GRPOTrainer(null, config({ repetitionPenalty: 1, ...more }));
    const { completionTexts } = await trainer.generateBatch([user('a')]);
    trainer.close();
    return completionTexts;
  };
  const model = await cohort.Qwen3Model.load(MODEL, { device: 'cpu', threads: 1, maxContext: 256 });
  const { text } = await model.generate(user('a'), { temperature: 0, maxNewTokens: 6 });
  model.close();
  assert.deepStrictEqual(await made({ topK: 1, topP: 1 }), Array(4).fill(text));
  assert.deepStrictEqual(await made({ topP: 1e-6 }), Array(4).fill(text));
  assert.ok((await made({ topP: 1, temperature: 1.5 })).some((one) => one !== text));
});

test('generateBatch: no prompts, ten of them, one token, and a group of one', async () => {
  const trainer = await GRPOTrainer.create(config({ groupSize: 2, maxCompletionLength: 1 }));
  assert.strictEqual((await trainer.generateBatch([])).completionTexts.length, 0);
  const { tokenCounts } = await trainer.generateBatch(Array.from({ length: 10 }, (_, i) => user(`prompt ${i}`)));
  assert.deepStrictEqual(tokenCounts, Array(20).fill(1));
  await assert.rejects(trainer.generateBatch(Array.from({ length: 11 }, () => user('more'))), { code: 'ERR_COHORT_ARGUMENT' }); // memory is planned
  trainer.close();
  assert.throws(() => new GRPOTrainer(null, config({ groupSize: 1 })), (error) => error.code === 'ERR_COHORT_ARGUMENT' && /num_generations/.test(error.message));
  assert.ok(await GRPOTrainer.create({ modelPath: MODEL }) instanceof GRPOTrainer);
  assert.ok(await GRPOTrainer.create({ modelPath: MODEL, groupSize: 16, maxNewTokens: 512, temperature: 1 }) instanceof GRPOTrainer);
});

// ---- trainStep

test('trainStep: the metrics are those of the rewards, and each step trains on its own prompts', async () => {
  const seen = [];
  const trainer = new GRPOTrainer(null, config({ maxCompletionLength: 5, learningRate: 1e-3, rewardFunction: (outputs) => {
    seen.push(outputs);
    return Float32Array.from(outputs, (_, i) => 1 + (i % 4));
  } }));
  const one = await trainer.trainStep([user('first'), user('second')]);
  assert.deepStrictEqual([one.step, one.meanReward, one.meanAdvantage, one.stdAdvantage], [1, 2.5, 0, 1]);
  assert.ok(Math.abs(one.stdReward - Math.sqrt(10 / 7)) < 1e-6, `${one.stdReward}`);
  assert.strictEqual(one.totalTokens, seen[0].reduce((sum, { completion }) => sum + completion.numTokens, 0));
  assert.ok(one.totalTokens <= 8 * 5 && Number.isFinite(one.loss) && one.gradNorm > 0);
  const two = await trainer.trainStep([user('third'), user('fourth')]);
  assert.deepStrictEqual([two.step, trainer.step], [2, 2]);
  assert.deepStrictEqual(seen.map((outputs) => outputs.length), [8, 8]);
  assert.ok(/first/.test(seen[0][0].prompt) && /second/.test(seen[0][7].prompt) && /third/.test(seen[1][0].prompt) && /fourth/.test(seen[1][7].prompt));
  for (let step = 3; step <= 5; step++) assert.strictEqual((await trainer.trainStep([user('again')])).step, step);
  assert.notStrictEqual(await weights(trainer), digest(path.join(MODEL, 'model.safetensors')));
  trainer.close();
});

test('trainStep: a group whose rewards are the same teaches nothing', async () => {
  const { metrics, after } = await stepOf({ weightDecay: 0, learningRate: 1e-2, rewardFunction: (outputs) => outputs.map(() => 5) });
  assert.deepStrictEqual([metrics.meanReward, metrics.stdReward, metrics.stdAdvantage, metrics.loss, metrics.gradNorm], [5, 0, 0, 0, 0]);
  assert.strictEqual(after, digest(path.join(MODEL, 'model.safetensors')));
});

test('trainStep: losses differ, and how far a ratio may go does not matter on-policy', async () => {
  const rewardFunction = () => [10, 0.1, 5, -2];
  const eosToken = [...'abcdefghijklmnop']; // whatever a machine draws, lengths differ
  const made = {};
  for (const more of [{ lossType: 'grpo' }, { lossType: 'bnpo' }, { lossType: 'dr_grpo' }, { lossType: 'grpo', clipEpsilon: 0.1 }, { lossType: 'grpo', clipEpsilon: 0.3 }]) {
    const { metrics, after } = await stepOf({ ...more, eosToken, learningRate: 1e-3, rewardFunction, maxCompletionLength: 40, repetitionPenalty: 1 });
    assert.ok(Number.isFinite(metrics.loss) && metrics.stdReward > 0 && metrics.step === 1, JSON.stringify(more));
    made[`${more.lossType} ${more.clipEpsilon ?? 0.2}`] = after;
  }
  assert.notStrictEqual(made['dr_grpo 0.2'], made['grpo 0.2']);
  assert.strictEqual(made['grpo 0.1'], made['grpo 0.2']);
  assert.strictEqual(made['grpo 0.3'], made['grpo 0.2']);
});

test('trainStep: it trains on what generateBatch showed, by what scoreGenerations says of it', async () => {
  let calls = 0;
  const trainer = new GRPOTrainer(null, config({ rewardFunction: (outputs) => {
    calls++;
    return outputs.map(({ completion }) => completion.rawText.length);
  } }));
  const prompts = [user('a')];
  const { completionTexts } = await trainer.generateBatch(prompts);
  const scores = await trainer.scoreGenerations(prompts, completionTexts, []);
  assert.deepStrictEqual([...scores], completionTexts.map((text) => text.length));
  const { metrics, completions, rewards } = await trainer.trainStepAuto(prompts);
  assert.deepStrictEqual([completions, rewards, calls], [completionTexts, [...scores], 2]);
  assert.ok(Math.abs(metrics.meanReward - scores.reduce((a, b) => a + b) / 4) < 1e-6);
  assert.strictEqual((await trainer.scoreGenerations([], [], [])).length, 0);
  trainer.close();
});

test('trainStep: a reward that comes after the first prompts were answered', async () => {
  const rewardFunction = (outputs) => outputs.map((_, i) => i);
  const late = new GRPOTrainer(null, config({ learningRate: 1e-3 }));
  await late.generateBatch([user('a')]);
  await assert.rejects(late.trainStep([user('a')]), /No reward function configured/);
  late.setRewardFunction(rewardFunction);
  const { metrics, rewards } = await late.trainStepAuto([user('a')]);
  assert.deepStrictEqual([metrics.step, metrics.meanReward, rewards], [1, 1.5, [0, 1, 2, 3]]);
  assert.strictEqual(await weights(late), (await stepOf({ learningRate: 1e-3, rewardFunction })).after);
  late.setRewardFunction(() => [1]);
  await assert.rejects(late.trainStep([user('a')]), /returned 1 rewards for 4 completions/);
  late.close();
});

// ---- train

test('train: how often a reward is asked over few rows', async () => {
  const rows = (n) => Array.from({ length: n }, (_, i) => ({ prompt: user(`row ${i}`), answer: String(i) }));
  const cases = [[3, { batchSize: 2 }, [4, 4]], [1, { batchSize: 2 }, [4]], [1, { batchSize: 10 }, [20]], [1, { batchSize: 1, numEpochs: 2 }, [2, 2]],
    [3, { batchSize: 2, numEpochs: 2 }, [4, 4, 4, 4]], [4, { batchSize: 2 }, [4, 4]], [10, { batchSize: 5 }, [10, 10]]];
  for (const [n, more, expected] of cases) {
    const calls = [];
    const texts = new Set();
    const trainer = new GRPOTrainer(null, config({ groupSize: 2, ...more, rewardFunction: (outputs) => {
      calls.push(outputs.length);
      outputs.forEach(({ completion }) => texts.add(completion.rawText));
      return outputs.map((_, i) => Math.sin(i) * 5 + 5);
    } }));
    const { steps } = await trainer.train(rows(n));
    assert.deepStrictEqual([calls, steps], [expected, expected.length], JSON.stringify([n, more]));
    assert.ok(texts.size > 1, 'completions differ');
  }
  assert.strictEqual((await new GRPOTrainer(null, config({ rewardFunction: () => [] })).train([])).steps, 0);
});

// ---- Rewards that do not answer

test('rewardTimeout: in scoreGenerations and in trainStep; 0 is none, 60 s where nothing is said', async () => {
  const after = (ms) => async (outputs) => {
    await new Promise((resolve) => setTimeout(resolve, ms));
    return outputs.map(() => 1);
  };
  const never = () => new Promise(() => {});
  const scores = (more) => new GRPOTrainer(null, config({ groupSize: 2, ...more })).scoreGenerations([user('a')], ['x', 'y'], []);
  const late = (error) => error instanceof cohort.RewardTimeoutError && error instanceof cohort.CohortError && error.name === 'RewardTimeoutError' &&
    error.code === 'ERR_COHORT_REWARD_TIMEOUT' && error.timeoutMs === 100 && /timed out after 100ms/.test(error.message);
  await assert.rejects(scores({ rewardFunction: never, rewardTimeout: 100 }), late);
  for (const more of [{ rewardFunction: after(1), rewardTimeout: 60000 }, { rewardFunction: after(60), rewardTimeout: 0 }, { rewardFunction: after(1) },
    { rewardFunction: (outputs) => Float32Array.from(outputs, () => 1), rewardTimeout: 100 }]) {
    const values = await scores(more);
    assert.ok(values instanceof Float32Array && values.length === 2 && values[0] === 1);
  }
  assert.strictEqual(cohort.DEFAULT_GRPO_CONFIG.rewardTimeout, 60000);
  const slow = new GRPOTrainer(null, config({ rewardFunction: never, rewardTimeout: 100 }));
  await assert.rejects(slow.trainStep([user('a')]), late);
  slow.close();
  const quick = await stepOf({ rewardFunction: after(5), rewardTimeout: 60000 });
  assert.strictEqual(quick.metrics.meanReward, 1);
  const made = new cohort.RewardTimeoutError('words', 5000);
  assert.deepStrictEqual([made.name, made.message, made.timeoutMs, made instanceof Error], ['RewardTimeoutError', 'words', 5000, true]);
});

// ---- What a run reads

test('a run knows its rows by their hash, all of them in their order', async () => {
  const rows = Array.from({ length: 12 }, (_, i) => ({ prompt: user(`row ${i}`), answer: String(i) }));
  const hashOf = async (data) => {
    const trainer = new GRPOTrainer(null, config({ groupSize: 2, maxSteps: 1, maxCompletionLength: 2, rewardFunction: (outputs) => outputs.map((_, i) => i) }));
    await trainer.train(data);
    const store = await trainer.getOutputStore();
    const [input] = (await store.getInputs()).filter(({ kind }) => kind === 'data');
    assert.strictEqual(input.sha256, digest(input.path));
    trainer.close();
    return input.sha256;
  };
  const whole = await hashOf(rows);
  assert.strictEqual(await hashOf(rows), whole);
  const last = rows.map((row, i) => (i === 11 ? { ...row, answer: 'another' } : row)); // beyond a sample of the first ten
  for (const other of [rows.slice(0, 2), [...rows].reverse(), last]) assert.notStrictEqual(await hashOf(other), whole);
});

test('a run that goes on has its rows; others are refused by name, or accepted by name, and its record is that of a run that was never stopped', async () => {
  const rows = Array.from({ length: 6 }, (_, i) => ({ prompt: user(`row ${i}`), answer: String(i) }));
  const more = { groupSize: 2, batchSize: 1, maxSteps: 4, saveInterval: 2, learningRate: 1e-3 };
  const distinct = (outputs) => outputs.map(({ completion }) => new Set(completion.rawText).size);
  const recordOf = async (trainer) => {
    const store = await trainer.getOutputStore();
    const steps = (await store.getStepSummaries()).map(({ step, meanReward, numGenerations }) => [step, meanReward, numGenerations]);
    const said = (await store.getCompletions()).map(({ generation }) => [generation.step, generation.row, generation.completionRaw, generation.reward]);
    trainer.close();
    return { steps, said };
  };
  const whole = new GRPOTrainer(null, config({ ...more, rewardFunction: distinct }));
  await whole.train(rows);
  let calls = 0;
  const broken = new GRPOTrainer(null, config({ ...more, rewardFunction: (outputs) => {
    if (++calls === 4) throw new Error('in step 4');
    return distinct(outputs);
  } }));
  await assert.rejects(broken.train(rows), /in step 4/); // steps 1 to 3 are in its record, its checkpoint is step 2
  const again = (data, others = {}) => {
    const trainer = new GRPOTrainer(null, config({ ...more, outputDir: broken.outputDir, resumeFromCheckpoint: 'latest', rewardFunction: distinct, ...others }));
    return trainer.train(data).then(() => trainer);
  };
  await assert.rejects(again(rows.slice(0, 2)), (error) => error.code === 'ERR_COHORT_STATE' && /data/.test(error.message));
  const resumed = await recordOf(await again(rows));
  assert.deepStrictEqual(resumed, await recordOf(whole));
  assert.deepStrictEqual(resumed.steps.map(([step]) => step), [1, 2, 3, 4]);
  const state = JSON.parse(fs.readFileSync(path.join(broken.outputDir, 'checkpoints', 'step-4', 'trainer', 'inputs.json'), 'utf8'));
  assert.ok(JSON.stringify(state).includes('train.jsonl'));
  const changed = await again(rows.slice(0, 2), { maxSteps: 5, acceptChanged: 'data' });
  assert.strictEqual((await recordOf(changed)).steps.length, 5);
});

test('the record: steps to an end alone, and calls of tools by their status alone', async () => {
  const trainer = new GRPOTrainer(null, config({ maxSteps: 3, groupSize: 2, maxCompletionLength: 2, rewardFunction: (outputs) => outputs.map((_, i) => i / 2) }));
  await trainer.train(Array.from({ length: 3 }, (_, i) => ({ prompt: user(`apple ${i}`) })));
  const store = await trainer.getOutputStore();
  const [run] = await store.listRuns();
  assert.deepStrictEqual((await store.getStepSummaries(run.id, undefined, 2)).map(({ step, meanReward }) => [step, meanReward]), [[1, 0.25], [2, 0.25]]);
  assert.deepStrictEqual(await store.getGenerationsWithToolCalls(run.id, undefined, 'ok', 10), []);
  const [{ generation }] = await store.searchGenerations(run.id, 'apple 1', 'prompt', 1);
  assert.match(generation.prompt, /apple 1/);
  const found = await store.searchGenerations(run.id, generation.completionText, 'completion', 10);
  assert.ok(generation.completionText === '' || found.some((one) => one.generation.completionText === generation.completionText));
  assert.deepStrictEqual([(await store.getRewardStats(run.id)).count, (await store.getRewardStats(run.id, [1, 1])).mean], [6, 0.25]);
  trainer.close();
});
