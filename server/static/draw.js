// How a conversation looks: elements, code fences, notes. What a model wrote only ever becomes text
// nodes, so nothing in it can act. Knows nothing of the wire.

/** An element with properties and children (strings become text). */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** One turn of the conversation: a place for images, thoughts, words and notes. */
export function turn(who, kind) {
  const words = element("div", { className: "words", dir: "auto" });
  const node = element("article", { className: kind }, element("h3", {}, who), words);
  return { node, words };
}

/** The folded reasoning of a turn, made when the first thought comes. */
export function thoughts(turn) {
  const text = element("div", { className: "words" });
  const details = element("details", {}, element("summary", {}, "Reasoning"), text);
  turn.words.before(details);
  return text;
}

/** A picture with what can be done with it; `reuse` gets its element. */
export async function picture(url, words, reuse) {
  const image = element("img", { src: url, alt: words });
  await image.decode();
  const again = element("button", { type: "button" }, "Add to next message");
  again.addEventListener("click", () => reuse(image));
  const kind = url.slice(url.indexOf("/") + 1, url.indexOf(";"));
  const save = element("a", { href: url, download: `picture.${kind}` }, "Save");
  return element("figure", { className: "picture" }, image, element("figcaption", {}, again, save));
}

/** A line below a turn. */
export function note(turn, text, className) {
  turn.node.append(element("p", { className }, text));
}

/** What an answer took, in words; `usage` is null where the service sent none. */
export function measure(usage, firstMs, restMs) {
  const found = [];
  if (usage) found.push(`${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out`);
  found.push(`first word after ${Math.round(firstMs)} ms`);
  const speed = usage?.completion_tokens / (restMs / 1000);
  if (speed && restMs > 50) found.push(`${Math.round(speed)} tokens/s`); // else there is no telling
  return found.join(" · ");
}

/**
 * Makes `node` show `text`, of which more has come since the last time. Fenced code gets a box of
 * its own; all else stays as written. What is there already is left alone, so that a selection
 * survives the next word.
 */
export function show(node, text) {
  // of three items one is text or code, two are a fence: its indent and what stands behind it
  const items = text.split(/^( {0,3})```([^`\n]*)$\n?/m);
  for (let i = 0; i < items.length; i += 3) {
    const isCode = i % 6 === 3;
    const part = node.children[i / 3] ?? node.appendChild(isCode ? codeBox() : paragraph());
    if (isCode) part.querySelector("figcaption span").textContent = items[i - 1] || "code";
    if (isCode) extend(part.querySelector("code"), outdent(items[i], items[i - 2].length));
    else extend(part, items[i].trim());
  }
  while (node.children.length > (items.length + 2) / 3) node.lastChild.remove();
}

/** Code in a list stands as far to the right as its fence (CommonMark 0.31, 4.5). */
function outdent(code, width) {
  return width ? code.replace(new RegExp(`^ {1,${width}}`, "gm"), "") : code;
}

/** Runs from right to left where its first letter does. */
function paragraph() {
  return element("p", { dir: "auto" });
}

function codeBox() {
  const code = element("code");
  const copy = element("button", { type: "button", className: "copy" }, "Copy");
  copy.append(element("span", { className: "unseen" }, " code"));
  const box = element("pre", { tabIndex: 0 }, code);
  return element("figure", {}, element("figcaption", {}, element("span"), copy), box);
}

function extend(node, text) {
  const old = node.textContent;
  if (text === old) return;
  if (node.firstChild && text.startsWith(old)) node.firstChild.appendData(text.slice(old.length));
  else node.textContent = text;
}
