// Calls one function of a kernel library a given number of times and stores what it wrote: the program whose instructions are
// counted. No RPC, no threads, no clock, so that two counts differ by exactly the calls between them.
//
// usage: tapdot-run CALLS SPECIFICATION
// The specification is text, one item a line:
//   library PATH
//   function NAME
//   mapped OFFSET BYTES PATH             a uint8 tensor: part of a file, mapped
//   tensor HOW TYPE BITS SHAPE [PATH]    HOW: read | scratch | write | update; TYPE: int | uint | float; SHAPE: 1,3,8,8
// `read` copies a file, `scratch` is dirty memory, `write` is dirty memory stored to PATH after the last call, `update` is read
// from PATH first and stored there afterwards. A scalar's shape is "-".

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include "files.h"
#include "functions.h"

namespace tapdot {
namespace {

namespace ffi = tvm::ffi;

constexpr DLDevice kCpu{kDLCPU, 0};

struct Argument {
  std::string how, path;
  ffi::Tensor tensor;
};

struct Program {
  std::string library, function;
  std::vector<Argument> arguments;
};

uint8_t TypeCode(const std::string& type) {
  if (type == "int") return kDLInt;
  if (type == "uint") return kDLUInt;
  if (type == "float") return kDLFloat;
  throw std::runtime_error("unknown tensor type '" + type + "'");
}

std::vector<int64_t> ParseShape(const std::string& text) {
  std::vector<int64_t> shape;
  std::istringstream extents(text == "-" ? "" : text);
  for (std::string extent; std::getline(extents, extent, ',');) shape.push_back(std::stoll(extent));
  return shape;
}

Argument ParseMapped(std::istringstream& words) {
  Argument argument{"mapped", {}, {}};
  int64_t offset = 0, bytes = 0;
  words >> offset >> bytes >> std::ws;
  std::getline(words, argument.path);
  argument.tensor = ffi::Tensor::FromNDAlloc(MappedFile{argument.path, offset}, ffi::ShapeView(&bytes, 1),
                                             DLDataType{kDLUInt, 8, 1}, kCpu);
  return argument;
}

Argument ParseTensor(std::istringstream& words) {
  Argument argument;
  std::string type, shape_text;
  int bits = 0;
  words >> argument.how >> type >> bits >> shape_text >> std::ws;
  std::getline(words, argument.path);  // the rest of the line: a path may hold spaces
  const std::vector<int64_t> extents = ParseShape(shape_text);
  const ffi::ShapeView shape(extents.data(), extents.size());
  const DLDataType element{TypeCode(type), static_cast<uint8_t>(bits), 1};
  argument.tensor = ffi::Tensor::FromNDAlloc(DirtyMemory{}, shape, element, kCpu);
  if (argument.how == "read" || argument.how == "update") {
    FileDescriptor file = OpenFile(argument.path, O_RDONLY);
    ReadAll(file.get(), argument.tensor.data_ptr(), ffi::GetDataSize(argument.tensor), argument.path);
  } else if (argument.how != "scratch" && argument.how != "write") {
    throw std::runtime_error("unknown kind of tensor '" + argument.how + "'");
  }
  return argument;
}

Program ReadSpecification(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  Program program;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string item;
    words >> item >> std::ws;
    if (item == "library") {
      std::getline(words, program.library);
    } else if (item == "function") {
      std::getline(words, program.function);
    } else if (item == "mapped") {
      program.arguments.push_back(ParseMapped(words));
    } else if (item == "tensor") {
      program.arguments.push_back(ParseTensor(words));
    } else {
      throw std::runtime_error("unknown item '" + item + "' in " + path);
    }
  }
  return program;
}

void Run(int calls, const std::string& specification) {
  LoadRuntime();
  const Program program = ReadSpecification(specification);
  const ffi::Module library = CallGlobal("ffi.ModuleLoadFromFile", ffi::String(program.library)).cast<ffi::Module>();
  const ffi::Any found = CallGlobal("ffi.ModuleGetFunction", library, ffi::String(program.function), true);
  if (found == nullptr) throw std::runtime_error("the library has no function '" + program.function + "'");
  const ffi::Function function = found.cast<ffi::Function>();

  // Packed once, so that a counted call is the call and nothing else.
  std::vector<ffi::AnyView> packed;
  for (const Argument& argument : program.arguments) packed.emplace_back(argument.tensor);
  TVMFFIObjectHandle handle = const_cast<ffi::FunctionObj*>(function.get());
  for (int call = 0; call < calls; ++call) {
    ffi::Any result;
    if (TVMFFIFunctionCall(handle, reinterpret_cast<TVMFFIAny*>(packed.data()), static_cast<int32_t>(packed.size()),
                           reinterpret_cast<TVMFFIAny*>(&result)) != 0)
      ThrowRaised();
  }
  for (const Argument& argument : program.arguments) {
    if (argument.how != "write" && argument.how != "update") continue;
    FileDescriptor file = OpenFile(argument.path, O_WRONLY | O_CREAT | O_TRUNC);
    WriteAll(file.get(), argument.tensor.data_ptr(), ffi::GetDataSize(argument.tensor), argument.path);
  }
}

}  // namespace
}  // namespace tapdot

int main(int count, char** arguments) {
  if (count != 3) {
    std::fprintf(stderr, "usage: tapdot-run CALLS SPECIFICATION\n");
    return 2;
  }
  try {
    tapdot::Run(std::atoi(arguments[1]), arguments[2]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tapdot-run: %s\n", error.what());
    return 1;
  }
}
