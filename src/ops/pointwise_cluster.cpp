// Pointwise clusters on the CPU: the body becomes a short list of tile instructions, run over tiles
// of 512 elements that stay in the first-level cache, so that a chain of operators costs one pass
// over memory.
#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "base/cpu_features.h"
#include "base/half.h"
#include "base/parallel.h"
#include "ops/fused.h"
#include "ops/pointwise.h"
#include "ops/pointwise_space.h"
#include "ops/pointwise_tiles.h"

namespace trireme {

extern const TileTable tile_table_baseline, tile_table_avx2, tile_table_avx512;

const TileTable& tile_table() {
  const CpuFeatures& cpu = cpu_features();
  return cpu.avx512 ? tile_table_avx512 : cpu.avx2 ? tile_table_avx2 : tile_table_baseline;
}

namespace {

constexpr int kTile = 512;
constexpr size_t kSlotBytes = kTile * sizeof(double);
constexpr int64_t kGrain = 16384;  // elements a task should have at least

TileClass class_of(DType dtype) {
  if (dtype == DType::kFloat64) return TileClass::kDouble;
  return is_floating(dtype) ? TileClass::kFloat : TileClass::kInt;
}
size_t element_size(TileClass c) { return c == TileClass::kFloat ? 4 : 8; }

const std::unordered_map<const Op*, TileOp>& tile_ops() {
  static const std::unordered_map<const Op*, TileOp> map = {
#define TRI_TILE(name) {&ops::name##_op, TileOp::name},
#define TRI_UNARY(name, value, kind, ...) TRI_TILE(name) TRI_IF_##kind(TRI_TILE(name##_grad))
#define TRI_FLOAT(name, value, kind, ...) TRI_UNARY(name, value, kind)
#define TRI_BINARY(name, ...) TRI_TILE(name)
#define TRI_COMPARE(name, ...) TRI_TILE(name)
#define TRI_LOGIC(name, ...) TRI_TILE(name)
#include "ops/pointwise.def"
#undef TRI_TILE
#undef TRI_UNARY
#undef TRI_FLOAT
#undef TRI_BINARY
#undef TRI_COMPARE
#undef TRI_LOGIC
  };
  return map;
}

// ---- conversions between what memory holds and what a tile holds

template <class From, class To> void convert(void* dst, const void* src, int n) {
  for (int i = 0; i < n; ++i)
    static_cast<To*>(dst)[i] = static_cast<To>(static_cast<const From*>(src)[i]);
}
void half_in(void* dst, const void* src, int n) {
  for (int i = 0; i < n; ++i)
    static_cast<float*>(dst)[i] = half_to_float(static_cast<const uint16_t*>(src)[i]);
}
void half_out(void* dst, const void* src, int n) {
  for (int i = 0; i < n; ++i)
    static_cast<uint16_t*>(dst)[i] = float_to_half(static_cast<const float*>(src)[i]);
}
void bf16_in(void* dst, const void* src, int n) {
  tile_table().bf16_to_float(static_cast<float*>(dst), static_cast<const uint16_t*>(src), n);
}
void bf16_out(void* dst, const void* src, int n) {
  tile_table().float_to_bf16(static_cast<uint16_t*>(dst), static_cast<const float*>(src), n);
}
void bool_out(void* dst, const void* src, int n) {
  for (int i = 0; i < n; ++i)
    static_cast<uint8_t*>(dst)[i] = static_cast<const int64_t*>(src)[i] != 0;
}

using ConvertFn = void (*)(void* dst, const void* src, int n);

ConvertFn loader(DType dtype) {
  switch (dtype) {
    case DType::kBool:
    case DType::kUInt8: return convert<uint8_t, int64_t>;
    case DType::kInt8: return convert<int8_t, int64_t>;
    case DType::kInt16: return convert<int16_t, int64_t>;
    case DType::kInt32: return convert<int32_t, int64_t>;
    case DType::kFloat16: return half_in;
    case DType::kBFloat16: return bf16_in;
    default: return nullptr;  // memory and tile agree
  }
}

ConvertFn storer(DType dtype) {
  switch (dtype) {
    case DType::kBool: return bool_out;
    case DType::kUInt8: return convert<int64_t, uint8_t>;
    case DType::kInt8: return convert<int64_t, int8_t>;
    case DType::kInt16: return convert<int64_t, int16_t>;
    case DType::kInt32: return convert<int64_t, int32_t>;
    case DType::kFloat16: return half_out;
    case DType::kBFloat16: return bf16_out;
    default: return nullptr;
  }
}

ConvertFn between(TileClass from, TileClass to) {
  if (from == TileClass::kFloat)
    return to == TileClass::kDouble ? convert<float, double> : convert<float, int64_t>;
  if (from == TileClass::kDouble)
    return to == TileClass::kFloat ? convert<double, float> : convert<double, int64_t>;
  return to == TileClass::kFloat ? convert<int64_t, float> : convert<int64_t, double>;
}

// ---- the program

using SelectFn = void (*)(void* dst, const void* condition, const void* x, const void* y, int n);

struct Instruction {
  TileFn fn = nullptr;               // an operator,
  ConvertFn convert = nullptr;       // or a conversion,
  SelectFn select = nullptr;         // or where
  int dst = 0, x = 0, y = 0, z = 0;  // tile numbers
  double a = 0, b = 0;
};

// Where an input's elements for a tile come from.
struct Operand {
  enum Kind : uint8_t { kDirect, kFixed, kRows } kind = kRows;
  ConvertFn load = nullptr;
  size_t element = 4, tile_element = 4;
  std::array<int64_t, Shape::kMaxRank> strides{};  // elements, along the collapsed dimensions
  int tile = 0;
};

struct Result {
  int tile;
  ConvertFn store;
  size_t element;
};

struct Program {
  std::vector<Instruction> code;
  std::vector<Operand> operands;
  std::vector<Result> results;
  std::vector<int64_t> dims;  // collapsed, outermost first; at least two
  int tiles = 0;
  int64_t rows_per_tile = 1, columns_per_tile = 1;

