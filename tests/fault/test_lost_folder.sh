# A run whose folder is removed, moved or replaced while it runs ends and says what to do; nothing is written where nobody asked for it, and a
# folder that is put back goes on.
. "$(dirname "$0")/../cli/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5; do echo "{\"prompt\": \"q$i\", \"completion\": \"a$i\"}"; done >d.jsonl
cat >wait.sh <<'R'
while IFS= read -r line; do
    answer="$answer$((${#line} % 7))
"
    case $line in *'"last_of_batch":true'*) ;; *) continue ;; esac
    : >waits
    while [ -e hold ]; do sleep 0.02; done
    printf '%s' "$answer"
    answer=
done
R
GRPO=("$COHORT" grpo --model m --data d.jsonl --reward "exec:sh wait.sh" --num-generations 2 --prompts-per-step 2 --max-completion-length 4
    --learning-rate 1e-3 --seed 5 --threads 1 --steps 6 --save-steps 1)
await() { for i in $(seq 500); do [ -e "$1" ] && return; sleep 0.02; done; wrong "$1 never came: $(tail -n 3 err1)"; }
# begin RUN: it has done two steps and waits in the reward of the third
begin() {
    rm -f hold
    succeeds "${GRPO[@]}" --out "$1" --steps 2
    rm -f waits
    touch hold
    "${GRPO[@]}" --out "$1" --resume 2>err1 >out1 &
    pid=$!
    await waits
}
succeeds "${GRPO[@]}" --out whole

for how in removed moved replaced; do
    begin r
    mv r elsewhere
    case $how in
    removed) rm -rf elsewhere ;;
    replaced) mkdir r; echo mine >r/notes ;; # as where a disk was mounted
    esac
    rm hold
    wait $pid
    is $? 1 "exit code, $how"
    has err1 'is not the folder any more that this run works in: it was removed or moved, or its disk was unmounted; put it back'
    is "$(ls -A r 2>/dev/null)" "$([ $how = replaced ] && echo notes)" "what stands there now, $how"
    rm -rf r
    if [ $how != removed ]; then
        mv elsewhere r
        succeeds "$COHORT" info --verify --model r/checkpoints/step-2
        succeeds "${GRPO[@]}" --out r --resume
        same r/final whole/final
        is "$(untimed r/metrics.jsonl)" "$(untimed whole/metrics.jsonl)" "metrics, $how"
    fi
    rm -rf r
done
done_testing
