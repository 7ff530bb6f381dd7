// @anthropic-ai/sdk: create, raw streams, .stream(), the tool runner, structured output, counting.
import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { PARIS, apiKey, assert, baseURL, hungUp, run, said, thrown, upstream } from "./cases.mjs";

const root = baseURL.replace(/\/v1$/, "");
const options = { baseURL: root, apiKey, timeout: 20_000, maxRetries: 0 };
const client = new Anthropic(options);
const input_schema = {
  type: "object", properties: { city: { type: "string" } }, required: ["city"],
};
const weather = { name: "weather", description: "Tells it.", input_schema };
const search = { type: "web_search_20250305", name: "web_search", max_uses: 8 };
const City = z.object({ name: z.string(), people: z.number() });
const FINAL = "It is 18 degrees in Paris.";
const text = (message) =>
  message.content.filter((block) => block.type === "text").map((block) => block.text).join("");
const asked = (words, more) => ({
  model: "gpt-4.1", max_tokens: 20_000,
  messages: typeof words === "string" ? said(words) : words, ...more,
});
const ways = {
  create: (words, more, by = client) => by.messages.create(asked(words, more)),
  stream: (words, more, by = client) => by.messages.stream(asked(words, more)).finalMessage(),
};

const cases = {};
for (const [way, ask] of Object.entries(ways)) {
  const add = (name, test) => (cases[`${way}: ${name}`] = test);
  add("text, usage, reason", async () => {
    const answer = await ask("hello");
    assert.equal(text(answer), "Hello, 你好 👩‍👩‍👧!");
    assert.equal(answer.stop_reason, "end_turn");
    assert.ok(answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0);
  });
  add("thoughts only where they are wanted", async () => {
    assert.deepEqual((await ask("reason")).content.map((block) => block.type), ["text"]);
    const answer = await ask("reason", { thinking: { type: "adaptive" } });
    assert.equal(answer.content[0].thinking, "One and one.");
    assert.equal(answer.content[1].text, "Two.");
  });
  add("tool round trip", async () => {
    const first = await ask("tool please", { tools: [weather] });
    assert.equal(first.stop_reason, "tool_use");
    const [call] = first.content;
    assert.deepEqual(call.input, { city: "Paris" });
    const result = { type: "tool_result", tool_use_id: call.id, content: "18 degrees" };
    const history = [
      ...said("tool please"),
      { role: "assistant", content: first.content },
      { role: "user", content: [result] },
    ];
    assert.equal(text(await ask(history, { tools: [weather] })), FINAL);
  });
  add("two tools after words", async () => {
    const answer = await ask("two tools please", { tools: [weather] });
    const calls = answer.content.filter((block) => block.type === "tool_use");
    assert.deepEqual(calls.map((call) => call.input.city), ["Paris", "Rome"]);
    assert.equal(text(answer), "I shall look.");
  });
  add("required tool", async () => {
    const more = { tools: [weather], tool_choice: { type: "any" } };
    assert.equal((await ask("tool at the second try", more)).content[0].name, "weather");
  });
  add("a search tells its pages", async () => {
    const answer = await ask("search", { tools: [search], model: "library" });
    assert.equal(answer.content[1].content[0].url, "https://cats.example/all");
    assert.equal(answer.content[2].citations[0].url, "https://cats.example/all");
  });
  add("image", async () => {
    const source = { type: "base64", media_type: "image/png", data: "YSBwaWN0dXJl" };
    const content = [{ type: "image", source }];
    assert.match(text(await ask([{ role: "user", content }])), /^https:\/\/files\.example\/f\//);
  });
  add("stop sequence", async () => {
    const answer = await ask("long", { stop_sequences: ["end"] });
    assert.equal(answer.stop_reason, "stop_sequence");
    assert.equal(answer.stop_sequence, "end");
  });
  add("length", async () => {
    assert.equal((await ask("long", { max_tokens: 5 })).stop_reason, "max_tokens");
  });
  add("long", async () => assert.equal(text(await ask("long")).split(" ").length, 5001));
  add("silence", async () => assert.equal(text(await ask("silence")), "late, but here"));
  for (const [words, status] of [
    ["error 429", 429], ["error 402", 402], ["error 401", 424], ["error 400", 400],
    ["error 500", 502], ["empty", 502],
  ]) {
    add(words, async () => {
      const error = await thrown(() => ask(words));
      assert.ok(error instanceof Anthropic.APIError, String(error));
      assert.equal(error.status, status);
      assert.equal(error.error.type, "error");
      assert.ok(error.requestID);
    });
  }
  add("wrong key", async () => {
    const other = new Anthropic({ ...options, apiKey: "wrong" });
    const error = await thrown(() => ask("hello", {}, other));
    assert.ok(error instanceof Anthropic.AuthenticationError, String(error));
  });
  add("unknown model", async () => {
    const error = await thrown(() => ask("hello", { model: "no" }));
    assert.ok(error instanceof Anthropic.NotFoundError, String(error));
  });
  add("cut", async () => {
    const error = await thrown(() => ask("cut"));
    assert.ok(error instanceof Anthropic.APIError, String(error));
    assert.match(String(error), /api_error/);
  });
}
cases["a raw stream gives each piece as it comes"] = async () => {
  const kinds = [];
  const stream = await client.messages.create({ ...asked("hello"), stream: true });
  for await (const event of stream) kinds.push(event.type);
  assert.equal(kinds[0], "message_start");
  assert.equal(kinds.at(-1), "message_stop");
  assert.ok(kinds.filter((kind) => kind === "content_block_delta").length >= 3);
};
cases["the count is the usage"] = async () => {
  const { max_tokens, ...fields } = asked("hello", { tools: [weather], system: "Be brief." });
  const { input_tokens } = await client.messages.countTokens(fields);
  const answer = await client.messages.create({ ...fields, max_tokens });
  assert.equal(answer.usage.input_tokens, input_tokens);
};
cases["models"] = async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes("gpt-4.1"));
  assert.equal((await client.models.retrieve("gpt-4.1")).type, "model");
};
cases["parse gives the object"] = async () => {
  const output_config = { format: zodOutputFormat(City) };
  const answer = await client.messages.parse(asked("json please", { output_config }));
  assert.deepEqual(answer.parsed_output, PARIS);
};
cases["the tool runner runs the tool and ends"] = async () => {
  const inputSchema = z.object({ city: z.string() });
  const tool = betaZodTool({
    name: "weather", description: "Tells it.", inputSchema, run: ({ city }) => `18 in ${city}`,
  });
  const runner = client.beta.messages.toolRunner(asked("tool please", { tools: [tool] }));
  assert.equal(text(await runner), FINAL);
};
cases["leaving a stream ends the call to Flowith"] = async () => {
  const words = "silence until the node client leaves";
  const stream = await client.messages.create({ ...asked(words), stream: true });
  for await (const event of stream) if (event.type === "message_start") break;
  await hungUp(words);
};
cases["the package's own retries end"] = async () => {
  const words = "error 500 for the node client's retries";
  await thrown(() => ways.create(words, {}, new Anthropic({ ...options, maxRetries: 2 })));
  assert.equal((await upstream(words)).calls, 1);
};

await run(cases);
