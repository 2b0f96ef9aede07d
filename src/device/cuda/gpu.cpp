// A GPU: one order of work (a stream), a caching allocator, copies that do not wait.
#include "device/cuda/gpu.h"

#include <nvtx3/nvToolsExt.h>

#include <array>
#include <cstdlib>
#include <mutex>

#include "device/caching_allocator.h"
#include "device/cuda/check.h"
#include "device/cuda/library.h"
#include "device/cuda/staging.h"
#include "trireme/error.h"

namespace trireme::cuda {
namespace {

class GraphRecording : public Recording {
 public:
  GraphRecording(cudaGraphExec_t graph, cudaStream_t stream) : graph_(graph), stream_(stream) {}
  ~GraphRecording() override { cudaGraphExecDestroy(graph_); }
  void launch() override { TRI_CUDA_CALL(cudaGraphLaunch(graph_, stream_)); }

 private:
  cudaGraphExec_t graph_;
  cudaStream_t stream_;
};

class EventTimer : public Timer {
 public:
  explicit EventTimer(cudaStream_t stream) : stream_(stream) {}
  ~EventTimer() override {
    for (cudaEvent_t e : events_) cudaEventDestroy(e);
  }
  void mark() override {
    cudaEvent_t e = nullptr;
    TRI_CUDA_CALL(cudaEventCreate(&e));
    events_.push_back(e);
    TRI_CUDA_CALL(cudaEventRecord(e, stream_));
  }
  std::vector<double> read_us() override {
    std::vector<double> times;
    if (!events_.empty()) TRI_CUDA_CALL(cudaEventSynchronize(events_.back()));
    for (cudaEvent_t e : events_) {
      float ms = 0;
      TRI_CUDA_CALL(cudaEventElapsedTime(&ms, events_.front(), e));
      times.push_back(static_cast<double>(ms) * 1e3);
    }
    return times;
  }

 private:
  cudaStream_t stream_;
  std::vector<cudaEvent_t> events_;
};

// Memory of large uploads that come again each step. It is filled on a stream of its own, beside
// the kernels of the step before, so what it held must be out of use first: `free_since` says when.
struct UploadBlock {
  void* data;
  int64_t bytes;
  cudaEvent_t free_since;
};

class Gpu : public Device {
 public:
  explicit Gpu(int index)
      : Device("gpu:" + std::to_string(index), std::make_shared<MemoryPool>()), index_(index) {
    activate();
    cudaDeviceProp has;  // asking takes a millisecond
    TRI_CUDA_CALL(cudaGetDeviceProperties(&has, index_));
    info_ = {has.name, has.major, has.minor, has.multiProcessorCount,
             static_cast<int64_t>(has.totalGlobalMem)};
    TRI_CUDA_CALL(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    TRI_CUDA_CALL(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking));
    allocator_ = std::make_unique<CachingAllocator>(
        name(), shared_pool(),
        CachingAllocator::Source{[this](int64_t bytes) { return take(bytes); },
                                 [this](void* p) { give(p); }});
  }

  Storage allocate(int64_t bytes, const char* what) override {
    void* data = take_piece(bytes, what);
    return {data, std::shared_ptr<const void>(
                      data, [this](const void* p) { allocator_->free(const_cast<void*>(p)); })};
  }

  Storage upload(const void* from, int64_t bytes, const char* what) override {
    activate();
    if (bytes < kOverlapped) {
      Storage s = allocate(bytes, what);
      if (bytes > 0) staging_.upload(s.data, from, bytes, stream_);
      return s;
    }
    const UploadBlock block = upload_block(bytes, what);
    Storage s{block.data, std::shared_ptr<const void>(block.data, [this, block](const void*) {
                keep_upload_block(block);
              })};
    TRI_CUDA_CALL(cudaStreamWaitEvent(copies_, block.free_since, 0));
    upload_staging_.upload(s.data, from, bytes, copies_);
    TRI_CUDA_CALL(cudaEventRecord(block.free_since, copies_));
    TRI_CUDA_CALL(cudaStreamWaitEvent(stream_, block.free_since, 0));
    return s;
  }

  void download(void* to, const void* from, size_t bytes) override {
    activate();
    if (bytes > 0) TRI_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_));
    TRI_CUDA_CALL(cudaStreamSynchronize(stream_));
  }

  void synchronize() override {
    activate();
    TRI_CUDA_CALL(cudaStreamSynchronize(stream_));
  }

  void activate() override { TRI_CUDA_CALL(cudaSetDevice(index_)); }
  void* stream() override { return stream_; }

