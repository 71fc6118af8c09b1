# An image that copies an installation to a host. It needs BuildKit.
#   docker build -t sandbox .
#   docker run --rm -v /usr:/host/usr sandbox     installs below /usr of the host
# From an installed tree, which `make stage` makes, instead of the sources:
#   docker build -t sandbox --build-arg FILES=tree -f Dockerfile build/stage
ARG DEBIAN=bookworm
ARG FILES=build

FROM rust:1.95-${DEBIAN} AS build
WORKDIR /src
COPY deploy/install-deps.sh deploy/
RUN deploy/install-deps.sh
COPY . .
RUN make install DESTDIR=/out PREFIX=/usr

FROM scratch AS tree
COPY usr /out/usr

FROM ${FILES} AS files

FROM debian:${DEBIAN}-slim
COPY --from=files /out/usr /opt/sandbox/usr
# A program that runs is replaced, never written over.
CMD ["cp", "-a", "--remove-destination", "/opt/sandbox/usr/.", "/host/usr/"]
