// openai-node and the Responses API: raw calls, the stream helper, parse.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { apiKey, assert, baseURL, hungUp, PARIS, run, said, thrown, upstream } from "./cases.mjs";

const { responses } = new OpenAI({ baseURL, apiKey });
const City = z.object({ name: z.string(), people: z.number().int() });
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = { type: "function", name: "weather", parameters, strict: false };
const ask = (input, more) => ({ model: "gpt-4.1", input, ...more });

async function raw(input, more) {
  let last;
  for await (const event of await responses.create(ask(input, { stream: true, ...more }))) last = event;
  return last.response;
}

// Each way to get one whole response out of this client.
const ways = {
  create: (input, more) => responses.create(ask(input, more)),
  "raw stream": raw,
  "stream()": (input, more) => responses.stream(ask(input, more)).finalResponse(),
};
const textOf = ({ output }) => output.find((item) => item.type === "message").content[0].text;

const cases = {};
for (const [way, complete] of Object.entries(ways)) {
  cases[`${way}: text`] = async () => {
    const answer = await complete("hello");
    assert.equal(textOf(answer), "Hello, 你好 👩‍👩‍👧!");
    assert.ok(answer.usage.total_tokens > 0);
  };
  cases[`${way}: thoughts`] = async () => {
    const { output } = await complete("reason");
    assert.equal(output[0].summary[0].text, "One and one.");
  };
  cases[`${way}: tool round trip`] = async () => {
    const { output } = await complete("tool please", { tools: [weather] });
    assert.deepEqual(JSON.parse(output[0].arguments), { city: "Paris" });
    const result = { type: "function_call_output", call_id: output[0].call_id, output: "18" };
    const answer = await complete([...said("tool please"), ...output, result], { tools: [weather] });
    assert.equal(textOf(answer), "It is 18 degrees in Paris.");
  };
  cases[`${way}: two calls after words`] = async () => {
    const { output } = await complete("two tools please", { tools: [weather] });
    assert.deepEqual(output.map((item) => item.type), ["message", "function_call", "function_call"]);
  };
  cases[`${way}: silence`] = async () => {
    assert.equal(textOf(await complete("silence")), "late, but here");
  };
  cases[`${way}: refused`] = async () => {
    const words = `error 400 ${way} by Responses of openai-node`;
    assert.ok((await thrown(() => complete(words))) instanceof OpenAI.BadRequestError);
    assert.equal((await upstream(words)).calls, 1);
  };
}

Object.assign(cases, {
  parse: async () => {
    const text = { format: zodTextFormat(City, "city") };
    assert.deepEqual((await responses.parse(ask("json please", { text }))).output_parsed, PARIS);
  },
  "a cut stream is an error": () => assert.rejects(raw("cut"), /broke off/),
  incomplete: async () => {
    const answer = await raw("long", { max_output_tokens: 20 });
    assert.equal(answer.incomplete_details.reason, "max_output_tokens");
  },
  "abort stops Flowith": async () => {
    const words = "wait for abort of openai-node's responses";
    for await (const event of await responses.create(ask(words, { stream: true }))) {
      if (event.type === "response.output_text.delta") break;
    }
    await hungUp(words);
  },
  "nothing is stored": async () => {
    assert.ok((await thrown(() => responses.retrieve("resp_1"))) instanceof OpenAI.NotFoundError);
  },
});

await run(cases);
