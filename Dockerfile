# syntax=docker/dockerfile:1

# The program, built. The cache mounts keep what did not change from one build to the next.
FROM rust:1.95-slim-trixie AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY benches benches
COPY src src
# `state` stays empty, for the images.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    mkdir -p state bin \
    && cargo build --release --locked --bin switchboard \
    && cp target/release/switchboard bin/

# Only for `docker build --target with-node`: for MCP servers that are started as programs, such as with npx.
FROM node:22-trixie-slim AS with-node
WORKDIR /app
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=busybox:1.37.0-musl /bin/wget /bin/wget
COPY --from=build /build/bin/switchboard /usr/local/bin/switchboard
COPY switchboard.yam[l] ./
COPY assistants assistants
# Where STATE_DIR may lead: a new volume there takes over its owner.
COPY --from=build --chown=node:node /build/state state
USER node
# npx keeps what it fetches below its home, which a read-only file system has only in /tmp.
ENV HOME=/tmp
EXPOSE 5050
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s CMD ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:5050/healthz"]
# No shell between: SIGTERM must reach the program, or calls are cut.
ENTRYPOINT ["/usr/local/bin/switchboard"]
CMD ["serve"]

# What runs: the program, certificates, the folder. No shell, no package manager, no root.
FROM gcr.io/distroless/cc-debian13:nonroot AS switchboard
WORKDIR /app
COPY --from=busybox:1.37.0-musl /bin/wget /bin/wget
COPY --from=build /build/bin/switchboard /usr/local/bin/switchboard
# The letter in brackets makes the file optional.
COPY switchboard.yam[l] ./
COPY assistants assistants
# Where STATE_DIR may lead: a new volume there takes over its owner.
COPY --from=build --chown=nonroot:nonroot /build/state state
USER nonroot
EXPOSE 5050
# Alive, not ready: a closing program is not ready, and must not be killed for it.
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s CMD ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:5050/healthz"]
ENTRYPOINT ["/usr/local/bin/switchboard"]
CMD ["serve"]
