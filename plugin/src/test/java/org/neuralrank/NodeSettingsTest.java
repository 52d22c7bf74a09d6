package org.neuralrank;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.opensearch.common.settings.Settings;

public class NodeSettingsTest {

    @Rule
    public final TemporaryFolder home = new TemporaryFolder();

    private static List<String> endpoints(String value) {
        return NodeSettings.ENDPOINT.get(Settings.builder().put("neural_rank.endpoint", value).build());
    }

    @Test
    public void addressesAreCheckedWhereTheyAreSet() {
        assertEquals(List.of("127.0.0.1:50051"), NodeSettings.ENDPOINT.get(Settings.EMPTY));
        assertEquals(List.of("a:1", "b.example:65535"), endpoints("a:1,b.example:65535"));
        assertEquals(List.of("[::1]:50051"), endpoints("[::1]:50051"));
        assertEquals(List.of("unix:///run/neuralrank.sock"), endpoints("unix:///run/neuralrank.sock"));
        List<String> wrong = List.of("host", "host:", ":1", "host:0", "host:65536", "http://h:1", "::1:5", "unix:///");
        for (String bad : wrong) {
            assertThrows(bad, IllegalArgumentException.class, () -> endpoints(bad));
        }
    }

    private List<String> accepted(String... plugins) throws IOException {
        Path folder = Files.createDirectories(home.getRoot().toPath().resolve("plugins"));
        for (String plugin : plugins) {
            Path descriptor = Files.createDirectories(folder.resolve(plugin)).resolve("plugin-descriptor.properties");
            Files.writeString(descriptor, "name=" + plugin + "\n");
        }
        return ForeignSections.accepted(Settings.builder().put("path.home", home.getRoot().toPath()).build());
    }

    @Test
    public void sectionsOfInstalledPluginsAreLeftToThem() throws IOException {
        assertEquals(List.of("personalize_request_parameters", "rerank", "ubi"), accepted("neural-rank"));
        assertEquals(List.of("personalize_request_parameters", "rerank"), accepted("opensearch-ubi"));
        assertEquals(List.of("personalize_request_parameters"), accepted("opensearch-neural-search"));
    }

    @Test
    public void sectionsCanBeNamed() {
        Settings settings = Settings.builder().putList("neural_rank.accept_ext", "ubi").build();
        assertEquals(List.of("ubi"), ForeignSections.accepted(settings));
        Settings wrong = Settings.builder().putList("neural_rank.accept_ext", "other").build();
        assertThrows(IllegalArgumentException.class, () -> ForeignSections.accepted(wrong));
    }
}
