// OpenAI's Agents SDK for JavaScript with its default model, which speaks the Responses API.
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool } from "@openai/agents";
import { z } from "zod";
import { apiKey, assert, baseURL, hungUp, PARIS, run, thrown } from "./cases.mjs";

setTracingDisabled(true);
const runner = new Runner({
  modelProvider: new OpenAIProvider({ baseURL, apiKey, useResponses: true }),
  tracingDisabled: true,
});
const City = z.object({ name: z.string(), people: z.number() });
const weather = tool({
  name: "weather",
  description: "Tells the weather.",
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => `18 degrees in ${city}`,
});
const agent = (more) => new Agent({ name: "Asker", instructions: "Be brief.", model: "gpt-4.1", ...more });

const ways = {
  run: (who, input) => runner.run(who, input),
  streamed: async (who, input) => {
    const running = await runner.run(who, input, { stream: true });
    for await (const _ of running);
    await running.completed;
    return running;
  },
};

const cases = {};
for (const [way, ask] of Object.entries(ways)) {
  cases[`${way}: text, and a second turn`] = async () => {
    const first = await ask(agent(), "reason");
    assert.equal(first.finalOutput, "Two.");
    const second = await ask(agent(), [...first.history, { role: "user", content: "hello" }]);
    assert.equal(second.finalOutput, "Hello, 你好 👩‍👩‍👧!");
  };
  cases[`${way}: tools`] = async () => {
    for (const words of ["tool please", "two tools please"]) {
      const { finalOutput } = await ask(agent({ tools: [weather] }), words);
      assert.equal(finalOutput, "It is 18 degrees in Paris.");
    }
  };
  cases[`${way}: output of a type`] = async () => {
    assert.deepEqual((await ask(agent({ outputType: City }), "json please")).finalOutput, PARIS);
  };
  cases[`${way}: errors`] = async () => {
    await thrown(() => ask(agent(), "error 400 of the Agents SDK for JavaScript"));
    await thrown(() => ask(agent(), way === "run" ? "empty" : "cut"));
  };
}

cases["abort stops Flowith"] = async () => {
  const words = "wait for abort of the Agents SDK for JavaScript";
  const controller = new AbortController();
  const running = await runner.run(agent(), words, { stream: true, signal: controller.signal });
  const reading = (async () => {
    for await (const event of running) {
      if (event.data?.type === "output_text_delta") controller.abort();
    }
  })();
  await reading.catch(() => {});
  await hungUp(words);
};

await run(cases);
