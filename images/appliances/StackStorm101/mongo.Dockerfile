# A neighbour of StackStorm101. UNVERIFIED where no registry answers.

FROM mongo:4.4
HEALTHCHECK --interval=30s --start-period=60s --start-interval=1s CMD ["bash", "-c", "exec 3<> /dev/tcp/127.0.0.1/27017"]
CMD ["mongod", "--bind_ip", "127.0.0.1"]
