// Products by cuBLASLt: descriptors, and the choice of an algorithm. cuBLASLt's matrices are
// column-major; what is row-major here is the transposed matrix there, so its A is our b, its B our
// a.
#include "device/cuda/cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "device/cuda/autotune.h"
#include "device/cuda/check.h"
#include "device/cuda/disk_cache.h"
#include "device/cuda/library.h"
#include "trireme/error.h"

namespace trireme::cuda {
namespace {

constexpr size_t kMostWorkspace = size_t{32} << 20;  // what NVIDIA advises for Hopper
constexpr int kProposals = 16;
constexpr int64_t kLarge = int64_t{256} << 20;

void check_lt(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const Code code =
      status == CUBLAS_STATUS_ALLOC_FAILED ? Code::kResourceExhausted : Code::kInternal;
  fail(code, std::string("[cublasLt] ") + call + ": status " + std::to_string(status));
}
#define TRI_LT(function, ...) check_lt(TRI_SYMBOL(Lib::kCublasLt, function)(__VA_ARGS__), #function)

// One a device, for ever. The device must be current.
cublasLtHandle_t handle_of(const Device& device) {
  static std::mutex mutex;
  static std::map<std::string, cublasLtHandle_t> handles;
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& handle = handles[device.name()];
  if (handle == nullptr) TRI_LT(cublasLtCreate, &handle);
  return handle;
}

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return CUDA_R_16F;
    case DType::kBFloat16: return CUDA_R_16BF;
    case DType::kFloat64: return CUDA_R_64F;
    default: return CUDA_R_32F;
  }
}

cublasLtEpilogue_t epilogue_of(const ProductSpec& s) {
  switch (s.act) {
    case ProductSpec::Act::kRelu:
      return s.has_bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case ProductSpec::Act::kGeluTanh:
      return s.has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    default: return s.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

// Descriptors are plain memory: made without allocation, copied as they are.
cublasLtMatmulDescOpaque_t operation_of(const ProductSpec& s) {
  const bool wide = s.dtype == DType::kFloat64;
  const bool tf32 = s.dtype == DType::kFloat32 && s.tf32;
  const cublasComputeType_t compute = wide   ? CUBLAS_COMPUTE_64F
                                      : tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                             : CUBLAS_COMPUTE_32F;
  cublasLtMatmulDescOpaque_t d;
  TRI_LT(cublasLtMatmulDescInit_internal, &d, sizeof d, compute, wide ? CUDA_R_64F : CUDA_R_32F);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
    TRI_LT(cublasLtMatmulDescSetAttribute, &d, attribute, &value, sizeof value);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, s.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, s.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(s));
  if (s.has_bias) set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(s.dtype));
  return d;
}

cublasLtMatrixLayoutOpaque_t layout_of(const ProductSpec& s, const MatrixPlace& p, int64_t rows,
                                       int64_t columns) {
  if (p.transposed) std::swap(rows, columns);
  cublasLtMatrixLayoutOpaque_t l;
  TRI_LT(cublasLtMatrixLayoutInit_internal, &l, sizeof l, type_of(s.dtype),
         static_cast<uint64_t>(columns), static_cast<uint64_t>(rows), p.ld);
  const auto count = static_cast<int32_t>(s.batch);
  if (count == 1) return l;
  TRI_LT(cublasLtMatrixLayoutSetAttribute, &l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
         sizeof count);
  TRI_LT(cublasLtMatrixLayoutSetAttribute, &l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
         &p.batch, sizeof p.batch);
  return l;
}

struct Algorithm {
  cublasLtMatmulAlgo_t algo{};
  uint64_t workspace = 0;
  double us = 0;  // 0: not measured
};

class LtProduct : public Product {
 public:
  LtProduct(const ProductSpec& s, Device& device)
      : spec_(s),
        handle_(handle_of(device)),
        operation_(operation_of(s)),
        a_(layout_of(s, s.a, s.m, s.k)),
        b_(layout_of(s, s.b, s.k, s.n)),
        c_(layout_of(s, s.c, s.m, s.n)),
        residual_(s.has_residual ? layout_of(s, s.residual, s.m, s.n) : c_) {}

