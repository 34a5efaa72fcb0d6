#pragma once
#include <exception>

namespace gloo {
struct Exception;
struct IoException;
} // namespace gloo
