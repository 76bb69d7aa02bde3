// One client's session, in a process of its own: TVM's runtime is loaded here and nowhere else.
#pragma once

#include <string>

#include "options.h"

namespace tapdot {

// Serves `connection` until the client leaves. `directory` is this session's own, empty folder. Returns an exit status.
int ServeSession(int connection, const std::string& directory, const Options& options);

}  // namespace tapdot
