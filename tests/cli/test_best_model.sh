# grpo and rloo by their evaluations: which is the best, early stopping, the checkpoint that is kept and that final/ is made of, and the
# same in two parts. The figures that decide are the run's own.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5; do echo "{\"prompt\": \"is $i even?\"}"; done >d.jsonl
head -n 3 d.jsonl >held.jsonl
run() { # run COMMAND OUT OPTIONS
    local command=$1 out=$2
    shift 2
    "$COHORT" "$command" --model m --data d.jsonl --threads 1 --device cpu --dtype f32 --learning-rate 3e-3 \
        --prompts-per-step 2 --num-generations 4 --max-completion-length 8 --eval-data held.jsonl --eval-steps 1 --steps 14 --out "$out" "$@"
}
# stops_after RUN METRIC SIGN PATIENCE: the step that it stops at, the best step by then; SIGN -1: less is better
stops_after()
{
    sed -n "s/^{\"step\": \([0-9]*\),.*\"eval_$2\": \([^,}]*\).*/\1 \2/p" "$1/metrics.jsonl" | awk -v sign="$3" -v patience="$4" '
        $1 == 0 {next}
        {v = sign * $2; worse = (n++ == 0 || v > best) ? 0 : worse + 1; if (n == 1 || v > best) {best = v; at = $1}; last = $1}
        worse >= patience {exit}
        END {print last, at}'
}
steps_of() { (cd "$1/checkpoints" && ls | sort -t- -k2 -n | tr '\n' ' '); }
for command in grpo rloo; do
    reward=(--reward regex --reward-pattern '[aeiou]')
    succeeds run $command $command-long "${reward[@]}"
    read -r last best <<<"$(stops_after $command-long reward 1 3)"
    differs "$last" "$best" "$command: the best step and the last one, of which one test says nothing"
    KEEP=("${reward[@]}" --load-best-model-at-end --early-stopping-patience 3 --save-total-limit 1)
    succeeds run $command $command-kept "${KEEP[@]}"
    is "$(tail -n 1 $command-kept/metrics.jsonl | sed 's/^{"step": \([0-9]*\).*/\1/')" "$last" "where $command stops"
    [ "$last" = 14 ] || has err "stopped after step $last: 3 evaluations in a row are not better than the best, eval_reward"
    has err "final is the model of step $best: its eval_reward is the best"
    is "$(steps_of $command-kept)" "step-$best step-$last " "$command: the best and the last checkpoint"
    same $command-kept/final/model.safetensors $command-kept/checkpoints/step-$best/model.safetensors
    succeeds run $command $command-to-best "${reward[@]}" --steps "$best"
    same $command-kept/final/model.safetensors $command-to-best/final/model.safetensors
    "$COHORT" info --model $command-kept/final --verify >out 2>&1 || wrong "final of the best model: $(cat out)"
    # In two parts, and a run that stopped stays stopped.
    succeeds run $command $command-parts "${KEEP[@]}" --steps $((last - 1))
    succeeds run $command $command-parts "${KEEP[@]}" --resume
    same $command-parts/final $command-kept/final
    same $command-parts/checkpoints/step-$last/trainer/state.json $command-kept/checkpoints/step-$last/trainer/state.json
    succeeds run $command $command-parts "${KEEP[@]}" --resume
    is "$(tail -n 1 $command-parts/metrics.jsonl | sed 's/^{"step": \([0-9]*\).*/\1/')" "$last" "a stopped run that is resumed"
done

# Another metric of an evaluation, with eval_ before it as people of TRL write it, of which less is better.
succeeds run grpo short "${reward[@]}" --metric-for-best-model eval_completions/mean_length --greater-is-better false --load-best-model-at-end
read -r last best <<<"$(stops_after short 'completions\/mean_length' -1 99)"
[ "$best" = 14 ] || has err "final is the model of step $best: its eval_completions/mean_length is the best"
same short/final/model.safetensors "short/checkpoints/step-$best/model.safetensors"
fails 2 "metric_for_best_model: an evaluation of this run has no 'nothing'; it has reward, " run grpo no "${reward[@]}" \
    --metric-for-best-model nothing --load-best-model-at-end
fails 2 'load-best-model-at-end looks at evaluations during the run: pass --eval-data FILE, and --eval-steps N$' run grpo no "${reward[@]}" \
    --load-best-model-at-end --eval-steps 0
done_testing