  size_t workspace() const override { return algorithm_.workspace; }
  double us() const override { return algorithm_.us; }
  void use(const Algorithm& algorithm) { algorithm_ = algorithm; }

  void run(const ProductArgs& args, void* workspace, void* stream) const override {
    check_lt(start(algorithm_, args, workspace, stream), "cublasLtMatmul");
  }

  cublasStatus_t start(const Algorithm& with, const ProductArgs& args, void* workspace,
                       void* stream) const {
    cublasLtMatmulDescOpaque_t operation = operation_;
    if (spec_.has_bias)
      TRI_LT(cublasLtMatmulDescSetAttribute, &operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
             &args.bias, sizeof args.bias);
    const bool wide = spec_.dtype == DType::kFloat64;
    const double one = 1, beta = spec_.has_residual ? 1 : 0;
    const float one_f = 1, beta_f = static_cast<float>(beta);
    return TRI_SYMBOL(Lib::kCublasLt, cublasLtMatmul)(
        handle_, &operation, wide ? static_cast<const void*>(&one) : &one_f, args.b, mutable_of(b_),
        args.a, mutable_of(a_), wide ? static_cast<const void*>(&beta) : &beta_f,
        spec_.has_residual ? args.residual : args.c, mutable_of(residual_), args.c, mutable_of(c_),
        &with.algo, workspace, with.workspace, static_cast<cudaStream_t>(stream));
  }

  std::vector<Algorithm> proposals() const {
    cublasLtMatmulPreferenceOpaque_t wanted;
    TRI_LT(cublasLtMatmulPreferenceInit_internal, &wanted, sizeof wanted);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      TRI_LT(cublasLtMatmulPreferenceSetAttribute, &wanted, attribute, &value, sizeof value);
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kMostWorkspace});
    // Parts of sums are added in float32, in a fixed order.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    const auto alignment = static_cast<uint32_t>(spec_.alignment);
    for (const auto which :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      set(which, alignment);
    std::array<cublasLtMatmulHeuristicResult_t, kProposals> results;
    int count = 0;
    auto* operation = const_cast<cublasLtMatmulDescOpaque_t*>(&operation_);
    const cublasStatus_t status = TRI_SYMBOL(Lib::kCublasLt, cublasLtMatmulAlgoGetHeuristic)(
        handle_, operation, mutable_of(b_), mutable_of(a_), mutable_of(residual_), mutable_of(c_),
        &wanted, kProposals, results.data(), &count);
    std::vector<Algorithm> list;
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return list;
    check_lt(status, "cublasLtMatmulAlgoGetHeuristic");
    for (int i = 0; i < count; ++i) {
      const auto& r = results[static_cast<size_t>(i)];
      if (r.state == CUBLAS_STATUS_SUCCESS) list.push_back({r.algo, r.workspaceSize});
    }
    return list;
  }

  const ProductSpec& spec() const { return spec_; }

 private:
  static cublasLtMatrixLayout_t mutable_of(const cublasLtMatrixLayoutOpaque_t& l) {
    return const_cast<cublasLtMatrixLayoutOpaque_t*>(&l);
  }

  const ProductSpec spec_;
  const cublasLtHandle_t handle_;
  const cublasLtMatmulDescOpaque_t operation_;
  const cublasLtMatrixLayoutOpaque_t a_, b_, c_, residual_;
  Algorithm algorithm_;
};

std::string key_of(const ProductSpec& s, const Device& device) {
  std::string key = library(Lib::kCublasLt).version + ' ' + device.info().model;
  const auto add = [&](std::initializer_list<int64_t> values) {
    for (const int64_t v : values) key += ' ' + std::to_string(v);
  };
  add({static_cast<int64_t>(s.dtype), s.m, s.n, s.k, s.batch, s.has_bias, s.has_residual,
       static_cast<int64_t>(s.act), s.tf32, s.alignment});
  for (const MatrixPlace* p : {&s.a, &s.b, &s.c, &s.residual})
    add({p->transposed, p->ld, p->batch});
  return key;
}

