/** One dropped file: read, decoded, drawn and played. */

import { toBase64 } from "../sound/pcm";
import { Trouble } from "../server/trouble";
import { button, element } from "../dom";
import { melSpectrogram, MODEL_HZ, peaks } from "./spectrum";

const COLUMNS = 640;
const WAVE = 56;
const SPECTRUM = 96;
// Black, violet, red, orange, pale yellow: readable in print and by colour-blind eyes.
const COLOURS = [[8, 6, 24], [82, 18, 123], [183, 55, 121], [252, 137, 97], [252, 253, 191]] as const;

export interface Clip {
  readonly file: File;
  readonly card: HTMLElement;
  /** Draws the clip. A file that the browser cannot decode may still be one that the server can. */
  draw(): Promise<void>;
  /** The file as the API takes it. Throws Trouble. */
  part(): Promise<{ data: string; format: string }>;
  dispose(): void;
}

export function newClip(file: File, onRemove: () => void): Clip {
  const { name } = file;
  const audio = new Audio(URL.createObjectURL(file));
  const canvas = element("canvas", { width: COLUMNS, height: WAVE + SPECTRUM, ariaHidden: "true" });
  const head = element("span", { className: "head" });
  const picture = element(
    "div",
    { className: "picture", hidden: true, role: "slider", tabIndex: 0, ariaLabel: `Position in ${name}`, ariaValueMin: "0" },
    canvas,
    head,
  );
  const facts = element("span", { className: "facts", textContent: size(file) });
  const play = button("Play", toggle, `Play ${name}`);
  const remove = button("Remove", onRemove, `Remove ${name}`);
  const title = element("strong", { textContent: name, title: name });
  const line = element("div", { className: "line" }, title, facts, play, remove);
  const card = element("li", { className: "clip" }, line, picture);
  let seconds = 0;

  async function draw(): Promise<void> {
    const encoded = await bytes();
    let sound: AudioBuffer;
    try {
      sound = await new OfflineAudioContext(1, 1, MODEL_HZ).decodeAudioData(encoded);
    } catch {
      facts.textContent += " · this browser cannot draw it; the server may still read it";
      return;
    }
    seconds = sound.duration;
    const mono = sound.getChannelData(0).slice();
    const channels = sound.numberOfChannels;
    for (let channel = 1; channel < channels; channel++) {
      sound.getChannelData(channel).forEach((sample, index) => (mono[index]! += sample));
    }
    paint(mono.map((sample) => sample / channels));
    facts.textContent = `${clock(seconds)} · ${size(file)}`;
    picture.hidden = play.hidden = false;
    picture.ariaValueMax = String(Math.round(seconds * 10) / 10);
    move();
  }

  async function bytes(): Promise<ArrayBuffer> {
    let read: ArrayBuffer;
    try {
      read = await file.arrayBuffer();
    } catch {
      throw new Trouble(`${name} cannot be read. It may be a folder, or have been moved or changed; add it again.`);
    }
    if (!read.byteLength) throw new Trouble(`${name} is empty.`);
    return read;
  }

  function paint(samples: Float32Array): void {
    const pen = canvas.getContext("2d")!;
    const { low, high } = peaks(samples, COLUMNS);
    const columns = melSpectrogram(samples, COLUMNS);
    const image = pen.createImageData(COLUMNS, SPECTRUM);
    pen.fillStyle = "#e8734a";
    for (let x = 0; x < COLUMNS; x++) {
      const top = ((1 - high[x]!) * WAVE) / 2;
      pen.fillRect(x, top, 1, Math.max(1, ((high[x]! - low[x]!) * WAVE) / 2));
      const mels = columns[x]!;
      for (let y = 0; y < SPECTRUM; y++) {
        const mel = Math.floor(((SPECTRUM - 1 - y) * mels.length) / SPECTRUM);
        image.data.set(colour(mels[mel]!), 4 * (y * COLUMNS + x));
      }
    }
    pen.putImageData(image, 0, WAVE);
  }

  async function toggle(): Promise<void> {
    if (audio.paused) await audio.play().catch(() => named("Play"));
    else audio.pause();
  }

  function named(what: string): void {
    play.textContent = what;
    play.ariaLabel = `${what} ${name}`;
    move();
  }

  function move(): void {
    const at = audio.currentTime;
    head.style.left = `${(100 * at) / (seconds || 1)}%`;
    picture.ariaValueNow = at.toFixed(1);
    picture.ariaValueText = `${clock(at)} of ${clock(seconds)}`;
  }

  function seek(to: number): void {
    audio.currentTime = Math.max(0, Math.min(seconds, to));
    move();
  }

  play.hidden = true;
  audio.onplay = () => {
    named("Pause");
    const step = (): void => {
      move();
      if (!audio.paused) requestAnimationFrame(step);
    };
    step();
  };
  audio.onpause = audio.onended = () => named("Play");
  picture.onpointerdown = picture.onpointermove = ({ clientX, buttons }) => {
    const { left, width } = picture.getBoundingClientRect();
    if (buttons) seek((seconds * (clientX - left)) / width);
  };
  picture.onkeydown = (event) => {
    const steps: Record<string, number> = { ArrowLeft: -seconds / 20, ArrowRight: seconds / 20, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step !== undefined) seek(audio.currentTime + step);
    else if (event.key === " ") void toggle();
    else return;
    event.preventDefault();
  };

  return {
    file,
    card,
    draw,
    part: async () => ({ data: toBase64(new Uint8Array(await bytes())), format: format(name) }),
    dispose(): void {
      audio.pause();
      URL.revokeObjectURL(audio.src);
      card.remove();
    },
  };
}

export function format(name: string): string {
  return /\.([a-z0-9]{1,5})$/i.exec(name)?.[1]?.toLowerCase() ?? "wav";
}

export function clock(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

function size(file: File): string {
  return file.size < 1e6 ? `${Math.ceil(file.size / 1e3)} kB` : `${(file.size / 1e6).toFixed(1)} MB`;
}

function colour(value: number): [number, number, number, number] {
  const place = Math.min(value, 0.9999) * (COLOURS.length - 1);
  const below = COLOURS[Math.floor(place)]!;
  const above = COLOURS[Math.floor(place) + 1]!;
  const mix = (i: 0 | 1 | 2): number => below[i] + (above[i] - below[i]) * (place % 1);
  return [mix(0), mix(1), mix(2), 255];
}
