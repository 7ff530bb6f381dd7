// @langchain/openai: invoke, stream, tools, structured output.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { apiKey, assert, baseURL, hungUp, PARIS, run, thrown, upstream } from "./cases.mjs";

const llm = (more) =>
  new ChatOpenAI({ model: "gpt-4.1", apiKey, configuration: { baseURL }, maxRetries: 0, ...more });
const City = z.object({ name: z.string(), people: z.number().int() });
const weather = tool(async ({ city }) => `18 degrees in ${city}`, {
  name: "weather", description: "Tells the weather.", schema: z.object({ city: z.string() }),
});

async function streamed(model, input, options) {
  let whole;
  for await (const chunk of await model.stream(input, options)) {
    whole = whole ? whole.concat(chunk) : chunk;
  }
  return whole;
}

const cases = {};
const ways = { invoke: (model, input, options) => model.invoke(input, options), stream: streamed };
for (const [way, ask] of Object.entries(ways)) {
  const add = (name, test) => (cases[`${way}: ${name}`] = test);
  add("text", async () => {
    const answer = await ask(llm(), "hello");
    assert.equal(answer.content, "Hello, 你好 👩‍👩‍👧!");
    assert.equal(answer.response_metadata.finish_reason, "stop");
    const usage = answer.usage_metadata;
    assert.ok(usage.output_tokens > 0);
    assert.equal(usage.total_tokens, usage.input_tokens + usage.output_tokens);
  });
  add("reasoning", async () => {
    const answer = await ask(llm(), "reason");
    assert.equal(answer.content, "Two.");
    assert.equal(answer.additional_kwargs.reasoning_content, "One and one.");
  });
  add("tool round trip", async () => {
    const model = llm().bindTools([weather]);
    const first = await ask(model, "tool please");
    assert.equal(first.tool_calls.length, 1);
    assert.deepEqual(first.tool_calls[0].args, { city: "Paris" });
    const result = await weather.invoke(first.tool_calls[0]);
    assert.ok(result instanceof ToolMessage);
    const second = await ask(model, [new HumanMessage("tool please"), first, result]);
    assert.equal(second.content, "It is 18 degrees in Paris.");
  });
  add("two tools after words", async () => {
    const answer = await ask(llm().bindTools([weather]), "two tools please");
    assert.equal(answer.content, "I shall look.");
    assert.deepEqual(answer.tool_calls.map((call) => call.args.city), ["Paris", "Rome"]);
  });
  add("native tools", async () => {
    const answer = await ask(llm({ model: "native" }).bindTools([weather]), "two tools please");
    assert.deepEqual(answer.tool_calls.map((call) => call.args.city), ["Paris", "Rome"]);
  });
  for (const choice of ["required", "weather"]) {
    add(`tool choice ${choice}`, async () => {
      const model = llm().bindTools([weather], { tool_choice: choice });
      assert.equal((await ask(model, "tool at the second try")).tool_calls[0].name, "weather");
    });
  }
  for (const method of ["jsonSchema", "functionCalling", "jsonMode"]) {
    add(`withStructuredOutput, ${method}`, async () => {
      const model = llm().withStructuredOutput(City, { name: "weather", method });
      const words = method === "functionCalling" ? "city call please" : "json please";
      const answer = await (way === "invoke" ? model.invoke(words) : lastOf(model, words));
      assert.deepEqual(answer, PARIS);
    });
  }
  add("silence", async () => {
    assert.equal((await ask(llm(), "silence")).content, "late, but here");
  });
  add("long", async () => {
    assert.equal((await ask(llm(), "long")).content.split(" ").length, 5001);
  });
  for (const [words, status, code] of [
    ["error 429", 429, "rate_limit_exceeded"], ["error 402", 402, "insufficient_quota"],
    ["error 401", 424, "upstream_auth_error"], ["error 400", 400, null],
    ["error 500", 502, "upstream_error"], ["empty", 502, "empty_response"],
  ]) {
    add(words, async () => {
      const error = await thrown(() => ask(llm(), words));
      assert.equal(error.status, status, String(error));
      assert.equal(error.code, code);
    });
  }
  add("wrong key", async () => {
    assert.equal((await thrown(() => ask(llm({ apiKey: "wrong" }), "hello"))).status, 401);
  });
  add("unknown model", async () => {
    assert.equal((await thrown(() => ask(llm({ model: "no" }), "hello"))).status, 404);
  });
  add("cut", async () => {
    assert.match((await thrown(() => ask(llm(), "cut"))).message, /broke|cut|ended/i);
  });
  add("abort", async () => {
    const words = `wait for abort of langchain.js ${way}`;
    const signal = AbortSignal.timeout(800);
    assert.ok(await thrown(() => ask(llm(), words, { signal })));
    await hungUp(words);
  });
}

async function lastOf(model, words) {
  let last;
  for await (const part of await model.stream(words)) last = part;
  return last;
}

Object.assign(cases, {
  "pieces come one by one": async () => {
    const pieces = [];
    for await (const chunk of await llm().stream("hello")) pieces.push(chunk.content);
    assert.ok(pieces.filter(Boolean).length >= 3);
  },
  "batch": async () => {
    const answers = await llm().batch(["hello", "reason", "hello"]);
    assert.deepEqual(answers.map((answer) => answer.content.slice(0, 3)), ["Hel", "Two", "Hel"]);
  },
  "a bad request is tried once": async () => {
    const words = "error 400 for langchain.js";
    await thrown(() => llm({ maxRetries: 2 }).invoke(words));
    assert.equal((await upstream(words)).calls, 1);
  },
  "image": async () => {
    const image_url = { url: `data:image/png;base64,${btoa("a picture")}` };
    const content = [{ type: "text", text: "image" }, { type: "image_url", image_url }];
    const answer = await llm().invoke([new HumanMessage({ content })]);
    assert.match(answer.content, /^https:\/\/files\.example\/f\//);
  },
  "a picture, and the next turn": async () => {
    const model = llm({ model: "gpt-image-1", streaming: false });
    const asked = [new HumanMessage("a red house")];
    const first = await model.invoke(asked);
    const second = await model.invoke([...asked, first, new HumanMessage("make it blue")]);
    assert.notDeepEqual(second.content, first.content);
  },
});

await run(cases);
