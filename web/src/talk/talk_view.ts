/** The Talk tab: microphone, what is going on, what was said. */

import { announce, byId, element, json, milliseconds } from "../dom";
import { Trouble } from "../server/trouble";
import { type Loudspeaker, type Microphone, openLoudspeaker, openMicrophone } from "../sound/audio";
import { toBase64 } from "../sound/pcm";
import type { CaptureMessage, PlaybackMessage } from "../sound/worklets";
import { connect, type Connection } from "./connection";
import { type Conversation, type Ear, newConversation, type ServerEvent, type SessionChoice, type Turn } from "./conversation";

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

/** `stop` ends the conversation; `changed`: another voice has been chosen. */
export function talkView(
  model: () => Promise<string>,
  voice: () => string | null,
  report: (error: unknown) => void,
): { stop(): Promise<void>; changed(): void } {
  const start = byId<HTMLButtonElement>("start");
  const silence = byId<HTMLButtonElement>("silence");
  const hold = byId<HTMLButtonElement>("hold");
  const handsFree = byId<HTMLInputElement>("hands-free");
  const level = byId("level");
  const status = byId("phase");
  const transcript = byId("transcript");
  const field = byId<HTMLInputElement>("words");
  const rows = new Map<string, HTMLElement>();
  let connection: Connection | null = null;
  let conversation: Conversation | null = null;
  let microphone: Microphone | null = null;
  let loudspeaker: Loudspeaker | null = null;
  let pressed = 0; // ms recorded since the button went down
  let down = false;
  let doubt = 0; // timer: the loudspeaker is held until the server agrees
  let loudAt = 0;
  let silentAfter: number | null = null;
  let drawn = false;

  const choice = (): SessionChoice => ({ voice: voice(), handsFree: handsFree.checked });
  const trouble = (message: string): void => report(new Trouble(message));

  const ear: Ear = {
    play: (item, samples) => loudspeaker?.play(item, samples),
    end: (item) => loudspeaker?.end(item),
    async flush() {
      clearTimeout(doubt);
      doubt = 0;
      microphone?.tellGate("reset");
      return (await loudspeaker?.flush()) ?? { item: "", ms: 0 };
    },
    show,
    trouble,
  };

  /** Draws, once a frame. */
  function show(): void {
    if (drawn) return;
    drawn = true;
    requestAnimationFrame(() => {
      drawn = false;
      draw();
    });
  }

  function changed(): void {
    hold.hidden = handsFree.checked;
    conversation?.choose(choice());
    show();
  }

  async function stop(): Promise<void> {
    microphone?.close();
    loudspeaker?.close();
    connection?.close();
    microphone = loudspeaker = connection = conversation = null;
    clearTimeout(doubt);
    level.style.transform = "";
    down = false;
    show();
  }

  async function begin(withMicrophone: boolean): Promise<void> {
    if (start.disabled) return;
    start.disabled = true;
    report(null);
    status.textContent = WORDS.connecting!;
    try {
      await open(withMicrophone);
    } catch (error) {
      await stop();
      report(error);
    } finally {
      start.disabled = false;
      show();
    }
  }

  async function open(withMicrophone: boolean): Promise<void> {
    if (withMicrophone) {
      microphone = await openMicrophone(captured, () => lost("The microphone was unplugged or taken away. Press Start again."));
    }
    loudspeaker = await openLoudspeaker();
    loudspeaker.onMessage = played;
    const waiting: ServerEvent[] = [];
    connection = await connect(
      await model(),
      (event) => (conversation ? void conversation.receive(event) : waiting.push(event)),
      lost,
    );
    transcript.replaceChildren();
    rows.clear();
    const begun = (conversation = newConversation((event) => connection?.send(event), ear, choice()));
    for (const event of waiting) await begun.receive(event);
  }

  function lost(why: string): void {
    void stop();
    trouble(why);
  }

  function captured(message: CaptureMessage): void {
    if (message.kind === "loud") {
      mayBeSpeech(message.on, message.time);
      return;
    }
    level.style.transform = `scaleX(${Math.min(1, Math.sqrt(message.level) * 1.6).toFixed(2)})`;
    if (!conversation?.ready || !(handsFree.checked || down) || connection?.late()) return;
    pressed += BLOCK_MS;
    connection?.send({ type: "input_audio_buffer.append", audio: toBase64(message.pcm) });
  }

  /** The loudspeaker falls silent at once; if the server does not agree that this was speech, it goes on. */
  function mayBeSpeech(on: boolean, time: number): void {
    if (!on || !handsFree.checked || conversation?.phase !== "speaking" || doubt) return;
    loudAt = time;
    loudspeaker?.hold(true);
    doubt = window.setTimeout(() => {
      doubt = 0;
      loudspeaker?.hold(false);
      microphone?.tellGate("wrong");
    }, CONFIRM_MS);
  }

  function played(message: PlaybackMessage): void {
    const { item } = message;
    if (!conversation) return;
    if (message.kind === "started") conversation.startedPlaying(item);
    else if (message.kind === "position") conversation.played(item, message.seconds * 1000);
    else if (message.kind === "silent" && doubt) silentAfter = (message.time - loudAt) * 1000;
    else if (message.kind === "finished") {
      microphone?.tellGate("reset");
      conversation.finishedPlaying(item);
    }
  }

  async function type(): Promise<void> {
    const text = field.value.trim();
    if (!text) return;
    if (!connection) await begin(false);
    if (!conversation) return;
    field.value = "";
    await conversation.type(text);
  }

  function press(): void {
    if (down || !conversation?.ready) return;
    down = true;
    pressed = 0;
    void conversation.press();
  }

  function release(): void {
    if (!down) return;
    down = false;
    conversation?.release(pressed >= LEAST_MS);
  }

  function draw(): void {
    const phase = conversation?.phase ?? (start.disabled ? "connecting" : "idle");
    const words = phase === "listening" && !handsFree.checked ? "Hold the button and speak" : WORDS[phase]!;
    byId("orb").dataset.phase = phase;
    if (status.textContent !== words) status.textContent = words;
    start.textContent = connection ? "End" : "Start";
    silence.disabled = !conversation?.answering;
    hold.disabled = !conversation?.ready || !microphone;
    hold.textContent = down ? "Release to send" : "Hold to talk";
    conversation?.turns.forEach(drawTurn);
    const { text = null, audio = null } = conversation?.latency ?? {};
    byId("talk-figures").textContent = [
      text === null ? "" : `first text ${milliseconds(text)}`,
      audio === null ? "" : `first sound ${milliseconds(audio)} after the question`,
      silentAfter === null ? "" : `silent ${milliseconds(silentAfter)} after you spoke up`,
    ]
      .filter(Boolean)
      .join(" · ");
  }

  function drawTurn(turn: Turn): void {
    const { id, role, text, spoken, state, note } = turn;
    let row = rows.get(id);
    if (!row) {
      row = element("li", { className: `turn ${role}` });
      rows.set(id, row);
      transcript.append(row);
    }
    const drawn = json(turn);
    if (row.dataset.drawn === drawn) return;
    const ended = row.dataset.state !== state && state !== "open";
    Object.assign(row.dataset, { drawn, state });
    const who = element("b", { textContent: role === "user" ? "You" : "Model" });
    if (role === "user") {
      row.replaceChildren(who, element("span", { textContent: text || note || "…" }));
      if (ended) announce(`You: ${text || note}`);
    } else {
      const rest = element(state === "cut" ? "del" : "i", { textContent: text.slice(spoken) });
      const words = element("span", {}, text.slice(0, spoken), rest);
      const remark = state === "cut" ? "interrupted" : note;
      row.replaceChildren(who, words, ...(remark ? [element("small", { textContent: remark })] : []));
    }
    transcript.scrollTop = transcript.scrollHeight;
  }

  start.onclick = () => void (connection ? stop() : begin(true));
  silence.onclick = () => void conversation?.interrupt(true);
  handsFree.onchange = byId("push").onchange = changed;
  byId("typed").onsubmit = (event) => {
    event.preventDefault();
    void type();
  };
  hold.onpointerdown = (event) => {
    hold.setPointerCapture(event.pointerId);
    press();
  };
  hold.onpointerup = hold.onpointercancel = hold.onblur = release;
  const isKey = ({ key }: KeyboardEvent): boolean => key === " " || key === "Enter";
  hold.onkeydown = (event) => {
    if (!isKey(event)) return;
    event.preventDefault();
    if (!event.repeat) press();
  };
  hold.onkeyup = (event) => isKey(event) && release();
  // A screen reader clicks without pressing: the first click begins, the second ends.
  hold.onclick = ({ detail }) => {
    if (!detail) (down ? release : press)();
  };
  changed();
  return { stop, changed };
}
