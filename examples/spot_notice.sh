#!/bin/sh
# Runs a command on a spot instance, and tells it (SIGUSR1) when the cloud says that the instance goes away, so that it saves and ends:
#
#     sh spot_notice.sh cohort grpo --config grpo.yaml --out runs/first --resume latest
#
# It asks the instance's own metadata service, every five seconds (SPOT_SECONDS): AWS says so two minutes before, Google Cloud and Azure half a
# minute. What is not there does not answer. The exit code is the command's: 130 for a run that was stopped and can go on.
seconds=${SPOT_SECONDS:-5}

ask() { curl -s -f -m 2 "$@" 2>/dev/null; }
aws() {
    token=$(ask -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token) || return 1
    ask -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/spot/instance-action >/dev/null
}
google() { [ "$(ask -H 'Metadata-Flavor: Google' http://metadata.google.internal/computeMetadata/v1/instance/preempted)" = TRUE ]; }
azure() {
    case $(ask -H 'Metadata: true' 'http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01') in
    *Preempt*) return 0 ;;
    esac
    return 1
}

"$@" &
run=$!
trap '' INT # the terminal tells the command itself
trap 'kill -TERM $run' TERM
trap 'kill -USR1 $run' USR1
trap 'kill -USR2 $run' USR2
trap 'kill -HUP $run' HUP
(
    while kill -0 $run 2>/dev/null; do
        if aws || google || azure; then
            echo "spot_notice.sh: this instance goes away: telling the run" >&2
            kill -USR1 $run
            break
        fi
        sleep "$seconds"
    done
) &
watcher=$!
wait $run
code=$?
while kill -0 $run 2>/dev/null; do # a signal ended the wait, not the command
    wait $run
    code=$?
done
kill $watcher 2>/dev/null
exit $code
