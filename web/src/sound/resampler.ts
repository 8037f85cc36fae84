/** Changes the sampling rate of a stream, with a windowed sinc; what is above the lower Nyquist frequency is cut. */

const ZERO_CROSSINGS = 12;
const STEPS = 128; // points of the kernel between two zero crossings
const ROLL_OFF = 0.94;

export class Resampler {
  private readonly step: number;
  private readonly reach: number;
  private readonly scale: number;
  private readonly kernel: Float32Array;
  private history: Float32Array;
  private position: number; // of the next output sample, in samples of `history`

  constructor(
    readonly from: number,
    readonly to: number,
  ) {
    this.step = from / to;
    this.scale = Math.min(1, to / from) * ROLL_OFF;
    this.reach = Math.ceil(ZERO_CROSSINGS / this.scale);
    this.kernel = kernelTable();
    this.history = new Float32Array(this.reach);
    this.position = this.reach;
  }

  /** The samples that can be computed so far. `input` may be of any length; the stream goes on at the next call. */
  push(input: Float32Array): Float32Array {
    if (this.from === this.to) return input.slice();
    const samples = new Float32Array(this.history.length + input.length);
    samples.set(this.history);
    samples.set(input, this.history.length);
    const count = Math.max(0, Math.ceil((samples.length - this.reach - this.position) / this.step));
    const output = new Float32Array(count);
    for (let index = 0; index < count; index++) output[index] = this.at(samples, this.position + index * this.step);
    this.position += count * this.step;
    const done = Math.max(0, Math.floor(this.position) - this.reach);
    this.history = samples.slice(done);
    this.position -= done;
    return output;
  }

  /** The end of the stream: what the filter still holds. */
  end(): Float32Array {
    return this.push(new Float32Array(this.reach));
  }

  private at(samples: Float32Array, position: number): number {
    const first = Math.ceil(position - this.reach);
    const last = Math.min(Math.floor(position + this.reach), samples.length - 1);
    let sum = 0;
    for (let index = Math.max(first, 0); index <= last; index++) {
      const place = Math.abs(position - index) * this.scale * STEPS;
      const below = Math.floor(place);
      const low = this.kernel[below] ?? 0;
      sum += (samples[index] ?? 0) * (low + (place - below) * ((this.kernel[below + 1] ?? 0) - low));
    }
    return sum * this.scale;
  }
}

function kernelTable(): Float32Array {
  const table = new Float32Array(ZERO_CROSSINGS * STEPS + 2);
  for (let index = 0; index < table.length; index++) {
    const x = index / STEPS;
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
    const window = x >= ZERO_CROSSINGS ? 0 : Math.cos((Math.PI * x) / (2 * ZERO_CROSSINGS)) ** 2;
    table[index] = sinc * window;
  }
  return table;
}
