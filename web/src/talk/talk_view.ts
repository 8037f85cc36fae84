/** The Talk tab: microphone, what is going on, what was said. */

import { announce, byId, element, milliseconds } from "../dom";
import { Trouble } from "../server/trouble";
import { Loudspeaker, Microphone } from "../sound/audio";
import { toBase64 } from "../sound/pcm";
import type { CaptureMessage, PlaybackMessage } from "../sound/worklets";
import { Connection } from "./connection";
import { Conversation, type Ear, type ServerEvent, type Turn } from "./conversation";

const CONFIRM_MS = 600; // the server has so long to agree that somebody speaks
const LEAST_MS = 150; // held shorter, the push-to-talk button was touched by mistake
const BLOCK_MS = 40;

const WORDS: Record<string, string> = {
  idle: "Press Start, then speak",
  connecting: "Connecting …",
  listening: "Listening",
  hearing: "Hearing you",
  thinking: "Thinking",
  speaking: "Speaking",
};

export class TalkView implements Ear {
  private readonly start = byId<HTMLButtonElement>("start");
  private readonly silence = byId<HTMLButtonElement>("silence");
  private readonly hold = byId<HTMLButtonElement>("hold");
  private readonly level = byId("level");
  private readonly transcript = byId("transcript");
  private readonly field = byId<HTMLInputElement>("words");
  private connection: Connection | null = null;
  private conversation: Conversation | null = null;
  private microphone: Microphone | null = null;
  private loudspeaker: Loudspeaker | null = null;
  private pressed = 0; // ms recorded since the button went down
  private down = false;
  private doubt = 0; // timer: the loudspeaker is held until the server agrees
  private loudAt = 0;
  private silentAfter: number | null = null;
  private drawn = false;
  private readonly rows = new Map<string, HTMLElement>();

  constructor(
    private readonly model: () => Promise<string>,
    private readonly voice: () => string | null,
    private readonly report: (error: unknown, place: "talk") => void,
  ) {
    this.start.onclick = () => void (this.connection ? this.stop() : this.begin(true));
    this.silence.onclick = () => void this.conversation?.interrupt(true);
    byId("hands-free").onchange = byId("push").onchange = () => this.changed();
    byId("typed").onsubmit = (event) => {
      event.preventDefault();
      void this.type();
    };
    this.makeHold();
    this.changed();
  }

  /** The voice or the way of talking has changed. */
  changed(): void {
    this.hold.hidden = this.handsFree;
    this.conversation?.choose({ voice: this.voice(), handsFree: this.handsFree });
    this.show();
  }

  async stop(): Promise<void> {
    this.microphone?.close();
    this.loudspeaker?.close();
    this.connection?.close();
    this.microphone = this.loudspeaker = this.connection = this.conversation = null;
    clearTimeout(this.doubt);
    this.level.style.transform = "";
    this.down = false;
    this.show();
  }

  play(item: string, samples: Float32Array): void {
    this.loudspeaker?.play(item, samples);
  }

  end(item: string): void {
    this.loudspeaker?.end(item);
  }

  async flush(): Promise<{ item: string; ms: number }> {
    clearTimeout(this.doubt);
    this.doubt = 0;
    this.microphone?.tellGate("reset");
    return (await this.loudspeaker?.flush()) ?? { item: "", ms: 0 };
  }

  trouble(message: string): void {
    this.report(new Trouble(message), "talk");
  }