  int64_t tile_count() const {
    int64_t n = 1;
    for (size_t i = 0; i + 2 < dims.size(); ++i) n *= dims[i];
    return n * blocks(dims[dims.size() - 2], rows_per_tile) * blocks(dims.back(), columns_per_tile);
  }
  static int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }
};

void place_operands(Program& program, const std::vector<const Value*>& inputs, const Type& space) {
  const PointwiseSpace collapsed(inputs, space);
  const std::vector<std::vector<int64_t>>& strides = collapsed.strides;
  program.dims = collapsed.dims;
  const int64_t columns = program.dims.back();
  program.columns_per_tile = std::clamp<int64_t>(columns, 1, kTile);
  program.rows_per_tile = columns < kTile ? std::min<int64_t>(program.dims[program.dims.size() - 2],
                                                              kTile / std::max<int64_t>(columns, 1))
                                          : 1;
  program.rows_per_tile = std::max<int64_t>(program.rows_per_tile, 1);
  for (size_t i = 0; i < inputs.size(); ++i) {
    Operand o;
    const DType dtype = inputs[i]->type.dtype;
    o.load = loader(dtype);
    o.element = size_of(dtype);
    o.tile_element = element_size(class_of(dtype));
    std::copy(strides[i].begin(), strides[i].end(), o.strides.begin());
    const std::vector<int64_t>& s = strides[i];
    const bool outer_zero = std::all_of(s.begin(), s.end() - 1, [](int64_t v) { return v == 0; });
    if (outer_zero && (s.back() == 0 || columns <= kTile)) o.kind = Operand::kFixed;
    else if (s == strides.back()) o.kind = Operand::kDirect;
    o.tile = program.tiles++;
    program.operands.push_back(o);
  }
}

class Compiler {
 public:
  explicit Compiler(Program& program) : program_(program) {}

