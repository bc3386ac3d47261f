# A screen with its escape sequences of colours (tmux capture-pane -p -e) as SVG. Dim, bold and cyan are drawn, other colours left out.
function escape(text) {
    gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text)
    return text
}
function set(codes, n, i, list) {
    n = split(codes, list, ";")
    if (n == 0) style = ""
    for (i = 1; i <= n; i++) {
        if (list[i] + 0 == 0) style = ""
        else if (list[i] == 1) style = "b"
        else if (list[i] == 2) style = "d"
        else if (list[i] == 36) style = "c"
        else if (list[i] == 22 || list[i] == 39) style = ""
    }
}
{
    rest = $0; column = 0; y = 26 + 18 * (NR - 1)
    while (length(rest) > 0) {
        at = match(rest, /\033\[[0-9;]*m/)
        piece = at > 0 ? substr(rest, 1, at - 1) : rest
        if (piece ~ /[^ ]/)
            body = body sprintf("<text x=\"%.1f\" y=\"%d\" textLength=\"%.1f\" lengthAdjust=\"spacingAndGlyphs\"%s>%s</text>\n", \
                12 + 8.43 * column, y, 8.43 * length(piece), style == "" ? "" : " class=\"" style "\"", escape(piece))
        column += length(piece)
        if (at == 0) break
        set(substr(rest, at + 2, RLENGTH - 3))
        rest = substr(rest, at + RLENGTH)
    }
}
END {
    height = 26 + 18 * NR
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 698 %d\" width=\"698\" height=\"%d\" role=\"img\"><title>%s</title>\n", height, height, title
    print "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;fill:#d8dee9;white-space:pre}.b{font-weight:bold;fill:#fff}.d{fill:#7b8394}.c{fill:#88c0d0}</style>"
    print "<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#20242c\"/>"
    printf "%s</svg>\n", body
}
