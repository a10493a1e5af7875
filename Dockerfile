# The image of all roles: docker-compose.yml says which container plays which.
#
# On a machine without a GPU, pip may fetch the CUDA build of torch (several gigabytes). If you have an index or a
# folder with CPU builds:  docker compose build --build-arg PIP_INSTALL_ARGS='--extra-index-url ...'

FROM python:3.11-slim AS build
ARG PIP_INSTALL_ARGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/venv
# The dependencies first, in a layer of their own: it stays as it is when only the code changes.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > requirements.txt \
    && /opt/venv/bin/pip install --constraint constraints.txt ${PIP_INSTALL_ARGS} --requirement requirements.txt
COPY README.md LICENSE ./
COPY dicom_node dicom_node
COPY models models
COPY worker worker
COPY migrations migrations
RUN /opt/venv/bin/pip install --no-deps .

FROM python:3.11-slim
# bitsandbytes links against the system's OpenMP, which the slim image leaves out.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home dicomworker && install -d -o dicomworker -g dicomworker /data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DICOM_WORKER_DATA_DIR=/data \
    DICOM_WORKER_DICOM__BIND=0.0.0.0 \
    DICOM_WORKER_WEB__BIND=0.0.0.0
USER dicomworker
WORKDIR /data
VOLUME /data
EXPOSE 11112 8080
# Roles that have a port are asked there instead: see docker-compose.yml.
# Each role has a check of its own in docker-compose.yml. `doctor` is none: it also asks the destinations, and a PACS that
# is down is no illness of this container.
ENTRYPOINT ["dicom-worker"]
CMD ["run"]
