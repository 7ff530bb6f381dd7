"""The entry point: `gunicorn wsgi:app`, and `flask` commands."""

import click
from flask import Flask

from proxy import create_app
from settings import SettingsError, load

asked = click.get_current_context(silent=True)  # by `flask`; gunicorn has no use for its commands
try:
    app = create_app(load())
except SettingsError:
    # The doctor has to be found, to say what is wrong. Nothing else starts with wrong settings,
    # `flask run` least of all.
    if not (asked and isinstance(asked.command, click.Group)):
        raise
    app = Flask(__name__)
if asked:
    from commands.doctor import doctor
    from commands.models import models

    app.cli.add_command(doctor)
    app.cli.add_command(models)
