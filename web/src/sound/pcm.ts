/** 16-bit PCM and base64, as the OpenAI API carries sound. */

export const API_HZ = 24000;
const PIECE = 0x8000; // arguments of one call of fromCharCode

export function toPcm16(samples: Float32Array): Uint8Array<ArrayBuffer> {
  const pcm = new Int16Array(samples.length);
  for (let index = 0; index < samples.length; index++) {
    pcm[index] = Math.round(Math.max(-1, Math.min(1, samples[index] ?? 0)) * 32767);
  }
  return new Uint8Array(pcm.buffer);
}

/** Samples of a stream of bytes; a sample may be split between two pieces. */
export class Pcm16Reader {
  private odd: number | null = null;

  push(bytes: Uint8Array): Float32Array {
    const whole = new Uint8Array(bytes.length + (this.odd === null ? 0 : 1));
    if (this.odd !== null) whole[0] = this.odd;
    whole.set(bytes, whole.length - bytes.length);
    const count = whole.length >> 1;
    this.odd = whole.length & 1 ? (whole[whole.length - 1] ?? null) : null;
    const view = new DataView(whole.buffer);
    return Float32Array.from({ length: count }, (_, index) => view.getInt16(2 * index, true) / 32768);
  }
}

export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (let start = 0; start < bytes.length; start += PIECE) {
    text += String.fromCharCode(...bytes.subarray(start, start + PIECE));
  }
  return btoa(text);
}

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
