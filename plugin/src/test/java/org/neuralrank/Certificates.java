package org.neuralrank;

import static org.junit.Assert.assertEquals;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.Key;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.util.Base64;
import java.util.List;

/** Self-signed certificates for 127.0.0.1 as PEM files, made by the JDK's keytool; nothing of it is stored in git. */
public final class Certificates {

    private static final char[] PASSWORD = "changeit".toCharArray();

    private Certificates() {}

    /** Writes {@code NAME.crt} and {@code NAME.key} into a folder. */
    public static void issue(Path folder, String name, String algorithm) throws Exception {
        Path store = folder.resolve(name + ".p12");
        List<String> command = List.of(
            Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
            "-genkeypair",
            "-alias",
            name,
            "-keyalg",
            algorithm,
            "-dname",
            "CN=" + name,
            "-ext",
            "san=ip:127.0.0.1",
            "-storetype",
            "PKCS12",
            "-keystore",
            store.toString(),
            "-storepass",
            new String(PASSWORD)
        );
        assertEquals(0, new ProcessBuilder(command).redirectErrorStream(true).start().waitFor());
        write(store, folder, name);
        Files.delete(store);
    }

    private static void write(Path store, Path folder, String name) throws GeneralSecurityException, IOException {
        KeyStore made = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(store)) {
            made.load(in, PASSWORD);
        }
        Certificate certificate = made.getCertificate(name);
        Key key = made.getKey(name, PASSWORD);
        Files.writeString(folder.resolve(name + ".crt"), pem("CERTIFICATE", certificate.getEncoded()));
        Files.writeString(folder.resolve(name + ".key"), pem("PRIVATE KEY", key.getEncoded()));
    }

    private static String pem(String kind, byte[] content) {
        String lines = Base64.getMimeEncoder(64, new byte[] { '\n' }).encodeToString(content);
        return "-----BEGIN " + kind + "-----\n" + lines + "\n-----END " + kind + "-----\n";
    }
}
