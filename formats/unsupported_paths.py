"""OpenAI paths, and those of other servers, that clients ask for and that do not live here.

The answer is a quick 404 whose message says what to use instead.
"""

CHAT = "use POST /v1/chat/completions"
COMPATIBLE = "choose 'OpenAI compatible' and the base URL ending in /v1"
NO_FILES = "Files cannot be stored: send images and text files inside the chat messages"
NO_BILLS = "Billing pages are not available: Flowith shows credits on its own site"
NEIGHBOURS: dict[str, str] = {
    "embeddings": "Embeddings are not available: choose another provider or a local model for them",
    "images": "Pictures are made by POST /v1/images/generations and changed by POST"
    " /v1/images/edits with a prompt; variations without one are not available",
    "videos": "Videos are not available: choose another provider for them",
    "audio": "Speech and transcription are not available: choose another provider for them",
    "moderations": f"Moderation is not available: {CHAT}",
    **dict.fromkeys(("files", "uploads"), NO_FILES),
    "vector_stores": "Vector stores are not available: give a model a kb_list in models.json",
    "assistants": f"Assistants are not available: {CHAT}",
    "threads": f"Threads are not available: {CHAT}",
    "conversations": "Conversations are not kept: send the whole conversation as 'input' to POST"
    " /v1/responses each time",
    "containers": "Code is not run here: give the model a tool that does",
    "skills": "Skills cannot be stored: put their words into the instructions",
    "evals": "Evaluations are not available",
    "batches": f"Batches are not available: {CHAT}",
    "fine_tuning": "Fine-tuning is not available",
    "realtime": f"The Realtime API is not available: {CHAT}",
    "messages": "Of Anthropic's API there are POST /v1/messages, POST /v1/messages/count_tokens and"
    " GET /v1/models",
    **dict.fromkeys(("dashboard", "organization"), NO_BILLS),
    **dict.fromkeys(
        ("tags", "show", "generate", "chat", "version"), f"This is not Ollama: {COMPATIBLE}"
    ),
    "v0": f"This is not LM Studio: {COMPATIBLE}",
    "v1beta": f"This is not Gemini's API: {COMPATIBLE}",
    "props": f"This is not llama.cpp: {COMPATIBLE}",
    "model": "This is not LiteLLM: ask GET /v1/models",
}


def advice(path: str) -> str:
    """What to use instead of `path`; empty when nothing is known of it."""
    parts = [
        part for part in path.split("/") if part not in ("", "v1", "api", "openai", "anthropic")
    ]
    if parts[:1] == ["chat"] and parts != ["chat"]:  # that alone is Ollama's
        return "Chat is POST /v1/chat/completions, and no answer of it is kept"
    return NEIGHBOURS.get(parts[0], "") if parts else ""