  void copy(void* to, const void* from, size_t bytes, void* stream) override {
    if (bytes == 0 || to == from) return;
    TRI_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice,
                                  stream != nullptr ? static_cast<cudaStream_t>(stream) : stream_));
  }

  // On a stream that nobody else gives work to, so that other threads' work stays out of it.
  std::unique_ptr<Recording> record(const std::function<void(void*)>& work) override {
    activate();
    cudaStream_t capture = nullptr;
    TRI_CUDA_CALL(cudaStreamCreateWithFlags(&capture, cudaStreamNonBlocking));
    const std::unique_ptr<CUstream_st, cudaError_t (*)(cudaStream_t)> own(capture,
                                                                          cudaStreamDestroy);
    TRI_CUDA_CALL(cudaStreamBeginCapture(capture, cudaStreamCaptureModeRelaxed));
    bool recorded = true;
    try {
      work(capture);
    } catch (const Error&) { recorded = false; }
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    recorded = cudaStreamEndCapture(capture, &graph) == cudaSuccess && recorded;
    recorded = recorded && cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess;
    if (graph != nullptr) cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    if (!recorded) return nullptr;
    return std::make_unique<GraphRecording>(exec, stream_);
  }

  std::unique_ptr<Timer> timer() override { return std::make_unique<EventTimer>(stream_); }
  void begin_range(const char* name) override { nvtxRangePushA(name); }
  void end_range() override { nvtxRangePop(); }

  DeviceInfo info() const override { return info_; }
  int64_t reserved_bytes() const override { return allocator_->reserved(); }
  int64_t peak_reserved_bytes() const override { return allocator_->peak_reserved(); }
  void trim() override {
    drop_upload_blocks();
    allocator_->trim();
  }

 private:
  static constexpr int64_t kOverlapped = int64_t{1} << 20;
  static constexpr int kKeptOfASize = 3;

  void* take(int64_t bytes) {
    activate();
    void* p = nullptr;
    const cudaError_t error = cudaMalloc(&p, static_cast<size_t>(bytes));
    if (error == cudaSuccess) return p;
    (void)cudaGetLastError();
    if (error != cudaErrorMemoryAllocation) TRI_CUDA_CALL(error);
    return nullptr;
  }
  void give(void* p) {
    activate();
    (void)cudaFree(p);  // waits for the device
  }

  void* take_piece(int64_t bytes, const char* what) {
    try {
      return allocator_->allocate(bytes, what);
    } catch (const Error& e) {
      if (e.code() != Code::kResourceExhausted || !drop_upload_blocks()) throw;
    }
    return allocator_->allocate(bytes, what);
  }

  UploadBlock upload_block(int64_t bytes, const char* what) {
    {
      const std::lock_guard lock(mutex_);
      for (size_t i = 0; i < upload_blocks_.size(); ++i)
        if (upload_blocks_[i].bytes == bytes) {
          const UploadBlock block = upload_blocks_[i];
          upload_blocks_.erase(upload_blocks_.begin() + static_cast<std::ptrdiff_t>(i));
          return block;
        }
    }
    UploadBlock block{take_piece(bytes, what), bytes, nullptr};
    TRI_CUDA_CALL(cudaEventCreateWithFlags(&block.free_since, cudaEventDisableTiming));
    TRI_CUDA_CALL(cudaEventRecord(block.free_since, stream_));
    return block;
  }

  void keep_upload_block(const UploadBlock& block) {
    const std::lock_guard lock(mutex_);
    int same = 0;
    for (const UploadBlock& b : upload_blocks_) same += b.bytes == block.bytes;
    const bool keep = same < kKeptOfASize && upload_blocks_.size() < 16;
    if (keep && cudaEventRecord(block.free_since, stream_) == cudaSuccess) {
      upload_blocks_.push_back(block);
      return;
    }
    cudaEventDestroy(block.free_since);
    allocator_->free(block.data);
  }

  bool drop_upload_blocks() {
    const std::lock_guard lock(mutex_);
    const bool any = !upload_blocks_.empty();
    for (const UploadBlock& b : upload_blocks_) {
      cudaEventDestroy(b.free_since);
      allocator_->free(b.data);
    }
    upload_blocks_.clear();
    return any;
  }

  const int index_;
  DeviceInfo info_;
  cudaStream_t stream_ = nullptr, copies_ = nullptr;
  std::unique_ptr<CachingAllocator> allocator_;
  Staging staging_, upload_staging_;
  std::mutex mutex_;
  std::vector<UploadBlock> upload_blocks_;
};

}  // namespace

Device& gpu(int index) {
  constexpr int kMost = 64;
  static std::mutex mutex;
  static std::array<Gpu*, kMost> gpus{};  // they outlive every static tensor
  const std::lock_guard lock(mutex);
  if (index < kMost && gpus[static_cast<size_t>(index)] != nullptr)
    return *gpus[static_cast<size_t>(index)];
  const std::string why = index < kMost ? why_not(index) : "there is no such device";
  if (!why.empty())
    fail(Code::kUnavailable, "device 'gpu:" + std::to_string(index) + "' cannot be used: " + why +
                                 "; `trireme doctor` looks at each layer");
  return *(gpus[static_cast<size_t>(index)] = new Gpu(index));
}

std::vector<std::string> built_architectures() {
  std::vector<std::string> list(1);
  for (const char c : std::string_view(TRIREME_CUDA_ARCHITECTURES)) {
    if (c == ',') list.emplace_back();
    else list.back() += c;
  }
  return list;
}

}  // namespace trireme::cuda

namespace trireme {

int gpu_count(std::string* why) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (error == cudaSuccess && count > 0) return count;
  if (why != nullptr) *why = cuda::why_not(0);
  return 0;
}

}  // namespace trireme
