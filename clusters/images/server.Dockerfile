# What others wrote: a program, its libraries and nothing else, taken from this machine.
FROM scratch
COPY root/ /
# Folders that are not root's. An archive keeps whose they are, whatever builds it.
ADD owned.tar /
ENV PATH=/usr/local/bin:/usr/bin:/opt/java/bin
USER 10001:10001
