// Vercel's AI SDK with its providers for chat completions, for Responses and for Anthropic's API. Both
// versions in use run the same cases: `node ai-sdk.mjs 6`, or 7.
import { z } from "zod";
import { apiKey, assert, baseURL, hungUp, PARIS, run, said, thrown, upstream } from "./cases.mjs";

// Under their own names stand the packages that Cherry Studio's engine needs beside it.
const PACKAGES = {
  6: ["ai", "@ai-sdk/anthropic", "@ai-sdk/openai", "@ai-sdk/openai-compatible"],
  7: ["ai-7", "@ai-sdk/anthropic-4", "@ai-sdk/openai-4", "@ai-sdk/openai-compatible-3"],
};
const version = process.argv[2];
const loaded = await Promise.all(PACKAGES[version].map((name) => import(name)));
const [{
  APICallError, generateImage, generateObject, generateText, NoObjectGeneratedError, Output, RetryError,
  stepCountIs, streamObject, streamText, tool,
}, { createAnthropic }, { createOpenAI }, { createOpenAICompatible }] = loaded;

const compatible = (key) =>
  createOpenAICompatible({
    name: "flowith", baseURL, apiKey: key, includeUsage: true, supportsStructuredOutputs: true,
  });
const openai = (key) => createOpenAI({ baseURL, apiKey: key });
const providers = {
  compatible: (model, key = apiKey) => compatible(key)(model),
  openai: (model, key = apiKey) => openai(key).chat(model),
  anthropic: (model, key = apiKey) => createAnthropic({ baseURL, apiKey: key })(model),
  "openai, Responses": (model, key = apiKey) => openai(key)(model),
};
// For models that it does not know it would ask for JSON by a tool.
const providerOptions = { anthropic: { structuredOutputMode: "outputFormat" } };
const schema = z.object({ name: z.string(), people: z.number() });
const weather = tool({
  description: "Tells the weather.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `18 degrees in ${city}`,
});
const silent = { onError: () => {} };

// All of a stream, its error thrown where it has one.
async function streamed(options) {
  const result = streamText({ ...silent, ...options });
  for await (const part of result.fullStream) if (part.type === "error") throw part.error;
  const names = ["text", "reasoningText", "toolCalls", "finishReason", "totalUsage", "steps"];
  const values = await Promise.all(names.map((name) => result[name]));
  return Object.fromEntries(names.map((name, i) => [name, values[i]]));
}

