# The page of `cohort report` in headless Chromium, of one run and of two, at 390 and 1280 px, dark and light: nothing is wider than the page, the
# colours follow the scheme, and the page as it is says nothing on the console. $SHOTS: a folder for the pictures.
. "$(dirname "$0")/../cli/shell.sh"

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || { echo "no Chromium here: the page is not looked at"; exit 0; }
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in $(seq 12); do echo "{\"prompt\": \"a question with number $i\"}"; done >d.jsonl
for run in a-run-with-a-rather-long-name b; do
    succeeds "$COHORT" grpo --model m --data d.jsonl --eval-data d.jsonl --eval-limit 4 --eval-steps 4 --num-generations 4 --prompts-per-step 4 --beta 0.01 \
        --max-completion-length 60 --learning-rate 1e-3 --reward regex --reward-pattern '[aeiou]' --steps 12 --save-steps 0 --out $run
done
succeeds "$COHORT" report a-run-with-a-rather-long-name --out one.html
succeeds "$COHORT" report a-run-with-a-rather-long-name b --out two.html
# browse SCHEME WIDTH FILE OPTIONS...: scheme 0 is dark
browse()
{
    local scheme=$1 width=$2 file=$3
    shift 3
    timeout 300 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$SCRATCH/profile" --enable-logging=stderr --virtual-time-budget=5000 \
        --blink-settings=preferredColorScheme="$scheme" --window-size="$width,2400" "$@" "file://$SCRATCH/$file" 2>browser.err
}
for page in one two; do
    # The page forbids scripts: what measures is in a copy that does not, in a frame, because a window has a least width.
    sed 's/<meta http-equiv=.Content-Security-Policy.[^>]*>//' $page.html >inner.html
    cat >>inner.html <<'JS'
<script>
addEventListener('load', () => setTimeout(() => {
  const width = document.documentElement.clientWidth, wide = [];
  for (const e of document.body.querySelectorAll('*')) {
    let held = e.className === 'skip'; // which stands aside until it has the focus
    for (let p = e.parentElement; p && p !== document.body; p = p.parentElement) held = held || getComputedStyle(p).overflowX !== 'visible';
    const r = e.getBoundingClientRect();
    if (!held && (r.right > width + 1 || r.left < -1)) wide.push(e.tagName + ' ' + e.textContent.slice(0, 40));
  }
  for (const e of document.body.querySelectorAll('svg.chart text')) {
    const size = parseFloat(getComputedStyle(e).fontSize) * e.ownerSVGElement.clientWidth / e.ownerSVGElement.viewBox.baseVal.width;
    if (size < 9.5 || size > 20) wide.push('letters of ' + size.toFixed(1) + ' px: ' + e.textContent);
  }
  for (const e of document.body.querySelectorAll('th')) {
    const text = e.firstChild;
    for (const word of text && text.nodeType === 3 ? text.data.matchAll(/\S+/g) : []) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((r) => r.top)).size > 1) wide.push('a word in two: ' + word[0]);
    }
  }
  const style = getComputedStyle(document.body);
  parent.postMessage([document.documentElement.scrollWidth, style.backgroundColor, style.color, wide.length, ...wide.slice(0, 3)].join(' | '), '*');
}, 200));
</script>
JS
    for width in 390 1280; do
        cat >outer.html <<HTML
<body style="margin:0"><iframe src="inner.html" style="border:0;width:${width}px;height:12000px"></iframe><pre id="said"></pre>
<script>addEventListener('message', e => { document.getElementById('said').textContent = e.data; });</script>
HTML
        for scheme in 0 1; do
            browse $scheme $((width < 600 ? 600 : width)) outer.html --dump-dom >dom
            said=$(sed -n 's/.*<pre id="said">\([^<]*\)<.*/\1/p' dom)
            colours=$([ $scheme = 0 ] && echo 'rgb(22, 22, 22) | rgb(236, 236, 236)' || echo 'rgb(255, 255, 255) | rgb(26, 26, 26)')
            is "$said" "$width | $colours | 0" "page $page at $width px, scheme $scheme: its width, colours, what is wider"
            [ -z "${SHOTS:-}" ] || browse $scheme $((width < 600 ? 600 : width)) outer.html --screenshot="$SHOTS/$page-$width-$scheme.png" >/dev/null
        done
    done
    browse 1 1280 $page.html --dump-dom >dom
    is "$(grep -c CONSOLE browser.err)" 0 "page $page: words on the console: $(grep CONSOLE browser.err | head -2)"
    grep -q '<svg' dom || wrong "page $page: no charts in the browser"
done
done_testing
