# What a user can hand to the commands beside a model: rows, options, YAML, rewards that do not exist. Exit code 1 for files, 2 for the
# command line, a message that says where, and no output folder.
. "$(dirname "$0")/../cli/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
echo '{"prompt": "1+1=", "completion": "2", "answer": "2"}' >d.jsonl
generate() { "$COHORT" generate --model m --max-tokens 2 --threads 1 "$@"; }
grpo() { "$COHORT" grpo --model m --num-generations 2 --prompts-per-step 1 --max-completion-length 4 --steps 1 --threads 1 --out run "$@"; }
sft() { "$COHORT" sft --model m --steps 1 --threads 1 --out run "$@"; }

# --- rows on standard input: bad LINE PATTERN, for generate ---
bad()
{
    printf "$1\n" >in.jsonl
    INPUT=in.jsonl fails 1 "$2" generate --batch -
    is "$(cat out)" "" "output of a bad row"
}
bad '' 'standard input.*no rows'
bad '{}' 'standard input:1: .*prompt'
bad '[]' 'standard input: has no rows'
bad '[3]' 'standard input:1:2: expected an object'
bad '{"prompt": "a"}\n[]' 'standard input:2:1: an array'
bad '{"prompt": "a"}\n\n{"prompt": 3}' 'standard input:3: .*prompt'
bad '{"prompt": ""}' 'standard input:1: the prompt is empty'
bad '{"messages": []}' 'standard input:1: messages'
bad '{"messages": "x"}' 'messages'
bad '{"messages": [3]}' 'messages\[0\]'
bad '{"messages": [{"role": "user"}]}' 'messages\[0\].content'
bad '{"messages": [{"role": "alien", "content": "x"}]}' 'alien.*system, user'
bad '{"messages": [{"role": "user", "content": [1]}]}' 'messages\[0\].content'
bad '{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}' 'both'
bad 'nonsense' 'standard input:1:'
bad '{"prompt": "a"' 'standard input:1:'
bad '{"prompt": "a"} {"prompt": "b"}' 'standard input:1:'
bad '{"prompt": "a", "prompt": "b"}' 'duplicate'
bad '{"prompt": "\\ud800"}' 'Unicode'
bad '{"prompt": "\377\376"}' 'byte 0xff'
# NUL is a character of JSON when it is escaped, and none of a line.
echo '{"prompt": "a\u0000b"}' >in.jsonl
succeeds generate --batch in.jsonl
has out '"prompt": "a\\u0000b", .*"prompt_tokens": \[97, 0, 98\]'
printf '{"prompt": "a\0b"}\n' >in.jsonl
INPUT=in.jsonl fails 1 'NUL' generate --batch -
{ printf '{"a":'; head -c 1000000 /dev/zero | tr '\0' '['; } >in.jsonl
INPUT=in.jsonl fails 1 'depth' generate --batch -
fails 1 'nope.jsonl: cannot open' generate --batch nope.jsonl
fails 1 'm: is a folder' generate --batch m
# --- one prompt ---
printf 'a\377b' >in.txt
INPUT=in.txt fails 1 'UTF-8' generate --prompt -
INPUT=in.txt fails 1 'UTF-8' "$COHORT" tokenize --model m --prompt -
fails 1 'UTF-8' generate --prompt "$(printf 'a\377b')"
fails 2 'prompt is empty' generate --prompt ''
INPUT=/dev/null fails 1 'the prompt is empty' generate --chat false --prompt -
head -c 1024 /dev/zero | tr '\0' x >in.txt
INPUT=in.txt fails 2 '1024 tokens.*context holds 1024' generate --chat false --prompt -
head -c 1023 /dev/zero | tr '\0' x >in.txt
succeeds generate --chat false --format jsonl --prompt "$(cat in.txt)"
has out '"finish_reason": "length"'
is "$(field tokens <out | tr , '\n' | wc -l)" 1 "tokens where the context has room for one"
{ echo '{"prompt": "a"}'; printf '{"prompt": "%s"}\n' "$(cat in.txt)x"; } >in.jsonl
fails 1 'in.jsonl:2: the prompt has 1024 tokens' generate --batch in.jsonl
# --- logprobs ---
scored() { printf "$1\n" >in.jsonl; fails 1 "$2" "$COHORT" logprobs --model m --batch in.jsonl --threads 1; }
scored '{"tokens": [1]}' 'in.jsonl:1: .*prompt_tokens'
scored '{"prompt_tokens": [1]}' '"tokens"'
scored '{"prompt_tokens": [], "tokens": [1]}' 'empty'
scored '{"prompt_tokens": [264], "tokens": [1]}' 'prompt_tokens"\[0\].*0 to 263'
scored '{"prompt_tokens": [1], "tokens": [1, -1]}' 'tokens"\[1\]'
scored '{"prompt_tokens": [1.5], "tokens": [1]}' 'prompt_tokens"\[0\]'
scored '{"prompt_tokens": [99999999999999999999], "tokens": [1]}' 'in.jsonl:1'
scored "{\"prompt_tokens\": [1], \"tokens\": [$(seq -s, 1 250),$(seq -s, 1 250),$(seq -s, 1 250),$(seq -s, 1 250),$(seq -s, 1 24)]}" 'context of 1024'