const cases = {};
for (const [provider, named] of Object.entries(providers)) {
  const model = named("gpt-4.1");
  for (const [way, complete] of Object.entries({ generateText, streamText: streamed })) {
    const add = (name, test) => (cases[`${provider}, ${way}: ${name}`] = test);
    const ask = (text, more) => complete({
      model, messages: said(text), maxRetries: 0, providerOptions, ...more,
    });

    add("text", async () => {
      const answer = await ask("hello");
      assert.equal(answer.text, "Hello, 你好 👩‍👩‍👧!");
      assert.equal(answer.finishReason, "stop");
      assert.ok(answer.totalUsage.inputTokens > 0);
      assert.ok(answer.totalUsage.outputTokens > 0);
    });
    add("reasoning", async () => {
      const answer = await ask("reason");
      assert.equal(answer.text, "Two.");
      if (provider === "compatible") assert.equal(answer.reasoningText, "One and one.");
    });
    add("tool round trip", async () => {
      const answer = await ask("tool please", { tools: { weather }, stopWhen: stepCountIs(3) });
      assert.equal(answer.text, "It is 18 degrees in Paris.");
      assert.equal(answer.steps.length, 2);
      assert.deepEqual(answer.steps[0].toolResults[0].input, { city: "Paris" });
    });
    add("two tools after words", async () => {
      const answer = await ask("two tools please", { tools: { weather } });
      assert.deepEqual(answer.toolCalls.map((call) => call.input.city), ["Paris", "Rome"]);
      assert.equal(answer.text, "I shall look.");
      assert.equal(answer.finishReason, "tool-calls");
    });
    add("native tools", async () => {
      const more = { model: named("native"), tools: { weather }, stopWhen: stepCountIs(3) };
      assert.equal((await ask("two tools please", more)).text, "It is 18 degrees in Paris.");
    });
    add("required tool", async () => {
      const more = { tools: { weather }, toolChoice: "required" };
      assert.equal((await ask("tool at the second try", more)).toolCalls[0].toolName, "weather");
    });
    add("structured output", async () => {
      if (complete === streamed) {
        const result = streamText({
          ...silent, model, providerOptions, prompt: "json please", output: Output.object({ schema }),
        });
        assert.deepEqual(await result.output, PARIS);
      } else {
        const { output } = await ask("json please", { output: Output.object({ schema }) });
        assert.deepEqual(output, PARIS);
      }
    });
    add("silence", async () => assert.equal((await ask("silence")).text, "late, but here"));
    add("long", async () => {
      const { text } = await ask("long", { maxOutputTokens: 20_000 });
      assert.equal(text.split(" ").length, 5001);
    });
    add("length", async () => {
      assert.equal((await ask("long", { maxOutputTokens: 5 })).finishReason, "length");
    });
    for (const [words, status] of [
      ["error 429", 429], ["error 402", 402], ["error 401", 424], ["error 400", 400],
      ["error 500", 502], ["empty", 502],
    ]) {
      add(words, async () => {
        const error = await thrown(() => ask(words));
        assert.ok(APICallError.isInstance(error), String(error));
        assert.equal(error.statusCode, status);
        assert.ok(JSON.parse(error.responseBody).error.message.includes(error.message));
      });
    }
    add("wrong key", async () => {
      const error = await thrown(() => ask("hello", { model: named("gpt-4.1", "wrong") }));
      assert.equal(error.statusCode, 401);
    });
    add("unknown model", async () => {
      const error = await thrown(() => ask("hello", { model: named("no") }));
      assert.equal(error.statusCode, 404);
    });
    add("cut", async () => {
      const error = await thrown(() => ask("cut"));
      assert.match(JSON.stringify(error, Object.getOwnPropertyNames(error)), /broke|cut|ended/i);
    });
    add("abort", async () => {
      const words = `wait for abort of ${provider} ${way} ${version}`;
      const error = await thrown(async () => {
        const result = await ask(words, { abortSignal: AbortSignal.timeout(800) });
        if (result.finishReason !== "stop") throw new Error("aborted");
      });
      assert.ok(error);
      await hungUp(words);
    });
  }
  const add = (name, test) => (cases[`${provider}: ${name}`] = test);
  add("pieces come one by one", async () => {
    const pieces = [];
    for await (const piece of streamText({ model, prompt: "hello" }).textStream) pieces.push(piece);
    assert.ok(pieces.length >= 3);
  });
  add("the SDK's own retries end", async () => {
    const words = `error 500 with retries of ${provider} ${version}`;
    const error = await thrown(() => generateText({ model, prompt: words, maxRetries: 1 }));
    assert.ok(RetryError.isInstance(error), String(error));
    assert.equal((await upstream(words)).calls, 2);
  });
  add("generateObject", async () => {
    assert.deepEqual((await generateObject({ model, providerOptions, schema, prompt: "json please" })).object, PARIS);
  });
  add("generateObject at the second try", async () => {
    const prompt = "json at the second try";
    assert.deepEqual((await generateObject({ model, providerOptions, schema, prompt })).object, PARIS);
  });
  if (provider !== "anthropic") {  // whose API has no JSON without a schema
    add("generateObject without schema", async () => {
      const prompt = "json please";
      const { object } = await generateObject({ model, output: "no-schema", prompt });
      assert.deepEqual(object, PARIS);
    });
  }
  add("generateObject of prose", async () => {
    const work = () => generateObject({ model, providerOptions, schema, prompt: "hello", maxRetries: 0 });
    const error = await thrown(work);
    assert.ok(APICallError.isInstance(error) || NoObjectGeneratedError.isInstance(error));
  });
  add("streamObject", async () => {
    const { object, partialObjectStream } = streamObject({ model, providerOptions, schema, prompt: "json please" });
    let last;
    for await (const part of partialObjectStream) last = part;
    assert.deepEqual(last, PARIS);
    assert.deepEqual(await object, PARIS);
  });
  add("image", async () => {
    const image = new TextEncoder().encode("\x89PNG\r\n\x1a\n a picture");
    const content = [
      { type: "text", text: "image" }, { type: "image", image, mediaType: "image/png" },
    ];
    const { text } = await generateText({ model, messages: [{ role: "user", content }] });
    assert.match(text, /^https:\/\/files\.example\/f\//);
  });
}

const painters = { compatible: compatible(apiKey).imageModel, openai: openai(apiKey).image };
for (const [provider, painter] of Object.entries(painters)) {
  const add = (name, test) => (cases[`${provider}: ${name}`] = test);
  const paint = (prompt, more) =>
    generateImage({ model: painter("gpt-image-1"), prompt, maxRetries: 0, ...more });
  add("a picture", async () => {
    const { image } = await paint("a red house", { size: "1024x1024" });
    assert.equal(image.mediaType, "image/png");
  });
  add("four pictures", async () => {
    assert.equal((await paint("a red house", { n: 4 })).images.length, 4);
  });
  add("a picture changed", async () => {
    const { image } = await paint("a red house");
    const edited = await paint({ text: "make it blue", images: [image.uint8Array] });
    assert.equal(edited.image.mediaType, "image/png");
    assert.notDeepEqual(edited.image.uint8Array, image.uint8Array);
  });
  // Version 7 loads the picture from its address itself, and never from this machine.
  if (provider === "openai" || version === "6") add("a picture of dall-e-3 changed", async () => {
    const model = painter("dall-e-3");
    const { image } = await paint("a red house", { model });
    const edited = await paint({ text: "make it blue", images: [image.uint8Array] }, { model });
    assert.notDeepEqual(edited.image.uint8Array, image.uint8Array);
  });
  add("a picture that is refused", async () => {
    const error = await thrown(() => paint("#error 400"));
    assert.equal(error.statusCode, 400);
  });
  add("a picture that is not waited for", async () => {
    const prompt = `#silent 30 for abort of a picture, ${provider} ${version}`;
    await thrown(() => paint(prompt, { abortSignal: AbortSignal.timeout(800) }));
    await hungUp(prompt);
  });
}

await run(cases);