  void define(const Value* v, int tile) { tile_of_[v] = tile; }
  int tile_of(const Value* v) const { return tile_of_.at(v); }

  void add(const Node& n) {
    const Value* result = n.out();
    Instruction in;
    if (n.op == &ops::cast_op) {
      in = cast_to(n.inputs[0], result->type.dtype);
    } else if (n.op == &ops::logical_not_op) {
      const TileClass c = class_of(n.inputs[0]->type.dtype);
      in.fn = tile_table().op[static_cast<int>(TileOp::equal)][static_cast<int>(c)];
      in.x = tile_of(n.inputs[0]);
      in.y = zero_tile(c);
    } else if (n.op == &ops::where_op) {
      const TileClass c = class_of(result->type.dtype);
      in.select = tile_table().select[static_cast<int>(c)];
      in.x = tile_of(n.inputs[0]);
      in.y = as_class(n.inputs[1], c);
      in.z = as_class(n.inputs[2], c);
    } else {
      in = operation(n);
    }
    in.dst = program_.tiles++;
    program_.code.push_back(in);
    define(result, in.dst);
  }

  // Tiles that hold zeros throughout a run.
  const std::vector<std::pair<int, TileClass>>& zeros() const { return zeros_; }

 private:
  Instruction operation(const Node& n) {
    Instruction in;
    const bool binary = n.inputs.size() == 2;
    TileClass c = class_of(n.inputs[0]->type.dtype);
    if (binary && class_of(n.inputs[1]->type.dtype) != c) {
      const TileClass other = class_of(n.inputs[1]->type.dtype);
      c = c == TileClass::kInt ? other : other == TileClass::kInt ? c : TileClass::kDouble;
    }
    in.fn = tile_table().op[static_cast<int>(tile_ops().at(n.op))][static_cast<int>(c)];
    in.x = as_class(n.inputs[0], c);
    in.y = binary ? as_class(n.inputs[1], c) : in.x;
    if (n.op->attrs == &attr_info<PointwiseAttrs>) {
      in.a = n.get<PointwiseAttrs>().alpha;
      in.b = n.get<PointwiseAttrs>().beta;
    }
    return in;
  }

  Instruction cast_to(const Value* v, DType dtype) {
    Instruction in;
    const TileClass from = class_of(v->type.dtype), to = class_of(dtype);
    in.x = in.y = tile_of(v);
    if (dtype == DType::kBool && v->type.dtype != DType::kBool) {
      in.fn = tile_table().op[static_cast<int>(TileOp::not_equal)][static_cast<int>(from)];
      in.y = zero_tile(from);
    } else if (from == to) {
      in.fn = tile_table().op[static_cast<int>(TileOp::affine)][static_cast<int>(to)];
      in.a = 1;
    } else {
      in.convert = between(from, to);
    }
    return in;
  }

  int as_class(const Value* v, TileClass c) {
    const TileClass from = class_of(v->type.dtype);
    if (from == c) return tile_of(v);
    Instruction in;
    in.convert = between(from, c);
    in.x = tile_of(v);
    in.dst = program_.tiles++;
    program_.code.push_back(in);
    return in.dst;
  }

  int zero_tile(TileClass c) {
    for (const auto& [tile, cls] : zeros_)
      if (cls == c) return tile;
    zeros_.emplace_back(program_.tiles, c);
    return program_.tiles++;
  }

  Program& program_;
  std::unordered_map<const Value*, int> tile_of_;
  std::vector<std::pair<int, TileClass>> zeros_;
};

// ---- running

class Runner {
 public:
  Runner(const Program& program, const Launch& launch, char* memory)
      : p_(program), launch_(launch), memory_(memory), tile_(static_cast<size_t>(program.tiles)) {
    for (int t = 0; t < p_.tiles; ++t)
      tile_[static_cast<size_t>(t)] = memory_ + kSlotBytes * static_cast<size_t>(t);
    for (size_t i = 0; i < p_.operands.size(); ++i)
      if (p_.operands[i].kind == Operand::kFixed) fill_fixed(i);
  }

