// The phone's loudspeaker: a buffer of 8 kHz μ-law that plays in order and in real time, echoes each mark when all before
// it was played, and is emptied by `clear`, as Twilio's is.

const RATE = 8_000;
/** Samples on each side of the output that it is made of: 2 ms. */
const REACH = 16;
/** Places between two samples for which there are weights. At 48 kHz and its like, they are exact. */
const PLACES = 240;

/** For each place between two samples, the weights of the samples around it: a windowed sinc, whose sum is 1. */
const WEIGHTS = Array.from({ length: PLACES + 1 }, (_, place) => {
  const weights = Array.from({ length: 2 * REACH }, (_, n) => {
    const x = n - (REACH - 1) - place / PLACES;
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
    return sinc * (0.42 + 0.5 * Math.cos((Math.PI * x) / REACH) + 0.08 * Math.cos((2 * Math.PI * x) / REACH));
  });
  const sum = weights.reduce((a, b) => a + b);
  return Float64Array.from(weights, (weight) => weight / sum);
});

/** The sample that a μ-law byte stands for, from -1 to 1 (ITU-T G.711). */
export function decode(ulaw) {
  const bits = ~ulaw & 0xff;
  const magnitude = ((((bits & 0x0f) << 3) + 0x84) << ((bits & 0x70) >> 4)) - 0x84;
  return (bits & 0x80 ? -magnitude : magnitude) / 32_768;
}

export class Playback {
  /** `mark` is called with the name of each mark that is due. */
  constructor(rate, mark) {
    this.step = RATE / rate;
    this.mark = mark;
    this.queue = [];
    /** Bytes of the first chunk that were played, and where between two samples the output is. */
    this.head = 0;
    this.phase = 0;
    this.recent = new Float64Array(2 * REACH);
    this.played = 0;
  }

  media(ulaw) {
    this.queue.push(ulaw);
  }

  addMark(name) {
    this.queue.push(name);
    if (this.queue.length === 1) this.marks();
  }

  clear() {
    for (const entry of this.queue) if (typeof entry === "string") this.mark(entry);
    this.queue.length = 0;
    this.head = 0;
  }

  /** Marks at the head of the queue: everything before them was played. */
  marks() {
    while (typeof this.queue[0] === "string") this.mark(this.queue.shift());
  }

  /** The next sample; 0 if nothing waits. */
  next() {
    this.marks();
    const chunk = this.queue[0];
    if (!chunk) return 0;
    const sample = decode(chunk[this.head++]);
    this.played++;
    if (this.head >= chunk.length) {
      this.queue.shift();
      this.head = 0;
    }
    return sample;
  }

  /** Fills `output`. */
  fill(output) {
    for (let n = 0; n < output.length; n++) {
      this.phase += this.step;
      while (this.phase >= 1) {
        this.phase -= 1;
        this.recent.copyWithin(0, 1);
        this.recent[2 * REACH - 1] = this.next();
      }
      const weights = WEIGHTS[Math.round(this.phase * PLACES)];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * this.recent[k];
      output[n] = sum;
    }
    this.marks();
  }
}

if (typeof registerProcessor === "function") {
  registerProcessor(
    "phone-playback",
    class extends AudioWorkletProcessor {
      constructor() {
        super();
        this.playback = new Playback(sampleRate, (mark) => {
          this.port.postMessage({ mark, played: this.playback.played });
        });
        this.port.onmessage = ({ data }) => {
          if (data.media) this.playback.media(data.media);
          else if (data.mark !== undefined) this.playback.addMark(data.mark);
          else {
            this.playback.clear();
            this.port.postMessage({ played: this.playback.played });
          }
        };
      }

      process(_inputs, [output]) {
        this.playback.fill(output[0]);
        for (const channel of output.slice(1)) channel.set(output[0]);
        return true;
      }
    },
  );
}
