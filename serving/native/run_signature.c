/* Calls signatures of a servable through TensorFlow's C API, without Python.

     run_signature [--library FILE]... [--threads N] MODEL_DIR [SIGNATURE INPUTS OUTPUTS]...

   INPUTS and OUTPUTS hold tensors, one after the other: a line

     tensor NAME DTYPE RANK DIM ... DIM\n

   with the number of TensorFlow's data type (1: float, 3: int32, 7: string), then the values in
   row-major order: numbers as they lie in memory, each string as its length in 8 bytes (the
   machine's order) and its bytes. OUTPUTS are in the order of their names.

   --library loads operations that are not TensorFlow's own, such as ScaNN's `_scann_ops.so`; an
   exact export needs none. --threads fixes the threads inside and between operations.

   The MetaGraphDef of the loaded model says which tensors of the graph a signature feeds and
   fetches; it is read here field by field, so that no protobuf library is needed.

   Exit status: 0 for success; 1 if TensorFlow refuses (its message is on stderr); 2 for wrong
   usage. */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

#define MAX_TENSORS 64
#define MAX_RANK 8
#define MAX_NAME 256

static void fail(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "run_signature: ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  exit(status);
}

static void check(const TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) fail(1, "%s", TF_Message(status));
}

static void *allocate(size_t size) {
  void *memory = calloc(1, size ? size : 1);
  if (memory == NULL) fail(1, "out of memory");
  return memory;
}

/* The part of protobuf's wire format that a MetaGraphDef needs. */

typedef struct {
  const uint8_t *at;
  const uint8_t *end;
} Bytes;

static uint64_t read_varint(Bytes *bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (bytes->at >= bytes->end) break;
    uint8_t byte = *bytes->at++;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return value;
  }
  fail(1, "the MetaGraphDef is damaged");
  return 0;
}

/* Reads the next field: returns its number, or 0 at the end, and sets its bytes if it has any. */
static int next_field(Bytes *message, Bytes *value) {
  if (message->at >= message->end) return 0;
  uint64_t key = read_varint(message);
  uint64_t size = 0;
  *value = (Bytes){NULL, NULL};
  switch (key & 7) {
    case 0:
      read_varint(message);
      return (int)(key >> 3);
    case 1:
      size = 8;
      break;
    case 2:
      size = read_varint(message);
      break;
    case 5:
      size = 4;
      break;
    default:
      fail(1, "the MetaGraphDef is damaged");
  }
  if (size > (uint64_t)(message->end - message->at)) fail(1, "the MetaGraphDef is damaged");
  *value = (Bytes){message->at, message->at + size};
  message->at += size;
  return (int)(key >> 3);
}

/* Returns the first field of a number; empty if there is none. */
static Bytes find_field(Bytes message, int number) {
  Bytes value;
  for (int field; (field = next_field(&message, &value)) != 0;) {
    if (field == number) return value;
  }
  return (Bytes){NULL, NULL};
}

static int is_text(Bytes bytes, const char *text) {
  size_t size = (size_t)(bytes.end - bytes.at);
  return size == strlen(text) && memcmp(bytes.at, text, size) == 0;
}

static void copy_text(Bytes bytes, char *text, size_t capacity) {
  size_t size = (size_t)(bytes.end - bytes.at);
  if (size >= capacity) fail(1, "a name is longer than %zu bytes", capacity - 1);
  if (size) memcpy(text, bytes.at, size);
  text[size] = '\0';
}

/* Signatures. Numbers of fields are those of tensorflow/core/protobuf/meta_graph.proto. */

typedef struct {
  char name[MAX_NAME];   /* name for callers, such as `examples` */
  char tensor[MAX_NAME]; /* name in the graph, such as `serving_default_examples:0` */
} Slot;

typedef struct {
  Slot inputs[MAX_TENSORS];
  Slot outputs[MAX_TENSORS];
  int num_inputs;
  int num_outputs;
} Signature;

static int compare_slots(const void *left, const void *right) {
  return strcmp(((const Slot *)left)->name, ((const Slot *)right)->name);
}

/* SignatureDef.inputs (1) or .outputs (2): a map from a name (1) to a TensorInfo (2). */
static int read_slots(Bytes definition, int number, Slot *slots) {
  int count = 0;
  Bytes entry;
  for (int field; (field = next_field(&definition, &entry)) != 0;) {
    if (field != number) continue;
    if (count == MAX_TENSORS) fail(1, "a signature has more than %d tensors", MAX_TENSORS);
    copy_text(find_field(entry, 1), slots[count].name, MAX_NAME);
    copy_text(find_field(find_field(entry, 2), 1), slots[count].tensor, MAX_NAME);
    count++;
  }
  qsort(slots, (size_t)count, sizeof(Slot), compare_slots);
  return count;
}

