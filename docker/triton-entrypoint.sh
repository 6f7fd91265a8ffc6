#!/bin/sh
# Starts Triton for production: no half-ready server, nothing loaded, unloaded or reconfigured by request.
# Further arguments are handed to tritonserver and win over these.
set -eu

# Nobody needs these interfaces here: without PTYNET_ADMIN_KEY they are closed with a key that nobody knows.
closed=model-repository,shared-memory,trace,logging
key=${PTYNET_ADMIN_KEY:-$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')}

exec tritonserver \
    --model-repository="$PTYNET_MODELS" \
    --model-control-mode=none \
    --strict-readiness=true \
    --exit-on-error=true \
    --disable-auto-complete-config \
    --allow-metrics=false \
    --http-restricted-api="$closed:ptynet-admin=$key" \
    --grpc-restricted-protocol="$closed:ptynet-admin=$key" \
    "$@"
