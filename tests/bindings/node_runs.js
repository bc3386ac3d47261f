'use strict';
// The trainers of the Node package beside GRPOTrainer: the bits of their commands, evaluations, stopping and resuming, what is refused.
const { test } = require('node:test');
const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const cohort = require('cohort');

const { MODEL, WORK, COHORT } = process.env;
const user = (content) => [{ role: 'user', content }];
const SAID = Array.from({ length: 8 }, (_, i) => ({ messages: [...user(`say ${i}`), { role: 'assistant', content: `it is ${i}` }] }));
const PAIRS = Array.from({ length: 8 }, (_, i) => ({ prompt: `Is ${i} even?`, chosen: i % 2 ? ' no' : ' yes', rejected: ' perhaps' }));
let number = 0;
const folder = () => path.join(WORK, `runs${process.version}-${number++}`);
const config = (more = {}) => ({
  modelPath: MODEL, outputDir: folder(), batchSize: 2, learningRate: 1e-2, maxSteps: 6, saveInterval: 3, logConsole: false, device: 'cpu', threads: 1, seed: 3,
  ...more,
});
const digest = (out, name = 'model.safetensors') => crypto.createHash('sha256').update(fs.readFileSync(path.join(out, 'final', name))).digest('hex');
/** The same run by the program. */
const again = (command, trainer) => {
  const out = folder();
  execFileSync(COHORT, [command, '--config', path.join(trainer.outputDir, 'config.yaml'), '--out', out], { stdio: 'ignore' });
  return digest(out);
};

for (const [name, command, rows] of [['SFTTrainer', 'sft', SAID], ['DPOTrainer', 'dpo', PAIRS], ['KTOTrainer', 'kto', PAIRS], ['ORPOTrainer', 'orpo', PAIRS],
  ['CPOTrainer', 'cpo', PAIRS], ['RewardTrainer', 'reward', PAIRS]]) {
  test(`${name}: the weights of cohort ${command}, and a loss that fell`, async () => {
    const trainer = await cohort[name].create(config());
    const losses = [];
    trainer.on('step', ({ loss, raw }) => losses.push(loss) && assert.ok(raw.grad_norm > 0));
    const { steps, finalPath, stopped } = await trainer.train(rows);
    assert.deepStrictEqual([steps, stopped, finalPath], [6, false, path.join(trainer.outputDir, 'final')]);
    assert.strictEqual(losses.length, 6);
    assert.ok(Math.min(...losses.slice(1)) < losses[0], String(losses));
    assert.strictEqual(again(command, trainer), digest(trainer.outputDir));
    assert.strictEqual((await (await trainer.getOutputStore()).getSteps()).length, 6);
    trainer.close();
  });
}

test('DistillationTrainer: the weights of cohort distill; a reward is measured', async () => {
  const teacher = path.join(WORK, `teacher${process.version}`);
  await cohort.initModel(teacher, { preset: 'nano', tokenizer: 'bytes', seed: 2 });
  const more = { teacherModelPath: teacher, maxNewTokens: 8, beta: 0.5 };
  const trainer = await cohort.DistillationTrainer.create(config(more));
  const before = await trainer.evaluate(PAIRS.map(({ prompt }) => ({ prompt })));
  await trainer.train(PAIRS.map(({ prompt }) => ({ prompt })));
  const after = await trainer.evaluate(PAIRS.map(({ prompt }) => ({ prompt })));
  assert.ok(after.eval_loss < before.eval_loss, `${after.eval_loss} < ${before.eval_loss}`);
  assert.strictEqual(again('distill', trainer), digest(trainer.outputDir));
  const measured = await cohort.DistillationTrainer.create(config({ ...more, maxSteps: 1, rewardFunction: function length(outputs) {
    return outputs.map(({ completion }) => completion.numTokens);
  } }));
  assert.strictEqual((await measured.train(PAIRS.map(({ prompt }) => ({ prompt })))).metrics.raw['rewards/length/mean'], 8);
});

