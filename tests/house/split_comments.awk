# Divides C sources: lines of comments, as FILE:LINE: TEXT, to the file `comments`; identifiers of the rest, one a line, to the file `words`.
# A comment sign inside a string or a character is none.
FNR == 1 { inside = 0 }
{
    line = $0
    text = ""
    code = ""
    while (line != "") {
        if (inside) {
            end = index(line, "*/")
            text = text (end ? substr(line, 1, end - 1) : line)
            line = end ? substr(line, end + 2) : ""
            inside = !end
        } else if (match(line, /"([^"\\]|\\.)*"|'([^'\\]|\\.)+'|\/\/|\/\*/)) {
            token = substr(line, RSTART, RLENGTH)
            code = code substr(line, 1, RSTART - 1) " "
            line = substr(line, RSTART + RLENGTH)
            if (token == "//") {
                text = text line
                line = ""
            } else if (token == "/*") {
                inside = 1
            } else {
                code = code token
            }
        } else {
            code = code line
            line = ""
        }
    }
    if (text != "")
        print FILENAME ":" FNR ": " text > comments
    gsub(/[^A-Za-z0-9_]+/, "\n", code)
    if (code != "")
        print code > words
}
