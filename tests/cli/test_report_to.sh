# --report-to: event files and programs get what metrics.jsonl gets, and no program stops a run, whatever it does.
. "$(dirname "$0")/shell.sh"
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 3 --out model
for i in 1 2 3; do printf '{"prompt": "q %d", "completion": " a %d"}\n' $i $i; done >rows.jsonl
train() { # train OUT MORE...
    local out=$1
    shift
    timeout 60 "$COHORT" sft --model model --data rows.jsonl --steps 6 --batch-size 1 --save-steps 3 --threads 1 --device cpu --out "$out" "$@"
}
steps() { untimed "$1"; }
succeeds train plain
succeeds train told --report-to 'exec:cat >told.jsonl' --report-to tensorboard
is "$(sed -n 1p told.jsonl | grep -c '^{"start": {"command": "sft", "step": 0, "run": "told", "config": "model: ')" 1 'the first line'
is "$(sed '1d;$d' told.jsonl)" "$(cat told/metrics.jsonl)" 'a line for each step'
is "$(tail -n 1 told.jsonl)" '{"end": {"status": "finished"}}' 'the last line'
is "$(grep -c 'brain.Event:2' told/tensorboard/events.out.tfevents.*)" 1 'event files'
cmp -s told/final/model.safetensors plain/final/model.safetensors || wrong "reports change the model"

# A run that goes on: another event file, which begins behind the steps that stay.
succeeds train told --steps 8 --resume --report-to tensorboard
is "$(ls told/tensorboard | wc -l)" 2 'event files after a resume'
if python3 -c 'import tensorboard' 2>/dev/null; then
    python3 - told <<'END' >seen 2>/dev/null || wrong "TensorBoard does not read it"
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
accumulator = EventAccumulator(sys.argv[1] + "/tensorboard")
accumulator.Reload()
print([event.step for event in accumulator.Scalars("loss")], "config/text_summary" in accumulator.Tags()["tensors"] or "config" in accumulator.Tags()["tensors"])
END
    is "$(cat seen)" '[1, 2, 3, 4, 5, 6, 7, 8] True' 'steps in TensorBoard'
fi

# Programs that die, hang, flood, close their input, are not there.
misbehaves() { # misbehaves NAME PROGRAM PATTERN
    local start=$SECONDS
    succeeds train "$1" --report-to "exec:$2"
    [ -z "$3" ] || grep -qE "$3" err || wrong "$1: no message with '$3': $(tail -n 3 err)"
    [ $((SECONDS - start)) -lt 20 ] || wrong "$1: the run took $((SECONDS - start)) s"
    cmp -s "$1/final/model.safetensors" plain/final/model.safetensors || wrong "$1: another model"
    is "$("$COHORT" runs sql "$1" 'SELECT status FROM run' | tail -n 1)" finished "$1: status"
}
misbehaves dies 'echo no licence >&2; exit 3' 'report-to .*the program ended \(exit status 3\).*no licence.*the run goes on'
left=98.$$ # seconds that no other sleep has
misbehaves hangs "sleep $left" ''
misbehaves floods 'while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done' ''
misbehaves deaf "exec <&-; sleep $left" 'report-to .*does not read any more'
misbehaves absent 'no-such-program-anywhere' 'report-to .*ended \(exit status 127\)'
is "$(grep -lsz "[s]leep.*$left" /proc/[0-9]*/cmdline | grep -v "/$$/" | head -n 1)" '' 'programs that were left running'
fails 2 'expected tensorboard, exec:PROGRAM or none' train wandb --report-to wandb
[ ! -e wandb ] || wrong 'a folder was left'

# The examples.
succeeds train example --report-to "exec:REPORT=print python3 '$SOURCE/examples/report_wandb.py' >example.out" --report-to "exec:sh '$SOURCE/examples/report_chat.sh' 2>chat.out"
has example.out '^run example from step 0: [0-9]+ options'
is "$(grep -c '^step ' example.out)" 6 'steps of the example'
has chat.out 'the run has ended: finished'
done_testing
