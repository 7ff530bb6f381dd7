// What the JavaScript clients share: one JSON line on stdout for each case that was run.
import assert from "node:assert/strict";

export const { BASE_URL: baseURL, API_KEY: apiKey, STAND_IN } = process.env;
export { assert };
export const said = (text) => [{ role: "user", content: text }];
export const PARIS = { name: "Paris", people: 2102650 };
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Runs { name: async function } in order; a case that neither ends nor fails is a failed one.
export async function run(cases) {
  for (const [name, test] of Object.entries(cases)) {
    let error = null;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("no end after 30 s")), 30_000);
    });
    try {
      await Promise.race([test(), late]);
    } catch (wrong) {
      error = String(wrong?.stack ?? wrong).slice(0, 600);
    }
    clearTimeout(timer);
    console.log(JSON.stringify({ case: name, error }));
  }
  process.exit(0);
}

// What the stand-in has seen of the calls whose last words were these.
export async function upstream(words) {
  return (await fetch(`${STAND_IN}/seen?${encodeURIComponent(words)}`)).json();
}

export async function hungUp(words) {
  for (let i = 0; i < 50; i++) {
    const { calls, left } = await upstream(words);
    if (calls > 0 && left === calls) return;
    await sleep(100);
  }
  assert.fail("the call to Flowith goes on");
}

export async function thrown(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
  return assert.fail("no error was thrown");
}
