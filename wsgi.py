"""The entry point: `gunicorn wsgi:app`, and `flask` commands."""

from proxy import create_app
from settings import load

app = create_app(load())
