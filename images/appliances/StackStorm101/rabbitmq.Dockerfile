# A neighbour of StackStorm101. UNVERIFIED where no registry answers.

FROM rabbitmq:3.13
ENV RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
HEALTHCHECK --interval=30s --start-period=90s --start-interval=1s CMD ["bash", "-c", "exec 3<> /dev/tcp/127.0.0.1/5672"]