  void run_tile(int64_t index) {
    const size_t nd = p_.dims.size();
    const int64_t column_blocks = Program::blocks(p_.dims[nd - 1], p_.columns_per_tile);
    const int64_t row_blocks = Program::blocks(p_.dims[nd - 2], p_.rows_per_tile);
    const int64_t column = index % column_blocks * p_.columns_per_tile;
    index /= column_blocks;
    const int64_t row = index % row_blocks * p_.rows_per_tile;
    index /= row_blocks;
    std::array<int64_t, Shape::kMaxRank + 2> at{};
    int64_t outer = index;
    for (size_t d = nd - 2; d-- > 0;) {
      at[d] = outer % p_.dims[d];
      outer /= p_.dims[d];
    }
    at[nd - 2] = row;
    at[nd - 1] = column;
    const int64_t rows = std::min(p_.rows_per_tile, p_.dims[nd - 2] - row);
    const int64_t columns = std::min(p_.columns_per_tile, p_.dims[nd - 1] - column);
    const int64_t first = (index * p_.dims[nd - 2] + row) * p_.dims[nd - 1] + column;
    for (size_t i = 0; i < p_.operands.size(); ++i) load(i, at.data(), rows, columns);
    execute(first, static_cast<int>(rows * columns));
  }

 private:
  const char* input(size_t i) const { return static_cast<const char*>(launch_.in[i]); }
  char* slot(int tile) const { return memory_ + kSlotBytes * static_cast<size_t>(tile); }

  template <class T> static void repeat(char* dst, int64_t n) {
    T* to = reinterpret_cast<T*>(dst);
    const T value = *to;
    std::fill(to, to + n, value);
  }

  static void copy_run(const Operand& o, char* dst, const char* src, int64_t stride, int64_t n) {
    if (stride == 1) {
      if (o.load) o.load(dst, src, static_cast<int>(n));
      else std::memcpy(dst, src, static_cast<size_t>(n) * o.element);
      return;
    }
    if (stride == 0 && n > 1) {
      copy_run(o, dst, src, 1, 1);
      if (o.tile_element == 4) repeat<uint32_t>(dst, n);
      else repeat<uint64_t>(dst, n);
      return;
    }
    for (int64_t k = 0; k < n; ++k) {
      const char* s = src + static_cast<size_t>(k * stride) * o.element;
      if (o.load) o.load(dst + static_cast<size_t>(k) * o.tile_element, s, 1);
      else std::memcpy(dst + static_cast<size_t>(k) * o.tile_element, s, o.element);
    }
  }

  // An operand that is the same in every tile: one value, or one row of channels repeated.
  void fill_fixed(size_t i) {
    const Operand& o = p_.operands[i];
    const int64_t stride = o.strides[p_.dims.size() - 1];
    const int64_t period = stride == 0 ? 1 : p_.dims.back();
    char* dst = slot(o.tile);
    copy_run(o, dst, input(i), stride == 0 ? 1 : stride, period);
    const size_t bytes = static_cast<size_t>(period) * o.tile_element;
    for (int64_t k = period; k + period <= kTile; k += period)
      std::memcpy(dst + static_cast<size_t>(k) * o.tile_element, dst, bytes);
  }

