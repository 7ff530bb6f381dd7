"""`make run`: the service on this machine, and the bundled stand-in while there is no token.

Writes .env once, says where to point a client, and ends everything it started when it ends.
"""

import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

from settings import DEMO_TOKEN, Settings, SettingsError, given, mask

DEFAULTS = {"HOST": "127.0.0.1", "PORT": "8099"}  # the image listens on 0.0.0.0:7860
NO_TOKEN = """\
No Flowith token is set, so answers come from the bundled stand-in, not from Flowith.
Put your token into .env as FLOWITH_AUTH_TOKEN and start again."""
HINT = """\
If another program (or another `make run`) has that port,
end that one, or choose another port: make run PORT=8100"""

stopped_by: list[int] = []  # the signals that asked this process to end
started: list[tuple[subprocess.Popen[str], signal.Signals]] = []


def main() -> int:
    """Run the service until it ends or is told to; the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: stopped_by.append(number))
    os.chdir(Path(__file__).resolve().parent)
    try:
        write_env_file()
        return serve()
    except SettingsError as wrong:
        print(f"The settings are wrong (.env or the environment): {wrong}", file=sys.stderr)
        return 1
    finally:
        end_all()


def write_env_file() -> None:
    """.env from its example, for its owner's eyes; one that is there stays as it is."""
    with suppress(FileExistsError):
        Path(".env").touch(0o600, exist_ok=False)
        Path(".env").write_text(Path(".env.example").read_text("utf-8"), "utf-8")
        print("Wrote .env from .env.example.", flush=True)


def serve() -> int:
    """The exit status of the service, 0 where a signal ended it. Raises SettingsError."""
    settings = Settings.from_env(
        {**DEFAULTS, **{name: text for name, text in given().items() if text}}
    )
    host, port = settings.host, settings.port
    if why := why_taken(host, port):
        print(why, file=sys.stderr)
        return 1
    environ = {"HOST": host, "PORT": str(port)}
    if not (settings.flowith_auth_token or settings.flowith_refresh_token):
        environ |= start_stand_in()
    service = start(["-m", "gunicorn"], environ, end_with=signal.SIGQUIT)  # TERM waits for streams
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    named = f"[{host}]" if ":" in host else host
    greeting = greet(settings, "localhost" if near in ("127.0.0.1", "::1") else named)
    while service.poll() is None and not stopped_by:
        if greeting and answers(near, port):
            print(greeting, flush=True)
            greeting = ""
        time.sleep(0.1)
    return 0 if stopped_by else service.returncode or 1


def why_taken(host: str, port: int) -> str:
    """Why the service cannot listen there, in plain words; empty when it can."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as wrong:
        if wrong.errno not in (errno.EADDRINUSE, errno.EACCES):
            return f"Cannot listen on {host}: it is no address of this machine. Correct HOST."
        return f"Cannot listen on {host}, port {port}: {os.strerror(wrong.errno)}. {HINT}"
    return ""


def start_stand_in() -> dict[str, str]:
    """Start Flowith's stand-in; the settings with which the service talks to it."""
    command = ["tests/fake_flowith.py", "--quiet", "--with-parent"]
    stand_in = start(command, {}, end_with=signal.SIGTERM, stdout=subprocess.PIPE)
    url = stand_in.stdout.readline().strip() if stand_in.stdout else ""
    if not url:  # calls would go to Flowith itself
        sys.exit("The bundled stand-in did not start.")
    known = {"FLOWITH_API_URL": url, "FLOWITH_AUTH_TOKEN": DEMO_TOKEN}
    return {**known, "FLOWITH_REFRESH_TOKEN": "", "no_proxy": "127.0.0.1"}


def start(
    command: list[str], environ: dict[str, str], end_with: signal.Signals, stdout: int | None = None
) -> subprocess.Popen[str]:
    """A child in a session of its own: Ctrl-C comes here alone, and `end_all` sees to the rest."""
    argv, environ = [sys.executable, *command], {**os.environ, **environ}
    child = subprocess.Popen(argv, env=environ, stdout=stdout, text=True, start_new_session=True)
    started.append((child, end_with))
    return child


def end_all() -> None:
    """End the children, the last one first; one that hangs is killed."""
    for child, end_with in reversed(started):
        child.send_signal(end_with)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)


def answers(host: str, port: int) -> bool:
    """Whether the service is up."""
    with suppress(OSError), closing(HTTPConnection(host, port, timeout=1)) as connection:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def greet(settings: Settings, host: str) -> str:
    """What to do now: where it is, whose answers come, and a first question to try."""
    url = f"http://{host}:{settings.port}"
    models = [model.id for model in settings.listed]
    model = next((name for name in ("gpt-4.1", *models) if name in settings.models), "")
    tokens = settings.flowith_auth_token or (settings.flowith_refresh_token,)
    accounts = ", ".join(mask(token) for token in tokens if token)
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
    key = shlex.quote(f"Authorization: Bearer {settings.api_key[0]}")
    return f"""
The service runs at {url} (Ctrl-C ends it). Base URL for clients: {url}/v1
{f"Flowith account: {accounts}" if accounts else NO_TOKEN}
{len(models)} models. Try it from another terminal:

curl -N {url}/v1/chat/completions -H {key} \\
  -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}
"""


if __name__ == "__main__":
    sys.exit(main())
