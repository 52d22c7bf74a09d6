package org.neuralrank.search;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertSame;
import static org.junit.Assert.assertTrue;

import java.io.IOException;
import java.util.List;
import java.util.Set;
import org.junit.Before;
import org.junit.Test;
import org.opensearch.Version;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.cluster.ClusterName;
import org.opensearch.cluster.ClusterState;
import org.opensearch.cluster.metadata.AliasMetadata;
import org.opensearch.cluster.metadata.IndexMetadata;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.cluster.metadata.Metadata;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.core.common.io.stream.NamedWriteableRegistry;

public class IndicesTest {

    private static final String PLAIN = "{\"properties\":{\"text_vector\":{\"type\":\"text\"},"
        + "\"inner\":{\"properties\":{\"code\":{\"type\":\"text\"}}}}}";

    private Indices indices;

    private static IndexMetadata index(String name, String mapping, int window) throws IOException {
        return IndexMetadata.builder(name)
            .settings(
                Settings.builder()
                    .put(IndexMetadata.SETTING_VERSION_CREATED, Version.CURRENT)
                    .put(IndexMetadata.SETTING_INDEX_UUID, name + "-uuid")
                    .put("index.max_result_window", window)
            )
            .numberOfShards(1)
            .numberOfReplicas(0)
            .putMapping(mapping)
            .putAlias(AliasMetadata.builder("alias-of-" + name))
            .build();
    }

    private static String vectors(String encoder) {
        return "{\"_meta\":{\"neuralrank\":{\"encoder\":\"" + encoder + "\",\"image_encoder\":\"colours@3\","
            + "\"packed_vectors\":{\"text_vector\":\"packed\",\"image_vector\":\"packed_photo\"}}},"
            + "\"properties\":{"
            + "\"image_vector\":{\"type\":\"knn_vector\",\"dimension\":256},"
            + "\"text_vector\":{\"type\":\"knn_vector\",\"dimension\":384},"
            + "\"brand\":{\"type\":\"text\",\"fields\":{\"keyword\":{\"type\":\"keyword\"}}},"
            + "\"attributes\":{\"type\":\"flat_object\"},"
            + "\"maker\":{\"type\":\"alias\",\"path\":\"brand.keyword\"},"
            + "\"named\":{\"type\":\"alias\",\"path\":\"brand\"},"
            + "\"offers\":{\"type\":\"nested\",\"properties\":{\"size\":{\"type\":\"keyword\"}}},"
            + "\"inner\":{\"properties\":{\"code\":{\"type\":\"long\"},"
            + "\"v\":{\"type\":\"knn_vector\",\"dimension\":8}}}}}";
    }

    @Before
    public void build() throws IOException {
        ClusterState state = ClusterState.builder(new ClusterName("c"))
            .metadata(
                Metadata.builder()
                    .put(index("one", vectors("e@1"), 50), false)
                    .put(index("two", vectors("e@2"), 100), false)
                    .put(index("bare", "{\"_source\":{\"enabled\":false},\"properties\":{}}", 100), false)
                    .put(index("plain", PLAIN, 100), false)
            )
            .build();
        indices = new Indices(
            () -> state,
            new IndexNameExpressionResolver(new ThreadContext(Settings.EMPTY)),
            new NamedWriteableRegistry(List.of())
        );
    }

    private Indices.Target of(String field, String... names) {
        return indices.of(new SearchRequest(names), field);
    }

    @Test
    public void theMappingSaysWhatVectorsThereAre() {
        Indices.Target one = of("text_vector", "one");
        assertEquals(
            new Indices.Target("one", false, true, Set.of(), 384, Set.of("e@1"), 50, true, one.fields(), one.vectors()),
            one
        );
        assertEquals(8, of("inner.v", "one").dimensions());
        assertFalse(of("other", "one").hasVectors());
        assertFalse("a text field is no vector", of("text_vector", "plain").hasVectors());
    }

    @Test
    public void allVectorsOfOursAreKnownAndTheFieldThatIsSearched() {
        Set<String> ours = Set.of("text_vector", "packed", "image_vector", "packed_photo");
        assertEquals(ours, of("text_vector", "one").vectors());
        assertEquals("others' are not", ours, of("other", "one", "plain").vectors());
        assertTrue(of("inner.v", "one").vectors().contains("inner.v"));
        assertEquals(Set.of(), of("text_vector", "plain").vectors());
    }