/* MetaGraphDef.signature_def (5): a map from a name (1) to a SignatureDef (2). */
static void read_signature(const TF_Buffer *meta_graph, const char *name, Signature *signature) {
  const uint8_t *data = meta_graph->data;
  Bytes message = {data, data + meta_graph->length};
  Bytes entry;
  for (int field; (field = next_field(&message, &entry)) != 0;) {
    if (field != 5 || !is_text(find_field(entry, 1), name)) continue;
    Bytes definition = find_field(entry, 2);
    signature->num_inputs = read_slots(definition, 1, signature->inputs);
    signature->num_outputs = read_slots(definition, 2, signature->outputs);
    return;
  }
  fail(1, "the model has no signature %s", name);
}

static TF_Output find_output(TF_Graph *graph, const char *tensor) {
  char operation[MAX_NAME];
  snprintf(operation, sizeof operation, "%s", tensor);
  char *colon = strrchr(operation, ':');
  int index = 0;
  if (colon != NULL) {
    index = atoi(colon + 1);
    *colon = '\0';
  }
  TF_Output output = {TF_GraphOperationByName(graph, operation), index};
  if (output.oper == NULL) fail(1, "the graph has no operation %s", operation);
  return output;
}

/* Tensor files. */

static void read_bytes(FILE *file, void *target, size_t size) {
  if (size && fread(target, 1, size, file) != size) fail(2, "INPUTS ends within a tensor");
}

static void write_bytes(FILE *file, const void *source, size_t size) {
  if (size && fwrite(source, 1, size, file) != size) fail(1, "OUTPUTS cannot be written");
}

/* Reads the next tensor and its name; returns NULL at the end of the file. */
static TF_Tensor *read_tensor(FILE *file, char *name) {
  int type, rank;
  int matched = fscanf(file, "tensor %255s %d %d", name, &type, &rank);
  if (matched == EOF) return NULL;
  if (matched != 3 || rank < 0 || rank > MAX_RANK) fail(2, "INPUTS has no tensor where one must be");
  int64_t dims[MAX_RANK];
  size_t count = 1;
  for (int i = 0; i < rank; i++) {
    if (fscanf(file, " %" SCNd64, &dims[i]) != 1 || dims[i] < 0) fail(2, "a dimension is missing");
    count *= (size_t)dims[i];
  }
  if (fgetc(file) != '\n') fail(2, "the line of a tensor must end after its dimensions");
  size_t width = type == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize((TF_DataType)type);
  if (width == 0) fail(2, "data type %d has no values of a fixed size", type);
  TF_Tensor *tensor = TF_AllocateTensor((TF_DataType)type, dims, rank, count * width);
  if (tensor == NULL) fail(1, "out of memory");
  if (type != TF_STRING) {
    read_bytes(file, TF_TensorData(tensor), count * width);
    return tensor;
  }
  TF_TString *strings = TF_TensorData(tensor);
  for (size_t i = 0; i < count; i++) {
    uint64_t size;
    read_bytes(file, &size, sizeof size);
    char *text = allocate(size);
    read_bytes(file, text, size);
    TF_StringInit(&strings[i]);
    TF_StringCopy(&strings[i], text, size);
    free(text);
  }
  return tensor;
}

static void write_tensor(FILE *file, const char *name, const TF_Tensor *tensor) {
  TF_DataType type = TF_TensorType(tensor);
  fprintf(file, "tensor %s %d %d", name, (int)type, TF_NumDims(tensor));
  for (int i = 0; i < TF_NumDims(tensor); i++) fprintf(file, " %" PRId64, TF_Dim(tensor, i));
  fputc('\n', file);
  if (type != TF_STRING) {
    write_bytes(file, TF_TensorData(tensor), TF_TensorByteSize(tensor));
    return;
  }
  const TF_TString *strings = TF_TensorData(tensor);
  for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) {
    uint64_t size = TF_StringGetSize(&strings[i]);
    write_bytes(file, &size, sizeof size);
    write_bytes(file, TF_StringGetDataPointer(&strings[i]), size);
  }
}

