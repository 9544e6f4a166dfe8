#!/bin/sh
# Makes the user that the service runs as. Files of the package belong to it.
set -e
getent group dkv >/dev/null || groupadd --system dkv
getent passwd dkv >/dev/null ||
	useradd --system --gid dkv --home-dir /var/lib/dkv --no-create-home --shell /usr/sbin/nologin --comment "DKV node" dkv
