// Running single nodes on constants, packing constants once per model.
#include "graph/kernel.h"

#include <memory>

namespace trireme {

std::shared_ptr<const void> Prepare::packed(
    size_t i, const std::string& tag, size_t bytes,
    const std::function<void(const Array&, void*)>& pack) const {
  const Array& source = *constant(i);
  unread.push_back(i);
  const auto make = [&] {
    const Shape shape{static_cast<int64_t>(bytes)};
    Array t = cache && !upload ? cache->memory(bytes) : Array(DType::kUInt8, shape);
    pack(source, t.data());
    return t;
  };
  if (cache == nullptr) return upload ? upload(make()) : make().owner();
  const std::string key = (upload ? "pack for the device " : "pack ") + tag + ' ' +
                          std::to_string(reinterpret_cast<uintptr_t>(source.data()));
  if (!upload) return cache->get(key, {source}, make).owner();
  const auto make_there = [&] {
    const auto there = upload(make());
    return Array(DType::kUInt8, Shape{static_cast<int64_t>(bytes)}, const_cast<void*>(there.get()),
                 there);
  };
  return cache->get(key, {source}, make_there, false).owner();
}

std::vector<Array> evaluate(const Node& node) {
  std::vector<Array> results;
  if (node.op->view) {
    results.push_back(constant_of(node.inputs[0])->reshaped(node.out()->type.shape));
    return results;
  }
  if (node.op->cpu == nullptr)
    fail(Code::kUnimplemented, '[' + std::string(node.op->name) + "] has no CPU kernel",
         node.where);
  const Kernel kernel = node.op->cpu(Prepare{.node = node});
  std::vector<void*> in, out;
  for (const Value* v : node.inputs)
    in.push_back(v ? const_cast<void*>(constant_of(v)->data()) : nullptr);
  for (const auto& v : node.outputs) {
    results.emplace_back(v->type.dtype, v->type.shape);
    out.push_back(results.back().data());
  }
  const Array scratch(DType::kUInt8, Shape{static_cast<int64_t>(kernel.scratch)});
  kernel.run(Launch{in.data(), out.data(), const_cast<void*>(scratch.data())});
  return results;
}

}  // namespace trireme
