"""What the doctor has found: told line by line at once, or as one JSON object at the end."""

import json
from typing import Any

import click

from commands.diagnosis import Mark


class Report:
    """`at_most` and `sent` count requests to Flowith, `env` is what to put into .env, and `advice`
    what else to do."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.findings: list[dict[str, Any]] = []
        self.at_most = self.sent = 0
        self.env: dict[str, str] = {}
        self.advice: list[str] = []

    def add(self, mark: Mark, check: str, text: str, **about: Any) -> None:
        self.findings.append({"mark": mark, "check": check, "text": text, **about})
        if not self.as_json:
            click.echo(f"{mark:8} {check:9} {text}")

    @property
    def status(self) -> int:
        if any(finding["mark"] == "problem" for finding in self.findings):
            return 1
        return 0 if self.sent else 2

    def close(self) -> None:
        if self.as_json:
            requests = {"at_most": self.at_most, "sent": self.sent}
            whole = {"status": self.status, "findings": self.findings, "requests": requests}
            click.echo(json.dumps({**whole, "env": self.env, "advice": self.advice}))
            return
        click.echo()
        if self.env:
            click.echo("Put into .env (or the secrets), and start the service again:\n")
            click.echo("".join(f"{name}={text}\n" for name, text in self.env.items()))
        for line in self.advice:
            click.echo(line)
