// One question to the service, and its answer as a stream of small objects; errors in plain words.
// Knows nothing of the page.

/**
 * What went wrong: `message` in plain words, `said` in the service's own, `id` of the request, and
 * the HTTP `status`, 0 where there was none.
 */
export class Failure extends Error {
  constructor(message, said = "", id = "", status = 0) {
    super(message);
    this.said = said;
    this.id = id;
    this.status = status;
  }
}

const UNREACHABLE = "The service cannot be reached. Is it running, and are you online?";
const BROKE_OFF = "The answer broke off. What stands here is not whole.";
const BY_CODE = {
  no_account: "The service has no Flowith token yet, so it cannot ask Flowith.",
  upstream_auth_error: "Flowith refused the service’s token. Its operator has to put in a new one.",
  insufficient_quota: "The Flowith account has no credits left.",
  rate_limit_exceeded: "Too many requests: Flowith asks for a pause.",
  context_length_exceeded: "The conversation is too long for this model. Start a new chat.",
  upstream_not_found: "Flowith does not know this model (or has moved). Try another model.",
  upstream_unreachable: "The service could not reach Flowith.",
  content_policy_violation: "Flowith refuses these words: a content policy or a firewall forbids them.",
  empty_response: "Flowith’s answer was empty. Try again, or try another model.",
  upstream_cut: BROKE_OFF,
  origin_not_allowed: "With the default key the service answers at an IP address or localhost only.",
};
const BY_STATUS = {
  400: "The question was refused.",
  401: "This key is wrong. It has to be the API_KEY of this service, not a Flowith token.",
  404: "The service does not know this model.",
  413: "The question is too large. Send fewer images or less text.",
  429: "Too many requests. Wait a little, then try again.",
  502: "Flowith did not answer as it should.",
  503: "The service is busy or is being restarted. Try again in a moment.",
  504: "Flowith took too long to answer.",
};

/**
 * Yields {text}, {reasoning}, {finish} and {usage} as they come. Throws a Failure; when `signal`
 * aborts, the request is closed and fetch's AbortError goes through.
 */
export async function* ask({ root, key, model, messages, signal }) {
  const body = { model, messages, stream: true, stream_options: { include_usage: true } };
  const { response, id } = await post(`${root}v1/chat/completions`, { key, body, signal });
  try {
    for await (const data of readEvents(response.body)) {
      if (data.startsWith("[DONE]")) return;
      const { error, usage, choices } = JSON.parse(data);
      if (error) throw inWords(error, 502, id);
      const { delta, finish_reason: finish } = choices?.[0] ?? {};
      const reasoning = delta?.reasoning_content ?? delta?.reasoning;
      if (reasoning) yield { reasoning };
      if (delta?.content) yield { text: delta.content };
      if (finish) yield { finish };
      if (usage) yield { usage };
    }
  } catch (wrong) {
    throw brokeOff(wrong, signal, id);
  }
  throw brokeOff(null, signal, id); // a whole answer ends in [DONE]
}

/** POSTs a question whose answer is a stream; the response, unread, and the request's id. */
export async function post(url, { key, body, signal }) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Authorization": `Bearer ${inBytes(key)}`, "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  }).catch((wrong) => {
    throw signal.aborted ? wrong : new Failure(UNREACHABLE);
  });
  const id = response.headers.get("X-Request-ID") ?? "";
  if (!response.ok) throw await refusal(response, id);
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
    throw new Failure("Something else than the service answered, perhaps a login page.", "", id);
  }
  return { response, id };
}

/** What to throw where a stream ended too early: what was thrown in it, where that says more. */
export function brokeOff(wrong, signal, id) {
  if (wrong && (signal.aborted || wrong instanceof Failure)) return wrong;
  return new Failure(BROKE_OFF, "", id);
}

/**
 * The data of each server-sent event (WHATWG HTML, 9.2); comments, which are the service's signs of
 * life, and other fields are left out.
 */
export async function* readEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      if (!/[\r\n]/.test(read.value)) {
        rest += read.value; // a picture is one line, of megabytes
        continue;
      }
      // a \r at the very end may be the first half of a \r\n
      const lines = (rest + read.value).split(/\r\n|\n|\r(?=[^\n])/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        if (line || !data.length) continue;
        yield data.join("\n");
        data = [];
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may be gone already
  }
}

/** A header's characters are bytes: a key in any script goes as its UTF-8. */
function inBytes(key) {
  return String.fromCharCode(...new TextEncoder().encode(key));
}

async function refusal(response, id) {
  // a gateway in front of the service answers in HTML, which nobody wants to read here
  const body = await response.json().catch(() => null);
  const failure = inWords(body?.error ?? {}, response.status, id);
  const wait = response.headers.get("Retry-After");
  if (/^\d+$/.test(wait)) failure.message += ` Try again in ${wait} s.`;
  return failure;
}

/** What an error of the service means. */
export function inWords({ code, message }, status, id) {
  const words = BY_CODE[code] ?? BY_STATUS[status] ?? `The service answered with status ${status}.`;
  return new Failure(words, message ?? "", id, status);
}