// ---- the choice

int64_t bytes_of(const ProductSpec& s, const MatrixPlace& p, int64_t rows, int64_t columns) {
  if (p.transposed) std::swap(rows, columns);
  const int64_t last = (s.batch - 1) * p.batch + (rows - 1) * p.ld + columns;
  return last * static_cast<int64_t>(size_of(s.dtype));
}

// The fastest by time; the first where memory for it lacks.
Algorithm measure(const LtProduct& product, const std::vector<Algorithm>& list, Device& device) {
  const ProductSpec& s = product.spec();
  size_t workspace = 1;
  for (const Algorithm& a : list) workspace = std::max<size_t>(workspace, a.workspace);
  std::vector<Storage> memory;
  try {
    const auto take = [&](int64_t bytes) {
      memory.push_back(tuning_memory(device, s.dtype, bytes));
      return memory.back().data;
    };
    ProductArgs args;
    args.a = take(bytes_of(s, s.a, s.m, s.k));
    args.b = take(bytes_of(s, s.b, s.k, s.n));
    args.c = take(bytes_of(s, s.c, s.m, s.n));
    if (s.has_residual) args.residual = take(bytes_of(s, s.residual, s.m, s.n));
    if (s.has_bias) args.bias = take(s.n * static_cast<int64_t>(size_of(s.dtype)));
    memory.push_back(device.allocate(static_cast<int64_t>(workspace), "a buffer of autotuning"));
    std::vector<Candidate> candidates;
    for (const Algorithm& a : list)
      candidates.push_back([&, args, to = memory.back().data](void* stream) {
        check_lt(product.start(a, args, to, stream), "cublasLtMatmul");
      });
    double us = 0;
    const int best = fastest(device, candidates, &us);
    memory.clear();
    if (bytes_of(s, s.c, s.m, s.n) > kLarge) device.trim();  // a plan's arena has other sizes
    if (best < 0) return list.front();
    Algorithm choice = list[static_cast<size_t>(best)];
    choice.us = us;
    return choice;
  } catch (const Error& e) {
    if (e.code() != Code::kResourceExhausted) throw;
    return list.front();
  }
}

// The smallest products are bound by their launch: nothing is gained by measuring them. Those with
// long sums and few results are not: the library's first proposal may leave most of the GPU idle.
bool worth_measuring(const ProductSpec& s) {
  return static_cast<double>(s.batch) * static_cast<double>(s.m) * static_cast<double>(s.n) *
             static_cast<double>(s.k) >
         1e6;
}

// What is kept of an algorithm: its description, which lives as long as the library's version.
std::string text_of(const Algorithm& a) { return {reinterpret_cast<const char*>(&a), sizeof a}; }
bool read_choice(const std::string& text, Algorithm& a) {
  if (text.size() != sizeof a) return false;
  std::memcpy(&a, text.data(), sizeof a);
  return a.workspace <= kMostWorkspace;
}

const DiskCache& disk() {
  static const DiskCache cache("cublaslt");
  return cache;
}

}  // namespace

std::shared_ptr<const Product> Product::create(const ProductSpec& spec, Device& device) {
  static std::mutex mutex;
  static std::map<std::string, Algorithm> choices;
  device.activate();
  const auto product = std::make_shared<LtProduct>(spec, device);
  const std::string key = key_of(spec, device);
  Algorithm choice;
  {
    const std::lock_guard lock(mutex);
    if (const auto it = choices.find(key); it != choices.end()) {
      product->use(it->second);
      return product;
    }
  }
  const bool known = autotunes() && read_choice(disk().get(key).value_or(""), choice);
  if (!known) {
    const std::vector<Algorithm> proposals = product->proposals();
    if (proposals.empty()) return nullptr;
    const bool measures = autotunes() && worth_measuring(spec);
    choice = measures ? measure(*product, proposals, device) : proposals.front();
    if (choice.us > 0) disk().put(key, text_of(choice));
  }
  product->use(choice);
  const std::lock_guard lock(mutex);
  choices.emplace(key, choice);
  return product;
}

}  // namespace trireme::cuda
