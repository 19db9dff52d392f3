// Asks a model server for the tags of two users, from their events.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

import type { ProtoGrpcType } from './servingapi/prediction_service.js';
import type { PredictRequest } from './servingapi/tensorflow/serving/PredictRequest.js';
import type { PredictResponse__Output } from './servingapi/tensorflow/serving/PredictResponse.js';
import type { PredictionServiceClient } from './servingapi/tensorflow/serving/PredictionService.js';
import type { TensorProto } from './servingapi/tensorflow/TensorProto.js';

const { values: flags } = parseArgs({
  options: {
    server: { type: 'string', default: 'localhost:8500' },
    model: { type: 'string', default: 'default' },
    label: { type: 'string', default: '' }, // of the version; empty: the newest version
    timeout_s: { type: 'string', default: '5' }, // all attempts together
    ca_file: { type: 'string', default: '' }, // PEM of the authorities of the server; empty: no TLS
    token_file: { type: 'string', default: '' },
  },
});

// What a user did with an item; the time in seconds since 1970 UTC.
interface Event {
  itemId: string;
  tags: string[];
  clicked: boolean;
  time: number;
}

// The profile of a user and what is known of their events, in any order.
interface User {
  country?: string;
  events: Event[];
}

// A call that finds no server is repeated: all calls only read.
const RETRIES = JSON.stringify({
  methodConfig: [
    {
      name: [{ service: 'tensorflow.serving.PredictionService' }],
      retryPolicy: {
        maxAttempts: 3,
        initialBackoff: '0.05s',
        maxBackoff: '1s',
        backoffMultiplier: 2,
        retryableStatusCodes: ['UNAVAILABLE'],
      },
    },
  ],
});

// The events of all users one after the other, and beside them how many there are of each. Events at or after
// `now`, in seconds since 1970, do not count.
function request(users: User[], now: number): PredictRequest {
  const events = users.flatMap((user) => user.events);
  return {
    modelSpec: {
      name: flags.model,
      signatureName: 'retrieve_events_flat',
      ...(flags.label ? { versionLabel: flags.label } : {}),
    },
    inputs: {
      country: texts(users.map((user) => user.country ?? '')),
      now: floats(users.map(() => now)),
      num_events: integers(users.map((user) => user.events.length)),
      event_item_id: texts(events.map((event) => event.itemId)),
      event_clicked: integers(events.map((event) => Number(event.clicked))),
      event_time: integers(events.map((event) => event.time)),
      event_num_tags: integers(events.map((event) => event.tags.length)),
      event_tags: texts(events.flatMap((event) => event.tags)),
    },
    outputFilter: ['tags', 'scores'],
  };
}

function texts(values: string[]): TensorProto {
  return { dtype: 'DT_STRING', tensorShape: row(values), stringVal: values.map((value) => Buffer.from(value)) };
}

function integers(values: number[]): TensorProto {
  return { dtype: 'DT_INT64', tensorShape: row(values), int64Val: values };
}

function floats(values: number[]): TensorProto {
  return { dtype: 'DT_DOUBLE', tensorShape: row(values), doubleVal: values };
}

function row(values: unknown[]): TensorProto['tensorShape'] {
  return { dim: [{ size: values.length }] };
}

// One connection serves all calls of a program, also those that run at once.
function connect(): PredictionServiceClient {
  const definition = loadSync('tensorflow_serving/apis/prediction_service.proto', {
    includeDirs: ['protos'],
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const { tensorflow } = grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType;
  const credentials = flags.ca_file
    ? grpc.credentials.createSsl(readFileSync(flags.ca_file))
    : grpc.credentials.createInsecure();
  return new tensorflow.serving.PredictionService(flags.server, credentials, { 'grpc.service_config': RETRIES });
}

function predict(client: PredictionServiceClient, asked: PredictRequest): Promise<PredictResponse__Output> {
  const metadata = new grpc.Metadata();
  if (flags.token_file) {
    metadata.set('authorization', `Bearer ${readFileSync(flags.token_file, 'utf8').trim()}`);
  }
  const deadline = Date.now() + Number(flags.timeout_s) * 1000;
  return new Promise((resolve, reject) => {
    client.predict(asked, metadata, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer!)));
  });
}

// Says in one line what failed and what to do.
function advice(error: unknown): string {
  if (!isServiceError(error)) return String(error);
  const next: Partial<Record<grpc.status, string>> = {
    [grpc.status.INVALID_ARGUMENT]: 'correct the request: it fails again as it is',
    [grpc.status.NOT_FOUND]: 'check the name of the model and its version or label',
    [grpc.status.FAILED_PRECONDITION]: 'the version lacks the signature: ask GetModelMetadata what it has',
    [grpc.status.DEADLINE_EXCEEDED]: 'raise --timeout_s, or send fewer users in a call',
    [grpc.status.RESOURCE_EXHAUSTED]: 'send fewer users in a call, or call less often',
    [grpc.status.UNAVAILABLE]: 'no server answers there: is it started, and is this its gRPC port? Try again later',
    [grpc.status.UNAUTHENTICATED]: "give the server's token in --token_file",
  };
  return `${grpc.status[error.code]}: ${error.details} (${next[error.code] ?? "see the server's log"})`;
}

function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && 'details' in error && 'metadata' in error;
}

const users: User[] = [
  {
    country: 'at',
    events: [
      { itemId: 'i1', tags: ['Jazz', 'folk'], clicked: true, time: 1700000000 },
      { itemId: 'i2', tags: ['metal'], clicked: false, time: 1700000060 },
    ],
  },
  { events: [{ itemId: 'i3', tags: ['metal'], clicked: true, time: 1700000120 }] },
];
const client = connect();
try {
  // A program that answers live users takes Date.now() / 1000.
  const { outputs } = await predict(client, request(users, 1700003600));
  const { stringVal: tags, tensorShape } = outputs.tags!;
  const k = tensorShape!.dim[1]!.size;
  tags.forEach((tag, i) => console.log(`${Math.floor(i / k)}\t${tag}\t${outputs.scores!.floatVal[i]}`));
} catch (error) {
  console.error(advice(error));
  process.exitCode = 1;
} finally {
  client.close();
}
