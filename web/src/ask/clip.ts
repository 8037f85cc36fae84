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

export class Clip {
  readonly card: HTMLElement;
  private readonly audio = new Audio();
  private readonly canvas = element("canvas", { width: COLUMNS, height: WAVE + SPECTRUM, ariaHidden: "true" });
  private readonly head = element("span", { className: "head" });
  private readonly picture = element("div", { className: "picture", hidden: true }, this.canvas, this.head);
  private readonly facts = element("span", { className: "facts" });
  private readonly play = button("Play", () => void this.toggle());
  private seconds = 0;

  constructor(
    readonly file: File,
    onRemove: () => void,
  ) {
    const remove = button("Remove", onRemove);
    remove.ariaLabel = `Remove ${file.name}`;
    this.play.ariaLabel = `Play ${file.name}`;
    this.facts.textContent = size(file);
    this.play.hidden = true;
    const title = element("strong", { textContent: file.name, title: file.name });
    this.card = element("li", { className: "clip" });
    this.card.append(element("div", { className: "line" }, title, this.facts, this.play, remove), this.picture);
    this.audio.src = URL.createObjectURL(file);
    this.audio.onplay = () => this.follow();
    this.audio.onpause = this.audio.onended = () => this.named("Play");
    this.makeSlider();
  }

  /** Draws the clip. A file that the browser cannot decode may still be one that the server can. */
  async draw(): Promise<void> {
    const bytes = await this.bytes();
    let sound: AudioBuffer;
    try {
      sound = await new OfflineAudioContext(1, 1, MODEL_HZ).decodeAudioData(bytes);
    } catch {
      this.facts.textContent += " · this browser cannot draw it; the server may still read it";
      return;
    }
    this.seconds = sound.duration;
    const mono = sound.getChannelData(0).slice();
    for (let channel = 1; channel < sound.numberOfChannels; channel++) {
      sound.getChannelData(channel).forEach((sample, index) => (mono[index]! += sample));
    }
    if (sound.numberOfChannels > 1) mono.forEach((sample, index) => (mono[index] = sample / sound.numberOfChannels));
    this.paint(mono);
    this.facts.textContent = `${clock(this.seconds)} · ${size(this.file)}`;
    this.picture.hidden = this.play.hidden = false;
    this.picture.ariaValueMax = String(Math.round(this.seconds * 10) / 10);
    this.move();
  }

  /** The file as the API takes it. Throws Trouble. */
  async part(): Promise<{ data: string; format: string }> {
    return { data: toBase64(new Uint8Array(await this.bytes())), format: format(this.file.name) };
  }

  dispose(): void {
    this.audio.pause();
    URL.revokeObjectURL(this.audio.src);
    this.card.remove();
  }

  private async bytes(): Promise<ArrayBuffer> {
    let bytes: ArrayBuffer;
    try {
      bytes = await this.file.arrayBuffer();
    } catch {
      throw new Trouble(`${this.file.name} cannot be read. It may be a folder, or have been moved or changed; add it again.`);
    }
    if (!bytes.byteLength) throw new Trouble(`${this.file.name} is empty.`);
    return bytes;
  }

  private paint(samples: Float32Array): void {
    const pen = this.canvas.getContext("2d")!;
    const { low, high } = peaks(samples, COLUMNS);
    pen.fillStyle = "#e8734a";
    for (let x = 0; x < COLUMNS; x++) {
      const top = ((1 - high[x]!) * WAVE) / 2;
      pen.fillRect(x, top, 1, Math.max(1, ((high[x]! - low[x]!) * WAVE) / 2));
    }
    const columns = melSpectrogram(samples, COLUMNS);
    const image = pen.createImageData(COLUMNS, SPECTRUM);
    for (let y = 0; y < SPECTRUM; y++) {
      for (let x = 0; x < COLUMNS; x++) {
        const mels = columns[x]!;
        const mel = Math.floor(((SPECTRUM - 1 - y) * mels.length) / SPECTRUM);
        image.data.set(colour(mels[mel]!), 4 * (y * COLUMNS + x));
      }
    }
    pen.putImageData(image, 0, WAVE);
  }

  private async toggle(): Promise<void> {
    if (this.audio.paused) await this.audio.play().catch(() => this.named("Play"));
    else this.audio.pause();
  }

  private follow(): void {
    this.named("Pause");
    const step = (): void => {
      this.move();
      if (!this.audio.paused) requestAnimationFrame(step);
    };
    step();
  }

  private named(what: string): void {
    this.play.textContent = what;
    this.play.ariaLabel = `${what} ${this.file.name}`;
    this.move();
  }

  private move(): void {
    const at = this.audio.currentTime;
    this.head.style.left = `${(100 * at) / (this.seconds || 1)}%`;
    this.picture.ariaValueNow = at.toFixed(1);
    this.picture.ariaValueText = `${clock(at)} of ${clock(this.seconds)}`;
  }

  private makeSlider(): void {
    Object.assign(this.picture, { role: "slider", tabIndex: 0, ariaLabel: `Position in ${this.file.name}`, ariaValueMin: "0" });
    const seek = (seconds: number): void => {
      this.audio.currentTime = Math.max(0, Math.min(this.seconds, seconds));
      this.move();
    };
    const point = ({ clientX, buttons }: PointerEvent): void => {
      if (!buttons) return;
      const { left, width } = this.picture.getBoundingClientRect();
      seek((this.seconds * (clientX - left)) / width);
    };
    this.picture.onpointerdown = this.picture.onpointermove = point;
    this.picture.onkeydown = (event) => {
      const steps: Record<string, number> = {
        ArrowLeft: -this.seconds / 20,
        ArrowRight: this.seconds / 20,
        Home: -Infinity,
        End: Infinity,
      };
      const step = steps[event.key];
      if (step !== undefined) seek(this.audio.currentTime + step);
      else if (event.key === " ") void this.toggle();
      else return;
      event.preventDefault();
    };
  }
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
