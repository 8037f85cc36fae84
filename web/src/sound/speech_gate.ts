/**
 * Tells at once that somebody may have begun to speak: the level stands out of the noise for two blocks of three.
 *
 * The server decides what is speech; this only holds the loudspeaker until it has decided.
 */

const ABOVE_FLOOR_DB = 12;
const LEAST_DB = -45;
const FALL = 0.2; // per block, towards a lower level: the floor is found in a few blocks
const RISE = 0.005;

export function speechGate() {
  let floor = -60;
  let recent: boolean[] = [];
  let extra = 0;
  let loud = false;

  return {
    get loud(): boolean {
      return loud;
    },

    /** `rms` of the next block of about 10 ms. True when `loud` changed. */
    push(rms: number): boolean {
      const before = loud;
      const level = 20 * Math.log10(rms + 1e-6);
      floor += (level - floor) * (level < floor ? FALL : RISE);
      recent = [...recent.slice(-2), level > Math.max(floor + ABOVE_FLOOR_DB, LEAST_DB) + extra];
      loud = recent.filter(Boolean).length >= 2;
      return loud !== before;
    },

    /** It was not speech, probably the loudspeaker's own sound: louder ones alone count, until `reset`. */
    wasWrong(): void {
      extra = Math.min(extra + 6, 24);
    },

    reset(): void {
      extra = 0;
    },
  };
}
