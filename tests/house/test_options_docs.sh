#!/bin/bash
# docs/OPTIONS.md is what the option table says now, no command offers an option that none of its files reads (invariant I7: nothing the
# user gives is ignored), and options are read as what they are.
set -eu
cd "$SOURCE"
failed=0
if ! diff -u docs/OPTIONS.md <("$COHORT" --options-docs); then
    echo "docs/OPTIONS.md is not current: make options-docs"
    failed=1
fi

# The files that read the options of each command.
declare -A files=(
    [generate]="command_generate.c generation_file.c row_guide.c data_open.c json_rows.c session.c session_adapter.c row_prompt.c end_of_text.c"
    [chat]="command_chat.c generation_file.c session.c session_adapter.c end_of_text.c"
    [perplexity]="command_perplexity.c data_open.c json_rows.c session.c session_adapter.c"
    [logprobs]="command_logprobs.c session.c session_adapter.c"
    [tokenize]="command_tokenize.c data_open.c json_rows.c row_prompt.c"
    [info]="command_info.c memory_plan.c session.c session_adapter.c optimizer_options.c"
    [init]="command_init.c session.c"
    [sft]="command_sft.c row_run.c sft_row.c data_open.c training.c training_save.c training_diagnosis.c training_report.c training_steer.c training_ranks.c best_model.c run_identity.c record.c report_to.c memory_plan.c session.c session_adapter.c optimizer_options.c row_prompt.c end_of_text.c routing_options.c"
    [dpo]="command_dpo.c run_reference.c preference_run.c preference_rows.c row_run.c data_open.c training.c training_save.c training_diagnosis.c training_report.c training_steer.c training_ranks.c best_model.c run_identity.c record.c report_to.c memory_plan.c session.c session_adapter.c optimizer_options.c row_prompt.c end_of_text.c routing_options.c"
    [kto]="command_kto.c run_reference.c preference_run.c preference_rows.c row_run.c data_open.c training.c training_save.c training_diagnosis.c training_report.c training_steer.c training_ranks.c best_model.c run_identity.c record.c report_to.c memory_plan.c session.c session_adapter.c optimizer_options.c row_prompt.c end_of_text.c routing_options.c"
    [orpo]="command_orpo.c preference_run.c preference_rows.c row_run.c data_open.c training.c training_save.c training_diagnosis.c training_report.c training_steer.c training_ranks.c best_model.c run_identity.c record.c report_to.c memory_plan.c session.c session_adapter.c optimizer_options.c row_prompt.c end_of_text.c routing_options.c"
    [cpo]="command_cpo.c preference_run.c preference_rows.c row_run.c data_open.c training.c training_save.c training_diagnosis.c training_report.c training_steer.c training_ranks.c best_model.c run_identity.c record.c report_to.c memory_plan.c session.c session_adapter.c optimizer_options.c row_prompt.c end_of_text.c routing_options.c"
    [reward]="command_reward.c preference_run.c preference_rows.c row_run.c data_open.c training.c training_save.c training_diagnosis.c training_report.c training_steer.c training_ranks.c best_model.c run_identity.c record.c report_to.c memory_plan.c session.c session_adapter.c optimizer_options.c row_prompt.c end_of_text.c"
    [grpo]="command_grpo.c row_guide.c episodes_open.c data_open.c evaluation_sets.c prompt_set.c grpo_run.c grpo_options.c routing_options.c run_reference.c grpo_draw.c training.c training_save.c training_diagnosis.c training_report.c training_steer.c training_ranks.c best_model.c run_identity.c record.c report_to.c memory_plan.c scoring.c session.c session_adapter.c optimizer_options.c row_prompt.c end_of_text.c"
    [rloo]="command_rloo.c row_guide.c command_grpo.c episodes_open.c data_open.c evaluation_sets.c prompt_set.c grpo_run.c grpo_options.c routing_options.c run_reference.c grpo_draw.c training.c training_save.c training_diagnosis.c training_report.c training_steer.c training_ranks.c best_model.c run_identity.c record.c report_to.c memory_plan.c scoring.c session.c session_adapter.c optimizer_options.c row_prompt.c end_of_text.c"
    [distill]="command_distill.c run_teacher.c row_guide.c command_grpo.c episodes_open.c data_open.c evaluation_sets.c prompt_set.c grpo_run.c grpo_options.c routing_options.c run_reference.c grpo_draw.c training.c training_save.c training_diagnosis.c training_report.c training_steer.c training_ranks.c best_model.c run_identity.c record.c report_to.c memory_plan.c scoring.c session.c session_adapter.c optimizer_options.c row_prompt.c end_of_text.c"
    [eval]="command_eval.c choices.c row_guide.c episodes_open.c data_open.c evaluation_sets.c prompt_set.c json_rows.c scoring.c session.c session_adapter.c row_prompt.c end_of_text.c"
    [serve]="serve.c generation_file.c serve_adapters.c serve_routes.c session.c session_adapter.c end_of_text.c"
    [runs]="command_runs.c runs_view.c runs_export.c"
    [report]="command_report.c runs_view.c"
    [plot]="command_plot.c runs_view.c"
    [watch]="command_watch.c runs_view.c"
    [fork]="command_fork.c run_fork.c runs_view.c"
    [merge]="command_merge.c session.c"
    [score]="command_score.c data_open.c scoring.c session.c"
    [data]="command_data.c data_open.c data_survey.c sft_row.c json_rows.c row_prompt.c"
    [bench]="command_bench.c json_rows.c bench_*.c memory_plan.c session.c session_adapter.c"
)
# Read by the program (cli): config, which init excepts, and what the view of watch looks like.
passed_over=" config plain ascii read_only "
for command in $("$COHORT" --help | awk '/^  [a-z]/ {print $1}'); do
    sources=""
    for name in ${files[$command]:?no files listed for this command}; do
        sources="$sources $(ls src/command/$name src/recipe/$name src/bench/$name src/serve/$name 2> /dev/null || true)"
    done
    offered=$("$COHORT" "$command" --help | grep -oE '^  --[a-z0-9-]+' | tr -d ' ' | sed 's/^--//; s/^no-//; s/-/_/g')
    # shellcheck disable=SC2086 # a list of files
    read_here=$(cat $sources | tr '\n' ' ' | grep -oE 'options_[a-z_]+\([^;]*' | grep -oE '\bOPTION_[A-Z0-9_]+' | sort -u)
    for name in $offered; do
        case "$passed_over" in *" $name "*) continue ;; esac
        if ! grep -qx "OPTION_${name^^}" <<<"$read_here"; then
            echo "cohort $command offers --${name//_/-}, but none of$sources reads it"
            failed=1
        fi
    done
    # And the other way round, of what is the command's own: reading what it does not have would be an assert.
    while read -r id; do
        name=${id#OPTION_}
        if ! grep -qx "${name,,}" <<<"$offered"; then
            echo "src/command/command_$command.c reads $id, which cohort $command does not have"
            failed=1
        fi
    done < <(grep -ohE '\bOPTION_[A-Z0-9_]+' "src/command/command_$command.c" | sort -u)
done

# Options are read as the type that they have (options_int asserts it when it runs; here every reader is looked at).
declare -A reader=([integer]=int [number]=float [text]=string [true]=bool [list]=list [one]=choice) kind=()
while IFS='|' read -r _ name accepted _; do
    name=$(tr -d ' `' <<<"$name")
    for word in $accepted; do
        case "$word" in a | an) ;; *) break ;; esac
    done
    [ -z "${reader[${word%,}]:-}" ] || kind[${name^^}]="${kind[${name^^}]:-} ${reader[${word%,}]} " # commands may differ
done < <(grep '^| `' docs/OPTIONS.md)
while read -r how id; do
    [[ "${kind[$id]:-}" == *" $how "* ]] || { echo "OPTION_$id is read as ${how}, and is ${kind[$id]:-no option}"; failed=1; }
done < <(cat src/{recipe,bench,command,api}/*.c | tr '\n' ' ' |
    grep -oE '\boptions_(int|float|bool|string|choice|list)(_[a-z]+)?\([^,;]*, *OPTION_[A-Z0-9_]+' | sed -E 's/^options_([a-z]+).*OPTION_/\1 /' | sort -u)
exit $failed
