// Calling TVM, and being called by it, through its C interface only. TVM's libraries come with GCC's C++ runtime and this
// program with LLVM's: an exception of one must never travel through frames of the other.
#pragma once

#include <dlfcn.h>

#include <stdexcept>
#include <string>
#include <utility>

#include <tvm/ffi/any.h>
#include <tvm/ffi/function.h>

namespace tapdot {

// Loads TVM's runtime, which registers its functions. Starts no thread until a kernel asks for one.
inline void LoadRuntime() {
  for (const char* name : {"libtvm_runtime.so", "libtvm_runtime_extra.so"})
    if (!dlopen(name, RTLD_NOW | RTLD_GLOBAL)) throw std::runtime_error(std::string("cannot load ") + dlerror());
}

[[noreturn]] inline void ThrowRaised() {
  TVMFFIObjectHandle raised = nullptr;
  TVMFFIErrorMoveFromRaised(&raised);
  if (raised == nullptr) throw std::runtime_error("TVM failed without saying why");
  const TVMFFIErrorCell* cell = TVMFFIErrorGetCellPtr(raised);
  std::string message(cell->message.data, cell->message.size);
  TVMFFIObjectDecRef(raised);
  throw std::runtime_error(message);
}

template <typename... Arguments>
tvm::ffi::Any Call(const tvm::ffi::Function& function, Arguments&&... arguments) {
  tvm::ffi::AnyView packed[sizeof...(arguments) + 1] = {arguments...};
  tvm::ffi::Any result;
  TVMFFIObjectHandle handle = const_cast<tvm::ffi::FunctionObj*>(function.get());
  if (TVMFFIFunctionCall(handle, reinterpret_cast<TVMFFIAny*>(packed), sizeof...(arguments),
                         reinterpret_cast<TVMFFIAny*>(&result)) != 0)
    ThrowRaised();
  return result;
}

template <typename... Arguments>
tvm::ffi::Any CallGlobal(const char* name, Arguments&&... arguments) {
  const auto function = tvm::ffi::Function::GetGlobal(name);
  if (!function.has_value()) throw std::runtime_error(std::string("this TVM runtime has no function ") + name);
  return Call(*function, std::forward<Arguments>(arguments)...);
}

// Registers a C++ callable under a global name. Failures reach the caller as TVM errors with the exception's sentence.
template <typename F>
void DefineGlobal(const char* name, F callable) {
  using tvm::ffi::Function;
  const auto call = [](void* self, const TVMFFIAny* arguments, int32_t count, TVMFFIAny* result) -> int {
    TVM_FFI_SAFE_CALL_BEGIN();
    static_cast<Function*>(self)->CallPacked(reinterpret_cast<const tvm::ffi::AnyView*>(arguments), count,
                                             reinterpret_cast<tvm::ffi::Any*>(result));
    TVM_FFI_SAFE_CALL_END();
  };
  const auto forget = [](void* self) { delete static_cast<Function*>(self); };
  auto* self = new Function(Function::FromTyped(std::move(callable)));
  Function::SetGlobal(name, Function::FromExternC(self, call, forget), true);
}

}  // namespace tapdot
