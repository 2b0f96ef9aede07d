// record() and the builder of this thread.
#include "graph/op.h"

#include "graph/graph.h"

namespace trireme {
namespace {

thread_local Builder* builder = nullptr;
thread_local std::string location;

}  // namespace

const Type& Infer::type(size_t i) const {
  TRI_CHECK(has(i), '[' + std::string(op.name) + "] input " + std::to_string(i) + " is missing");
  return inputs[i]->type;
}

const Array* Infer::constant(size_t i) const { return has(i) ? constant_of(inputs[i]) : nullptr; }

BuilderScope::BuilderScope(Builder& b) : previous_(builder) { builder = &b; }
BuilderScope::~BuilderScope() { builder = previous_; }

Builder& current_builder() {
  if (builder == nullptr) fail(Code::kInternal, "no graph is being recorded on this thread");
  return *builder;
}

void set_location(std::string where) { location = std::move(where); }
const std::string& current_location() { return location; }

std::vector<Value*> record(const Op& op, std::vector<Value*> inputs, Attrs attrs) {
  try {
    TRI_CHECK(op.inputs < 0 || static_cast<int>(inputs.size()) <= op.inputs,
              '[' + std::string(op.name) + "] takes " + std::to_string(op.inputs) +
                  " inputs, got " + std::to_string(inputs.size()));
    return current_builder().add(op, std::move(inputs), std::move(attrs));
  } catch (const Error& e) {
    if (location.empty() || !e.location().empty()) throw;
    throw e.at(location);
  }
}

Value* record1(const Op& op, std::vector<Value*> inputs, Attrs attrs) {
  return record(op, std::move(inputs), std::move(attrs)).front();
}

Value* constant(const Array& tensor, std::string name) {
  return current_builder().add_constant(tensor, std::move(name));
}

Value* scalar(double value, DType dtype) {
  Array t(DType::kFloat64, Shape{});
  *t.as<double>() = value;
  return constant(t.to(dtype));
}

}  // namespace trireme
