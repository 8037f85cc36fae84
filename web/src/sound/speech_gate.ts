/**
 * Tells at once that somebody may have begun to speak: the level stands out of the noise for two blocks of three.
 *
 * The server decides what is speech; this only holds the loudspeaker until it has decided.
 */

const ABOVE_FLOOR_DB = 12;
const LEAST_DB = -45;
const FALL = 0.2; // per block, towards a lower level: the floor is found in a few blocks
const RISE = 0.005;

export class SpeechGate {
  private floor = -60;
  private recent: boolean[] = [];
  private extra = 0;
  loud = false;

  /** `rms` of the next block of about 10 ms. True when `loud` changed. */
  push(rms: number): boolean {
    const level = 20 * Math.log10(rms + 1e-6);
    this.floor += (level - this.floor) * (level < this.floor ? FALL : RISE);
    this.recent = [...this.recent.slice(-2), level > Math.max(this.floor + ABOVE_FLOOR_DB, LEAST_DB) + this.extra];
    const loud = this.recent.filter(Boolean).length >= 2;
    const changed = loud !== this.loud;
    this.loud = loud;
    return changed;
  }

  /** It was not speech, probably the loudspeaker's own sound: louder ones alone count, until `reset`. */
  wasWrong(): void {
    this.extra = Math.min(this.extra + 6, 24);
  }

  reset(): void {
    this.extra = 0;
  }
}
