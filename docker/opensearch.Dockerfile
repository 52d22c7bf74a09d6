# OpenSearch with the neural-rank plugin; k-NN is in the official image. Build arguments come from
# neuralrank/stack/versions.env through docker-compose.yml.
ARG JDK_VERSION
ARG OPENSEARCH_VERSION

FROM maven:3-eclipse-temurin-${JDK_VERSION} AS plugin
ARG OPENSEARCH_VERSION
WORKDIR /build
COPY protos protos
COPY plugin plugin
RUN mvn --quiet --batch-mode -f plugin/pom.xml package -Dmaven.test.skip=true \
    -Dopensearch.version=${OPENSEARCH_VERSION}

FROM opensearchproject/opensearch:${OPENSEARCH_VERSION}
ARG OPENSEARCH_VERSION
COPY --from=plugin --chown=1000:1000 \
    /build/plugin/target/neural-rank-${OPENSEARCH_VERSION}.0.zip /tmp/neural-rank.zip
RUN bin/opensearch-plugin install --batch file:///tmp/neural-rank.zip && rm /tmp/neural-rank.zip
# After the plugin: opensearch-plugin reads this file, and what it leaves to the environment is known
# only when a container starts.
COPY --chown=1000:1000 neuralrank/stack/opensearch.yml config/opensearch.yml
