# A service of ours: one bundled file, the packages that cannot be bundled, and what the service reads.
# BASE_IMAGE brings Node and its libraries; named by digest, or made here FROM scratch (server.Dockerfile).
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS tried
COPY app/ /app/
# A bundle that lacks something fails here, not in a cluster.
RUN ["/usr/local/bin/node", "/app/main.js", "--help"]

FROM ${BASE_IMAGE} AS service
COPY --from=tried /app/ /app/
WORKDIR /app
ENV NODE_ENV=production
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/node", "/app/main.js"]

# It waits for the API server most of the time: compiled code and room in its heap cost it memory and save it nothing
# (docs/adr/0015-copies-and-proof.md).
FROM service AS operator
ENTRYPOINT ["/usr/local/bin/node", "--no-opt", "--max-lazy", "--optimize-for-size", "--max-semi-space-size=2", "/app/main.js"]
