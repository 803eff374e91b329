#!/bin/sh
# Makes the rehearsal's caller: one NAME.wav (8 kHz, 16-bit, mono) per `NAME|text` in lines.txt.
# Needs espeak-ng and sox. The voice is not the simulated model's. Pauses are kept shorter than any turn
# detection's silence, so that each line is one turn; keep the table in ../caller.rs in step.
set -eu
cd "$(dirname "$0")"
wav=$(mktemp)
trap 'rm -f "$wav"' EXIT
while IFS='|' read -r name text; do
    [ -n "$name" ] || continue
    espeak-ng -v en-gb+f3 -s 160 -w "$wav" "$text" </dev/null
    sox "$wav" -D -r 8000 -c 1 -b 16 -e signed-integer "$name.wav" \
        highpass 200 lowpass 3400 norm -3 \
        silence 1 0.02 0.5% reverse silence 1 0.02 0.5% reverse </dev/null
done <lines.txt
