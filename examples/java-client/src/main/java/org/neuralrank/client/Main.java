package org.neuralrank.client;

import io.grpc.StatusRuntimeException;
import java.io.File;
import java.io.IOException;
import java.time.Duration;
import org.neuralrank.v1.Candidate;
import org.neuralrank.v1.RankRequest;
import org.neuralrank.v1.RankResponse;

/** {@code java -jar target/java-client.jar ADDRESSES MILLISECONDS TIMES QUERY ID=TEXT...}: ranks, and prints the last answer. */
public final class Main {

    private Main() {}

    public static void main(String[] arguments) throws IOException {
        if (arguments.length < 5) {
            System.err.println("usage: java -jar java-client.jar ADDRESSES MILLISECONDS TIMES QUERY ID=TEXT...");
            System.exit(2);
        }
        RankRequest.Builder request = RankRequest.newBuilder().setQuery(arguments[3]);
        for (int i = 4; i < arguments.length; i++) {
            String[] idAndText = arguments[i].split("=", 2);
            request.addCandidates(Candidate.newBuilder().setId(idAndText[0]).setText(idAndText[1]));
        }
        Duration timeout = Duration.ofMillis(Long.parseLong(arguments[1]));
        try (RankingClient client = new RankingClient(arguments[0], timeout, access())) {
            RankResponse answer = RankResponse.getDefaultInstance();
            for (int i = Integer.parseInt(arguments[2]); i > 0; i--) {
                answer = client.rank(request.build());
            }
            answer.getResultsList().forEach(hit -> System.out.println(hit.getId() + "\t" + hit.getScore()));
        } catch (StatusRuntimeException error) {
            System.err.println(error.getStatus().getCode() + ": " + error.getStatus().getDescription());
            System.exit(1);
        }
    }

    private static RankingClient.Access access() {
        return new RankingClient.Access(
            file("NEURALRANK_CLIENT_CA"),
            file("NEURALRANK_CLIENT_CERTIFICATE"),
            file("NEURALRANK_CLIENT_KEY"),
            System.getenv("NEURALRANK_CLIENT_TOKEN"));
    }

    private static File file(String variable) {
        String path = System.getenv(variable);
        return path == null ? null : new File(path);
    }
}
