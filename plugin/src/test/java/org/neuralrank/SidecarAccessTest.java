package org.neuralrank;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import org.junit.BeforeClass;
import org.junit.ClassRule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.neuralrank.sidecar.Access;
import org.opensearch.common.settings.KeyStoreWrapper;
import org.opensearch.common.settings.Settings;

public class SidecarAccessTest {

    @ClassRule
    public static final TemporaryFolder FOLDER = new TemporaryFolder();

    private static Path config;
    private final List<Access> changes = new ArrayList<>();

    @BeforeClass
    public static void issue() throws Exception {
        config = FOLDER.getRoot().toPath();
        Certificates.issue(config, "one", "EC");
        Certificates.issue(config, "two", "RSA");
        Files.writeString(config.resolve("empty.crt"), "");
        Files.writeString(config.resolve("nonsense.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        Files.writeString(config.resolve("old.key"), "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n");
    }

    private static Settings settings(String token, String... keysAndValues) {
        Settings.Builder builder = Settings.builder();
        for (int i = 0; i < keysAndValues.length; i += 2) {
            builder.put("neural_rank.tls." + keysAndValues[i], keysAndValues[i + 1]);
        }
        KeyStoreWrapper keystore = KeyStoreWrapper.create();
        keystore.setString("neural_rank.token", token.toCharArray());
        return builder.setSecureSettings(keystore).build();
    }

    private SidecarAccess access(Settings settings) {
        return new SidecarAccess(settings, config, changes::add);
    }

    private static String authorization(Access access) {
        return access.headers().get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER));
    }

    @Test
    public void withoutSettingsNothingIsEncryptedAndNothingSent() {
        Access open = access(Settings.EMPTY).current();
        assertTrue(open.credentials() instanceof InsecureChannelCredentials);
        assertTrue(open.headers().keys().isEmpty());
    }

    @Test
    public void theTokenComesFromTheKeystoreAndIsTakenAnew() {
        SidecarAccess access = access(settings("a-token-of-16-characters"));
        assertEquals("Bearer a-token-of-16-characters", authorization(access.current()));
        access.reload(settings("a-token-of-16-characters"));
        assertTrue("the same token opens no new connections", changes.isEmpty());
        access.reload(settings("another-token-of-16"));
        assertEquals(List.of("Bearer another-token-of-16"), changes.stream().map(SidecarAccessTest::authorization).toList());
        access.reload(Settings.EMPTY);
        assertTrue(changes.get(1).headers().keys().isEmpty());
    }

    @Test
    public void aTokenThatNoHeaderCanCarryIsRefusedAndNotRepeated() {
        SidecarAccess access = access(settings("good"));
        for (String bad : List.of("with space", "with\nbreak", "秘密")) {
            Exception error = assertThrows(IllegalArgumentException.class, () -> access.reload(settings(bad)));
            assertTrue(error.getMessage().contains("neural_rank.token"));
            assertFalse(error.getMessage().contains(bad));
        }
        assertEquals("Bearer good", authorization(access.current()));
        assertThrows(IllegalArgumentException.class, () -> access(settings("with space")));
    }

    @Test
    public void theTokenIsNoClusterSetting() {
        Settings plain = Settings.builder().put("neural_rank.token", "in opensearch.yml").build();
        assertThrows(IllegalArgumentException.class, () -> access(plain));
        assertFalse(NodeSettings.TOKEN.isDynamic());
    }

    @Test
    public void certificatesOfBothKindsAreRead() {
        for (String name : List.of("one", "two")) {
            Settings mutual = settings("", "ca", name + ".crt", "certificate", name + ".crt", "key", name + ".key");
            assertTrue(access(mutual).current().credentials() instanceof TlsChannelCredentials);
        }
        assertTrue(access(settings("", "ca", "system")).current().credentials() instanceof TlsChannelCredentials);
    }

    @Test
    public void whatCanNotBeUsedIsSaidWithTheSetting() {
        record Case(String words, String... settings) {}
        List<Case> cases = List.of(
            new Case("neural_rank.tls.ca: [" + config.resolve("none.crt") + "] can't be read", "ca", "none.crt"),
            new Case("neural_rank.tls.ca: [" + config.resolve("empty.crt") + "] holds no certificate", "ca", "empty.crt"),
            new Case("neural_rank.tls.ca: [" + config.resolve("nonsense.crt") + "] holds no", "ca", "nonsense.crt"),
            new Case("outside of the config directory", "ca", "../ca.crt"),
            new Case("outside of the config directory", "ca", "/etc/passwd"),
            new Case("give both or neither", "ca", "one.crt", "certificate", "one.crt"),
            new Case("used in TLS only", "certificate", "one.crt", "key", "one.key"),
            new Case("openssl pkcs8 -topk8", "ca", "one.crt", "certificate", "one.crt", "key", "old.key"),
            new Case("is not the key of", "ca", "one.crt", "certificate", "one.crt", "key", "two.key")
        );
        for (Case bad : cases) {
            Settings settings = settings("", bad.settings());
            Exception error = assertThrows(bad.words(), IllegalArgumentException.class, () -> access(settings));
            assertTrue(error.getMessage(), error.getMessage().contains(bad.words()));
        }
    }

    @Test
    public void aPairIsTakenOnceBothFilesAreNew() throws Exception {
        Files.copy(config.resolve("one.crt"), config.resolve("now.crt"), StandardCopyOption.REPLACE_EXISTING);
        Files.copy(config.resolve("one.key"), config.resolve("now.key"), StandardCopyOption.REPLACE_EXISTING);
        SidecarAccess access = access(settings("", "ca", "one.crt", "certificate", "now.crt", "key", "now.key"));
        Files.copy(config.resolve("two.crt"), config.resolve("now.crt"), StandardCopyOption.REPLACE_EXISTING);
        access.readAgain();
        assertTrue("the old pair serves on", changes.isEmpty());
        Files.copy(config.resolve("two.key"), config.resolve("now.key"), StandardCopyOption.REPLACE_EXISTING);
        access.readAgain();
        assertEquals(1, changes.size());
    }
}
