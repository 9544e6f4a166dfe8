#!/bin/sh
# The entry point of the image. Without arguments, or with flags alone, it runs dkvsrv;
# anything else is the command to run, such as dkvsrv or dkvctl.
set -eu
case ${1:--} in
-*) set -- dkvsrv "$@" ;;
esac
exec "$@"
