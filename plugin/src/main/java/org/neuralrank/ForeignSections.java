package org.neuralrank;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.opensearch.common.settings.Settings;

/**
 * Decides which {@code ext} sections of other plugins this plugin registers.
 *
 * <p>OpenSearch rejects a section that nobody registered, and refuses to start when two plugins register the same
 * one (the registry of named contents allows no duplicates). A plugin is not told what others register, so the
 * folder of installed plugins is read: a section belongs to the plugins named here.
 */
final class ForeignSections {

    private static final Logger LOGGER = LogManager.getLogger(ForeignSections.class);

    /** Sections by name, each with words that occur in the names of the plugins that own it. */
    private static final Map<String, List<String>> OWNERS = Map.of(
        "rerank",
        List.of("neural-search"),
        "personalize_request_parameters",
        List.of("search-processor", "personalize"),
        "ubi",
        List.of("ubi", "user-behavior-insights")
    );

    static final List<String> NAMES = OWNERS.keySet().stream().sorted().toList();

    private ForeignSections() {}

    /** The sections to register on a node with these settings. */
    static List<String> accepted(Settings settings) {
        List<String> asked = NodeSettings.ACCEPT_EXT.get(settings);
        if (!asked.contains("auto")) {
            return asked;
        }
        List<String> plugins = installed(settings);
        return NAMES.stream().filter(name -> plugins.stream().noneMatch(plugin -> owns(plugin, name))).toList();
    }

    private static boolean owns(String plugin, String section) {
        return OWNERS.get(section).stream().anyMatch(plugin::contains);
    }

    /** Names from the descriptors of the node's plugins; empty if there is no such folder. */
    private static List<String> installed(Settings settings) {
        String home = settings.get("path.home");
        if (home == null) {
            return List.of();
        }
        Path plugins = Path.of(home, "plugins");
        List<String> names = new ArrayList<>();
        try (DirectoryStream<Path> folders = Files.newDirectoryStream(plugins)) {
            for (Path folder : folders) {
                Path descriptor = folder.resolve("plugin-descriptor.properties");
                if (Files.isRegularFile(descriptor)) {
                    try (InputStream in = Files.newInputStream(descriptor)) {
                        Properties properties = new Properties();
                        properties.load(in);
                        names.add(properties.getProperty("name", ""));
                    }
                }
            }
        } catch (IOException e) {
            LOGGER.warn("can't read the folder of plugins; if the node does not start, set neural_rank.accept_ext", e);
        }
        return names;
    }
}
