#!/bin/sh
# Makes the README's sample call and picture from a real run of the demo: docs/media/call.mp3 and docs/media/demo.svg.
# Run it from the repository after a change to what `switchboard rehearse` prints. It needs lame (Debian: lame).
set -eu
cd "$(dirname "$0")/../.."
media=$PWD/docs/media
cargo build --quiet
program=$PWD/${CARGO_TARGET_DIR:-target}/debug/switchboard
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -R assistants "$folder"
cd "$folder"
"$program" rehearse clinic > printed.txt 2> /dev/null
lame --quiet -m s -b 32 call.wav "$media/call.mp3"

# Long lines are wrapped below the words, as a terminal of 112 columns would leave room for. mawk counts bytes.
awk '
function put(text, class) {
    gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text)
    rows[++count] = text; kind[count] = class
}
{
    class = "plain"
    if ($0 ~ /^[0-9]+:[0-9.]+ +assistant/) class = "assistant"
    else if ($0 ~ /^[0-9]+:[0-9.]+ +caller/) class = "caller"
    else if ($0 ~ /^ +(not )?heard:/) class = "dim"
    else if ($0 ~ /^([0-9]+:[0-9.]+)? +phone/) class = "dim"
    indent = ($0 ~ /^[0-9]+:/) ? 21 : ($0 ~ /^  [a-z]/) ? 14 : match($0, /[^ ]/) - 1
    rest = $0
    while (length(rest) > 112) {
        at = 112
        while (at > indent + 1 && substr(rest, at, 1) != " ") at--
        if (at <= indent + 1) break
        put(substr(rest, 1, at - 1), class)
        rest = sprintf("%*s%s", indent, "", substr(rest, at + 1))
    }
    put(rest, class)
}
END {
    while (count && rows[count] == "") count--
    height = count * 19 + 64
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"920\" height=\"" height "\" viewBox=\"0 0 920 " height "\" role=\"img\" aria-label=\"The output of switchboard rehearse clinic\">"
    print "<style>text{font:13px ui-monospace,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;fill:#c9d1d9;white-space:pre}.assistant{fill:#7ee787}.caller{fill:#79c0ff}.dim{fill:#8b949e}</style>"
    print "<rect width=\"920\" height=\"" height "\" rx=\"8\" fill=\"#0d1117\"/>"
    print "<text x=\"18\" y=\"28\" class=\"dim\">$ switchboard rehearse clinic</text>"
    for (row = 1; row <= count; row++)
        if (rows[row] != "") print "<text x=\"18\" y=\"" 36 + row * 19 "\" class=\"" kind[row] "\" xml:space=\"preserve\">" rows[row] "</text>"
    print "</svg>"
}' printed.txt > "$media/demo.svg"
