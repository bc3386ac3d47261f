'use strict';
// The run of bindings_program.c, from Node.
const fs = require('node:fs');
const { GRPOTrainer } = require('cohort');

const [settings, outputDir, from] = process.argv.slice(2);
const given = Object.fromEntries(fs.readFileSync(settings, 'utf8').trim().split('\n').map((line) => line.split(': ')));
const { model, data, ...options } = given;
const trainer = new GRPOTrainer(null, {
  ...options, modelPath: model, outputDir, numEpochs: null, logConsole: false,
  rewardFunction: (outputs) => outputs.map(({ completion }) => new Set(completion.rawText).size),
});
const now = () => {
  const { user, system } = process.cpuUsage();
  return [user + system, Number(process.hrtime.bigint()) / 1000];
};
let begin = null;
let end = null;
let last = 0;
trainer.on('step', ({ step }) => {
  end = now();
  last = step;
  if (step === Number(from)) begin = end;
});
trainer.train(data).then(() => console.log(end.map((value, i) => ((value - begin[i]) / (last - Number(from))).toFixed(1)).join(' ')));
