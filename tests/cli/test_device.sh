# cohort --device: which one is taken, and what is said where the GPU asked for cannot be had. With the CUDA backend's emulation
# (tests/cuda_emulation), which plays a machine without a device, without a driver, with an old one, with too little memory.
. "$(dirname "$0")/shell.sh"
EMULATED=$BUILD/tests/cohort_emulated

# backend PROGRAM ARGUMENTS...: the one that info names
backend() { "$@" 2>&1 | sed -n 's/^backend  *\([a-z]*\),.*/\1/p'; }

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4; do echo "{\"prompt\": \"q$i\", \"answer\": \"$i\", \"completion\": \"some text\"}"; done >d.jsonl

# --- names ---
is "$(backend "$COHORT" info --device cpu)" cpu "--device cpu"
for name in gpu cuda: cuda:x cuda:-1 "cuda: 1" cuda:1x cuda:99999 CUDA; do
    fails 2 "--device '$name': expected auto, cpu, cuda or cuda:N" "$COHORT" info --device "$name"
done
fails 2 "--isa portable is an instruction set of the CPU, --device cuda asks for a GPU" "$COHORT" info --device cuda --isa portable

# --- a build without CUDA ---
if ! grep -qs '^COHORT_CUDA:BOOL=ON' "$BUILD/CMakeCache.txt"; then
    is "$(backend "$COHORT" info)" cpu "--device auto without CUDA"
    for command in "info" "generate --model m --no-chat --prompt q" \
        "grpo --model m --data d.jsonl --reward accuracy --out r" "sft --model m --data d.jsonl --out r"; do
        # shellcheck disable=SC2086 # arguments are words
        fails 1 "built without CUDA; build it with cmake -DCOHORT_CUDA=ON \(CUDA 12\.4 or newer\), or use --device cpu" \
            "$COHORT" $command --device cuda
    done
    absent r
fi
if [ ! -x "$EMULATED" ]; then
    echo "no emulation of CUDA in this build (sanitizers, or another processor): the rest is left out"
    done_testing
    exit
fi

# --- no GPU that can be used: named, and auto takes the CPU ---
refuses() { # refuses DEVICE PATTERN: what the emulation plays, what is said of it
    fails 1 "$2.*use --device cpu" env CUDA_EMULATION_DEVICE="$1" "$EMULATED" info --device cuda
    is "$(backend env CUDA_EMULATION_DEVICE="$1" "$EMULATED" info)" cpu "--device auto, $1"
}
refuses none 'no NVIDIA GPU was found .*nvidia-smi.*CUDA_VISIBLE_DEVICES'
refuses no-driver 'no NVIDIA driver was found .*nvidia-smi'
refuses old-driver 'the NVIDIA driver is too old: it supports CUDA 11\.4, this cohort needs [0-9]+\.[0-9]+; update the driver'
refuses turing 'GPU 0 \(.*\) has compute capability 7\.5, cohort needs 8\.0 \(A100\) or newer'

# --- a GPU: taken by itself, by name and by number, but not where an instruction set is asked for ---
is "$(backend "$EMULATED" info)" cuda "--device auto with a GPU"
is "$(backend "$EMULATED" info --device cuda:0)" cuda "--device cuda:0"
is "$(backend "$EMULATED" info --device cpu)" cpu "--device cpu with a GPU"
is "$(backend "$EMULATED" info --isa portable)" cpu "--isa with a GPU"
# A run's config.yaml has every option, this one too: a resumed run must not move to the CPU.
is "$(backend "$EMULATED" info --isa auto)" cuda "--isa auto with a GPU"
fails 2 'there is no GPU 3: this machine has 1, numbered from 0' "$EMULATED" info --device cuda:3

# --- too little memory: what is missing, and what would fit ---
with() { # with KIBIBYTES COMMAND...
    local memory=$1
    shift
    env CUDA_EMULATION_MEMORY="$memory" "$EMULATED" "$@" --device cuda
}
GENERATE=(generate --model m --no-chat --prompt q --max-completion-length 2)
SFT=(sft --model m --data d.jsonl --steps 1 --batch-size 4)
there='[0-9.]+ GB are there'
fails 1 "m: weights take [0-9.]+ GB, .* $there; use a smaller model or another --device" with 64 "${GENERATE[@]}"
fails 1 "m: weights take [0-9.]+ GB, .* $there; use --dtype bf16, a smaller model" with 64 "${GENERATE[@]}" --dtype f32
fails 1 'rollout buffers: .* are wanted' with 500 "${GENERATE[@]}"
# What a limit that is asked for promises and the device does not have is found out late.
fails 1 "GPU 0 .*: CUDA reports 'out of memory' in working memory of an operation; lower .*--decode-concurrency" \
    with 2000 "${GENERATE[@]}" --memory-limit 1
plan="training needs [0-9.]+ GB beside the weights .*, $there"
fits() { # fits KIBIBYTES ADVICE OPTIONS...: what the message says would fit, which the program then takes
    local memory=$1 advice=$2
    shift 2
    fails 1 "$plan; $advice fits \\([0-9.]+ GB\\)" with "$memory" "${SFT[@]}" "$@" --out r
    absent r
    # What kernels work in is in the plan: for this tiny model it is most of it.
    # shellcheck disable=SC2086 # arguments are words
    succeeds with "$memory" "${SFT[@]}" "$@" $advice --out "again-$memory"
    has err '^memory plan, GPU 0 \(CPU emulation\): weights '
}
fails 1 "gradient and optimizer .* $there; pass --moments-dtype bf16, with which they fit" with 1800 "${SFT[@]}" --out r
fits 5300 '--recompute layer --moments-dtype bf16 --micro-batch-tokens 48'
fits 5000 '--recompute layer --micro-batch-tokens 24' --moments-dtype bf16
fails 1 "$plan, and even --recompute layer --moments-dtype bf16 --micro-batch-tokens 12 takes .* smaller model" \
    with 4600 "${SFT[@]}" --moments-dtype bf16 --out r
# --- the plan of a GPU: info says what grpo then takes, working memory included ---
rm m/model.safetensors # which nothing above it has asked for
GRPO=(--num-generations 4 --prompts-per-step 4 --max-completion-length 8)
plan_of() { grep -o 'memory plan, GPU 0.*' "$1"; }
for memory in 65536 12000; do
    succeeds with $memory info --memory --model m --max-prompt-length 2 "${GRPO[@]}"
    has out '^  working memory of the device *0\.0[0-9]* GB$'
    said=$(plan_of out)
    fails 1 'model\.safetensors' with $memory grpo --model m --data d.jsonl --reward accuracy "${GRPO[@]}" --out r
    has err 'KV pages, 16 at once\), working memory of the device '
    is "$(plan_of err)" "$said" "plan of info and of grpo, $memory KiB"
    absent r
done
# An option says how many at once.
succeeds with 65536 info --memory --model m --max-prompt-length 2 "${GRPO[@]}" --decode-concurrency 3
has out 'KV pages, 3 at once\)'
fails 1 "$plan, and even --recompute layer" with 4600 "${SFT[@]}" --moments-dtype bf16 --out r
fails 1 "^memory plan, GPU 0 " with 8192 "${SFT[@]}" --out r
has err 'model\.safetensors'
absent r
done_testing
