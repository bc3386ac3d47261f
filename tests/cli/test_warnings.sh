# Runs that go wrong say so (docs/RUN.md), at the step and in the words of the rule, once, and at their end; --stop-on diverged ends them with a
# whole checkpoint; a resumed run says nothing twice; runs that learn are silent. Every threshold is in tests/unit/test_diagnosis.c.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5 6 7 8; do echo "{\"prompt\": \"q$i\", \"completion\": \"a$i\"}"; done >d.jsonl
for i in 1 2 3 4 5 6 7 8; do echo "{\"prompt\": \"q$i\", \"completion\": \"$((i * 7919 % 1000))\"}"; done >other.jsonl
# by_length: rewards that differ. constant VALUE: rewards that do not.
cat >by_length.sh <<'R'
while IFS= read -r line; do echo $((${#line} % 7)); done
R
constant() { echo "exec:while IFS= read -r l; do echo $1; done"; }
GRPO=("$COHORT" grpo --model m --data d.jsonl --num-generations 2 --prompts-per-step 4 --max-completion-length 6 --learning-rate 1e-4
    --seed 5 --threads 1 --device cpu --save-steps 0)
SFT=("$COHORT" sft --model m --data d.jsonl --batch-size 2 --threads 1 --device cpu --save-steps 0)
END=(--logit-bias '256:4,258:4') # so that most completions end
DIFFER=(--reward 'exec:sh by_length.sh')
# says STEP ID WORDS: the last run said it, once while it went on and once at its end, and nothing else of that rule
says()
{
    is "$(grep -c "^warning: step $1, $2: .*$3.* Usually: " err)" 1 "warnings of $2"
    is "$(grep -c "^  step $1, $2: .*$3" err)" 1 "warnings of $2 at the end"
}

succeeds "${GRPO[@]}" "${END[@]}" --reward "$(constant 0.5)" --steps 25 --out equal
says 10 C1 'all rewards were equal within every group.*mean reward is 0.5'
has err '^warning: .*cohort score'
is "$(grep -c '^warning: ' err)" 1 "equal rewards: warnings"
if command -v sqlite3 >/dev/null; then
    is "$(sqlite3 -readonly equal/run.db "SELECT step, rule, severity, json_extract(json, '\$.name') FROM event WHERE kind = 'warning'")" \
        '10|C1|fatal|no_spread' "the warning in the store"
fi
"${GRPO[@]}" "${END[@]}" --reward "$(constant 0.5)" --steps 25 --out again >both 2>&1
is "$(sed -n '/^step 10.25 /,/^step 11.25 /p' both | cut -c1-8 | tr '\n' ' ')" "step 10/ warning: step 11/ " "a warning and the steps around it"
succeeds "${GRPO[@]}" "${END[@]}" --reward "$(constant null)" --steps 12 --out null
says 3 C3 'every reward function answered null'
is "$(grep -c '^warning: ' err)" 1 "null rewards: warnings"
succeeds "${GRPO[@]}" "${END[@]}" "${DIFFER[0]}" "${DIFFER[1]},$(constant 0)" --steps 30 --out never
says 30 C4 'never says yes'
succeeds "${GRPO[@]}" --logit-bias 256:-1000,258:-1000 "${DIFFER[@]}" --steps 8 --out cut
says 1 C5 '100 % of the completions of this step never ended'
says 5 C5 'no completion ended by itself'
is "$(grep -c '^warning: ' err)" 2 "nothing ends: warnings"
succeeds "${GRPO[@]}" --logit-bias 256:2,258:2 "${DIFFER[@]}" --steps 12 --seed 7 --out half
has err '^warning: step 1[0-2], C6: .* of the completions were cut'
succeeds "${GRPO[@]}" "${END[@]}" "${DIFFER[@]}" --steps 6 --out fine
lacks err '^warning: '
# A reward that is waited for.
cat >slow.sh <<'R'
while IFS= read -r line; do
    echo $((${#line} % 7))
    case $line in *'"last_of_batch":true'*) sleep 0.1 ;; esac
done
R
succeeds "${GRPO[@]}" "${END[@]}" --reward 'exec:sh slow.sh' --steps 22 --out slow
has err '^warning: step 2[0-2], M1: .*waiting for rewards'
# The program in which sampling and training add up in another order (a negative control of the exactness tests).
if [ -x "${BUILD:-}/tests/cohort_broken" ]; then
    succeeds "$BUILD/tests/cohort_broken" "${GRPO[@]:1}" "${END[@]}" "${DIFFER[@]}" --dtype f32 --steps 2 --out broken
    says 1 U5 'sampler and trainer disagree'
fi

# --- a model that comes to say one thing only, though not all is well ---
cat >letters.sh <<'R'
n=0
while IFS= read -r line; do
    n=$((n + 5))
    text=${line#*'"completion":"'}
    text=${text%%'"'*}
    rest=${text//[a-z]/}
    echo $((${#text} - ${#rest} + n % 4))
done
R
COLLAPSE=("${GRPO[@]}" --num-generations 8 --reward 'exec:bash letters.sh')
succeeds "${COLLAPSE[@]}" --steps 110 --learning-rate 1e-2 --max-completion-length 3 --out collapse
has err '^warning: step [0-9]+, U2: the entropy is .*stopped trying different answers'
succeeds "${COLLAPSE[@]}" --steps 190 --learning-rate 5e-4 --beta 0.0001 --out far
has err '^warning: step [0-9]+, U4: the KL to the reference is'

# --- sft ---
succeeds "${SFT[@]}" --eval-data other.jsonl --eval-steps 10 --steps 90 --learning-rate 3e-3 --out overfit
has err '^warning: step [0-9]+, S1: the held-out loss has risen'
succeeds "${SFT[@]}" --steps 12 --learning-rate 1e-3 --out learns
lacks err '^(warning|note): '
succeeds "${SFT[@]}" --steps 12 --learning-rate 10 --max-grad-norm 0 --optim sgd --dtype f32 --out blown
has err '^warning: step [0-9]+, C7: .*the gradient was 0'

# --- the end of a run that will not recover ---
STOP=("${GRPO[@]}" "${END[@]}" --reward "$(constant 0.5)" --steps 25)
fails 3 'cohort: stopped after step 10 .--stop-on diverged.: this run does not learn' "${STOP[@]}" --out stopped --stop-on diverged
has err 'checkpoint of step 10 is in stopped/checkpoints'
absent stopped/final
is "$(wc -l <stopped/metrics.jsonl)" 10 "steps of a run that was stopped"
# Its checkpoint is whole: with the option the resumed run has said it and goes on, as without.
succeeds "${STOP[@]}" --out stopped --resume
is "$(grep -c '^warning: ' err)" 0 "warnings of a run that goes on after its warning"
has err '^warnings of this run: 1$'
has err '^  step 10, C1: '
same stopped/final equal/final
# A run that is cut in the window of a rule says it at the same step.
succeeds "${STOP[@]}" --out parts --steps 6
says 6 C1 'in all 6 steps all rewards were equal'
succeeds "${STOP[@]}" --out parts --resume
says 10 C1 'all rewards were equal'
same parts/checkpoints/step-25/trainer/diagnosis.json stopped/checkpoints/step-25/trainer/diagnosis.json
done_testing
