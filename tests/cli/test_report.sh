# cohort report and cohort plot: one page that needs nothing else, in which no text of a model or a data set becomes markup.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
printf '%s\n' '{"prompt": "</script><img src=x onerror=alert(1)>\u001b[2J\u202e"}' '{"prompt": "b&b"}' > d.jsonl
cat > reward.sh <<'R'
while IFS= read -r line; do echo "$((${#line} % 5))"; done
R
GRPO=("$COHORT" grpo --model m --data d.jsonl --reward 'exec:sh reward.sh' --num-generations 4 --prompts-per-step 2 --max-completion-length 6
    --threads 1 --device cpu)
succeeds "${GRPO[@]}" --steps 4 --eval-data d.jsonl --eval-steps 2 --out runs/one
succeeds "${GRPO[@]}" --steps 3 --seed 7 --keep-completions none --out runs/two
printf '{"prompt": "a", "completion": "b"}\n' > s.jsonl
succeeds "$COHORT" sft --model m --data s.jsonl --batch-size 1 --steps 3 --threads 1 --device cpu --out runs/tuned

succeeds "$COHORT" report one
is "$(cat out)" runs/one/report.html "what report prints"
page=runs/one/report.html
for word in 'Held-out reward' 'id="learned"' 'id="health"' 'id="time"' 'id="samples"' 'config.yaml' 'sha256' '&lt;img src=x' '\\x1b\[2J' '\\u202e' 'b&amp;b'; do
    has $page "$word"
done
is "$(grep -ciE '<script|<img|<link|<[^>]* on[a-z]+=|<[^>]* style=|url\(' $page)" 0 "markup that is not the page's own"
is "$(tr -d '\n\t' < $page | grep -cP '[\x00-\x1f\x7f]')" 0 "controls in the page"
# The policy names the style that stands in the page.
style=$(sed -n 's/^<style>\(.*\)<\/style>.*/\1/p' $page)
hash=$(printf '%s' "$style" | sha256sum | cut -d' ' -f1 | sed 's/../\\x&/g')
is "$(grep -o "style-src 'sha256-[^']*'" $page)" "style-src 'sha256-$(printf "$hash" | base64)'" "the policy's hash"
# Every id once, and every tag that is opened is closed.
is "$(grep -o ' id="[^"]*"' $page | sort | uniq -d)" "" "ids that stand twice"
for tag in div figure details table pre svg main section p h2; do
    is "$(grep -o "<${tag}[ >]" $page | wc -l)" "$(grep -o "</$tag>" $page | wc -l)" "<$tag> closed"
done
succeeds "$COHORT" report runs/two --out two.html
has two.html 'No completion was kept'
has two.html 'no held-out set'
succeeds "$COHORT" report tuned -o tuned.html
has tuned.html 'The loss went from'
succeeds "$COHORT" report one two --out both.html
has both.html '2 runs compared'
has both.html '^<figcaption><div><svg class="key"[^>]*><line class="s0".*one .*<line class="s1".*two ' # which curve is which

succeeds "$COHORT" plot one --metric entropy,grad_norm
is "$(cat out)" runs/one/entropy.svg "what plot prints"
has runs/one/entropy.svg '</svg>'
succeeds "$COHORT" plot one --metric rewards/reward.sh/mean --out curve.svg
succeeds "$COHORT" plot tuned
is "$(cat out)" runs/tuned/loss.svg "the plot of sft"

fails 1 'no run of that name' "$COHORT" report three
fails 2 'report takes one to 8 runs' "$COHORT" report
fails 2 'needs the file to write' "$COHORT" report one two
fails 2 'has no such metric' "$COHORT" plot one --metric rewrd
fails 2 'plot takes one run' "$COHORT" plot
fails 1 'nowhere' "$COHORT" report one --out nowhere/page.html

done_testing
