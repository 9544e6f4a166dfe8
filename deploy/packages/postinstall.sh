#!/bin/sh
# Shows the service to systemd. It is neither started nor restarted: a new node has to be
# configured first, and the nodes of a cluster are restarted one after the other.
set -e
# Only at the first installation: later the owners are those that the administrator has chosen,
# who may also have removed the file. dpkg says "configure" and the version that was there
# before, rpm how many versions there are now.
case "$1:${2:-}" in
configure: | 1:*)
	chown root:dkv /etc/dkv /etc/dkv/dkvsrv.yaml
	chown dkv:dkv /var/lib/dkv /var/log/dkv
	;;
esac
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
