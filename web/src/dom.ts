/** The few things that the views do with the document. */

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Outside of every form. `ariaLabel`: where the label alone does not say what of. */
export function button(textContent: string, onclick: () => void, ariaLabel: string | null = null): HTMLButtonElement {
  return element("button", { className: "small", textContent, onclick, ariaLabel });
}

export const json = JSON.stringify;

/** Read out by a screen reader, without being seen. */
export function announce(text: string): void {
  byId("announcement").textContent = text;
}

export function milliseconds(value: number): string {
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}
