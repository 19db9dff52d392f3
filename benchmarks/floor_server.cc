// Serves one signature of a servable over gRPC, on TensorFlow's C API: the lower bound of a server.
//
//   floor_server CONFIG METADATA MODEL_DIR SIGNATURE [LIBRARY]
//
// It answers Predict, with packed strings as the client of this project asks for them, and
// GetModelMetadata, with the bytes of the file METADATA. CONFIG is a file with a serialized
// ConfigProto. LIBRARY has operations that are not TensorFlow's own. It checks nothing: no limit, no
// version, no input that is missing. Messages are read and written field by field, because
// TensorFlow's library contains another version of protobuf than the system.
//
// It prints its port, and ends when its standard input ends.

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensorflow/c/c_api.h"

namespace {

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "floor_server: %s\n", message.c_str());
  std::exit(1);
}

// Protobuf's wire format.

uint64_t ReadVarint(std::string_view* bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !bytes->empty(); shift += 7) {
    uint8_t byte = bytes->front();
    bytes->remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (!(byte & 0x80)) break;
  }
  return value;
}

struct Field {
  int number = 0;
  uint64_t varint = 0;
  std::string_view bytes;
};

bool NextField(std::string_view* message, Field* field) {
  if (message->empty()) return false;
  uint64_t key = ReadVarint(message);
  field->number = static_cast<int>(key >> 3);
  size_t size = 0;
  switch (key & 7) {
    case 0:
      field->varint = ReadVarint(message);
      return true;
    case 1:
      size = 8;
      break;
    case 2:
      size = ReadVarint(message);
      break;
    case 5:
      size = 4;
      break;
  }
  if (size > message->size()) return false;
  field->bytes = message->substr(0, size);
  message->remove_prefix(size);
  return true;
}

Field FindField(std::string_view message, int number) {
  for (Field field; NextField(&message, &field);) {
    if (field.number == number) return field;
  }
  return {};
}

