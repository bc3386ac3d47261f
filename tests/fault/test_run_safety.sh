# What a run may touch, who may train in its folder, what of a checkpoint is checked, what is kept. Through the program; the calls one by one
# are in test_run_folder.c.
. "$(dirname "$0")/../cli/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5; do echo "{\"prompt\": \"q$i\", \"completion\": \"a$i\"}"; done >d.jsonl
SFT=("$COHORT" sft --model m --data d.jsonl --batch-size 2 --learning-rate 1e-3 --seed 5 --threads 1)
# sft OUT ARGUMENTS...
sft() { "${SFT[@]}" --out "$@"; }

# --- files of somebody else ---
succeeds sft r --steps 2 --save-steps 1
for d in r r/checkpoints; do
    echo mine >$d/.notes.tmp-1234567
    mkdir $d/.photos.tmp-99999 $d/.step-1.tmp-99999 $d/.cohort-0123456789abcdef
    echo mine | tee $d/.photos.tmp-99999/a $d/.step-1.tmp-99999/a $d/.secret.old-1234567 $d/metrics.jsonl.tmp-77 $d/.cohort-0123456789abcdef/a >/dev/null
done
echo mine >r/final/README.md
(cd r && find . -name '.notes*' -o -name a -o -name '.secret*' -o -name '*.tmp-77') | sort >before
is "$(wc -l <before)" 12 "files planted"
succeeds sft r --steps 4 --save-steps 1 --resume
(cd r && find . -name '.notes*' -o -name a -o -name '.secret*' -o -name '*.tmp-77') | sort >after
same before after
is "$(sed 's#^#r/#' before | xargs cat | sort | uniq -c | tr -s ' ')" " 12 mine" "what the files say"
is "$(cat r/final.previous-1/README.md)" mine "a file in final/"
has err 'note: the final that was there holds files of yours'
absent r/final/README.md
# A new model beside such files.
mkdir i; echo mine >i/.x.tmp-99999; echo mine >i/.x.old-99998
succeeds "$COHORT" init --preset nano --tokenizer bytes --out i/x
is "$(ls -A i | tr '\n' ' ')" ".x.old-99998 .x.tmp-99999 x " "files beside a new model"

# --- two trainers ---
for i in $(seq 10); do
    rm -rf two
    sft two --steps 30 >out1 2>err1 & a=$!
    sft two --steps 30 >out2 2>err2 & b=$!
    wait $a; ca=$?
    wait $b; cb=$?
    is "$(printf '%s\n' $ca $cb | sort | tr '\n' ' ')" "0 1 " "exit codes of two that begin one run"
    is "$(wc -l <two/metrics.jsonl)" 30 "lines of metrics of the one that won"
    CHECKS=$((CHECKS + 1))
    grep -hEq 'process [0-9]+ on .* has been training in this folder since 20.*choose another --out|already holds a run' err1 err2 ||
        wrong "no word of who has the folder: $(cat err1 err2)"
done
# Of one run that is resumed twice, while it runs: the reward waits for a file.
cat >wait.sh <<'R'
while IFS= read -r line; do
    answer="$answer$((${#line} % 7))
"
    case $line in *'"last_of_batch":true'*) ;; *) continue ;; esac
    while [ -e hold ]; do sleep 0.05; done
    printf '%s' "$answer"
    answer=
done
R
GRPO=("$COHORT" grpo --model m --data d.jsonl --reward "exec:sh wait.sh" --num-generations 2 --prompts-per-step 2 --max-completion-length 4
    --learning-rate 1e-3 --seed 5 --threads 1)
grpo() { "${GRPO[@]}" --out "$@"; }
# await PATTERN FILE
await() { for i in $(seq 200); do grep -Eq "$1" "$2" 2>/dev/null && return; sleep 0.05; done; wrong "$2 never had '$1': $(tail -n 3 "$2")"; }
succeeds grpo g --steps 2
touch hold
"${GRPO[@]}" --out g --steps 4 --resume >out1 2>err1 &
first=$!
await 'resuming from' err1
cp g/metrics.jsonl before
fails 1 "process $first on .* has been training in this folder since 20.*kill $first" grpo g --steps 4 --resume
fails 1 "process $first on" grpo g --steps 4
same g/metrics.jsonl before
# The reward program does not hold the lock: after a kill it lives on for a moment.
kill -9 $first
wait $first 2>/dev/null
succeeds env sh -c 'rm hold; exec "$@"' x "${GRPO[@]}" --out g --steps 4 --resume
is "$(wc -l <g/metrics.jsonl)" 4 "lines after a kill"

