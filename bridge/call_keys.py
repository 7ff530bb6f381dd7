"""The keys of JSON in which models say the name of a tool, its arguments, or that calls follow.

One list each, in the order in which they are looked for. Knows nothing of values.
"""

from bridge.call_tags import words

NAMES = (
    "name", "tool", "tool_name", "toolName", "function", "function_name", "recipient_name",
    "action",
)  # fmt: skip
ARGUMENTS = (
    "arguments", "parameters", "input", "args", "action_input", "tool_input", "toolInput",
    "params", "kwargs", "tool_args", "tool_arguments", "tool_parameters", "function_args",
    "function_arguments", "function_parameters",
)  # fmt: skip
NESTED = (
    "tool_calls", "tool_uses", "toolCalls", "toolUse", "function_call", "functionCall",
    "function_calls", "functionCalls", "tool_call", "toolCall", "tool_use", "function",
)  # fmt: skip
# What else may stand beside them; JSON with other keys is no call.
_OTHERS = words("id type role content refusal tool_call_id call_id index finish_reason status")
ALL = frozenset((*NAMES, *ARGUMENTS, *NESTED, *_OTHERS))
