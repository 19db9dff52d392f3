package example;

import com.google.protobuf.ByteString;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.tensorflow.framework.DataType;
import org.tensorflow.framework.TensorProto;
import org.tensorflow.framework.TensorShapeProto;
import org.tensorflow.serving.ModelSpec;
import org.tensorflow.serving.PredictRequest;
import org.tensorflow.serving.PredictResponse;
import org.tensorflow.serving.PredictionServiceGrpc;

/** Asks a model server for the tags of two users, from their events. */
public final class Retrieve {
  /** What a user did with an item; the time in seconds since 1970 UTC. */
  record Event(String itemId, List<String> tags, boolean clicked, long time) {}

  /** The profile of a user and what is known of their events, in any order. */
  record User(String country, List<Event> events) {}

  /** A call that finds no server is repeated: all calls only read. */
  private static final Map<String, Object> RETRIES =
      Map.of(
          "methodConfig",
          List.of(
              Map.of(
                  "name", List.of(Map.of("service", "tensorflow.serving.PredictionService")),
                  "retryPolicy",
                      Map.of(
                          "maxAttempts", 3.0,
                          "initialBackoff", "0.05s",
                          "maxBackoff", "1s",
                          "backoffMultiplier", 2.0,
                          "retryableStatusCodes", List.of("UNAVAILABLE")))));

  private final Map<String, String> flags = new HashMap<>();

  private Retrieve(String[] arguments) {
    flags.putAll(Map.of("server", "localhost:8500", "model", "default", "timeout_s", "5"));
    // label, ca_file and token_file as well: --NAME=VALUE.
    for (String argument : arguments) {
      String[] parts = argument.replaceFirst("^--", "").split("=", 2);
      flags.put(parts[0], parts[1]);
    }
  }

  public static void main(String[] arguments) throws Exception {
    List<User> users =
        List.of(
            new User(
                "at",
                List.of(
                    new Event("i1", List.of("Jazz", "folk"), true, 1700000000L),
                    new Event("i2", List.of("metal"), false, 1700000060L))),
            new User("", List.of(new Event("i3", List.of("metal"), true, 1700000120L))));
    try {
      // A program that answers live users takes System.currentTimeMillis() / 1000.0.
      new Retrieve(arguments).run(users, 1700003600.0);
    } catch (StatusRuntimeException error) {
      System.err.println(advice(error.getStatus()));
      System.exit(1);
    }
  }

  /** Prints the tags of users and their scores, best first. */
  private void run(List<User> users, double now) throws IOException, InterruptedException {
    // One connection serves all calls of a program, also those that run at once.
    ManagedChannel channel =
        Grpc.newChannelBuilder(flags.get("server"), credentials())
            .defaultServiceConfig(RETRIES)
            .enableRetry()
            .build();
    try {
      PredictResponse answer =
          PredictionServiceGrpc.newBlockingStub(withToken(channel))
              .withDeadlineAfter(
                  (long) (Double.parseDouble(flags.get("timeout_s")) * 1000), TimeUnit.MILLISECONDS)
              .predict(request(users, now));
      TensorProto tags = answer.getOutputsOrThrow("tags");
      TensorProto scores = answer.getOutputsOrThrow("scores");
      int k = (int) tags.getTensorShape().getDim(1).getSize();
      for (int i = 0; i < tags.getStringValCount(); i++) {
        String tag = tags.getStringVal(i).toStringUtf8();
        System.out.println(i / k + "\t" + tag + "\t" + scores.getFloatVal(i));
      }
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  /**
   * Puts the events of all users one after the other, and beside them how many there are of each. Events at or after
   * `now`, in seconds since 1970, do not count.
   */
  private PredictRequest request(List<User> users, double now) {
    List<Event> events = users.stream().flatMap(user -> user.events().stream()).toList();
    ModelSpec.Builder spec =
        ModelSpec.newBuilder().setName(flags.get("model")).setSignatureName("retrieve_events_flat");
    if (flags.containsKey("label")) {
      spec.setVersionLabel(flags.get("label"));
    }
    return PredictRequest.newBuilder()
        .setModelSpec(spec)
        .putInputs("country", texts(users.stream().map(User::country).toList()))
        .putInputs("now", floats(users.stream().map(user -> now).toList()))
        .putInputs("num_events", integers(users.stream().map(user -> (long) user.events().size()).toList()))
        .putInputs("event_item_id", texts(events.stream().map(Event::itemId).toList()))
        .putInputs("event_clicked", integers(events.stream().map(event -> event.clicked() ? 1L : 0L).toList()))
        .putInputs("event_time", integers(events.stream().map(Event::time).toList()))
        .putInputs("event_num_tags", integers(events.stream().map(event -> (long) event.tags().size()).toList()))
        .putInputs("event_tags", texts(events.stream().flatMap(event -> event.tags().stream()).toList()))
        .addOutputFilter("tags")
        .addOutputFilter("scores")
        .build();
  }

  private static TensorProto texts(List<String> values) {
    return row(DataType.DT_STRING, values)
        .addAllStringVal(values.stream().map(ByteString::copyFromUtf8).toList())
        .build();
  }

  private static TensorProto integers(List<Long> values) {
    return row(DataType.DT_INT64, values).addAllInt64Val(values).build();
  }

  private static TensorProto floats(List<Double> values) {
    return row(DataType.DT_DOUBLE, values).addAllDoubleVal(values).build();
  }

  private static TensorProto.Builder row(DataType type, List<?> values) {
    TensorShapeProto.Dim length = TensorShapeProto.Dim.newBuilder().setSize(values.size()).build();
    return TensorProto.newBuilder()
        .setDtype(type)
        .setTensorShape(TensorShapeProto.newBuilder().addDim(length));
  }

  private ChannelCredentials credentials() throws IOException {
    if (!flags.containsKey("ca_file")) {
      return InsecureChannelCredentials.create();
    }
    return TlsChannelCredentials.newBuilder().trustManager(new File(flags.get("ca_file"))).build();
  }

  private Channel withToken(Channel channel) throws IOException {
    if (!flags.containsKey("token_file")) {
      return channel;
    }
    Metadata metadata = new Metadata();
    metadata.put(
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
        "Bearer " + Files.readString(Path.of(flags.get("token_file"))).strip());
    return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(metadata));
  }

  /** Says in one line what failed and what to do. */
  private static String advice(Status status) {
    String next =
        switch (status.getCode()) {
          case INVALID_ARGUMENT -> "correct the request: it fails again as it is";
          case NOT_FOUND -> "check the name of the model and its version or label";
          case FAILED_PRECONDITION -> "the version lacks the signature: ask GetModelMetadata what it has";
          case DEADLINE_EXCEEDED -> "raise --timeout_s, or send fewer users in a call";
          case RESOURCE_EXHAUSTED -> "send fewer users in a call, or call less often";
          case UNAVAILABLE -> "no server answers there: is it started, and is this its gRPC port? Try again later";
          case UNAUTHENTICATED -> "give the server's token in --token_file";
          default -> "see the server's log";
        };
    return status.getCode() + ": " + status.getDescription() + " (" + next + ")";
  }
}
