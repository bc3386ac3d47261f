#!/bin/sh
# Says every hundredth step, and the end, in a chat (Slack, Mattermost, Discord and others take {"text": ...} at a web hook's address):
#
#     HOOK=https://hooks.example.com/... cohort grpo --config grpo.yaml --report-to 'exec:sh examples/report_chat.sh'
#
# Without HOOK it prints what it would say.
say() {
    if [ -n "${HOOK:-}" ]; then
        curl --silent --max-time 20 --json "{\"text\": \"$1\"}" "$HOOK" >/dev/null
    else
        echo "$1" >&2
    fi
}
while read -r line; do
    case $line in
    '{"step": '*00,*) say "step $(printf %s "$line" | sed -E 's/^\{"step": ([0-9]+),.*/\1/'): reward $(printf %s "$line" | sed -nE 's/.*"reward": ([^,}]*).*/\1/p')" ;;
    '{"end": '*) say "the run has ended: $(printf %s "$line" | sed -E 's/.*"status": "([^"]*)".*/\1/')" ;;
    esac
done
