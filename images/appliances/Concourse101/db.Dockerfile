# The database of Concourse101: it listens to its one neighbour, in a network that only those two share.

FROM base
RUN --mount=type=secret,id=apt,target=/etc/apt/sources.list.d/debian.sources \
    --mount=type=secret,id=ca \
    --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    mkdir -p /etc/postgresql-common /usr/share/man/man7 && echo create_main_cluster = false > /etc/postgresql-common/createcluster.conf && \
    apt-get -o Acquire::https::CAInfo=/run/secrets/ca update && \
    apt-get -o Acquire::https::CAInfo=/run/secrets/ca install --yes --no-install-recommends postgresql-17 && \
    rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/debconf/*-old && \
    find / -xdev -type f -perm /6000 -exec chmod ug-s {} + && \
    rm -rf /var/lib/postgresql && mkdir -m 1777 /var/lib/postgresql && chmod 1777 /run /var/lib/extrausers
COPY files/wod-database /usr/local/bin/
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 65534:65534
ENTRYPOINT ["tini", "--", "wod-database"]
HEALTHCHECK --interval=30s --timeout=5s --retries=3 --start-period=60s --start-interval=300ms \
    CMD ["pg_isready", "--quiet", "--host=127.0.0.1", "--username=concourse"]
