package org.neuralrank.search;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.opensearch.action.search.SearchContextId;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.cluster.ClusterState;
import org.opensearch.cluster.metadata.IndexMetadata;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.common.regex.Regex;
import org.opensearch.core.common.io.stream.NamedWriteableRegistry;
import org.opensearch.core.index.Index;
import org.opensearch.index.IndexSettings;

/** Looks up what the cluster state says about the indices of a search. */
public final class Indices {

    // Far more than a node has product indices; reached only by very many, and then everything is read again.
    private static final int CACHED_MAPPINGS = 1_000;
    /** An object that is one field, with every name below it. */
    private static final String FLAT = "flat_object";
    /** Types of fields that are searched for as they are. */
    private static final Set<String> EXACT = Set.of(
        "boolean",
        "byte",
        "constant_keyword",
        "date",
        "date_nanos",
        "double",
        FLAT,
        "float",
        "half_float",
        "integer",
        "ip",
        "keyword",
        "long",
        "scaled_float",
        "short",
        "unsigned_long",
        "version",
        "wildcard"
    );
    /** What every document has, which is searched for as it is. */
    private static final Set<String> METADATA = Set.of("_id", "_index", "_routing");
    /** Types of what only holds fields. */
    private static final Set<String> OBJECTS = Set.of("nested", "object");
    // The contract's limit.
    private static final int LONGEST_NAME = 1_024;

    /**
     * The indices of one search.
     *
     * @param name             what the sidecar is to look items up in: one name, or several with commas between them;
     *                         empty if there is none, or they are too long
     * @param isSeveral        whether that is several indices, which may share ids
     * @param hasVectors       whether at least one index has the vector field
     * @param withoutVectors   the indices that lack it
     * @param dimensions       of the vector field, 0 if not known or not the same everywhere
     * @param encoders         the encoders that {@code _meta.neuralrank.encoder} names, without repetition
     * @param maxResultWindow  the least {@code index.max_result_window}
     * @param hasSource        whether fields can be fetched from the source of documents in all of them
     * @param fields           of each index, the types of its fields by their paths
     * @param vectors          the vector field where it is one, and all fields of vectors that
     *                         {@code _meta.neuralrank.packed_vectors} names
     */
    public record Target(
        String name,
        boolean isSeveral,
        boolean hasVectors,
        Set<String> withoutVectors,
        int dimensions,
        Set<String> encoders,
        int maxResultWindow,
        boolean hasSource,
        List<Map<String, String>> fields,
        Set<String> vectors
    ) {
        /** Nothing is known. */
        public static final Target UNKNOWN = new Target(
            "",
            false,
            false,
            Set.of(),
            0,
            Set.of(),
            10_000,
            true,
            List.of(),
            Set.of()
        );

        /** Whether a field, or all of a pattern, are searched for as they are, without analysis, wherever they are. */
        boolean isExact(String field) {
            List<String> types = fields.stream().flatMap(index -> types(field, index)).toList();
            return METADATA.contains(field) || (!types.isEmpty() && EXACT.containsAll(types));
        }

        /** Those of what a name or a pattern stands for in an index. */
        private static Stream<String> types(String field, Map<String, String> index) {
            if (Regex.isSimpleMatchPattern(field)) {
                return index.keySet().stream().filter(name -> Regex.simpleMatch(field, name)).map(index::get);
            }
            for (int end = field.indexOf('.'); end > 0; end = field.indexOf('.', end + 1)) {
                if (FLAT.equals(index.get(field.substring(0, end)))) {
                    return Stream.of(FLAT);
                }
            }
            return Stream.ofNullable(index.get(field));
        }
    }

    /** The field of vectors of photos. */
    static final String PHOTOS = "image_vector";

    private record Mapping(
        boolean isVector,
        int dimensions,
        String encoder,
        boolean hasSource,
        Map<String, String> fields,
        Set<String> vectors
    ) {}

    private record MappingKey(String uuid, long version, String field) {}

    private final Supplier<ClusterState> clusterState;
    private final IndexNameExpressionResolver resolver;
    private final NamedWriteableRegistry registry;
    private final Map<MappingKey, Mapping> mappings = new ConcurrentHashMap<>();

    /** @param clusterState the state of now */
    public Indices(
        Supplier<ClusterState> clusterState,
        IndexNameExpressionResolver resolver,
        NamedWriteableRegistry registry
    ) {
        this.clusterState = clusterState;
        this.resolver = resolver;
        this.registry = registry;
    }

    /**
     * What is known of a search's indices; {@link Target#UNKNOWN} where the search itself will say what is wrong, or
     * where some are another cluster's: hits of theirs are not told from hits of an index of that name here, neither
     * by the ranker, which looks items up in this cluster, nor among neighbours.
     */
    public Target of(SearchRequest request, String vectorField) {
        try {
            return look(request, vectorField);
        } catch (RuntimeException e) {
            return Target.UNKNOWN;
        }
    }