    @Test
    public void photosHaveAnEncoderOfTheirOwn() {
        assertEquals(Set.of("colours@3"), of("image_vector", "one").encoders());
        assertEquals(256, of("image_vector", "one").dimensions());
        assertFalse(of("image_vector", "plain").hasVectors());
    }

    @Test
    public void aSourceThatOneOfThemDoesNotKeepIsNotFetchedFrom() {
        assertTrue(of("text_vector", "one", "plain").hasSource());
        assertFalse(of("text_vector", "one", "bare").hasSource());
    }

    @Test
    public void fieldsWithoutAnalysisAreKnown() {
        Indices.Target one = of("text_vector", "one");
        assertTrue(one.isExact("brand.keyword") && one.isExact("inner.code"));
        assertFalse(one.isExact("brand") || one.isExact("inner") || one.isExact("nowhere"));
        assertTrue("an index without it says nothing", of("text_vector", "one", "bare").isExact("inner.code"));
        assertFalse("text in one of them", of("text_vector", "one", "plain").isExact("inner.code"));
    }

    @Test
    public void everyNameBelowAFlatObjectIsWithoutAnalysis() {
        Indices.Target one = of("text_vector", "one");
        for (String name : List.of("attributes", "attributes.内存", "attributes.screen.size", "attr*es")) {
            assertTrue(name, one.isExact(name));
        }
        assertFalse(one.isExact("attributes_text"));
    }

    @Test
    public void anAliasOfAFieldIsSearchedAsTheField() {
        Indices.Target one = of("text_vector", "one");
        assertTrue(one.isExact("maker"));
        assertFalse(one.isExact("named"));
    }

    @Test
    public void whatEveryDocumentHasIsWithoutAnalysis() {
        for (String name : List.of("_id", "_index", "_routing")) {
            assertTrue(name, of("text_vector", "plain").isExact(name));
        }
    }

    @Test
    public void ofAPatternAllFieldsMustBeWithoutAnalysis() {
        Indices.Target one = of("text_vector", "one");
        assertTrue(one.isExact("brand.*") && one.isExact("inner.c*") && one.isExact("off*"));
        assertFalse("text among them", one.isExact("brand*") || one.isExact("*"));
        assertFalse("of none", one.isExact("nowhere.*") || one.isExact("offers") || one.isExact("attributes.*"));
        assertFalse("text in one of them", of("text_vector", "one", "plain").isExact("inner.c*"));
    }

    @Test
    public void severalIndicesAreSeenTogether() {
        Indices.Target both = of("text_vector", "one", "two");
        assertEquals(Set.of("e@1", "e@2"), both.encoders());
        assertEquals(50, both.maxResultWindow());
        assertTrue(both.isSeveral());
        assertEquals("one,two", both.name());
        assertEquals("one,two", of("text_vector", "two", "alias-of-one").name());
        assertTrue(of("text_vector", "one", "plain").hasVectors());
        assertEquals(Set.of("plain"), of("text_vector", "one", "plain").withoutVectors());
    }

    @Test
    public void anAliasKeepsItsNameAndAPatternIsResolved() {
        assertEquals("alias-of-one", of("text_vector", "alias-of-one").name());
        assertEquals("one", of("text_vector", "on*").name());
        assertEquals("bare,one,plain,two", of("text_vector").name());
    }

    /** Its hits may have the index and the id of one here. */
    @Test
    public void nothingIsKnownWhereAnotherClusterIsSearchedToo() {
        for (String elsewhere : List.of("other:one", "other:*", "oth*:<one-{now/d}>")) {
            assertSame(elsewhere, Indices.Target.UNKNOWN, of("text_vector", "one", elsewhere));
            assertSame(elsewhere, Indices.Target.UNKNOWN, of("text_vector", elsewhere));
        }
        assertEquals("a zone is no cluster", "one", of("text_vector", "<{now/d{'one'|+08:00}}>").name());
    }

    @Test
    public void whatCannotBeResolvedIsLeftToTheSearchItself() {
        assertSame(Indices.Target.UNKNOWN, of("text_vector", "missing"));
    }
}
