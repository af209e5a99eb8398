# kube-proxy and the network of pods need the iptables family: taken, with their libraries, out of the node's packages.
ARG OS
FROM ${OS} AS os
RUN set -e; mkdir -p /o/etc /o/run /o/tmp /o/usr/sbin /o/usr/bin /o/usr/lib/x86_64-linux-gnu /o/usr/lib64 /o/usr/local/bin; \
    for l in bin sbin lib lib64; do cp -a /$l /o/; done; \
    for f in /usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/conntrack /usr/sbin/ipset /usr/bin/kmod; do cp -aL $f /o$f; done; \
    for f in /o/usr/sbin/[xnc]* /o/usr/sbin/ipset /o/usr/bin/kmod /usr/lib/x86_64-linux-gnu/xtables/*.so; do ldd $f | grep -o '/[^ ]*'; done | sort -u | while read l; do mkdir -p /o$(dirname $l); cp -aL $l /o$l; done; \
    cp -a /usr/lib/x86_64-linux-gnu/xtables /o/usr/lib/x86_64-linux-gnu/; \
    for f in iptables ip6tables; do for s in '' -save -restore; do ln -s xtables-nft-multi /o/usr/sbin/$f$s; done; done; \
    ln -s ../bin/kmod /o/usr/sbin/modprobe; cp -a /etc/protocols /etc/services /o/etc/ 2>/dev/null || true

FROM scratch AS tables
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY --from=os /o/ /

FROM tables AS kube-proxy
COPY kube-proxy /usr/local/bin/kube-proxy
ENTRYPOINT ["kube-proxy"]

FROM tables AS podnet
COPY podnet /usr/local/bin/podnet
ENTRYPOINT ["podnet"]
