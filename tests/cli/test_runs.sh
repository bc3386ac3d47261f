# cohort runs: what a run recorded, as text and as files, and nothing that changes it.
. "$(dirname "$0")/shell.sh"
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 3 --out model
for i in 1 2 3 4; do printf '{"prompt": "question %d", "answer": "%d"}\n' $i $i; done >rows.jsonl
train() { # train OUT MORE...
    local out=$1
    shift
    "$COHORT" grpo --model model --data rows.jsonl --reward accuracy --reward regex --reward-pattern '[a-m]' --steps 4 --prompts-per-step 2 \
        --num-generations 2 --max-completion-length 4 --learning-rate 1e-3 --eval-data held=rows.jsonl --eval-steps 2 --threads 1 --device cpu \
        --out "$out" "$@" >/dev/null 2>&1
}
train runs/first || wrong "the run failed"
train runs/second --learning-rate 2e-3 --keep-completions 1 || wrong "the run failed"

succeeds "$COHORT" runs
has out '^first +finished +grpo +4/4 +reward '
has out '^second +finished '
succeeds "$COHORT" runs list --format csv
has out '^first,grpo,finished,4,4,reward,'
succeeds "$COHORT" runs show first
has out "^data +$(sha256sum rows.jsonl | cut -d' ' -f1)  rows.jsonl"
has out "^model +$(sha256sum model/model.safetensors | cut -d' ' -f1) "
has out '^  learning_rate: 0.001'
lacks out 'adam_beta1'
has out 'step 0 +start '
succeeds "$COHORT" runs show runs/first --format jsonl
has out '"status": "finished"'
succeeds "$COHORT" runs compare first second
has out '^learning_rate +0.001 +0.002'
has out '^keep_completions +"?all"? +"?1'
lacks out '^epsilon '

# --- completions ---
succeeds "$COHORT" runs completions first --format jsonl
is "$(wc -l <out)" 16 'completions'
succeeds "$COHORT" runs completions first --set all --format jsonl
is "$(wc -l <out)" 28 'completions with those of three evaluations'
succeeds "$COHORT" runs completions first --set held --step 2 --format jsonl
is "$(grep -c '"set": "held", .*"advantage": null' out)" 4 'completions of an evaluation'
succeeds "$COHORT" runs completions first --step 2:3 --reward-above 0.5 --format jsonl
is "$(grep -cE '"step": [23], .*"reward": 1,' out)" "$(wc -l <out)" 'completions with a reward'
above=$(wc -l <out)
succeeds "$COHORT" runs completions first --step 2:3 --reward-below 0.5 --format jsonl
is $(($(wc -l <out) + above)) 8 'those below and those above'
succeeds "$COHORT" runs completions first --finish length --limit 3 --order newest
has out '^step 4  group 1  completion 1  reward '
is "$(grep -c '^step' out)" 3 'limit'
succeeds "$COHORT" runs completions second --format csv
is "$(grep -c '^4,' out)" 4 'what is kept'
is "$(grep -cE '^[123],' out)" 0 'what is not kept'
fails 2 'expected a step or FIRST:LAST' "$COHORT" runs completions first --step two
fails 2 "of 'cohort runs export'" "$COHORT" runs completions first --format parquet

# --- sql ---
succeeds "$COHORT" runs sql first 'SELECT count(*) AS n, max(step) FROM metrics, (SELECT 1) WHERE name = "reward"'
is "$(cat out)" "$(printf 'n\tmax(step)\n4\t4')" 'a SELECT with commas'
before=$(sha256sum runs/first/run.db)
fails 2 'not authorized|not one SELECT|read-only' "$COHORT" runs sql first 'DELETE FROM step'
fails 2 'not authorized' "$COHORT" runs sql first "ATTACH 'x.db' AS x"
fails 2 'not authorized' "$COHORT" runs sql first 'PRAGMA journal_mode = DELETE'
fails 2 'no such table' "$COHORT" runs sql first 'SELECT * FROM nowhere'
fails 2 'sql takes a run and one SELECT' "$COHORT" runs sql first SELECT 1
is "$(sha256sum runs/first/run.db)" "$before" 'the database'

# --- export ---
succeeds "$COHORT" runs export first
is "$(sed -E 's/"time": [0-9.]+, //; s/"(time|throughput)\/[^,}]*|"step_time[^,}]*//g' out | grep -o '"reward": [0-9.]*')" \
    "$(grep -o '"reward": [0-9.]*' runs/first/metrics.jsonl)" 'rewards in metrics.jsonl'
succeeds "$COHORT" runs export first --format csv --metric reward,loss --out m.csv
is "$(head -n 1 m.csv)" 'step,epoch,time,reward,loss' 'the head of a CSV file'
is "$(wc -l <m.csv)" 6 'lines of a CSV file'
fails 2 'has no metric of that name' "$COHORT" runs export first --metric rewrad
succeeds "$COHORT" runs export first --format parquet --out m.parquet
fails 1 'of 5 rows 5 would be refused' "$COHORT" data m.parquet # read, and found to be no prompts
succeeds "$COHORT" runs export first --table completions --set all --format parquet --out c.parquet
succeeds "$COHORT" data c.parquet
has out '(^|[^0-9])28 rows'
succeeds "$COHORT" runs export first --table events --format csv
has out ',start,'
fails 2 'pass --out DIR' "$COHORT" runs export first --format tensorboard
succeeds "$COHORT" runs export first --format tensorboard --out tb
is "$(grep -c 'brain.Event:2' tb/events.out.tfevents.*)" 1 'an event file'
is "$(find . -maxdepth 1 -name '*.tmp*' | wc -l)" 0 'temporary files'
fails 1 'cannot create' "$COHORT" runs export first --format csv --out nowhere/m.csv
# What others make of these files, where they are installed.
if python3 -c 'import pyarrow, tensorboard' 2>/dev/null; then
    succeeds python3 "$SOURCE/oracle/run_exports.py" runs/first m.parquet c.parquet tb
fi

# --- what is not there, or not readable ---
fails 1 'there is no run of that name' "$COHORT" runs show third
fails 2 "is not what runs does" "$COHORT" runs frobnicate
fails 2 'show takes one run' "$COHORT" runs show
mkdir runs/broken
echo 'this is no database, but it is long enough to be taken for one by its name' >runs/broken/run.db
succeeds "$COHORT" runs
has out '^broken +unreadable .*damaged'
fails 1 'damaged' "$COHORT" runs show broken
fails 1 'cannot open the folder' "$COHORT" runs --runs none
done_testing
