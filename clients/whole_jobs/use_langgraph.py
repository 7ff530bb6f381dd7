"""LangGraph's ready agent over langchain-openai, streamed."""

import os

from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]
from langgraph.prebuilt import create_react_agent  # type: ignore[import-not-found]
from tools_at_hand import read_file, run_command, write_file

model = ChatOpenAI(
    model="gpt-4.1", base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"], streaming=True
)
agent = create_react_agent(model, [read_file, write_file, run_command])
said = agent.invoke({"messages": [("user", os.environ["TASK"])]})
print(said["messages"][-1].content)
