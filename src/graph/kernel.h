// Kernel and Prepare: the border between an operator and the plan that runs it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace trireme {

// Pointers of one run, in the order of the node's inputs and outputs; constants and absent inputs
// included (null).
struct Launch {
  void* const* in;
  void* const* out;
  void* scratch;           // Kernel::scratch bytes, 64-byte aligned (256 on a GPU)
  void* stream = nullptr;  // a GPU's: the cudaStream_t to launch on; nothing may wait for the host

  template <class T> const T* input(size_t i) const { return static_cast<const T*>(in[i]); }
  template <class T> T* output(size_t i = 0) const { return static_cast<T*>(out[i]); }
};

// A prepared operation. run() is const, may be called from several threads with different pointers.
// A GPU's kernel only gives work to the stream: it neither waits nor allocates.
struct Kernel {
  std::function<void(const Launch&)> run;
  size_t scratch = 0;
  explicit operator bool() const { return static_cast<bool>(run); }
};

class Device;  // of device/, opaque here

// Results that plans of one model share: folded constants, packed weights. Thread-safe. The key
// must tell everything the result depends on; `sources` are kept alive with the entry, so that
// their addresses may be part of the key.
class ModelCache {
 public:
  virtual ~ModelCache() = default;
  // Not `counted`: the memory is a device's, which counts it itself.
  virtual Array get(const std::string& key, std::vector<Array> sources,
                    const std::function<Array()>& make, bool counted = true) = 0;
  // Bytes for what `make` packs. Those of one model lie together, in huge pages.
  virtual Array memory(size_t bytes) = 0;
};

// What an operator's `cpu` or `cuda` sees: a node whose types are final. It chooses the algorithm
// and returns the kernel.
struct Prepare {
  const Node& node;
  ModelCache* cache = nullptr;  // may be null (a constant folded outside a model)
  Device* device = nullptr;     // which device the plan is for; null: the CPU
  // Plans a graph that stands in an attribute (control flow); its inputs and outputs become the
  // kernel's.
  std::function<Kernel(const Graph&)> plan_subgraph;
  // For a GPU: a copy of host memory on the device, which lives as long as what is returned.
  std::function<std::shared_ptr<const void>(const Array&)> upload;

  bool has(size_t i) const { return i < node.inputs.size() && node.inputs[i] != nullptr; }
  const Type& in(size_t i = 0) const { return node.inputs[i]->type; }
  const Type& out(size_t i = 0) const { return node.outputs[i]->type; }
  const Array* constant(size_t i) const { return has(i) ? constant_of(node.inputs[i]) : nullptr; }
  template <class A> const A& attrs() const { return node.attrs.get<A>(); }

  // Constant inputs that packed() was called for: the kernel does not read them as they are, and on
  // a GPU they need not be there.
  mutable std::vector<size_t> unread;

  // A form of constant input i made once per model: `tag` names the form and its parameters. On a
  // GPU `pack` writes host memory, and the result is the copy on the device.
  std::shared_ptr<const void> packed(
      size_t i, const std::string& tag, size_t bytes,
      const std::function<void(const Array& source, void* packed)>& pack) const;
};

// Runs one node whose inputs are all constants.
std::vector<Array> evaluate(const Node& node);

}  // namespace trireme
