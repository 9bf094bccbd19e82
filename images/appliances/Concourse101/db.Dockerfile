# The database of Concourse101: it listens to its one neighbour, in a network that only those two share. The programs are
# those of the stack's own database.

FROM db
USER 0
RUN mkdir -m 1777 /srv/database && chmod 1777 /run && \
    find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
COPY files/wod-database /usr/local/bin/
USER 65534:65534
ENTRYPOINT ["tini", "--", "wod-database"]
CMD []
HEALTHCHECK --interval=30s --timeout=5s --retries=3 --start-period=60s --start-interval=300ms \
    CMD ["pg_isready", "--quiet", "--host=127.0.0.1", "--username=concourse"]
