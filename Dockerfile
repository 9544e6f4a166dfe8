# Two stages on a base of Debian or a similar system: the first builds, the second runs.
#
#   docker build -t dkv:latest .
#   docker build --build-arg BASE_IMAGE=registry.example/debian:12 -t dkv:latest .
#
# BUILD_IMAGE may name another image for the first stage, such as one with Go, which is
# then not installed.
ARG BASE_IMAGE=debian:12
ARG BUILD_IMAGE=${BASE_IMAGE}

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
RUN apt-get update -q && apt-get install -q -y --no-install-recommends make git ca-certificates
COPY scripts/deps.sh scripts/go.sh scripts/
RUN scripts/deps.sh build && scripts/go.sh
# Modules change rarely, so they have a layer of their own.
ENV GOTOOLCHAIN=auto
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN make build VERSION="$VERSION"

FROM ${BASE_IMAGE}
RUN groupadd --system --gid 10001 dkv \
 && useradd --system --uid 10001 --gid dkv --home-dir /var/lib/dkv --create-home dkv
COPY --from=build /src/bin/dkvsrv /src/bin/dkvctl /usr/local/bin/
USER dkv
# root-folder is ./data by default, so data is below this folder.
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
CMD ["dkvsrv"]