    private Target look(SearchRequest request, String vectorField) {
        ClusterState state = clusterState.get();
        String[] asked = request.indices();
        Index[] concrete;
        if (request.pointInTimeBuilder() != null) {
            // With a point in time a request names no index: the id holds the real ones.
            asked = SearchContextId.decode(registry, request.pointInTimeBuilder().getId()).getActualIndices();
            concrete = Arrays.stream(asked)
                .map(name -> state.metadata().index(name))
                .filter(Objects::nonNull)
                .map(IndexMetadata::getIndex)
                .toArray(Index[]::new);
        } else {
            concrete = resolver.concreteIndices(state, request);
        }
        if (Arrays.stream(asked).anyMatch(Indices::isOfAnotherCluster)) {
            return Target.UNKNOWN;
        }
        boolean hasVectors = false;
        Set<String> vectors = new TreeSet<>();
        Set<String> withoutVectors = new TreeSet<>();
        boolean hasSource = true;
        List<Map<String, String>> fields = new ArrayList<>();
        int window = Integer.MAX_VALUE;
        Set<Integer> dimensions = new TreeSet<>();
        Set<String> encoders = new TreeSet<>();
        for (Index index : concrete) {
            IndexMetadata metadata = state.metadata().index(index);
            if (metadata == null) {
                continue;
            }
            window = Math.min(window, IndexSettings.MAX_RESULT_WINDOW_SETTING.get(metadata.getSettings()));
            Mapping mapping = mapping(metadata, vectorField);
            hasSource &= mapping.hasSource;
            fields.add(mapping.fields);
            vectors.addAll(mapping.vectors);
            if (mapping.isVector) {
                hasVectors = true;
                dimensions.add(mapping.dimensions);
                encoders.add(mapping.encoder);
            } else {
                withoutVectors.add(index.getName());
            }
        }
        encoders.remove("");
        return new Target(
            name(asked, concrete),
            concrete.length > 1,
            hasVectors,
            withoutVectors,
            dimensions.size() == 1 ? dimensions.iterator().next() : 0,
            encoders,
            window,
            hasSource,
            fields,
            vectors
        );
    }

    /** As {@code cluster:index}; a date in {@code <…>} may have a colon too. */
    private static boolean isOfAnotherCluster(String asked) {
        return asked.indexOf(':') > 0 && !asked.startsWith("<");
    }

    private static String name(String[] asked, Index[] concrete) {
        // An alias stays an alias: the sidecar's caches then survive a switch to a new index behind it.
        if (asked.length == 1 && asked[0].matches("[^*,<>+:-][^*,<>:]*") && !asked[0].equals("_all")) {
            return asked[0];
        }
        String names = Arrays.stream(concrete).map(Index::getName).sorted().collect(Collectors.joining(","));
        return names.length() <= LONGEST_NAME ? names : "";
    }

    private Mapping mapping(IndexMetadata metadata, String field) {
        if (mappings.size() > CACHED_MAPPINGS) {
            mappings.clear();
        }
        return mappings.computeIfAbsent(
            new MappingKey(metadata.getIndexUUID(), metadata.getMappingVersion(), field),
            key -> read(metadata, field)
        );
    }

    private static Mapping read(IndexMetadata metadata, String field) {
        if (metadata.mapping() == null) {
            return new Mapping(false, 0, "", true, Map.of(), Set.of());
        }
        Map<?, ?> root = metadata.mapping().sourceAsMap();
        boolean hasSource = !(root.get("_source") instanceof Map<?, ?> source)
            || !"false".equals(String.valueOf(source.get("enabled")));
        Map<String, String> fields = types(root.get("properties"));
        Map<?, ?> ours = root.get("_meta") instanceof Map<?, ?> meta
            && meta.get("neuralrank") instanceof Map<?, ?> noted ? noted : Map.of();
        Set<String> vectors = new TreeSet<>(packed(ours));
        Object at = root;
        for (String step : field.split("\\.")) {
            boolean hasFields = at instanceof Map<?, ?> map && map.get("properties") instanceof Map<?, ?>;
            at = hasFields ? ((Map<?, ?>) ((Map<?, ?>) at).get("properties")).get(step) : null;
        }
        if (!(at instanceof Map<?, ?> mapped) || !"knn_vector".equals(mapped.get("type"))) {
            return new Mapping(false, 0, "", hasSource, fields, vectors);
        }
        int dimensions = mapped.get("dimension") == null ? 0 : Integer.parseInt(mapped.get("dimension").toString());
        String said = field.equals(PHOTOS) ? "image_encoder" : "encoder";
        String encoder = ours.get(said) instanceof String name ? name : "";
        vectors.add(field);
        return new Mapping(true, dimensions, encoder, hasSource, fields, vectors);
    }

    /** The fields of vectors that come twice, and those of their packed form. */
    private static List<String> packed(Map<?, ?> ours) {
        return ours.get("packed_vectors") instanceof Map<?, ?> forms
            ? forms.entrySet()
                .stream()
                .flatMap(form -> Stream.of(form.getKey(), form.getValue()))
                .map(String::valueOf)
                .toList()
            : List.of();
    }

    /** Of the fields of a mapping by their paths; an alias has that of the field that it stands for. */
    private static Map<String, String> types(Object properties) {
        Map<String, Map<?, ?>> fields = new HashMap<>();
        collect("", properties, fields);
        Map<String, String> types = new HashMap<>();
        fields.forEach((path, field) -> {
            Map<?, ?> meant = "alias".equals(field.get("type")) ? fields.get(field.get("path")) : field;
            if (meant != null) {
                types.put(path, (String) meant.get("type"));
            }
        });
        return types;
    }

    /** Fields below {@code properties} or {@code fields}, by their paths. */
    private static void collect(String path, Object properties, Map<String, Map<?, ?>> into) {
        if (!(properties instanceof Map<?, ?> named)) {
            return;
        }
        named.forEach((name, value) -> {
            if (value instanceof Map<?, ?> field) {
                if (field.get("type") instanceof String type && !OBJECTS.contains(type)) {
                    into.put(path + name, field);
                }
                collect(path + name + ".", field.get("properties"), into);
                collect(path + name + ".", field.get("fields"), into);
            }
        });
    }
}
