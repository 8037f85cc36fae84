/** One question and its answer on the page. */

import { announce, button, byId, element, milliseconds } from "../dom";
import type { Piece } from "../server/chat";
import { asCurl, asPython, type Shown } from "../server/snippets";
import type { Clip } from "./clip";

export type AnswerRow = ReturnType<typeof answerRow>;

export function answerRow(asked: Clip[], question: string) {
  const words = element("p", { className: "words" });
  const reasoning = element("p");
  const thoughts = element("details", { hidden: true }, element("summary", { textContent: "Thoughts" }), reasoning);
  const clips = element("ul", { className: "clips" });
  const line = element("p", { className: "figures" });
  const tools = element("div", { className: "line tools" });
  const row = element("li", { className: "answer", ariaBusy: "true" });
  const figures: Record<string, string> = {};
  let since = 0;
  let text = "";

  function draw(name: string, figure: string): void {
    figures[name] = figure;
    line.textContent = Object.values(figures).join(" · ");
  }

  function first(name: string): void {
    if (!figures[name]) draw(name, `${name} ${milliseconds(performance.now() - since)}`);
  }

  const names = asked.map(({ file }) => file.name).join(", ");
  const textContent = [question, names && `(${names})`].filter(Boolean).join(" ");
  row.append(clips, element("p", { className: "asked", textContent }), thoughts, words, line, tools);
  byId("answers").append(row);
  row.scrollIntoView({ block: "nearest" });

  return {
    /** From now on it is measured. */
    begin(): void {
      since = performance.now();
    },

    offer(shown: Shown): void {
      for (const [name, snippet] of [["curl", asCurl(shown)], ["Python", asPython(shown)]] as const) {
        const made = button(`Copy as ${name}`, () => void copy(snippet, made));
        tools.append(made);
      }
    },

    take(piece: Piece): void {
      if (piece.kind === "text") {
        first("first text");
        words.textContent = text += piece.value;
      } else if (piece.kind === "thought") {
        first("first thought");
        thoughts.hidden = false;
        thoughts.open ||= !text && !reasoning.textContent;
        reasoning.textContent += piece.value;
      } else if (piece.kind === "usage") draw("tokens", `${piece.tokens} token${piece.tokens === 1 ? "" : "s"}`);
      else if (piece.value === "length") draw("end", "cut off at the longest answer that the server gives");
    },

    sounded(): void {
      first("first sound");
    },

    /** The clips of a question that has been answered. */
    keep(answered: Clip[]): void {
      for (const { card } of answered) {
        card.querySelector(".line button:last-of-type")?.remove();
        clips.append(card);
      }
    },

    /** The whole answer. */
    complete(): string {
      if (!text) words.textContent = "(an empty answer)";
      row.ariaBusy = "false";
      announce(words.textContent!);
      return text;
    },

    failed(stopped: boolean): void {
      row.ariaBusy = "false";
      if (!text && !stopped) row.remove();
      else draw("end", stopped ? "stopped" : "broken off");
    },
  };
}

async function copy(text: string, from: HTMLButtonElement): Promise<void> {
  const label = from.textContent!;
  try {
    await navigator.clipboard.writeText(text);
    announce((from.textContent = "Copied"));
    setTimeout(() => (from.textContent = label), 1500);
  } catch {
    // Not over plain HTTP from another machine: shown, to be selected by hand.
    const box = element("textarea", { className: "snippet", value: text, readOnly: true, ariaLabel: label });
    from.parentElement!.after(box);
    box.select();
  }
}
