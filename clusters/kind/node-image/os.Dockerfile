ARG BASE
FROM ${BASE}
ENV DEBIAN_FRONTEND=noninteractive container=docker
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
 && apt-get update && apt-get install -y --no-install-recommends \
    systemd systemd-sysv dbus containerd runc containernetworking-plugins \
    iptables nftables ipset ebtables iproute2 conntrack ethtool socat mount util-linux kmod procps \
    jq curl ca-certificates hostname dnsmasq-base rsync tar less iputils-ping tcpdump \
 && rm -f /usr/sbin/policy-rc.d && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
