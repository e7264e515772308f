//DEPS org.apache.kafka:kafka-clients:4.3.0
//DEPS org.apache.avro:avro:1.12.1

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Prints every reply as a line of JSON, with nothing of Forebay but the .avsc files.
 *
 * <p>Needs a JDK, 17 or later, and the two libraries above with what they need; JBang fetches them by itself.
 *
 * <pre>
 *   jbang examples/plain_kafka_java/ReplyConsumer.java schemas/avro localhost:19092
 *   java -cp 'jars/*' examples/plain_kafka_java/ReplyConsumer.java schemas/avro localhost:19092 [topic [group]]
 * </pre>
 *
 * <p>The next run of the same group goes on where this one stopped.
 */
public class ReplyConsumer {
    public static void main(String[] args) throws IOException {
        if (args.length < 2) {
            System.err.println("usage: ReplyConsumer SCHEMAS BOOTSTRAP [TOPIC [GROUP]]");
            System.exit(2);
        }
        var topic = args.length > 2 ? args[2] : "llm.replies";
        var group = args.length > 3 ? args[3] : "plain-java";

        var replies = decoder(Path.of(args[0]), "reply");
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", args[1],
                "group.id", group,
                "auto.offset.reset", "earliest",
                "isolation.level", "read_committed", // workers write in transactions, and an aborted one is no reply
                "enable.auto.commit", false);
        var stopping = stopping();
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (!stopping.get()) {
                for (var message : consumer.poll(Duration.ofMillis(500))) {
                    // A crash before the commit brings the last replies again, and a restarted job may write one twice:
                    // whoever keeps them does so under tenant and request_id, and a repeat replaces itself.
                    System.out.println(replies.decode(message.value()));
                }
                consumer.commitSync();
            }
        }
    }

    /** Reads all versions of a record, {@code record.version.avsc}, and resolves them to the newest. */
    private static BinaryMessageDecoder<GenericRecord> decoder(Path folder, String record) throws IOException {
        List<Path> files;
        try (var all = Files.list(folder)) {
            files = all.filter(file -> file.getFileName().toString().matches(record + "\\.\\d+\\.avsc"))
                    .sorted(Comparator.comparingInt(ReplyConsumer::version))
                    .toList();
        }
        var newest = new Schema.Parser().parse(files.get(files.size() - 1).toFile());
        var decoder = new BinaryMessageDecoder<GenericRecord>(GenericData.get(), newest);
        for (var file : files) {
            decoder.addSchema(new Schema.Parser().parse(file.toFile()));
        }
        return decoder;
    }

    private static int version(Path file) {
        return Integer.parseInt(file.getFileName().toString().split("\\.")[1]);
    }

    /** Turns true on Ctrl-C, and lets the process end when the main thread has. */
    private static AtomicBoolean stopping() {
        var stopping = new AtomicBoolean();
        var main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopping.set(true);
            try {
                main.join();
            } catch (InterruptedException unheard) {
                Thread.currentThread().interrupt();
            }
        }));
        return stopping;
    }
}
