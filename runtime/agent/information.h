// What the device says of itself, as one JSON object.
#pragma once

#include <string>

#include "options.h"

namespace tapdot {

std::string DescribeDevice(const Options& options);

// Ids of the cores this process may run on.
int AvailableCores();

}  // namespace tapdot
