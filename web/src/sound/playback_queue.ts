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

export function playbackQueue() {
  let items: Item[] = [];
  let gain = 1;
  let held = false;
  let flushing = false;

  function push(id: string, samples: Float32Array): Item {
    let item = items.find((known) => known.id === id);
    if (!item) items.push((item = { id, pieces: [], offset: 0, played: 0, ended: false }));
    if (samples.length) item.pieces.push(samples);
    return item;
  }

  function copy(output: Float32Array, reports: PlaybackReport[]): void {
    let filled = 0;
    for (let item = items[0]; item; item = items[0]) {
      const { id, pieces } = item;
      for (let piece = pieces[0]; piece && filled < output.length; piece = pieces[0]) {
        if (!item.played) reports.push({ kind: "started", item: id });
        const part = piece.subarray(item.offset, item.offset + output.length - filled);
        output.set(part, filled);
        filled += part.length;
        item.offset += part.length;
        item.played += part.length;
        if (item.offset === piece.length) {
          pieces.shift();
          item.offset = 0;
        }
      }
      if (pieces.length || !item.ended) return;
      reports.push({ kind: "finished", item: id, played: item.played });
      items.shift();
    }
  }

  return {
    push,

    /** No more samples of this item will come. */
    end(id: string): void {
      push(id, new Float32Array()).ended = true;
    },

    /** Silence, from the next block on, until it is released; nothing is lost. */
    hold(on: boolean): void {
      held = on;
    },

    /** Drops everything, after one block that fades out. */
    flush(): void {
      flushing = true;
    },

    get current(): { item: string; played: number } | null {
      const item = items[0];
      return item ? { item: item.id, played: item.played } : null;
    },

    /** Fills `output` with the next samples. */
    render(output: Float32Array): PlaybackReport[] {
      const reports: PlaybackReport[] = [];
      output.fill(0);
      const target = held || flushing ? 0 : 1;
      if (gain || target) copy(output, reports);
      if (gain !== target) ramp(output, gain, target);
      const now = items[0];
      if (now && gain && !target) reports.push({ kind: "silent", item: now.id, played: now.played });
      gain = target;
      if (!flushing) return reports;
      for (const { id, played } of items) reports.push({ kind: "flushed", item: id, played });
      if (!now) reports.push({ kind: "flushed", item: "", played: 0 });
      items = [];
      flushing = held = false;
      gain = 1;
      return reports;
    },
  };
}

function ramp(samples: Float32Array, from: number, to: number): void {
  samples.forEach((sample, index) => (samples[index] = sample * (from + ((to - from) * (index + 1)) / samples.length)));
}
