# reward: judge:URL against a small server: what scores are read, what is tried again, what is null, and that the key stays out of everything.
. "$(dirname "$0")/shell.sh"

printf '{"prompt": "p", "completion": "say 1"}\n' >one.jsonl
if ! "$COHORT" score --data one.jsonl --reward judge:http://127.0.0.1:9/v1 --judge-retries 0 2>refused && grep -q "without libcurl" refused; then
    echo "this build has no libcurl"
    done_testing
    exit 0
fi
python3 -I "$SOURCE/tests/support/judge_server.py" port requests.jsonl &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$SCRATCH"' EXIT
for _ in $(seq 1 100); do [ -s port ] && break; sleep 0.05; done
url=http://127.0.0.1:$(cat port)/v1
score() { "$COHORT" score --reward "judge:$url" --reward-timeout 1 --judge-retries 1 "$@"; }
rows() { # rows COMPLETION...: into rows.jsonl
    : >rows.jsonl
    for text; do printf '{"prompt": "what?", "answer": "42", "completion": "%s"}\n' "$text" >>rows.jsonl; done
}
scores() { sed 's/.*"judge": \([^,}]*\).*/\1/' scores.jsonl | tr '\n' ' '; }

# --- what is read ---
rows 'say {\"score\": 0.7}' 'say 0.25' 'say I think hard.\nScore: 0.5' 'say **Score**: 1/1' 'say ```json\n{\"score\": \"0.75\"}\n```' \
    'say <think>score: 0</think>{\"score\": 1}' 'say score: 0.3, no, the score is 0.4' 'say 2' 'say between 0 and 1' 'say nothing' 'say {\"score\": null}' 'say 1/10'
succeeds score --data rows.jsonl --judge-model judge-1 --reward-workers 3
cp out scores.jsonl
is "$(scores)" "0.7 0.25 0.5 1 0.75 1 0.4 null null null null null " "scores of 0 to 1"
has err "warning: reward 'judge': 5 of 12 completions got no score, which is null"
has requests.jsonl '"key": null, "model": "judge-1", "path": "/v1/chat/completions"'
has requests.jsonl 'Reference answer:\\n42'
rows 'say 7/10' 'say Score: 1' 'say {\"score\": 10}' 'say 0.5' 'say 11'
succeeds score --data rows.jsonl --judge-scale 1,10 --judge-rubric 'Is it short and right?'
cp out scores.jsonl
is "$(scores | cut -c1-8) $(scores | cut -d' ' -f2-)" "0.666666 0 1 null null " "scores of 1 to 10"
has requests.jsonl 'Is it short and right?'
echo 'Only poems get the most.' >rubric.txt
succeeds score --data rows.jsonl --judge-scale 1,10 --judge-rubric rubric.txt
has requests.jsonl 'Only poems get the most.'
# --- what fails is null, and what may come back is asked again ---
rows 'say 1' 'hang' 'flood' 'busy' 'fail' 'once' 'broken' 'empty' 'cut' 'drop' 'denied'
succeeds score --data rows.jsonl --reward-workers 11
cp out scores.jsonl
is "$(scores)" "1 null null 0.25 null 0.5 null null null null null " "scores of a server that fails"
is "$(grep -c '"completion": "fail"' requests.jsonl) $(grep -c '"completion": "denied"' requests.jsonl) $(grep -c '"completion": "broken"' requests.jsonl)" "2 1 1" "attempts"
# --- a judge that never scores is an error that says what to do ---
rows 'denied'
fails 1 'has not given a single score, to none of 1 completions: HTTP 401: who are you; see that the key is right' score --data rows.jsonl
fails 1 'see that the server runs' "$COHORT" score --data rows.jsonl --reward judge:http://127.0.0.1:9/v1 --judge-retries 0
# --- at once ---
rows 'slow 1' 'slow 2' 'slow 3' 'slow 4' 'slow 5' 'slow 6'
succeeds score --data rows.jsonl --reward-workers 6
grep '"completion": "slow' requests.jsonl | grep -q '"under_way": [4-6]' || wrong "requests are not made at once"
# --- what is known is not asked again ---
rows 'say 0.1' 'say 0.1' 'say 0.1'
before=$(wc -l <requests.jsonl)
succeeds score --data rows.jsonl --reward-cache judge
is $(($(wc -l <requests.jsonl) - before)) 1 "requests with a cache"
# --- the key ---
rows 'say 1'
fails 2 'no such environment variable' score --data rows.jsonl --judge-key-env COHORT_TEST_KEY
COHORT_TEST_KEY=secret-of-the-judge succeeds score --data rows.jsonl --judge-key-env COHORT_TEST_KEY
has requests.jsonl '"key": "Bearer secret-of-the-judge"'
fails 2 'user or a password' "$COHORT" score --data rows.jsonl --reward judge:http://a:b@127.0.0.1/v1
fails 2 'expected judge:http' "$COHORT" score --data rows.jsonl --reward judge:127.0.0.1
fails 2 'one word is no rubric' score --data rows.jsonl --judge-rubric missing.txt
fails 2 'judge-scale' score --data rows.jsonl --judge-scale 5,1
# --- a run ---
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
printf '{"prompt": "a"}\n{"prompt": "b"}\n' >d.jsonl
COHORT_TEST_KEY=secret-of-the-judge succeeds "$COHORT" grpo --model m --data d.jsonl --reward "judge:$url" --steps 1 --threads 1 \
    --judge-key-env COHORT_TEST_KEY --judge-retries 0 --reward-timeout 1 --num-generations 2 --prompts-per-step 2 \
    --max-completion-length 4 --out run
