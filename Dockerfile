# One image for the three programs; docker-compose.yml chooses which one a container runs.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# The dependencies first: they change less often than the code.
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock

COPY pyproject.toml README.md ./
COPY lastword lastword
COPY service service
COPY collector collector
COPY dashboard dashboard
COPY docs docs
RUN pip install --no-deps --no-build-isolation -e . \
    && useradd --create-home --uid 10001 lastword \
    && mkdir /data \
    && chown lastword /data

# The user by number: an orchestrator can tell from the image alone that it is not root.
USER 10001
ENV LASTWORD_DATA_DIR=/data
VOLUME /data

# The health of whichever program runs; its address is given by docker-compose.yml.
ENV HEALTH_URL=http://127.0.0.1:8000/health/ready
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['HEALTH_URL'], timeout=2)"]

CMD ["python", "-m", "service"]
