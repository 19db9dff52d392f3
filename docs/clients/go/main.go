// Command tagtower.example asks a model server for the tags of two users, from their events.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "tagtower.example/servingapi"
)

//go:generate go build -o bin/ tool
//go:generate sh -c "protoc -I protos --plugin=bin/protoc-gen-go --go_out=. --go_opt=module=tagtower.example --plugin=bin/protoc-gen-go-grpc --go-grpc_out=. --go-grpc_opt=module=tagtower.example $(cd protos && find * -name '*.proto')"

var (
	server    = flag.String("server", "localhost:8500", "host and gRPC port")
	model     = flag.String("model", "default", "name of the model")
	label     = flag.String("label", "", "label of the version; empty: the newest version")
	timeout   = flag.Float64("timeout_s", 5, "deadline of the call in seconds, all attempts together")
	caFile    = flag.String("ca_file", "", "PEM of the authorities that sign the server's certificate; empty: no TLS")
	tokenFile = flag.String("token_file", "", "file with the bearer token")
)

// Event is what a user did with an item.
type Event struct {
	ItemID  string
	Tags    []string
	Clicked bool
	Time    int64 // seconds since 1970 UTC
}

// User is the profile of a user and what is known of their events, in any order.
type User struct {
	Country string
	Events  []Event
}

// A call that finds no server is repeated: all calls only read.
const retries = `{"methodConfig": [{"name": [{"service": "tensorflow.serving.PredictionService"}],
  "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

func main() {
	flag.Parse()
	users := []User{
		{Country: "at", Events: []Event{
			{ItemID: "i1", Tags: []string{"Jazz", "folk"}, Clicked: true, Time: 1700000000},
			{ItemID: "i2", Tags: []string{"metal"}, Clicked: false, Time: 1700000060},
		}},
		{Events: []Event{{ItemID: "i3", Tags: []string{"metal"}, Clicked: true, Time: 1700000120}}},
	}
	// A program that answers live users takes float64(time.Now().UnixMilli()) / 1000.
	if err := retrieve(users, 1700003600); err != nil {
		fmt.Fprintln(os.Stderr, advice(err))
		os.Exit(1)
	}
}

// retrieve prints the tags of users and their scores, best first. Events at or after now, in seconds since 1970,
// do not count.
func retrieve(users []User, now float64) error {
	transport, err := transportCredentials()
	if err != nil {
		return err
	}
	// One connection serves all calls of a program, also those that run at once.
	conn, err := grpc.NewClient(*server, grpc.WithTransportCredentials(transport), grpc.WithDefaultServiceConfig(retries))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(*timeout*float64(time.Second)))
	defer cancel()
	if *tokenFile != "" {
		token, err := os.ReadFile(*tokenFile)
		if err != nil {
			return err
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(token)))
	}

	answer, err := pb.NewPredictionServiceClient(conn).Predict(ctx, request(users, now))
	if err != nil {
		return err
	}
	tags, scores := answer.Outputs["tags"], answer.Outputs["scores"]
	k := int(tags.TensorShape.Dim[1].Size)
	for i, tag := range tags.StringVal {
		fmt.Printf("%d\t%s\t%v\n", i/k, tag, scores.FloatVal[i])
	}
	return nil
}

// request puts the events of all users one after the other, and beside them how many there are of each.
func request(users []User, now float64) *pb.PredictRequest {
	var countries, itemIDs, tags []string
	var numEvents, numTags, clicked, times []int64
	var nows []float64
	for _, user := range users {
		countries = append(countries, user.Country)
		numEvents = append(numEvents, int64(len(user.Events)))
		nows = append(nows, now)
		for _, event := range user.Events {
			itemIDs = append(itemIDs, event.ItemID)
			numTags = append(numTags, int64(len(event.Tags)))
			tags = append(tags, event.Tags...)
			clicked = append(clicked, number(event.Clicked))
			times = append(times, event.Time)
		}
	}
	spec := &pb.ModelSpec{Name: *model, SignatureName: "retrieve_events_flat"}
	if *label != "" {
		spec.VersionChoice = &pb.ModelSpec_VersionLabel{VersionLabel: *label}
	}
	return &pb.PredictRequest{
		ModelSpec: spec,
		Inputs: map[string]*pb.TensorProto{
			"country":        texts(countries),
			"now":            floats(nows),
			"num_events":     integers(numEvents),
			"event_item_id":  texts(itemIDs),
			"event_clicked":  integers(clicked),
			"event_time":     integers(times),
			"event_num_tags": integers(numTags),
			"event_tags":     texts(tags),
		},
		OutputFilter: []string{"tags", "scores"},
	}
}

func texts(values []string) *pb.TensorProto {
	encoded := make([][]byte, len(values))
	for i, value := range values {
		encoded[i] = []byte(value)
	}
	return &pb.TensorProto{Dtype: pb.DataType_DT_STRING, TensorShape: row(len(values)), StringVal: encoded}
}

func integers(values []int64) *pb.TensorProto {
	return &pb.TensorProto{Dtype: pb.DataType_DT_INT64, TensorShape: row(len(values)), Int64Val: values}
}

func floats(values []float64) *pb.TensorProto {
	return &pb.TensorProto{Dtype: pb.DataType_DT_DOUBLE, TensorShape: row(len(values)), DoubleVal: values}
}

func row(length int) *pb.TensorShapeProto {
	return &pb.TensorShapeProto{Dim: []*pb.TensorShapeProto_Dim{{Size: int64(length)}}}
}

func number(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

func transportCredentials() (credentials.TransportCredentials, error) {
	if *caFile == "" {
		return insecure.NewCredentials(), nil
	}
	pem, err := os.ReadFile(*caFile)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", *caFile)
	}
	return credentials.NewTLS(&tls.Config{RootCAs: authorities}), nil
}

// advice says in one line what failed and what to do.
func advice(err error) string {
	failed, isStatus := status.FromError(err)
	if !isStatus {
		return err.Error()
	}
	var next string
	switch failed.Code() {
	case codes.InvalidArgument:
		next = "correct the request: it fails again as it is"
	case codes.NotFound:
		next = "check the name of the model and its version or label"
	case codes.FailedPrecondition:
		next = "the version lacks the signature: ask GetModelMetadata what it has"
	case codes.DeadlineExceeded:
		next = "raise -timeout_s, or send fewer users in a call"
	case codes.ResourceExhausted:
		next = "send fewer users in a call, or call less often"
	case codes.Unavailable:
		next = "no server answers there: is it started, and is this its gRPC port? Try again later"
	case codes.Unauthenticated:
		next = "give the server's token in -token_file"
	default:
		next = "see the server's log"
	}
	return fmt.Sprintf("%s: %s (%s)", failed.Code(), failed.Message(), next)
}
