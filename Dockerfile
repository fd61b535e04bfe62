# The server, and with another command the agent. Built from a checkout: docker build -t foldline .
FROM debian:12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv bubblewrap util-linux ca-certificates git \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/foldline
COPY . .
RUN python3 tools/setup_environment.py
ENV PATH=/opt/foldline/.venv/bin:$PATH
VOLUME /var/lib/foldline
EXPOSE 8321 8322
CMD ["foldline-server", "serve"]
