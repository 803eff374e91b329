// The sound of the browser's phone, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Capture, encode } from "../../src/console/assets/phone-capture.js";
import { Playback, decode } from "../../src/console/assets/phone-playback.js";

test("μ-law is that of G.711", () => {
  for (const [sample, byte] of [[0, 0xff], [8, 0xfe], [-8, 0x7e], [32_124, 0x80], [-32_124, 0x00], [32_767, 0x80], [-32_768, 0x00], [988, 0xce]]) {
    assert.equal(encode(sample), byte, `${sample}`);
  }
  for (let byte = 0; byte < 256; byte++) {
    const again = encode(Math.round(decode(byte) * 32_768));
    // There are two zeros.
    assert.equal(again, byte === 0x7f ? 0xff : byte);
  }
});

/** The level of a tone after it went through the capture, in dB. */
function captured(hertz, rate) {
  const frames = [];
  const capture = new Capture(rate, (frame) => frames.push(...frame));
  for (let block = 0; block < rate / 128; block++) {
    capture.add(Float32Array.from({ length: 128 }, (_, n) => 0.5 * Math.sin((2 * Math.PI * hertz * (block * 128 + n)) / rate)));
  }
  const samples = frames.slice(1_600, 6_400).map(decode);
  return { frames: frames.length / 160, level: 10 * Math.log10(samples.reduce((sum, it) => sum + it * it, 0) / samples.length / 0.125) };
}

test("the microphone keeps the voice and loses what would alias", () => {
  for (const rate of [44_100, 48_000, 16_000]) {
    for (const hertz of [300, 1_000, 3_000]) assert.ok(Math.abs(captured(hertz, rate).level) < 1, `${hertz} Hz at ${rate}`);
    if (rate > 16_000) assert.ok(captured(6_000, rate).level < -50, `6 kHz at ${rate}: ${captured(6_000, rate).level}`);
    // A second has fifty frames, but for what the filter holds.
    assert.ok(captured(1_000, rate).frames >= 48, `${captured(1_000, rate).frames}`);
  }
});

test("marks are echoed when all before them was played, and a clear echoes all", () => {
  const echoed = [];
  const playback = new Playback(48_000, (mark) => echoed.push(mark));
  playback.addMark("at once");
  assert.deepEqual(echoed, ["at once"]);
  playback.media(new Uint8Array(160).fill(0x80));
  playback.addMark("a");
  playback.media(new Uint8Array(160).fill(0x80));
  playback.addMark("b");
  const second = () => playback.fill(new Float32Array(480));
  second();
  assert.deepEqual(echoed, ["at once"], "10 ms of 20");
  second();
  second();
  assert.deepEqual(echoed, ["at once", "a"]);
  playback.clear();
  assert.deepEqual(echoed, ["at once", "a", "b"]);
  const output = new Float32Array(480);
  playback.fill(output);
  playback.fill(output);
  assert.ok(output.every((sample) => Math.abs(sample) < 1e-6), "nothing is heard after a clear");
});
