"""smolagents' ToolCallingAgent over its OpenAI model."""

import os

from smolagents import (  # type: ignore[import-not-found]
    OpenAIServerModel,
    ToolCallingAgent,
    tool,
)
from tools_at_hand import read_file, run_command, write_file

model = OpenAIServerModel("gpt-4.1", api_base=os.environ["BASE_URL"], api_key=os.environ["API_KEY"])
agent = ToolCallingAgent(
    tools=[tool(one) for one in (read_file, write_file, run_command)], model=model, max_steps=8
)
print(agent.run(os.environ["TASK"]))
