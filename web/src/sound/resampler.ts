/** Changes the sampling rate of a stream, with a windowed sinc; what is above the lower Nyquist frequency is cut. */

const ZERO_CROSSINGS = 12;
const STEPS = 128; // points of the kernel between two zero crossings
const ROLL_OFF = 0.94;

export interface Resampler {
  /** The samples that can be computed so far. `input` may be of any length; the stream goes on at the next call. */
  push(input: Float32Array): Float32Array;
  /** The end of the stream: what the filter still holds. */
  end(): Float32Array;
}

export function newResampler(from: number, to: number): Resampler {
  const step = from / to;
  const scale = Math.min(1, to / from) * ROLL_OFF;
  const reach = Math.ceil(ZERO_CROSSINGS / scale);
  const kernel = kernelTable();
  let history = new Float32Array(reach);
  let position = reach; // of the next output sample, in samples of `history`

  function push(input: Float32Array): Float32Array {
    if (from === to) return input.slice();
    const samples = new Float32Array(history.length + input.length);
    samples.set(history);
    samples.set(input, history.length);
    const count = Math.max(0, Math.ceil((samples.length - reach - position) / step));
    const output = new Float32Array(count).map((_, index) => at(samples, position + index * step));
    position += count * step;
    const done = Math.max(0, Math.floor(position) - reach);
    history = samples.slice(done);
    position -= done;
    return output;
  }

  function at(samples: Float32Array, place: number): number {
    const last = Math.min(Math.floor(place + reach), samples.length - 1);
    let sum = 0;
    for (let index = Math.max(Math.ceil(place - reach), 0); index <= last; index++) {
      const distance = Math.abs(place - index) * scale * STEPS;
      const below = Math.floor(distance);
      const low = kernel[below] ?? 0;
      sum += (samples[index] ?? 0) * (low + (distance - below) * ((kernel[below + 1] ?? 0) - low));
    }
    return sum * scale;
  }

  return { push, end: () => push(new Float32Array(reach)) };
}

function kernelTable(): Float32Array {
  return new Float32Array(ZERO_CROSSINGS * STEPS + 2).map((_, index) => {
    const x = index / STEPS;
    const sinc = x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1;
    return x >= ZERO_CROSSINGS ? 0 : sinc * Math.cos((Math.PI * x) / (2 * ZERO_CROSSINGS)) ** 2;
  });
}
