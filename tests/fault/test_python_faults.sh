# Python reward functions that fail, hang, die, flood and answer nonsense: a message that says where and what to do, no hang, nothing left running.
. "$(dirname "$0")/../cli/shell.sh"
command -v python3 >/dev/null || { echo "no python3"; exit 77; }

for i in 1 2 3; do echo "{\"prompt\": \"q$i\", \"completion\": \"c$i\", \"answer\": \"$i\"}"; done >s.jsonl
cat >bad.py <<'END'
import math, os, subprocess, sys, time

def boom(completions, **kwargs):
    return helper(kwargs)
def helper(columns):
    return columns["nothing"]
def short(completions, **kwargs):
    return [1.0]
def text(completions, **kwargs):
    return ["good" for c in completions]
def nan(completions, **kwargs):
    return [math.nan, 1, None]
def infinite(completions, **kwargs):
    return [math.inf for c in completions]
def nothing(completions, **kwargs):
    pass
def alone(completions, **kwargs):
    return 1.0
def strict(completions, answer):
    return [1.0 for c in completions]
def hang(completions, **kwargs):
    time.sleep(1000)
async def hang_async(completions, **kwargs):
    import asyncio
    await asyncio.sleep(1000)
def leave(completions, **kwargs):
    sys.exit(3)
def die(completions, **kwargs):
    os.write(2, b"last words")
    os._exit(3)
def killed(completions, **kwargs):
    os.kill(os.getpid(), 9)
def flood(completions, **kwargs):
    print("x" * 3_000_000)
    sys.stderr.write("y" * 3_000_000)
    sys.__stdout__.write("z\n")
    os.write(1, b"raw\n")
    subprocess.run(["echo", "from a program"])
    return [float(sys.stdin.read() == "") for c in completions]
def deep(completions, **kwargs):
    return deep(completions, **kwargs)
def columns(completions, log_extra, **kwargs):
    log_extra("a", [1])
    return [1 for c in completions]
def metric(completions, log_metric, **kwargs):
    log_metric("m", "much")
    return [1 for c in completions]
def child(completions, **kwargs):
    subprocess.Popen(["sleep", "1000"])
    open("child", "w").write(str(os.getpgid(0)))
    time.sleep(1000)
value = 3
END
echo 'import nothing_like_this' >import.py
printf 'x = 1\ndef f(:\n    pass\n' >syntax.py
printf 'import time\ntime.sleep(1000)\n' >slow.py
printf 'x = 1\n\nraise ValueError("at import")\n' >raises.py
printf 'import sys\nsys.exit(0)\n' >ends.py
bad() { fails 1 "$2" timeout 20 "$COHORT" score --data s.jsonl --reward-timeout "${3:-10}" --reward "python:$1" "${@:4}"; }

bad bad.py:boom "reward 'boom': KeyError: 'nothing' at $PWD/bad.py:6 in helper: return columns"
bad bad.py:short "'short' returned 1 rewards for 3 completions; expected one for each, None where one cannot be scored"
bad bad.py:text "'text' returned 'good' for row 1; expected a number, or None"
bad bad.py:infinite "'infinite' returned an infinite reward for row 1; expected a finite number, or None"
bad bad.py:nothing "'nothing' returned nothing; expected a list of 3 numbers"
bad bad.py:alone "'alone' returned a float; expected a list of 3 numbers"
bad bad.py:strict "TypeError: strict\(\) got an unexpected keyword argument 'prompts'; .*give it \*\*kwargs"
bad bad.py:hang "reward 'hang': no answer within 3 s: the function has not returned.*--reward-timeout" 3
bad bad.py:hang_async "reward 'hang_async': no answer within 3 s: the function has not returned" 3
bad bad.py:leave "SystemExit: 3 at $PWD/bad.py:"
bad bad.py:die "reward 'die': the program ended after 0 of 3 answers \(exit status 3\); its stderr ends: last words"
bad bad.py:killed "killed by signal 9"
bad bad.py:deep "RecursionError"
bad bad.py:columns "'columns' gave log_extra\('a', ...\) 1 values for 3 completions; expected one for each"
bad bad.py:metric "ValueError: could not convert string to float: 'much' at $PWD/bad.py:"
bad bad.py:value "'value' of '$PWD/bad.py' is no function, but int"
bad bad.py:nope "'$PWD/bad.py' has no 'nope'; it has boom, helper, short"
bad import.py:f "ModuleNotFoundError: No module named 'nothing_like_this' \(the interpreter is /.*--python names another.* at $PWD/import.py:1"
bad syntax.py:f "SyntaxError: .* at $PWD/syntax.py:2: def f\(:"
bad slow.py:f "reward 'python:slow.py:f': no answer within 3 s: the file is still being imported" 3
bad raises.py:f "ValueError: at import at $PWD/raises.py:3"
bad ends.py:f "SystemExit: 0 at $PWD/ends.py:2"
bad none.py:f "there is no file '$PWD/none.py'; write python:FILE.py:FUNCTION"
fails 2 "names no function; write python:FILE.py:FUNCTION" "$COHORT" score --data s.jsonl --reward python:bad.py
bad bad.py:short "exit status 127.*there is no interpreter '/nope': name one with --python" 10 --python /nope
VIRTUAL_ENV=/nope bad bad.py:short "there is no interpreter '/nope/bin/python3': name one with --python, or activate"
# NaN is TRL's None, and told once; whatever is printed, the answers are the function's.
succeeds "$COHORT" score --data s.jsonl --reward python:bad.py:nan
is "$(field reward <out | tr '\n' ' ')" "null 1 null " "nan and None"
has err "warning: reward 'nan': it returned nan, which is taken for None"
succeeds timeout 20 "$COHORT" score --data s.jsonl --reward python:bad.py:flood
is "$(field reward <out | tr '\n' ' ')" "1 1 1 " "a function that prints"
# What it started ends with it, and one of several programs that fails ends the run.
bad bad.py:child "has not returned" 5
[ -z "$(pgrep -r D,R,S,T -g "$(cat child)")" ] || wrong "a program of the function still runs"
bad bad.py:die "the program ended after 0 of 1 answers" 10 --reward-workers 3
bad bad.py:hang "no answer within 3 s" 3 --reward-workers 3
# In training: the message comes before the model is trained, and nothing is left.
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
grpo=("$COHORT" grpo --model m --data s.jsonl --num-generations 2 --prompts-per-step 2 --max-completion-length 4 --threads 1 --steps 2)
fails 1 "No module named 'nothing_like_this'" "${grpo[@]}" --reward python:import.py:f --out never
[ ! -e never ] || wrong "a run folder for a reward that cannot be imported"
for workers in 1 2; do
    fails 1 "KeyError: 'nothing'" timeout 60 "${grpo[@]}" --reward python:bad.py:boom --reward-workers $workers --out "failed$workers"
done
# A stop is obeyed while a function hangs.
"${grpo[@]}" --reward python:bad.py:hang --reward-workers 2 --out stopped >/dev/null 2>err &
pid=$!
sleep 1.5
kill -INT $pid
started=$SECONDS
wait $pid
is "$?" 130 "exit code after an interrupt"
[ $((SECONDS - started)) -lt 15 ] || wrong "it took $((SECONDS - started)) s to stop"
done_testing
