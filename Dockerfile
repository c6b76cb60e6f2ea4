# The program in a small image that runs as a user of its own:
#
#     docker build -t switchboard:local .
#     docker run --rm -p 6000:6000 -v log:/var/lib/switchboard switchboard:local serve --bus memory
#
# FEATURES adds cargo features, such as --build-arg FEATURES=kafka,postgres for another broker than Redis and another
# database than SQLite.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
ARG FEATURES=""
# The client of Kafka is C, and its build wants a C++ compiler too.
RUN case ",$FEATURES," in *,kafka,*|*,all-brokers,*) \
        apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/* ;; \
    esac
# rust-toolchain.toml stays out: the image is the toolchain.
COPY Cargo.toml Cargo.lock build.rs ./
COPY migrations migrations
COPY src src
RUN cargo build --release --locked --bin switchboard --features "$FEATURES" \
    && install -D target/release/switchboard /out/switchboard

FROM debian:bookworm-slim
# A volume that is new takes its owner from the folder in the image.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin switchboard \
    && install -d -o switchboard -g switchboard /var/lib/switchboard /edge
COPY --from=build /out/switchboard /usr/local/bin/switchboard
USER switchboard
WORKDIR /var/lib/switchboard
ENV SWITCHBOARD_LISTEN__TCP=0.0.0.0:6000 \
    SWITCHBOARD_LISTEN__HTTP=0.0.0.0:7000 \
    SWITCHBOARD_STORE__URL=sqlite:///var/lib/switchboard/switchboard.db
VOLUME /var/lib/switchboard
EXPOSE 6000 7000
STOPSIGNAL SIGTERM
# Asks /livez, without another program in the image.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["switchboard", "doctor", "--live"]
ENTRYPOINT ["switchboard"]
CMD ["serve"]