has run/metrics.jsonl '"rewards/judge/mean": 0.5'
has run/metrics.jsonl '"judge/unscored": 0'
# --- by https: a certificate that is not trusted, and one that is ---
if command -v openssl >/dev/null; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out ca.pem 2>openssl.log ||
        wrong "no certificate: $(cat openssl.log)"
    cat ca.pem key.pem >both.pem
    python3 -I "$SOURCE/tests/support/judge_server.py" tls-port tls-requests.jsonl both.pem &
    tls_server=$!
    trap 'kill $server $tls_server 2>/dev/null; rm -rf "$SCRATCH"' EXIT
    for _ in $(seq 1 100); do [ -s tls-port ] && break; sleep 0.05; done
    tls() { "$COHORT" score --reward "judge:https://$1:$(cat tls-port)/v1" --reward-timeout 5 "${@:2}"; }
    rows 'say 0.75'
    SECONDS=0
    fails 1 'give the PEM file of the certificates that it is trusted by: --judge-ca FILE' tls 127.0.0.1 --data rows.jsonl --judge-retries 5
    [ $SECONDS -lt 8 ] || wrong "a server that is not trusted was asked again"
    [ ! -e tls-requests.jsonl ] || wrong "a server that is not trusted was told something"
    succeeds tls 127.0.0.1 --data rows.jsonl --judge-ca ca.pem
    cp out scores.jsonl
    is "$(scores)" "0.75 " "scores by https"
    # Of another name than the certificate's, by another one, and what is no certificate.
    fails 1 '--judge-ca FILE' tls localhost --data rows.jsonl --judge-ca ca.pem --judge-retries 0
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout other-key.pem -out other.pem 2>openssl.log
    fails 1 '--judge-ca FILE' tls 127.0.0.1 --data rows.jsonl --judge-ca other.pem --judge-retries 0
    fails 1 '--judge-ca FILE' tls 127.0.0.1 --data rows.jsonl --judge-ca key.pem --judge-retries 0
    fails 1 'absent.pem' tls 127.0.0.1 --data rows.jsonl --judge-ca absent.pem
fi
if grep -rq secret-of-the-judge run out err 2>/dev/null; then wrong "the key stands in the run"; fi
done_testing
