"""The three tools that the agents built on a library get; each works in the current folder."""

import subprocess
from pathlib import Path


def read_file(path: str, encoding: str | None = None) -> str:
    """Read a text file.

    Args:
        path: Where it is.
        encoding: Its encoding; UTF-8 unless it is said.
    """
    return Path(path).read_text(encoding or "utf-8")


def write_file(path: str, content: str) -> str:
    """Write a text file.

    Args:
        path: Where it is.
        content: All that shall stand in it.
    """
    Path(path).write_text(content, "utf-8")
    return f"{len(content)} characters written"


def run_command(command: str) -> str:
    """Run a shell command.

    Args:
        command: What to run.
    """
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr or "(no output)"