  void load(size_t i, const int64_t* at, int64_t rows, int64_t columns) {
    const Operand& o = p_.operands[i];
    if (o.kind == Operand::kFixed) return;
    const size_t nd = p_.dims.size();
    int64_t offset = 0;
    for (size_t d = 0; d < nd; ++d) offset += at[d] * o.strides[d];
    const char* src = input(i) + offset * static_cast<int64_t>(o.element);
    if (o.kind == Operand::kDirect && o.load == nullptr) {
      tile_[static_cast<size_t>(o.tile)] = const_cast<char*>(src);
      return;
    }
    char* dst = slot(o.tile);
    if (o.kind == Operand::kDirect) return o.load(dst, src, static_cast<int>(rows * columns));
    for (int64_t r = 0; r < rows; ++r)
      copy_run(o, dst + static_cast<size_t>(r * columns) * o.tile_element,
               src + r * o.strides[nd - 2] * static_cast<int64_t>(o.element), o.strides[nd - 1],
               columns);
  }

  void execute(int64_t first, int n) {
    // A result whose memory form is the tile's is computed in place.
    for (size_t k = 0; k < p_.results.size(); ++k) {
      const Result& r = p_.results[k];
      if (r.store == nullptr && r.tile >= static_cast<int>(p_.operands.size()))
        tile_[static_cast<size_t>(r.tile)] =
            static_cast<char*>(launch_.out[k]) + first * static_cast<int64_t>(r.element);
    }
    for (const Instruction& in : p_.code) {
      void* dst = tile_[static_cast<size_t>(in.dst)];
      const void *x = tile_[static_cast<size_t>(in.x)], *y = tile_[static_cast<size_t>(in.y)];
      if (in.fn) in.fn(dst, x, y, n, in.a, in.b);
      else if (in.select) in.select(dst, x, y, tile_[static_cast<size_t>(in.z)], n);
      else in.convert(dst, x, n);
    }
    for (size_t k = 0; k < p_.results.size(); ++k) {
      const Result& r = p_.results[k];
      char* dst = static_cast<char*>(launch_.out[k]) + first * static_cast<int64_t>(r.element);
      const char* src = tile_[static_cast<size_t>(r.tile)];
      if (r.store) r.store(dst, src, n);
      else if (src != dst) std::memcpy(dst, src, static_cast<size_t>(n) * r.element);
    }
  }

  const Program& p_;
  const Launch& launch_;
  char* memory_;
  std::vector<char*> tile_;
};

}  // namespace

bool is_pointwise(const Op* op) { return op->fuse == Fuse::kPointwise; }

Kernel pointwise_cluster(const std::vector<const Node*>& nodes,
                         const std::vector<const Value*>& inputs,
                         const std::vector<const Value*>& outputs) {
  auto program = std::make_shared<Program>();
  place_operands(*program, inputs, outputs[0]->type);
  Compiler compiler(*program);
  for (size_t i = 0; i < inputs.size(); ++i) compiler.define(inputs[i], program->operands[i].tile);
  for (const Node* n : nodes) compiler.add(*n);
  for (const Value* v : outputs)
    program->results.push_back(
        {compiler.tile_of(v), storer(v->type.dtype), size_of(v->type.dtype)});

  const int64_t count = program->tile_count();
  const size_t per_task = kSlotBytes * static_cast<size_t>(program->tiles);
  const int64_t tile_elements = program->rows_per_tile * program->columns_per_tile;
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(tile_elements, 1));
  Kernel kernel;
  kernel.scratch = per_task * static_cast<size_t>(num_threads());
  const auto zeros = compiler.zeros();
  kernel.run = [program, count, per_task, grain, zeros](const Launch& launch) {
    parallel_for(count, grain, [&](int64_t begin, int64_t end, int task) {
      char* memory = static_cast<char*>(launch.scratch) + per_task * static_cast<size_t>(task);
      for (const auto& [tile, cls] : zeros)
        std::memset(memory + kSlotBytes * static_cast<size_t>(tile), 0, kSlotBytes);
      Runner runner(*program, launch, memory);
      for (int64_t i = begin; i < end; ++i) runner.run_tile(i);
    });
  };
  return kernel;
}

}  // namespace trireme
