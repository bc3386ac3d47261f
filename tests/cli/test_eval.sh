# Evaluation: pass@k, mean@n and maj@k from the rows that are printed, several sets by name, the table with its samples, and the same in a
# grpo run.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5 6; do echo "{\"prompt\": \"q$i\", \"answer\": \"$((i % 2 + 1))\"}"; done >a.jsonl
echo '{"prompt": "q7", "answer": null}' >>a.jsonl
for i in 1 2 3; do echo "{\"prompt\": \"z$i\", \"answer\": \"3\"}"; done >b.jsonl
# Completions are one character, 1, 2 or 3, about as often each.
evaluate() { "$COHORT" eval --model m --threads 1 --max-completion-length 1 --logit-bias 49:1000,50:1000,51:1000 --temperature 20 "$@"; }

# --- the estimates, by awk from the rows ---
succeeds evaluate --data a.jsonl --reward accuracy --n 6 --eval-k 4,2,1,6 --format jsonl
cp out all
is "$(grep -c completion_index all)" 42 "rows"
head -n 36 all | sed 's/.*"index": \([0-9]*\), .*"completion": "\(.\)".*"accuracy": \([01]\).*/\1 \2 \3/' >scored
differs "$(awk '{ s += $3 } END { print s }' scored)" 0 "right ones"
expected()
{
    awk -v what="$1" -v k="$2" '
        function choose(n, m, i, c) { c = 1; for (i = 1; i <= m; i++) c = c * (n - m + i) / i; return m > n ? 0 : c }
        function vote(from, i, right, other, most, first) { # of k completions, answers 1 to 3, the right one first
            for (i = 1; i <= 3; i++) count[i] = 0
            right = 0
            for (i = from; i < from + k; i++) { if (passed[i]) right++; else count[answer[i]]++ }
            most = right; first = right > 0
            for (i = 1; i <= 3; i++) { if (count[i] > most) { most = count[i]; first = 0 } }
            if (right < most || right == 0) return 0
            first = 1
            for (i = 1; i <= 3; i++) first += count[i] == most
            return 1 / first
        }
        function question(i, sum) {
            if (what == "mean") value = right / n
            if (what == "pass") value = 1 - choose(n - right, k) / choose(n, k)
            if (what == "maj") { sum = 0; for (i = 0; i + k <= n; i += k) sum += vote(i); value = sum / int(n / k) }
            total += value; squares += value * value; questions++
        }
        BEGIN { n = right = 0 }
        $1 != last && n > 0 { question(); n = right = 0 }
        { last = $1; passed[n] = $3; answer[n] = $2; n++; right += $3 }
        END {
            question()
            mean = total / questions
            error = sqrt((squares - questions * mean * mean) / (questions - 1) / questions)
            printf "%.6f %.6f %d", mean, error, questions
        }' scored
}
told() { printf '%.6f %.6f %d' "$(tail -n 1 all | field "eval_$1")" "$(tail -n 1 all | field "eval_$1/stderr")" "$(tail -n 1 all | field "eval_$1/n")"; }
is "$(told mean@6)" "$(expected mean 6)" "mean@6"
for k in 1 2 4 6; do is "$(told pass@$k)" "$(expected pass $k)" "pass@$k"; done
for k in 2 4 6; do is "$(told maj@$k)" "$(expected maj $k)" "maj@$k"; done
is "$(told pass@1)" "$(told mean@6)" "pass@1 is the mean of rewards that are 0 or 1"
lacks all 'maj@1"'
# Another reward than accuracy does not vote; what passes is its threshold's word.
printf 'n=0\nwhile read -r row; do n=$((n + 1)); echo $((n %% 3)); done\n' >third.sh
succeeds evaluate --data a.jsonl --reward 'exec:sh third.sh' --n 6 --format jsonl
is "$(tail -n 1 out | field eval_mean@6) $(tail -n 1 out | field eval_pass@1)" "1 0.666666667" "a mean of 0, 1, 2 and what passes at 1"
lacks out '@[0-9]*.*maj@'
succeeds evaluate --data a.jsonl --reward 'exec:sh third.sh,accuracy' --n 6 --format jsonl --pass-reward third.sh --pass-threshold 2
is "$(tail -n 1 out | field eval_pass@1) $(tail -n 1 out | field eval_pass@6)" "0.333333333 1" "what passes at 2"
succeeds evaluate --data a.jsonl --reward 'exec:sh third.sh,accuracy' --n 6 --format jsonl
is "$(tail -n 1 out | field eval_pass@1)" "$(tail -n 1 all | field eval_pass@1)" "accuracy decides where it is one of several"

# --- several sets ---
succeeds evaluate --data one=a.jsonl,two=b.jsonl --reward accuracy --n 6 --format jsonl
cp out both
is "$(field set <both | sort | uniq -c | tr -s ' \n' ' ')" ' 42 "one" 18 "two" ' "rows of each set"
is "$(grep '"one"' both | sed 's/"set": "one", //')" "$(grep completion_index all)" "the first set asks what it would alone"
is "$(tail -n 1 both | field eval_one_pass@2)" "$(tail -n 1 all | field eval_pass@2)" "its pass@2"
is "$(tail -n 1 both | field eval_two_pass@2/n)" 3 "questions of the other"
is "$(tail -n 1 both | sed 's/.*"eval_one_reward": \([^,]*\).*"eval_two_reward": \([^,]*\).*/\1 \2/' | awk '{ printf "%.6f", ($1 + $2) / 2 }')" \
    "$(printf %.6f "$(tail -n 1 both | field eval_reward)")" "eval_reward, the mean of the sets'"
