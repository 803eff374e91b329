# syntax=docker/dockerfile:1

# The program, built. What it depends on is a layer of its own, which changes with Cargo.lock alone.
FROM rust:1.95-slim-trixie AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
# Cargo wants to see every target that Cargo.toml names. `state` stays empty, for the images.
RUN mkdir -p src benches state \
    && echo 'fn main() {}' | tee src/main.rs benches/frames.rs benches/load.rs benches/roster.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --bin switchboard
COPY src src
# Newer than what was built above, whatever time the files bear.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --bin switchboard

# Only for `docker build --target with-node`: for MCP servers that are started as programs, such as with npx.
FROM node:22-trixie-slim AS with-node
WORKDIR /app
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=busybox:1.37.0-musl /bin/wget /bin/wget
COPY --from=build /build/target/release/switchboard /usr/local/bin/switchboard
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
COPY --from=build /build/target/release/switchboard /usr/local/bin/switchboard
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
