# The image of skep: all programs, static, and nothing else. No shell, no libraries, no entry point.
#   docker build -t skep .        needs nothing but Docker; `scripts/image` needs Rust and no base image
# Stages before the last are for people; scripts/image makes the last one of a folder that it has
# filled itself, so that what is tested is what this file makes.
ARG RUST=1.90-bookworm

FROM rust:${RUST} AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN scripts/image --programs /rootfs

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="skep" \
      org.opencontainers.image.description="A web service that finds its peers, replicates its data, balances its traffic and holds its address" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs/bin /bin
# Empty: a new volume takes its owner from here.
COPY --from=build --chown=65532:65532 /rootfs/data /data
# The holder of the address alone runs as another: root without root's capabilities, see docker-stack.yml.
USER 65532:65532
WORKDIR /data
CMD ["skep-node"]
