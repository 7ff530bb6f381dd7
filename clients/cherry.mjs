// The engine of Cherry Studio, as the app sets it up: a provider of its user's own (OpenAI compatible) and its provider
// "OpenAI". Pictures of dedicated models go over the images API, where the next turn changes the last picture; those of
// other models come in the chat.
import { createExecutor } from "@cherrystudio/ai-core";
import { apiKey, assert, baseURL, hungUp, run, said, thrown } from "./cases.mjs";

const headers = { "HTTP-Referer": "https://cherry-ai.com", "X-Title": "Cherry Studio" };
const size = "1024x1024";

const cases = {};
for (const provider of ["openai-compatible", "openai"]) {
  const add = (name, test) => (cases[`${provider}: ${name}`] = test);
  const executor = (key = apiKey) =>
    createExecutor(provider, { baseURL, apiKey: key, headers, name: "flowith", includeUsage: true }, []);
  const paint = async (prompt, { key, ...more } = {}) =>
    (await executor(key)).generateImage({ model: "gpt-image-1", prompt, size, maxRetries: 0, ...more });
  const ask = async (text, { key, ...more } = {}) => {
    let failure;
    const onError = ({ error }) => (failure = error);
    const options = { model: "gpt-4.1", messages: said(text), maxRetries: 0, onError, ...more };
    const answer = await (await executor(key)).streamText(options);
    await answer.consumeStream();
    if (failure) throw failure;
    return answer.text;
  };

  for (const model of ["gpt-image-1", "dall-e-3"]) {
    add(`${model}: a picture, and the same changed`, async () => {
      const { images: [image] } = await paint("a red house", { model });
      assert.equal(image.mediaType, "image/png");
      const shown = `data:${image.mediaType};base64,${image.base64}`;
      const edited = await paint({ text: "make it blue", images: [shown] }, { model });
      assert.equal(edited.images[0].mediaType, "image/png");
      assert.notEqual(edited.images[0].base64, image.base64);
    });
  }
  add("two pictures changed into one", async () => {
    const { images } = await paint("a red house", { n: 2 });
    assert.equal(images.length, 2);
    const edited = await paint({ text: "side by side", images: images.map((image) => image.base64) });
    assert.equal(edited.images.length, 1);
  });
  add("a picture that is refused", async () => {
    const error = await thrown(() => paint("#error 400"));
    assert.equal((error.cause ?? error).statusCode, 400);
    assert.match(error.message, /Flowith rejected the request/);
  });
  add("a picture with a wrong key", async () => {
    const error = await thrown(() => paint("a red house", { key: "wrong" }));
    assert.equal((error.cause ?? error).statusCode, 401);
    assert.match(error.message, /Incorrect API key/);
  });
  add("a picture that is not waited for", async () => {
    const prompt = `#silent 30 for abort in Cherry Studio, ${provider}`;
    await thrown(() => paint(prompt, { abortSignal: AbortSignal.timeout(800) }));
    await hungUp(prompt);
  });
  add("a picture in a chat, and the next turn", async () => {
    const model = "gpt-image-1";
    const first = await ask("a red house", { model });
    assert.match(first, /^!\[image\]\(http\S+\)$/);
    const messages = [...said("a red house"), { role: "assistant", content: first }, ...said("make it blue")];
    const second = await ask("", { model, messages });
    assert.match(second, /^!\[image\]\(http\S+\)$/);
    assert.notEqual(second, first);
  });
  add("a chat", async () => assert.equal(await ask("hello"), "Hello, 你好 👩‍👩‍👧!"));
  add("a chat with a wrong key", async () => {
    assert.equal((await thrown(() => ask("hello", { key: "wrong" }))).statusCode, 401);
  });
}

await run(cases);
