// Compiled by test_node.sh with tsc --strict: what a program writes has types.
import {
  ChatMessage, CohortError, DEFAULT_GRPO_CONFIG, GRPOConfig, GRPOTrainer, ModelLoader, NativeRewardRegistry, OutputStore, Qwen3Model, RewardOutput, RewardTimeoutError,
  ALL_REWARD_FUNCTIONS, DistillationTrainer, SFTTrainer, createRewardRegistry, createToolDefinition, formatToolResponse, loadLocalGsm8kDataset, loadModel, ofTokens, version,
} from 'cohort';

async function generation(): Promise<string> {
  const model: Qwen3Model = await loadModel('model', { device: 'cpu', threads: 2, dtype: 'bf16', maxContext: 512, seed: 7n });
  const messages: ChatMessage[] = [{ role: 'user', content: 'Hello' }];
  const one = await model.generate(messages, { maxNewTokens: 5, temperature: 0, stop: ['.'], logitBias: { 3: -1 }, eosTokenId: [2], topLogprobs: 2 });
  const logprob: number = one.logprobs[0] + one.logprobs.length;
  const batch = await model.generateBatch([messages, 'text', Uint32Array.of(1, 2)], 2);
  const reasons: string = batch.finishReasons[0][1];
  for await (const chunk of model.stream(messages)) if (chunk.finishReason !== null) return chunk.text + logprob + reasons + version;
  const tools = [createToolDefinition('look', 'Looks', { at: { type: 'string' } }, ['at'])];
  const answer = await model.chat(messages, { tools });
  for (const call of answer.toolCalls) if (call.status === 'ok') messages.push({ role: 'user', content: formatToolResponse(call.arguments.at) });
  const ids: Uint32Array = await model.applyChatTemplate(messages, true, tools, false);
  const scored: Float32Array = await model.logprobs(ids, { promptLength: 2 });
  model.close();
  return answer.thinking ?? String(scored[0]);
}

async function combined(outputs: RewardOutput[]): Promise<Float32Array> {
  const all = await Promise.all(ALL_REWARD_FUNCTIONS.map((reward) => reward(outputs)));
  return Float32Array.from(outputs, (output, i) => all.reduce((sum, scores) => sum + scores[i], output.completion.numTokens));
}

async function training(): Promise<void> {
  const config: GRPOConfig = {
    ...DEFAULT_GRPO_CONFIG, modelPath: 'model', outputDir: 'out', groupSize: 2, lossType: 'dapo', rewardFunction: combined, topEntropyQuantile: 0.8,
    scaleRewards: 'batch', optim: 'muon', loraTargetModules: ['q_proj'],
  };
  const trainer = await GRPOTrainer.create(config);
  trainer.on('step', (metrics) => console.log(metrics.step, metrics.meanReward.toFixed(2), metrics.raw['completions/mean_length']));
  const summary = await trainer.train(await loadLocalGsm8kDataset('train', { limit: 5 }));
  const store: OutputStore = await trainer.getOutputStore();
  const [best] = await store.getGenerationsByReward(null, 1, 0, [1, summary.steps]);
  console.log(best.generation.reward, best.toolCalls[0]?.toolName, (await store.getRewardStats()).median);
  const typed = new GRPOTrainer<{ level: number }>(await ModelLoader.loadPretrained('model'), {
    rewardFunction: (outputs, context) => outputs.map(() => context.level),
  });
  class Counting {
    tools = [createToolDefinition('add', 'Adds', { x: { type: 'number' } }, ['x'])];
    total = 0;
    reset(row: Record<string, any>): void { this.total = Number(row.answer); }
    add({ x }: { x: number }): string { return String(this.total += x); }
    getReward(): number { return this.total; }
  }
  const played = await GRPOTrainer.create({ modelPath: 'model', environmentFactory: Counting, rewardModelPath: 'scores', modelName: 'qwen3-0.6b' });
  played.setRewardFunction((outputs) => outputs.map(({ environment, messages }) => (environment as Counting).total + (messages?.length ?? 0)));
  new GRPOTrainer(null, { environmentFactory: () => new Counting(), optimizerType: 'adamw', adamwBeta1: 0.9 });
  // @ts-expect-error: an environment has reset
  new GRPOTrainer(null, { environmentFactory: () => ({ tools: [] }) });
  const late: number = new RewardTimeoutError('late', 5).timeoutMs + (await played.generateBatch(['a'])).nativeResult.completionLogprobs[0];
  const { rewards } = await typed.trainStepAuto([[{ role: 'user', content: 'a' }]], { level: 3 });
  typed.setRewardFunction(ofTokens((outputs) => outputs.map((output) => Array.from(output.completion.tokens, () => null))));
  const registry: NativeRewardRegistry = createRewardRegistry();
  registry.register({ rewardType: 'ToolUse', allowedTools: ['look'], weight: rewards[0] });
  // @ts-expect-error: there is no such reward
  registry.register({ rewardType: 'Nothing' });
  // @ts-expect-error: there is no such loss
  const wrong: GRPOConfig = { lossType: 'none' };
  // @ts-expect-error: a number was expected
  await new Promise<GRPOTrainer>((resolve) => resolve(new GRPOTrainer(null, { groupSize: 'two' })));
  console.log(wrong, late);
}

async function others(): Promise<number | null> {
  const trainer = await SFTTrainer.create({ modelPath: 'model', numEpochs: 1, batchSize: 2, packing: true, evalInterval: 5 });
  trainer.on('step', ({ step, loss }) => console.log(step, loss.toFixed(2)));
  const { steps } = await trainer.train([{ prompt: 'a', completion: 'b' }]);
  const distilled = new DistillationTrainer(null, { modelPath: 'model', teacherModelPath: 'teacher', beta: 0.5, rewardFunction: combined });
  // @ts-expect-error: sft has no rewards
  await SFTTrainer.create({ modelPath: 'model', rewardFunction: combined });
  return (await distilled.evaluate('rows.jsonl')).eval_loss ?? steps;
}

training().then(others).catch((error: unknown) => console.error(error instanceof CohortError ? error.code : error)).then(generation);
