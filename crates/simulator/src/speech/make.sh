#!/bin/sh
# Makes the simulated model's clips: one NAME.ulaw (raw 8 kHz mu-law) per `NAME|text` in lines.txt.
# Needs espeak-ng and sox. Run it after editing lines.txt, and keep the table in model/speech.rs in step.
set -eu
cd "$(dirname "$0")"
wav=$(mktemp)
trap 'rm -f "$wav"' EXIT
while IFS='|' read -r name text; do
    [ -n "$name" ] || continue
    espeak-ng -v en-us -s 165 -w "$wav" "$text" </dev/null
    sox "$wav" -t raw -r 8000 -c 1 -e u-law -b 8 "$name.ulaw" \
        highpass 200 lowpass 3400 norm -3 \
        silence 1 0.02 0.5% reverse silence 1 0.02 0.5% reverse </dev/null
done <lines.txt