test('evaluate() gives what the evaluations of a run give, with an adapter too', async () => {
  const started = await cohort.SFTTrainer.create(config({ usePeft: true, loraR: 4, maxSteps: 1, saveInterval: 0 }));
  const adapter = path.join((await started.train(SAID)).outputDir, 'final');
  const reference = path.join(WORK, `reference${process.version}`);
  await cohort.initModel(reference, { preset: 'nano', tokenizer: 'bytes', seed: 5 });
  const kinds = [
    ['SFTTrainer', SAID, {}], ['SFTTrainer', SAID, { usePeft: true, loraR: 4 }], ['SFTTrainer', SAID, { adapter }], ['CPOTrainer', PAIRS, {}],
    ['DPOTrainer', PAIRS, {}], ['DPOTrainer', PAIRS, { usePeft: true, loraR: 4 }], ['DPOTrainer', PAIRS, { adapter }],
    ['DPOTrainer', PAIRS, { refModel: reference }], ['KTOTrainer', PAIRS, {}],
  ];
  for (const [name, rows, more] of kinds) {
    const trainer = await cohort[name].create(config({ ...more, evalDataset: rows.slice(0, 3), evalInterval: 6 }));
    const seen = [];
    trainer.on('evaluation', (raw) => seen.push(raw));
    trainer.on('step', ({ raw }) => raw.eval_loss !== undefined && seen.push(raw));
    const before = await trainer.evaluate();
    await trainer.train(rows);
    const after = await trainer.evaluate();
    assert.strictEqual(seen.length, 2);
    for (const [figures, raw] of [[before, seen[0]], [after, seen[1]]]) {
      assert.ok('eval_loss' in figures);
      for (const [key, value] of Object.entries(figures)) assert.strictEqual(value, raw[key], `${name} ${JSON.stringify(more)} ${key}`);
    }
    assert.ok(after.eval_loss < before.eval_loss, `${name} ${JSON.stringify(more)}: ${after.eval_loss} < ${before.eval_loss}`);
  }
  const dpo = await cohort.DPOTrainer.create(config({ maxSteps: 1 }));
  assert.ok(Math.abs((await dpo.evaluate(PAIRS)).eval_loss - Math.LN2) < 1e-6);
  const synced = await cohort.DPOTrainer.create(config({ maxSteps: 1, syncRefModel: true }));
  await synced.train(PAIRS);
  await assert.rejects(synced.evaluate(PAIRS), { code: 'ERR_COHORT_UNSUPPORTED' });
});

test('a run that was stopped goes on', async () => {
  const whole = await cohort.SFTTrainer.create(config());
  await whole.train(SAID);
  const settings = config();
  const first = await cohort.SFTTrainer.create(settings);
  first.on('step', ({ step }) => step === 4 && first.stop());
  const { stopped, steps, checkpoint } = await first.train(SAID);
  assert.ok(stopped && steps < 6 && checkpoint !== null, `${stopped} ${steps} ${checkpoint}`);
  await (await cohort.SFTTrainer.create({ ...settings, resumeFromCheckpoint: 'latest' })).train(SAID);
  assert.strictEqual(digest(settings.outputDir), digest(whole.outputDir));
  await assert.rejects(first.train(SAID), { code: 'ERR_COHORT_STATE' });
});

test('what is wrong is said', async () => {
  await assert.rejects(cohort.SFTTrainer.create(config({ modelPath: '/nowhere' })), { code: 'ERR_COHORT_IO' });
  await assert.rejects(cohort.SFTTrainer.create(config({ lerningRate: 1 })), /learningRate/);
  await assert.rejects(cohort.SFTTrainer.create(config({ rewardFunction: () => [] })), TypeError);
  await assert.rejects((await cohort.SFTTrainer.create(config())).train([]), TypeError);
  await assert.rejects((await cohort.SFTTrainer.create(config())).train([1]), TypeError);
  await assert.rejects((await cohort.SFTTrainer.create(config())).train([{ question: 'a' }]), { name: 'CohortError' });
  await assert.rejects((await cohort.SFTTrainer.create(config())).evaluate(), TypeError);
  const thrown = new Error('mine');
  const trainer = await cohort.SFTTrainer.create(config());
  trainer.on('step', () => { throw thrown; });
  await assert.rejects(trainer.train(SAID), (error) => error === thrown);
});