# --- the command line ---
usage() { local pattern=$1; shift; fails 2 "$pattern" "$COHORT" "$@"; is "$(cat out)" "" "output of $*"; }
usage 'usage: cohort COMMAND'
usage "no command 'generat'; did you mean 'generate'" generat --model m
usage "no command 'xyzzy'" xyzzy
usage "no option 'promt'; did you mean 'prompt'" generate --promt x
usage "did you mean 'num_generations'" grpo --num-generation 4
usage "not an option of sft \(it is one of info, grpo, rloo, distill\)" sft --num-generations 4
usage '^cohort: --model needs a value' generate --model
# Unknown is told first, also where a value would be missing; a flag is no value.
usage "no option 'foo'" grpo --foo
usage "no option 'iters': it is called 'steps' here" sft --iters
usage "no option 'iters': it is called 'steps' here" sft --iters 3
usage "called 'prompts_per_step' here" grpo --train-batch-size=3
usage "no option 'use_vllm': not needed" grpo --use_vllm
usage '^cohort: --out needs a value, and --steps is an option of its own.*--out=--steps' sft --out --steps 3
usage '^cohort: -o needs a value$' report a -o
usage '^cohort: -o needs a value, and --runs is an option of its own.*-o=--runs' report a -o --runs x
usage '^cohort: --model needs a value, and --no-thinking is' generate --model --no-thinking
usage '^cohort: --no-thinking takes no value' generate --no-thinking=3
usage "thinking cannot be 'maybe'" generate --thinking maybe
usage "'-m': |-m: generate has no option 'm': it is called 'model'" generate -m x
usage "'-model': options begin with two dashes: --model" generate -model x
usage "'steps': options begin with two dashes: --steps" sft steps 3
usage 'config is given twice' sft --config a.yaml --config b.yaml
usage "no command 'gpro'; did you mean 'grpo'" help gpro
usage 'threads.*integer from 0 to 1024' generate --threads 1025
usage 'single precision' generate --temperature 1e-39
usage 'single precision' generate --top-p 1e-46
usage 'single precision' sft --learning-rate 1e-40
# A text that begins with dashes and is no flag of the command is a value; a switch takes any spelling of its word.
succeeds generate --prompt '--bullet' --thinking False
succeeds generate --prompt=--model
succeeds "$COHORT" grpo help
has out '^Usage: cohort grpo'
# Rewards of the command line take the place of the file's.
printf 'data: d.jsonl\nreward: [accuracy, regex]\n' >s.yaml
succeeds "$COHORT" score --config s.yaml --reward format --reward accuracy
has out '"rewards": \{"format": [01], "accuracy": [01]\}'
usage "'x' is not an option" logprobs x
usage 'no model given' generate --prompt x
usage 'either --prompt TEXT or --batch' generate --model m
usage 'either --prompt TEXT or --batch' generate --model m --prompt x --batch d.jsonl
usage "temperature cannot be 'hot': expected a number from 0 to 100" generate --temperature hot
usage 'from 0 to 100' generate --temperature=-1
usage 'temperature' generate --temperature nan
usage 'temperature' generate --temperature inf
usage 'temperature' generate --temperature 0x1p3
usage 'temperature' generate --temperature '1 '
usage 'temperature' generate --temperature ''
usage 'top_p' generate --top-p 0
usage 'integer' generate --top-k 1.5
usage 'seed' generate --seed 18446744073709551616
usage 'max_completion_length' generate --max-tokens 0
usage 'max_completion_length' generate --max-tokens 99999999999
usage 'top_k' generate --top-k 4294967297
usage 'ID:NUMBER' generate --logit-bias 5
usage 'ID:NUMBER' generate --logit-bias 5:nan
usage 'token 264, expected an id from 0 to 263' generate --model m --prompt x --logit-bias 264:1
usage 'empty item' generate --stop 'a,,b'
usage 'one of auto, portable' generate --isa avx9000
usage 'one of text, jsonl' generate --format xml
usage 'chat' generate --chat=maybe
usage 'a step has at most 4194304' grpo --model m --data d.jsonl --reward format --out run --prompts-per-step 65536 --num-generations 4096
usage 'no run folder' grpo --model m --data d.jsonl --reward format
usage 'no reward given' grpo --model m --data d.jsonl --out run
usage 'no training prompts' grpo --model m --reward format --out run
usage 'num_generations.*from 2' grpo --num-generations 1
usage 'no rows given' score --reward format
usage 'no rows given' logprobs --model m
usage '--memory needs a model' info --memory
usage 'either --model' info --model m --preset nano
absent run
fails 1 'nope: not a folder' "$COHORT" generate --model nope --prompt x
fails 1 'd.jsonl: not a folder' "$COHORT" generate --model d.jsonl --prompt x

