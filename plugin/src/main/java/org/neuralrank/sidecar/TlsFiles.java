package org.neuralrank.sidecar;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.Signature;
import java.security.cert.Certificate;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.List;

/**
 * The PEM files of the connection to sidecars, checked when they are read: gRPC would take what it can't use, and
 * fail at every handshake.
 */
public final class TlsFiles {

    private static final String SYSTEM = "system";
    private static final String CA = "neural_rank.tls.ca";
    private static final String CERTIFICATE = "neural_rank.tls.certificate";
    private static final String KEY = "neural_rank.tls.key";
    private static final String BEGIN = "-----BEGIN PRIVATE KEY-----";
    private static final String END = "-----END PRIVATE KEY-----";

    private final boolean trustsSystem;
    private final Path ca;
    private final Path certificate;
    private final Path key;

    /**
     * @param config      the node's config directory; OpenSearch lets plugins read nothing beyond it
     * @param ca          value of {@code neural_rank.tls.ca}; empty for no TLS
     * @param certificate value of {@code neural_rank.tls.certificate}; empty for none
     * @param key         value of {@code neural_rank.tls.key}; empty for none
     * @throws IllegalArgumentException they don't go together, or lie elsewhere
     */
    public TlsFiles(Path config, String ca, String certificate, String key) {
        if (certificate.isEmpty() != key.isEmpty()) {
            throw new IllegalArgumentException(
                CERTIFICATE + " is [" + certificate + "] and " + KEY + " is [" + key + "]; give both or neither"
            );
        }
        if (!certificate.isEmpty() && ca.isEmpty()) {
            throw new IllegalArgumentException(
                CERTIFICATE
                    + " is used in TLS only; name the authority of the sidecar's certificate in "
                    + CA
                    + " too, or system for those that the JDK trusts"
            );
        }
        this.trustsSystem = ca.equals(SYSTEM);
        this.ca = ca.isEmpty() || trustsSystem ? null : inside(config, CA, ca);
        this.certificate = certificate.isEmpty() ? null : inside(config, CERTIFICATE, certificate);
        this.key = key.isEmpty() ? null : inside(config, KEY, key);
    }

    private static Path inside(Path config, String setting, String value) {
        Path path = config.resolve(value).normalize();
        if (!path.startsWith(config.normalize())) {
            throw new IllegalArgumentException(
                setting
                    + " is ["
                    + value
                    + "], outside of the config directory ["
                    + config
                    + "], which OpenSearch lets no plugin read; put the file there and name it relative to it"
            );
        }
        return path;
    }

    /** Whether connections are encrypted. */
    public boolean isOn() {
        return trustsSystem || ca != null;
    }

    /** The files, to be watched for changes. */
    public List<Path> paths() {
        List<Path> paths = new ArrayList<>();
        for (Path path : new Path[] { ca, certificate, key }) {
            if (path != null) {
                paths.add(path);
            }
        }
        return paths;
    }

    /**
     * Reads the files as they are now.
     *
     * @throws IllegalArgumentException one can't be used; the message names its setting, and what to do
     */
    public ChannelCredentials read() {
        if (!isOn()) {
            return InsecureChannelCredentials.create();
        }
        TlsChannelCredentials.Builder credentials = TlsChannelCredentials.newBuilder();
        try {
            if (ca != null) {
                byte[] authorities = bytes(CA, ca);
                certificates(CA, ca, authorities);
                credentials.trustManager(new ByteArrayInputStream(authorities));
            }
            if (certificate != null) {
                byte[] chain = bytes(CERTIFICATE, certificate);
                byte[] secret = bytes(KEY, key);
                checkPair(certificates(CERTIFICATE, certificate, chain).iterator().next().getPublicKey(), secret);
                credentials.keyManager(new ByteArrayInputStream(chain), new ByteArrayInputStream(secret));
            }
        } catch (IOException e) {
            throw new IllegalArgumentException("the PEM files of neural_rank.tls can't be used: " + e.getMessage(), e);
        }
        return credentials.build();
    }

    private static byte[] bytes(String setting, Path path) {
        try {
            return Files.readAllBytes(path);
        } catch (IOException | SecurityException e) {
            throw bad(setting, path, "can't be read (" + e + "); name a PEM file that OpenSearch's account may read", e);
        }
    }

    private static Collection<? extends Certificate> certificates(String setting, Path path, byte[] pem) {
        Collection<? extends Certificate> found;
        try {
            found = CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(pem));
        } catch (CertificateException e) {
            throw bad(setting, path, "holds no certificates in PEM form (" + e.getMessage() + ")", e);
        }
        if (found.isEmpty()) {
            throw bad(setting, path, "holds no certificate; it must begin with -----BEGIN CERTIFICATE-----", null);
        }
        return found;
    }

    private void checkPair(PublicKey published, byte[] pem) {
        String text = new String(pem, StandardCharsets.ISO_8859_1);
        int begin = text.indexOf(BEGIN);
        int end = text.indexOf(END);
        if (begin < 0 || end < begin) {
            throw bad(
                KEY,
                key,
                "is no PKCS#8 key without a passphrase (" + BEGIN + "); convert it:"
                    + " openssl pkcs8 -topk8 -nocrypt -in old.key -out new.key",
                null
            );
        }
        boolean same;
        try {
            byte[] encoded = Base64.getMimeDecoder().decode(text.substring(begin + BEGIN.length(), end));
            PrivateKey secret = KeyFactory.getInstance(published.getAlgorithm())
                .generatePrivate(new PKCS8EncodedKeySpec(encoded));
            same = verifies(published, secret);
        } catch (GeneralSecurityException | IllegalArgumentException e) {
            throw bad(KEY, key, "is not the key of [" + certificate + "] (" + e.getMessage() + ")", e);
        }
        if (!same) {
            throw bad(KEY, key, "is not the key of [" + certificate + "]; give the two that were made together", null);
        }
    }

    /** What one signs, the other must know. */
    private static boolean verifies(PublicKey published, PrivateKey secret) throws GeneralSecurityException {
        String algorithm = switch (published.getAlgorithm()) {
            case "RSA" -> "SHA256withRSA";
            case "EC" -> "SHA256withECDSA";
            default -> published.getAlgorithm();
        };
        byte[] said = "neural-rank".getBytes(StandardCharsets.UTF_8);
        Signature signing = Signature.getInstance(algorithm);
        signing.initSign(secret);
        signing.update(said);
        byte[] signed = signing.sign();
        Signature checking = Signature.getInstance(algorithm);
        checking.initVerify(published);
        checking.update(said);
        return checking.verify(signed);
    }

    private static IllegalArgumentException bad(String setting, Path path, String problem, Exception cause) {
        return new IllegalArgumentException(setting + ": [" + path + "] " + problem, cause);
    }
}
