// The page's behaviour: copy buttons and the playground. Knows nothing of the wire, see ask.js.

import { ask, Failure } from "./ask.js";
import { element, measure, note, picture, show, thoughts, turn } from "./draw.js";
import { shrink } from "./images.js";
import { draw } from "./pictures.js";

const $ = (id) => document.getElementById(id);
const play = $("play");
const talk = $("talk");
const words = $("words");
const keyBox = $("key");
const modelBox = $("model");

const CUT_SHORT = {
  length: "The answer reached its length limit.",
  content_filter: "The answer ends here because a content policy forbids the rest.",
};

let history = []; // what the model gets to see again
let images = []; // data: URLs that go with the next question
let running = null; // the AbortController of the answer under way

// -- small things ---------------------------------------------------------------------------

/** What a screen reader hears: the few words here, never each word of an answer. */
function say(text) {
  $("status").textContent = text;
}

/** A browser's memory; in a frame or with cookies switched off it may be closed to us. */
function remember(storage, name, value) {
  try {
    if (value !== undefined) window[storage].setItem(name, value);
    return window[storage].getItem(name) ?? "";
  } catch {
    return "";
  }
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // without HTTPS browsers only have the old way
    const box = element("textarea", { value: text, className: "unseen" });
    document.body.append(box);
    box.select();
    const copied = document.execCommand("copy");
    box.remove();
    if (!copied) throw new Error("The browser does not let this page copy.");
  }
}

async function copy(button) {
  const source = button.dataset.copy ? $(button.dataset.copy) : button.closest("figure");
  const code = source.querySelector("code");
  const label = button.firstChild;
  try {
    await copyText(code.textContent);
    label.data = "Copied";
    say(`Copied${button.querySelector(".unseen").textContent}.`);
  } catch (wrong) {
    label.data = "Not copied";
    getSelection().selectAllChildren(code);
    say(`${wrong.message} The text is selected: copy it with the keyboard.`);
  }
  button.focus();
  setTimeout(() => (label.data = "Copy"), 2000);
}

// -- images ---------------------------------------------------------------------------------

async function addImages(files) {
  for (const file of files) {
    try {
      images.push(await shrink(file));
      say(`Image ${images.length} added.`);
    } catch {
      say(`${file.name || "That"} is not an image that this browser can read.`);
    }
  }
  listImages();
}

/** A picture of the conversation goes with the next question. */
async function addAgain(image) {
  await addImages([image]);
  words.focus();
}

function listImages() {
  const rows = images.map((url, i) => {
    const remove = element("button", { type: "button" }, "Remove");
    remove.append(element("span", { className: "unseen" }, ` image ${i + 1}`));
    remove.addEventListener("click", () => {
      images.splice(i, 1);
      listImages();
      say("Image removed.");
      words.focus();
    });
    return element("li", {}, element("img", { src: url, alt: `Image ${i + 1}` }), remove);
  });
  $("images").replaceChildren(...rows);
  $("images").hidden = !rows.length;
}

// -- asking ---------------------------------------------------------------------------------

/** Whether a question can go out; what is missing is said. */
function isReady(key, text, draws) {
  keyBox.setAttribute("aria-invalid", !key);
  if (!key) {
    say("Paste the key of this service first.");
    keyBox.focus();
    return false;
  }
  if (draws && !text) {
    say("Say in words what to draw.");
    words.focus();
    return false;
  }
  return true;
}

/** Lets the conversation grow: who reads its end stays at the end, others where they are. */
function grow(change) {
  const atEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60;
  change();
  if (atEnd) talk.scrollTop = talk.scrollHeight;
}

/** Puts a question into the conversation, and a place for its answer, which is returned. */
function showQuestion(text, sent, model) {
  const question = turn("You", "question");
  question.words.append(text);
  question.node.append(...sent.map((url, i) => element("img", { src: url, alt: `Image ${i + 1}` })));
  const answer = turn(model, "answer");
  talk.append(question.node, answer.node);
  talk.scrollTop = talk.scrollHeight;
  $("status").scrollIntoView({ block: "nearest" }); // on a phone the conversation has taken its place
  return answer;
}

/** A message's content in OpenAI's form. */
function toContent(text, sent) {
  if (!sent.length) return text;
  const parts = sent.map((url) => ({ type: "image_url", image_url: { url } }));
  return text ? [{ type: "text", text }, ...parts] : parts;
}

async function send() {
  const text = words.value.trim();
  if (!text && !images.length) return;
  if (running) {
    say("An answer is under way: wait for it, or stop it.");
    return;
  }
  const key = keyBox.value.trim();
  const model = modelBox.value;
  const draws = modelBox.selectedOptions[0]?.dataset.kind === "image";
  if (!isReady(key, text, draws)) return;
  const sent = images;
  words.value = "";
  images = [];
  listImages();
  const answer = showQuestion(text, sent, model);

  const mine = (running = new AbortController());
  busy(true);
  const asked = [...history, { role: "user", content: toContent(text, sent) }];
  const call = { key, model, signal: mine.signal };
  const said = draws
    ? await receivePicture(answer, { ...call, prompt: text, images: sent })
    : await receive(answer, { ...call, messages: asked });
  if (mine !== running) return; // a new chat has begun meanwhile
  running = null;
  busy(false);
  if (said && !draws) history = [...asked, { role: "assistant", content: said }];
  else if (!said && !words.value && !images.length) {
    // nothing was answered: the question is not lost
    words.value = text;
    images = sent;
    listImages();
  }
}