# --- YAML ---
yaml() { printf "$1" >c.yaml; fails 2 "$2" grpo --config c.yaml; absent run; }
yaml 'lerning_rate: 1e-5\n' "c.yaml:1:1: .*did you mean 'learning_rate'"
yaml 'seed: 1\nsteps: 1\nseed: 2\n' "c.yaml:3:1: 'seed' is given twice"
yaml 'iters: 3\n' "c.yaml:1:1: .*it is called 'steps'"
yaml 'seed: 010\n' 'c.yaml:1:7: .*octal'
yaml 'top_p: "1e-46"\n' 'c.yaml:1:8: .*single precision'
yaml 'epsilon: big\n' 'c.yaml:1:10: epsilon .*number'
yaml 'epsilon:\n' 'no value'
yaml 'beta: {a: 1}\n' 'c.yaml:1:7: .*mapping'
yaml 'beta: [1]\n' 'sequence'
yaml 'a: &x [*x, *x]\n' 'c.yaml:1'
yaml 'stop: &x [a]\n' 'anchors'
yaml 'stop: *x\n' 'alias'
yaml 'stop: !!python/object [a]\n' 'tags'
yaml '[]\n' 'mapping'
yaml '' 'no options'
yaml 'beta: 0\n---\nbeta: 1\n' 'second document'
yaml 'beta: \377\n' 'c.yaml:1:'
yaml 'beta: 0\n\tsteps: 1\n' 'c.yaml:2'
yaml '"beta\\0": 1\n' 'NUL|no option'
yaml 'config: other.yaml\n' 'cannot name another'
yaml 'num_generations: 1\n' 'from 2'
head -c 200000 /dev/zero | tr '\0' '[' >deep.yaml
fails 2 'deep.yaml:1:' grpo --config deep.yaml
head -c 2000000 /dev/zero | tr '\0' '#' >large.yaml
fails 2 'large.yaml.*limit' grpo --config large.yaml
fails 2 'nope.yaml: cannot open' grpo --config nope.yaml
fails 2 'm: is a folder' grpo --config m

# --- data of training: nothing is written before the first error ---
rows() { printf "$1\n" >in.jsonl; fails 1 "$2" "${@:3}" --data in.jsonl; absent run; }
rows '{"question": 1}' 'in.jsonl:1: .*prompt' grpo --reward format
rows "{\"prompt\": \"$(cat in.txt)\"}" 'in.jsonl:1: the prompt has 1023 tokens' grpo --reward format
rows '{"prompt": "abc"}' 'in.jsonl:1: the prompt has 3 tokens, at most 2' grpo --reward format --max-prompt-length 2
rows '{"question": 1}' 'in.jsonl:1: .*messages' sft
rows '{"prompt": "a"}' 'in.jsonl:1: ' sft
rows '{"prompt": "a", "completion": 3}' 'must both be text' sft
rows '{"prompt": "", "completion": "a"}' 'in.jsonl:1: the prompt is empty' sft
rows '{"messages": [{"role": "user", "content": "a"}]}' "assistant's" sft
rows '{"messages": [{"role": "assistant", "content": "a"}]}' 'something before it' sft
printf '{"prompt": "abcdef", "completion": "g"}\n' >in.jsonl
fails 2 'no row has a completion within --max-length 3' sft --data in.jsonl --max-length 3
fails 2 'leaves no room' grpo --reward format --data d.jsonl --max-completion-length 1024
fails 1 'prompt has 4 tokens' "$COHORT" eval --model m --data d.jsonl --reward format --max-prompt-length 3
fails 1 'nope.jsonl' grpo --reward format --data d.jsonl --eval-data nope.jsonl
absent run

# --- rewards ---
usage "reward.*'acuracy'" score --data d.jsonl --reward acuracy
usage 'reward' score --data d.jsonl --reward exec:
usage '2 values for 1 reward' score --data d.jsonl --reward accuracy --reward-weights 1,2
usage 'reward_weights' score --data d.jsonl --reward accuracy --reward-weights heavy
usage 'reward_timeout' score --data d.jsonl --reward accuracy --reward-timeout 0
fails 2 'pattern.*(offset|parenthes|missing)' "$COHORT" score --data d.jsonl --reward regex --reward-pattern '('
echo '{"completion": 3}' >in.jsonl
fails 1 'in.jsonl:1: .*completion' "$COHORT" score --data in.jsonl --reward accuracy
absent run

# --- output that cannot be written ---
fails 1 'standard output' sh -c '"$0" generate --model m --prompt x --max-tokens 3 --threads 1 >/dev/full' "$COHORT"
fails 1 'standard output' sh -c '"$0" generate --help >/dev/full' "$COHORT"
fails 1 'standard output' sh -c '"$0" --help >/dev/full' "$COHORT"
fails 1 'standard output' sh -c '"$0" score --data d.jsonl --reward format >/dev/full' "$COHORT"
# The reader of a pipe goes: an end without a crash, without a word, with a code that says so.
yes '{"prompt": "x"}' | head -n 200 >many.jsonl
"$COHORT" generate --model m --batch many.jsonl --max-tokens 50 --threads 1 2>err | head -n 1 >out
codes=("${PIPESTATUS[@]}")
is "${codes[0]}" 1 "exit code of generate | head"
is "$(wc -l <out)" 1 "lines of generate | head"
is "$(cat err)" "" "messages of generate | head"
done_testing
