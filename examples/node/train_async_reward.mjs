// GRPO with a reward that waits for something else, such as a service that judges answers:  node train_async_reward.mjs MODEL FOLDER [STEPS]
import { setTimeout as wait } from 'node:timers/promises';
import { GRPOTrainer } from 'cohort';

const [modelPath, outputDir, steps = '20'] = process.argv.slice(2);

/** Stands for a request: how much of the answer is digits. */
async function judge(text) {
  await wait(1);
  return text.length === 0 ? 0 : (text.match(/[0-9]/g) ?? []).length / text.length;
}

const trainer = await GRPOTrainer.create({
  modelPath,
  outputDir,
  maxSteps: Number(steps),
  batchSize: 4,
  groupSize: 8,
  maxNewTokens: 32,
  learningRate: 1e-5,
  repetitionPenalty: 1,
  logConsole: false,
  rewardTimeout: 10_000,
  rewardFunction: (outputs) => Promise.all(outputs.map((output) => judge(output.completion.text))),
});
trainer.on('step', ({ step, meanReward, loss }) => console.log(`step ${step}: reward ${meanReward.toFixed(3)}, loss ${loss.toFixed(4)}`));
process.once('SIGINT', () => trainer.stop()); // saves a checkpoint; resumeFromCheckpoint: 'latest' goes on from it

const dataset = Array.from({ length: 32 }, (_, i) => ({ prompt: [{ role: 'user', content: `What is ${i} + ${i}?` }], answer: String(2 * i) }));
const summary = await trainer.train(dataset);
console.log(summary.stopped ? `stopped; ${summary.checkpoint}` : `trained model: ${summary.finalPath}`);