# --- damage ---
succeeds sft v --steps 4 --save-steps 1
for c in v/checkpoints/step-4 v/final; do
    succeeds sh -c 'cd "$1" && sha256sum -c --strict SHA256SUMS' x $c
    succeeds "$COHORT" info --verify --model $c
    has out 'all as they were saved'
done
C=v/checkpoints/step-4
damaged() { rm -rf v2; cp -r v v2; C=v2/checkpoints/step-4; }
resume() { sft v2 --steps 6 --save-steps 1 --resume "$@"; }
# flip FILE OFFSET: one bit
flip() { printf "\\x$(printf %02x $(($(od -An -tu1 -j "$2" -N1 "$1") ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null; }
for file in model.safetensors trainer/optimizer.safetensors config.json tokenizer.json; do
    damaged; flip $C/$file 40
    fails 1 "checkpoint is damaged: $C/$file: its bytes are not.*newest intact one is v2/checkpoints/step-3: .*--resume v2/checkpoints/step-3" resume
    absent v2/checkpoints/step-5
    fails 1 '1 of 10 files' "$COHORT" info --verify --model $C
    is "$(cat out)" "$C/$file: its bytes are not the ones that were saved (SHA-256 differs)" "what --verify prints"
    is "$(ls v2/checkpoints | wc -l)" 4 "checkpoints after the refusal"
done
damaged; rm $C/tokenizer_config.json; flip v2/checkpoints/step-3/model.safetensors 9000
fails 1 "tokenizer_config.json: is missing; the newest intact one is v2/checkpoints/step-2" resume
succeeds resume v2/checkpoints/step-2
has err 'note: later checkpoints.*moved to v2/checkpoints/set-aside-1: step-4 step-3$'
damaged; sed -i '/model.safetensors/d; /trainer.state/d' $C/SHA256SUMS
fails 1 'SHA256SUMS: does not list trainer/state.json' resume
damaged; : >$C/SHA256SUMS
fails 1 'SHA256SUMS: lists no file' resume
damaged; echo mine >$C/notes.txt # no damage
succeeds resume
damaged; mv $C v2/checkpoints/step-007; rm -r v2/checkpoints/step-[23]
succeeds resume
has err 'note: v2/checkpoints/step-007 is not how cohort names a checkpoint'
has err 'resuming from v2/checkpoints/step-1: step 1'
damaged; mv $C v2/checkpoints/step-7
fails 1 'its name says step 7, trainer/state.json in it says step 4' resume
fails 1 'm2: has no SHA256SUMS' sh -c 'cp -r m m2; rm m2/SHA256SUMS; exec "$1" info --verify --model m2' x "$COHORT"
fails 2 '.--verify needs a checkpoint' "$COHORT" info --verify

# --- complete alone, whatever was removed since ---
succeeds sft l --steps 2 --save-steps 1 --save-total-limit 1
succeeds sft l --steps 5 --save-steps 1 --save-total-limit 1 --resume
is "$(ls l/checkpoints)" step-5 "checkpoints with a limit"
for f in tokenizer.json tokenizer_config.json generation_config.json config.json; do
    same m/$f l/final/$f
    same m/$f l/checkpoints/step-5/$f
done
cp -r m gone
"$COHORT" sft --model gone --data d.jsonl --batch-size 2 --threads 1 --steps 3000 --save-steps 0 --out l2 >out1 2>err1 &
pid=$!
for i in $(seq 200); do [ -s l2/metrics.jsonl ] && break; sleep 0.02; done
rm -r gone
kill -TERM $pid; wait $pid
is "$(ls l2/checkpoints/*/tokenizer.json | wc -l)" 1 "tokenizer of a run whose model folder has gone"

# --- back to an earlier checkpoint, with a limit ---
succeeds sft b --steps 6 --save-steps 1
succeeds sft b --steps 4 --save-steps 1 --save-total-limit 2 --resume b/checkpoints/step-1
is "$(ls b/checkpoints | tr '\n' ' ')" "set-aside-1 step-3 step-4 " "checkpoints after going back"
is "$(ls b/checkpoints/set-aside-1 | tr '\n' ' ')" "step-2 step-3 step-4 step-5 step-6 " "those set aside"
same b/checkpoints/step-4 b/checkpoints/set-aside-1/step-4
succeeds sft b --steps 6 --save-steps 1 --resume
has err 'resuming from b/checkpoints/step-4'
same b/checkpoints/step-6 b/checkpoints/set-aside-1/step-6

# --- saves by the clock ---
cat >slow.sh <<'R'
while IFS= read -r line; do
    answer="$answer$((${#line} % 7))
"
    case $line in *'"last_of_batch":true'*) ;; *) continue ;; esac
    sleep 0.2
    printf '%s' "$answer"
    answer=
