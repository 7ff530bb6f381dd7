// openai-node: raw calls, the stream helper, runTools, zod.
import OpenAI, { toFile } from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { apiKey, assert, baseURL, hungUp, PARIS, run, said, thrown, upstream } from "./cases.mjs";

const client = new OpenAI({ baseURL, apiKey });
const chat = client.chat.completions;
const City = z.object({ name: z.string(), people: z.number().int() });
const Weather = z.object({ city: z.string() });
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = { type: "function", function: { name: "weather", description: "Tells it.", parameters } };
const runnable = {
  type: "function",
  function: { ...weather.function, parse: JSON.parse, function: ({ city }) => `18 degrees in ${city}` },
};

const isPng = (base64) => base64.startsWith("iVBORw0KGgo");
const ask = (text, more) => ({ model: "gpt-4.1", messages: said(text), ...more });
const helper = (text, more) => chat.stream(ask(text, more)).finalChatCompletion();
// Each way to get one whole completion out of this client.
const ways = {
  create: (text, more) => chat.create(ask(text, more)),
  "stream()": helper,
};

async function deltas(text, more) {
  const found = [];
  for await (const chunk of await chat.create(ask(text, { stream: true, ...more }))) found.push(chunk);
  return found;
}

const cases = {};
for (const [way, complete] of Object.entries(ways)) {
  cases[`${way}: text`] = async () => {
    const { choices, object } = await complete("hello");
    assert.equal(choices[0].message.content, "Hello, 你好 👩‍👩‍👧!");
    assert.equal(choices[0].finish_reason, "stop");
    assert.equal(object, "chat.completion");
  };
  cases[`${way}: tool call`] = async () => {
    const [{ message, finish_reason }] = (await complete("tool please", { tools: [weather] })).choices;
    assert.equal(finish_reason, "tool_calls");
    assert.equal(message.tool_calls.length, 1);
    assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: "Paris" });
  };
  cases[`${way}: two tool calls after words`] = async () => {
    const [{ message }] = (await complete("two tools please", { tools: [weather] })).choices;
    assert.equal(message.content, "I shall look.");
    const cities = message.tool_calls.map((call) => JSON.parse(call.function.arguments).city);
    assert.deepEqual(cities, ["Paris", "Rome"]);
    assert.notEqual(message.tool_calls[0].id, message.tool_calls[1].id);
  };
  cases[`${way}: native tool calls`] = async () => {
    const more = { model: "native", tools: [weather] };
    const [{ message }] = (await complete("two tools please", more)).choices;
    assert.equal(message.tool_calls.length, 2);
  };
  cases[`${way}: required tool`] = async () => {
    const more = { tools: [weather], tool_choice: "required" };
    const [{ message }] = (await complete("tool at the second try", more)).choices;
    assert.equal(message.tool_calls[0].function.name, "weather");
  };
  cases[`${way}: reasoning`] = async () => {
    const [{ message }] = (await complete("reason")).choices;
    assert.equal(message.content, "Two.");
    assert.equal(message.reasoning_content, "One and one.");
  };
  cases[`${way}: n`] = async () => {
    const { choices } = await complete("hello", { n: 3 });
    assert.deepEqual(choices.map((choice) => choice.index), [0, 1, 2]);
    for (const { message } of choices) assert.match(message.content, /^Hello/);
  };
  cases[`${way}: silence`] = async () => {
    assert.equal((await complete("silence")).choices[0].message.content, "late, but here");
  };
  cases[`${way}: long`] = async () => {
    const { content } = (await complete("long")).choices[0].message;
    assert.equal(content.split(" ").length, 5001);
  };
  for (const [words, kind, code] of [
    ["error 429", OpenAI.RateLimitError, "rate_limit_exceeded"],
    ["error 402", OpenAI.APIError, "insufficient_quota"],
    ["error 401", OpenAI.APIError, "upstream_auth_error"],
    ["error 400", OpenAI.BadRequestError, null],
    ["error 500", OpenAI.InternalServerError, "upstream_error"],
    ["empty", OpenAI.InternalServerError, "empty_response"],
  ]) {
    cases[`${way}: ${words}`] = async () => {
      const text = `${words} ${way} of openai-node`;
      const error = await thrown(() => complete(text));
      assert.ok(error instanceof kind, error.constructor.name);
      assert.equal(error.code, code);
      assert.equal((await upstream(text)).calls, words === "error 401" ? 2 : 1);
    };
  }
  cases[`${way}: unknown model`] = async () => {
    const error = await thrown(() => complete("hello", { model: "no" }));
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
  };
  cases[`${way}: bad parameter`] = async () => {
    const error = await thrown(() => complete("hello", { temperature: 9 }));
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
  };
  cases[`${way}: cut`] = async () => {
    const error = await thrown(() => complete("cut"));
    assert.ok(error instanceof OpenAI.OpenAIError, error.constructor.name);
    assert.match(error.message, /broke off|ended|cut/i);
  };
}

