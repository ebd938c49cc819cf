# The project with all that it runs on, for a cluster: nobody in it is root.
#   docker build -t overtake:cpu .                            # some 5 GB
#   docker build -t overtake:gpu --build-arg STACK=gpu .      # some 16 GB; CUDA comes with the packages, the driver from the machine
#   docker run --rm overtake:cpu bash recipes/quickstart.sh
FROM python:3.11-slim-bookworm
ARG STACK=cpu
# git and curl: what a data set or a health check asks for; gcc: Triton compiles its launcher with it; libnuma1: vLLM on a CPU.
# Debian's own security updates are wanted, so no versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl g++ gcc git libnuma1 procps \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 overtake \
    && install -d -o overtake -g overtake /opt/overtake
USER 1000
WORKDIR /opt/overtake
# First what decides the packages, so that a change elsewhere does not fetch them again.
COPY --chown=overtake:overtake install.sh pyproject.toml requirements*.txt ./
COPY --chown=overtake:overtake plugin plugin
RUN OVERTAKE_STACK=$STACK PIP_NO_CACHE_DIR=1 bash install.sh
COPY --chown=overtake:overtake . .
ENV PATH=/opt/overtake/.venv/bin:$PATH
CMD ["bash", "recipes/quickstart.sh"]
