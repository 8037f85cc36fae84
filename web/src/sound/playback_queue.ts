/** What is played next, and how much of each item was played, to the sample. Runs in the audio thread. */

export type PlaybackReport =
  | { kind: "started"; item: string }
  | { kind: "finished"; item: string; played: number }
  | { kind: "silent"; item: string; played: number } // held: nothing is heard from here on
  | { kind: "flushed"; item: string; played: number };

interface Item {
  id: string;
  pieces: Float32Array[];
  offset: number; // in the first piece
  played: number; // samples
  ended: boolean;
}

export class PlaybackQueue {
  private items: Item[] = [];
  private gain = 1;
  private held = false;
  private flushing = false;

  push(id: string, samples: Float32Array): void {
    let item = this.items.find((known) => known.id === id);
    if (!item) {
      item = { id, pieces: [], offset: 0, played: 0, ended: false };
      this.items.push(item);
    }
    if (samples.length) item.pieces.push(samples);
  }

  /** No more samples of this item will come. */
  end(id: string): void {
    this.push(id, new Float32Array(0));
    for (const item of this.items) if (item.id === id) item.ended = true;
  }

  /** Silence, from the next block on, until it is released; nothing is lost. */
  hold(on: boolean): void {
    this.held = on;
  }

  /** Drops everything, after one block that fades out. */
  flush(): void {
    this.flushing = true;
  }

  get current(): { item: string; played: number } | null {
    const item = this.items[0];
    return item ? { item: item.id, played: item.played } : null;
  }

  /** Fills `output` with the next samples. */
  render(output: Float32Array): PlaybackReport[] {
    const reports: PlaybackReport[] = [];
    output.fill(0);
    const target = this.held || this.flushing ? 0 : 1;
    if (this.gain || target) this.copy(output, reports);
    if (this.gain !== target) ramp(output, this.gain, target);
    const now = this.items[0];
    if (now && this.gain && !target) reports.push({ kind: "silent", item: now.id, played: now.played });
    this.gain = target;
    if (!this.flushing) return reports;
    for (const item of this.items) reports.push({ kind: "flushed", item: item.id, played: item.played });
    if (!this.items.length) reports.push({ kind: "flushed", item: "", played: 0 });
    this.items = [];
    this.flushing = this.held = false;
    this.gain = 1;
    return reports;
  }

  private copy(output: Float32Array, reports: PlaybackReport[]): void {
    let filled = 0;
    for (let item = this.items[0]; item; item = this.items[0]) {
      for (let piece = item.pieces[0]; piece && filled < output.length; piece = item.pieces[0]) {
        if (!item.played) reports.push({ kind: "started", item: item.id });
        const part = piece.subarray(item.offset, item.offset + output.length - filled);
        output.set(part, filled);
        filled += part.length;
        item.offset += part.length;
        item.played += part.length;
        if (item.offset === piece.length) {
          item.pieces.shift();
          item.offset = 0;
        }
      }
      if (item.pieces.length || !item.ended) return;
      reports.push({ kind: "finished", item: item.id, played: item.played });
      this.items.shift();
    }
  }
}

function ramp(samples: Float32Array, from: number, to: number): void {
  for (let index = 0; index < samples.length; index++) {
    samples[index] = (samples[index] ?? 0) * (from + ((to - from) * (index + 1)) / samples.length);
  }
}
