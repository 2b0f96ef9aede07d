// Convolutions and matrix products on AMX tiles: everything but depthwise.
#pragma once

#include <memory>

#include "device/cpu/depthwise_bf16_amx.h"
#include "device/cpu/gemm_bf16_amx.h"

namespace trireme::cpu::bf16 {

class TileConv final : public Conv {
 public:
  static bool serves(const ConvSpec& spec);
  TileConv(const ConvSpec& spec, const Epilogue& epilogue);
  TileConv(const ConvSpec& dw, const Epilogue& dw_epilogue, const ConvSpec& pw,
           const Epilogue& epilogue);
  void run(const ConvArgs& args) const override;
  size_t scratch_bytes() const override { return static_cast<size_t>(task_bytes_ * threads_); }

 private:
  // Where the tiles of A come from.
  enum class Mode : uint8_t {
    kFlat,    // 1x1: the activations themselves, pixel after pixel
    kRows,    // the activations, a piece of an output row at a time; copies at the borders, or of
              // all that has few channels
    kPadded,  // 3x3 on small pictures: a copy of whole pictures with zeros around
    kGather,  // copied
    kFused    // a depthwise convolution's result
  };
  struct Task;
  struct Block;
  static Mode choose_mode(const ConvSpec& spec, const KLayout& k);
  void set_sizes();
  bool split_columns(int64_t threads) const;
  bool take_turn(int64_t tasks) const;
  void run_range(Task& t, int64_t unit0, int64_t unit1, int64_t tile0, int64_t tile1) const;
  void run_chunk(Task& t, int64_t first, int64_t count, int64_t tile0, int64_t tile1) const;
  void prepare(Task& t, int64_t first, int64_t count) const;
  void look_below(Task& t, int64_t first, int64_t count) const;
  int64_t locate_lines(Task& t, int64_t first, int64_t tiles) const;
  void prepare_rows(Task& t, int64_t first, int64_t count) const;
  void store_padded(const Task& t, EpilogueBlock e, int64_t first, int64_t channel) const;
  void run_parts(Task& t, Block b) const;
  int64_t run_block(Task& t, const Block& b) const;
  void look_ahead(const Task& t, const Block& b, int64_t m, TileJob& job) const;
  void look_at_results(const Task& t, const Block& b, int64_t rows) const;
  void locate(const Task& t, int64_t first, int64_t at, int64_t i, Segment& s) const;
  void finish_waiting(Task& t) const;
  void store_rows(const Task& t, EpilogueBlock e, int64_t first, int64_t tap, int64_t column) const;

  ConvSpec spec_;
  Epilogue epilogue_;
  Mode mode_;
  KLayout k_;
  EpilogueFn finish_;
  std::unique_ptr<Depthwise> dw_;
  ConvSpec dw_spec_;
  int64_t threads_ = 1;
  int64_t pixels_ = 0;        // rows of the product
  int64_t columns_ = 0;       // of one group and transposed tap
  int64_t tap_tiles_ = 0;     // tile columns of one tap
  int64_t tiles_ = 0;         // of all transposed taps
  int64_t row_block_ = 0;     // kRows: pixels at a time
  bool large_ = false;        // the weights do not stay in the second-level cache
  bool short_ = false;        // kFlat: chunks of two tiles of pixels, all columns at a time
  int64_t chunk_ = 0;         // pixels whose A is kept in cache, multiple of 16
  int64_t gather_chunk_ = 0;  // the same when A is copied
  int64_t images_ = 0;        // kPadded: pictures at a time
  int64_t fused_ld_ = 0;
  int64_t task_bytes_ = 0;
};

}  // namespace trireme::cpu::bf16
