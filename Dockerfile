# The build stage compiles, and the final stage holds the two programs on a base of Debian
# or a similar system.
#
#   docker build -t dkv:latest .
#   docker build --build-arg BASE_IMAGE=registry.example/debian:12 -t dkv:latest .
#   docker build --platform linux/arm64 -t dkv:arm64 .     # compiled here, without emulation
#
# BUILD_IMAGE may name another image for the build stage, such as one with Go, which is
# then not installed; RUN_IMAGE a smaller one to run on, such as debian:12-slim. It needs
# the C library of the build stage's system or a newer one.
ARG BASE_IMAGE=debian:12
ARG BUILD_IMAGE=${BASE_IMAGE}
ARG RUN_IMAGE=${BASE_IMAGE}

# BuildKit sets BUILDPLATFORM. The older builder does not, and builds for its own platform.
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${BUILD_IMAGE} AS build
WORKDIR /src
RUN apt-get update -q && apt-get install -q -y --no-install-recommends make git ca-certificates
COPY scripts/deps.sh scripts/go.sh scripts/
RUN scripts/deps.sh build && scripts/go.sh
ARG TARGETARCH
COPY deploy/docker/cross.sh deploy/docker/
RUN deploy/docker/cross.sh "$TARGETARCH" >/cross
# Modules change rarely, so they have a layer of their own.
ENV GOTOOLCHAIN=auto
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
ARG REVISION=unknown
RUN env $(cat /cross) make build VERSION="$VERSION" REVISION="$REVISION" STRIP=1

# The accounts of the final stage. They are made here, and the final stage runs no command,
# so that it is assembled for another architecture without emulating it.
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${RUN_IMAGE} AS accounts
# The home is the data folder: it gets no files of a shell.
RUN groupadd --system --gid 10001 dkv \
 && useradd --system --uid 10001 --gid dkv --home-dir /var/lib/dkv --no-create-home dkv \
 && mkdir -p /var/lib/dkv

FROM ${RUN_IMAGE}
ARG VERSION=devel
ARG REVISION=unknown
LABEL org.opencontainers.image.title="DKV" \
      org.opencontainers.image.description="A distributed key-value store: dkvsrv and dkvctl" \
      org.opencontainers.image.source="https://github.com/dkvdb/dkv" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=accounts /etc/passwd /etc/group /etc/
COPY --from=accounts --chown=10001:10001 /var/lib/dkv /var/lib/dkv
COPY --from=build /src/LICENSE /src/NOTICE /usr/share/doc/dkv/
COPY --from=build /src/deploy/docker/entrypoint.sh /usr/local/bin/dkv-entrypoint
COPY --from=build /src/bin/dkvsrv /src/bin/dkvctl /usr/local/bin/
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# root-folder is ./data by default, so data is below this folder. A node records its name
# there: a container that is created again has another host name and finds its data.
WORKDIR /var/lib/dkv
VOLUME /var/lib/dkv
# Clients and other nodes are in other containers. With an auth-file this has no effect.
ENV DKV_ALLOW_INSECURE=data
EXPOSE 8080 8081
# The address that the health check asks; change it if the node listens on another port.
# It asks this node alone: a node must not be restarted because its cluster has lost its
# majority.
ENV DKVCTL_HEALTH_ADDR=127.0.0.1:8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD dkvctl -a "$DKVCTL_HEALTH_ADDR" -timeout 3s -health
ENTRYPOINT ["dkv-entrypoint"]
CMD ["dkvsrv"]
