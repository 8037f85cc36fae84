/** An error whose message is meant for the person at the page. */
export class Trouble extends Error {
  constructor(
    message: string,
    readonly needsKey = false,
  ) {
    super(message);
  }
}

/** A refusal of the server in words. `body` is its JSON, of the OpenAI API or of KServe, or text that is neither. */
export function refusal(status: number, body: string, retryAfter: string | null): Trouble {
  const said = sentence(body);
  switch (status) {
    case 401:
      return new Trouble(said || "The server needs an API key.", true);
    case 404:
      return new Trouble(said || "This server does not offer what the page asked for; it may be of an older version.");
    case 413:
      return new Trouble(`${stop(said || "The clips are larger than the server takes")} Send fewer or shorter ones.`);
    case 429: {
      const wait = Number(retryAfter);
      const when = wait > 0 ? `in ${wait === 1 ? "a second" : `${Math.ceil(wait)} seconds`}` : "in a moment";
      return new Trouble(`The server is busy${said ? `: ${stop(said)}` : "."} Try again ${when}.`);
    }
    case 502:
    case 503:
    case 504:
      return new Trouble(`The server is not ready${said ? `: ${stop(said)}` : "."} Try again in a moment.`);
    default:
      if (status >= 500) return new Trouble(`The server failed${said ? `: ${stop(said)}` : ` (${status}).`}`);
      return new Trouble(stop(said || `The server refused the request (${status})`));
  }
}

export function unreachable(host: string): Trouble {
  return new Trouble(`The server at ${host} cannot be reached. Is it running? Start it with “make serve”, then try again.`);
}

export function sentence(body: string): string {
  try {
    const error: unknown = (JSON.parse(body) as { error?: unknown }).error;
    if (typeof error === "string") return error.replace(/^[A-Z_]+: /, "");
    const message = (error as { message?: unknown } | null)?.message;
    return typeof message === "string" ? message : "";
  } catch {
    return body.startsWith("<") ? "" : body.trim().slice(0, 300);
  }
}

function stop(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
