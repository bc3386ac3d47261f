#!/bin/bash
# docs/OPTIONS.md is what the option table says now, and no command offers an option that none of its files reads (invariant I7: nothing
# the user gives is ignored).
set -eu
cd "$SOURCE"
failed=0
if ! diff -u docs/OPTIONS.md <("$COHORT" --options-docs); then
    echo "docs/OPTIONS.md is not current: make options-docs"
    failed=1
fi

# The files that read the options of each command.
declare -A files=(
    [generate]="command_generate.c session.c row_prompt.c end_of_text.c"
    [logprobs]="command_logprobs.c session.c"
    [tokenize]="command_tokenize.c row_prompt.c"
    [info]="command_info.c memory_plan.c session.c"
    [init]="command_init.c"
    [sft]="command_sft.c training.c training_save.c run_identity.c memory_plan.c session.c row_prompt.c end_of_text.c"
    [grpo]="command_grpo.c grpo_run.c training.c training_save.c run_identity.c memory_plan.c scoring.c session.c row_prompt.c end_of_text.c"
    [eval]="command_eval.c scoring.c session.c row_prompt.c end_of_text.c"
    [score]="command_eval.c scoring.c"
    [bench]="command_bench.c bench_*.c memory_plan.c session.c"
)
# config: read by the program (cli), which init excepts.
passed_over=" config "
for command in $("$COHORT" --help | awk '/^  [a-z]/ {print $1}'); do
    sources=""
    for name in ${files[$command]:?no files listed for this command}; do
        sources="$sources $(ls src/command/$name src/recipe/$name src/bench/$name 2> /dev/null || true)"
    done
    for name in $("$COHORT" "$command" --help | grep -oE '^ +--[a-z0-9-]+' | tr -d ' ' | sed 's/^--//; s/^no-//; s/-/_/g'); do
        case "$passed_over" in *" $name "*) continue ;; esac
        # shellcheck disable=SC2086 # a list of files
        if ! cat $sources | tr '\n' ' ' | grep -qE "(options_[a-z_]+|choice_of)\([^;]*\"$name\""; then
            echo "cohort $command offers --${name//_/-}, but none of$sources reads it"
            failed=1
        fi
    done
done
exit $failed
