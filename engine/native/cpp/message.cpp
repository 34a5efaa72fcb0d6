#include "shim.h"
#include <cstdlib>

void ty_free_message(char *message) { std::free(message); }
