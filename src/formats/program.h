// Program: a model of a foreign format, loaded and checked, that records itself through the current
// Builder.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/foreign.h"
#include "graph/graph.h"
#include "trireme/array.h"

namespace trireme {

class Program {
 public:
  // `tensors` belong to foreign.parameters, in their order. Throws kUnimplemented naming every
  // operator that has no translation.
  Program(ForeignProgram foreign, std::vector<Array> tensors);

  // Declared inputs; shapes may hold Shape::kUnknown.
  const std::vector<ForeignInput>& inputs() const { return foreign_.inputs; }
  // Outputs under their names; dtype and shape as the file declares them, which old files do
  // loosely.
  const std::vector<ForeignOutput>& outputs() const { return foreign_.outputs; }
  std::span<const ForeignParameter> parameters() const { return foreign_.parameters; }
  std::span<const Array> tensors() const { return tensors_; }
  int64_t parameter_bytes() const;
  const ForeignProgram& foreign() const { return foreign_; }
  const std::string& file() const { return foreign_.file; }

  // Records the program through the current Builder for inputs whose shapes are concrete; returns
  // the outputs. const and without state: several threads may record at once, each under its own
  // Builder.
  std::vector<Value*> record(const std::vector<Value*>& inputs) const;

 private:
  ForeignProgram foreign_;
  std::vector<Array> tensors_;
};

// Loads a model in one of Paddle's formats. `model` is a folder with inference.pdmodel,
// inference.json, model.pdmodel, model.json or __model__ (else its only *.pdmodel or *.json), or
// the program's file. The parameters stand beside it under the same stem (.pdiparams) or in
// `params`. Throws kNotFound (what was looked for), kInvalidArgument (damage, with the place),
// kUnimplemented (all operators that have no translation).
std::unique_ptr<Program> load_program(const std::string& model, const std::string& params = {});

}  // namespace trireme
