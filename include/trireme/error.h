// Error: the one exception type that leaves the library, and the check that throws it.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace trireme {

// What kind of failure it is; `serve` maps these to HTTP and gRPC codes, the command line to its
// exit status.
enum class Code {
  kInvalidArgument,    // bad input: a file, a picture, a request, an argument of an operator
  kNotFound,           // a file, a model or a name that is not there
  kResourceExhausted,  // a memory cap or a limit was reached; the process can go on
  kUnimplemented,      // an operator, an attribute or a device that this build has no code for
  kUnavailable,        // a device or a network that was asked for and cannot be used
  kInternal,           // our own fault
};

// Message form: "[conv2d] weight expects 64 input channels, got 32". `location` says where: a file
// and an offset, an operator's place in a program, a source line; empty when there is none.
class Error : public std::exception {
 public:
  Error(Code code, std::string message, std::string location = {});

  Code code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& location() const noexcept { return location_; }
  const char* what() const noexcept override { return what_.c_str(); }

  // The same error with `where` put in front of its location, for callers that know the wider
  // place.
  Error at(std::string_view where) const;

 private:
  Code code_;
  std::string message_, location_, what_;
};

// Throws Error; kept out of line so that a check costs a compare and a jump.
[[noreturn]] void fail(Code code, std::string message, std::string location = {});

}  // namespace trireme

// TRI_CHECK(cond, message...) throws kInvalidArgument; the message is built only when the check
// fails.
#define TRI_CHECK(cond, ...)                                           \
  do {                                                                 \
    if (!(cond)) [[unlikely]]                                          \
      ::trireme::fail(::trireme::Code::kInvalidArgument, __VA_ARGS__); \
  } while (0)
