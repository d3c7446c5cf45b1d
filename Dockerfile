# One image for web, sync and the workers; the command says which.
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 maskloop && install -d -o maskloop /data
WORKDIR /app
COPY pyproject.toml README.md constraints.txt ./
COPY backend backend
COPY queue queue
COPY learner learner
RUN pip install --no-cache-dir -c constraints.txt '.[postgres,s3]'

USER maskloop
ENV MASKLOOP_HOME=/data
VOLUME /data
EXPOSE 9090
# Of `up` and `web`; docker-compose.yml says what the other processes are asked.
HEALTHCHECK --interval=30s --timeout=15s --start-period=90s CMD ["maskloop", "healthcheck", "web"]
ENTRYPOINT ["maskloop"]
CMD ["up"]
