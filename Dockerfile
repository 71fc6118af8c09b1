# The installed layout, to be copied onto nodes: what `make install` puts into
# /usr, below /opt/sandbox/usr. `docker build -t sandbox .`; the first build
# compiles a kernel, which takes some minutes.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY deploy/install-deps.sh deploy/install-deps.sh
RUN deploy/install-deps.sh
COPY . .
RUN make install DESTDIR=/opt/sandbox

# An installer's job is to copy; the host's containerd runs what it copied:
#   docker run --rm -v /usr:/host/usr sandbox
FROM debian:bookworm-slim
COPY --from=build /opt/sandbox /opt/sandbox
CMD ["cp", "-a", "/opt/sandbox/usr/.", "/host/usr/"]
