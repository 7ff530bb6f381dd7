"""The entry point: `gunicorn wsgi:app`, and `flask` commands."""

import click
from flask import Flask

from doctor import doctor
from proxy import create_app
from settings import SettingsError, load

try:
    app = create_app(load())
except SettingsError:
    # `flask` is looking for its commands: the doctor has to be found to say what is wrong. Nothing
    # else starts with wrong settings, `flask run` least of all.
    looking = click.get_current_context(silent=True)
    if not (looking and isinstance(looking.command, click.Group)):
        raise
    app = Flask(__name__)
app.cli.add_command(doctor)
