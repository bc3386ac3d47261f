# What happens when one call fails, for every such call: sourced by the sweeps.
#
#   sweep KIND STEP FIRST COMMAND [LAST]     KIND: alloc or file; every STEP-th call from FIRST on, to LAST at most; COMMAND: one of the
#                                            functions run_COMMAND below
#
# Of each single failure is asked that the program ends with a status of its own (no signal, no hang) and says why, or that it succeeds
# with the output of an undisturbed run: nothing may be lost in silence. Of training also that the same command with --resume latest
# then comes to the same end, so that whatever was left behind could be gone on from.
# $SHIM is the preloaded library, $COHORT the program, $SOURCE the tree, $BUILD the folder with the library.
set -euo pipefail
export LC_ALL=C
# shellcheck source=exact.sh
. "$SOURCE/tests/support/exact.sh"

prepare() { # the inputs of all commands, in $work
    cd "$work"
    "$COHORT" init --preset nano --tokenizer bytes --seed 3 --out model 2>/dev/null >/dev/null
    "$COHORT" init --preset nano --tokenizer bytes --seed 4 --out other 2>/dev/null >/dev/null
    local i
    for i in 1 2 3 4 5; do
        printf '{"prompt": "question %d: what is %d + %d?", "completion": " it is %d", "answer": "%d"}\n' $i $i $i $((2 * i)) $((2 * i))
    done >rows.jsonl
    sed 's/"completion": \([^,]*\), .*/"chosen": \1, "rejected": " no"}/' rows.jsonl >pairs.jsonl
    printf '{"messages": [{"role": "user", "content": "hi \\u00e9"}]}\n' >chat.jsonl
    printf 'prompt,completion\n"a ""b""",c\nd,e\n' | gzip >table.csv.gz
    printf 'data: rows.jsonl\nmodel: model\nsteps: 3\nbatch_size: 1\nsave_steps: 1\nlearning_rate: 1e-3\neval_data: chat-eval.jsonl\n' >sft.yaml
    printf 'packing: true\nmax_length: 90\nneftune_noise_alpha: 5\nlabel_smoothing_factor: 0.1\neval_steps: 1\nearly_stopping_patience: 9\nload_best_model_at_end: true\n' >>sft.yaml
    "$COHORT" generate --model model --batch chat.jsonl --max-tokens 6 >generated.jsonl
    "$COHORT" reward --model model --data pairs.jsonl --steps 1 --batch-size 2 --out scorer >/dev/null 2>/dev/null
    printf '{"question": "a?", "choices": ["b", "cc"], "answer": 1}\n{"question": "d", "choices": ["e", "f"], "answer": 0}\n' >choices.jsonl
    printf '{"prompt": "a", "completion": "b", "label": true}\n{"prompt": "c", "completion": "d", "label": false}\n' >wanted.jsonl
    printf 'One line of text.\nAnd another, to be read.\n' >text.txt
    printf 'hi\nand then?\n' >said
    "$COHORT" sft --model model --data rows.jsonl --use-peft --steps 1 --batch-size 2 --out adapter >/dev/null 2>/dev/null
    "$COHORT" grpo --model model --data rows.jsonl --reward regex --reward-pattern '[a-m]' --steps 3 --save-steps 1 --prompts-per-step 1 --num-generations 2 \
        --max-completion-length 4 --learning-rate 1e-3 --eval-data rows.jsonl --eval-steps 2 --out past >/dev/null 2>/dev/null
    "${CC:-cc}" -std=c11 -I"$SOURCE/include" "$SOURCE/examples/train_steps.c" -o step -L"$BUILD" -lcohort -Wl,-rpath,"$BUILD"
}