/* Reads the tensors of a file in the order of a signature's inputs. */
static void read_inputs(const char *path, const Signature *signature, TF_Tensor **tensors) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) fail(2, "%s: %s", path, strerror(errno));
  char name[MAX_NAME];
  for (TF_Tensor *tensor; (tensor = read_tensor(file, name)) != NULL;) {
    int i = 0;
    while (i < signature->num_inputs && strcmp(signature->inputs[i].name, name) != 0) i++;
    if (i == signature->num_inputs) fail(2, "the signature has no input %s", name);
    if (tensors[i] != NULL) fail(2, "input %s is given twice", name);
    tensors[i] = tensor;
  }
  fclose(file);
  for (int i = 0; i < signature->num_inputs; i++) {
    if (tensors[i] == NULL) fail(2, "input %s is missing", signature->inputs[i].name);
  }
}

/* Makes session options, with a serialized ConfigProto: intra_op_parallelism_threads (2) and
   inter_op_parallelism_threads (5). */
static TF_SessionOptions *session_options(int threads, TF_Status *status) {
  TF_SessionOptions *options = TF_NewSessionOptions();
  if (threads > 0) {
    const uint8_t config[] = {2 << 3, (uint8_t)threads, 5 << 3, (uint8_t)threads};
    TF_SetConfig(options, config, sizeof config, status);
    check(status);
  }
  return options;
}

typedef struct {
  TF_Session *session;
  TF_Graph *graph;
  TF_Buffer *meta_graph;
} Model;

static void call(const Model *model, const char *name, const char *inputs, const char *outputs,
                 TF_Status *status) {
  Signature *signature = allocate(sizeof *signature);
  read_signature(model->meta_graph, name, signature);
  TF_Tensor *fed[MAX_TENSORS] = {NULL}, *fetched[MAX_TENSORS] = {NULL};
  TF_Output feeds[MAX_TENSORS], fetches[MAX_TENSORS];
  read_inputs(inputs, signature, fed);
  for (int i = 0; i < signature->num_inputs; i++) {
    feeds[i] = find_output(model->graph, signature->inputs[i].tensor);
  }
  for (int i = 0; i < signature->num_outputs; i++) {
    fetches[i] = find_output(model->graph, signature->outputs[i].tensor);
  }
  TF_SessionRun(model->session, NULL, feeds, fed, signature->num_inputs, fetches, fetched,
                signature->num_outputs, NULL, 0, NULL, status);
  check(status);

  FILE *file = fopen(outputs, "wb");
  if (file == NULL) fail(1, "%s: %s", outputs, strerror(errno));
  for (int i = 0; i < signature->num_outputs; i++) {
    write_tensor(file, signature->outputs[i].name, fetched[i]);
    TF_DeleteTensor(fetched[i]);
  }
  if (fclose(file) != 0) fail(1, "%s: %s", outputs, strerror(errno));
  for (int i = 0; i < signature->num_inputs; i++) TF_DeleteTensor(fed[i]);
  free(signature);
}

static void usage(void) {
  fail(2, "usage: run_signature [--library FILE]... [--threads N] MODEL_DIR "
          "[SIGNATURE INPUTS OUTPUTS]...");
}

int main(int argc, char **argv) {
  TF_Status *status = TF_NewStatus();
  int threads = 0;
  int i = 1;
  for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
    if (strcmp(argv[i], "--library") == 0) {
      /* Loaded before the model, whose graph is checked against the registered operations. The
         library is never unloaded, as its operations are used until the process ends. */
      TF_LoadLibrary(argv[i + 1], status);
      check(status);
    } else if (strcmp(argv[i], "--threads") == 0) {
      threads = atoi(argv[i + 1]);
      if (threads < 1 || threads > 127) fail(2, "--threads must be between 1 and 127");
    } else {
      usage();
    }
  }
  if (argc - i < 1 || (argc - i) % 3 != 1) usage();

  TF_SessionOptions *options = session_options(threads, status);
  Model model = {NULL, TF_NewGraph(), TF_NewBuffer()};
  const char *tags[] = {"serve"};
  model.session = TF_LoadSessionFromSavedModel(options, NULL, argv[i], tags, 1, model.graph,
                                               model.meta_graph, status);
  check(status);
  for (i++; i < argc; i += 3) call(&model, argv[i], argv[i + 1], argv[i + 2], status);

  TF_CloseSession(model.session, status);
  check(status);
  TF_DeleteSession(model.session, status);
  TF_DeleteGraph(model.graph);
  TF_DeleteBuffer(model.meta_graph);
  TF_DeleteSessionOptions(options);
  TF_DeleteStatus(status);
  return 0;
}
