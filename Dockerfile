# syntax=docker/dockerfile:1
# Base images are pinned by digest, so that a rebuild uses the same bytes. To update one, look up the digest of its tag:
# docker buildx imagetools inspect NAME:TAG

# Builds the program. The cache mounts keep what did not change from one build to the next.
FROM rust:1.95-slim-trixie@sha256:ee4fa026a11f9e8b1b00568364a880dc720409bb94b0e6800f63f974f9c909d5 AS build
# The images' first process, see below.
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY benches benches
COPY src src
# `state` stays empty: the images copy it with the right owner.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    mkdir -p state bin \
    && cargo build --release --locked --bin switchboard \
    && cp target/release/switchboard bin/

# Provides wget for the health checks.
FROM busybox:1.37.0-musl@sha256:222ad6d973c0d198014546a65cd02c5fdedcc172123c5b4c2bf0af636550bd94 AS busybox

# For MCP servers that are started as programs, such as with npx: `docker build --target with-node`.
FROM node:22-trixie-slim@sha256:b26b04c123d9ff8ab646ceb18b9d75a1173acf64b9a401094b906d27b29338d4 AS with-node
WORKDIR /app
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=busybox /bin/wget /bin/wget
COPY --from=build --chmod=0111 /usr/bin/tini-static /usr/local/bin/tini
COPY --from=build /build/bin/switchboard /usr/local/bin/switchboard
COPY switchboard.yam[l] ./
COPY assistants assistants
# STATE_DIR, by default /app/state: a new volume mounted here inherits its owner.
COPY --from=build --chown=node:node /build/state state
USER node
# npx stores what it downloads below its home. In a read-only file system only /tmp is writable.
ENV HOME=/tmp
EXPOSE 5050
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s CMD ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:5050/healthz"]
# `tini` passes signals on, and reaps what the programs of MCP servers leave behind; without it, every such process would
# stay as a zombie. Nobody but root may read it (0111), so the system hides its environment, which has the secrets, from
# those programs. No shell in between: SIGTERM must reach the program, or calls are cut.
ENTRYPOINT ["/usr/local/bin/tini", "-s", "--", "/usr/local/bin/switchboard"]
CMD ["serve"]

# The image that runs: program, certificates, assistants. No shell, no package manager, no root.
FROM gcr.io/distroless/cc-debian13:nonroot@sha256:54df941ed0d06a1bd95ef5e0ce391fd8d9f94b64782dc9a60062727849ee3f97 AS switchboard
WORKDIR /app
COPY --from=busybox /bin/wget /bin/wget
COPY --from=build --chmod=0111 /usr/bin/tini-static /usr/local/bin/tini
COPY --from=build /build/bin/switchboard /usr/local/bin/switchboard
# The brackets make the file optional.
COPY switchboard.yam[l] ./
COPY assistants assistants
# STATE_DIR, by default /app/state: a new volume mounted here inherits its owner.
COPY --from=build --chown=nonroot:nonroot /build/state state
USER nonroot
EXPOSE 5050
# Alive, not ready: a draining program is not ready, and must not be killed for it.
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s CMD ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1:5050/healthz"]
ENTRYPOINT ["/usr/local/bin/tini", "-s", "--", "/usr/local/bin/switchboard"]
CMD ["serve"]