# Each runs one command with its output in $out (a folder of its own); more arguments go to the program.
run_help() { "$COHORT" grpo --help >"$out/stdout"; }
run_info() { "$COHORT" info --model model --memory --memory-limit 1 --threads 1 >"$out/stdout"; }
run_verify() { "$COHORT" info --model model --verify --threads 1 >"$out/stdout"; }
run_init() { "$COHORT" init --preset nano --tokenizer bytes --seed 3 --out "$out/model" >"$out/stdout"; }
run_tokenize() { "$COHORT" tokenize --model model --batch chat.jsonl >"$out/stdout"; }
run_generate() { "$COHORT" generate --model model --batch chat.jsonl --n 2 --max-tokens 6 --threads 1 >"$out/stdout"; }
run_logprobs() { "$COHORT" logprobs --model model --batch generated.jsonl --threads 1 >"$out/stdout"; }
evaluate() { "$COHORT" eval --model model --data one=rows.jsonl,two=rows.jsonl --n 2 --reward accuracy --reward regex --reward-pattern '[a-m]' --max-completion-length 4 --threads 1 "$@" >"$out/stdout"; }
run_eval() { evaluate --format jsonl; }
run_table() { evaluate --format text; }
run_data() { "$COHORT" data "rows.jsonl,table.csv.gz,$SOURCE/tests/fixtures/data_files/pandas.parquet" --model model --columns answer=completion >"$out/stdout"; }
run_score() { "$COHORT" score --data rows.jsonl --reward accuracy --reward 'exec:sh reward.sh' >"$out/stdout"; }
run_scorer() { "$COHORT" score --data rows.jsonl --reward accuracy --reward model:scorer/final --device cpu --threads 1 >"$out/stdout"; }
run_trainer() { ./step model "$out/run" >"$out/stdout"; } # the embedded trainer, by an example
run_choices() { "$COHORT" eval --choices --model model --data choices.jsonl --threads 1 --format jsonl >"$out/stdout"; }
run_perplexity() { "$COHORT" perplexity text.txt --model model --window 16 --stride 8 --threads 1 --format jsonl >"$out/stdout"; }
run_chat() { "$COHORT" chat --model model --max-tokens 4 --seed 2 --threads 1 <said >"$out/stdout"; }
run_merge() { "$COHORT" merge --model model --adapter adapter/final --out "$out/merged" >"$out/stdout"; }
# They say what they wrote, by its path.
run_report() (cd "$out" && "$COHORT" report ../past -o report.html >stdout)
run_plot() (cd "$out" && "$COHORT" plot ../past --metric reward,loss -o plot.svg >stdout)
run_fork() { "$COHORT" fork past@2 --out "$out/run" >"$out/stdout"; }
run_watch() { "$COHORT" watch past --plain >"$out/stdout"; }
# Each action by itself, so that what one does is not hidden behind another.
run_list() { # a run that cannot be read is listed as that
    "$COHORT" runs list --runs . >"$out/stdout" || return
    local line
    while IFS= read -r line; do
        [[ $line != *" unreadable "* ]] || { echo "cohort: $line" >&2; return 1; }
    done <"$out/stdout"
}
run_show() { "$COHORT" runs show past >"$out/stdout"; }
run_compare() { "$COHORT" runs compare past adapter >"$out/stdout"; }
run_completions() { "$COHORT" runs completions past --order worst --search e --format jsonl >"$out/stdout"; }
run_export() { "$COHORT" runs export past --format csv -o "$out/metrics.csv" >"$out/stdout"; }
run_parquet() { "$COHORT" runs export past --format parquet --table completions -o "$out/completions.parquet" >"$out/stdout"; }
run_tensorboard() { # its name and times differ
    "$COHORT" runs export past --format tensorboard -o "$out/events" >"$out/stdout" || return
    LD_PRELOAD='' stat -c %s "$out"/events/* >"$out/size"
    LD_PRELOAD='' rm -r "$out/events"
}
run_sql() { "$COHORT" runs sql past 'SELECT step, reward, text FROM completion ORDER BY id' >"$out/stdout"; }
run_serve() ( # what fails is the server's, not the client's
    export PRELOAD=${LD_PRELOAD:-} COHORT
    unset LD_PRELOAD
    exec python3 -I -S "$SOURCE/tests/support/serve_once.py" model "$out/stdout"
)
run_sft() { "$COHORT" sft --config sft.yaml --out "$out/run" --threads 1 "$@" >"$out/steps"; }
run_dpo() {
    "$COHORT" dpo --model model --data pairs.jsonl --eval-data pairs.jsonl --steps 3 --batch-size 2 --save-steps 1 --learning-rate 1e-3 \
        --loss-type 'aot,sft' --precompute-ref-log-probs --eval-steps 1 --out "$out/run" --threads 1 "$@" >"$out/steps"
}
run_reward() {
    "$COHORT" reward --model model --data pairs.jsonl --eval-data pairs.jsonl --steps 3 --batch-size 2 --save-steps 1 --learning-rate 1e-3 \
        --use-peft --center-rewards-coefficient 0.01 --eval-steps 1 --out "$out/run" --threads 1 "$@" >"$out/steps"
}
preferences() { # COMMAND DATA ...: the trainers of preferences beside dpo
    local command=$1 data=$2
    shift 2
    "$COHORT" "$command" --model model --data "$data" --steps 3 --batch-size 2 --save-steps 1 --learning-rate 1e-3 --out "$out/run" --threads 1 "$@" >"$out/steps"
}
run_kto() { preferences kto wanted.jsonl "$@"; }
run_orpo() { preferences orpo pairs.jsonl "$@"; }
run_cpo() { preferences cpo pairs.jsonl --loss-type simpo "$@"; }
drawn() { # COMMAND ...: what draws, beside grpo
    local command=$1
    shift
    "$COHORT" "$command" --model model --data rows.jsonl --steps 2 --save-steps 1 --prompts-per-step 2 --max-completion-length 4 --learning-rate 1e-3 \
        --out "$out/run" --threads 1 "$@" >"$out/steps"
}
run_rloo() { drawn rloo --reward regex --reward-pattern '[a-m]' --num-generations 2 "$@"; }
run_distill() { drawn distill --teacher-model other "$@"; }
run_grpo() {
    "$COHORT" grpo --model model --data rows.jsonl --reward accuracy --reward regex --reward-pattern '[a-m]' --steps 2 --save-steps 1 --save-total-limit 1 \
        --prompts-per-step 2 --num-generations 2 --max-completion-length 4 --learning-rate 1e-3 --beta 0.1 --log-completions \
        --eval-data chat-eval.jsonl --out "$out/run" --threads 1 "$@" >"$out/steps"
}

# What of an output must be equal: everything but times and records of times (lines of steps have them: their numbers are those of metrics.jsonl); a scratch folder whose removal is what failed, which the next
# save removes; and an old checkpoint that could not be removed, which is only a warning.
fingerprint() { # fingerprint FOLDER
    (cd "$1" && find . -type f ! -name metrics.jsonl ! -name '*.svg' ! -name stderr ! -name steps ! -name count ! -name 'state.json' ! -name '*SUMS' ! -name 'lock*' ! -name config.yaml ! -name 'run.db*' \
        ! -path '*/.cohort-*' ! -name '.cohort.*' \
        ! -path './run/checkpoints/step-1/*' | sort | xargs -r sha256sum | sed "s|$1||")
    if [ -f "$1/run/metrics.jsonl" ]; then numbers "$1/run"; fi
    if [ -f "$1/run/run.db" ]; then records "$1/run"; fi
}

sweep() {
    local kind=$1 step=$2 k=$3 command=$4 status count resumed=
    local good=$work/good-$command out
    printf 'while read -r line; do echo 1; done\n' >"$work/reward.sh"
    sed -n 1,2p "$work/rows.jsonl" >"$work/chat-eval.jsonl"
    rm -rf "$good"
    mkdir "$good"
    out=$good
    LD_PRELOAD=$SHIM FAIL_KIND=$kind FAIL_UNDER=$work FAIL_COUNT=$good/count "run_$command" 2>"$good/stderr" || fail "$command fails undisturbed: $(tail -n 1 "$good/stderr")"
    count=$(cat "$good/count")
    local last=$((${5:-$count} < count ? ${5:-$count} : count))
    [ "$count" -gt 3 ] || fail "$command: the preloaded library saw $count calls"
    fingerprint "$good" >"$work/wanted"
    local tried=0 succeeded=0
    for (( ; k <= last; k += step)); do
        out=$work/out
        rm -rf "$out"
        mkdir "$out"
        status=0
        LD_PRELOAD=$SHIM FAIL_KIND=$kind FAIL_UNDER=$work FAIL_AT=$k "run_$command" 2>"$out/stderr" || status=$?
        tried=$((tried + 1))
        if [ $status -eq 0 ]; then
            succeeded=$((succeeded + 1))
            fingerprint "$out" >"$work/found"
            cmp -s "$work/wanted" "$work/found" || { diff "$work/wanted" "$work/found" | head -5 >&2 || true; diff -ar "$good" "$out" | head -20 | cut -c1-300 >&2 || true; fail "$command, $kind $k of $count: exit status 0, and other output"; }
            continue
        fi
        [ $status -le 3 ] || fail "$command, $kind $k of $count: exit status $status: $(tail -n 2 "$out/stderr")"
        grep -qE '^(cohort|train_steps): ' "$out/stderr" || fail "$command, $kind $k of $count: exit status $status without a message"
        # Out of memory says nothing about the files.
        [ "$command $kind" != "verify alloc" ] || ! grep -q 'damaged' "$out/stderr" || fail "verify, alloc $k of $count: $(tail -n 1 "$out/stderr")"
        case $command in sft | dpo | kto | orpo | cpo | reward | grpo | rloo | distill)
            "run_$command" --resume latest 2>"$out/stderr" || fail "$command, $kind $k of $count: cannot be resumed: $(tail -n 1 "$out/stderr")"
            fingerprint "$out" >"$work/found"
            cmp -s "$work/wanted" "$work/found" || { diff "$work/wanted" "$work/found" | head -5 >&2 || true; fail "$command, $kind $k of $count: the resumed run is another"; }
            ;;
        esac
    done
    printf '%-10s %-6s %6d calls, %5d tried: %5d failed with a message, %4d succeeded with the same output\n' "$command" "$kind" "$count" "$tried" $((tried - succeeded)) "$succeeded"
}
