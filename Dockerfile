# A small image with the program, the library and its header, for CPUs:
#
#     docker build -t cohort .
#     docker run --rm -v "$PWD:/data" cohort generate --model model --prompt 'Once upon a time'
#
# Reward programs (exec:...) run inside the container: build upon this image what they need.
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make
COPY . /source
WORKDIR /source
RUN scripts/install-deps build && make BUILD=/build CMAKE_FLAGS=-DCOHORT_WERROR=ON install PREFIX=/usr/local

FROM debian:12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpcre2-8-0 libjansson4 libyaml-0-2 libutf8proc2 libnettle8 zlib1g libzstd1 libsnappy1v5 libsqlite3-0 libmicrohttpd12 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/ /usr/local/
RUN ldconfig && cohort info --device cpu
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["cohort"]
CMD ["--help"]