  /** Draws, once a frame. */
  show(): void {
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => {
      this.drawn = false;
      this.draw();
    });
  }

  private get handsFree(): boolean {
    return byId<HTMLInputElement>("hands-free").checked;
  }

  private async begin(withMicrophone: boolean): Promise<void> {
    if (this.start.disabled) return;
    this.start.disabled = true;
    this.report(null, "talk");
    byId("phase").textContent = WORDS.connecting!;
    try {
      await this.open(withMicrophone);
    } catch (error) {
      await this.stop();
      this.report(error, "talk");
    } finally {
      this.start.disabled = false;
      this.show();
    }
  }

  private async open(withMicrophone: boolean): Promise<void> {
    if (withMicrophone) {
      this.microphone = await Microphone.open(
        (message) => this.captured(message),
        () => this.lost("The microphone was unplugged or taken away. Press Start again."),
      );
    }
    this.loudspeaker = await Loudspeaker.open();
    this.loudspeaker.onMessage = (message) => this.played(message);
    const waiting: ServerEvent[] = [];
    this.connection = await Connection.open(
      await this.model(),
      (event) => (this.conversation ? void this.conversation.receive(event) : waiting.push(event)),
      (why) => why && this.lost(why),
    );
    this.transcript.replaceChildren();
    this.rows.clear();
    this.conversation = new Conversation((event) => this.connection?.send(event), this, {
      voice: this.voice(),
      handsFree: this.handsFree,
    });
    for (const event of waiting) await this.conversation.receive(event);
  }

  private lost(why: string): void {
    void this.stop();
    this.trouble(why);
  }

  private captured(message: CaptureMessage): void {
    if (message.kind === "loud") {
      this.mayBeSpeech(message.on, message.time);
      return;
    }
    this.level.style.transform = `scaleX(${Math.min(1, Math.sqrt(message.level) * 1.6).toFixed(2)})`;
    if (!this.conversation?.ready || !(this.handsFree || this.down) || this.connection?.late) return;
    this.pressed += BLOCK_MS;
    this.connection?.send({ type: "input_audio_buffer.append", audio: toBase64(message.pcm) });
  }

  /** The loudspeaker falls silent at once; if the server does not agree that this was speech, it goes on. */
  private mayBeSpeech(on: boolean, time: number): void {
    if (!on || !this.handsFree || this.conversation?.phase !== "speaking" || this.doubt) return;
    this.loudAt = time;
    this.loudspeaker?.hold(true);
    this.doubt = window.setTimeout(() => {
      this.doubt = 0;
      this.loudspeaker?.hold(false);
      this.microphone?.tellGate("wrong");
    }, CONFIRM_MS);
  }

  private played(message: PlaybackMessage): void {
    const { conversation } = this;
    if (!conversation) return;
    if (message.kind === "started") conversation.startedPlaying(message.item);
    else if (message.kind === "position") conversation.played(message.item, message.seconds * 1000);
    else if (message.kind === "silent" && this.doubt) this.silentAfter = (message.time - this.loudAt) * 1000;
    else if (message.kind === "finished") {
      this.microphone?.tellGate("reset");
      conversation.finishedPlaying(message.item);
    }
  }

  private async type(): Promise<void> {
    const text = this.field.value.trim();
    if (!text) return;
    if (!this.connection) await this.begin(false);
    if (!this.conversation) return;
    this.field.value = "";
    await this.conversation.type(text);
  }

  private makeHold(): void {
    const press = (): void => {
      if (this.down || !this.conversation?.ready) return;
      this.down = true;
      this.pressed = 0;
      void this.conversation.press();
    };
    const release = (): void => {
      if (!this.down) return;
      this.down = false;
      this.conversation?.release(this.pressed >= LEAST_MS);
    };
    this.hold.onpointerdown = (event) => {
      this.hold.setPointerCapture(event.pointerId);
      press();
    };
    this.hold.onpointerup = this.hold.onpointercancel = this.hold.onblur = release;
    const isKey = ({ key }: KeyboardEvent): boolean => key === " " || key === "Enter";
    this.hold.onkeydown = (event) => {
      if (!isKey(event)) return;
      event.preventDefault();
      if (!event.repeat) press();
    };
    this.hold.onkeyup = (event) => isKey(event) && release();
    // A screen reader clicks without pressing: the first click begins, the second ends.
    this.hold.onclick = (event) => {
      if (event.detail === 0) (this.down ? release : press)();
    };
  }

  private draw(): void {
    const talking = this.conversation;
    const phase = talking?.phase ?? (this.start.disabled ? "connecting" : "idle");
    const words = phase === "listening" && !this.handsFree ? "Hold the button and speak" : WORDS[phase]!;
    byId("orb").dataset.phase = phase;
    if (byId("phase").textContent !== words) byId("phase").textContent = words;
    this.start.textContent = this.connection ? "End" : "Start";
    this.silence.disabled = !talking?.answering;
    this.hold.disabled = !talking?.ready || !this.microphone;
    this.hold.textContent = this.down ? "Release to send" : "Hold to talk";
    for (const turn of talking?.turns ?? []) this.drawTurn(turn);
    const { text = null, audio = null } = talking?.latency ?? {};
    byId("talk-figures").textContent = [
      text === null ? "" : `first text ${milliseconds(text)}`,
      audio === null ? "" : `first sound ${milliseconds(audio)} after the question`,
      this.silentAfter === null ? "" : `silent ${milliseconds(this.silentAfter)} after you spoke up`,
    ]
      .filter(Boolean)
      .join(" · ");
  }

  private drawTurn(turn: Turn): void {
    const { id, role, text, spoken, state, note } = turn;
    let row = this.rows.get(id);
    if (!row) {
      row = element("li", { className: `turn ${role}` });
      this.rows.set(id, row);
      this.transcript.append(row);
    }
    const drawn = JSON.stringify(turn);
    if (row.dataset.drawn === drawn) return;
    const ended = row.dataset.state !== state && state !== "open";
    Object.assign(row.dataset, { drawn, state });
    const who = element("b", { textContent: role === "user" ? "You" : "Model" });
    if (role === "user") {
      row.replaceChildren(who, element("span", { textContent: text || note || "…" }));
    } else {
      const rest = element(state === "cut" ? "del" : "i", { textContent: text.slice(spoken) });
      const words = element("span", {}, document.createTextNode(text.slice(0, spoken)), rest);
      const remark = state === "cut" ? "interrupted" : note;
      row.replaceChildren(who, words, ...(remark ? [element("small", { textContent: remark })] : []));
    }
    if (ended && role === "user") announce(`You: ${text || note}`);
    this.transcript.scrollTop = this.transcript.scrollHeight;
  }
}
