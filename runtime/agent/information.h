// What the device says of itself, as one JSON object.
#pragma once

#include <string>
#include <vector>

#include "options.h"

namespace tapdot {

std::string DescribeDevice(const Options& options);

// Numbers of the cores this process may run on, as they were at the first call.
std::vector<int> AvailableCores();

}  // namespace tapdot
