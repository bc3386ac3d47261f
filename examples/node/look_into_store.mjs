// What runs have recorded: node look_into_store.mjs FOLDER (of a run, or of runs)
import { OutputStore } from 'cohort';

const store = await OutputStore.local(process.argv[2] ?? 'runs');
for (const run of await store.listRuns()) {
  console.log(`${run.name}: ${run.status}, ${run.totalSteps} steps of ${run.modelName}`);
  for (const step of (await store.getStepSummaries(run.id)).slice(-3)) {
    console.log(`  step ${step.step}: reward ${step.meanReward.toFixed(3)}, ${step.lengthCount} of ${step.numGenerations} completions cut off`);
  }
  const stats = await store.getRewardStats(run.id);
  console.log(`  rewards: median ${stats.median.toFixed(3)}, from ${stats.min.toFixed(3)} to ${stats.max.toFixed(3)}`);
  const [best, worst] = await store.getGenerationsByReward(run.id, 1, 1);
  for (const made of [best, worst].filter(Boolean)) console.log(`  ${made.generation.reward}: ${JSON.stringify(made.generation.completionRaw.slice(0, 80))}`);
  console.log(`  ${await store.queryRaw('SELECT count(*) AS completions, avg(tokens) AS mean_tokens FROM completions', run.id)}`);
}
store.close();