succeeds evaluate --data one=b.jsonl,a.jsonl,two=b.jsonl --reward accuracy --n 2
has out '^ +one +two$'
has out '^pass@2 +[0-9.]+ \+- [0-9.]+ \(n 9\) +[0-9.]+ \+- [0-9.]+ \(n 3\)$'
has out '^rewards/accuracy/mean +[0-9.]+ +[0-9.]+$'
is "$(grep -c '^--- ' out)" 4 "two samples of each set"
has out '^--- one, b.jsonl:1, accuracy [01], 1 tokens \(length\)$'
has out '^prompt: z1$'
cp a.jsonl 'one=a.jsonl'
succeeds evaluate --data one=a.jsonl --reward accuracy
has out '^eval_reward '
succeeds evaluate --data 'one=a.jsonl,b.jsonl' --reward accuracy --samples 0
has out '^eval_pass@1 +[0-9.]+ \+- [0-9.]+ \(n 9\)$'
lacks out '^---'
# A terminal is not given what it would obey.
succeeds "$COHORT" eval --model m --data b.jsonl --reward accuracy --max-completion-length 2 --logit-bias 27:1000
has out '^completion: \\x1b\\x1b$'

fails 2 'two sets are called one' evaluate --data one=b.jsonl,one=b.jsonl --reward accuracy
fails 2 'two=b.jsonl has a name and what stands before it has none' evaluate --data a.jsonl,two=b.jsonl --reward accuracy
fails 2 'no file follows two=' evaluate --data two= --reward accuracy
fails 1 'absent.jsonl' evaluate --data two=absent.jsonl --reward accuracy
fails 2 'at most 64 characters' evaluate --data "$(printf 'n%.0s' $(seq 65))=b.jsonl" --reward accuracy
fails 2 "eval-k 8 needs as many completions of each prompt, and there are 6" evaluate --data a.jsonl --reward accuracy --n 6 --eval-k 8
fails 2 "'1.5' is no whole number" evaluate --data a.jsonl --reward accuracy --n 6 --eval-k 1.5
fails 2 "no reward is called 'regex'; the first is accuracy" evaluate --data a.jsonl --reward accuracy --pass-reward regex
many=$(for i in $(seq 257); do printf 's%d=b.jsonl,' "$i"; done)
fails 2 'more than 256 sets' evaluate --data "${many%,}" --reward accuracy
# Together longer than any name of a file.
many=$(for i in $(seq 30); do printf 's%d=b.jsonl,' "$i"; done)
succeeds evaluate --data "${many%,}" --reward accuracy --samples 0
has out '^ +s1 .* s30$'

# --- in a grpo run ---
rm 'one=a.jsonl'
GRPO=("$COHORT" grpo --model m --data a.jsonl --reward accuracy --threads 1 --max-completion-length 1 --logit-bias '49:1000,50:1000' --temperature 20
    --num-generations 2 --prompts-per-step 2 --learning-rate 1e-3 --eval-data 'one=a.jsonl,two=b.jsonl')
succeeds "${GRPO[@]}" --steps 2 --out run
is "$(grep -c eval_two_pass@1 run/metrics.jsonl)" 2 "evaluations"
is "$(field set <run/eval-step-2.jsonl | sort | uniq -c | tr -s ' \n' ' ')" ' 7 "one" 3 "two" ' "rows of the last evaluation"
is "$(tail -n 1 run/metrics.jsonl | field eval_one_reward)" \
    "$(grep '"one"' run/eval-step-2.jsonl | grep -v 'accuracy": null' | sed 's/.*"accuracy": \([01]\).*/\1/' | awk '{ s += $1 } END { printf "%.9g", s / NR }')" \
    "eval_one_reward from its rows"
has err 'held-out reward [0-9.]+ \(10 prompts\)'
succeeds "${GRPO[@]}" --steps 1 --out part --num-generations-eval 6 --eval-k 3
is "$(wc -l <part/eval-step-1.jsonl)" 60 "completions with num_generations_eval 6"
has part/metrics.jsonl '"eval_one_maj@3/stderr"'
has part/metrics.jsonl '"eval_one_mean@6/n": 6'
rm -r part
fails 2 'eval-k 3 needs as many completions of each prompt, and there are 2' "${GRPO[@]}" --steps 1 --out part --num-generations-eval 2 --eval-k 3
succeeds "${GRPO[@]}" --steps 1 --out part
succeeds "${GRPO[@]}" --steps 2 --out part --resume
is "$(untimed part/metrics.jsonl | tail -n 1)" "$(untimed run/metrics.jsonl | tail -n 1)" "the evaluation of a run that was resumed"
done_testing
