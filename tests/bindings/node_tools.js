'use strict';
// Tools of a Node program: a small model that was taught calls makes them while it is trained; functions answer at once, later, or throw.
const { test } = require('node:test');
const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const cohort = require('cohort');

const { MODEL, WORK } = process.env;
let number = 0;
const folder = () => path.join(WORK, `tools${process.version}-${number++}`);
const template = path.join(__dirname, '..', '..', 'examples', 'tool-use', 'template.jinja');
const said = (name, x) => ({ role: 'assistant', content: '', toolCalls: [{ name, arguments: { x } }] });
const definitions = ['double', 'wait', 'fail'].map((name) => cohort.createToolDefinition(name, name, { x: { type: 'integer' } }, ['x']));
const SCRIPT = [['p', 'double', 2, '4'], ['q', 'fail', 3, '{"error":"no luck"}'], ['r', 'wait', 5, '{"later":5}'], ['s', 'gone', 1, '{"error":"Tool gone not found."}']];
const ROWS = SCRIPT.map(([text]) => ({ prompt: [{ role: 'user', content: text }], answer: text }));

let taught = null;
const model = () => (taught ??= (async () => {
  const trainer = await cohort.SFTTrainer.create({ modelPath: MODEL, outputDir: folder(), maxSteps: 200, batchSize: 4, learningRate: 5e-3, assistantOnlyLoss: true,
    saveInterval: 0, chatTemplate: template, logConsole: false, device: 'cpu', threads: 1 });
  await trainer.train(SCRIPT.map(([text, name, x, answer]) => ({
    messages: [{ role: 'user', content: text }, said(name, x), { role: 'tool', name, content: answer }, { role: 'assistant', content: 'ok' }],
    tools: definitions.map((tool) => ({ type: 'function', function: { name: tool.function.name } })),
  })));
  return path.join(trainer.outputDir, 'final');
})());
const asked = [];
const functions = {
  double: ({ x }) => asked.push(x) && String(2 * x),
  wait: async ({ x }) => {
    await new Promise((resolve) => setTimeout(resolve, 30));
    return { later: x };
  },
  fail: () => { throw new Error('no luck'); },
};
const tools = () => definitions.map((tool) => ({ ...tool, call: functions[tool.function.name] }));
const config = async (more = {}) => ({
  modelPath: await model(), outputDir: folder(), groupSize: 2, batchSize: 4, maxNewTokens: 300, learningRate: 1e-9, maxSteps: 1, saveInterval: 0, temperature: 0.02,
  topP: 1, repetitionPenalty: 1, chatTemplate: template, logConsole: false, logCompletions: true, device: 'cpu', threads: 1, tools: tools(),
  rewardFunction: (outputs) => outputs.map(({ completion }) => Number(completion.text === 'ok')), ...more,
});

test('calls are run, and their answers are read', async () => {
  const trainer = await cohort.GRPOTrainer.create(await config());
  const { metrics } = await trainer.train(ROWS);
  const lines = fs.readFileSync(path.join(trainer.outputDir, 'completions.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  for (const { index, episode } of lines) {
    assert.deepStrictEqual(episode.messages.map(({ role }) => role), ['assistant', 'tool', 'assistant'], JSON.stringify(episode));
    assert.strictEqual(episode.messages[1].content, SCRIPT[index][3]);
  }
  assert.strictEqual(lines.length, 8);
  assert.deepStrictEqual(asked, [2, 2]);
  assert.strictEqual(metrics.meanReward, 1);
  assert.strictEqual(metrics.raw['tools/call_frequency'], 1);
  assert.strictEqual(metrics.raw['tools/failure_frequency'], 0.5);
});

test('step by step, and without calls that are run', async () => {
  const trainer = await cohort.GRPOTrainer.create(await config());
  const { completions, metrics } = await trainer.trainStepAuto(ROWS.map(({ prompt }) => prompt));
  assert.strictEqual(completions.length, 8);
  assert.strictEqual(metrics.raw['tools/call_frequency'], 1);
  trainer.close();
  const none = await cohort.GRPOTrainer.create(await config({ maxToolCallingIterations: 0 }));
  assert.strictEqual((await none.train(ROWS)).metrics.raw['tools/call_frequency'], 0);
});

test('tools that hang lose their episodes; a run that is stopped meanwhile ends', async () => {
  const hanging = tools().map((tool) => (tool.function.name === 'wait' ? { ...tool, call: () => new Promise(() => {}) } : tool));
  const trainer = await cohort.GRPOTrainer.create(await config({ tools: hanging, turnTimeout: 0.5 }));
  assert.strictEqual((await trainer.train(ROWS)).metrics.raw['environments/end/turn_time'], 0.25);
  const stopped = await cohort.GRPOTrainer.create(await config({ tools: hanging }));
  setTimeout(() => stopped.stop(), 1500);
  assert.strictEqual((await stopped.train(ROWS)).stopped, true);
});

test('what is wrong with tools is said', async () => {
  const [one, two] = tools();
  assert.throws(() => new cohort.GRPOTrainer(null, { modelPath: MODEL, tools: [one, { ...two, call: undefined }] }), /'wait' has no function 'call'/);
  assert.throws(() => new cohort.GRPOTrainer(null, { modelPath: MODEL, tools: [one, one] }), /twice/);
  assert.throws(() => new cohort.SFTTrainer(null, { modelPath: MODEL, tools: [one] }), TypeError);
  assert.throws(() => new cohort.DistillationTrainer(null, { modelPath: MODEL, tools: definitions }), TypeError);
});

test('a process that ends while a tool is asked ends', async () => {
  const script = path.join(WORK, 'ends.js');
  fs.writeFileSync(script, `
const cohort = require('cohort');
const definitions = ['double', 'wait', 'fail'].map((name) => cohort.createToolDefinition(name, name, { x: { type: 'integer' } }, ['x']));
const trainer = new cohort.GRPOTrainer(null, { ...JSON.parse(process.argv[2]), rewardFunction: (o) => o.map(() => 0),
  tools: definitions.map((definition) => ({ ...definition, call: () => new Promise(() => setTimeout(() => process.exit(7), 50)) })) });
trainer.train([{ prompt: [{ role: 'user', content: 'p' }] }]);
`);
  const { tools: _, rewardFunction: __, ...given } = await config({ batchSize: 1 });
  assert.throws(() => execFileSync(process.execPath, [script, JSON.stringify(given)], { stdio: 'pipe', timeout: 60000 }), { status: 7 });
});
