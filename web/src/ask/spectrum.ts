/** What is drawn of a clip: the peaks of its waveform, and its mel spectrogram as the model's encoder sees it. */

export const MODEL_HZ = 16000;
const WINDOW = 400; // 25 ms, as Whisper
const FFT = 512;
const MELS = 64;
const RANGE_DB = 80; // of the loudest, as Whisper
const FRAMES_A_COLUMN = 3;

/** Lowest and highest sample of each of `columns` parts. */
export function peaks(samples: Float32Array, columns: number): { low: Float32Array; high: Float32Array } {
  const low = new Float32Array(columns);
  const high = new Float32Array(columns);
  for (let column = 0; column < columns; column++) {
    const [start, end] = part(samples.length, column, columns);
    for (let index = start; index < end; index++) {
      const sample = samples[index] ?? 0;
      if (sample < low[column]!) low[column] = sample;
      if (sample > high[column]!) high[column] = sample;
    }
  }
  return { low, high };
}

/** Brightness 0 to 1 of `columns` × MELS, low tones first. `samples` at 16 kHz. */
export function melSpectrogram(samples: Float32Array, columns: number): Float32Array[] {
  const filters = melFilters();
  const power = new Float32Array(FFT / 2 + 1);
  const image: Float32Array[] = [];
  let loudest = -100;
  for (let column = 0; column < columns; column++) {
    const [start, end] = part(samples.length, column, columns);
    const mels = new Float32Array(MELS);
    for (let frame = 0; frame < FRAMES_A_COLUMN; frame++) {
      const middle = start + ((end - start) * (frame + 0.5)) / FRAMES_A_COLUMN;
      powerSpectrum(samples, Math.round(middle - WINDOW / 2), power);
      for (let mel = 0; mel < MELS; mel++) {
        const { first, weights } = filters[mel]!;
        let sum = 0;
        for (let bin = 0; bin < weights.length; bin++) sum += weights[bin]! * power[first + bin]!;
        mels[mel] = Math.max(mels[mel]!, sum);
      }
    }
    for (let mel = 0; mel < MELS; mel++) mels[mel] = 10 * Math.log10(mels[mel]! + 1e-10);
    loudest = Math.max(loudest, ...mels);
    image.push(mels);
  }
  const floor = Math.max(loudest - RANGE_DB, -70);
  for (const mels of image) {
    for (let mel = 0; mel < MELS; mel++) {
      mels[mel] = loudest > floor ? Math.max(0, (mels[mel]! - floor) / (loudest - floor)) : 0;
    }
  }
  return image;
}

function part(length: number, column: number, columns: number): [number, number] {
  const start = Math.floor((length * column) / columns);
  return [start, Math.max(start + 1, Math.floor((length * (column + 1)) / columns))];
}

const HANN = Float32Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
const re = new Float32Array(FFT);
const im = new Float32Array(FFT);

/** |FFT|² of the window of `samples` that begins at `start`; zeros outside. */
function powerSpectrum(samples: Float32Array, start: number, power: Float32Array): void {
  re.fill(0);
  im.fill(0);
  for (let index = 0; index < WINDOW; index++) re[index] = (samples[start + index] ?? 0) * HANN[index]!;
  fft();
  for (let bin = 0; bin < power.length; bin++) power[bin] = re[bin]! ** 2 + im[bin]! ** 2;
}

function fft(): void {
  for (let i = 1, j = 0; i < FFT; i++) {
    let bit = FFT >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j]!, re[i]!];
      [im[i], im[j]] = [im[j]!, im[i]!];
    }
  }
  for (let size = 2; size <= FFT; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const angle = (-2 * Math.PI * k) / size;
      const c = Math.cos(angle);
      const s = Math.sin(angle);
      for (let i = k; i < FFT; i += size) {
        const j = i + size / 2;
        const x = re[j]! * c - im[j]! * s;
        const y = re[j]! * s + im[j]! * c;
        re[j] = re[i]! - x;
        im[j] = im[i]! - y;
        re[i] = re[i]! + x;
        im[i] = im[i]! + y;
      }
    }
  }
}

interface Filter {
  first: number;
  weights: Float32Array;
}

function melFilters(): Filter[] {
  const mel = (hz: number): number => 2595 * Math.log10(1 + hz / 700);
  const hz = (value: number): number => 700 * (10 ** (value / 2595) - 1);
  const edges = Array.from({ length: MELS + 2 }, (_, i) => (hz((mel(MODEL_HZ / 2) * i) / (MELS + 1)) * FFT) / MODEL_HZ);
  return edges.slice(0, MELS).map((left, i) => {
    const centre = edges[i + 1]!;
    const right = edges[i + 2]!;
    // The lowest filters are narrower than a bin: each has at least the one that is nearest.
    const first = Math.min(Math.ceil(left), Math.round(centre));
    const last = Math.max(Math.floor(right), Math.round(centre));
    const weights = Float32Array.from({ length: last - first + 1 }, (_, bin) => {
      const at = first + bin;
      const weight = at <= centre ? (at - left) / (centre - left) : (right - at) / (right - centre);
      return Math.max(weight, at === Math.round(centre) ? 0.5 : 0);
    });
    return { first, weights };
  });
}
