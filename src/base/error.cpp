// Error's text: the message, then the place in parentheses.
#include "trireme/error.h"

namespace trireme {

Error::Error(Code code, std::string message, std::string location)
    : code_(code), message_(std::move(message)), location_(std::move(location)) {
  what_ = location_.empty() ? message_ : message_ + " (" + location_ + ")";
}

Error Error::at(std::string_view where) const {
  return Error(code_, message_,
               location_.empty() ? std::string(where) : std::string(where) + ", " + location_);
}

void fail(Code code, std::string message, std::string location) {
  throw Error(code, std::move(message), std::move(location));
}

}  // namespace trireme