Object.assign(cases, {
  "raw stream: pieces and one end": async () => {
    const chunks = await deltas("hello");
    const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
    assert.equal(text, "Hello, 你好 👩‍👩‍👧!");
    assert.ok(chunks.length > 3);
    assert.equal(chunks.filter((chunk) => chunk.choices[0].finish_reason).length, 1);
  },
  "raw stream: usage": async () => {
    const chunks = await deltas("hello", { stream_options: { include_usage: true } });
    const { usage, choices } = chunks.at(-1);
    assert.deepEqual(choices, []);
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  },
  "raw stream: cut": async () => {
    const found = [];
    const error = await thrown(async () => {
      for await (const chunk of await chat.create(ask("cut", { stream: true }))) found.push(chunk);
    });
    assert.ok(error instanceof OpenAI.APIError, error.constructor.name);
    assert.equal(error.code, "upstream_cut");
    assert.equal(found.at(-1).choices[0].delta.content, "half an ");
  },
  "stream(): events": async () => {
    const seen = [];
    const stream = chat.stream(ask("hello"));
    stream.on("content", (delta) => seen.push(delta));
    assert.equal(await stream.finalContent(), seen.join(""));
    assert.equal((await stream.finalMessage()).role, "assistant");
  },
  "stream(): tool events": async () => {
    const stream = chat.stream(ask("tool please", { tools: [weather] }));
    const done = [];
    stream.on("tool_calls.function.arguments.done", (event) => done.push(event));
    await stream.done();
    assert.equal(done[0].name, "weather");
    assert.deepEqual(JSON.parse(done[0].arguments), { city: "Paris" });
  },
  runTools: async () => {
    const runner = chat.runTools(ask("tool please", { tools: [runnable] }));
    assert.equal(await runner.finalContent(), "It is 18 degrees in Paris.");
    assert.equal(runner.messages.filter((message) => message.role === "tool").length, 1);
  },
  "runTools: two calls": async () => {
    const runner = chat.runTools(ask("two tools please", { tools: [runnable] }));
    assert.equal(await runner.finalContent(), "It is 18 degrees in Paris.");
    assert.equal(runner.messages.filter((message) => message.role === "tool").length, 2);
  },
  "runTools: streamed": async () => {
    const runner = chat.runTools(ask("tool please", { tools: [runnable], stream: true }));
    assert.equal(await runner.finalContent(), "It is 18 degrees in Paris.");
    assert.ok((await runner.totalUsage()).total_tokens >= 0);
  },
  "runTools: native": async () => {
    const more = { model: "native", tools: [runnable], stream: true };
    const runner = chat.runTools(ask("tool please", more));
    assert.equal(await runner.finalContent(), "It is 18 degrees in Paris.");
  },
  "parse: zod": async () => {
    const more = { response_format: zodResponseFormat(City, "city") };
    assert.deepEqual((await chat.parse(ask("json please", more))).choices[0].message.parsed, PARIS);
  },
  "parse: zod, streamed": async () => {
    const more = { response_format: zodResponseFormat(City, "city") };
    assert.deepEqual((await helper("json please", more)).choices[0].message.parsed, PARIS);
  },
  "parse: second try": async () => {
    const more = { response_format: zodResponseFormat(City, "city") };
    const answer = await chat.parse(ask("json at the second try", more));
    assert.deepEqual(answer.choices[0].message.parsed, PARIS);
  },
  "parse: zod tool": async () => {
    const tools = [zodFunction({ name: "weather", parameters: Weather })];
    const answer = await chat.parse(ask("tool please", { tools }));
    const [call] = answer.choices[0].message.tool_calls;
    assert.deepEqual(call.function.parsed_arguments, { city: "Paris" });
  },
  "json_object": async () => {
    const answer = await chat.create(ask("json please", { response_format: { type: "json_object" } }));
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), PARIS);
  },
  "stop": async () => {
    const [choice] = (await chat.create(ask("wait for stop", { stop: ["beg"] }))).choices;
    assert.equal(choice.message.content, "not ");
    await hungUp("wait for stop");
  },
  "max_tokens": async () => {
    const [choice] = (await chat.create(ask("long", { max_tokens: 5 }))).choices;
    assert.equal(choice.finish_reason, "length");
  },
  "image": async () => {
    const image_url = { url: `data:image/png;base64,${btoa("a picture")}` };
    const content = [{ type: "text", text: "image" }, { type: "image_url", image_url }];
    const answer = await chat.create({ model: "gpt-4.1", messages: [{ role: "user", content }] });
    assert.match(answer.choices[0].message.content, /^https:\/\/files\.example\/f\//);
  },
  "abort: signal": async () => {
    const controller = new AbortController();
    const words = "wait for abort of openai-node";
    const stream = await chat.create(ask(words, { stream: true }), { signal: controller.signal });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) controller.abort();
    await hungUp(words);
  },
  "abort: leaving the loop": async () => {
    const words = "wait for break of openai-node";
    for await (const chunk of await chat.create(ask(words, { stream: true }))) {
      if (chunk.choices[0].delta.content) break;
    }
    await hungUp(words);
  },
  "abort: stream()": async () => {
    const words = "wait for helper of openai-node";
    const stream = chat.stream(ask(words));
    stream.on("content", () => stream.abort());
    const error = await thrown(() => stream.done());
    assert.ok(error instanceof OpenAI.APIUserAbortError);
    await hungUp(words);
  },
  "abort: not streamed": async () => {
    const words = "wait for timeout of openai-node";
    const error = await thrown(() => chat.create(ask(words), { timeout: 500, maxRetries: 0 }));
    assert.ok(error instanceof OpenAI.APIConnectionTimeoutError);
    await hungUp(words);
  },
  "wrong key": async () => {
    const other = new OpenAI({ baseURL, apiKey: "wrong" });
    const error = await thrown(() => other.chat.completions.create(ask("hello")));
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
  },
  "request id": async () => {
    const { request_id } = await chat.create(ask("hello")).withResponse();
    assert.match(request_id, /^req_/);
  },
  "models": async () => {
    const found = [];
    for await (const model of client.models.list()) found.push(model.id);
    assert.deepEqual(found, ["gpt-4.1", "gpt-5.5", "gpt-5.6-sol", "native", "library", "gpt-image-1", "dall-e-3"]);
    assert.equal((await client.models.retrieve("native")).id, "native");
  },
  "legacy completions": async () => {
    const body = { model: "gpt-4.1", prompt: "hello" };
    assert.match((await client.completions.create(body)).choices[0].text, /^Hello/);
    let text = "";
    for await (const chunk of await client.completions.create({ ...body, stream: true })) {
      text += chunk.choices[0].text;
    }
    assert.match(text, /^Hello/);
  },
  "image": async () => {
    const body = { model: "gpt-image-1", prompt: "a red house", size: "1536x1024", n: 2 };
    const { data, output_format } = await client.images.generate(body);
    assert.equal(data.length, 2);
    for (const one of data) assert.ok(isPng(one.b64_json) && !("url" in one));
    assert.equal(output_format, "png");
  },
  "image: an address": async () => {
    const { data } = await client.images.generate({ model: "dall-e-3", prompt: "a red house" });
    assert.match(data[0].url, /^http/);
    const file = Buffer.from(await (await fetch(data[0].url)).arrayBuffer());
    assert.ok(isPng(file.toString("base64")));
  },
  "image: edit of two files": async () => {
    const { data } = await client.images.generate({ model: "gpt-image-1", prompt: "a red house" });
    const file = () => toFile(Buffer.from(data[0].b64_json, "base64"), "a.png", { type: "image/png" });
    const image = [await file(), await file()];
    const edited = await client.images.edit({ model: "gpt-image-1", image, prompt: "make it blue" });
    assert.ok(isPng(edited.data[0].b64_json));
  },
  "image: stream": async () => {
    const events = [];
    const body = { model: "gpt-image-1", prompt: "a red house #silent 2", stream: true };
    for await (const event of await client.images.generate(body)) events.push(event);
    assert.deepEqual(events.map((event) => event.type), ["image_generation.completed"]);
    assert.ok(isPng(events[0].b64_json));
  },
  "image: refused": async () => {
    const body = { model: "gpt-image-1", prompt: "#error 400" };
    const error = await thrown(() => client.images.generate(body));
    assert.ok(error instanceof OpenAI.BadRequestError);
  },
  "image: abort": async () => {
    const prompt = "#silent 30 for abort of openai-node";
    const error = await thrown(() =>
      client.images.generate({ model: "gpt-image-1", prompt }, { timeout: 800, maxRetries: 0 }));
    assert.ok(error instanceof OpenAI.APIConnectionTimeoutError);
    await hungUp(prompt);
  },
  "image in a chat": async () => {
    const body = { model: "gpt-image-1", messages: said("a red house") };
    const { content, images } = (await chat.create(body)).choices[0].message;
    assert.equal(content, `![image](${images[0].image_url.url})`);
  },
  "embeddings": async () => {
    const error = await thrown(() => client.embeddings.create({ model: "gpt-4.1", input: "a" }));
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.match(error.message, /not available/);
  },
});

await run(cases);
