// Claude Code as it comes from npm, with a home of its own: text, tools, searches, errors.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { apiKey, assert, baseURL, run, upstream } from "./cases.mjs";

const manifest = createRequire(import.meta.url).resolve("@anthropic-ai/claude-code/package.json");
const program = join(dirname(manifest), "cli-wrapper.cjs");
const home = mkdtempSync(join(tmpdir(), "claude-code-"));
const env = {
  PATH: process.env.PATH,
  HOME: home,
  ANTHROPIC_BASE_URL: baseURL.replace(/\/v1$/, ""),
  ANTHROPIC_AUTH_TOKEN: apiKey,
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
  CLAUDE_CODE_MAX_RETRIES: "2",
};

// Its one JSON object for a prompt, read to the end whatever its exit status is.
function ask(words, ...more) {
  const order = [program, "-p", words, "--output-format", "json", ...more];
  const child = spawn(process.execPath, order, { cwd: home, env, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let complaint = "";
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (complaint += data));
  return new Promise((resolve, reject) => {
    child.on("close", () => {
      try {
        resolve(JSON.parse(out));
      } catch {
        reject(new Error(`no JSON: ${out.slice(0, 200)} ${complaint.slice(0, 300)}`));
      }
    });
  });
}

const cases = {
  "text and usage": async () => {
    const answer = await ask("hello");
    assert.equal(answer.result, "Hello, 你好 👩‍👩‍👧!");
    assert.equal(answer.is_error, false);
    assert.ok(answer.usage.input_tokens > 1000);
    assert.ok(answer.usage.output_tokens > 0);
  },
  "thoughts and text": async () => assert.equal((await ask("reason")).result, "Two."),
  "a long answer": async () => {
    assert.equal((await ask("long")).result.split(" ").length, 5001);
  },
  "silence": async () => assert.equal((await ask("silence")).result, "late, but here"),
  "another model by its own name": async () => {
    const answer = await ask("hello", "--model", "gpt-4.1");
    assert.deepEqual(Object.keys(answer.modelUsage), ["gpt-4.1"]);
  },
  "runs a command and reports it": async () => {
    const answer = await ask("run echo $((40+2))", "--allowedTools", "Bash");
    assert.equal(answer.result, "It says: 42");
  },
  "edits a file": async () => {
    const file = join(home, "note.txt");
    writeFileSync(file, "an old note\n");
    const answer = await ask(`edit ${file}`, "--permission-mode", "acceptEdits");
    assert.match(answer.result, /It says/);
    assert.equal(readFileSync(file, "utf8"), "an new note\n");
  },
  "a search shows its pages": async () => {
    const answer = await ask("look up cats", "--allowedTools", "WebSearch");
    assert.match(answer.result, /Links: \[.*https:\/\/cats\.example\/all/);
  },
  "tries a cut answer again": async () => {
    const answer = await ask("cut at first");
    assert.equal(answer.result, "whole now");
  },
  "wrong key": async () => {
    const kept = env.ANTHROPIC_AUTH_TOKEN;
    env.ANTHROPIC_AUTH_TOKEN = "wrong";
    const answer = await ask("hello").finally(() => (env.ANTHROPIC_AUTH_TOKEN = kept));
    assert.equal(answer.api_error_status, 401);
  },
  "unknown model": async () => {
    const answer = await ask("hello", "--model", "no");
    assert.equal(answer.api_error_status, 404);
    assert.match(answer.result, /model/);
  },
};
for (const [code, status, says] of [
  [402, 402, /credits/],
  [401, 424, /token/],
  [429, 429, /rate limit/i],
]) {
  cases[`shows ${status}`] = async () => {
    const words = `error ${code} for Claude Code`;
    const answer = await ask(words);
    assert.equal(answer.api_error_status, status);
    assert.match(answer.result, says);
    assert.ok((await upstream(words)).calls <= (code === 401 ? 2 : 1));
  };
}

await run(cases);
