// The microphone as a telephone hears it: low-pass, 8 kHz, μ-law (ITU-T G.711), in frames of 20 ms.

const RATE = 8_000;
const FRAME = 160;
/** The cut of the low-pass, in Hz: a telephone carries 3.4 kHz, and 4 kHz would alias. */
const CUT = 3_500;
/** Samples of the filter on each side of its middle, at 48 kHz. */
const REACH = 64;

/** The μ-law byte nearest to a 16-bit sample. */
export function encode(sample) {
  const CLIP = 32_635;
  const BIAS = 0x84;
  const sign = sample < 0 ? 0x80 : 0;
  const biased = Math.min(Math.abs(sample), CLIP) + BIAS;
  const segment = 24 - Math.clz32(biased);
  const step = (biased >> (segment + 3)) & 0x0f;
  return ~(sign | (segment << 4) | step) & 0xff;
}

/** A windowed sinc for this rate, whose sum is 1. */
export function lowPass(rate) {
  const reach = Math.max(8, Math.round((REACH * rate) / 48_000));
  const taps = new Float64Array(2 * reach + 1);
  let sum = 0;
  for (let n = -reach; n <= reach; n++) {
    const x = (2 * CUT * n) / rate;
    const sinc = n === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
    const window = 0.42 + 0.5 * Math.cos((Math.PI * n) / reach) + 0.08 * Math.cos((2 * Math.PI * n) / reach);
    taps[n + reach] = sinc * window;
    sum += taps[n + reach];
  }
  return taps.map((tap) => tap / sum);
}

/** Turns samples of any rate into frames of μ-law. */
export class Capture {
  constructor(rate, give) {
    this.taps = lowPass(rate);
    this.step = rate / RATE;
    this.give = give;
    this.input = [];
    // Where the next output sample is, in input samples.
    this.at = this.taps.length >> 1;
    this.frame = new Uint8Array(FRAME);
    this.filled = 0;
    this.loudest = 0;
  }

  add(samples, muted) {
    for (const sample of samples) this.input.push(muted ? 0 : sample);
    const reach = this.taps.length >> 1;
    while (Math.floor(this.at) + 1 + reach < this.input.length) {
      const before = this.filtered(Math.floor(this.at));
      const after = this.filtered(Math.floor(this.at) + 1);
      const value = before + (after - before) * (this.at % 1);
      this.loudest = Math.max(this.loudest, Math.abs(value));
      this.frame[this.filled++] = encode(Math.round(Math.max(-1, Math.min(1, value)) * 32_767));
      if (this.filled === FRAME) {
        this.give(this.frame.slice(), this.loudest);
        this.filled = 0;
        this.loudest = 0;
      }
      this.at += this.step;
    }
    const done = Math.max(0, Math.floor(this.at) - reach - 1);
    if (done > 4_096) {
      this.input.splice(0, done);
      this.at -= done;
    }
  }

  filtered(middle) {
    const reach = this.taps.length >> 1;
    let sum = 0;
    for (let n = -reach; n <= reach; n++) sum += this.taps[n + reach] * (this.input[middle + n] ?? 0);
    return sum;
  }
}

if (typeof registerProcessor === "function") {
  registerProcessor(
    "phone-capture",
    class extends AudioWorkletProcessor {
      constructor() {
        super();
        this.muted = false;
        this.capture = new Capture(sampleRate, (frame, level) => this.port.postMessage({ frame, level }, [frame.buffer]));
        this.port.onmessage = (event) => {
          this.muted = event.data.muted;
        };
      }

      process([input]) {
        // Without a microphone there is silence, because Twilio sends frames all the time.
        this.capture.add(input[0] ?? new Float32Array(128), this.muted || !input[0]);
        return true;
      }
    },
  );
}
