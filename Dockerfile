# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
# SQLite, libpq and OpenSSL are compiled in, so that the image below needs none of them.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin actas \
    && install -D target/release/actas /out/actas

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/actas --shell /usr/sbin/nologin actas \
    && install --directory --owner=actas --mode=0700 /var/lib/actas
COPY --from=build /out/actas /usr/local/bin/actas
USER 10001
# For SQLite. A volume that is mounted here takes over its owner.
WORKDIR /var/lib/actas
# The OpenSSL inside looks elsewhere by itself: with this, `sslmode=verify-full&sslrootcert=system` finds the certificates.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    ACTAS_BIND=0.0.0.0:8080 \
    ACTAS_DATABASE_URL=sqlite:///var/lib/actas/actas.db
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/actas", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/actas"]
CMD ["serve"]
