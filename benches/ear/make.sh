#!/bin/sh
# Makes the sounds of `cargo bench --bench ear` in the folder $1: KIND-NAME.wav, where KIND is `speech`, `word` (short, and
# meant), `listener` (short, and no wish to speak) or `noise`. Needs espeak-ng and sox.
set -eu
mkdir -p "$1"
cd "$1"
say() { espeak-ng -v "$2" -s 170 -w "$1.24k.wav" "$3"; sox "$1.24k.wav" -r 8000 "$1.wav" norm -6 \
    silence 1 0.02 0.5% reverse silence 1 0.02 0.5% reverse; rm "$1.24k.wav"; }
sound() { name=$1; shift; sox -n -r 8000 -c 1 -b 16 "$name.wav" synth "$@"; }
say speech-question en-us "Excuse me, what does that cost?"
say speech-german de "Entschuldigung, ich habe eine Frage dazu."
say speech-french fr "Pardon, j'ai une question."
say speech-high en+f4 "Wait a moment, please, I have another question."
say word-stop en-us "Stop!"
say word-nein de "Nein!"
say word-wait en-us "Wait!"
say word-non fr "Non!"
say listener-mhm en-us "mhm"
say listener-yes en-us "yes"
say listener-okay en-us "okay"
say listener-ja de "ja"
sound noise-cough 0.25 pinknoise fade l 0.01 0.25 0.2 norm -4
sound noise-knock 0.06 noise fade l 0 0.06 0.05 norm -3
sound noise-door 0.18 brownnoise fade l 0 0.18 0.15 norm -2
sound noise-pink 4 pinknoise fade l 0.2 4 0.2 norm -22
sound noise-hum 4 sine 50 sine 150 remix - fade l 0.3 4 0.3 norm -18
sound noise-chords 4 pluck C3 pluck E3 pluck G3 pluck C4 remix - norm -16
sox -n -r 8000 -c 1 -b 16 burst.wav synth 0.15 pinknoise fade l 0.01 0.15 0.1 norm -5 pad 0 0.6
sox burst.wav burst.wav burst.wav noise-bursts.wav
rm burst.wav
# Somebody else in the room, softly.
say voice en-us "And then I told her that we would come on Sunday after all."
sox -v 0.05 voice.wav noise-second-voice.wav
rm voice.wav
