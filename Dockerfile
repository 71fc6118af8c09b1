# Builds Sandbox and its guest image, and keeps what an installation needs:
#   docker build -t sandbox .
#   docker run --rm -v /usr:/host/usr sandbox     installs below /usr of the host
ARG DEBIAN=bookworm

FROM rust:1.95-${DEBIAN} AS build
WORKDIR /src
COPY deploy/install-deps.sh deploy/
RUN deploy/install-deps.sh
COPY . .
RUN make install DESTDIR=/out PREFIX=/usr

FROM debian:${DEBIAN}-slim
COPY --from=build /out/usr /opt/sandbox/usr
CMD ["cp", "-a", "/opt/sandbox/usr/.", "/host/usr/"]
