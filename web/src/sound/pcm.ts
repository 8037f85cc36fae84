/** 16-bit PCM and base64, as the OpenAI API carries sound. */

export const API_HZ = 24000;
const PIECE = 0x8000; // arguments of one call of fromCharCode

export function toPcm16(samples: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const pcm = Int16Array.from(samples, (sample) => Math.round(Math.max(-1, Math.min(1, sample)) * 32767));
  return new Uint8Array(pcm.buffer);
}

/** Samples of a stream of bytes; a sample may be split between two pieces. */
export function pcm16Reader(): (bytes: Uint8Array) => Float32Array {
  let odd: number[] = [];
  return (bytes) => {
    const whole = new Uint8Array([...odd, ...bytes]);
    const count = whole.length >> 1;
    odd = [...whole.subarray(2 * count)];
    const view = new DataView(whole.buffer);
    return Float32Array.from({ length: count }, (_, index) => view.getInt16(2 * index, true) / 32768);
  };
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
