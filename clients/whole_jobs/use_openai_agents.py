"""OpenAI's Agents SDK over chat completions: strict tools, one with an optional argument."""

import os

from agents import (  # type: ignore[import-not-found]
    Agent,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from tools_at_hand import read_file, run_command, write_file

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"])
agent = Agent(
    name="Editor",
    instructions="You edit files.",
    model=OpenAIChatCompletionsModel("gpt-4.1", client),
    tools=[function_tool(tool) for tool in (read_file, write_file, run_command)],
)
print(Runner.run_sync(agent, os.environ["TASK"]).final_output)