void WriteVarint(std::string* out, uint64_t value) {
  for (; value > 0x7f; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void WriteNumber(std::string* out, int number, uint64_t value) {
  WriteVarint(out, number << 3);
  WriteVarint(out, value);
}

void WriteBytes(std::string* out, int number, std::string_view bytes) {
  WriteVarint(out, number << 3 | 2);
  WriteVarint(out, bytes.size());
  out->append(bytes);
}

// Tensors: TensorProto.dtype (1), .tensor_shape (2), .tensor_content (4).

TF_Tensor* ReadTensor(std::string_view message) {
  auto type = static_cast<TF_DataType>(FindField(message, 1).varint);
  std::string_view content = FindField(message, 4).bytes;
  std::string_view shape = FindField(message, 2).bytes;
  std::vector<int64_t> dims;
  int64_t count = 1;
  for (Field field; NextField(&shape, &field);) {
    if (field.number != 2) continue;
    dims.push_back(static_cast<int64_t>(FindField(field.bytes, 1).varint));
    count *= dims.back();
  }
  size_t width = type == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize(type);
  TF_Tensor* tensor = TF_AllocateTensor(type, dims.data(), dims.size(), count * width);
  if (type != TF_STRING) {
    content.copy(static_cast<char*>(TF_TensorData(tensor)), count * width);
    return tensor;
  }
  auto* strings = static_cast<TF_TString*>(TF_TensorData(tensor));
  std::vector<size_t> sizes(count);
  for (size_t& size : sizes) size = ReadVarint(&content);
  for (int64_t i = 0; i < count; i++) {
    TF_StringInit(&strings[i]);
    std::string_view text = content.substr(0, sizes[i]);
    TF_StringCopy(&strings[i], text.data(), text.size());
    content.remove_prefix(text.size());
  }
  return tensor;
}

std::string WriteTensor(TF_Tensor* tensor) {
  std::string shape, content, message;
  for (int i = 0; i < TF_NumDims(tensor); i++) {
    std::string dim;
    WriteNumber(&dim, 1, TF_Dim(tensor, i));
    WriteBytes(&shape, 2, dim);
  }
  if (TF_TensorType(tensor) == TF_STRING) {
    auto* strings = static_cast<TF_TString*>(TF_TensorData(tensor));
    int64_t count = TF_TensorElementCount(tensor);
    for (int64_t i = 0; i < count; i++) WriteVarint(&content, TF_StringGetSize(&strings[i]));
    for (int64_t i = 0; i < count; i++) {
      content.append(TF_StringGetDataPointer(&strings[i]), TF_StringGetSize(&strings[i]));
    }
  } else {
    content.assign(static_cast<char*>(TF_TensorData(tensor)), TF_TensorByteSize(tensor));
  }
  WriteNumber(&message, 1, TF_TensorType(tensor));
  WriteBytes(&message, 2, shape);
  WriteBytes(&message, 4, content);
  return message;
}

void DeleteTensor(TF_Tensor* tensor) {
  if (TF_TensorType(tensor) == TF_STRING) {
    auto* strings = static_cast<TF_TString*>(TF_TensorData(tensor));
    for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) TF_StringDealloc(&strings[i]);
  }
  TF_DeleteTensor(tensor);
}

// The signature and its call.

class Model {
 public:
  Model(const std::string& config, const char* directory, std::string signature)
      : signature_(std::move(signature)), status_(TF_NewStatus()) {
    TF_SessionOptions* options = TF_NewSessionOptions();
    TF_SetConfig(options, config.data(), config.size(), status_);
    Check();
    graph_ = TF_NewGraph();
    TF_Buffer* meta_graph = TF_NewBuffer();
    const char* tags[] = {"serve"};
    session_ = TF_LoadSessionFromSavedModel(options, nullptr, directory, tags, 1, graph_,
                                            meta_graph, status_);
    Check();
    // RunOptions.inter_op_thread_pool (3) is -1, as in the model server: no other thread.
    std::string run_options;
    WriteNumber(&run_options, 3, static_cast<uint64_t>(-1));
    run_options_ = TF_NewBufferFromString(run_options.data(), run_options.size());
    std::string_view message(static_cast<const char*>(meta_graph->data), meta_graph->length);
    for (Field field; NextField(&message, &field);) {
      // MetaGraphDef.signature_def (5): a map from a name (1) to a SignatureDef (2).
      if (field.number != 5 || FindField(field.bytes, 1).bytes != signature_) continue;
      std::string_view definition = FindField(field.bytes, 2).bytes;
      inputs_ = ReadSlots(definition, 1);
      outputs_ = ReadSlots(definition, 2);
    }
    if (outputs_.empty()) Fail("the model has no signature " + signature_);
  }

  std::string Predict(std::string_view request, grpc::Status* result) {
    std::map<std::string, TF_Tensor*, std::less<>> sent;
    for (Field field; NextField(&request, &field);) {
      if (field.number != 2) continue;
      std::string name(FindField(field.bytes, 1).bytes);
      sent[name] = ReadTensor(FindField(field.bytes, 2).bytes);
    }
    std::vector<TF_Output> feeds, fetches;
    std::vector<TF_Tensor*> fed, fetched(outputs_.size());
    for (const auto& [name, output] : inputs_) {
      feeds.push_back(output);
      fed.push_back(sent[name]);
    }
    for (const auto& [name, output] : outputs_) fetches.push_back(output);
    TF_Status* status = TF_NewStatus();
    TF_SessionRun(session_, run_options_, feeds.data(), fed.data(), feeds.size(), fetches.data(),
                  fetched.data(), fetches.size(), nullptr, 0, nullptr, status);
    std::string response;
    if (TF_GetCode(status) == TF_OK) {
      int i = 0;
      for (const auto& [name, output] : outputs_) {
        std::string entry;
        WriteBytes(&entry, 1, name);
        WriteBytes(&entry, 2, WriteTensor(fetched[i]));
        WriteBytes(&response, 1, entry);
        TF_DeleteTensor(fetched[i++]);
      }
      std::string version, spec;  // ModelSpec: name (1), version (2), signature_name (3)
      WriteNumber(&version, 1, 1);
      WriteBytes(&spec, 1, "default");
      WriteBytes(&spec, 2, version);
      WriteBytes(&spec, 3, signature_);
      WriteBytes(&response, 2, spec);
    } else {
      *result = grpc::Status(grpc::StatusCode::INTERNAL, TF_Message(status));
    }
    TF_DeleteStatus(status);
    for (TF_Tensor* tensor : fed) DeleteTensor(tensor);
    return response;
  }

 private:
  using Slots = std::map<std::string, TF_Output>;

  void Check() {
    if (TF_GetCode(status_) != TF_OK) Fail(TF_Message(status_));
  }

  // SignatureDef.inputs (1) or .outputs (2): a map from a name (1) to a TensorInfo (2).
  Slots ReadSlots(std::string_view definition, int number) {
    Slots slots;
    for (Field field; NextField(&definition, &field);) {
      if (field.number != number) continue;
      std::string tensor(FindField(FindField(field.bytes, 2).bytes, 1).bytes);
      size_t colon = tensor.rfind(':');
      TF_Output output = {TF_GraphOperationByName(graph_, tensor.substr(0, colon).c_str()),
                          std::atoi(tensor.c_str() + colon + 1)};
      if (output.oper == nullptr) Fail("the graph has no tensor " + tensor);
      slots[std::string(FindField(field.bytes, 1).bytes)] = output;
    }
    return slots;
  }

  std::string signature_;
  TF_Status* status_;
  TF_Graph* graph_;
  TF_Session* session_;
  TF_Buffer* run_options_;
  Slots inputs_, outputs_;
};

// The server. A call is a stream with one message in and one out.

class Service : public grpc::CallbackGenericService {
 public:
  Service(Model* model, std::string metadata) : model_(model), metadata_(std::move(metadata)) {}

 private:
  class Call : public grpc::ServerGenericBidiReactor {
   public:
    Call(Service* service, bool is_predict) : service_(service), is_predict_(is_predict) {
      StartRead(&message_);
    }

    void OnReadDone(bool is_read) override {
      grpc::Slice slice;
      if (!is_read || !message_.DumpToSingleSlice(&slice).ok()) return Finish(grpc::Status::OK);
      grpc::Status status;
      std::string answer = service_->metadata_;
      if (is_predict_) {
        std::string_view request(reinterpret_cast<const char*>(slice.begin()), slice.size());
        answer = service_->model_->Predict(request, &status);
      }
      if (!status.ok()) return Finish(status);
      grpc::Slice part(answer);
      message_ = grpc::ByteBuffer(&part, 1);
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    }

    void OnDone() override { delete this; }

   private:
    Service* service_;
    bool is_predict_;
    grpc::ByteBuffer message_;
  };

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    return new Call(this, context->method() == "/tensorflow.serving.PredictionService/Predict");
  }

  Model* model_;
  std::string metadata_;
};

std::string ReadFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Fail(std::string(path) + " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) Fail("usage: floor_server CONFIG METADATA MODEL_DIR SIGNATURE [LIBRARY]");
  if (argc > 5) {
    TF_Status* status = TF_NewStatus();
    TF_LoadLibrary(argv[5], status);
    if (TF_GetCode(status) != TF_OK) Fail(TF_Message(status));
  }
  Model model(ReadFile(argv[1]), argv[3], argv[4]);
  Service service(&model, ReadFile(argv[2]));
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.RegisterCallbackGenericService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) Fail("no port is free");
  std::printf("%d\n", port);
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  std::_Exit(0);  // TensorFlow's threads do not end in an order of their own
}
