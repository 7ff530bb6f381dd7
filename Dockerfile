# Two stages: pip and its cache stay behind, only the finished environment goes on.
ARG PYTHON_VERSION=3.13

FROM docker.io/library/python:${PYTHON_VERSION}-slim AS build
RUN python -m venv /opt/venv
COPY requirements.txt .
RUN /opt/venv/bin/pip install --no-cache-dir --only-binary :all: -r requirements.txt

FROM docker.io/library/python:${PYTHON_VERSION}-slim
RUN useradd --create-home --uid 1000 user \
    && mkdir /data && chown 1000:1000 /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
# .dockerignore names what this is
COPY --chown=1000:1000 . .
# a number, so that Kubernetes can see that it is not root
USER 1000
# Secrets come at run time. /data is the one place that is written to; a Space's persistent storage
# has that name too. Streams get 8 seconds on a stop, because Docker and Spaces kill after 10.
ENV STATE_FILE=/data/flowith-state.json GRACEFUL_TIMEOUT=8
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 7860), timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
# gunicorn.conf.py says the rest
CMD ["gunicorn"]