done
R
slow() { "${GRPO[@]/wait.sh/slow.sh}" --out "$@"; }
succeeds slow t --steps 25 --save-steps 0 --save-minutes 0
is "$(ls t/checkpoints)" step-25 "checkpoints without the clock"
succeeds slow c --steps 25 --save-steps 7 --save-minutes 0.0001
periodic=$(tr '\n' ' ' <c/.cohort.periodic)
# One or two, as fast as the disk is: they may take 3 % of the time.
CHECKS=$((CHECKS + 1))
case $(wc -w <<<"$periodic") in 1 | 2) ;; *) wrong "checkpoints by the clock: $periodic" ;; esac
is "$(ls c/checkpoints | sort -V | tr '\n' ' ')" "$(printf '%s\n' $periodic step-7 step-14 step-21 step-25 | sort -Vu | tr '\n' ' ')" "checkpoints asked for and by the clock"
same t/final c/final
is "$(untimed t/metrics.jsonl)" "$(untimed c/metrics.jsonl)" "metrics with and without saves by the clock"
rm -r c/final
succeeds slow c --steps 25 --save-steps 0 --save-minutes 0.0001 --resume "c/checkpoints/${periodic%% *}"
same t/final c/final

# --- standard descriptors closed ---
succeeds sh -c 'exec "$@" <&- >&- 2>&-' x "${SFT[@]}" --out closed --steps 12 --logging-steps 1
is "$(grep -vc '^{"step": .*}$' closed/metrics.jsonl)" 0 "lines of metrics.jsonl that are none"
is "$(wc -l <closed/metrics.jsonl)" 12 "lines of metrics"
fails 1 'standard output could not be written' sh -c 'exec "$@" >&-' x "$COHORT" info

# --- an ssh session that ends, and nohup ---
touch hold
"${GRPO[@]}" --out h --steps 50 >out1 2>err1 &
pid=$!
for i in $(seq 100); do [ -e h/config.yaml ] && break; sleep 0.05; done
kill -HUP $pid; kill -HUP $pid # from the kernel and from the shell
rm hold
wait $pid
is $? 130 "exit code after SIGHUP"
await 'stopped on request' err1
(trap '' HUP; exec "${SFT[@]}" --out n --steps 3000 --save-steps 0) >out1 2>err1 &
pid=$!
for i in $(seq 200); do [ -s n/metrics.jsonl ] && break; sleep 0.02; done
kill -HUP $pid
lines=$(wc -l <n/metrics.jsonl)
for i in $(seq 200); do [ "$(wc -l <n/metrics.jsonl)" -gt $((lines + 5)) ] && break; sleep 0.02; done
[ "$(wc -l <n/metrics.jsonl)" -gt $((lines + 5)) ] || wrong "SIGHUP stopped a run under nohup"
kill -TERM $pid
wait $pid
is $? 130 "exit code after SIGTERM"
done_testing
