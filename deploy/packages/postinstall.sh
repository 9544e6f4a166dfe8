#!/bin/sh
# Shows the service to systemd. It is neither started nor restarted: a new node has to be
# configured first, and the nodes of a cluster are restarted one after the other.
set -e
chown root:dkv /etc/dkv /etc/dkv/dkvsrv.yaml
chown dkv:dkv /var/lib/dkv
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
