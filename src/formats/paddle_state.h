// Paddle's training files, .pdparams and .pdopt: read through the restricted pickle, and written so
// that paddle.load() and set_state_dict() take them.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "formats/safetensors.h"

namespace trireme {

struct PaddleTensor {
  std::string key;   // of the state_dict: "conv.weight"; of an optimizer the accumulator's name
  std::string name;  // Paddle's parameter name, "conv2d_0.w_0"; empty when the file does not tell
  Array array;       // NumPy's uint16 comes as bfloat16
};

struct PaddleState {
  // In the file's order. A recurrent layer's weight is there under two keys with one name.
  std::vector<PaddleTensor> tensors;
  std::vector<NamedArray> master_weights;  // by parameter name, float32
  std::string scheduler;                   // LR_Scheduler as JSON; empty when there is none
};

// Reads either kind of file, also of protocols 2 and 3 with their sliced arrays, and a file of one
// tensor (its key is empty). Throws kNotFound; kInvalidArgument for all that Pickle refuses and for
// what is no state dict, with the key.
PaddleState read_paddle_state(const std::string& path);
PaddleState read_paddle_state(std::span<const char> bytes, const std::string& file);

// Pickle protocol 4; bfloat16 becomes NumPy's uint16. Tensors without a name get their key's.
// Files appear whole or not at all. Throws kInvalidArgument for keys that are there twice.
void write_pdparams(const std::string& path, std::span<const PaddleTensor> tensors);
// Accumulators under Paddle's names ("conv2d_0.w_0_moment1_0", ...), scheduler and masters.
void write_pdopt(const std::string& path, const PaddleState& state);

}  // namespace trireme