/** Shows an answer as it comes, and how it ended. Returns its text. */
async function receive(answer, question) {
  const started = performance.now();
  let [text, thought, first, finish, usage, due, thoughtBox] = ["", "", 0, "", null, 0, null];
  const draw = () => {
    cancelAnimationFrame(due);
    due = 0;
    if (thought) show((thoughtBox ??= thoughts(answer)), thought);
    if (text) show(answer.words, text);
  };
  say(`Asking ${question.model} …`);
  answer.node.setAttribute("aria-busy", "true");
  try {
    for await (const piece of ask({ root: play.dataset.root, ...question })) {
      if (piece.text || piece.reasoning) first ||= performance.now();
      if (piece.reasoning && !thought) say("Thinking …");
      if (piece.text && !text) say("Answering …");
      text += piece.text ?? "";
      thought += piece.reasoning ?? "";
      finish = piece.finish ?? finish;
      usage = piece.usage ?? usage;
      due ||= requestAnimationFrame(() => grow(draw)); // many words may come within one frame
    }
    const measured = measure(usage, first - started, performance.now() - first);
    grow(() => {
      draw();
      if (first) note(answer, measured, "measured");
      if (CUT_SHORT[finish]) note(answer, CUT_SHORT[finish], "note");
    });
    say(CUT_SHORT[finish] ?? "The answer is complete.");
  } catch (wrong) {
    grow(() => {
      draw();
      explain(answer, wrong, question.signal);
    });
  }
  answer.node.removeAttribute("aria-busy");
  return text;
}

/** Shows a picture once it is made. Returns whether it was. */
async function receivePicture(answer, call) {
  const started = performance.now();
  say(`${call.model} draws …`);
  answer.node.setAttribute("aria-busy", "true");
  let url = "";
  try {
    url = await draw({ root: play.dataset.root, ...call });
    const made = await picture(url, call.prompt, addAgain);
    const seconds = (performance.now() - started) / 1000;
    grow(() => {
      answer.words.append(made);
      note(answer, `made in ${seconds.toFixed(1)} s`, "measured");
    });
    say("The picture is here.");
  } catch (wrong) {
    grow(() => explain(answer, wrong, call.signal));
  }
  answer.node.removeAttribute("aria-busy");
  return Boolean(url);
}

function explain(answer, wrong, signal) {
  if (signal.aborted) {
    note(answer, "Stopped.", "measured");
    return;
  }
  if (!(wrong instanceof Failure)) console.error(wrong);
  note(answer, wrong.message, "note");
  if (wrong.said) note(answer, `The service says: ${wrong.said}`, "small");
  if (wrong.id && !wrong.said?.includes(wrong.id)) note(answer, `Request ${wrong.id}`, "small");
  if (wrong.status === 401) keyBox.setAttribute("aria-invalid", true);
  say(wrong.message);
}

/** Stop is there while an answer is under way, else Send; who stands on one gets the other. */
function busy(yes) {
  const [old, next] = yes ? [$("send"), $("stop")] : [$("stop"), $("send")];
  const focused = document.activeElement === old;
  $("stop").hidden = !yes;
  $("send").disabled = yes;
  if (focused) next.focus();
}

function stop() {
  running.abort();
  words.focus(); // the button is about to go
  say("Stopped.");
}

function newChat() {
  running?.abort();
  running = null;
  busy(false);
  history = [];
  images = [];
  listImages();
  talk.replaceChildren();
  say("New chat.");
  words.focus();
}

// -- wiring ---------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copy(button);
});
for (const button of document.querySelectorAll("button.copy")) button.hidden = false;

keyBox.value = remember("sessionStorage", "key") || keyBox.value; // this tab only
keyBox.addEventListener("input", () => {
  remember("sessionStorage", "key", keyBox.value.trim());
  keyBox.removeAttribute("aria-invalid");
});
const known = remember("localStorage", "model");
if ([...modelBox.options].some((option) => option.value === known)) modelBox.value = known;
modelBox.addEventListener("change", () => remember("localStorage", "model", modelBox.value));

words.addEventListener("keydown", (event) => {
  // an Enter that ends the input of a Chinese or Japanese word is not meant for us
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
play.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) stop();
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("stop").addEventListener("click", stop);
$("new").addEventListener("click", newChat);
$("add-image").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async (event) => {
  await addImages(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});

const imagesIn = (data) => [...data.files].filter((file) => file.type.startsWith("image/"));
play.addEventListener("paste", (event) => {
  const files = imagesIn(event.clipboardData);
  if (!files.length) return;
  event.preventDefault();
  addImages(files);
});
play.addEventListener("dragover", (event) => {
  if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
});
play.addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault(); // a file must not replace the page
  addImages(event.dataTransfer.files);
});

$("needs-script").remove();
play.hidden = false;
