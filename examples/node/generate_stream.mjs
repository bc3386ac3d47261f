// Streams an answer, then draws four answers to two questions as one batch:  node generate_stream.mjs MODEL [QUESTION]
import { Qwen3Model } from 'cohort';

const [folder, question = 'Write a haiku about rivers.'] = process.argv.slice(2);
const model = await Qwen3Model.load(folder, { maxContext: 4096 });

for await (const chunk of model.stream([{ role: 'user', content: question }], { maxNewTokens: 200, temperature: 0.7 })) {
  process.stdout.write(chunk.text);
  if (chunk.finishReason !== null) console.log(`\n[${chunk.finishReason}]`);
}

const questions = ['What is 2 + 3?', 'What is 7 * 6?'].map((content) => [{ role: 'user', content }]);
const batch = await model.generateBatch(questions, 2, { maxNewTokens: 40, seed: 1, enableThinking: false });
batch.texts.forEach((text, i) => {
  const logprob = batch.logprobs[i].reduce((sum, value) => sum + value, 0);
  console.log(`${questions[Math.floor(i / batch.groupSize)][0].content} ${JSON.stringify(text)} (log-prob ${logprob.toFixed(1)})`);
});
model.close();
