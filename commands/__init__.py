"""What an operator asks on the command line: `flask doctor` and `flask models`.

Loaded by `flask` alone, never with the service.
"""

import click

from commands.doctor import doctor
from commands.models import models

ALL: tuple[click.Command, ...] = (doctor, models)
