# A neighbour of StackStorm101. UNVERIFIED where no registry answers.

FROM redis:7.2
HEALTHCHECK --interval=30s --start-period=60s --start-interval=1s CMD ["redis-cli", "-h", "127.0.0.1", "ping"]
CMD ["redis-server", "--bind", "127.0.0.1", "--dir", "/data"]
